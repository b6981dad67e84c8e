// Sinusoids of whole positions. WGSL promises sine only on [−π, π] and to 2⁻¹¹, so range reduction and polynomial are our own: an angle
// is counted in turns as a 32-bit fraction, and the reduction t · f mod 1 is exact integer arithmetic on a 64-bit fixed-point frequency
// from the host. Any invocation may call these.

// Channel c of position t < 65,536, whose pair of channels turns f · 2⁻⁶⁴ times per position (high and low word).
fn sinusoid(t: u32, c: u32, f: vec2<u32>) -> f32 {
    // t < 65,536, so that t · low >> 32 fits 16-bit halves.
    let carry = ((f.y >> 16u) * t + (((f.y & 0xffffu) * t) >> 16u)) >> 16u;
    let turns = f.x * t + carry;
    return sine(turns + (c & 1u) * 0x40000000u);
}

// The sine of an angle given as a fraction of a turn, to 1e-6.
fn sine(turns: u32) -> f32 {
    let quadrant = turns >> 30u;
    var rest = turns & 0x3fffffffu;
    if (quadrant & 1u) == 1u {
        rest = 0x40000000u - rest;
    }
    let a = f32(rest) * 1.4629180792671596e-9; // π / 2³¹
    let s = a * a;
    let p = 1.0 + s * (-0.16666666666 + s * (8.3333333333e-3 + s * (-1.98412698e-4 + s * (2.75573192e-6 - s * 2.50521084e-8))));
    return select(a * p, -a * p, quadrant > 1u);
}
