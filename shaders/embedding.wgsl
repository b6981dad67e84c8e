// Embedding lookup: row ids[r] of the table becomes row r of y.
//
//   forward     y[r, c] = scale · table[ids[r], c]
//   backward    dtable[i, c] += scale · Σ_{r: ids[r] = i} dy[r, c]
//
// The scale is √C beside sinusoidal positions (Vaswani et al. 2017, section 3.4), whose amplitude of 1 would drown tokens, else 1.
// A table larger than one binding is split by rows; each part writes what it holds, and the first part zeroes rows whose id no table has:
// ids are data and are not trusted. The backward needs no atomics: `order` lists the rows sorted by (id, r), and the workgroup of a
// sorted place sums the run of equal ids that begins there, in order, so the result is the same bits every time.

struct Dims {
    first_group: u32,
    rows: u32,
    cols: u32,
    first_id: u32, // id of this part's first row
    ids: u32, //      rows of this part
    all_ids: u32, //  rows of all parts
    scale: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>; //            (rows)
@group(0) @binding(2) var<storage, read> table: array<f32>; //          (ids, cols)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; //        (rows, cols)
@group(0) @binding(4) var<storage, read> order: array<u32>; //          (rows)
@group(0) @binding(5) var<storage, read> dy: array<f32>; //             (rows, cols)
@group(0) @binding(6) var<storage, read_write> dtable: array<f32>; //   (ids, cols)

const COLS_PER_GROUP: u32 = 64u;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col_tiles = (dims.cols + COLS_PER_GROUP - 1u) / COLS_PER_GROUP;
    let group = dims.first_group + workgroup.x;
    let r = group / col_tiles;
    let c = group % col_tiles * COLS_PER_GROUP + local;
    if c >= dims.cols {
        return;
    }
    let id = ids[r];
    if id >= dims.first_id && id - dims.first_id < dims.ids {
        y[r * dims.cols + c] = dims.scale * table[(id - dims.first_id) * dims.cols + c];
    } else if dims.first_id == 0u && id >= dims.all_ids {
        y[r * dims.cols + c] = 0.0;
    }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col_tiles = (dims.cols + COLS_PER_GROUP - 1u) / COLS_PER_GROUP;
    let group = dims.first_group + workgroup.x;
    let place = group / col_tiles;
    let c = group % col_tiles * COLS_PER_GROUP + local;
    let id = ids[min(order[place], dims.rows - 1u)];
    let here = id >= dims.first_id && id - dims.first_id < dims.ids;
    if c >= dims.cols || !here || !run_begins(place, id) {
        return;
    }
    var sum = 0.0;
    var next = place;
    // Four a trip: Mesa 22.3's lavapipe ends the loops of an invocation after 65,535 trips in all, nested or not.
    while take(next, id, c, &sum) && take(next + 1u, id, c, &sum) && take(next + 2u, id, c, &sum) && take(next + 3u, id, c, &sum) {
        next += 4u;
    }
    dtable[(id - dims.first_id) * dims.cols + c] += dims.scale * sum;
}

// Adds the row at a sorted place if it is one of this id; false where the run has ended.
fn take(place: u32, id: u32, c: u32, sum: ptr<function, f32>) -> bool {
    if place >= dims.rows {
        return false;
    }
    let r = min(order[place], dims.rows - 1u);
    if ids[r] != id {
        return false;
    }
    *sum += dy[r * dims.cols + c];
    return true;
}

fn run_begins(place: u32, id: u32) -> bool {
    if place == 0u {
        return true;
    }
    return ids[min(order[place - 1u], dims.rows - 1u)] != id;
}
