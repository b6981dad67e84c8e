// matmul.wgsl by cooperative matrices (features SHADER_F16 and EXPERIMENTAL_COOPERATIVE_MATRIX), for activations stored as f16: a subgroup
// multiplies MAT x MAT by MAT x MAT matrices of f16 in an instruction and sums in f32. Four subgroups compute a tile of y, a quarter each,
// of ROW_MATS by COL_MATS matrices: 4 x 4 of them take 8 loads for 16 products, where 2 x 2 would take 4 loads for 4.
//
// shared/matrices_16.wgsl and matrices_8.wgsl define MAT, SUBGROUP and the types of the matrices. Operands lie in workgroup memory as they
// are stored, by row or by column: a matrix is loaded in either order, and nothing is converted or transposed. Registers hold the quads of
// the next K_STEP elements of k while these are multiplied.

enable f16;
enable wgpu_cooperative_matrix;

const WORKGROUP: u32 = 4u * SUBGROUP;
const ROW_MATS: u32 = 4u; // of a quarter
const COL_MATS: u32 = 4u;
const QUARTER_ROWS: u32 = ROW_MATS * MAT;
const QUARTER_COLS: u32 = COL_MATS * MAT;
const ROWS_PER_GROUP: u32 = 2u * ROW_MATS * MAT;
const COLS_PER_GROUP: u32 = 2u * COL_MATS * MAT;
// The lanes of a subgroup lie side by side along the columns of its quarter, a quad each; those that are left lie below them.
const LANE_COLS: u32 = QUARTER_COLS / 4u;
const ROWS_PER_THREAD: u32 = QUARTER_ROWS * LANE_COLS / SUBGROUP;
const PARTS: u32 = 1u;

const K_MATS: u32 = 2u;
const K_STEP: u32 = K_MATS * MAT;
const K_QUADS: u32 = K_STEP / 4u;
// Quads from one line to the next, padded by 16 bytes against bank conflicts. A line is one outer index by row, one k by column.
const ROW_LINE: u32 = K_QUADS + 2u;
const A_LINE: u32 = ROWS_PER_GROUP / 4u + 2u;
const B_LINE: u32 = COLS_PER_GROUP / 4u + 2u;
const A_FETCHES: u32 = ROWS_PER_GROUP * K_QUADS / WORKGROUP;
const B_FETCHES: u32 = COLS_PER_GROUP * K_QUADS / WORKGROUP;

var<workgroup> a_tile: array<Quad, max(ROWS_PER_GROUP * ROW_LINE, K_STEP * A_LINE)>;
var<workgroup> b_tile: array<Quad, max(COLS_PER_GROUP * ROW_LINE, K_STEP * B_LINE)>;
// MAT rows of each quarter of y, on their way from matrices to invocations.
var<workgroup> slab: array<vec4<f32>, 4u * MAT * LANE_COLS>;

alias RowSums = vec4<f32>; // of the quads that the invocation fetches
alias Products = array<Product, ROW_MATS * COL_MATS>;

struct Fetched {
    a: array<Quad, A_FETCHES>,
    b: array<Quad, B_FETCHES>,
}

// Quad `index` of an operand's tile of `size` outer indices: its first outer index and its first k. Neighbours are neighbours in memory.
fn corner_of(operand: Operand, size: u32, index: u32) -> vec2<u32> {
    if operand.by_row {
        return vec2(index / K_QUADS, index % K_QUADS * 4u);
    }
    return vec2(index % (size / 4u) * 4u, index / (size / 4u));
}

// Where it lies in workgroup memory.
fn place_of(operand: Operand, at: vec2<u32>, line: u32) -> u32 {
    return select(at.y * line + at.x / 4u, at.x * ROW_LINE + at.y / 4u, operand.by_row);
}

// Where it lies in the buffer. Outer indices past the end of the matrix repeat its last one: they are computed, never stored.
fn quad_at(operand: Operand, outer: u32, k: u32) -> u32 {
    let safe_outer = min(outer, operand.outer_size - 1u);
    return operand.first + select(k * operand.stride + safe_outer / 4u, safe_outer * operand.stride + k / 4u, operand.by_row);
}

// Its numbers, or zeros for those past the end of k.
fn within(operand: Operand, quad: Quad, k: u32) -> Quad {
    return select(Quad(), quad, k + select(vec4(0u), FOUR, operand.by_row) < vec4(dims.inner));
}

