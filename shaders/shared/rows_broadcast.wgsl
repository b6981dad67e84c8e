// attention.wgsl for software adapters whose only subgroup size is 8 (optional feature SUBGROUP): a workgroup is one subgroup, each
// invocation loads every eighth element of a shared row and hands it to the other seven. There a load costs as much as dozens of
// multiply-adds, a broadcast next to nothing.

const ROWS_PER_GROUP: u32 = 8u;
const KEYS: u32 = 1u;

alias Row = Vector;

fn qkv_row(at: u32, lane: u32) -> Row {
    var row: Row;
    for (var i = 0u; i < QUADS / 2u; i++) {
        let d = i * 8u + lane;
        let own = select(0.0, qkv[at + min(d, HEAD_SIZE - 1u)], d < HEAD_SIZE);
        row[2u * i] = low_lanes(own);
        row[2u * i + 1u] = high_lanes(own);
    }
    return row;
}

fn dy_row(at: u32, lane: u32) -> Row {
    var row: Row;
    for (var i = 0u; i < QUADS / 2u; i++) {
        let d = i * 8u + lane;
        let own = select(0.0, dy[at + min(d, HEAD_SIZE - 1u)], d < HEAD_SIZE);
        row[2u * i] = low_lanes(own);
        row[2u * i + 1u] = high_lanes(own);
    }
    return row;
}

fn low_lanes(own: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u));
}

fn high_lanes(own: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u));
}

fn qkv_at(row: Row, quad: u32) -> vec4<f32> {
    return row[quad];
}

fn dy_at(row: Row, quad: u32) -> vec4<f32> {
    return row[quad];
}
