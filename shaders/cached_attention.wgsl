// Causal attention of the rows that decoding adds to a context, over the cached keys and values of all rows so far (shared/cursor.wgsl has
// the position of the first new row). New row r has position t = cursor.position + r:
//
//   append     keys[t] = k[r]     values[t] = v[r]                     of all heads, for r < cursor.rows
//   forward    s[j] = q[r] · keys[j] / √D for j ≤ t     p = softmax(s)     y[r] = Σ_j p[j] · values[j]
//   token      both in one dispatch, for one new row: a workgroup reads only earlier rows and its own
//
// One workgroup of LANES invocations (shared/lanes_*.wgsl) computes one row of one head, over blocks of KEYS keys, by streaming softmax
// (Milakov and Gimelshein 2018): its invocations first divide the keys of a block and write their weights to workgroup memory, then divide
// the quads of the head, GROUPS invocations per quad, and sum the weighted values. All sums are in a fixed order. HEAD_SIZE, which is D, is
// appended by the host and is a multiple of 4. Rows of padding (r ≥ cursor.rows) are not written.

struct Dims {
    first_group: u32,
    rows: u32,
    heads: u32,
    context: u32, // rows of a cache
    scale: f32, //   1 / √D
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> cursor: Cursor;
@group(0) @binding(2) var<storage, read> qkv: array<Quad>; //          (rows, 3C): columns [q | k | v], each split into heads of D
@group(0) @binding(3) var<storage, read_write> keys: array<Quad>; //   (context, C)
@group(0) @binding(4) var<storage, read_write> values: array<Quad>; // (context, C)
@group(0) @binding(5) var<storage, read_write> y: array<Quad>; //      (rows, C)

const QUADS: u32 = HEAD_SIZE / 4u;
const KEYS: u32 = 64u;
const WIDTH: u32 = min(QUADS, LANES); //                invocations that divide a head
const OWN: u32 = (QUADS + LANES - 1u) / LANES; //       quads of each invocation
const GROUPS: u32 = max(LANES / QUADS, 1u); //          invocations that divide the keys, for each quad
const LOWEST: f32 = -1e30;
const APPEND_GROUP: u32 = 64u;

var<workgroup> weights: array<f32, KEYS>;
var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(APPEND_GROUP)
fn append(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * APPEND_GROUP + local;
    let width = dims.heads * QUADS;
    let row = i / width;
    let column = i % width;
    let t = cursor.position + row;
    if row < min(cursor.rows, dims.rows) && t < dims.context {
        keys[t * width + column] = qkv[(row * 3u + 1u) * width + column];
        values[t * width + column] = qkv[(row * 3u + 2u) * width + column];
    }
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = dims.first_group + workgroup.x;
    attend(group / dims.heads, group % dims.heads, lane);
}

@compute @workgroup_size(LANES)
fn token(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = dims.first_group + workgroup.x;
    let width = dims.heads * QUADS;
    if cursor.rows == 0u || cursor.position >= dims.context || head >= dims.heads {
        return;
    }
    for (var quad = lane; quad < QUADS; quad += LANES) {
        let column = head * QUADS + quad;
        keys[cursor.position * width + column] = qkv[width + column];
        values[cursor.position * width + column] = qkv[2u * width + column];
    }
    storageBarrier();
    attend(0u, head, lane);
}

// Every invocation of the workgroup calls this.
fn attend(row: u32, head: u32, lane: u32) {
    let t = cursor.position + row;
    if row >= min(cursor.rows, dims.rows) || t >= dims.context {
        return;
    }
    let width = dims.heads * QUADS;
    let first_column = head * QUADS;
    let own_quad = lane % WIDTH;
    let own_group = lane / WIDTH;
    var q: array<vec4<f32>, QUADS>;
    for (var i = 0u; i < QUADS; i++) {
        q[i] = unpack(qkv[row * 3u * width + first_column + i]) * dims.scale;
    }
    var sum: array<vec4<f32>, OWN>;
    var top = LOWEST;
    var total = 0.0;
    for (var first = 0u; first <= t; first += KEYS) {
        let end = min(KEYS, t + 1u - first);
        var highest = top;
        for (var j = lane; j < end; j += LANES) {
            let at = (first + j) * width + first_column;
            var products = vec4(0.0);
            for (var i = 0u; i < QUADS; i++) {
                products += q[i] * unpack(keys[at + i]);
            }
            let score = dot(products, vec4(1.0));
            weights[j] = score;
            highest = max(highest, score);
        }
        highest = max_lanes(highest, lane);
        let shrink = exp(top - highest);
        top = highest;
        total *= shrink;
        for (var j = lane; j < end; j += LANES) {
            let weight = exp(weights[j] - top);
            total += weight;
            weights[j] = weight;
        }
        workgroupBarrier();
        for (var i = 0u; i < OWN; i++) {
            sum[i] *= shrink;
        }
        // Keys past the end have weight 0 and read the last key. Four per trip: Mesa 22.3's lavapipe ends the loops of an invocation after
        // 65,535 trips in all.
        for (var j = own_group; j < end; j += 4u * GROUPS) {
            let key = min(vec4(first + j) + vec4(0u, 1u, 2u, 3u) * GROUPS, vec4(t));
            let weight = weights_from(j, end);
            for (var i = 0u; i < OWN; i++) {
                let column = first_column + min(own_quad + i * LANES, QUADS - 1u);
                let a = unpack(values[key.x * width + column]);
                let b = unpack(values[key.y * width + column]);
                let c = unpack(values[key.z * width + column]);
                let d = unpack(values[key.w * width + column]);
                sum[i] += weight.x * a + weight.y * b + weight.z * c + weight.w * d;
            }
        }
        workgroupBarrier();
    }
    total = sum_lanes(total, lane);
    for (var i = 0u; i < OWN; i++) {
        workgroupBarrier();
        partial[lane] = sum[i];
        workgroupBarrier();
        var whole = partial[lane];
        for (var group = 1u; group < GROUPS; group++) {
            whole += partial[min(lane + group * WIDTH, LANES - 1u)];
        }
        let quad = own_quad + i * LANES;
        if own_group == 0u && quad < QUADS {
            y[row * width + first_column + quad] = pack(whole / total);
        }
    }
}

// The weights of keys j, j + GROUPS, ... of a block; zeros past its end.
fn weights_from(j: u32, end: u32) -> vec4<f32> {
    let key = vec4(j) + vec4(0u, 1u, 2u, 3u) * GROUPS;
    let at = min(key, vec4(end - 1u));
    return select(vec4(0.0), vec4(weights[at.x], weights[at.y], weights[at.z], weights[at.w]), key < vec4(end));
}
