// attention.wgsl for software adapters: one invocation owns a row, its neighbours own the neighbouring rows, and all of a workgroup read
// the same rows of the other side at the same time, through the functions of shared/rows_*.wgsl:
//
//   ROWS_PER_GROUP                  invocations of a workgroup
//   Row                             a row that the whole workgroup reads, or where it is
//   qkv_row(at, lane), dy_row(at, lane), qkv_at(row, quad), dy_at(row, quad)
//
// No workgroup memory, no barrier.
//
// An invocation's own rows are loaded and stored in loops up to dims.quads, which is QUADS, unknown to the compiler, so that they stay
// rolled: unrolled, with a load or store for each quad, they take lavapipe as long to compile as all the rest. min(QUADS, ...) would not
// do: Mesa unrolls up to the constant.

alias Vector = array<vec4<f32>, QUADS>;

// A vector moved up by one, with a new last: a rolled loop must not index registers.
fn pushed(vector: Vector, last: vec4<f32>) -> Vector {
    var result = vector;
    for (var i = 1u; i < QUADS; i++) {
        result[i - 1u] = result[i];
    }
    result[QUADS - 1u] = last;
    return result;
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let row = min(place.first + local, dims.time - 1u);
    let own = part(place, row, Q);
    var q: Vector;
    for (var i = 0u; i < dims.quads; i++) {
        q = pushed(q, unpack(qkv[own + i]) * dims.scale);
    }
    var sum: Vector;
    var top = LOWEST;
    var total = 0.0;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var key = 0u; key < end; key++) {
        let k = qkv_row(part(place, key, K), local);
        let v = qkv_row(part(place, key, V), local);
        var products = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            products += q[i] * qkv_at(k, i);
        }
        let score = select(LOWEST, dot(products, vec4(1.0)), key <= row);
        let new_top = max(top, score);
        let shrink = exp(top - new_top);
        let p = exp(score - new_top);
        top = new_top;
        total = total * shrink + p;
        var kept = p;
        if dims.dropout != 0u {
            kept *= keep(counter, row, key);
        }
        for (var i = 0u; i < QUADS; i++) {
            sum[i] = sum[i] * shrink + kept * qkv_at(v, i);
        }
    }
    if place.first + local >= dims.time {
        return;
    }
    let at = output(place, row);
    for (var i = 0u; i < dims.quads; i++) {
        y[at + i] = pack(sum[0] / total);
        sum = pushed(sum, sum[0]);
    }
    lse[statistic(place, row)] = top + log(total);
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn backward_query(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let row = min(place.first + local, dims.time - 1u);
    let own = part(place, row, Q);
    let own_y = output(place, row);
    var q: Vector;
    var dout: Vector;
    var products = vec4(0.0);
    for (var i = 0u; i < dims.quads; i++) {
        let own_dout = unpack(dy[own_y + i]);
        q = pushed(q, unpack(qkv[own + i]) * dims.scale);
        dout = pushed(dout, own_dout);
        products += own_dout * unpack(out[own_y + i]);
    }
    let own_delta = dot(products, vec4(1.0));
    let own_lse = saved[statistic(place, row)];
    var dq: Vector;
    let end = min(place.first + ROWS_PER_GROUP, dims.time);
    for (var key = 0u; key < end; key++) {
        let k = qkv_row(part(place, key, K), local);
        let v = qkv_row(part(place, key, V), local);
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            score += q[i] * qkv_at(k, i);
            dp += dout[i] * qkv_at(v, i);
        }
        let p = select(0.0, exp(dot(score, vec4(1.0)) - own_lse), key <= row);
        var dweight = dot(dp, vec4(1.0));
        if dims.dropout != 0u {
            dweight *= keep(counter, row, key);
        }
        let ds = p * (dweight - own_delta);
        for (var i = 0u; i < QUADS; i++) {
            dq[i] += ds * qkv_at(k, i);
        }
    }
    if place.first + local >= dims.time {
        return;
    }
    for (var i = 0u; i < dims.quads; i++) {
        dqkv[own + i] = pack(dq[0] * dims.scale);
        dq = pushed(dq, dq[0]);
    }
    delta[statistic(place, row)] = own_delta;
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn backward_key_value(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(workgroup.x);
    let counter = counter_of(place);
    let row = min(place.first + local, dims.time - 1u);
    let own_k = part(place, row, K);
    let own_v = part(place, row, V);
    var k: Vector;
    var v: Vector;
    for (var i = 0u; i < dims.quads; i++) {
        k = pushed(k, unpack(qkv[own_k + i]) * dims.scale);
        v = pushed(v, unpack(qkv[own_v + i]));
    }
    var dk: Vector;
    var dv: Vector;
    for (var query = place.first; query < dims.time; query++) {
        let q = qkv_row(part(place, query, Q), local);
        let dout = dy_row(output(place, query), local);
        var score = vec4(0.0);
        var dp = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            score += k[i] * qkv_at(q, i);
            dp += v[i] * dy_at(dout, i);
        }
        let at = statistic(place, query);
        let p = select(0.0, exp(dot(score, vec4(1.0)) - saved[at]), row <= query);
        var kept = p;
        var dweight = dot(dp, vec4(1.0));
        if dims.dropout != 0u {
            let factor = keep(counter, query, row);
            kept *= factor;
            dweight *= factor;
        }
        let ds = p * (dweight - delta_in[at]);
        for (var i = 0u; i < QUADS; i++) {
            dk[i] += ds * qkv_at(q, i);
            dv[i] += kept * dy_at(dout, i);
        }
    }
    if place.first + local >= dims.time {
        return;
    }
    for (var i = 0u; i < dims.quads; i++) {
        dqkv[own_k + i] = pack(dk[0] * dims.scale);
        dqkv[own_v + i] = pack(dv[0]);
        dk = pushed(dk, dk[0]);
        dv = pushed(dv, dv[0]);
    }
}
