// matmul.wgsl by cooperative matrices (features SHADER_F16 and EXPERIMENTAL_COOPERATIVE_MATRIX): a 32 x 64 tile of y by one subgroup, which
// multiplies 16 x 16 by 16 x 16 in an instruction. Operands are rounded to f16, which ends at 65,504 and loses bits below 6·10⁻⁵; sums are
// f32. Never a default, so it must be requested by name: it rounds operands, and on an H100, where the tests pass, tile_shared.wgsl is
// faster than this variant.

enable f16;
enable wgpu_cooperative_matrix;

const WORKGROUP: u32 = 32u; // one subgroup, on adapters whose subgroups have 32 invocations or, half idle, 64
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 64u;
const ROWS_PER_THREAD: u32 = 16u;

const K_STEP: u32 = 32u;
const STRETCH: u32 = 1024u;
const LINE: u32 = K_STEP + 8u; // from one outer index to the next, padded against bank conflicts

var<workgroup> a_tile: array<f16, ROWS_PER_GROUP * LINE>;
var<workgroup> b_tile: array<f16, COLS_PER_GROUP * LINE>;
var<workgroup> results: array<f32, ROWS_PER_GROUP * COLS_PER_GROUP>;

alias RowSums = vec4<f32>; // of the quads that the invocation fetches

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Product = coop_mat16x16<f32, C>;

// Quad `index` of an operand's tile of `size` outer indices: its first outer index and its first k, the one or the other a multiple of 4.
fn corner_of(operand: Operand, size: u32, index: u32) -> vec2<u32> {
    if operand.by_row {
        return vec2(index / (K_STEP / 4u), index % (K_STEP / 4u) * 4u);
    }
    return vec2(index % (size / 4u) * 4u, index / (size / 4u));
}

// Where it lies in memory. Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
fn quad_at(operand: Operand, outer: u32, k: u32) -> u32 {
    let safe_outer = min(outer, operand.outer_size - 1u);
    let safe_k = min(k, dims.inner - 1u);
    if operand.by_row {
        return operand.first + safe_outer * operand.stride + safe_k / 4u;
    }
    return operand.first + safe_k * operand.stride + safe_outer / 4u;
}

// Fetches the tiles of 32 elements of k; past the end of k there are zeros.
fn fetch(corner: vec2<u32>, thread: u32, k0: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) {
    for (var i = thread; i < ROWS_PER_GROUP * K_STEP / 4u; i += WORKGROUP) {
        let at = corner_of(a_operand, ROWS_PER_GROUP, i);
        let k = k0 + at.y;
        let inside = k + select(vec4(0u), FOUR, a_operand.by_row) < vec4(dims.inner);
        let quad = select(vec4(0.0), unpack(a[quad_at(a_operand, corner.x + at.x, k)]), inside);
        *row_sums += quad;
        for (var j = 0u; j < 4u; j++) {
            a_tile[at.x * LINE + at.y + j * select(LINE, 1u, a_operand.by_row)] = f16(quad[j]);
        }
    }
    for (var i = thread; i < COLS_PER_GROUP * K_STEP / 4u; i += WORKGROUP) {
        let at = corner_of(b_operand, COLS_PER_GROUP, i);
        let k = k0 + at.y;
        let inside = k + select(vec4(0u), FOUR, b_operand.by_row) < vec4(dims.inner);
        let quad = select(vec4(0.0), unpack(b[quad_at(b_operand, corner.y + at.x, k)]), inside);
        for (var j = 0u; j < 4u; j++) {
            b_tile[at.x * LINE + at.y + j * select(LINE, 1u, b_operand.by_row)] = f16(quad[j]);
        }
    }
}

fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(thread / 16u * 16u, thread % 16u * 4u);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) -> Sums {
    var t00 = Product();
    var t01 = Product();
    var t02 = Product();
    var t03 = Product();
    var t10 = Product();
    var t11 = Product();
    var t12 = Product();
    var t13 = Product();
    // An NVIDIA card's sums lose their low bits by truncation, always towards zero: ranges of k are summed separately, and their sums are
    // rounded as any f32 when they are added.
    for (var start = 0u; start < dims.inner; start += STRETCH) {
        let end = min(start + STRETCH, dims.inner);
        var c00 = Product();
        var c01 = Product();
        var c02 = Product();
        var c03 = Product();
        var c10 = Product();
        var c11 = Product();
        var c12 = Product();
        var c13 = Product();
        for (var k0 = start; k0 < end; k0 += K_STEP) {
            fetch(corner, thread, k0, a_operand, b_operand, row_sums);
            workgroupBarrier();
            for (var k = 0u; k < K_STEP; k += 16u) {
                let low = coopLoadT<Left>(&a_tile[k], LINE);
                let high = coopLoadT<Left>(&a_tile[16u * LINE + k], LINE);
                let b0 = coopLoad<Right>(&b_tile[k], LINE);
                let b1 = coopLoad<Right>(&b_tile[16u * LINE + k], LINE);
                let b2 = coopLoad<Right>(&b_tile[32u * LINE + k], LINE);
                let b3 = coopLoad<Right>(&b_tile[48u * LINE + k], LINE);
                c00 = coopMultiplyAdd(low, b0, c00);
                c01 = coopMultiplyAdd(low, b1, c01);
                c02 = coopMultiplyAdd(low, b2, c02);
                c03 = coopMultiplyAdd(low, b3, c03);
                c10 = coopMultiplyAdd(high, b0, c10);
                c11 = coopMultiplyAdd(high, b1, c11);
                c12 = coopMultiplyAdd(high, b2, c12);
                c13 = coopMultiplyAdd(high, b3, c13);
            }
            workgroupBarrier();
        }
        t00 = t00 + c00;
        t01 = t01 + c01;
        t02 = t02 + c02;
        t03 = t03 + c03;
        t10 = t10 + c10;
        t11 = t11 + c11;
        t12 = t12 + c12;
        t13 = t13 + c13;
    }
    coopStoreT(t00, &results[0], COLS_PER_GROUP);
    coopStoreT(t01, &results[16], COLS_PER_GROUP);
    coopStoreT(t02, &results[32], COLS_PER_GROUP);
    coopStoreT(t03, &results[48], COLS_PER_GROUP);
    coopStoreT(t10, &results[16u * COLS_PER_GROUP], COLS_PER_GROUP);
    coopStoreT(t11, &results[16u * COLS_PER_GROUP + 16u], COLS_PER_GROUP);
    coopStoreT(t12, &results[16u * COLS_PER_GROUP + 32u], COLS_PER_GROUP);
    coopStoreT(t13, &results[16u * COLS_PER_GROUP + 48u], COLS_PER_GROUP);
    workgroupBarrier();
    var sums: Sums;
    let own = thread_corner(thread);
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        let at = (own.x + i) * COLS_PER_GROUP + own.y;
        sums[i] = vec4(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
    }
    workgroupBarrier();
    return sums;
}

// Every fourth of the 32 invocations has fetched quads of the same rows; their sums are combined in `results`, which tile_product has
// finished using. Every invocation must call this. The operand must be stored by column, as in a weight's gradient.
fn store_row_sums(corner: vec2<u32>, thread: u32, sums: RowSums) {
    for (var i = 0u; i < 4u; i++) {
        results[thread * 4u + i] = sums[i];
    }
    workgroupBarrier();
    let first = corner.x + thread * 4u;
    if corner.y > 0u || thread >= ROWS_PER_GROUP / 4u || first >= dims.rows {
        return;
    }
    var total = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let at = i * ROWS_PER_GROUP + thread * 4u;
        total += vec4(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
    }
    dbias[first / 4u] += total;
}
