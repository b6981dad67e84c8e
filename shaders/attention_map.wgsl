// The attention probabilities of one head on one sample, for display: attention.wgsl stores only the lse from which they are computed.
//
//   map[q, k] = exp(q · k / √D − lse[q])  for keys up to the query, each row a softmax that adds up to 1
//   map[q, k] = 0                         above the diagonal
//
// These are the probabilities before dropout. qkv (B · T, 3C) holds the columns [q | k | v], each split into heads of D, a multiple of 4.
// Nothing is sized by D here, so sample, head and D are all in dims and one pipeline serves every map.

struct Dims {
    first_group: u32,
    time: u32,
    heads: u32,
    quads: u32, //  of a head, D / 4
    sample: u32,
    head: u32,
    scale: f32, //  1 / √D
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> qkv: array<Quad>; //         (B · T, 3C)
@group(0) @binding(2) var<storage, read> lse: array<f32>; //          (B, H, T)
@group(0) @binding(3) var<storage, read_write> map: array<f32>; //    (T, T)

const ROWS_PER_GROUP: u32 = 64u; // elements

// The parts of a row of qkv.
const Q: u32 = 0u;
const K: u32 = 1u;

// Where a row's head begins in a part of qkv, in quads.
fn part(row: u32, which: u32) -> u32 {
    return (((dims.sample * dims.time + row) * 3u + which) * dims.heads + dims.head) * dims.quads;
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * ROWS_PER_GROUP + local;
    if i >= dims.time * dims.time {
        return;
    }
    let query = i / dims.time;
    let key = i % dims.time;
    if key > query {
        map[i] = 0.0;
        return;
    }
    let q = part(query, Q);
    let k = part(key, K);
    var products = vec4(0.0);
    for (var quad = 0u; quad < dims.quads; quad++) {
        products += unpack(qkv[q + quad]) * dims.scale * unpack(qkv[k + quad]);
    }
    map[i] = exp(dot(products, vec4(1.0)) - lse[(dims.sample * dims.heads + dims.head) * dims.time + query]);
}
