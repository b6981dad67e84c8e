// What matmul.wgsl asks of a tile that keeps its sums in registers, and whose code does not depend on the order of its operands.

fn product_rows_rows(corner: vec2<u32>, thread: u32) -> Sums {
    var row_sums: RowSums;
    return tile_product(corner, 0u, thread, a_rows(), b_rows(), &row_sums);
}

fn product_rows_cols(corner: vec2<u32>, thread: u32) -> Sums {
    var row_sums: RowSums;
    return tile_product(corner, 0u, thread, a_rows(), b_cols(), &row_sums);
}

fn product_cols_cols(corner: vec2<u32>, first_k: u32, thread: u32, row_sums: ptr<function, RowSums>) -> Sums {
    return tile_product(corner, first_k, thread, a_cols(), b_cols(), row_sums);
}

// The next row is always sums[0], and the rest moves up behind it: an index into registers is what compilers handle badly.
fn current(sums: ptr<function, Sums>, i: u32) -> vec4<f32> {
    return (*sums)[0];
}

fn advance(sums: ptr<function, Sums>) {
    for (var i = 1u; i < ROWS_PER_THREAD; i++) {
        (*sums)[i - 1u] = (*sums)[i];
    }
}

// The same with the rows of the next part.
fn next_part(sums: ptr<function, Sums>) {
    for (var i = ROWS_PER_THREAD; i < PARTS * ROWS_PER_THREAD; i++) {
        (*sums)[i - ROWS_PER_THREAD] = (*sums)[i];
    }
}
