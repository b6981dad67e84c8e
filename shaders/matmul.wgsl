// The matrix products of a linear layer: y = x Wᵀ + bias forward, and its two derivatives.
//
//   forward             y[r, c]  = Σ_k a[r, k] · b[c, k]              a = x (rows, inner),   b = W (cols, inner)
//   forward_bias        y[r, c]  = Σ_k a[r, k] · b[c, k] + bias[c]
//   backward_input      y[r, c]  = Σ_k a[r, k] · b[k, c]              a = dy (rows, inner),  b = W (inner, cols):  dx = dy W
//   backward_input_add  y[r, c] += Σ_k a[r, k] · b[k, c]
//   backward_weight     y[r, c] += Σ_k a[k, r] · b[k, c]              a = dy (inner, rows),  b = x (inner, cols):  dW += dyᵀ x
//
// One workgroup computes one tile of y, ROWS_PER_GROUP x COLS_PER_GROUP, and sums over k in ascending order, so the result
// depends neither on the grid nor on how a grid is cut into slices. How a tile is computed is the variant's business
// (shared/tile_*.wgsl): it defines
//
//   WORKGROUP, ROWS_PER_GROUP, COLS_PER_GROUP    invocations of a workgroup, and the tile it computes
//   ROWS_PER_THREAD, COL_STEP                    an invocation computes ROWS_PER_THREAD rows, and columns c + 0..3 · COL_STEP
//   thread_corner(thread)                        (first row, first column) of an invocation's outputs within the tile
//   tile_product(corner, thread, a, b)           the invocation's sums; corner is that of the tile

struct Dims {
    first_group: u32, // the tile of workgroup 0: a slice of the grid starts here
    rows: u32,
    cols: u32,
    inner: u32,
    a_stride: u32, // elements from one stored row of a to the next
    a_first: u32,  // element of a at which the matrix begins
    b_stride: u32,
    b_first: u32,
    y_stride: u32,
    y_first: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>; //       (rows, inner) or (inner, rows)
@group(0) @binding(2) var<storage, read> b: array<f32>; //       (cols, inner) or (inner, cols)
@group(0) @binding(3) var<storage, read> bias: array<f32>; //    (cols)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // (rows, cols)

// An operand seen as (outer, inner), whichever way it is stored: element (o, k) lies at first + o · outer + k · inner.
struct Operand {
    first: u32,
    outer_size: u32,
    outer: u32,
    inner: u32,
    by_row: bool, // stored (outer, inner): inner is 1
}

alias Sums = array<vec4<f32>, ROWS_PER_THREAD>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store(tile + thread_corner(thread), tile_product(tile, thread, a_rows(), b_rows()));
}

@compute @workgroup_size(WORKGROUP)
fn forward_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store_with_bias(tile + thread_corner(thread), tile_product(tile, thread, a_rows(), b_rows()));
}

@compute @workgroup_size(WORKGROUP)
fn backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store(tile + thread_corner(thread), tile_product(tile, thread, a_rows(), b_cols()));
}

@compute @workgroup_size(WORKGROUP)
fn backward_input_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store_added(tile + thread_corner(thread), tile_product(tile, thread, a_rows(), b_cols()));
}

@compute @workgroup_size(WORKGROUP)
fn backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store_added(tile + thread_corner(thread), tile_product(tile, thread, a_cols(), b_cols()));
}

fn a_rows() -> Operand {
    return Operand(dims.a_first, dims.rows, dims.a_stride, 1u, true);
}

fn a_cols() -> Operand {
    return Operand(dims.a_first, dims.rows, 1u, dims.a_stride, false);
}

fn b_rows() -> Operand {
    return Operand(dims.b_first, dims.cols, dims.b_stride, 1u, true);
}

fn b_cols() -> Operand {
    return Operand(dims.b_first, dims.cols, 1u, dims.b_stride, false);
}

const PANEL: u32 = 8u;

// The first row and column of a workgroup's tile. Tiles are numbered down panels of PANEL tile rows, column after column:
// workgroups that run at the same time then form a block of y and find most of their operands in the cache.
fn tile_corner(index: u32) -> vec2<u32> {
    let group = dims.first_group + index;
    let tile_rows = (dims.rows + ROWS_PER_GROUP - 1u) / ROWS_PER_GROUP;
    let tile_cols = (dims.cols + COLS_PER_GROUP - 1u) / COLS_PER_GROUP;
    let first = group / (PANEL * tile_cols) * PANEL;
    let height = min(PANEL, tile_rows - first);
    let within = group - first * tile_cols;
    return vec2(first + within % height, within / height) * vec2(ROWS_PER_GROUP, COLS_PER_GROUP);
}

// Each of these stores an invocation's rows one at a time, always from sums[0], then moves the rest up: a loop, which compilers
// may unroll, without an index into registers, which they handle badly.
fn store(corner: vec2<u32>, product: Sums) {
    var sums = product;
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        store_row(corner.x + i, corner.y, sums[0]);
        sums = moved_up(sums);
    }
}

fn store_with_bias(corner: vec2<u32>, product: Sums) {
    var sums = product;
    let c = min(columns(corner.y), vec4(dims.cols - 1u));
    let add = vec4(bias[c.x], bias[c.y], bias[c.z], bias[c.w]);
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        store_row(corner.x + i, corner.y, sums[0] + add);
        sums = moved_up(sums);
    }
}

fn store_added(corner: vec2<u32>, product: Sums) {
    var sums = product;
    let c = min(columns(corner.y), vec4(dims.cols - 1u)) + dims.y_first;
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        let at = c + min(corner.x + i, dims.rows - 1u) * dims.y_stride;
        store_row(corner.x + i, corner.y, sums[0] + vec4(y[at.x], y[at.y], y[at.z], y[at.w]));
        sums = moved_up(sums);
    }
}

fn columns(first: u32) -> vec4<u32> {
    return first + vec4(0u, 1u, 2u, 3u) * COL_STEP;
}

fn moved_up(sums: Sums) -> Sums {
    var result = sums;
    for (var i = 1u; i < ROWS_PER_THREAD; i++) {
        result[i - 1u] = result[i];
    }
    return result;
}

fn store_row(r: u32, first_column: u32, values: vec4<f32>) {
    let c = columns(first_column);
    let at = dims.y_first + r * dims.y_stride + c;
    let inside = vec4(r < dims.rows) & (c < vec4(dims.cols));
    if inside.x { y[at.x] = values.x; }
    if inside.y { y[at.y] = values.y; }
    if inside.z { y[at.z] = values.z; }
    if inside.w { y[at.w] = values.w; }
}
