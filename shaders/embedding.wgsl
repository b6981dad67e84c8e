// Embedding lookup: row ids[r] of the table becomes row r of y.
//
//   forward     y[r, c] = scale · table[ids[r], c]
//   backward    dtable[i, c] += scale · Σ_{r: ids[r] = i} dy[r, c]
//
// The scale is √C with sinusoidal positions (Vaswani et al. 2017, section 3.4), whose amplitude of 1 would dominate tokens, else 1. A table
// larger than one binding is split by rows; each part writes the rows it contains, and the first part writes zeros for ids out of range:
// ids are data and not trusted. The backward needs no atomics: `order` lists the rows sorted by (id, r), and the invocations of a sorted
// index sum the run of equal ids that begins there, in order, so the result has the same bits every time.

struct Dims {
    first_group: u32,
    rows: u32,
    quads: u32, //    C / 4: rows are accessed four columns at a time
    first_id: u32, // id of this part's first row
    ids: u32, //      rows of this part
    all_ids: u32, //  rows of all parts
    scale: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>; //                  (rows)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>; //          (ids, C)
@group(0) @binding(3) var<storage, read_write> y: array<Quad>; //             (rows, C)
@group(0) @binding(4) var<storage, read> order: array<u32>; //                (rows)
@group(0) @binding(5) var<storage, read> dy: array<Quad>; //                  (rows, C)
@group(0) @binding(6) var<storage, read_write> dtable: array<vec4<f32>>; //   (ids, C)

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    let r = i / dims.quads;
    if r >= dims.rows {
        return;
    }
    let id = ids[r];
    if id >= dims.first_id && id - dims.first_id < dims.ids {
        y[i] = pack(dims.scale * table[(id - dims.first_id) * dims.quads + i % dims.quads]);
    } else if dims.first_id == 0u && id >= dims.all_ids {
        y[i] = pack(vec4(0.0));
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    let place = i / dims.quads;
    let q = i % dims.quads;
    if place >= dims.rows {
        return;
    }
    let id = ids[min(order[place], dims.rows - 1u)];
    let here = id >= dims.first_id && id - dims.first_id < dims.ids;
    if !here || !run_begins(place, id) {
        return;
    }
    var sum = vec4(0.0);
    var next = place;
    // Four per trip: Mesa 22.3's lavapipe ends the loops of an invocation after 65,535 trips in all, nested or not.
    while take(next, id, q, &sum) && take(next + 1u, id, q, &sum) && take(next + 2u, id, q, &sum) && take(next + 3u, id, q, &sum) {
        next += 4u;
    }
    dtable[(id - dims.first_id) * dims.quads + q] += dims.scale * sum;
}

// Adds the row at a sorted index if it has this id; false at the end of the run.
fn take(place: u32, id: u32, q: u32, sum: ptr<function, vec4<f32>>) -> bool {
    if place >= dims.rows {
        return false;
    }
    let r = min(order[place], dims.rows - 1u);
    if ids[r] != id {
        return false;
    }
    *sum += unpack(dy[r * dims.quads + q]);
    return true;
}

fn run_begins(place: u32, id: u32) -> bool {
    if place == 0u {
        return true;
    }
    return ids[min(order[place - 1u], dims.rows - 1u)] != id;
}
