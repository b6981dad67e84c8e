// Probes that measure the two roofs of an adapter, to which profiles compare every kernel (Williams et al. 2009, "Roofline").
//
//   copy            y[i] = x[i]
//   multiply_add    y[i] = v₀ + v₁ + v₂,   each chain begins as v_c = x[i] + c and takes 8 · rounds steps of v ← v · a + b
//
// Elements are vec4, one per invocation. A copy moves 16 bytes each way and computes nothing; a chain computes and moves next to nothing.
// Twelve independent chains per lane hide the latency of a multiply-add, few enough to stay in registers everywhere.

struct Dims {
    first_group: u32,
    quads: u32, //  vec4 elements
    rounds: u32, // trips of eight steps
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; //       (quads)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (quads)

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // numbers

@compute @workgroup_size(WORKGROUP)
fn copy(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        y[i] = x[i];
    }
}

struct Chains {
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
}

@compute @workgroup_size(WORKGROUP)
fn multiply_add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i >= dims.quads {
        return;
    }
    let first = x[i];
    // Read once, here: a load within the loop would be timed with it.
    let a = vec4(dims.a);
    let b = vec4(dims.b);
    var v = Chains(first, first + 1.0, first + 2.0);
    for (var round = 0u; round < dims.rounds; round++) {
        v = two_steps(two_steps(two_steps(two_steps(v, a, b), a, b), a, b), a, b);
    }
    y[i] = v.v0 + v.v1 + v.v2;
}

fn two_steps(v: Chains, a: vec4<f32>, b: vec4<f32>) -> Chains {
    let once = Chains(v.v0 * a + b, v.v1 * a + b, v.v2 * a + b);
    return Chains(once.v0 * a + b, once.v1 * a + b, once.v2 * a + b);
}
