// The blocks of attention_tiles.wgsl, four rows by four `others` (rows of the other side): loading, products, sums, and storing. A file
// appended says which invocation is which (lane_of, team_of), and how lines are padded so that few reads meet a bank twice.
//
// An invocation is `lane` (0 to 7) of `team` (0 to 15): the team owns rows 4 · team to 4 · team + 3; the lane owns the others lane,
// lane + 8, lane + 16 and lane + 24 of a block, and the quads lane, lane + 8, ... of the sums.

const ROWS_PER_GROUP: u32 = 64u;
const OTHERS: u32 = 32u;
const LANES: u32 = 8u;
const TEAMS: u32 = 16u;
const WORKGROUP: u32 = LANES * TEAMS;

// Quads of a head per chunk of the scores, and the number of chunks; PASSES is the same for the sums, in chunks of LANES quads.
const CHUNK: u32 = min(QUADS, 4u);
const CHUNKS: u32 = (QUADS + CHUNK - 1u) / CHUNK;
const PASSES: u32 = (QUADS + LANES - 1u) / LANES;

// Neighbouring lanes read neighbouring rows here: an odd distance between them keeps them out of each other's banks.
const OTHER_LINE: u32 = CHUNK | 1u;

// CHUNK quads per row, in lines of four rows; or for the sums, LANES per `other`.
var<workgroup> own_side: array<vec4<f32>, max(TEAMS * OWN_LINE, OTHERS * LANES)>;
var<workgroup> other_side: array<vec4<f32>, max(OTHERS * OTHER_LINE, WORKGROUP)>; // CHUNK quads per `other`; or one per invocation
var<workgroup> weights: array<vec4<f32>, OTHERS * WEIGHT_LINE>; //               per `other`, for the four rows of each team

struct Invocation {
    lane: u32,
    team: u32,
    rows: vec4<u32>, // may lie beyond the end
}

// State kept between blocks must stay in registers. NVIDIA's compiler moves an array to memory if one index to it is not constant, and does
// not unroll a loop with a barrier or a branch: so all indices of blocks are literals, and passes are named fields.
alias Block = array<vec4<f32>, 4>; // four others, each with the team's four rows; or a quad of these four rows

// One block per pass; those from PASSES on are never accessed.
struct Sums {
    a: Block,
    b: Block,
    c: Block,
    d: Block,
}

