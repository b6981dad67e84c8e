// Stochastic gradient descent with momentum over one segment of the parameter pool, four elements per invocation.
//
//   g ← clip · g        p ← p − lr · decay · p          matrices only: the pool's elements before decay_end
//   m ← μ m + g         p ← p − lr · m

struct Dims {
    first_group: u32,
    quads: u32,
    decay_quads: u32, // vec4 elements of this segment that decay
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> state: State;
@group(0) @binding(3) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn apply(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i >= dims.quads || state.apply == 0u {
        return;
    }
    let velocity = dims.momentum * m[i] + grads[i] * state.clip;
    let decay = select(0.0, dims.weight_decay, i < dims.decay_quads);
    params[i] = params[i] * (1.0 - step.learning_rate * decay) - step.learning_rate * velocity;
    m[i] = velocity;
}
