// matmul.wgsl for software adapters: a 32 x 32 tile of y by one subgroup of 8 invocations, which must be the adapter's only subgroup
// size (optional feature SUBGROUP). No workgroup memory, no barrier.
//
// Such adapters turn a load into 8 scalar loads, each with its own checks, so multiply-adds per load decide. Here 8 quads feed 4096
// multiply-adds: for four k an invocation loads 4 neighbouring columns of b, and 4 rows of a that it hands to the other seven.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 32u;
const PARTS: u32 = 1u;

alias RowSums = vec4<f32>; // of the rows that the invocation loads

fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    return vec2(0u, thread * 4u);
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
    let a_begin = block_begin(a_operand, corner.x + thread * 4u);
    let b_begin = block_begin(b_operand, corner.y + thread * 4u);
    let end = min(first_k + dims.range, dims.inner);
    for (var k = first_k; k < end; k += 4u) {
        // All loads first: with loads between the sums lavapipe is a quarter slower.
        let a_at = block_at(a_operand, a_begin, k);
        let b_at = block_at(b_operand, b_begin, k);
        let a_block = mat4x4(unpack(a[a_at.x]), unpack(a[a_at.y]), unpack(a[a_at.z]), unpack(a[a_at.w]));
        let b_block = mat4x4(unpack(b[b_at.x]), unpack(b[b_at.y]), unpack(b[b_at.z]), unpack(b[b_at.w]));
        let columns = by_k_within(a_operand, a_block, k);
        let rows = by_k(b_operand, b_block);
        add_product(&sums, columns, rows);
        *row_sums += columns[0] + columns[1] + columns[2] + columns[3];
    }
    return sums;
}

