// The matrices of attention_cooperative.wgsl, and their ways through workgroup memory. shared/matrices_16.wgsl and matrices_8.wgsl define
// MAT, SUBGROUP and the types of the matrices.
//
// Each of four subgroups owns MAT rows, and its `own` matrices of q, k, v or dy stay in registers. A block of OTHERS rows of the other side
// lies in `others`, twice: for instance its keys, and from SECOND_OTHERS on its values. `multiply_others` puts a subgroup's products of its
// rows with such a block into `slab`, where each row is read by ROW_LANES lanes; these put factors into `weights`, by which `add_others` adds
// up the rows of a block. Only a workgroup barrier can separate these steps: WGSL has none for a subgroup.

enable f16;
enable wgpu_cooperative_matrix;

const SUBGROUPS: u32 = 4u;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS_PER_GROUP: u32 = SUBGROUPS * MAT;

const OTHER_MATS: u32 = 2u;
const OTHERS: u32 = OTHER_MATS * MAT;
const OTHER_QUADS: u32 = OTHERS / 4u;

// A head is padded with zeros to whole passes, of one chunk of OTHERS columns or of two: as much as both halves of `slab` hold. There are
// one, two or four passes, so that WORKGROUP is a multiple of HEAD_QUADS.
const CHUNKS: u32 = select(2u, 1u, HEAD_SIZE <= OTHERS); // of a pass
const FILLED: u32 = (HEAD_SIZE + CHUNKS * OTHERS - 1u) / (CHUNKS * OTHERS);
const PASSES: u32 = select(FILLED, 4u, FILLED == 3u);
const PASS_MATS: u32 = CHUNKS * OTHER_MATS;
const HEAD_MATS: u32 = PASSES * PASS_MATS;
const HEAD_QUADS: u32 = PASSES * CHUNKS * OTHER_QUADS;

// Quads from one line to the next, padded against bank conflicts.
const OTHER_LINE: u32 = HEAD_QUADS + 2u;
const WEIGHT_LINE: u32 = OTHER_QUADS + 2u;
const SLAB_LINE: u32 = OTHER_QUADS + 2u;

var<workgroup> others: array<Quad, 2u * OTHERS * OTHER_LINE>;
var<workgroup> weights: array<Quad, 2u * ROWS_PER_GROUP * WEIGHT_LINE>;
var<workgroup> slab: array<vec4<f32>, 2u * ROWS_PER_GROUP * SLAB_LINE>;
const SECOND_OTHERS: u32 = OTHERS * OTHER_LINE;
const SECOND_WEIGHTS: u32 = ROWS_PER_GROUP * WEIGHT_LINE;
const SECOND_SLAB: u32 = ROWS_PER_GROUP * SLAB_LINE;

// The lanes of a row in `slab` and `weights`, and the quads of each.
const ROW_LANES: u32 = SUBGROUP / MAT;
const LANE_QUADS: u32 = OTHER_QUADS / ROW_LANES;

const FETCHES: u32 = OTHERS * HEAD_QUADS / WORKGROUP;

// As in attention_blocks.wgsl, arrays must stay in registers: every index must be a constant once loops are unrolled, which NVIDIA's compiler
// does not do where a loop has a barrier or a branch. So passes are calls with literals, and branches enclose loops.

alias Own = array<Left, HEAD_MATS>;
alias Sums = array<Product, HEAD_MATS>;
alias Fetched = array<Quad, FETCHES>;
alias Scores = array<vec4<f32>, LANE_QUADS>; // a lane's share of a row of scores

const FOUR: vec4<u32> = vec4(0u, 1u, 2u, 3u);

struct Invocation {
    thread: u32,
    lane: u32, //     of its row
    local_row: u32, // within the workgroup
    row: u32, //      may lie beyond the end
    base: u32, //     the subgroup's first row within the workgroup
}

fn invocation_of(place: Place, thread: u32) -> Invocation {
    let local_row = thread / ROW_LANES;
    return Invocation(thread, thread % ROW_LANES, local_row, place.first + local_row, thread / SUBGROUP * MAT);
}

