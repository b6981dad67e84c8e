// What the tiles that pass through workgroup memory share: each of their invocations fetches one quad of either operand at a time.
// TILE is the tile's rows and columns, K_STEP its elements of k: TILE * K_STEP / 4 invocations fetch them all.

const TILE_QUADS: u32 = TILE / 4u;
const K_QUADS: u32 = K_STEP / 4u;
const PAD: u32 = 32u / K_QUADS; // after every four k; a multiple of four, so that four neighbours stay one aligned read

var<workgroup> a_tile: array<f32, K_STEP * TILE + K_QUADS * PAD>;
var<workgroup> b_tile: array<f32, K_STEP * TILE + K_QUADS * PAD>;

alias RowSums = vec4<f32>; // of the quads that the invocation fetches

// The quad of an operand's tile that an invocation fetches.
struct Share {
    begin: u32, // where its row in memory begins, or for an operand stored by column its place in the row k = 0
    k: u32,     // its k within the tile, or its first
    place: u32, // where it goes in workgroup memory
}

// Where one k of a tile begins. Of 32 neighbouring invocations, the K_QUADS that fetch the same outer index along k store to lines four
// apart: the padding spreads them over the 32 banks, so that no two invocations meet at one.
fn line_of(k: u32) -> u32 {
    return k * TILE + k / 4u * PAD;
}

// Neighbouring invocations fetch neighbours in memory: along k from an operand stored by row, else across.
fn share_of(thread: u32, corner: u32, operand: Operand) -> Share {
    // Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
    let last = operand.outer_size - 1u;
    if operand.by_row {
        let outer = thread / K_QUADS;
        let k = thread % K_QUADS * 4u;
        return Share(operand.first + min(corner + outer, last) * operand.stride, k, line_of(k) + outer);
    }
    let outer = thread % TILE_QUADS * 4u;
    let k = thread / TILE_QUADS;
    return Share(operand.first + min(corner + outer, last) / 4u, k, line_of(k) + outer);
}

// An invocation's share of the K_STEP elements from k on. Past the end of k, fetch_a returns zeros and fetch_b any values.
fn fetch_a(share: Share, operand: Operand, k: u32) -> vec4<f32> {
    if k + K_STEP <= dims.inner {
        return unpack(a[quad_at(share, operand, k + share.k)]);
    }
    let quad = unpack(a[quad_at(share, operand, min(k + share.k, dims.inner - 1u))]);
    return select(vec4(0.0), quad, k + share.k + select(vec4(0u), FOUR, operand.by_row) < vec4(dims.inner));
}

fn fetch_b(share: Share, operand: Operand, k: u32) -> vec4<f32> {
    if k + K_STEP <= dims.inner {
        return unpack(b[quad_at(share, operand, k + share.k)]);
    }
    return unpack(b[quad_at(share, operand, min(k + share.k, dims.inner - 1u))]);
}

fn quad_at(share: Share, operand: Operand, k: u32) -> u32 {
    return share.begin + select(k * operand.stride, k / 4u, operand.by_row);
}

// The invocations of one column of quads hold the sums of every K_STEP-th k, and combine them in a_tile, which tile_product has finished
// using. The operand must be stored by column, as in a weight's gradient.
fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    let at = thread * 4u;
    a_tile[at] = sums.x;
    a_tile[at + 1u] = sums.y;
    a_tile[at + 2u] = sums.z;
    a_tile[at + 3u] = sums.w;
    workgroupBarrier();
    var total = vec4(0.0);
    for (var k = 0u; k < K_STEP; k++) {
        let line = k * TILE + thread % TILE_QUADS * 4u;
        total += vec4(a_tile[line], a_tile[line + 1u], a_tile[line + 2u], a_tile[line + 3u]);
    }
    return total;
}
