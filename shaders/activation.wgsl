// Activations of the feed-forward layer, elementwise, four elements an invocation; tensors are padded to whole vec4.
//
//   gelu    y = ½ x (1 + tanh u)     u = √(2/π) (x + 0.044715 x³)              (Hendrycks and Gimpel 2016, tanh form)
//           dx = dy · (½ (1 + t) + ½ x (1 − t²) √(2/π) (1 + 3 · 0.044715 x²))  t = tanh u
//   relu    y = max(x, 0)            dx = dy where x > 0, else 0

struct Dims {
    first_group: u32,
    quads: u32, // vec4 elements
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

const SQRT_2_OVER_PI: f32 = 0.7978845608028654;
const CUBIC: f32 = 0.044715;

// By the exponential, with a clamped argument: some drivers' tanh overflows.
fn tanh_quad(u: vec4<f32>) -> vec4<f32> {
    return 1.0 - 2.0 / (exp(2.0 * clamp(u, vec4(-10.0), vec4(10.0))) + 1.0);
}

@compute @workgroup_size(WORKGROUP)
fn gelu(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        let v = x[i];
        y[i] = 0.5 * v * (1.0 + tanh_quad(SQRT_2_OVER_PI * (v + CUBIC * v * v * v)));
    }
}

@compute @workgroup_size(WORKGROUP)
fn gelu_backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        let v = x[i];
        let t = tanh_quad(SQRT_2_OVER_PI * (v + CUBIC * v * v * v));
        let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * v * v);
        dx[i] = dy[i] * (0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * slope);
    }
}

@compute @workgroup_size(WORKGROUP)
fn relu(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        y[i] = max(x[i], vec4(0.0));
    }
}

@compute @workgroup_size(WORKGROUP)
fn relu_backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        dx[i] = select(vec4(0.0), dy[i], x[i] > vec4(0.0));
    }
}
