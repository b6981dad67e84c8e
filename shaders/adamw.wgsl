// AdamW (Loshchilov and Hutter 2019) over one segment of the parameter pool, four elements per invocation.
//
//   g ← clip · g                     p ← p − lr · decay · p          matrices only: the pool's elements before decay_end
//   m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
//   p ← p − lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)              t = updates, this one included

struct Dims {
    first_group: u32,
    quads: u32,
    decay_quads: u32, // vec4 elements of this segment that decay
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> state: State;
@group(0) @binding(3) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4<f32>>;

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn apply(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i >= dims.quads || state.apply == 0u {
        return;
    }
    let g = grads[i] * state.clip;
    let first = dims.beta1 * m[i] + (1.0 - dims.beta1) * g;
    let second = dims.beta2 * v[i] + (1.0 - dims.beta2) * g * g;
    let mean = first / (1.0 - power(dims.beta1, state.updates));
    let deviation = sqrt(second / (1.0 - power(dims.beta2, state.updates)));
    let decay = select(0.0, dims.weight_decay, i < dims.decay_quads);
    params[i] = params[i] * (1.0 - step.learning_rate * decay) - step.learning_rate * mean / (deviation + dims.eps);
    m[i] = first;
    v[i] = second;
}

// base to a whole power by squaring: WGSL's pow goes through a logarithm too coarse for 1 − β₂ᵗ at small t.
fn power(base: f32, exponent: u32) -> f32 {
    var result = 1.0;
    var square = base;
    for (var rest = exponent; rest > 0u; rest >>= 1u) {
        if (rest & 1u) == 1u {
            result *= square;
        }
        square *= square;
    }
    return result;
}
