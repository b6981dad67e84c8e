// matmul.wgsl for software adapters without tile_broadcast.wgsl's subgroups: each invocation keeps 8 x 4 sums in registers and loads its
// operands straight from memory, 12 quads for 128 multiply-adds. No workgroup memory, no barrier, no optional feature.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 8u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 8u;
const PARTS: u32 = 1u;

// Of the tile's eight rows, in every invocation.
struct RowSums {
    low: vec4<f32>,
    high: vec4<f32>,
}

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
    let low_begin = block_begin(a_operand, corner.x);
    let high_begin = block_begin(a_operand, corner.x + 4u);
    let b_begin = block_begin(b_operand, corner.y + thread * 4u);
    let end = min(first_k + dims.range, dims.inner);
    for (var k = first_k; k < end; k += 4u) {
        // All loads first: with loads between the sums lavapipe is up to a quarter slower.
        let low_at = block_at(a_operand, low_begin, k);
        let high_at = block_at(a_operand, high_begin, k);
        let b_at = block_at(b_operand, b_begin, k);
        let low_block = mat4x4(unpack(a[low_at.x]), unpack(a[low_at.y]), unpack(a[low_at.z]), unpack(a[low_at.w]));
        let high_block = mat4x4(unpack(a[high_at.x]), unpack(a[high_at.y]), unpack(a[high_at.z]), unpack(a[high_at.w]));
        let b_block = mat4x4(unpack(b[b_at.x]), unpack(b[b_at.y]), unpack(b[b_at.z]), unpack(b[b_at.w]));
        let low = by_k_within(a_operand, low_block, k);
        let high = by_k_within(a_operand, high_block, k);
        let rows = by_k(b_operand, b_block);
        add_product(&sums, low[0], high[0], rows[0]);
        add_product(&sums, low[1], high[1], rows[1]);
        add_product(&sums, low[2], high[2], rows[2]);
        add_product(&sums, low[3], high[3], rows[3]);
        (*row_sums).low += low[0] + low[1] + low[2] + low[3];
        (*row_sums).high += high[0] + high[1] + high[2] + high[3];
    }
    return sums;
}

fn add_product(sums: ptr<function, Sums>, low: vec4<f32>, high: vec4<f32>, row: vec4<f32>) {
    // Unrolled by hand: SwiftShader does not unroll loops, and a computed index keeps the sums in memory, four times slower.
    (*sums)[0] += low.x * row;
    (*sums)[1] += low.y * row;
    (*sums)[2] += low.z * row;
    (*sums)[3] += low.w * row;
    (*sums)[4] += high.x * row;
    (*sums)[5] += high.y * row;
    (*sums)[6] += high.z * row;
    (*sums)[7] += high.w * row;
}

fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    return select(sums.low, sums.high, thread == 1u);
}