// Arrays must stay in registers: every index must be a constant once loops are unrolled, which NVIDIA's compiler does not do where a loop
// has a barrier or a branch. So there is none in these loops, and `collected` is calls with literals.
fn fetch(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, k0: u32, row_sums: ptr<function, RowSums>) -> Fetched {
    var fetched: Fetched;
    for (var i = 0u; i < A_FETCHES; i++) {
        let at = corner_of(a_operand, ROWS_PER_GROUP, thread + i * WORKGROUP);
        let k = k0 + at.y;
        fetched.a[i] = a[quad_at(a_operand, corner.x + at.x, min(k, dims.inner - 1u))];
        *row_sums += select(vec4(0.0), unpack(fetched.a[i]), k < dims.inner);
    }
    for (var i = 0u; i < B_FETCHES; i++) {
        let at = corner_of(b_operand, COLS_PER_GROUP, thread + i * WORKGROUP);
        fetched.b[i] = b[quad_at(b_operand, corner.y + at.x, min(k0 + at.y, dims.inner - 1u))];
    }
    return fetched;
}

// Past the end of k, a_tile holds zeros and b_tile any values.
fn stage(fetched: Fetched, thread: u32, a_operand: Operand, b_operand: Operand, k0: u32) {
    for (var i = 0u; i < A_FETCHES; i++) {
        a_tile[place_of(a_operand, corner_of(a_operand, ROWS_PER_GROUP, thread + i * WORKGROUP), A_LINE)] = fetched.a[i];
    }
    for (var i = 0u; i < B_FETCHES; i++) {
        b_tile[place_of(b_operand, corner_of(b_operand, COLS_PER_GROUP, thread + i * WORKGROUP), B_LINE)] = fetched.b[i];
    }
    if k0 + K_STEP > dims.inner {
        for (var i = 0u; i < A_FETCHES; i++) {
            let at = corner_of(a_operand, ROWS_PER_GROUP, thread + i * WORKGROUP);
            let place = place_of(a_operand, at, A_LINE);
            a_tile[place] = within(a_operand, a_tile[place], k0 + at.y);
        }
    }
}

// The first row and column of a subgroup's quarter within the tile.
fn quarter_of(thread: u32) -> vec2<u32> {
    let quarter = thread / SUBGROUP;
    return vec2(quarter / 2u * QUARTER_ROWS, quarter % 2u * QUARTER_COLS);
}

fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    let lane = thread % SUBGROUP;
    return quarter_of(thread) + vec2(lane / LANE_COLS * ROWS_PER_THREAD, lane % LANE_COLS * 4u);
}

// The three pairs of orders in which operands are stored. naga requires that cooperative operations are reached uniformly, and takes no
// argument of a function as uniform: each order needs a text of its own.

fn product_rows_rows(corner: vec2<u32>, thread: u32) -> Sums {
    var products: Products;
    var row_sums: RowSums;
    let quarter = quarter_of(thread);
    var next = fetch(corner, thread, a_rows(), b_rows(), 0u, &row_sums);
    for (var k0 = 0u; k0 < dims.range; k0 += K_STEP) {
        stage(next, thread, a_rows(), b_rows(), k0);
        workgroupBarrier();
        if k0 + K_STEP < dims.range {
            next = fetch(corner, thread, a_rows(), b_rows(), k0 + K_STEP, &row_sums);
        }
        for (var k = 0u; k < K_MATS; k++) {
            var left: array<Left, ROW_MATS>;
            for (var r = 0u; r < ROW_MATS; r++) {
                left[r] = coopLoadT<Left>(&a_tile[(quarter.x + r * MAT) * ROW_LINE + k * MAT / 4u], ROW_LINE);
            }
            for (var c = 0u; c < COL_MATS; c++) {
                let right = coopLoad<Right>(&b_tile[(quarter.y + c * MAT) * ROW_LINE + k * MAT / 4u], ROW_LINE);
                for (var r = 0u; r < ROW_MATS; r++) {
                    products[r * COL_MATS + c] = coopMultiplyAdd(left[r], right, products[r * COL_MATS + c]);
                }
            }
        }
        workgroupBarrier();
    }
    return collected(&products, thread);
}

