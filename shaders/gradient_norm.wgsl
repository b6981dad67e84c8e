// The norm of all gradients, and what the optimizer may do with them.
//
//   norm = √(Σ g²)      clip = min(1, max_norm / (norm + 1e-6)), 1 if max_norm is 0       (as PyTorch's clip_grad_norm_)
//
//   partial    partials[first + p] = Σ g² over tile p of one segment of the gradients
//   finish     the sum of all partials; records the norm, and lets the step be applied only if loss and norm are finite

struct Dims {
    first_group: u32,
    quads: u32, //    vec4 elements of the segment in `partial`
    first: u32, //    where the segment's partials begin
    partials: u32, // number of all partials
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> grads: array<vec4<f32>>; //          one segment
@group(0) @binding(3) var<storage, read_write> partials: array<f32>; //       (partials)
@group(0) @binding(4) var<storage, read> sums: array<f32>; //                 (partials), the same
@group(0) @binding(5) var<storage, read_write> records: array<vec2<f32>>; //  (records): loss, norm
@group(0) @binding(6) var<storage, read_write> state: State;

const ROWS_PER_GROUP: u32 = 16384u; // elements of a tile
const QUADS: u32 = ROWS_PER_GROUP / 4u;

@compute @workgroup_size(LANES)
fn partial(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = dims.first_group + workgroup.x;
    let stop = min(dims.quads, (tile + 1u) * QUADS);
    var squares = vec4(0.0);
    for (var i = tile * QUADS + lane; i < stop; i += LANES) {
        squares += grads[i] * grads[i];
    }
    let total = sum_lanes(dot(squares, vec4(1.0)), lane);
    if lane == 0u {
        partials[dims.first + tile] = total;
    }
}

@compute @workgroup_size(LANES)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var p = lane; p < dims.partials; p += LANES) {
        sum += sums[p];
    }
    let norm = sqrt(sum_lanes(sum, lane));
    if lane != 0u || dims.first_group != 0u {
        return;
    }
    records[step.record].y = norm;
    let may_apply = is_finite(norm) && is_finite(records[step.record].x);
    state.apply = select(0u, 1u, may_apply);
    state.updates += select(0u, 1u, may_apply);
    state.skipped += select(1u, 0u, may_apply);
    state.clip = select(min(1.0, dims.max_norm / (norm + 1e-6)), 1.0, dims.max_norm == 0.0);
}

// By the bits: a compiler may assume that comparisons never see a NaN.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}
