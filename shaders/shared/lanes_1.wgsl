// Rows by invocation: each of 64 invocations walks a row of its own. For software adapters, where barriers are dear.
// Any invocation may call these at any time.

const LANES: u32 = 1u;
const ROWS_PER_GROUP: u32 = 64u;

fn sum_lanes(value: f32, lane: u32) -> f32 {
    return value;
}

fn max_lanes(value: f32, lane: u32) -> f32 {
    return value;
}
