// Activations stored as IEEE half precision, two in a word: 11 significant bits where shared/store_bf16.wgsl has 8, but only from 6e-8 to
// 65,504, so that training scales the loss. Sums stay in f32; no device feature is needed.
alias F16Quad = vec2<u32>;
alias Quad = F16Quad;

fn unpack(quad: Quad) -> vec4<f32> {
    return vec4(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

// A number that rounds beyond the largest becomes an infinity, a NaN stays one: pack2x16float defines neither.
fn pack(values: vec4<f32>) -> Quad {
    let bits = bitcast<vec4<u32>>(values);
    let size = bits & vec4(0x7fffffffu);
    let beyond = size >= vec4(0x477ff000u); // 65,520
    let special = ((bits >> vec4(16u)) & vec4(0x8000u)) | select(vec4(0x7c00u), vec4(0x7e00u), size > vec4(0x7f800000u));
    let held = select(values, vec4(0.0), beyond);
    let fixed = select(vec4(0u), special, beyond);
    return vec2(pack2x16float(held.xy), pack2x16float(held.zw)) | fixed.xz | (fixed.yw << vec2(16u));
}