// The i-th quad of a lane within a line of `slab` and `weights`.
fn lane_quad(me: Invocation, i: u32) -> u32 {
    return me.lane + i * ROW_LANES;
}

fn slab_quad(me: Invocation, start: u32, i: u32) -> vec4<f32> {
    return slab[start + me.local_row * SLAB_LINE + lane_quad(me, i)];
}

fn slab_row(me: Invocation, start: u32) -> Scores {
    var row: Scores;
    for (var i = 0u; i < LANE_QUADS; i++) {
        row[i] = slab_quad(me, start, i);
    }
    return row;
}

fn share_weights(me: Invocation, start: u32, i: u32, values: vec4<f32>) {
    weights[start + me.local_row * WEIGHT_LINE + lane_quad(me, i)] = pack(values);
}

// A quad of a row; rows past the end repeat the last one, quads past the head are zeros.
fn qkv_quad(place: Place, row: u32, which: u32, quad: u32) -> Quad {
    let value = qkv[part(place, min(row, dims.time - 1u), which) + min(quad, QUADS - 1u)];
    return select(Quad(), value, quad < QUADS);
}

fn dy_quad(place: Place, row: u32, quad: u32) -> Quad {
    let value = dy[output(place, min(row, dims.time - 1u)) + min(quad, QUADS - 1u)];
    return select(Quad(), value, quad < QUADS);
}

fn fetched_row(me: Invocation, i: u32) -> u32 {
    return me.thread / HEAD_QUADS + i * (WORKGROUP / HEAD_QUADS);
}

// Fetches the invocation's share of a block of rows, one quad of every FETCHES-th row, which `stage` puts into `others`.
fn fetch_qkv(place: Place, me: Invocation, which: u32, first: u32) -> Fetched {
    var fetched: Fetched;
    for (var i = 0u; i < FETCHES; i++) {
        fetched[i] = qkv_quad(place, first + fetched_row(me, i), which, me.thread % HEAD_QUADS);
    }
    return fetched;
}

fn fetch_dy(place: Place, me: Invocation, first: u32) -> Fetched {
    var fetched: Fetched;
    for (var i = 0u; i < FETCHES; i++) {
        fetched[i] = dy_quad(place, first + fetched_row(me, i), me.thread % HEAD_QUADS);
    }
    return fetched;
}

fn stage(me: Invocation, start: u32, fetched: Fetched) {
    for (var i = 0u; i < FETCHES; i++) {
        others[start + fetched_row(me, i) * OTHER_LINE + me.thread % HEAD_QUADS] = fetched[i];
    }
}

// The subgroup's rows in one part of qkv. All rows of the workgroup pass through `others`, which holds just as many.
fn own_qkv(place: Place, me: Invocation, which: u32) -> Own {
    workgroupBarrier();
    stage(me, 0u, fetch_qkv(place, me, which, place.first));
    stage(me, SECOND_OTHERS, fetch_qkv(place, me, which, place.first + OTHERS));
    return own_staged(me);
}

fn own_dy(place: Place, me: Invocation) -> Own {
    workgroupBarrier();
    stage(me, 0u, fetch_dy(place, me, place.first));
    stage(me, SECOND_OTHERS, fetch_dy(place, me, place.first + OTHERS));
    return own_staged(me);
}

fn own_staged(me: Invocation) -> Own {
    var own: Own;
    workgroupBarrier();
    for (var h = 0u; h < HEAD_MATS; h++) {
        own[h] = coopLoadT<Left>(&others[me.base * OTHER_LINE + h * MAT / 4u], OTHER_LINE);
    }
    workgroupBarrier();
    return own;
}

// slab = own · othersᵀ: the dot products of the subgroup's rows with those of a block.
fn multiply_others(own: ptr<function, Own>, me: Invocation, start: u32, slab_start: u32) {
    for (var m = 0u; m < OTHER_MATS; m++) {
        var product: Product;
        for (var h = 0u; h < HEAD_MATS; h++) {
            let right = coopLoad<Right>(&others[start + m * MAT * OTHER_LINE + h * MAT / 4u], OTHER_LINE);
            product = coopMultiplyAdd((*own)[h], right, product);
        }
        coopStoreT(product, &slab[slab_start + me.base * SLAB_LINE + m * MAT / 4u], SLAB_LINE);
    }
}

