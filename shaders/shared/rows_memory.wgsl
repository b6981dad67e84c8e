// attention.wgsl for GPUs: every invocation reads a shared row from memory, where the cache hands one read to the whole subgroup.

const ROWS_PER_GROUP: u32 = 64u;
const KEYS: u32 = 8u;

alias Row = u32; // where it begins

fn qkv_row(at: u32, lane: u32) -> Row {
    return at;
}

fn dy_row(at: u32, lane: u32) -> Row {
    return at;
}

fn qkv_at(row: Row, quad: u32) -> vec4<f32> {
    return qkv_quad(row, quad);
}

fn dy_at(row: Row, quad: u32) -> vec4<f32> {
    return dy_quad(row, quad);
}
