// attention.wgsl by cooperative matrices (features SHADER_F16 and EXPERIMENTAL_COOPERATIVE_MATRIX), for activations stored as f16: a
// subgroup multiplies matrices of f16 in an instruction and sums in f32. Four subgroups own MAT rows each, and all of them iterate over the
// same blocks of OTHERS rows of the other side. How these pass through workgroup memory is in attention_matrices.wgsl.
//
// Probabilities and ds are rounded to f16 before they are multiplied; statistics and sums are not.

// Probabilities are divided by e^top, where top is the row's maximum at some earlier block. Sums in matrices can be scaled only through
// memory, so top is replaced only when a row of the workgroup has a score above top + SLACK. e^8 = 2,981 is well within f16.
const SLACK: f32 = 8.0;

// 1 if a row has such a score. Not initialized: every row sees a key of the first block, which is above LOWEST, so that block writes it.
var<workgroup> grown: u32;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, thread);
    var own = own_qkv(place, me, Q);
    var sums: Sums;
    var top = LOWEST;
    var total = 0.0; // of this lane's keys alone
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    var keys = fetch_qkv(place, me, K, 0u);
    var values = fetch_qkv(place, me, V, 0u);
    for (var first = 0u; first < end; first += OTHERS) {
        stage(me, 0u, keys);
        stage(me, SECOND_OTHERS, values);
        workgroupBarrier();
        if first + OTHERS < end {
            keys = fetch_qkv(place, me, K, first + OTHERS);
            values = fetch_qkv(place, me, V, first + OTHERS);
        }
        multiply_others(&own, me, 0u, 0u);
        workgroupBarrier();
        var scores = slab_row(me, 0u);
        mask(me, first, &scores);
        let highest = highest_of(&scores);
        var sum = 0.0;
        if highest > top + SLACK {
            grown = 1u;
        } else {
            sum = share_probabilities(me, counter, first, &scores, top);
        }
        if workgroupUniformLoad(&grown) == 1u {
            let new_top = highest_of_row(me, max(top, highest));
            let shrink = exp(top - new_top);
            top = new_top;
            total *= shrink;
            scale_rows(&sums, me, shrink);
            sum = share_probabilities(me, counter, first, &scores, top);
            grown = 0u;
            workgroupBarrier();
        }
        total += sum;
        add_others(&sums, me, 0u, SECOND_OTHERS);
        workgroupBarrier();
    }
    total = sum_of_row(me, total);
    store_y_pass(&sums, place, me, total, 0u);
    if PASSES > 1u {
        store_y_pass(&sums, place, me, total, 1u);
    }
    if PASSES > 2u {
        store_y_pass(&sums, place, me, total, 2u);
    }
    if PASSES > 3u {
        store_y_pass(&sums, place, me, total, 3u);
    }
    if me.row < dims.time && me.lane == 0u {
        lse[statistic(place, me.row)] = top + log(total);
    }
}

fn store_y_pass(sums: ptr<function, Sums>, place: Place, me: Invocation, total: f32, pass_index: u32) {
    show_sums(sums, me, pass_index);
    for (var i = 0u; i < CHUNKS * LANE_QUADS; i++) {
        let quad = head_quad(me, pass_index, i);
        if me.row < dims.time && quad < QUADS {
            y[output(place, me.row) + quad] = pack(shown_quad(me, i) / total);
        }
    }
}

// The first of the four others of a lane's quad.
fn first_other(me: Invocation, first: u32, i: u32) -> u32 {
    return first + lane_quad(me, i) * 4u;
}

// Scales the scores of a block of keys, and makes those of keys after the row's query too low to count.
fn mask(me: Invocation, first: u32, scores: ptr<function, Scores>) {
    for (var i = 0u; i < LANE_QUADS; i++) {
        let seen = first_other(me, first, i) + FOUR <= vec4(me.row);
        (*scores)[i] = select(vec4(LOWEST), (*scores)[i], seen) * dims.scale;
    }
}

fn highest_of(scores: ptr<function, Scores>) -> f32 {
    var highest = (*scores)[0];
    for (var i = 1u; i < LANE_QUADS; i++) {
        highest = max(highest, (*scores)[i]);
    }
    return max(max(highest.x, highest.y), max(highest.z, highest.w));
}

// Writes the kept probabilities, relative to e^top, for the subgroup's next product, and returns their sum before dropout.
fn share_probabilities(me: Invocation, counter: vec2<u32>, first: u32, scores: ptr<function, Scores>, top: f32) -> f32 {
    var sum = vec4(0.0);
    var p: Scores;
    for (var i = 0u; i < LANE_QUADS; i++) {
        p[i] = exp((*scores)[i] - top);
        sum += p[i];
    }
    if dims.dropout != 0u {
        for (var i = 0u; i < LANE_QUADS; i++) {
            p[i] *= keep_keys(counter, me.row, first_other(me, first, i) + FOUR);
        }
    }
    for (var i = 0u; i < LANE_QUADS; i++) {
        share_weights(me, 0u, i, p[i]);
    }
    return dot(sum, vec4(1.0));
}

