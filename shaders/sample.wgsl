// The next token, drawn from logits (V) on the device, by one workgroup.
//
// Tokens are ranked by logit, highest first, equals by lowest id (−0 below +0); those that `allowed` excludes are not ranked. With
// w = exp((logit − highest) · sharpness) the weight of a token, sharpness = 1 / temperature, and W the weight of all that are ranked:
//
//   sharpness = 0    the first of the ranking
//   else             kept = the first n of the ranking, n the least of
//                        top_k, if it is not 0
//                        the shortest prefix that weighs top_p · W or more, if top_p < 1
//                        all
//                    u = random(drawn, seed_high, seed) in [0, 1), of 24 bits
//                    in the order of ids, the first kept token up to which the kept ones weigh more than u · (weight of the kept)
//
// Writes the token to ids[0], for the next pass, and to the next entry of the ring; advances the cursor by the rows of this pass. If a
// logit is not finite, it sets `failed` of the cursor instead, and nothing is drawn after that.
//
// Nothing is sorted. Floats are compared as integers in the same order (`keys_of`), and the key of the last kept rank is found two bits at
// a time from the top: the highest key for which that key and all above are `enough`. Among tokens with exactly that key the lowest ids are
// kept. Invocations own consecutive ranges of ids, and all sums are in a fixed order.

struct Dims {
    first_group: u32,
    ids: u32, // V
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> logits: array<Quad>; //         (V)
@group(0) @binding(2) var<storage, read> allowed: array<u32>; //         (V / 32), one bit an id
@group(0) @binding(3) var<storage, read_write> cursor: Cursor;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>; //       (rows), the first is written
@group(0) @binding(5) var<storage, read_write> ring: array<u32>; //      (RING)

const RING: u32 = 64u;
const NONE: u32 = 0xffffffffu;

var<workgroup> held: Cursor;
var<workgroup> first: vec3<u32>;
var<workgroup> counts: array<vec4<u32>, LANES>;
var<workgroup> masses: array<vec4<f32>, LANES>;

// Integers in the order of the finite floats, none of them 0.
fn keys_of(bits: vec4<u32>) -> vec4<u32> {
    return select(bits | vec4(0x80000000u), ~bits, bits >= vec4(0x80000000u));
}

fn logits_of(keys: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(select(~keys, keys & vec4(0x7fffffffu), keys >= vec4(0x80000000u)));
}

// Keys of four neighbours; 0 for an id that is not allowed or not there.
fn ranked_keys(quad: u32) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(unpack(logits[quad]));
    let mask = vec4(allowed[quad / 8u] >> (quad % 8u * 4u)) >> vec4(0u, 1u, 2u, 3u);
    let ranked = ((mask & vec4(1u)) == vec4(1u)) & (quad * 4u + vec4(0u, 1u, 2u, 3u) < vec4(dims.ids));
    return select(vec4(0u), keys_of(bits), ranked);
}

fn weights_of(keys: vec4<u32>, top: f32, sharpness: f32) -> vec4<f32> {
    return select(vec4(0.0), exp(max((logits_of(keys) - top) * sharpness, vec4(-80.0))), keys > vec4(0u));
}

