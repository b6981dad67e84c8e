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

// What is kept between blocks must stay in registers. NVIDIA's compiler puts an array in memory as soon as one index to it is no constant,
// and leaves a loop with a barrier or a branch in it rolled: so blocks are indexed by literals only, and passes have names.
alias Block = array<vec4<f32>, 4>; // four others, each with the team's four rows; or a quad of these four rows

// A block of each pass; those from PASSES on are never touched.
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

// Hands a block of weights to the whole workgroup; the barrier that makes them seen is in share_qkv and share_dy.
fn share_weights(me: Invocation, block: Block) {
    let at = me.lane * WEIGHT_LINE + me.team;
    weights[at] = block[0];
    weights[at + LANES * WEIGHT_LINE] = block[1];
    weights[at + 2u * LANES * WEIGHT_LINE] = block[2];
    weights[at + 3u * LANES * WEIGHT_LINE] = block[3];
}

// Puts a pass of a block of rows of one part of qkv into own_side.
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

// Adds the weighted quads in own_side, which are of the others from `first` on; four a trip, an end that compilers cannot unroll to.
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

// Scaled scores of one key, those of queries before it made too low to count.
fn seen_scores(scores: vec4<f32>, key: u32, me: Invocation) -> vec4<f32> {
    return select(vec4(LOWEST), scores, vec4(key) <= me.rows) * dims.scale;
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
        let products = qkv_products(place, me, local, Q, K, first);
        let keys = others_of(first, me.lane);
        let s0 = seen_scores(products[0], keys.x, me);
        let s1 = seen_scores(products[1], keys.y, me);
        let s2 = seen_scores(products[2], keys.z, me);
        let s3 = seen_scores(products[3], keys.w, me);
        let new_top = highest_of_team(me, max(top, max(max(s0, s1), max(s2, s3))));
        let shrink = exp(top - new_top);
        top = new_top;
        var p = Block(exp(s0 - top), exp(s1 - top), exp(s2 - top), exp(s3 - top));
        total = total * shrink + ((p[0] + p[1]) + (p[2] + p[3]));
        if dims.dropout != 0u {
            p[0] *= keep_rows(counter, me.rows, keys.x);
            p[1] *= keep_rows(counter, me.rows, keys.y);
            p[2] *= keep_rows(counter, me.rows, keys.z);
            p[3] *= keep_rows(counter, me.rows, keys.w);
        }
        share_weights(me, p);
        scale_rows(&sums, shrink);
        add_qkv(&sums, place, me, V, first);
    }
    total = sum_of_team(me, total);
    scale_rows(&sums, 1.0 / total);
    let logs = top + log(total);
    store_row(place, me, me.rows.x, Row(sums.a[0], sums.b[0], sums.c[0], sums.d[0]), logs.x);
    store_row(place, me, me.rows.y, Row(sums.a[1], sums.b[1], sums.c[1], sums.d[1]), logs.y);
    store_row(place, me, me.rows.z, Row(sums.a[2], sums.b[2], sums.c[2], sums.d[2]), logs.z);
    store_row(place, me, me.rows.w, Row(sums.a[3], sums.b[3], sums.c[3], sums.d[3]), logs.w);
}

fn store_row(place: Place, me: Invocation, row: u32, values: Row, log_sum: f32) {
    if row >= dims.time {
        return;
    }
    store_y(output(place, row), me.lane, values);
    if me.lane == 0u {
        lse[statistic(place, row)] = log_sum;
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward_query(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, local);
    let own_lse = saved_rows(place, me.rows);
    let own_delta = sum_of_team(me, vec4(
        delta_of(place, me.lane, me.rows.x),
        delta_of(place, me.lane, me.rows.y),
        delta_of(place, me.lane, me.rows.z),
        delta_of(place, me.lane, me.rows.w),
    ));
    var dq: Sums;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var first = 0u; first < end; first += OTHERS) {
        let scores = qkv_products(place, me, local, Q, K, first);
        var dp = dy_products(place, me, local, false, first);
        let keys = others_of(first, me.lane);
        if dims.dropout != 0u {
            dp[0] *= keep_rows(counter, me.rows, keys.x);
            dp[1] *= keep_rows(counter, me.rows, keys.y);
            dp[2] *= keep_rows(counter, me.rows, keys.z);
            dp[3] *= keep_rows(counter, me.rows, keys.w);
        }
        share_weights(me, Block(
            row_probabilities(scores[0], own_lse, keys.x, me) * (dp[0] - own_delta),
            row_probabilities(scores[1], own_lse, keys.y, me) * (dp[1] - own_delta),
            row_probabilities(scores[2], own_lse, keys.z, me) * (dp[2] - own_delta),
            row_probabilities(scores[3], own_lse, keys.w, me) * (dp[3] - own_delta),
        ));
        add_qkv(&dq, place, me, K, first);
    }
    scale_rows(&dq, vec4(dims.scale));
    store_part(&dq, place, me, Q);
    if me.lane == 0u {
        store_delta(place, me.rows.x, own_delta.x);
        store_delta(place, me.rows.y, own_delta.y);
        store_delta(place, me.rows.z, own_delta.z);
        store_delta(place, me.rows.w, own_delta.w);
    }
}

// The probabilities of one key for the team's rows, which are queries.
fn row_probabilities(scores: vec4<f32>, own_lse: vec4<f32>, key: u32, me: Invocation) -> vec4<f32> {
    return select(vec4(0.0), exp(scores * dims.scale - own_lse), vec4(key) <= me.rows);
}

fn store_delta(place: Place, row: u32, value: f32) {
    if row < dims.time {
        delta[statistic(place, row)] = value;
    }
}

// For one query, of the team's rows, which are keys: the kept probabilities, and the gradients of the scores.
struct Column {
    kept: vec4<f32>,
    ds: vec4<f32>,
}

fn column_of(place: Place, counter: vec2<u32>, me: Invocation, query: u32, scores: vec4<f32>, dp: vec4<f32>) -> Column {
    let at = statistic(place, min(query, dims.time - 1u));
    let seen = (me.rows <= vec4(query)) & vec4(query < dims.time);
    let p = select(vec4(0.0), exp(scores * dims.scale - saved[at]), seen);
    var factor = vec4(1.0);
    if dims.dropout != 0u {
        factor = keep_columns(counter, query, me.rows);
    }
    return Column(p * factor, p * (dp * factor - delta_in[at]));
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
        let dp = dy_products(place, me, local, true, first);
        let queries = others_of(first, me.lane);
        let c0 = column_of(place, counter, me, queries.x, scores[0], dp[0]);
        let c1 = column_of(place, counter, me, queries.y, scores[1], dp[1]);
        let c2 = column_of(place, counter, me, queries.z, scores[2], dp[2]);
        let c3 = column_of(place, counter, me, queries.w, scores[3], dp[3]);
        share_weights(me, Block(c0.kept, c1.kept, c2.kept, c3.kept));
        add_dy(&dv, place, me, first);
        workgroupBarrier();
        share_weights(me, Block(c0.ds, c1.ds, c2.ds, c3.ds));
        add_qkv(&dk, place, me, Q, first);
    }
    scale_rows(&dk, vec4(dims.scale));
    store_part(&dk, place, me, K);
    store_part(&dv, place, me, V);
}
