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
    quads: u32, // cols / 4: everything is accessed four columns at a time
    count: u32, // quads of output
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> x: array<Quad>; //             (batch, time, cols)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>; //          (time or more, cols)
@group(0) @binding(3) var<storage, read> frequencies: array<vec2<u32>>; //    (cols / 2): turns per position · 2⁶⁴, high and low word
@group(0) @binding(4) var<storage, read> d_x: array<Quad>; //                 (batch, time, cols)
@group(0) @binding(5) var<storage, read_write> dtable: array<vec4<f32>>; //   (time or more, cols)

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn sinusoidal(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if at >= dims.count {
        return;
    }
    let q = at % dims.quads;
    let t = at / dims.quads % dims.time;
    let low = frequencies[2u * q];
    let high = frequencies[2u * q + 1u];
    let add = vec4(sinusoid(t, 0u, low), sinusoid(t, 1u, low), sinusoid(t, 0u, high), sinusoid(t, 1u, high));
    x[at] = pack(unpack(x[at]) + add);
}

@compute @workgroup_size(WORKGROUP)
fn learned(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if at < dims.count {
        x[at] = pack(unpack(x[at]) + table[at % (dims.time * dims.quads)]);
    }
}

@compute @workgroup_size(WORKGROUP)
fn learned_backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if at >= dims.count {
        return;
    }
    var sum = vec4(0.0);
    // Two per trip: Mesa 22.3's lavapipe ends the loops of an invocation after 65,535 trips in all.
    for (var b = 0u; b < dims.batch; b += 2u) {
        let next = min(b + 1u, dims.batch - 1u);
        let first = unpack(d_x[b * dims.time * dims.quads + at]);
        let second = unpack(d_x[next * dims.time * dims.quads + at]);
        sum += first + select(vec4(0.0), second, b + 1u < dims.batch);
    }
    dtable[at] += sum;
}
