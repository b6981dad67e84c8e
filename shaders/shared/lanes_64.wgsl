// Rows by workgroup: 64 invocations share a row and combine through workgroup memory, always in the same order.
// Every invocation of the workgroup must call these, in uniform control flow.

const LANES: u32 = 64u;
const ROWS_PER_GROUP: u32 = 1u;

var<workgroup> lanes: array<f32, 64>;

fn sum_lanes(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    lanes[lane] = value;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            lanes[lane] += lanes[lane + half];
        }
        workgroupBarrier();
    }
    return lanes[0];
}

fn max_lanes(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    lanes[lane] = value;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            lanes[lane] = max(lanes[lane], lanes[lane + half]);
        }
        workgroupBarrier();
    }
    return lanes[0];
}
