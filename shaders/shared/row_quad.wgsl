// How the single-row tiles, tile_row_*.wgsl, read a. RowSums is a vec4<f32> in both. Any invocation may call this.

// Four neighbours of k of one row of a, zeros past the end.
fn a_quad(operand: Operand, row: u32, k: u32, row_sums: ptr<function, RowSums>) -> vec4<f32> {
    if operand.by_row {
        let quad = unpack(a[operand.first + row * operand.stride + k / 4u]);
        return select(vec4(0.0), quad, k + FOUR < vec4(dims.inner));
    }
    let at = block_at(operand, block_begin(operand, row), k);
    let block = by_k_within(operand, mat4x4(unpack(a[at.x]), unpack(a[at.y]), unpack(a[at.z]), unpack(a[at.w])), k);
    *row_sums += block[0] + block[1] + block[2] + block[3];
    let own = row % 4u;
    return vec4(block[0][own], block[1][own], block[2][own], block[3][own]);
}
