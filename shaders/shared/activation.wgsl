// Activations of the feed-forward layer, four elements at a time. Any invocation may call these.
//
//   gelu    y = ½ x (1 + t)     t = tanh u     u = √(2/π) (x + 0.044715 x³)          (Hendrycks and Gimpel 2016, tanh form)
//           y′ = ½ (1 + t) + ½ x (1 − t²) √(2/π) (1 + 3 · 0.044715 x²)
//   relu    y = max(x, 0)       y′ = 1 where x > 0, else 0

const SQRT_2_OVER_PI: f32 = 0.7978845608028654;
const CUBIC: f32 = 0.044715;

// By the exponential, with a clamped argument: some drivers' tanh overflows.
fn gelu_tanh(x: vec4<f32>) -> vec4<f32> {
    let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
    return 1.0 - 2.0 / (exp(2.0 * clamp(u, vec4(-10.0), vec4(10.0))) + 1.0);
}

fn activation(x: vec4<f32>, relu: bool) -> vec4<f32> {
    return select(0.5 * x * (1.0 + gelu_tanh(x)), max(x, vec4(0.0)), relu);
}

fn activation_slope(x: vec4<f32>, relu: bool) -> vec4<f32> {
    let t = gelu_tanh(x);
    let du = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    let gelu = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du;
    return select(gelu, select(vec4(0.0), vec4(1.0), x > vec4(0.0)), relu);
}
