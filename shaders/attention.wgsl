// Causal multi-head scaled dot-product attention by streaming softmax; no (T, T) matrix is ever in memory.
//
//   s = q · k / √D  for keys up to the query         lse = log Σ exp s        p = exp(s − lse)
//   y = Σ keep · p · v                                keep: dropout of the probabilities, 1 without
//
//   dp = keep · (dy · v)        delta = dy · y        ds = p (dp − delta)
//   dq = Σ_keys ds · k / √D     dk = Σ_queries ds · q / √D        dv = Σ_queries keep · p · dy
//
// (Vaswani et al. 2017; the backward by recomputation is Dao et al. 2022, "FlashAttention", appendix B.) With one head this is plain
// self-attention. qkv (B · T, 3C) holds the columns [q | k | v], each split into heads of D, a multiple of 4, so that a quad never crosses
// heads. HEAD_SIZE, which is D, is appended by the host, because it sizes registers.
//
// A workgroup owns ROWS_PER_GROUP rows of one head (queries, or keys in backward_key_value) and iterates over the rows of the other side.
// The variant defines the entry points forward, backward_query and backward_key_value: shared/attention_rows.wgsl gives each invocation a
// row, shared/attention_tiles.wgsl shares both sides through workgroup memory, shared/attention_cooperative.wgsl multiplies them by
// cooperative matrices.

struct Dims {
    first_group: u32,
    time: u32,
    heads: u32,
    scale: f32, //  1 / √D
    dropout: u32, // 1 if probabilities are dropped
    stream: u32, // which dropout of the model
    quads: u32, //  QUADS again, for long loops that compilers must not unroll
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<Quad>; //            (B · T, 3C)
@group(0) @binding(3) var<storage, read_write> y: array<Quad>; //        (B · T, C)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>; //       (B, H, T)
@group(0) @binding(5) var<storage, read> saved: array<f32>; //           (B, H, T), the lse
@group(0) @binding(6) var<storage, read> out: array<Quad>; //            (B · T, C), y
@group(0) @binding(7) var<storage, read> dy: array<Quad>; //             (B · T, C)
@group(0) @binding(8) var<storage, read_write> delta: array<f32>; //     (B, H, T)
@group(0) @binding(9) var<storage, read> delta_in: array<f32>; //        (B, H, T), the delta
@group(0) @binding(10) var<storage, read_write> dqkv: array<Quad>; //    (B · T, 3C)

const QUADS: u32 = HEAD_SIZE / 4u; // of a head
const LOWEST: f32 = -1e30;

// The parts of a row of qkv.
const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;

// Which rows of which head a workgroup computes.
struct Place {
    sample: u32,
    head: u32,
    first: u32, // row; the last ones may lie beyond the end
}

fn place_of(group: u32) -> Place {
    let tiles = (dims.time + ROWS_PER_GROUP - 1u) / ROWS_PER_GROUP;
    let index = dims.first_group + group;
    let pair = index / tiles;
    return Place(pair / dims.heads, pair % dims.heads, index % tiles * ROWS_PER_GROUP);
}

// Where a row's head begins in a part of qkv, in quads.
fn part(place: Place, row: u32, which: u32) -> u32 {
    return (((place.sample * dims.time + row) * 3u + which) * dims.heads + place.head) * QUADS;
}

// Where a row's head begins in y, in quads.
fn output(place: Place, row: u32) -> u32 {
    return ((place.sample * dims.time + row) * dims.heads + place.head) * QUADS;
}

fn statistic(place: Place, row: u32) -> u32 {
    return (place.sample * dims.heads + place.head) * dims.time + row;
}

// The counter of a head's first probability among those of all samples of the step, (B, H, T, T).
fn counter_of(place: Place) -> vec2<u32> {
    let head = advanced(wide_product(step.first_sample + place.sample, dims.heads), place.head);
    return scaled(scaled(head, dims.time), dims.time);
}

fn scaled(counter: vec2<u32>, by: u32) -> vec2<u32> {
    return wide_product(counter.x, by) + vec2(0u, counter.y * by);
}

// The dropout factor of a probability, by the counter of its head; only where dims.dropout is set. T is at most 65,536, so that one word
// counts within a head.
fn keep(counter: vec2<u32>, query: u32, key: u32) -> f32 {
    return keep_factor(advanced(counter, query * dims.time + key), dims.stream, step);
}
