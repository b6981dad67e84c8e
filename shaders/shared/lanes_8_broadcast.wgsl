// lanes.wgsl and lanes_8.wgsl for adapters whose only subgroup size is 8 (optional feature SUBGROUP): the workgroup is one subgroup, and
// no barrier is needed. Software adapters compile a kernel with barriers as a coroutine, which takes them several times as long. Values
// are combined in the order of lanes.wgsl. Every invocation of the workgroup must call these, in uniform control flow.

const LANES: u32 = 8u;

fn sum_lanes(value: f32, lane: u32) -> f32 {
    let low = of_lanes_0_to_3(value);
    let high = of_lanes_4_to_7(value);
    let quarter = low + high;
    return (quarter.x + quarter.z) + (quarter.y + quarter.w);
}

fn max_lanes(value: f32, lane: u32) -> f32 {
    let quarter = max(of_lanes_0_to_3(value), of_lanes_4_to_7(value));
    return max(max(quarter.x, quarter.z), max(quarter.y, quarter.w));
}

fn of_lanes_0_to_3(value: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u));
}

fn of_lanes_4_to_7(value: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u));
}
