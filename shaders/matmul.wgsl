// The matrix products of a linear layer, y = x Wᵀ + bias, its two derivatives, and the elementwise operations fused into their outputs.
//
//   forward                  y[r, c]  = Σ_k a[r, k] · b[c, k]              a = x (rows, inner),   b = W (cols, inner)
//   forward_bias             y[r, c]  = Σ_k a[r, k] · b[c, k] + bias[c]
//   forward_activate         y        = the same, bias or not              activated = activation(y)
//   forward_residual         y        = residual + keep · (the same)       keep: inverted dropout as in dropout.wgsl, 1 without
//   backward_input           y[r, c]  = Σ_k a[r, k] · b[k, c]              a = dy (rows, inner),  b = W (inner, cols):  dx = dy W
//   backward_input_add       y[r, c] += Σ_k a[r, k] · b[k, c]
//   backward_input_activate  y        = activation′(before) · Σ …          activated = activation(before), recomputed instead of stored
//   backward_weight          dweight[r, c] += Σ_k a[k, r] · b[k, c]        a = dy (inner, rows),  b = x (inner, cols):  dW += dyᵀ x
//   backward_weight_bias     the same, and dbias[r] += Σ_k a[k, r]
//   backward_weight_range, backward_weight_bias_range      these sums over ranges of k, to `partials`, which partial_sums.wgsl adds up
//
// One workgroup computes one tile of y, ROWS_PER_GROUP x COLS_PER_GROUP, and sums over k (or a range of it) in ascending order, so the
// result depends neither on the grid nor on how a grid is cut into slices. The variant (shared/tile_*.wgsl) computes the tile
// and defines
//
//   WORKGROUP, ROWS_PER_GROUP, COLS_PER_GROUP       invocations of a workgroup, and the tile it computes
//   ROWS_PER_THREAD, PARTS                          an invocation computes PARTS parts of ROWS_PER_THREAD rows by four columns each
//   thread_corner(thread, part)                     (first row, first column) of a part of an invocation's outputs within the tile
//   product_rows_rows(corner, thread)               returns the invocation's sums, of operands stored (outer, inner); corner is the tile's
//   product_rows_cols(corner, thread)               the same where b is stored (inner, outer)
//   product_cols_cols(corner, first_k, thread, row_sums)     the same where both are stored (inner, outer), over dims.range k from first_k on
//   current(sums, i)                                the sums of row i of the current part, which is the first one at first
//   advance(sums), next_part(sums)                  to be called after each row of a part, in ascending order; after each part
//   RowSums, whole_row_sums(thread, sums)           sums of a over k, computed along the way; returns those of the tile's rows 4 · thread to
//                                                   4 · thread + 3. Every invocation must call it; the first (ROWS_PER_GROUP + 3) / 4 use it
//
// Matrices are accessed in quads of four columns, and strides count quads. A matrix whose columns are no multiple of four is stored with
// padded rows; the padding of y receives the last column, and that of a's inner axis is ignored.

struct Dims {
    first_group: u32, // the tile of workgroup 0: a slice of the grid starts here
    rows: u32,
    cols: u32,
    inner: u32,
    range: u32, // k that a workgroup sums, a multiple of 64 if they are not all
    a_stride: u32, // quads from one stored row of a to the next
    a_first: u32,  // quad of a at which the matrix begins
    b_stride: u32,
    b_first: u32,
    y_stride: u32,
    y_first: u32,
    has_bias: u32, //   without one, a placeholder of one quad is bound and not read
    relu: u32, //       1 for ReLU, 0 for GELU
    dropout: u32, //    1 if outputs are dropped
    stream: u32, //     which dropout of the model
    per_sample: u32, // outputs of one sample
    range_stride: u32, // quads from the sums over one range of k to those over the next
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> a: array<Quad>; //                      (rows, inner) or (inner, rows)
@group(0) @binding(3) var<storage, read> b: array<Quad>; //                      (cols, inner) or (inner, cols)
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>; //              (cols)
@group(0) @binding(5) var<storage, read> residual: array<Quad>; //               (rows, cols), laid out as y, like the next two
@group(0) @binding(6) var<storage, read> before: array<Quad>; //                 (rows, cols), y of forward_activate
@group(0) @binding(7) var<storage, read_write> activated: array<Quad>; //        (rows, cols)
@group(0) @binding(8) var<storage, read_write> y: array<Quad>; //                (rows, cols)
@group(0) @binding(9) var<storage, read_write> dweight: array<vec4<f32>>; //     (rows, cols)
@group(0) @binding(10) var<storage, read_write> dbias: array<vec4<f32>>; //      (rows)
@group(0) @binding(11) var<storage, read_write> partials: array<vec4<f32>>; //   (ranges, rows · cols), with biases (ranges, rows · cols + rows)

// An operand seen as (outer, inner), whichever way it is stored; first and stride count quads.
struct Operand {
    first: u32,
    stride: u32,
    outer_size: u32,
    by_row: bool, // stored (outer, inner)
}

alias Sums = array<vec4<f32>, PARTS * ROWS_PER_THREAD>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store(tile, thread, product_rows_rows(tile, thread));
}

