// A copy in the element type of activations, rounded to nearest: y = x. Matrix products read such copies of the f32 weights that the
// optimizer updates; their gradients are those of the weights, unchanged.

struct Dims {
    first_group: u32,
    quads: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<Quad>;

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        y[i] = pack(x[i]);
    }
}
