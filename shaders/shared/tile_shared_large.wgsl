// matmul.wgsl for large products on GPUs: a 128 x 128 tile of y, its operands passed through workgroup memory 8 elements of k at a time.
// Each of 256 invocations keeps 16 x 4 sums in registers, so that five reads of four neighbours feed 64 multiply-adds. Tiles of 64 x 64
// occupy the device at smaller sizes; these are faster once there are enough of them to occupy it as well.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 128u;
const COLS_PER_GROUP: u32 = 128u;
const ROWS_PER_THREAD: u32 = 16u;

const TILE: u32 = 128u;
const K_STEP: u32 = 8u;

// The invocations of a wave share 16 rows, which they read together, and lie side by side along the columns.
fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(thread / TILE_QUADS % 8u * 16u, thread % TILE_QUADS * 4u);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) -> Sums {
    var sums: Sums;
    let own = thread_corner(thread);
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    let a_step = select(1u, LINE, a_operand.by_row);
    let b_step = select(1u, LINE, b_operand.by_row);
    var a_next = fetch_a(a_share, a_operand, 0u);
    var b_next = fetch_b(b_share, b_operand, 0u);
    for (var k0 = 0u; k0 < dims.inner; k0 += K_STEP) {
        a_tile[a_share.place] = a_next.x;
        a_tile[a_share.place + a_step] = a_next.y;
        a_tile[a_share.place + 2u * a_step] = a_next.z;
        a_tile[a_share.place + 3u * a_step] = a_next.w;
        b_tile[b_share.place] = b_next.x;
        b_tile[b_share.place + b_step] = b_next.y;
        b_tile[b_share.place + 2u * b_step] = b_next.z;
        b_tile[b_share.place + 3u * b_step] = b_next.w;
        *row_sums += a_next;
        workgroupBarrier();
        a_next = fetch_a(a_share, a_operand, k0 + K_STEP);
        b_next = fetch_b(b_share, b_operand, k0 + K_STEP);
        // Four per trip: Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total.
        for (var k = 0u; k < K_STEP; k += 4u) {
            add_product(&sums, k, own);
            add_product(&sums, k + 1u, own);
            add_product(&sums, k + 2u, own);
            add_product(&sums, k + 3u, own);
        }
        workgroupBarrier();
    }
    return sums;
}

// Adds the product of one column of the tile of a and one row of the tile of b.
fn add_product(sums: ptr<function, Sums>, k: u32, own: vec2<u32>) {
    let r = k * LINE + own.x;
    let c = k * LINE + own.y;
    let row = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        (*sums)[i] += a_tile[r + i] * row;
    }
}