@compute @workgroup_size(WORKGROUP)
fn forward_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var sums = product_rows_rows(tile, thread);
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        let add = bias_quad(corner.y);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            y[place(corner, i)] = pack(sum + add);
            advance(&sums);
        }
        next_part(&sums);
    }
}

@compute @workgroup_size(WORKGROUP)
fn forward_activate(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var sums = product_rows_rows(tile, thread);
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        let add = bias_if_any(corner.y);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            // Activates the stored (rounded) value, as the backward will.
            let stored = pack(sum + add);
            y[place(corner, i)] = stored;
            activated[place(corner, i)] = pack(activation(unpack(stored), dims.relu == 1u));
            advance(&sums);
        }
        next_part(&sums);
    }
}

@compute @workgroup_size(WORKGROUP)
fn forward_residual(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var sums = product_rows_rows(tile, thread);
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        let add = bias_if_any(corner.y);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            let at = place(corner, i);
            y[at] = pack(unpack(residual[at]) + keep((corner.x + i) * dims.cols + corner.y) * (sum + add));
            advance(&sums);
        }
        next_part(&sums);
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    store(tile, thread, product_rows_cols(tile, thread));
}

@compute @workgroup_size(WORKGROUP)
fn backward_input_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var sums = product_rows_cols(tile, thread);
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            let at = place(corner, i);
            y[at] = pack(unpack(y[at]) + sum);
            advance(&sums);
        }
        next_part(&sums);
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_input_activate(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var sums = product_rows_cols(tile, thread);
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            let at = place(corner, i);
            let x = unpack(before[at]);
            y[at] = pack(sum * activation_slope(x, dims.relu == 1u));
            activated[at] = pack(activation(x, dims.relu == 1u));
            advance(&sums);
        }
        next_part(&sums);
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var row_sums: RowSums;
    add_to_weight(tile, thread, product_cols_cols(tile, 0u, thread, &row_sums));
}