@compute @workgroup_size(WORKGROUP)
fn backward_query(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, thread);
    var own = own_qkv(place, me, Q);
    var own_dy = own_dy(place, me);
    let own_lse = saved[statistic(place, min(me.row, dims.time - 1u))];
    let own_delta = sum_of_row(me, delta_of(place, me));
    var dq: Sums;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    var keys = fetch_qkv(place, me, K, 0u);
    var values = fetch_qkv(place, me, V, 0u);
    for (var first = 0u; first < end; first += OTHERS) {
        stage(me, 0u, keys);
        stage(me, SECOND_OTHERS, values);
        workgroupBarrier();
        if first + OTHERS < end {
            keys = fetch_qkv(place, me, K, first + OTHERS);
            values = fetch_qkv(place, me, V, first + OTHERS);
        }
        multiply_others(&own, me, 0u, 0u);
        multiply_others(&own_dy, me, SECOND_OTHERS, SECOND_SLAB);
        workgroupBarrier();
        for (var i = 0u; i < LANE_QUADS; i++) {
            let keys = first_other(me, first, i) + FOUR;
            let p = select(vec4(0.0), exp(slab_quad(me, 0u, i) * dims.scale - own_lse), keys <= vec4(me.row));
            var dp = slab_quad(me, SECOND_SLAB, i);
            if dims.dropout != 0u {
                dp *= keep_keys(counter, me.row, keys);
            }
            share_weights(me, 0u, i, p * (dp - own_delta));
        }
        workgroupBarrier();
        add_others(&dq, me, 0u, 0u);
        workgroupBarrier();
    }
    store_part(&dq, place, me, Q, dims.scale);
    if me.row < dims.time && me.lane == 0u {
        delta[statistic(place, me.row)] = own_delta;
    }
}

// This lane's share of dy · y of its row.
fn delta_of(place: Place, me: Invocation) -> f32 {
    let at = output(place, min(me.row, dims.time - 1u));
    var sum = 0.0;
    for (var quad = me.lane; quad < QUADS; quad += ROW_LANES) {
        sum += dot(unpack(dy[at + quad]), unpack(out[at + quad]));
    }
    return sum;
}

// Of a block of queries.
var<workgroup> other_lse: array<vec4<f32>, OTHER_QUADS>;
var<workgroup> other_delta: array<vec4<f32>, OTHER_QUADS>;

@compute @workgroup_size(WORKGROUP)
fn backward_key_value(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let me = invocation_of(place, thread);
    var own_keys = own_qkv(place, me, K);
    var own_values = own_qkv(place, me, V);
    var dk: Sums;
    var dv: Sums;
    var queries = fetch_qkv(place, me, Q, place.first);
    var dys = fetch_dy(place, me, place.first);
    for (var first = place.first; first < dims.time; first += OTHERS) {
        // Large heads leave no registers for the next block.
        if PASSES > 1u {
            stage(me, 0u, fetch_qkv(place, me, Q, first));
            stage(me, SECOND_OTHERS, fetch_dy(place, me, first));
        } else {
            stage(me, 0u, queries);
            stage(me, SECOND_OTHERS, dys);
        }
        if thread < OTHERS {
            let at = statistic(place, min(first + thread, dims.time - 1u));
            other_lse[thread / 4u][thread % 4u] = saved[at];
            other_delta[thread / 4u][thread % 4u] = delta_in[at];
        }
        workgroupBarrier();
        if PASSES == 1u && first + OTHERS < dims.time {
            queries = fetch_qkv(place, me, Q, first + OTHERS);
            dys = fetch_dy(place, me, first + OTHERS);
        }
        multiply_others(&own_keys, me, 0u, 0u);
        multiply_others(&own_values, me, SECOND_OTHERS, SECOND_SLAB);
        workgroupBarrier();
        for (var i = 0u; i < LANE_QUADS; i++) {
            let queries = first_other(me, first, i) + FOUR;
            let seen = (vec4(me.row) <= queries) & (queries < vec4(dims.time));
            let p = select(vec4(0.0), exp(slab_quad(me, 0u, i) * dims.scale - other_lse[lane_quad(me, i)]), seen);
            var factor = vec4(1.0);
            if dims.dropout != 0u {
                factor = keep_queries(counter, queries, me.row);
            }
            share_weights(me, 0u, i, p * factor);
            share_weights(me, SECOND_WEIGHTS, i, p * (slab_quad(me, SECOND_SLAB, i) * factor - other_delta[lane_quad(me, i)]));
        }
        workgroupBarrier();
        add_others(&dv, me, 0u, SECOND_OTHERS);
        add_others(&dk, me, SECOND_WEIGHTS, 0u);
        workgroupBarrier();
    }
    store_part(&dk, place, me, K, dims.scale);
    store_part(&dv, place, me, V, 1.0);
}

fn keep_keys(counter: vec2<u32>, query: u32, keys: vec4<u32>) -> vec4<f32> {
    return vec4(keep(counter, query, keys.x), keep(counter, query, keys.y), keep(counter, query, keys.z), keep(counter, query, keys.w));
}

fn keep_queries(counter: vec2<u32>, queries: vec4<u32>, key: u32) -> vec4<f32> {
    return vec4(keep(counter, queries.x, key), keep(counter, queries.y, key), keep(counter, queries.z, key), keep(counter, queries.w, key));
}

// Stores the subgroup's rows, times a factor, in one part of dqkv.
fn store_part(sums: ptr<function, Sums>, place: Place, me: Invocation, which: u32, factor: f32) {
    store_pass(sums, place, me, which, factor, 0u);
    if PASSES > 1u {
        store_pass(sums, place, me, which, factor, 1u);
    }
    if PASSES > 2u {
        store_pass(sums, place, me, which, factor, 2u);
    }
    if PASSES > 3u {
        store_pass(sums, place, me, which, factor, 3u);
    }
}

fn store_pass(sums: ptr<function, Sums>, place: Place, me: Invocation, which: u32, factor: f32, pass_index: u32) {
    show_sums(sums, me, pass_index);
    for (var i = 0u; i < CHUNKS * LANE_QUADS; i++) {
        let quad = head_quad(me, pass_index, i);
        if me.row < dims.time && quad < QUADS {
            dqkv[part(place, me.row, which) + quad] = pack(shown_quad(me, i) * factor);
        }
    }
}
