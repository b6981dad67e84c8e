// matmul.wgsl for single rows on software adapters: 1 x 32 of y by one subgroup of 8 invocations, each with four columns to itself. Every
// weight is loaded once, four loads beside one of the row. No reduction, no workgroup memory, no barrier, no optional feature.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 1u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 1u;
const PARTS: u32 = 1u;

// Of the four rows that share the row's quad of dbias, in every invocation.
alias RowSums = vec4<f32>;

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
    var sum = vec4(0.0);
    let b_begin = block_begin(b_operand, corner.y + thread * 4u);
    let end = min(first_k + dims.range, dims.inner);
    for (var k = first_k; k < end; k += 4u) {
        let b_at = block_at(b_operand, b_begin, k);
        let b_block = mat4x4(unpack(b[b_at.x]), unpack(b[b_at.y]), unpack(b[b_at.z]), unpack(b[b_at.w]));
        let row = a_quad(a_operand, corner.x, k, row_sums);
        let columns = by_k(b_operand, b_block);
        sum += row.x * columns[0] + row.y * columns[1] + row.z * columns[2] + row.w * columns[3];
    }
    return Sums(sum);
}

fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    return sums;
}
