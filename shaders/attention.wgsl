// Causal multi-head scaled dot-product attention by streaming softmax; no (T, T) matrix is ever in memory.
//
//   s = q · k / √D  for keys up to the query         lse = log Σ exp s        p = exp(s − lse)
//   y = Σ keep · p · v                                keep: dropout of the probabilities, 1 without
//
//   dp = keep · (dy · v)        delta = dy · y        ds = p (dp − delta)
//   dq = Σ_keys ds · k / √D     dk = Σ_queries ds · q / √D        dv = Σ_queries keep · p · dy
//
// (Vaswani et al. 2017; the backward by recomputation is Dao et al. 2022, "FlashAttention", appendix B.) With one head this is the
// lesson's plain self-attention. qkv (B · T, 3C) holds the columns [q | k | v], each split into heads of D. HEAD_SIZE, which is D,
// is appended by the host, because it sizes registers. One invocation owns a query (or, in backward_key_value, a key); neighbours own
// neighbours, and all of a workgroup read the same rows of the other side at the same time. How they do is the variant's business
// (shared/rows_*.wgsl): it defines
//
//   ROWS_PER_GROUP, KEYS            queries of a workgroup, and keys whose scores are scaled together
//   Row                             a row that the whole workgroup reads, or where it is
//   qkv_row(at, lane), dy_row(at, lane), qkv_at(row, quad), dy_at(row, quad)

