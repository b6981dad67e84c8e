// Activations stored as by shared/store_f16.wgsl, in the type f16 itself, which needs the feature SHADER_F16: nothing is converted between
// memory and cooperative matrices. A number beyond 65,520 must become an infinity, as in IEEE rounding to the nearest: WGSL does not promise
// it, so a test case of matmul and the self-test check it.
alias F16Quad = vec4<f16>;
alias Quad = F16Quad;

fn unpack(quad: Quad) -> vec4<f32> {
    return vec4<f32>(quad);
}

fn pack(values: vec4<f32>) -> Quad {
    return vec4<f16>(values);
}
