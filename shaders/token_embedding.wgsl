// Embedding and position of the rows that decoding adds to a context, in one pass: row r has position t = cursor.position + r.
//
//   learned       y[r, c] = scale · table[ids[r], c] + positions[t, c]
//   sinusoidal    y[r, c] = scale · table[ids[r], c] + the sinusoid of t in channel c (shared/sine.wgsl)
//
// A table larger than one binding is split by rows; each part writes the rows that it contains, and for an id out of range the first part
// writes the position alone. Elements are accessed in quads of four neighbours; C is a multiple of 4.

struct Dims {
    first_group: u32,
    rows: u32,
    quads: u32, //    of a row: C / 4
    first_id: u32, // id of this part's first row
    ids: u32, //      rows of this part
    all_ids: u32, //  rows of all parts
    context: u32, //  places in a context
    scale: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> cursor: Cursor;
@group(0) @binding(2) var<storage, read> ids: array<u32>; //               (rows)
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>; //       (ids, C)
@group(0) @binding(4) var<storage, read> positions: array<vec4<f32>>; //   (context, C)
@group(0) @binding(5) var<storage, read> frequencies: array<vec2<u32>>; // (C / 2): turns per position · 2⁶⁴, high and low word
@group(0) @binding(6) var<storage, read_write> y: array<Quad>; //          (rows, C)

const WORKGROUP: u32 = 64u;

// What one invocation writes: the quad of a row, its place in the context, and whether this part does.
struct Place {
    writes: bool,
    at: u32, //   in y
    quad: u32, // in a row
    t: u32,
    embedded: vec4<f32>,
}

fn place_of(group: u32, local: u32) -> Place {
    let at = (dims.first_group + group) * WORKGROUP + local;
    let row = min(at / dims.quads, dims.rows - 1u);
    let quad = at % dims.quads;
    let id = ids[row];
    let here = id >= dims.first_id && id - dims.first_id < dims.ids;
    let nowhere = dims.first_id == 0u && id >= dims.all_ids;
    let entry = select(0u, id - dims.first_id, here);
    let embedded = select(vec4(0.0), dims.scale * table[entry * dims.quads + quad], here);
    let t = min(cursor.position + row, dims.context - 1u);
    return Place(at < dims.rows * dims.quads && (here || nowhere), at, quad, t, embedded);
}

@compute @workgroup_size(WORKGROUP)
fn learned(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x, local);
    if place.writes {
        y[place.at] = pack(place.embedded + positions[place.t * dims.quads + place.quad]);
    }
}

@compute @workgroup_size(WORKGROUP)
fn sinusoidal(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x, local);
    if place.writes {
        let low = frequencies[2u * place.quad];
        let high = frequencies[2u * place.quad + 1u];
        let first = vec2(sinusoid(place.t, 0u, low), sinusoid(place.t, 1u, low));
        let second = vec2(sinusoid(place.t, 0u, high), sinusoid(place.t, 1u, high));
        y[place.at] = pack(place.embedded + vec4(first, second));
    }
}
