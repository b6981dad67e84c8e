// Cross-entropy of the softmax over the vocabulary, one row of logits per target; a target that is not a valid id is ignored.
//
//   lse = log Σ_v exp(logits[v])      loss = lse − logits[target]
//   dlogits[v] = (exp(logits[v] − lse) − [v = target]) · scale         written over the logits
//
//   forward             losses of `rows` rows, whose targets and losses begin at row `first`
//   forward_backward    the same, and dlogits in place, scale = loss scale / real targets of the whole step
//
// A row of logits is accessed in quads: V is padded to a multiple of four with finite numbers, which the sums exclude and whose dlogits are
// 0. Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total: there V may reach 699,000.

struct Dims {
    first_group: u32,
    rows: u32,
    cols: u32, //  V
    first: u32, // of the chunk's rows among all
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> targets: array<u32>; //          (all rows)
@group(0) @binding(3) var<storage, read> logits: array<Quad>; //          (rows, V)
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; //     (all rows)
@group(0) @binding(5) var<storage, read_write> dlogits: array<Quad>; //   (rows, V), logits on entry
@group(0) @binding(6) var<storage, read> state: State;

const LOWEST: f32 = -3.4e38;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = (dims.cols + 3u) / 4u;
    let row = dims.first_group + workgroup.x;
    let r = min(row, dims.rows - 1u);
    var top = vec4(LOWEST);
    for (var q = lane; q < quads; q += LANES) {
        top = max(top, real(unpack(logits[r * quads + q]), q));
    }
    let highest = max_lanes(highest_of(top), lane);
    var total = vec4(0.0);
    for (var q = lane; q < quads; q += LANES) {
        total += exp(real(unpack(logits[r * quads + q]), q) - highest);
    }
    let lse = highest + log(sum_lanes(across(total), lane));
    if row < dims.rows && lane == 0u {
        let id = targets[dims.first + r];
        let target_id = min(id, dims.cols - 1u);
        let logit = dot(unpack(logits[r * quads + target_id / 4u]), one_hot(target_id, target_id / 4u));
        losses[dims.first + r] = select(0.0, lse - logit, id < dims.cols);
    }
}

@compute @workgroup_size(LANES)
fn forward_backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = (dims.cols + 3u) / 4u;
    let row = dims.first_group + workgroup.x;
    let r = min(row, dims.rows - 1u);
    var top = vec4(LOWEST);
    for (var q = lane; q < quads; q += LANES) {
        top = max(top, real(unpack(dlogits[r * quads + q]), q));
    }
    let highest = max_lanes(highest_of(top), lane);
    var total = vec4(0.0);
    for (var q = lane; q < quads; q += LANES) {
        total += exp(real(unpack(dlogits[r * quads + q]), q) - highest);
    }
    let lse = highest + log(sum_lanes(across(total), lane));
    if row >= dims.rows {
        return;
    }
    let target_id = targets[dims.first + r];
    let scale = select(0.0, step.target_scale * state.loss_scale, target_id < dims.cols);
    if lane == 0u && target_id >= dims.cols {
        losses[dims.first + r] = 0.0;
    }
    for (var q = lane; q < quads; q += LANES) {
        let logit = unpack(dlogits[r * quads + q]);
        // The invocation that reads the target's logit writes the loss: this loop overwrites the logit, so no other could read it later.
        if q == target_id / 4u && target_id < dims.cols {
            losses[dims.first + r] = lse - dot(logit, one_hot(target_id, q));
        }
        dlogits[r * quads + q] = pack((exp(real(logit, q) - lse) - one_hot(target_id, q)) * scale);
    }
}

// The logits of quad q, with those of padding replaced by a value too low to matter.
fn real(logit: vec4<f32>, q: u32) -> vec4<f32> {
    return select(vec4(LOWEST), logit, q * 4u + vec4(0u, 1u, 2u, 3u) < vec4(dims.cols));
}

// 1 at the target, if it is in quad q.
fn one_hot(target_id: u32, q: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), q * 4u + vec4(0u, 1u, 2u, 3u) == vec4(target_id));
}

fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn highest_of(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
