// attention_rows.wgsl for any adapter: every invocation reads the rows of the other side for itself, straight from memory.

const ROWS_PER_GROUP: u32 = 8u;

alias Row = u32; // where it begins

fn qkv_row(at: u32, lane: u32) -> Row {
    return at;
}

fn dy_row(at: u32, lane: u32) -> Row {
    return at;
}

fn qkv_at(row: Row, quad: u32) -> vec4<f32> {
    return unpack(qkv[row + quad]);
}

fn dy_at(row: Row, quad: u32) -> vec4<f32> {
    return unpack(dy[row + quad]);
}
