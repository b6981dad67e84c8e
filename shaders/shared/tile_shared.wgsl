// matmul.wgsl for GPUs: a 64 x 64 tile of y, its operands passed through workgroup memory 16 elements of k at a time.
// Each of 256 invocations keeps 4 x 4 sums in registers, so that two reads of four neighbours feed 16 multiply-adds, and fetches
// its quads of the next 16 elements before it multiplies the present ones: small products fill few waves and must hide memory themselves.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 64u;
const COLS_PER_GROUP: u32 = 64u;
const ROWS_PER_THREAD: u32 = 4u;
const PARTS: u32 = 1u;

const TILE: u32 = 64u;
const K_STEP: u32 = 16u;

fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    // The first % 16 changes nothing, but shows AMD's compiler that the reads of a_tile are aligned: 32 of them instead of 48.
    return vec2(thread / 16u % 16u, thread % 16u) * 4u;
}

fn tile_product(
    corner: vec2<u32>,
    first_k: u32,
    thread: u32,
    a_operand: Operand,
    b_operand: Operand,
    row_sums: ptr<function, RowSums>,
) -> Sums {
    var sums: Sums;
    let own = thread_corner(thread, 0u);
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    let a_step = select(1u, TILE, a_operand.by_row);
    let b_step = select(1u, TILE, b_operand.by_row);
    var a_next = fetch_a(a_share, a_operand, first_k);
    var b_next = fetch_b(b_share, b_operand, first_k);
    for (var k0 = 0u; k0 < dims.range; k0 += K_STEP) {
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
        a_next = fetch_a(a_share, a_operand, first_k + k0 + K_STEP);
        b_next = fetch_b(b_share, b_operand, first_k + k0 + K_STEP);
        // Two per trip: Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total, enough for k up to 116,000.
        for (var k = 0u; k < K_STEP; k += 2u) {
            add_product(&sums, k, own);
            add_product(&sums, k + 1u, own);
        }
        workgroupBarrier();
    }
    return sums;
}

// Adds the product of one column of the tile of a and one row of the tile of b.
fn add_product(sums: ptr<function, Sums>, k: u32, own: vec2<u32>) {
    let r = line_of(k) + own.x;
    let c = line_of(k) + own.y;
    let column = vec4(a_tile[r], a_tile[r + 1u], a_tile[r + 2u], a_tile[r + 3u]);
    let row = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    (*sums)[0] += column.x * row;
    (*sums)[1] += column.y * row;
    (*sums)[2] += column.z * row;
    (*sums)[3] += column.w * row;
}
