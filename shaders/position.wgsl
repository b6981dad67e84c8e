// Positional encoding, added in place to x (batch · time, cols); t is a row's place in its sequence.
//
//   sinusoidal          x[b, t, 2i]   += sin(t / 10000^(2i / cols))        (Vaswani et al. 2017, section 3.5)
//                       x[b, t, 2i+1] += cos(t / 10000^(2i / cols))
//   learned             x[b, t, c]    += table[t, c]
//   learned_backward    dtable[t, c]  += Σ_b dx[b, t, c]
//
// The sinusoids are those of shared/sine.wgsl.

struct Dims {
    first_group: u32,
    batch: u32,
    time: u32,
    cols: u32,
    count: u32, // outputs
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> x: array<f32>; //        (batch, time, cols)
@group(0) @binding(2) var<storage, read> table: array<f32>; //          (time or more, cols)
@group(0) @binding(3) var<storage, read> frequencies: array<vec2<u32>>; // ((cols + 1) / 2): turns per position · 2⁶⁴, high and low word
@group(0) @binding(4) var<storage, read> dx: array<f32>; //             (batch, time, cols)
@group(0) @binding(5) var<storage, read_write> dtable: array<f32>; //   (time or more, cols)

const ROWS_PER_GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn sinusoidal(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * ROWS_PER_GROUP + local;
    if at >= dims.count {
        return;
    }
    let c = at % dims.cols;
    let t = at / dims.cols % dims.time;
    x[at] += sinusoid(t, c, frequencies[c / 2u]);
}

@compute @workgroup_size(256)
fn learned(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * ROWS_PER_GROUP + local;
    if at < dims.count {
        x[at] += table[at % (dims.time * dims.cols)];
    }
}

@compute @workgroup_size(256)
fn learned_backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * ROWS_PER_GROUP + local;
    if at >= dims.count {
        return;
    }
    var sum = vec4(0.0);
    // Four a trip: Mesa 22.3's lavapipe ends the loops of an invocation after 65,535 trips in all.
    for (var b = 0u; b < dims.batch; b += 4u) {
        let sample = vec4(b) + vec4(0u, 1u, 2u, 3u);
        let i = min(sample, vec4(dims.batch - 1u)) * dims.time * dims.cols + at;
        sum += select(vec4(0.0), vec4(dx[i.x], dx[i.y], dx[i.z], dx[i.w]), sample < vec4(dims.batch));
    }
    dtable[at] += dot(sum, vec4(1.0));
}
