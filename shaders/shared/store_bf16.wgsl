// Activations stored as bfloat16, the upper half of an f32, two in a word: half the memory and traffic of shared/store_f32.wgsl on every
// adapter. Sums stay in f32.
alias Bf16Quad = vec2<u32>;
alias Quad = Bf16Quad;

fn unpack(quad: Quad) -> vec4<f32> {
    let even = bitcast<vec2<f32>>(quad << vec2(16u));
    let odd = bitcast<vec2<f32>>(quad & vec2(0xffff0000u));
    return vec4(even.x, odd.x, even.y, odd.y);
}

// To the nearest, ties to even; a NaN stays one.
fn pack(values: vec4<f32>) -> Quad {
    let bits = bitcast<vec4<u32>>(values);
    let nearest = (bits + 0x7fffu + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
    let is_nan = (bits & vec4(0x7fffffffu)) > vec4(0x7f800000u);
    let half = select(nearest, (bits >> vec4(16u)) | vec4(0x40u), is_nan);
    return half.xz | (half.yw << vec2(16u));
}