// sums += weights · others: adds a block of rows, weighted.
fn add_others(sums: ptr<function, Sums>, me: Invocation, weights_start: u32, start: u32) {
    for (var m = 0u; m < OTHER_MATS; m++) {
        let left = coopLoadT<Left>(&weights[weights_start + me.base * WEIGHT_LINE + m * MAT / 4u], WEIGHT_LINE);
        for (var h = 0u; h < HEAD_MATS; h++) {
            let right = coopLoadT<Right>(&others[start + m * MAT * OTHER_LINE + h * MAT / 4u], OTHER_LINE);
            (*sums)[h] = coopMultiplyAdd(left, right, (*sums)[h]);
        }
    }
}

// Puts a pass of the subgroup's sums into both halves of `slab`.
fn show_sums(sums: ptr<function, Sums>, me: Invocation, pass_index: u32) {
    workgroupBarrier();
    for (var m = 0u; m < PASS_MATS; m++) {
        coopStoreT((*sums)[pass_index * PASS_MATS + m], &slab[slab_of(me, m)], SLAB_LINE);
    }
    workgroupBarrier();
}

// The i-th of a lane's quads of a pass, and which quad of the head it is.
fn shown_quad(me: Invocation, i: u32) -> vec4<f32> {
    return slab_quad(me, i / LANE_QUADS * SECOND_SLAB, i % LANE_QUADS);
}

fn head_quad(me: Invocation, pass_index: u32, i: u32) -> u32 {
    return (pass_index * CHUNKS + i / LANE_QUADS) * OTHER_QUADS + lane_quad(me, i % LANE_QUADS);
}

// Where a pass's m-th matrix begins.
fn slab_of(me: Invocation, m: u32) -> u32 {
    return m / OTHER_MATS * SECOND_SLAB + me.base * SLAB_LINE + m % OTHER_MATS * MAT / 4u;
}

// Multiplies each row of the sums by its lanes' factor.
fn scale_rows(sums: ptr<function, Sums>, me: Invocation, factor: f32) {
    scale_pass(sums, me, factor, 0u);
    if PASSES > 1u {
        scale_pass(sums, me, factor, 1u);
    }
    if PASSES > 2u {
        scale_pass(sums, me, factor, 2u);
    }
    if PASSES > 3u {
        scale_pass(sums, me, factor, 3u);
    }
}

fn scale_pass(sums: ptr<function, Sums>, me: Invocation, factor: f32, pass_index: u32) {
    show_sums(sums, me, pass_index);
    for (var i = 0u; i < CHUNKS * LANE_QUADS; i++) {
        slab[i / LANE_QUADS * SECOND_SLAB + me.local_row * SLAB_LINE + lane_quad(me, i % LANE_QUADS)] *= factor;
    }
    workgroupBarrier();
    for (var m = 0u; m < PASS_MATS; m++) {
        (*sums)[pass_index * PASS_MATS + m] = coopLoadT<Product>(&slab[slab_of(me, m)], SLAB_LINE);
    }
}

// A number of each lane, for the lanes of its row.
var<workgroup> shown: array<f32, WORKGROUP>;

fn highest_of_row(me: Invocation, own: f32) -> f32 {
    workgroupBarrier();
    shown[me.thread] = own;
    workgroupBarrier();
    var highest = own;
    for (var lane = 0u; lane < ROW_LANES; lane++) {
        highest = max(highest, shown[me.local_row * ROW_LANES + lane]);
    }
    return highest;
}

fn sum_of_row(me: Invocation, own: f32) -> f32 {
    workgroupBarrier();
    shown[me.thread] = own;
    workgroupBarrier();
    var sum = 0.0;
    for (var lane = 0u; lane < ROW_LANES; lane++) {
        sum += shown[me.local_row * ROW_LANES + lane];
    }
    return sum;
}
