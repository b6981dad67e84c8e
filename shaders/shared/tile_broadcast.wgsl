// matmul.wgsl for software adapters: a 32 x 32 tile of y by one subgroup of 8 invocations, which must be the adapter's only subgroup
// size (optional feature SUBGROUP). No workgroup memory, no barrier.
//
// Such adapters turn a load into 8 scalar loads, each with its own checks, so multiply-adds per load decide. Here 8 quads feed 4096
// multiply-adds: for four k an invocation loads 4 neighbouring columns of b, and 4 rows of a that it hands to the other seven.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 32u;

alias RowSums = vec4<f32>; // of the rows that the invocation loads

fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(0u, thread * 4u);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) -> Sums {
    var sums: Sums;
    let a_begin = block_begin(a_operand, corner.x + thread * 4u);
    let b_begin = block_begin(b_operand, corner.y + thread * 4u);
    for (var k = 0u; k < dims.inner; k += 4u) {
        // All loads first: with loads between the sums lavapipe is a quarter slower.
        let a_at = block_at(a_operand, a_begin, k);
        let b_at = block_at(b_operand, b_begin, k);
        let a_block = mat4x4(unpack(a[a_at.x]), unpack(a[a_at.y]), unpack(a[a_at.z]), unpack(a[a_at.w]));
        let b_block = mat4x4(unpack(b[b_at.x]), unpack(b[b_at.y]), unpack(b[b_at.z]), unpack(b[b_at.w]));
        let columns = by_k_within(a_operand, a_block, k);
        let rows = by_k(b_operand, b_block);
        add_product(&sums, columns[0], rows[0]);
        add_product(&sums, columns[1], rows[1]);
        add_product(&sums, columns[2], rows[2]);
        add_product(&sums, columns[3], rows[3]);
        *row_sums += columns[0] + columns[1] + columns[2] + columns[3];
    }
    return sums;
}

// Adds the outer product of 32 elements of a and 32 of b, of which each invocation holds four neighbours.
fn add_product(sums: ptr<function, Sums>, column: vec4<f32>, row: vec4<f32>) {
    let c0 = subgroupBroadcast(column, 0u);
    (*sums)[0] += c0.x * row;
    (*sums)[1] += c0.y * row;
    (*sums)[2] += c0.z * row;
    (*sums)[3] += c0.w * row;
    let c1 = subgroupBroadcast(column, 1u);
    (*sums)[4] += c1.x * row;
    (*sums)[5] += c1.y * row;
    (*sums)[6] += c1.z * row;
    (*sums)[7] += c1.w * row;
    let c2 = subgroupBroadcast(column, 2u);
    (*sums)[8] += c2.x * row;
    (*sums)[9] += c2.y * row;
    (*sums)[10] += c2.z * row;
    (*sums)[11] += c2.w * row;
    let c3 = subgroupBroadcast(column, 3u);
    (*sums)[12] += c3.x * row;
    (*sums)[13] += c3.y * row;
    (*sums)[14] += c3.z * row;
    (*sums)[15] += c3.w * row;
    let c4 = subgroupBroadcast(column, 4u);
    (*sums)[16] += c4.x * row;
    (*sums)[17] += c4.y * row;
    (*sums)[18] += c4.z * row;
    (*sums)[19] += c4.w * row;
    let c5 = subgroupBroadcast(column, 5u);
    (*sums)[20] += c5.x * row;
    (*sums)[21] += c5.y * row;
    (*sums)[22] += c5.z * row;
    (*sums)[23] += c5.w * row;
    let c6 = subgroupBroadcast(column, 6u);
    (*sums)[24] += c6.x * row;
    (*sums)[25] += c6.y * row;
    (*sums)[26] += c6.z * row;
    (*sums)[27] += c6.w * row;
    let c7 = subgroupBroadcast(column, 7u);
    (*sums)[28] += c7.x * row;
    (*sums)[29] += c7.y * row;
    (*sums)[30] += c7.z * row;
    (*sums)[31] += c7.w * row;
}

fn store_row_sums(corner: vec2<u32>, thread: u32, sums: RowSums) {
    let first = corner.x + thread * 4u;
    if corner.y == 0u && first < dims.rows {
        dbias[first / 4u] += sums;
    }
}
