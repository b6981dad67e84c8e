// matmul.wgsl for GPUs where y is small and k long, as in a weight's gradient: a 32 x 32 tile of y, so that there are workgroups for all of
// a card, and four teams of 64 invocations that each sum a quarter of every 32 elements of k. Each invocation keeps 4 x 4 sums in
// registers; in the end the four teams' sums meet in workgroup memory, always in the same order.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 1u;

const TILE: u32 = 32u;
const TEAMS: u32 = 4u;
const K_STEP: u32 = 32u;
const TEAM_STEP: u32 = K_STEP / TEAMS;
const LINE: u32 = TILE + 4u; // one k of a tile, padded against bank conflicts; by four, so that four neighbours stay one aligned read

var<workgroup> a_tile: array<f32, K_STEP * LINE>;
var<workgroup> b_tile: array<f32, K_STEP * LINE>;

alias RowSums = vec4<f32>; // of the quads that the invocation fetches

// The quad of an operand's tile that an invocation fetches.
struct Share {
    begin: u32, // where its row in memory begins, or for an operand stored by column its place in the row k = 0
    k: u32,     // its k within the tile, or its first
    place: u32, // where it goes in workgroup memory
}

// Neighbouring invocations fetch neighbours in memory: along k from an operand stored by row, else across.
fn share_of(thread: u32, corner: u32, operand: Operand) -> Share {
    // Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
    let last = operand.outer_size - 1u;
    if operand.by_row {
        let outer = thread / 8u;
        let k = thread % 8u * 4u;
        return Share(operand.first + min(corner + outer, last) * operand.stride, k, k * LINE + outer);
    }
    let outer = thread % 8u * 4u;
    let k = thread / 8u;
    return Share(operand.first + min(corner + outer, last) / 4u, k, k * LINE + outer);
}

// The share of the 32 elements from k on; past the end of k it is zeros of a and anything of b.
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

// Each invocation ends with one row of four columns of the whole sum.
fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(thread / 8u, thread % 8u * 4u);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) -> Sums {
    let team = thread / 64u;
    let own = vec2(thread / 8u % 8u, thread % 8u) * 4u;
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    let a_step = select(1u, LINE, a_operand.by_row);
    let b_step = select(1u, LINE, b_operand.by_row);
    var block: array<vec4<f32>, 4>;
    var a_next = fetch_a(a_share, a_operand, 0u);
    var b_next = fetch_b(b_share, b_operand, 0u);
    for (var k0 = 0u; k0 < dims.inner; k0 += K_STEP) {
        a_tile[a_share.place] = a_next.x;
        a_tile[a_share.place + a_step] = a_next.y;
        a_tile[a_share.place + 2u * a_step] = a_next.z;
        a_tile[a_share.place + 3u * a_step] = a_next.w;
        b_tile[b_share.place] = b_next.x;
        b_tile[b_share.place + b_step] = b_next.y;
        b_tile[b_share.place + 2u * b_step] = b_next.z;
        b_tile[b_share.place + 3u * b_step] = b_next.w;
        *row_sums += a_next;
        workgroupBarrier();
        a_next = fetch_a(a_share, a_operand, k0 + K_STEP);
        b_next = fetch_b(b_share, b_operand, k0 + K_STEP);
        // Four a trip: Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total.
        for (var k = 0u; k < TEAM_STEP; k += 4u) {
            let first = team * TEAM_STEP + k;
            add_product(&block, first, own);
            add_product(&block, first + 1u, own);
            add_product(&block, first + 2u, own);
            add_product(&block, first + 3u, own);
        }
        workgroupBarrier();
    }
    return Sums(team_sums(thread, team, own, block));
}

// Adds the product of one column of the tile of a and one row of the tile of b.
fn add_product(block: ptr<function, array<vec4<f32>, 4>>, k: u32, own: vec2<u32>) {
    let r = k * LINE + own.x;
    let c = k * LINE + own.y;
    let column = vec4(a_tile[r], a_tile[r + 1u], a_tile[r + 2u], a_tile[r + 3u]);
    let row = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    (*block)[0] += column.x * row;
    (*block)[1] += column.y * row;
    (*block)[2] += column.z * row;
    (*block)[3] += column.w * row;
}

// The whole sum of the quad at thread_corner: teams add theirs to b_tile one after the other, TILE elements a line.
fn team_sums(thread: u32, team: u32, own: vec2<u32>, block: array<vec4<f32>, 4>) -> vec4<f32> {
    for (var turn = 0u; turn < TEAMS; turn++) {
        if team == turn {
            add_row(own, 0u, block[0], turn > 0u);
            add_row(own, 1u, block[1], turn > 0u);
            add_row(own, 2u, block[2], turn > 0u);
            add_row(own, 3u, block[3], turn > 0u);
        }
        workgroupBarrier();
    }
    let corner = thread_corner(thread);
    let at = corner.x * LINE + corner.y;
    return vec4(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
}

fn add_row(own: vec2<u32>, i: u32, row: vec4<f32>, add: bool) {
    let at = (own.x + i) * LINE + own.y;
    let before = select(vec4(0.0), vec4(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]), add);
    let sum = before + row;
    b_tile[at] = sum.x;
    b_tile[at + 1u] = sum.y;
    b_tile[at + 2u] = sum.z;
    b_tile[at + 3u] = sum.w;
}

// The invocations of one column of quads hold the sums of every 32nd k: they meet in a_tile, which tile_product has left.
// Every invocation must call this. An operand stored by column, as that of a weight's gradient is.
fn store_row_sums(corner: vec2<u32>, thread: u32, sums: RowSums) {
    let at = thread / 8u * LINE + thread % 8u * 4u;
    a_tile[at] = sums.x;
    a_tile[at + 1u] = sums.y;
    a_tile[at + 2u] = sums.z;
    a_tile[at + 3u] = sums.w;
    workgroupBarrier();
    let first = corner.x + thread * 4u;
    if corner.y > 0u || thread >= TILE / 4u || first >= dims.rows {
        return;
    }
    var total = vec4(0.0);
    for (var k = 0u; k < K_STEP; k++) {
        let line = k * LINE + thread * 4u;
        total += vec4(a_tile[line], a_tile[line + 1u], a_tile[line + 2u], a_tile[line + 3u]);
    }
    dbias[first / 4u] += total;
}
