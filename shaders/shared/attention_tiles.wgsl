// attention.wgsl for GPUs: 64 rows by one workgroup, which meets 32 rows of the other side at a time. Of that block each of the 128
// invocations computes 4 rows by 4, and of the sums 4 rows by a quad of every 8, so that eight reads of workgroup memory feed 64
// multiply-adds of the scores, and two feed 16 of the sums. Heads pass through workgroup memory in chunks, whatever their size.
//
// An invocation is `lane` (0 to 7) of `team` (0 to 15): the team owns rows 4 · team to 4 · team + 3; the lane owns the others lane,
// lane + 8, lane + 16 and lane + 24 of a block, and the quads lane, lane + 8, ... of the sums.

const ROWS_PER_GROUP: u32 = 64u;
const OTHERS: u32 = 32u;
const LANES: u32 = 8u;
const TEAMS: u32 = 16u;
const WORKGROUP: u32 = LANES * TEAMS;

// Quads of a head that pass at once for the scores, and how often that is; the same for the sums, LANES quads at once.
const CHUNK: u32 = min(QUADS, 4u);
const CHUNKS: u32 = (QUADS + CHUNK - 1u) / CHUNK;
const PASSES: u32 = (QUADS + LANES - 1u) / LANES;

// Neighbouring lanes read neighbouring rows here: an odd distance between them keeps them out of each other's banks.
const OTHER_LINE: u32 = CHUNK | 1u;
const WEIGHT_LINE: u32 = TEAMS + 1u;

var<workgroup> own_side: array<vec4<f32>, ROWS_PER_GROUP * 4u>; //               CHUNK quads of each row; or for the sums, LANES of each other
var<workgroup> other_side: array<vec4<f32>, max(OTHERS * OTHER_LINE, WORKGROUP)>; // CHUNK quads of each other; or a quad of each invocation
var<workgroup> weights: array<vec4<f32>, OTHERS * WEIGHT_LINE>; //               of each other, for the four rows of each team

struct Invocation {
    lane: u32,
    team: u32,
    rows: vec4<u32>, // may lie beyond the end
}

alias Block = array<vec4<f32>, 4>; //     four others, each with the team's four rows; or a quad of these four rows
alias Sums = array<Block, PASSES>; //     indexed by loops of PASSES trips, so that compilers unroll them and keep this in registers

fn invocation_of(place: Place, local: u32) -> Invocation {
    let team = local / LANES;
    return Invocation(local % LANES, team, place.first + team * 4u + vec4(0u, 1u, 2u, 3u));
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
        let at = me.team * 4u * CHUNK + i;
        let a = own_side[at];
        let b = own_side[at + CHUNK];
        let c = own_side[at + 2u * CHUNK];
        let d = own_side[at + 3u * CHUNK];
        for (var j = 0u; j < 4u; j++) {
            let other = other_side[(me.lane + LANES * j) * OTHER_LINE + i];
            (*block)[j] += vec4(a.x, b.x, c.x, d.x) * other.x;
            (*block)[j] += vec4(a.y, b.y, c.y, d.y) * other.y;
            (*block)[j] += vec4(a.z, b.z, c.z, d.z) * other.z;
            (*block)[j] += vec4(a.w, b.w, c.w, d.w) * other.w;
        }
    }
}

// Dot products of the workgroup's rows in one part of qkv with a block of rows in another.
fn qkv_products(place: Place, me: Invocation, local: u32, own: u32, other: u32, first: u32) -> Block {
    var block: Block;
    for (var chunk = 0u; chunk < dims.quads; chunk += CHUNK) {
        workgroupBarrier();
        for (var i = local; i < ROWS_PER_GROUP * CHUNK; i += WORKGROUP) {
            own_side[i] = qkv_quad(place, place.first + i / CHUNK, own, chunk + i % CHUNK);
        }
        for (var i = local; i < OTHERS * CHUNK; i += WORKGROUP) {
            other_side[i / CHUNK * OTHER_LINE + i % CHUNK] = qkv_quad(place, first + i / CHUNK, other, chunk + i % CHUNK);
        }
        workgroupBarrier();
        add_products(&block, me, chunk);
    }
    return block;
}