fn product_rows_cols(corner: vec2<u32>, thread: u32) -> Sums {
    var products: Products;
    var row_sums: RowSums;
    let quarter = quarter_of(thread);
    var next = fetch(corner, thread, a_rows(), b_cols(), 0u, &row_sums);
    for (var k0 = 0u; k0 < dims.range; k0 += K_STEP) {
        stage(next, thread, a_rows(), b_cols(), k0);
        workgroupBarrier();
        if k0 + K_STEP < dims.range {
            next = fetch(corner, thread, a_rows(), b_cols(), k0 + K_STEP, &row_sums);
        }
        for (var k = 0u; k < K_MATS; k++) {
            var left: array<Left, ROW_MATS>;
            for (var r = 0u; r < ROW_MATS; r++) {
                left[r] = coopLoadT<Left>(&a_tile[(quarter.x + r * MAT) * ROW_LINE + k * MAT / 4u], ROW_LINE);
            }
            for (var c = 0u; c < COL_MATS; c++) {
                let right = coopLoadT<Right>(&b_tile[k * MAT * B_LINE + (quarter.y + c * MAT) / 4u], B_LINE);
                for (var r = 0u; r < ROW_MATS; r++) {
                    products[r * COL_MATS + c] = coopMultiplyAdd(left[r], right, products[r * COL_MATS + c]);
                }
            }
        }
        workgroupBarrier();
    }
    return collected(&products, thread);
}

fn product_cols_cols(corner: vec2<u32>, first_k: u32, thread: u32, row_sums: ptr<function, RowSums>) -> Sums {
    var products: Products;
    let quarter = quarter_of(thread);
    var next = fetch(corner, thread, a_cols(), b_cols(), first_k, row_sums);
    for (var k0 = 0u; k0 < dims.range; k0 += K_STEP) {
        stage(next, thread, a_cols(), b_cols(), first_k + k0);
        workgroupBarrier();
        if k0 + K_STEP < dims.range {
            next = fetch(corner, thread, a_cols(), b_cols(), first_k + k0 + K_STEP, row_sums);
        }
        for (var k = 0u; k < K_MATS; k++) {
            var left: array<Left, ROW_MATS>;
            for (var r = 0u; r < ROW_MATS; r++) {
                left[r] = coopLoad<Left>(&a_tile[k * MAT * A_LINE + (quarter.x + r * MAT) / 4u], A_LINE);
            }
            for (var c = 0u; c < COL_MATS; c++) {
                let right = coopLoadT<Right>(&b_tile[k * MAT * B_LINE + (quarter.y + c * MAT) / 4u], B_LINE);
                for (var r = 0u; r < ROW_MATS; r++) {
                    products[r * COL_MATS + c] = coopMultiplyAdd(left[r], right, products[r * COL_MATS + c]);
                }
            }
        }
        workgroupBarrier();
    }
    return collected(&products, thread);
}

// The sums of an invocation's quads of y: no element of a matrix can be read but through memory, MAT rows of each quarter at a time.
fn collected(products: ptr<function, Products>, thread: u32) -> Sums {
    var sums: Sums;
    collect(&sums, products, thread, 0u);
    collect(&sums, products, thread, 1u);
    collect(&sums, products, thread, 2u);
    collect(&sums, products, thread, 3u);
    return sums;
}

fn collect(sums: ptr<function, Sums>, products: ptr<function, Products>, thread: u32, r: u32) {
    let first = thread / SUBGROUP * MAT * LANE_COLS;
    let lane = thread % SUBGROUP;
    for (var c = 0u; c < COL_MATS; c++) {
        coopStoreT((*products)[r * COL_MATS + c], &slab[first + c * MAT / 4u], LANE_COLS);
    }
    workgroupBarrier();
    for (var i = 0u; i < MAT; i++) {
        let row = r * MAT + i;
        if row / ROWS_PER_THREAD == lane / LANE_COLS {
            (*sums)[row % ROWS_PER_THREAD] = slab[first + i * LANE_COLS + lane % LANE_COLS];
        }
    }
    workgroupBarrier();
}

// The matrices leave no registers for the sums, so they are indexed, and compilers keep them in the invocation's private memory.
fn current(sums: ptr<function, Sums>, i: u32) -> vec4<f32> {
    return (*sums)[i];
}

fn advance(sums: ptr<function, Sums>) {}

fn next_part(sums: ptr<function, Sums>) {}

// Every ROWS_PER_GROUP / 4-th invocation has fetched quads of the same rows: their sums are combined in `slab`, which `collected` has
// finished using.
fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    slab[thread] = sums;
    workgroupBarrier();
    var total = vec4(0.0);
    for (var i = thread % (ROWS_PER_GROUP / 4u); i < WORKGROUP; i += ROWS_PER_GROUP / 4u) {
        total += slab[i];
    }
    return total;
}
