// matmul.wgsl for large products on GPUs: a 128 x 128 tile of y, its operands passed through workgroup memory 8 elements of k at a time.
// Each of 256 invocations keeps 8 x 8 sums in registers, so that four reads of four neighbours feed 64 multiply-adds, twice as many per
// read as in tile_shared.wgsl. Its columns are two quads 64 apart: neighbouring invocations then read neighbouring quads of a row of b_tile,
// which meet no bank twice, and those of half a wave read the same quads of a_tile.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 128u;
const COLS_PER_GROUP: u32 = 128u;
const ROWS_PER_THREAD: u32 = 8u;
const PARTS: u32 = 2u;

const TILE: u32 = 128u;
const K_STEP: u32 = 8u;
const HALF: u32 = TILE / 2u;

fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    // The first % 16 changes nothing, but shows AMD's compiler that the reads of a_tile are aligned.
    return vec2(thread / 16u % 16u * 8u, thread % 16u * 4u + part * HALF);
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

// Adds the product of one column of the tile of a and one row of the tile of b. Indices are literals: NVIDIA's compiler keeps an array in
// memory if a loop variable indexes it.
fn add_product(sums: ptr<function, Sums>, k: u32, own: vec2<u32>) {
    let r = line_of(k) + own.x;
    let c = line_of(k) + own.y;
    let upper = vec4(a_tile[r], a_tile[r + 1u], a_tile[r + 2u], a_tile[r + 3u]);
    let lower = vec4(a_tile[r + 4u], a_tile[r + 5u], a_tile[r + 6u], a_tile[r + 7u]);
    let left = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    let right = vec4(b_tile[c + HALF], b_tile[c + HALF + 1u], b_tile[c + HALF + 2u], b_tile[c + HALF + 3u]);
    (*sums)[0] += upper.x * left;
    (*sums)[1] += upper.y * left;
    (*sums)[2] += upper.z * left;
    (*sums)[3] += upper.w * left;
    (*sums)[4] += lower.x * left;
    (*sums)[5] += lower.y * left;
    (*sums)[6] += lower.z * left;
    (*sums)[7] += lower.w * left;
    (*sums)[8] += upper.x * right;
    (*sums)[9] += upper.y * right;
    (*sums)[10] += upper.z * right;
    (*sums)[11] += upper.w * right;
    (*sums)[12] += lower.x * right;
    (*sums)[13] += lower.y * right;
    (*sums)[14] += lower.z * right;
    (*sums)[15] += lower.w * right;
}