@compute @workgroup_size(LANES)
fn draw(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if dims.first_group + workgroup.x > 0u {
        return;
    }
    if lane == 0u {
        held = cursor;
    }
    let now = workgroupUniformLoad(&held);
    let quads = (dims.ids + 3u) / 4u;
    let span = (quads + LANES - 1u) / LANES;
    let begin = min(lane * span, quads);
    let end = min(begin + span, quads);

    // The first of the ranking, and the first logit that is not finite.
    var best = vec3(0u, NONE, NONE);
    for (var quad = begin; quad < end; quad++) {
        let id = quad * 4u + vec4(0u, 1u, 2u, 3u);
        let bits = bitcast<vec4<u32>>(unpack(logits[quad]));
        let broken = ((bits & vec4(0x7f800000u)) == vec4(0x7f800000u)) & (id < vec4(dims.ids));
        best.z = min(best.z, least(select(vec4(NONE), id, broken)));
        let keys = ranked_keys(quad);
        let highest = max(max(keys.x, keys.y), max(keys.z, keys.w));
        if highest > best.x {
            best = vec3(highest, least(select(vec4(NONE), id, keys == vec4(highest))), best.z);
        }
    }
    counts[lane] = vec4(best, 0u);
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < LANES; i++) {
            let other = counts[i];
            if other.x > best.x {
                best.x = other.x;
                best.y = other.y;
            }
            best.z = min(best.z, other.z);
        }
        first = best;
    }
    // WGSL requires a uniform condition before a barrier, and a plain read of workgroup memory is not uniform.
    best = workgroupUniformLoad(&first);
    if now.failed != 0u || best.z != NONE {
        if lane == 0u && now.failed == 0u {
            cursor.failed = best.z + 1u;
        }
        return;
    }
    if now.sharpness == 0.0 {
        if lane == 0u {
            finish(now, best.y);
        }
        return;
    }

    // The key of the last kept rank; 0 where all are kept.
    let top = logits_of(vec4(best.x)).x;
    let limited = (now.top_k > 0u && now.top_k < dims.ids) || now.top_p < 1.0;
    var last = 0u;
    var wanted = 0.0;
    if limited {
        for (var bit = 32u; bit > 0u; bit -= 2u) {
            let threshold = vec4(last) + (vec4(0u, 1u, 2u, 3u) << vec4(bit - 2u));
            var count = vec4(0u);
            var mass = vec4(0.0);
            for (var quad = begin; quad < end; quad++) {
                let keys = ranked_keys(quad);
                let weights = weights_of(keys, top, now.sharpness);
                // Unrolled by hand: a computed index would keep sums in memory.
                add_above(&count, &mass, threshold, keys.x, weights.x);
                add_above(&count, &mass, threshold, keys.y, weights.y);
                add_above(&count, &mass, threshold, keys.z, weights.z);
                add_above(&count, &mass, threshold, keys.w, weights.w);
            }
            counts[lane] = count;
            masses[lane] = mass;
            workgroupBarrier();
            count = counts[0];
            mass = masses[0];
            for (var i = 1u; i < LANES; i++) {
                count += counts[i];
                mass += masses[i];
            }
            workgroupBarrier();
            if bit == 32u {
                wanted = now.top_p * mass.x;
            }
            let by_count = vec4(now.top_k > 0u) & (count >= vec4(now.top_k));
            let by_mass = vec4(now.top_p < 1.0) & (mass >= vec4(wanted));
            let enough = by_count | by_mass;
            last = select(select(select(last, threshold.y, enough.y), threshold.z, enough.z), threshold.w, enough.w);
        }
    }

    // Per invocation: count and weight of the keys above that key, and the count of that key.
    let last_weight = weights_of(vec4(last), top, now.sharpness).x;
    var above = 0u;
    var equal = 0u;
    var mass = 0.0;
    for (var quad = begin; quad < end; quad++) {
        let keys = ranked_keys(quad);
        let higher = keys > vec4(last);
        let same = (keys == vec4(last)) & vec4(last > 0u);
        let weights = select(vec4(0.0), weights_of(keys, top, now.sharpness), higher);
        let ones = select(vec4(0u), vec4(1u), higher);
        let twos = select(vec4(0u), vec4(1u), same);
        above += ones.x + ones.y + ones.z + ones.w;
        equal += twos.x + twos.y + twos.z + twos.w;
        // In the order of ids, as the loop below adds them.
        mass = mass + weights.x + weights.y + weights.z + weights.w;
    }
    counts[lane] = vec4(above, equal, 0u, 0u);
    masses[lane] = vec4(mass, 0.0, 0.0, 0.0);
    workgroupBarrier();
    var all_above = 0u;
    var mass_above = 0.0;
    for (var i = 0u; i < LANES; i++) {
        all_above += counts[i].x;
        mass_above += masses[i].x;
    }
    var ties = NONE;
    if limited && now.top_k > 0u {
        ties = max(now.top_k, all_above) - all_above;
    }
    if limited && now.top_p < 1.0 && last > 0u {
        ties = min(ties, u32(clamp(ceil((wanted - mass_above) / last_weight), 1.0, 4e9)));
    }

    // Finds the invocation whose range contains the drawn weight, and the token in it.
    var total = 0.0;
    var left = ties;
    for (var i = 0u; i < LANES; i++) {
        total += masses[i].x + f32(min(left, counts[i].y)) * last_weight;
        left -= min(left, counts[i].y);
    }
    let drawn = f32(random_u32(vec2(now.drawn, 0u), now.seed_high, now.seed) >> 8u) / 16777216.0 * total;
    var owner = 0u;
    var before = 0.0;
    var ties_there = ties;
    var reached = 0.0;
    left = ties;
    for (var i = 0u; i < LANES; i++) {
        let own = masses[i].x + f32(min(left, counts[i].y)) * last_weight;
        if own > 0.0 && reached <= drawn {
            owner = i;
            before = reached;
            ties_there = left;
        }
        reached += own;
        left -= min(left, counts[i].y);
    }
    if lane != owner {
        return;
    }
    var id = NONE;
    for (var quad = begin; quad < end && before <= drawn; quad++) {
        let keys = ranked_keys(quad);
        let weights = weights_of(keys, top, now.sharpness);
        for (var i = 0u; i < 4u && before <= drawn; i++) {
            let tied = keys[i] == last && last > 0u && ties_there > 0u;
            if tied {
                ties_there--;
            }
            // A token without weight is never drawn, even if rounding leaves a remainder.
            if weights[i] > 0.0 && (tied || keys[i] > last) {
                before += weights[i];
                id = quad * 4u + i;
            }
        }
    }
    finish(now, id);
}

fn least(v: vec4<u32>) -> u32 {
    return min(min(v.x, v.y), min(v.z, v.w));
}

fn add_above(count: ptr<function, vec4<u32>>, mass: ptr<function, vec4<f32>>, threshold: vec4<u32>, key: u32, weight: f32) {
    let reached = (vec4(key) >= threshold) & vec4(key > 0u);
    *count += select(vec4(0u), vec4(1u), reached);
    *mass += select(vec4(0.0), vec4(weight), reached);
}

fn finish(now: Cursor, id: u32) {
    ids[0] = id;
    ring[now.drawn % RING] = id;
    cursor.position = now.position + now.rows;
    cursor.rows = 1u;
    cursor.drawn = now.drawn + 1u;
}
