// Column sums over many rows, the gradient of a bias: y[c] += Σ_r x[r, c].
//
//   partial    partials[p, c] = Σ_{r in chunk p} x[r, c]      chunks of CHUNK rows
//   finish     y[c] += Σ_p partials[p, c]
//
// Two stages of fixed order: as parallel as a GPU likes, and the same bits every time.

struct Dims {
    first_group: u32,
    rows: u32, // of x in `partial`, of partials in `finish`
    cols: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>; //               (rows, cols)
@group(0) @binding(2) var<storage, read_write> partials: array<f32>; //  (chunks, cols)
@group(0) @binding(3) var<storage, read> sums: array<f32>; //            (chunks, cols), the partials
@group(0) @binding(4) var<storage, read_write> y: array<f32>; //         (cols)

const COLS_PER_GROUP: u32 = 64u;
const CHUNK: u32 = 64u;

@compute @workgroup_size(64)
fn partial(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col_tiles = (dims.cols + COLS_PER_GROUP - 1u) / COLS_PER_GROUP;
    let group = dims.first_group + workgroup.x;
    let chunk = group / col_tiles;
    let c = group % col_tiles * COLS_PER_GROUP + local;
    if c >= dims.cols {
        return;
    }
    var sum = 0.0;
    let stop = min(dims.rows, (chunk + 1u) * CHUNK);
    for (var r = chunk * CHUNK; r < stop; r++) {
        sum += x[r * dims.cols + c];
    }
    partials[chunk * dims.cols + c] = sum;
}

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (dims.first_group + workgroup.x) * COLS_PER_GROUP + local;
    if c >= dims.cols {
        return;
    }
    var total = vec4(0.0);
    // Eight a trip: Mesa 22.3's lavapipe ends the loops of an invocation after 65,535 trips in all, nested or not.
    for (var p = 0u; p < dims.rows; p += 8u) {
        total += four_sums(p, c) + four_sums(p + 4u, c);
    }
    y[c] += dot(total, vec4(1.0));
}

// Four partials of a column, zeros beyond the last.
fn four_sums(p: u32, c: u32) -> vec4<f32> {
    let row = vec4(p) + vec4(0u, 1u, 2u, 3u);
    let at = min(row, vec4(dims.rows - 1u)) * dims.cols + c;
    return select(vec4(0.0), vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]), row < vec4(dims.rows));
}
