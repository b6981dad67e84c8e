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
    var sum = 0.0;
    for (var first = 0u; first < dims.rows; first += 32768u) {
        let stop = min(dims.rows, first + 32768u);
        for (var p = first; p < stop; p++) {
            sum += sums[p * dims.cols + c];
        }
    }
    y[c] += sum;
}
