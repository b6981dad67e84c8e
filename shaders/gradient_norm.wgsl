// The norm of all gradients, and what the optimizer may do with them.
//
//   norm = √(Σ g²) / S      clip = min(1, max_norm / (norm + 1e-6)) / S, 1 / S if max_norm is 0       (as PyTorch's clip_grad_norm_)
//
// The gradients g are S times those of the loss, where S is the loss scale, a power of two. If it is dynamic, a norm that is not finite
// halves it, down to 1, and 2,000 applied updates in a row double it (Micikevicius et al. 2018, Mixed Precision Training).
//
//   partial    partials[first + p] = Σ g² over tile p of one segment of the gradients
//   finish     the sum of all partials; records norm and S, lets the step be applied only if loss and norm are finite, and sets the next S

struct Dims {
    first_group: u32,
    quads: u32, //    vec4 elements of the segment in `partial`
    first: u32, //    where the segment's partials begin
    partials: u32, // number of all partials
    max_norm: f32,
    dynamic: u32, //  1 if the loss scale may change
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> grads: array<vec4<f32>>; //          one segment
@group(0) @binding(3) var<storage, read_write> partials: array<f32>; //       (partials)
@group(0) @binding(4) var<storage, read> sums: array<f32>; //                 (partials), the same
@group(0) @binding(5) var<storage, read_write> records: array<vec4<f32>>; //  (records): loss, norm, S, 0
@group(0) @binding(6) var<storage, read_write> state: State;

const ROWS_PER_GROUP: u32 = 16384u; // elements of a tile
const QUADS: u32 = ROWS_PER_GROUP / 4u;
const GOOD_UPDATES: u32 = 2000u; // before the loss scale doubles
const HIGHEST_SCALE: f32 = 1073741824.0; // 2^30

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
    let scaled = sqrt(sum_lanes(sum, lane));
    if lane != 0u || dims.first_group != 0u {
        return;
    }
    let scale = state.loss_scale;
    let norm = scaled / scale;
    records[step.record].y = norm;
    records[step.record].z = scale;
    records[step.record].w = 0.0;
    let may_apply = is_finite(norm) && is_finite(records[step.record].x);
    state.apply = select(0u, 1u, may_apply);
    state.updates += select(0u, 1u, may_apply);
    state.skipped += select(1u, 0u, may_apply);
    state.clip = select(min(1.0, dims.max_norm / (norm + 1e-6)), 1.0, dims.max_norm == 0.0) / scale;
    if dims.dynamic == 1u {
        adjust_scale(scale, is_finite(norm), may_apply);
    }
}

fn adjust_scale(scale: f32, fits: bool, applied: bool) {
    let good = select(0u, state.good + 1u, applied);
    let doubles = good == GOOD_UPDATES;
    let grown = select(scale, min(2.0 * scale, HIGHEST_SCALE), doubles);
    state.loss_scale = select(max(0.5 * scale, 1.0), grown, fits);
    state.good = select(good, 0u, doubles);
}

// By the bits: a compiler may assume that comparisons never see a NaN.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}
