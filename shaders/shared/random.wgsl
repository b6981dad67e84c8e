// Counter-based random numbers: the same (index, stream, seed) gives the same number in forward, backward and every rerun.
// pcg3d of M. Jarzynski and M. Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. Any invocation may call these.

fn random_u32(index: u32, stream: u32, seed: u32) -> u32 {
    var v = vec3(index, stream, seed) * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3(16u);
    v.x += v.y * v.z;
    return v.x;
}

// 0 for a dropped element, else what keeps the mean.
fn keep_factor(index: u32, stream: u32, step: Step) -> f32 {
    return select(step.keep_scale, 0.0, random_u32(index, stream, step.seed) < step.drop_below);
}

// The same for four neighbours, of which `index` is the first.
fn keep_factors(index: u32, stream: u32, step: Step) -> vec4<f32> {
    return vec4(
        keep_factor(index, stream, step),
        keep_factor(index + 1u, stream, step),
        keep_factor(index + 2u, stream, step),
        keep_factor(index + 3u, stream, step),
    );
}