struct Dims {
    first_group: u32,
    time: u32,
    heads: u32,
    scale: f32, //  1 / √D
    dropout: u32, // 1 if probabilities are dropped
    stream: u32, // which dropout of the model
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>; //             (B · T, 3C)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; //         (B · T, C)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>; //       (B, H, T)
@group(0) @binding(5) var<storage, read> saved: array<f32>; //           (B, H, T), the lse
@group(0) @binding(6) var<storage, read> out: array<f32>; //             (B · T, C), y
@group(0) @binding(7) var<storage, read> dy: array<f32>; //              (B · T, C)
@group(0) @binding(8) var<storage, read_write> delta: array<f32>; //     (B, H, T)
@group(0) @binding(9) var<storage, read> delta_in: array<f32>; //        (B, H, T), the delta
@group(0) @binding(10) var<storage, read_write> dqkv: array<f32>; //     (B · T, 3C)

const QUADS: u32 = (HEAD_SIZE + 7u) / 8u * 2u; // a head padded with zeros to pairs of vec4
const LOWEST: f32 = -1e30;

alias Vector = array<vec4<f32>, QUADS>;

// Which rows of which head a workgroup computes.
struct Place {
    sample: u32,
    head: u32,
    row: u32, //   of this invocation; may lie beyond the end
    first: u32, // of the workgroup
    model: u32, // C
}

fn place_of(group: u32, local: u32) -> Place {
    let tiles = (dims.time + ROWS_PER_GROUP - 1u) / ROWS_PER_GROUP;
    let index = dims.first_group + group;
    let pair = index / tiles;
    let first = index % tiles * ROWS_PER_GROUP;
    return Place(pair / dims.heads, pair % dims.heads, first + local, first, dims.heads * HEAD_SIZE);
}

// Where a row's part of q (0), k (1) or v (2) begins in qkv.
fn part(place: Place, row: u32, which: u32) -> u32 {
    return (place.sample * dims.time + row) * 3u * place.model + which * place.model + place.head * HEAD_SIZE;
}

// Where a row's head begins in y.
fn output(place: Place, row: u32) -> u32 {
    return (place.sample * dims.time + row) * place.model + place.head * HEAD_SIZE;
}

fn statistic(place: Place, row: u32) -> u32 {
    return (place.sample * dims.heads + place.head) * dims.time + row;
}

// Four elements of a head, zeros beyond its end; the first condition is a constant.
fn qkv_quad(at: u32, quad: u32) -> vec4<f32> {
    let i = quad * 4u;
    if HEAD_SIZE % 8u == 0u {
        return vec4(qkv[at + i], qkv[at + i + 1u], qkv[at + i + 2u], qkv[at + i + 3u]);
    }
    let d = vec4(i, i + 1u, i + 2u, i + 3u);
    let place = at + min(d, vec4(HEAD_SIZE - 1u));
    return select(vec4(0.0), vec4(qkv[place.x], qkv[place.y], qkv[place.z], qkv[place.w]), d < vec4(HEAD_SIZE));
}

fn dy_quad(at: u32, quad: u32) -> vec4<f32> {
    let i = quad * 4u;
    if HEAD_SIZE % 8u == 0u {
        return vec4(dy[at + i], dy[at + i + 1u], dy[at + i + 2u], dy[at + i + 3u]);
    }
    let d = vec4(i, i + 1u, i + 2u, i + 3u);
    let place = at + min(d, vec4(HEAD_SIZE - 1u));
    return select(vec4(0.0), vec4(dy[place.x], dy[place.y], dy[place.z], dy[place.w]), d < vec4(HEAD_SIZE));
}

fn keep(place: Place, query: u32, key: u32) -> f32 {
    if dims.dropout == 0u {
        return 1.0;
    }
    let sample = step.first_sample + place.sample;
    return keep_factor(((sample * dims.heads + place.head) * dims.time + query) * dims.time + key, dims.stream, step);
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x, local);
    let row = min(place.row, dims.time - 1u);
    let own = part(place, row, 0u);
    var q: Vector;
    for (var i = 0u; i < QUADS; i++) {
        q[i] = qkv_quad(own, i) * dims.scale;
    }
    var sum: Vector;
    var top = LOWEST;
    var total = 0.0;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var first = 0u; first < end; first += KEYS) {
        var scores: array<f32, KEYS>;
        var new_top = top;
        for (var j = 0u; j < KEYS; j++) {
            let key = min(first + j, dims.time - 1u);
            let k = qkv_row(part(place, key, 1u), local);
            var products = vec4(0.0);
            for (var i = 0u; i < QUADS; i++) {
                products += q[i] * qkv_at(k, i);
            }
            scores[j] = select(LOWEST, dot(products, vec4(1.0)), first + j <= row);
            new_top = max(new_top, scores[j]);
        }
        let shrink = exp(top - new_top);
        top = new_top;
        total *= shrink;
        for (var i = 0u; i < QUADS; i++) {
            sum[i] *= shrink;
        }
        for (var j = 0u; j < KEYS; j++) {
            let key = min(first + j, dims.time - 1u);
            let p = exp(scores[j] - top);
            total += p;
            let kept = p * keep(place, row, key);
            let v = qkv_row(part(place, key, 2u), local);
            for (var i = 0u; i < QUADS; i++) {
                sum[i] += kept * qkv_at(v, i);
            }
        }
    }
    if place.row >= dims.time {
        return;
    }
    let at = output(place, row);
    for (var d = 0u; d < HEAD_SIZE; d++) {
        y[at + d] = sum[d / 4u][d % 4u] / total;
    }
    lse[statistic(place, row)] = top + log(total);
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn backward_query(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x, local);
    let row = min(place.row, dims.time - 1u);
    let own = part(place, row, 0u);
    let own_y = output(place, row);
    var q: Vector;
    var dout: Vector;
    for (var i = 0u; i < QUADS; i++) {
        q[i] = qkv_quad(own, i) * dims.scale;
        dout[i] = dy_quad(own_y, i);
    }
    var own_delta = 0.0;
    for (var d = 0u; d < HEAD_SIZE; d++) {
        own_delta += dy[own_y + d] * out[own_y + d];
    }
    let own_lse = saved[statistic(place, row)];
    var dq: Vector;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var key = 0u; key < end; key++) {
        let k = qkv_row(part(place, key, 1u), local);
        let v = qkv_row(part(place, key, 2u), local);
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            score += q[i] * qkv_at(k, i);
            dp += dout[i] * qkv_at(v, i);
        }
        let p = select(0.0, exp(dot(score, vec4(1.0)) - own_lse), key <= row);
        let ds = p * (dot(dp, vec4(1.0)) * keep(place, row, key) - own_delta);
        for (var i = 0u; i < QUADS; i++) {
            dq[i] += ds * qkv_at(k, i);
        }
    }
    if place.row >= dims.time {
        return;
    }
    for (var d = 0u; d < HEAD_SIZE; d++) {
        dqkv[own + d] = dq[d / 4u][d % 4u] * dims.scale;
    }
    delta[statistic(place, row)] = own_delta;
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn backward_key_value(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x, local);
    let row = min(place.row, dims.time - 1u);
    let own_k = part(place, row, 1u);
    let own_v = part(place, row, 2u);
    var k: Vector;
    var v: Vector;
    for (var i = 0u; i < QUADS; i++) {
        k[i] = qkv_quad(own_k, i) * dims.scale;
        v[i] = qkv_quad(own_v, i);
    }
    var dk: Vector;
    var dv: Vector;
    for (var query = place.first; query < dims.time; query++) {
        let q = qkv_row(part(place, query, 0u), local);
        let dout = dy_row(output(place, query), local);
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            score += k[i] * qkv_at(q, i);
            dp += v[i] * dy_at(dout, i);
        }
        let at = statistic(place, query);
        let p = select(0.0, exp(dot(score, vec4(1.0)) - saved[at]), row <= query);
        let kept = keep(place, query, row);
        let ds = p * (dot(dp, vec4(1.0)) * kept - delta_in[at]);
        for (var i = 0u; i < QUADS; i++) {
            dk[i] += ds * qkv_at(q, i);
            dv[i] += p * kept * dy_at(dout, i);
        }
    }
    if place.row >= dims.time {
        return;
    }
    for (var d = 0u; d < HEAD_SIZE; d++) {
        dqkv[own_k + d] = dk[d / 4u][d % 4u] * dims.scale;
        dqkv[own_v + d] = dv[d / 4u][d % 4u];
    }
}