@compute @workgroup_size(WORKGROUP)
fn backward_weight_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = tile_corner(group.x);
    var row_sums: RowSums;
    add_to_weight(tile, thread, product_cols_cols(tile, 0u, thread, &row_sums));
    let sums = whole_row_sums(thread, row_sums);
    if has_row_sums(tile, thread) {
        dbias[tile.x / 4u + thread] += sums;
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_weight_range(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let range = range_of(group.x);
    let tile = tile_in_range(group.x);
    var row_sums: RowSums;
    store_partial(range, tile, thread, product_cols_cols(tile, range * dims.range, thread, &row_sums));
}

@compute @workgroup_size(WORKGROUP)
fn backward_weight_bias_range(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let range = range_of(group.x);
    let tile = tile_in_range(group.x);
    var row_sums: RowSums;
    store_partial(range, tile, thread, product_cols_cols(tile, range * dims.range, thread, &row_sums));
    let sums = whole_row_sums(thread, row_sums);
    if has_row_sums(tile, thread) {
        partials[range * dims.range_stride + dims.rows * dims.y_stride + tile.x / 4u + thread] = sums;
    }
}

fn a_rows() -> Operand {
    return Operand(dims.a_first, dims.a_stride, dims.rows, true);
}

fn a_cols() -> Operand {
    return Operand(dims.a_first, dims.a_stride, dims.rows, false);
}

fn b_rows() -> Operand {
    return Operand(dims.b_first, dims.b_stride, dims.cols, true);
}

fn b_cols() -> Operand {
    return Operand(dims.b_first, dims.b_stride, dims.cols, false);
}

const PANEL: u32 = 8u;

// The first row and column of a workgroup's tile. Tiles are numbered down panels of PANEL tile rows, column after column:
// workgroups that run at the same time then form a block of y and find most of their operands in the cache.
fn tile_corner(index: u32) -> vec2<u32> {
    return corner_of_tile(dims.first_group + index);
}

fn corner_of_tile(number: u32) -> vec2<u32> {
    let first = number / (PANEL * tile_cols()) * PANEL;
    let height = min(PANEL, tile_rows() - first);
    let within = number - first * tile_cols();
    return vec2(first + within % height, within / height) * vec2(ROWS_PER_GROUP, COLS_PER_GROUP);
}

// The range of k that a workgroup sums, and its tile: all tiles of one range come before those of the next.
fn range_of(index: u32) -> u32 {
    return (dims.first_group + index) / (tile_rows() * tile_cols());
}

fn tile_in_range(index: u32) -> vec2<u32> {
    return corner_of_tile((dims.first_group + index) % (tile_rows() * tile_cols()));
}

fn tile_rows() -> u32 {
    return (dims.rows + ROWS_PER_GROUP - 1u) / ROWS_PER_GROUP;
}

fn tile_cols() -> u32 {
    return (dims.cols + COLS_PER_GROUP - 1u) / COLS_PER_GROUP;
}

const FOUR: vec4<u32> = vec4(0u, 1u, 2u, 3u);

// For tiles that read operands in blocks of four outer indices by four of k, as four quads: one quad of k per outer index if stored by row,
// else one quad of outer indices per k. Returns the quads' places for k = 0. Outer indices past the end of the matrix repeat its last one:
// they are computed, never stored.
fn block_begin(operand: Operand, outer: u32) -> vec4<u32> {
    let last = operand.outer_size - 1u;
    if operand.by_row {
        return operand.first + min(outer + FOUR, vec4(last)) * operand.stride;
    }
    return vec4(operand.first + min(outer, last) / 4u);
}

// The same for another k, a multiple of four.
fn block_at(operand: Operand, begin: vec4<u32>, k: u32) -> vec4<u32> {
    if operand.by_row {
        return begin + k / 4u;
    }
    return begin + min(k + FOUR, vec4(dims.inner - 1u)) * operand.stride;
}

// Rearranges a block so that each quad holds one k, for four outer indices.
fn by_k(operand: Operand, block: mat4x4<f32>) -> mat4x4<f32> {
    if operand.by_row {
        return transpose(block);
    }
    return block;
}

// The same with zeros for each k past the end.
fn by_k_within(operand: Operand, block: mat4x4<f32>, k: u32) -> mat4x4<f32> {
    let m = by_k(operand, block);
    let zero = vec4(0.0);
    return mat4x4(
        m[0],
        select(zero, m[1], k + 1u < dims.inner),
        select(zero, m[2], k + 2u < dims.inner),
        select(zero, m[3], k + 3u < dims.inner),
    );
}

// Each epilogue stores an invocation's rows one at a time, in a loop whose trip count is not a constant, so that no compiler unrolls it:
// unrolled, tile_broadcast.wgsl's 32 rows with a load in each took lavapipe five seconds to compile instead of one.
fn store(tile: vec2<u32>, thread: u32, product: Sums) {
    var sums = product;
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            y[place(corner, i)] = pack(sum);
            advance(&sums);
        }
        next_part(&sums);
    }
}

fn add_to_weight(tile: vec2<u32>, thread: u32, product: Sums) {
    var sums = product;
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            dweight[place(corner, i)] += sum;
            advance(&sums);
        }
        next_part(&sums);
    }
}

fn store_partial(range: u32, tile: vec2<u32>, thread: u32, product: Sums) {
    var sums = product;
    for (var part = 0u; part < PARTS; part++) {
        let corner = tile + thread_corner(thread, part);
        for (var i = 0u; i < rows_of(corner); i++) {
            let sum = current(&sums, i);
            partials[range * dims.range_stride + place(corner, i)] = sum;
            advance(&sums);
        }
        next_part(&sums);
    }
}

// Whether an invocation stores sums of four rows of a: those of the first column of tiles do, and where a tile is one row, those of the
// first of four.
fn has_row_sums(tile: vec2<u32>, thread: u32) -> bool {
    let first = tile.y == 0u && tile.x % 4u == 0u && thread < (ROWS_PER_GROUP + 3u) / 4u;
    return first && tile.x + thread * 4u < dims.rows;
}

// How many rows of a part are inside of y.
fn rows_of(corner: vec2<u32>) -> u32 {
    let below = max(dims.rows, corner.x) - corner.x;
    return select(0u, min(below, ROWS_PER_THREAD), corner.y < dims.cols);
}

// The quad of row corner.x + i at column corner.y.
fn place(corner: vec2<u32>, i: u32) -> u32 {
    return dims.y_first + (corner.x + i) * dims.y_stride + corner.y / 4u;
}

fn bias_quad(column: u32) -> vec4<f32> {
    return bias[min(column, dims.cols - 1u) / 4u];
}

fn bias_if_any(column: u32) -> vec4<f32> {
    if dims.has_bias == 1u {
        return bias_quad(column);
    }
    return vec4(0.0);
}

// Dropout's factors on four neighbours, of which `element` is the first.
fn keep(element: u32) -> vec4<f32> {
    if dims.dropout == 0u {
        return vec4(1.0);
    }
    return keep_factors(advanced(wide_product(step.first_sample, dims.per_sample), element), dims.stream, step);
}