// Dot products of dy and v: of the workgroup's rows of dy with a block of v, or where `by_key` of its rows of v with a block of dy.
fn dy_products(place: Place, me: Invocation, local: u32, by_key: bool, first: u32) -> Block {
    var block: Block;
    for (var chunk = 0u; chunk < dims.quads; chunk += CHUNK) {
        workgroupBarrier();
        for (var i = local; i < ROWS_PER_GROUP * CHUNK; i += WORKGROUP) {
            let row = place.first + i / CHUNK;
            let quad = chunk + i % CHUNK;
            if by_key {
                own_side[i] = qkv_quad(place, row, V, quad);
            } else {
                own_side[i] = dy_quad(place, row, quad);
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

// Hands a block of weights to the whole workgroup; the barrier that makes them seen is in add_qkv and add_dy.
fn share_weights(me: Invocation, block: Block) {
    for (var j = 0u; j < 4u; j++) {
        weights[(me.lane + LANES * j) * WEIGHT_LINE + me.team] = block[j];
    }
}

// Adds the weighted quads in own_side, which are of the others from `first` on; four a trip, an end that compilers cannot unroll to.
fn add_weighted(sums: ptr<function, Sums>, me: Invocation, which: u32, first: u32) {
    let end = min(first + OTHERS, dims.time);
    for (var other = first; other < end; other += 4u) {
        for (var i = 0u; i < 4u; i++) {
            let weight = weights[(other - first + i) * WEIGHT_LINE + me.team];
            let value = own_side[(other - first + i) * LANES + me.lane];
            (*sums)[which][0] += weight.x * value;
            (*sums)[which][1] += weight.y * value;
            (*sums)[which][2] += weight.z * value;
            (*sums)[which][3] += weight.w * value;
        }
    }
}

// Adds a block of rows of one part of qkv, weighted.
fn add_qkv(sums: ptr<function, Sums>, place: Place, me: Invocation, other: u32, first: u32) {
    for (var i = 0u; i < PASSES; i++) {
        workgroupBarrier();
        for (var row = me.team; row < OTHERS; row += TEAMS) {
            own_side[row * LANES + me.lane] = qkv_quad(place, first + row, other, i * LANES + me.lane);
        }
        workgroupBarrier();
        add_weighted(sums, me, i, first);
    }
}

fn add_dy(sums: ptr<function, Sums>, place: Place, me: Invocation, first: u32) {
    for (var i = 0u; i < PASSES; i++) {
        workgroupBarrier();
        for (var row = me.team; row < OTHERS; row += TEAMS) {
            own_side[row * LANES + me.lane] = dy_quad(place, first + row, i * LANES + me.lane);
        }
        workgroupBarrier();
        add_weighted(sums, me, i, first);
    }
}

// Shows every lane of a team what its other lanes have, a quad each: in other_side from LANES · team on.
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

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, local);
    var sums: Sums;
    var top = vec4(LOWEST);
    var total = vec4(0.0); // of this lane's keys alone
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var first = 0u; first < end; first += OTHERS) {
        var block = qkv_products(place, me, local, Q, K, first);
        let keys = others_of(first, me.lane);
        if first + OTHERS > place.first + 1u {
            for (var j = 0u; j < 4u; j++) {
                block[j] = select(vec4(LOWEST), block[j], vec4(keys[j]) <= me.rows);
            }
        }
        var new_top = top;
        for (var j = 0u; j < 4u; j++) {
            block[j] *= dims.scale;
            new_top = max(new_top, block[j]);
        }
        new_top = highest_of_team(me, new_top);
        let shrink = exp(top - new_top);
        top = new_top;
        total *= shrink;
        for (var j = 0u; j < 4u; j++) {
            block[j] = exp(block[j] - top);
            total += block[j];
        }
        if dims.dropout != 0u {
            for (var j = 0u; j < 4u; j++) {
                block[j] *= keep_rows(counter, me.rows, keys[j]);
            }
        }
        share_weights(me, block);
        for (var i = 0u; i < PASSES; i++) {
            sums[i][0] *= shrink.x;
            sums[i][1] *= shrink.y;
            sums[i][2] *= shrink.z;
            sums[i][3] *= shrink.w;
        }
        add_qkv(&sums, place, me, V, first);
    }
    total = sum_of_team(me, total);
    for (var r = 0u; r < 4u; r++) {
        if me.rows[r] >= dims.time {
            continue;
        }
        for (var i = 0u; i < PASSES; i++) {
            let quad = i * LANES + me.lane;
            if quad < QUADS {
                y[output(place, me.rows[r]) + quad] = pack(sums[i][r] / total[r]);
            }
        }
        if me.lane == 0u {
            lse[statistic(place, me.rows[r])] = top[r] + log(total[r]);
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_query(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, local);
    var own_lse: vec4<f32>;
    var own_delta: vec4<f32>;
    for (var r = 0u; r < 4u; r++) {
        let row = min(me.rows[r], dims.time - 1u);
        own_lse[r] = saved[statistic(place, row)];
        let at = output(place, row);
        for (var quad = me.lane; quad < QUADS; quad += LANES) {
            own_delta[r] += dot(unpack(dy[at + quad]), unpack(out[at + quad]));
        }
    }
    own_delta = sum_of_team(me, own_delta);
    var dq: Sums;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var first = 0u; first < end; first += OTHERS) {
        let scores = qkv_products(place, me, local, Q, K, first);
        var dp = dy_products(place, me, local, false, first);
        let keys = others_of(first, me.lane);
        if dims.dropout != 0u {
            for (var j = 0u; j < 4u; j++) {
                dp[j] *= keep_rows(counter, me.rows, keys[j]);
            }
        }
        var ds: Block;
        for (var j = 0u; j < 4u; j++) {
            let p = select(vec4(0.0), exp(scores[j] * dims.scale - own_lse), vec4(keys[j]) <= me.rows);
            ds[j] = p * (dp[j] - own_delta);
        }
        share_weights(me, ds);
        add_qkv(&dq, place, me, K, first);
    }
    for (var r = 0u; r < 4u; r++) {
        if me.rows[r] >= dims.time {
            continue;
        }
        for (var i = 0u; i < PASSES; i++) {
            let quad = i * LANES + me.lane;
            if quad < QUADS {
                dqkv[part(place, me.rows[r], Q) + quad] = pack(dq[i][r] * dims.scale);
            }
        }
        if me.lane == 0u {
            delta[statistic(place, me.rows[r])] = own_delta[r];
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_key_value(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, local);
    var dk: Sums;
    var dv: Sums;
    for (var first = place.first; first < dims.time; first += OTHERS) {
        let scores = qkv_products(place, me, local, K, Q, first);
        var ds = dy_products(place, me, local, true, first);
        let queries = others_of(first, me.lane);
        var kept: Block;
        for (var j = 0u; j < 4u; j++) {
            let at = statistic(place, min(queries[j], dims.time - 1u));
            let seen = (me.rows <= vec4(queries[j])) & vec4(queries[j] < dims.time);
            let p = select(vec4(0.0), exp(scores[j] * dims.scale - saved[at]), seen);
            kept[j] = p;
            if dims.dropout != 0u {
                let factor = keep_columns(counter, queries[j], me.rows);
                kept[j] *= factor;
                ds[j] *= factor;
            }
            ds[j] = p * (ds[j] - delta_in[at]);
        }
        share_weights(me, kept);
        add_dy(&dv, place, me, first);
        workgroupBarrier();
        share_weights(me, ds);
        add_qkv(&dk, place, me, Q, first);
    }
    for (var r = 0u; r < 4u; r++) {
        if me.rows[r] >= dims.time {
            continue;
        }
        for (var i = 0u; i < PASSES; i++) {
            let quad = i * LANES + me.lane;
            if quad < QUADS {
                dqkv[part(place, me.rows[r], K) + quad] = pack(dk[i][r] * dims.scale);
                dqkv[part(place, me.rows[r], V) + quad] = pack(dv[i][r]);
            }
        }
    }
}
