// Layer normalization over the last axis (Ba, Kiros, Hinton 2016); LANES invocations share a row (shared/lanes_*.wgsl).
//
//   mean = Σ x / C          rstd = 1 / √(Σ (x − mean)² / C + ε)
//   x̂ = (x − mean) · rstd   y = x̂ · weight + bias
//
//   g = dy · weight         dx = rstd · (g − Σ g / C − x̂ · Σ (g · x̂) / C)
//   dweight = Σ_rows dy · x̂       dbias = Σ_rows dy
//
//   forward            y, mean, rstd
//   backward           dx  = …
//   backward_add       dx += …           the residual stream's gradient passes by the norm
//   backward_weight    partials of dweight over chunks of CHUNK rows, for column_sum.finish; dbias is a column sum of dy

struct Dims {
    first_group: u32,
    rows: u32,
    cols: u32,
    has_bias: u32, // without one, `bias` is bound to weight and not read
    eps: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>; //               (rows, C)
@group(0) @binding(2) var<storage, read> weight: array<f32>; //          (C)
@group(0) @binding(3) var<storage, read> bias: array<f32>; //            (C)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; //         (rows, C)
@group(0) @binding(5) var<storage, read_write> moments: array<f32>; //   (rows, 2): mean, rstd
@group(0) @binding(6) var<storage, read> saved: array<f32>; //           (rows, 2), the moments
@group(0) @binding(7) var<storage, read> dy: array<f32>; //              (rows, C)
@group(0) @binding(8) var<storage, read_write> dx: array<f32>; //        (rows, C)
@group(0) @binding(9) var<storage, read_write> partials: array<f32>; //  (chunks, C)

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = dims.first_group + workgroup.x;
    let at = min(row, dims.rows - 1u) * dims.cols;
    var sum = 0.0;
    for (var c = lane; c < dims.cols; c += LANES) {
        sum += x[at + c];
    }
    let mean = sum_lanes(sum, lane) / f32(dims.cols);
    var squares = 0.0;
    for (var c = lane; c < dims.cols; c += LANES) {
        let d = x[at + c] - mean;
        squares += d * d;
    }
    let rstd = 1.0 / sqrt(sum_lanes(squares, lane) / f32(dims.cols) + dims.eps);
    if row >= dims.rows {
        return;
    }
    for (var c = lane; c < dims.cols; c += LANES) {
        y[at + c] = (x[at + c] - mean) * rstd * weight[c] + select(0.0, bias[c], dims.has_bias == 1u);
    }
    if lane == 0u {
        moments[row * 2u] = mean;
        moments[row * 2u + 1u] = rstd;
    }
}

// The row of an invocation's dx, and the two means that its elements need.
struct Row {
    row: u32,
    lane: u32,
    at: u32,
    mean: f32,
    rstd: f32,
    mean_g: f32,
    mean_g_x: f32,
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = row_means(workgroup.x, lane);
    if row.row < dims.rows {
        for (var c = row.lane; c < dims.cols; c += LANES) {
            dx[row.at + c] = gradient(row, c);
        }
    }
}

@compute @workgroup_size(LANES)
fn backward_add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = row_means(workgroup.x, lane);
    if row.row < dims.rows {
        for (var c = row.lane; c < dims.cols; c += LANES) {
            dx[row.at + c] += gradient(row, c);
        }
    }
}

fn row_means(group: u32, lane: u32) -> Row {
    var row: Row;
    row.row = dims.first_group + group;
    row.lane = lane;
    let r = min(row.row, dims.rows - 1u);
    row.at = r * dims.cols;
    row.mean = saved[r * 2u];
    row.rstd = saved[r * 2u + 1u];
    var sum_g = 0.0;
    var sum_g_x = 0.0;
    for (var c = row.lane; c < dims.cols; c += LANES) {
        let g = dy[row.at + c] * weight[c];
        sum_g += g;
        sum_g_x += g * (x[row.at + c] - row.mean) * row.rstd;
    }
    row.mean_g = sum_lanes(sum_g, row.lane) / f32(dims.cols);
    row.mean_g_x = sum_lanes(sum_g_x, row.lane) / f32(dims.cols);
    return row;
}

fn gradient(row: Row, c: u32) -> f32 {
    let normal = (x[row.at + c] - row.mean) * row.rstd;
    return row.rstd * (dy[row.at + c] * weight[c] - row.mean_g - normal * row.mean_g_x);
}

const CHUNK: u32 = 64u;
const WEIGHT_COLS: u32 = 64u;

// One workgroup sums one chunk of rows for 64 columns.
@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col_tiles = (dims.cols + WEIGHT_COLS - 1u) / WEIGHT_COLS;
    let group = dims.first_group + workgroup.x;
    let chunk = group / col_tiles;
    let c = group % col_tiles * WEIGHT_COLS + local;
    if c >= dims.cols {
        return;
    }
    var sum = 0.0;
    let stop = min(dims.rows, (chunk + 1u) * CHUNK);
    for (var r = chunk * CHUNK; r < stop; r++) {
        sum += dy[r * dims.cols + c] * (x[r * dims.cols + c] - saved[r * 2u]) * saved[r * 2u + 1u];
    }
    partials[chunk * dims.cols + c] = sum;
}
