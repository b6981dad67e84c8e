// Counter-based random numbers: the same (counter, stream, seed) gives the same number in forward, backward and every rerun.
// pcg3d of M. Jarzynski and M. Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. Any invocation may call these.
//
// A counter has 64 bits, low word first: one step of GPT-2 draws 6.4e9 numbers for the attention of one layer. Its high word moves the
// stream by 2³² / φ, the stride whose first multiples stay furthest apart, so that none of them meets the stream of another dropout.

fn random_u32(counter: vec2<u32>, stream: u32, seed: u32) -> u32 {
    var v = vec3(counter.x, stream + counter.y * 0x9e3779b9u, seed) * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3(16u);
    v.x += v.y * v.z;
    return v.x;
}

// a · b, all 64 bits of it.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let cross = (a >> 16u) * (b & 0xffffu);
    let middle = (a & 0xffffu) * (b >> 16u) + (low >> 16u);
    let carry = ((cross & 0xffffu) + (middle & 0xffffu)) >> 16u;
    return vec2(a * b, (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u) + carry);
}

fn advanced(counter: vec2<u32>, by: u32) -> vec2<u32> {
    let low = counter.x + by;
    return vec2(low, counter.y + select(0u, 1u, low < by));
}

// 0 for a dropped element, else 1 / (1 − p), which preserves the mean.
fn keep_factor(counter: vec2<u32>, stream: u32, step: Step) -> f32 {
    return select(step.keep_scale, 0.0, random_u32(counter, stream, step.seed) < step.drop_below);
}

// The same for four neighbours; the counter of the first is a multiple of 4, so that none of them carries.
fn keep_factors(first: vec2<u32>, stream: u32, step: Step) -> vec4<f32> {
    return vec4(
        keep_factor(first, stream, step),
        keep_factor(first + vec2(1u, 0u), stream, step),
        keep_factor(first + vec2(2u, 0u), stream, step),
        keep_factor(first + vec2(3u, 0u), stream, step),
    );
}