// Adds the product of 32 rows of a and 32 columns of b, of which each invocation holds four neighbours, over four k. A sum takes all four
// at once: the tile's sums are more than such an adapter has registers, and each visit costs a load and a store.
fn add_product(sums: ptr<function, Sums>, columns: mat4x4<f32>, rows: mat4x4<f32>) {
    let c00 = subgroupBroadcast(columns[0], 0u);
    let c01 = subgroupBroadcast(columns[1], 0u);
    let c02 = subgroupBroadcast(columns[2], 0u);
    let c03 = subgroupBroadcast(columns[3], 0u);
    (*sums)[0] = (*sums)[0] + c00.x * rows[0] + c01.x * rows[1] + c02.x * rows[2] + c03.x * rows[3];
    (*sums)[1] = (*sums)[1] + c00.y * rows[0] + c01.y * rows[1] + c02.y * rows[2] + c03.y * rows[3];
    (*sums)[2] = (*sums)[2] + c00.z * rows[0] + c01.z * rows[1] + c02.z * rows[2] + c03.z * rows[3];
    (*sums)[3] = (*sums)[3] + c00.w * rows[0] + c01.w * rows[1] + c02.w * rows[2] + c03.w * rows[3];
    let c10 = subgroupBroadcast(columns[0], 1u);
    let c11 = subgroupBroadcast(columns[1], 1u);
    let c12 = subgroupBroadcast(columns[2], 1u);
    let c13 = subgroupBroadcast(columns[3], 1u);
    (*sums)[4] = (*sums)[4] + c10.x * rows[0] + c11.x * rows[1] + c12.x * rows[2] + c13.x * rows[3];
    (*sums)[5] = (*sums)[5] + c10.y * rows[0] + c11.y * rows[1] + c12.y * rows[2] + c13.y * rows[3];
    (*sums)[6] = (*sums)[6] + c10.z * rows[0] + c11.z * rows[1] + c12.z * rows[2] + c13.z * rows[3];
    (*sums)[7] = (*sums)[7] + c10.w * rows[0] + c11.w * rows[1] + c12.w * rows[2] + c13.w * rows[3];
    let c20 = subgroupBroadcast(columns[0], 2u);
    let c21 = subgroupBroadcast(columns[1], 2u);
    let c22 = subgroupBroadcast(columns[2], 2u);
    let c23 = subgroupBroadcast(columns[3], 2u);
    (*sums)[8] = (*sums)[8] + c20.x * rows[0] + c21.x * rows[1] + c22.x * rows[2] + c23.x * rows[3];
    (*sums)[9] = (*sums)[9] + c20.y * rows[0] + c21.y * rows[1] + c22.y * rows[2] + c23.y * rows[3];
    (*sums)[10] = (*sums)[10] + c20.z * rows[0] + c21.z * rows[1] + c22.z * rows[2] + c23.z * rows[3];
    (*sums)[11] = (*sums)[11] + c20.w * rows[0] + c21.w * rows[1] + c22.w * rows[2] + c23.w * rows[3];
    let c30 = subgroupBroadcast(columns[0], 3u);
    let c31 = subgroupBroadcast(columns[1], 3u);
    let c32 = subgroupBroadcast(columns[2], 3u);
    let c33 = subgroupBroadcast(columns[3], 3u);
    (*sums)[12] = (*sums)[12] + c30.x * rows[0] + c31.x * rows[1] + c32.x * rows[2] + c33.x * rows[3];
    (*sums)[13] = (*sums)[13] + c30.y * rows[0] + c31.y * rows[1] + c32.y * rows[2] + c33.y * rows[3];
    (*sums)[14] = (*sums)[14] + c30.z * rows[0] + c31.z * rows[1] + c32.z * rows[2] + c33.z * rows[3];
    (*sums)[15] = (*sums)[15] + c30.w * rows[0] + c31.w * rows[1] + c32.w * rows[2] + c33.w * rows[3];
    let c40 = subgroupBroadcast(columns[0], 4u);
    let c41 = subgroupBroadcast(columns[1], 4u);
    let c42 = subgroupBroadcast(columns[2], 4u);
    let c43 = subgroupBroadcast(columns[3], 4u);
    (*sums)[16] = (*sums)[16] + c40.x * rows[0] + c41.x * rows[1] + c42.x * rows[2] + c43.x * rows[3];
    (*sums)[17] = (*sums)[17] + c40.y * rows[0] + c41.y * rows[1] + c42.y * rows[2] + c43.y * rows[3];
    (*sums)[18] = (*sums)[18] + c40.z * rows[0] + c41.z * rows[1] + c42.z * rows[2] + c43.z * rows[3];
    (*sums)[19] = (*sums)[19] + c40.w * rows[0] + c41.w * rows[1] + c42.w * rows[2] + c43.w * rows[3];
    let c50 = subgroupBroadcast(columns[0], 5u);
    let c51 = subgroupBroadcast(columns[1], 5u);
    let c52 = subgroupBroadcast(columns[2], 5u);
    let c53 = subgroupBroadcast(columns[3], 5u);
    (*sums)[20] = (*sums)[20] + c50.x * rows[0] + c51.x * rows[1] + c52.x * rows[2] + c53.x * rows[3];
    (*sums)[21] = (*sums)[21] + c50.y * rows[0] + c51.y * rows[1] + c52.y * rows[2] + c53.y * rows[3];
    (*sums)[22] = (*sums)[22] + c50.z * rows[0] + c51.z * rows[1] + c52.z * rows[2] + c53.z * rows[3];
    (*sums)[23] = (*sums)[23] + c50.w * rows[0] + c51.w * rows[1] + c52.w * rows[2] + c53.w * rows[3];
    let c60 = subgroupBroadcast(columns[0], 6u);
    let c61 = subgroupBroadcast(columns[1], 6u);
    let c62 = subgroupBroadcast(columns[2], 6u);
    let c63 = subgroupBroadcast(columns[3], 6u);
    (*sums)[24] = (*sums)[24] + c60.x * rows[0] + c61.x * rows[1] + c62.x * rows[2] + c63.x * rows[3];
    (*sums)[25] = (*sums)[25] + c60.y * rows[0] + c61.y * rows[1] + c62.y * rows[2] + c63.y * rows[3];
    (*sums)[26] = (*sums)[26] + c60.z * rows[0] + c61.z * rows[1] + c62.z * rows[2] + c63.z * rows[3];
    (*sums)[27] = (*sums)[27] + c60.w * rows[0] + c61.w * rows[1] + c62.w * rows[2] + c63.w * rows[3];
    let c70 = subgroupBroadcast(columns[0], 7u);
    let c71 = subgroupBroadcast(columns[1], 7u);
    let c72 = subgroupBroadcast(columns[2], 7u);
    let c73 = subgroupBroadcast(columns[3], 7u);
    (*sums)[28] = (*sums)[28] + c70.x * rows[0] + c71.x * rows[1] + c72.x * rows[2] + c73.x * rows[3];
    (*sums)[29] = (*sums)[29] + c70.y * rows[0] + c71.y * rows[1] + c72.y * rows[2] + c73.y * rows[3];
    (*sums)[30] = (*sums)[30] + c70.z * rows[0] + c71.z * rows[1] + c72.z * rows[2] + c73.z * rows[3];
    (*sums)[31] = (*sums)[31] + c70.w * rows[0] + c71.w * rows[1] + c72.w * rows[2] + c73.w * rows[3];
}

fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    return sums;
}
