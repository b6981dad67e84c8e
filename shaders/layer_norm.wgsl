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
//   backward_add       dx += …           dx holds the residual stream's gradient, which bypasses the norm
//   backward_weight    partials of dweight and dbias over chunks of CHUNK rows
//   finish             dweight += Σ partials; two stages in a fixed order: parallel, and the same bits every time
//   finish_bias        the same, and dbias += Σ partials
//
// Everything is in quads of four columns: C is a multiple of four. `d_x` is dx: Direct3D's compiler reserves the name `dx`.

struct Dims {
    first_group: u32,
    rows: u32, //     in `finish`, chunks
    quads: u32, //    C / 4
    has_bias: u32, // in `forward`: without one, a placeholder of one quad is bound and not read
    eps: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<Quad>; //                     (rows, C)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; //           (C)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; //             (C)
@group(0) @binding(4) var<storage, read_write> y: array<Quad>; //               (rows, C)
@group(0) @binding(5) var<storage, read_write> moments: array<vec2<f32>>; //    (rows): mean, rstd
@group(0) @binding(6) var<storage, read> saved: array<vec2<f32>>; //            (rows), the moments
@group(0) @binding(7) var<storage, read> dy: array<Quad>; //                    (rows, C)
@group(0) @binding(8) var<storage, read_write> d_x: array<Quad>; //             (rows, C)
@group(0) @binding(9) var<storage, read_write> partials: array<vec4<f32>>; //   (chunks, 2, C): of dweight, of dbias
@group(0) @binding(10) var<storage, read> sums: array<vec4<f32>>; //            (chunks, 2, C), the partials
@group(0) @binding(11) var<storage, read_write> dweight: array<vec4<f32>>; //   (C)
@group(0) @binding(12) var<storage, read_write> dbias: array<vec4<f32>>; //     (C)

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = dims.first_group + workgroup.x;
    let at = min(row, dims.rows - 1u) * dims.quads;
    let cols = f32(dims.quads * 4u);
    var sum = vec4(0.0);
    for (var q = lane; q < dims.quads; q += LANES) {
        sum += unpack(x[at + q]);
    }
    let mean = sum_lanes(across(sum), lane) / cols;
    var squares = vec4(0.0);
    for (var q = lane; q < dims.quads; q += LANES) {
        let d = unpack(x[at + q]) - mean;
        squares += d * d;
    }
    let rstd = 1.0 / sqrt(sum_lanes(across(squares), lane) / cols + dims.eps);
    if row >= dims.rows {
        return;
    }
    for (var q = lane; q < dims.quads; q += LANES) {
        var shift = vec4(0.0);
        if dims.has_bias == 1u {
            shift = bias[q];
        }
        y[at + q] = pack((unpack(x[at + q]) - mean) * rstd * weight[q] + shift);
    }
    if lane == 0u {
        moments[row] = vec2(mean, rstd);
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
        for (var q = row.lane; q < dims.quads; q += LANES) {
            d_x[row.at + q] = pack(gradient(row, q));
        }
    }
}

@compute @workgroup_size(LANES)
fn backward_add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = row_means(workgroup.x, lane);
    if row.row < dims.rows {
        for (var q = row.lane; q < dims.quads; q += LANES) {
            d_x[row.at + q] = pack(unpack(d_x[row.at + q]) + gradient(row, q));
        }
    }
}

fn row_means(group: u32, lane: u32) -> Row {
    var row: Row;
    row.row = dims.first_group + group;
    row.lane = lane;
    let r = min(row.row, dims.rows - 1u);
    let cols = f32(dims.quads * 4u);
    row.at = r * dims.quads;
    row.mean = saved[r].x;
    row.rstd = saved[r].y;
    var sum_g = vec4(0.0);
    var sum_g_x = vec4(0.0);
    for (var q = row.lane; q < dims.quads; q += LANES) {
        let g = unpack(dy[row.at + q]) * weight[q];
        sum_g += g;
        sum_g_x += g * (unpack(x[row.at + q]) - row.mean) * row.rstd;
    }
    row.mean_g = sum_lanes(across(sum_g), row.lane) / cols;
    row.mean_g_x = sum_lanes(across(sum_g_x), row.lane) / cols;
    return row;
}

fn gradient(row: Row, q: u32) -> vec4<f32> {
    let normal = (unpack(x[row.at + q]) - row.mean) * row.rstd;
    return row.rstd * (unpack(dy[row.at + q]) * weight[q] - row.mean_g - normal * row.mean_g_x);
}

fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

const CHUNK: u32 = 32u;
const WEIGHT_QUADS: u32 = 64u;

// One workgroup sums one chunk of rows for 64 quads of columns.
@compute @workgroup_size(WEIGHT_QUADS)
fn backward_weight(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles = (dims.quads + WEIGHT_QUADS - 1u) / WEIGHT_QUADS;
    let group = dims.first_group + workgroup.x;
    let chunk = group / tiles;
    let q = group % tiles * WEIGHT_QUADS + local;
    if q >= dims.quads {
        return;
    }
    var of_weight = vec4(0.0);
    var of_bias = vec4(0.0);
    let stop = min(dims.rows, (chunk + 1u) * CHUNK);
    for (var r = chunk * CHUNK; r < stop; r++) {
        let g = unpack(dy[r * dims.quads + q]);
        of_weight += g * (unpack(x[r * dims.quads + q]) - saved[r].x) * saved[r].y;
        of_bias += g;
    }
    partials[2u * chunk * dims.quads + q] = of_weight;
    partials[(2u * chunk + 1u) * dims.quads + q] = of_bias;
}

@compute @workgroup_size(WEIGHT_QUADS)
fn finish(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let q = (dims.first_group + workgroup.x) * WEIGHT_QUADS + local;
    if q < dims.quads {
        dweight[q] += sum_of_chunks(q);
    }
}

@compute @workgroup_size(WEIGHT_QUADS)
fn finish_bias(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let q = (dims.first_group + workgroup.x) * WEIGHT_QUADS + local;
    if q < dims.quads {
        dweight[q] += sum_of_chunks(q);
        dbias[q] += sum_of_chunks(dims.quads + q);
    }
}

// The sum over chunks of quad `at` of the partials: the quads of dweight come first, then those of dbias.
fn sum_of_chunks(at: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var chunk = 0u; chunk < dims.rows; chunk++) {
        sum += sums[2u * chunk * dims.quads + at];
    }
    return sum;
}
