// matmul.wgsl for GPUs where y is small and k long, as in a weight's gradient: a 32 x 32 tile of y, so that there are enough workgroups to
// occupy a card, and four teams of 64 invocations that each sum a quarter of every 32 elements of k. Each invocation keeps 4 x 4 sums in
// registers; in the end the four teams' sums are added in workgroup memory, always in the same order.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 1u;
const PARTS: u32 = 1u;

const TILE: u32 = 32u;
const TEAMS: u32 = 4u;
const K_STEP: u32 = 32u;
const TEAM_STEP: u32 = K_STEP / TEAMS;

// Each invocation ends with one row of four columns of the whole sum.
fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    return vec2(thread / 8u, thread % 8u * 4u);
}

fn tile_product(
    corner: vec2<u32>,
    first_k: u32,
    thread: u32,
    a_operand: Operand,
    b_operand: Operand,
    row_sums: ptr<function, RowSums>,
) -> Sums {
    let team = thread / 64u;
    let own = vec2(thread / 8u % 8u, thread % 8u) * 4u;
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    let a_step = select(1u, TILE, a_operand.by_row);
    let b_step = select(1u, TILE, b_operand.by_row);
    var block: array<vec4<f32>, 4>;
    var a_next = fetch_a(a_share, a_operand, first_k);
    var b_next = fetch_b(b_share, b_operand, first_k);
    for (var k0 = 0u; k0 < dims.range; k0 += K_STEP) {
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
        a_next = fetch_a(a_share, a_operand, first_k + k0 + K_STEP);
        b_next = fetch_b(b_share, b_operand, first_k + k0 + K_STEP);
        // Four per trip: Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total.
        for (var k = 0u; k < TEAM_STEP; k += 4u) {
            // A constant line each, from which AMD's compiler sees that the reads are aligned.
            let first = team * line_of(TEAM_STEP);
            add_product(&block, first + line_of(k), own);
            add_product(&block, first + line_of(k + 1u), own);
            add_product(&block, first + line_of(k + 2u), own);
            add_product(&block, first + line_of(k + 3u), own);
        }
        workgroupBarrier();
    }
    return Sums(team_sums(thread, team, own, block));
}

// Adds the product of one column of the tile of a and one row of the tile of b, which begin at `line`.
fn add_product(block: ptr<function, array<vec4<f32>, 4>>, line: u32, own: vec2<u32>) {
    let r = line + own.x;
    let c = line + own.y;
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
    let corner = thread_corner(thread, 0u);
    let at = corner.x * TILE + corner.y;
    return vec4(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
}

fn add_row(own: vec2<u32>, i: u32, row: vec4<f32>, add: bool) {
    let at = (own.x + i) * TILE + own.y;
    let before = select(vec4(0.0), vec4(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]), add);
    let sum = before + row;
    b_tile[at] = sum.x;
    b_tile[at + 1u] = sum.y;
    b_tile[at + 2u] = sum.z;
    b_tile[at + 3u] = sum.w;
}
