// attention.wgsl for GPUs: 64 rows by one workgroup, against blocks of 32 rows of the other side. Each of its 128 invocations computes 4 x
// 4 scores of a block, and 4 rows by every eighth quad of the sums, so that eight reads of workgroup memory feed 64 multiply-adds of the
// scores, and two feed 16 of the sums. Heads pass through workgroup memory in chunks, whatever their size.
// How blocks pass through workgroup memory and registers is in attention_blocks.wgsl.

// Scaled scores of one key, masked (too low to count) for queries before it.
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