// A row of each pass.
struct Row {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn invocation_of(place: Place, local: u32) -> Invocation {
    let team = team_of(local);
    return Invocation(lane_of(local), team, place.first + team * 4u + vec4(0u, 1u, 2u, 3u));
}

// The others of a block that a lane owns.
fn others_of(first: u32, lane: u32) -> vec4<u32> {
    return first + lane + LANES * vec4(0u, 1u, 2u, 3u);
}

// A quad of a row; rows past the end repeat the last one, quads past the head are zeros.
fn qkv_quad(place: Place, row: u32, which: u32, quad: u32) -> vec4<f32> {
    let value = unpack(qkv[part(place, min(row, dims.time - 1u), which) + min(quad, QUADS - 1u)]);
    return select(vec4(0.0), value, quad < QUADS);
}

fn dy_quad(place: Place, row: u32, quad: u32) -> vec4<f32> {
    let value = unpack(dy[output(place, min(row, dims.time - 1u)) + min(quad, QUADS - 1u)]);
    return select(vec4(0.0), value, quad < QUADS);
}

// Adds the products of the chunk in own_side and that in other_side, which begins at quad `chunk` of the heads.
fn add_products(block: ptr<function, Block>, me: Invocation, chunk: u32) {
    let end = min(chunk + CHUNK, dims.quads);
    for (var quad = chunk; quad < end; quad++) {
        let i = quad - chunk;
        let at = me.team * OWN_LINE + i;
        let a = own_side[at];
        let b = own_side[at + CHUNK];
        let c = own_side[at + 2u * CHUNK];
        let d = own_side[at + 3u * CHUNK];
        let rows = transpose(mat4x4(a, b, c, d));
        let other = me.lane * OTHER_LINE + i;
        (*block)[0] = plus_product((*block)[0], rows, other_side[other]);
        (*block)[1] = plus_product((*block)[1], rows, other_side[other + LANES * OTHER_LINE]);
        (*block)[2] = plus_product((*block)[2], rows, other_side[other + 2u * LANES * OTHER_LINE]);
        (*block)[3] = plus_product((*block)[3], rows, other_side[other + 3u * LANES * OTHER_LINE]);
    }
}

fn plus_product(sum: vec4<f32>, rows: mat4x4<f32>, other: vec4<f32>) -> vec4<f32> {
    var result = sum;
    result += rows[0] * other.x;
    result += rows[1] * other.y;
    result += rows[2] * other.z;
    result += rows[3] * other.w;
    return result;
}

// Where quad number i of a chunk of the own rows is.
fn own_place(i: u32) -> u32 {
    return i + i / (4u * CHUNK) * (OWN_LINE - 4u * CHUNK);
}

// Dot products of the workgroup's rows in one part of qkv with a block of rows in another.
fn qkv_products(place: Place, me: Invocation, local: u32, own: u32, other: u32, first: u32) -> Block {
    var block: Block;
    for (var chunk = 0u; chunk < dims.quads; chunk += CHUNK) {
        workgroupBarrier();
        for (var i = local; i < ROWS_PER_GROUP * CHUNK; i += WORKGROUP) {
            own_side[own_place(i)] = qkv_quad(place, place.first + i / CHUNK, own, chunk + i % CHUNK);
        }
        for (var i = local; i < OTHERS * CHUNK; i += WORKGROUP) {
            other_side[i / CHUNK * OTHER_LINE + i % CHUNK] = qkv_quad(place, first + i / CHUNK, other, chunk + i % CHUNK);
        }
        workgroupBarrier();
        add_products(&block, me, chunk);
    }
    return block;
}

// Dot products of dy and v: of the workgroup's rows of dy with a block of v, or if `by_key`, of its rows of v with a block of dy.
fn dy_products(place: Place, me: Invocation, local: u32, by_key: bool, first: u32) -> Block {
    var block: Block;
    for (var chunk = 0u; chunk < dims.quads; chunk += CHUNK) {
        workgroupBarrier();
        for (var i = local; i < ROWS_PER_GROUP * CHUNK; i += WORKGROUP) {
            let row = place.first + i / CHUNK;
            let quad = chunk + i % CHUNK;
            if by_key {
                own_side[own_place(i)] = qkv_quad(place, row, V, quad);
            } else {
                own_side[own_place(i)] = dy_quad(place, row, quad);
            }
        }
        for (var i = local; i < OTHERS * CHUNK; i += WORKGROUP) {
            let row = first + i / CHUNK;
            let quad = chunk + i % CHUNK;
            let at = i / CHUNK * OTHER_LINE + i % CHUNK;
            if by_key {
                other_side[at] = dy_quad(place, row, quad);
            } else {
                other_side[at] = qkv_quad(place, row, V, quad);
            }
        }
        workgroupBarrier();
        add_products(&block, me, chunk);
    }
    return block;
}

// Writes a block of weights for the whole workgroup; the barrier that makes them visible is in share_qkv and share_dy.
fn share_weights(me: Invocation, block: Block) {
    let at = me.lane * WEIGHT_LINE + me.team;
    weights[at] = block[0];
    weights[at + LANES * WEIGHT_LINE] = block[1];
    weights[at + 2u * LANES * WEIGHT_LINE] = block[2];
    weights[at + 3u * LANES * WEIGHT_LINE] = block[3];
}

// Loads a pass of a block of rows of one part of qkv into own_side.
fn share_qkv(place: Place, me: Invocation, other: u32, first: u32, pass_index: u32) {
    workgroupBarrier();
    for (var row = me.team; row < OTHERS; row += TEAMS) {
        own_side[row * LANES + me.lane] = qkv_quad(place, first + row, other, pass_index * LANES + me.lane);
    }
    workgroupBarrier();
}

fn share_dy(place: Place, me: Invocation, first: u32, pass_index: u32) {
    workgroupBarrier();
    for (var row = me.team; row < OTHERS; row += TEAMS) {
        own_side[row * LANES + me.lane] = dy_quad(place, first + row, pass_index * LANES + me.lane);
    }
    workgroupBarrier();
}

// Adds the weighted quads in own_side, of the others from `first` on; four per trip, up to a bound for which compilers cannot unroll.
fn plus_weighted(sum: Block, me: Invocation, first: u32) -> Block {
    var result = sum;
    let end = min(first + OTHERS, dims.time);
    for (var other = first; other < end; other += 4u) {
        for (var i = 0u; i < 4u; i++) {
            let weight = weights[(other - first + i) * WEIGHT_LINE + me.team];
            let value = own_side[(other - first + i) * LANES + me.lane];
            result[0] += weight.x * value;
            result[1] += weight.y * value;
            result[2] += weight.z * value;
            result[3] += weight.w * value;
        }
    }
    return result;
}

// Adds a block of rows of one part of qkv, weighted.
fn add_qkv(sums: ptr<function, Sums>, place: Place, me: Invocation, other: u32, first: u32) {
    share_qkv(place, me, other, first, 0u);
    (*sums).a = plus_weighted((*sums).a, me, first);
    if PASSES > 1u {
        share_qkv(place, me, other, first, 1u);
        (*sums).b = plus_weighted((*sums).b, me, first);
    }
    if PASSES > 2u {
        share_qkv(place, me, other, first, 2u);
        (*sums).c = plus_weighted((*sums).c, me, first);
    }
    if PASSES > 3u {
        share_qkv(place, me, other, first, 3u);
        (*sums).d = plus_weighted((*sums).d, me, first);
    }
}

fn add_dy(sums: ptr<function, Sums>, place: Place, me: Invocation, first: u32) {
    share_dy(place, me, first, 0u);
    (*sums).a = plus_weighted((*sums).a, me, first);
    if PASSES > 1u {
        share_dy(place, me, first, 1u);
        (*sums).b = plus_weighted((*sums).b, me, first);
    }
    if PASSES > 2u {
        share_dy(place, me, first, 2u);
        (*sums).c = plus_weighted((*sums).c, me, first);
    }
    if PASSES > 3u {
        share_dy(place, me, first, 3u);
        (*sums).d = plus_weighted((*sums).d, me, first);
    }
}

// Multiplies the four rows by a factor each.
fn times(block: Block, factor: vec4<f32>) -> Block {
    return Block(block[0] * factor.x, block[1] * factor.y, block[2] * factor.z, block[3] * factor.w);
}

fn scale_rows(sums: ptr<function, Sums>, factor: vec4<f32>) {
    (*sums).a = times((*sums).a, factor);
    if PASSES > 1u {
        (*sums).b = times((*sums).b, factor);
    }
    if PASSES > 2u {
        (*sums).c = times((*sums).c, factor);
    }
    if PASSES > 3u {
        (*sums).d = times((*sums).d, factor);
    }
}

// Exchanges a quad per lane within a team: writes them to other_side from LANES · team on.
fn show(me: Invocation, own: vec4<f32>) {
    workgroupBarrier();
    other_side[me.team * LANES + me.lane] = own;
    workgroupBarrier();
}

fn highest_of_team(me: Invocation, own: vec4<f32>) -> vec4<f32> {
    show(me, own);
    var highest = own;
    for (var i = 0u; i < LANES; i++) {
        highest = max(highest, other_side[me.team * LANES + i]);
    }
    return highest;
}

fn sum_of_team(me: Invocation, own: vec4<f32>) -> vec4<f32> {
    show(me, own);
    var sum = vec4(0.0);
    for (var i = 0u; i < LANES; i++) {
        sum += other_side[me.team * LANES + i];
    }
    return sum;
}

// The dropout factors of a block whose rows are queries.
fn keep_rows(counter: vec2<u32>, rows: vec4<u32>, key: u32) -> vec4<f32> {
    return vec4(keep(counter, rows.x, key), keep(counter, rows.y, key), keep(counter, rows.z, key), keep(counter, rows.w, key));
}

// The same where the rows are keys.
fn keep_columns(counter: vec2<u32>, query: u32, rows: vec4<u32>) -> vec4<f32> {
    return vec4(keep(counter, query, rows.x), keep(counter, query, rows.y), keep(counter, query, rows.z), keep(counter, query, rows.w));
}

// A value of each of the team's rows; rows past the end repeat the last one.
fn saved_rows(place: Place, rows: vec4<u32>) -> vec4<f32> {
    let at = statistic(place, 0u) + min(rows, vec4(dims.time - 1u));
    return vec4(saved[at.x], saved[at.y], saved[at.z], saved[at.w]);
}

// This lane's share of dy · y of a row.
fn delta_of(place: Place, lane: u32, row: u32) -> f32 {
    let at = output(place, min(row, dims.time - 1u));
    var sum = 0.0;
    for (var quad = lane; quad < QUADS; quad += LANES) {
        sum += dot(unpack(dy[at + quad]), unpack(out[at + quad]));
    }
    return sum;
}

// Stores a row of the head, quad by quad, at `at` of y.
fn store_y(at: u32, lane: u32, row: Row) {
    if lane < QUADS {
        y[at + lane] = pack(row.a);
    }
    if LANES + lane < QUADS {
        y[at + LANES + lane] = pack(row.b);
    }
    if 2u * LANES + lane < QUADS {
        y[at + 2u * LANES + lane] = pack(row.c);
    }
    if 3u * LANES + lane < QUADS {
        y[at + 3u * LANES + lane] = pack(row.d);
    }
}

fn store_dqkv(at: u32, lane: u32, row: Row) {
    if lane < QUADS {
        dqkv[at + lane] = pack(row.a);
    }
    if LANES + lane < QUADS {
        dqkv[at + LANES + lane] = pack(row.b);
    }
    if 2u * LANES + lane < QUADS {
        dqkv[at + 2u * LANES + lane] = pack(row.c);
    }
    if 3u * LANES + lane < QUADS {
        dqkv[at + 3u * LANES + lane] = pack(row.d);
    }
}

// Stores the team's four rows in one part of dqkv.
fn store_part(sums: ptr<function, Sums>, place: Place, me: Invocation, which: u32) {
    if me.rows.x < dims.time {
        store_dqkv(part(place, me.rows.x, which), me.lane, Row((*sums).a[0], (*sums).b[0], (*sums).c[0], (*sums).d[0]));
    }
    if me.rows.y < dims.time {
        store_dqkv(part(place, me.rows.y, which), me.lane, Row((*sums).a[1], (*sums).b[1], (*sums).c[1], (*sums).d[1]));
    }
    if me.rows.z < dims.time {
        store_dqkv(part(place, me.rows.z, which), me.lane, Row((*sums).a[2], (*sums).b[2], (*sums).c[2], (*sums).d[2]));
    }
    if me.rows.w < dims.time {
        store_dqkv(part(place, me.rows.w, which), me.lane, Row((*sums).a[3], (*sums).b[3], (*sums).c[3], (*sums).d[3]));
    }
}
