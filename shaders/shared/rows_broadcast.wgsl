// attention_rows.wgsl for adapters whose only subgroup size is 8 (optional feature SUBGROUP): a workgroup is one subgroup, each
// invocation loads every eighth quad of a shared row and broadcasts it to the others. On such adapters, which are software, a load costs
// as much as dozens of multiply-adds, a broadcast next to nothing. Every invocation must call these.

const ROWS_PER_GROUP: u32 = 8u;
const LOADS: u32 = (QUADS + 7u) / 8u;

alias Row = array<vec4<f32>, LOADS * 8u>; // the quads past QUADS are undefined

fn qkv_row(at: u32, lane: u32) -> Row {
    var row: Row;
    for (var i = 0u; i < LOADS; i++) {
        hand_round(&row, i * 8u, unpack(qkv[at + min(i * 8u + lane, QUADS - 1u)]));
    }
    return row;
}

fn dy_row(at: u32, lane: u32) -> Row {
    var row: Row;
    for (var i = 0u; i < LOADS; i++) {
        hand_round(&row, i * 8u, unpack(dy[at + min(i * 8u + lane, QUADS - 1u)]));
    }
    return row;
}

fn hand_round(row: ptr<function, Row>, first: u32, own: vec4<f32>) {
    (*row)[first] = subgroupBroadcast(own, 0u);
    (*row)[first + 1u] = subgroupBroadcast(own, 1u);
    (*row)[first + 2u] = subgroupBroadcast(own, 2u);
    (*row)[first + 3u] = subgroupBroadcast(own, 3u);
    (*row)[first + 4u] = subgroupBroadcast(own, 4u);
    (*row)[first + 5u] = subgroupBroadcast(own, 5u);
    (*row)[first + 6u] = subgroupBroadcast(own, 6u);
    (*row)[first + 7u] = subgroupBroadcast(own, 7u);
}

fn qkv_at(row: Row, quad: u32) -> vec4<f32> {
    return row[quad];
}

fn dy_at(row: Row, quad: u32) -> vec4<f32> {
    return row[quad];
}
