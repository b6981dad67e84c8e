// Activations stored as f32. Kernels access them in quads of four neighbours through these, so that the element type is a variant.
alias Quad = vec4<f32>;

fn unpack(quad: Quad) -> vec4<f32> {
    return quad;
}

fn pack(values: vec4<f32>) -> Quad {
    return values;
}
