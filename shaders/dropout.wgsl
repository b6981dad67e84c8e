// Dropout (Srivastava et al. 2014), inverted: y = x · k, k = 0 with probability p, else 1 / (1 − p).
//
// The mask is a function of (element, stream, seed), so nothing is saved: the backward is the same kernel on dy.
// Elements are counted from the step's first sample on, in 64 bits, so that micro-batches do not change what a step drops.

struct Dims {
    first_group: u32,
    quads: u32,
    per_sample: u32, // elements of one sample
    stream: u32, //     which dropout of the model
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<Quad>;
@group(0) @binding(3) var<storage, read_write> y: array<Quad>;

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        let first = advanced(wide_product(step.first_sample, dims.per_sample), i * 4u);
        y[i] = pack(unpack(x[i]) * keep_factors(first, dims.stream, step));
    }
}
