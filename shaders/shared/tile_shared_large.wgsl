// matmul.wgsl for large products on GPUs: a 128 x 128 tile of y, its operands passed through workgroup memory 8 elements of k at a time.
// Each of 256 invocations keeps 16 x 4 sums in registers, so that five reads of four neighbours feed 64 multiply-adds. A tile of 64 x 64
// fills the device sooner; this one pays once there are workgroups for all of it anyway.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 128u;
const COLS_PER_GROUP: u32 = 128u;
const ROWS_PER_THREAD: u32 = 16u;

const TILE: u32 = 128u;
const TILE_QUADS: u32 = TILE / 4u;
const K_STEP: u32 = 8u;
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
        let outer = thread / 2u;
        let k = thread % 2u * 4u;
        return Share(operand.first + min(corner + outer, last) * operand.stride, k, k * LINE + outer);
    }
    let outer = thread % TILE_QUADS * 4u;
    let k = thread / TILE_QUADS;
    return Share(operand.first + min(corner + outer, last) / 4u, k, k * LINE + outer);
}

// The share of the 8 elements from k on; past the end of k it is zeros of a and anything of b.
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

// The invocations of a wave share 16 rows, which they read together, and lie side by side along the columns.
fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(thread / TILE_QUADS % 8u * 16u, thread % TILE_QUADS * 4u);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand, row_sums: ptr<function, RowSums>) -> Sums {
    var sums: Sums;
    let own = thread_corner(thread);
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    let a_step = select(1u, LINE, a_operand.by_row);
    let b_step = select(1u, LINE, b_operand.by_row);
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
        for (var k = 0u; k < K_STEP; k += 4u) {
            add_product(&sums, k, own);
            add_product(&sums, k + 1u, own);
            add_product(&sums, k + 2u, own);
            add_product(&sums, k + 3u, own);
        }
        workgroupBarrier();
    }
    return sums;
}

// Adds the product of one column of the tile of a and one row of the tile of b.
fn add_product(sums: ptr<function, Sums>, k: u32, own: vec2<u32>) {
    let r = k * LINE + own.x;
    let c = k * LINE + own.y;
    let row = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    for (var i = 0u; i < ROWS_PER_THREAD; i++) {
        (*sums)[i] += a_tile[r + i] * row;
    }
}

// The invocations of one column of quads hold the sums of every eighth k: they meet in a_tile, which tile_product has left.
// Every invocation must call this. An operand stored by column, as that of a weight's gradient is.
fn store_row_sums(corner: vec2<u32>, thread: u32, sums: RowSums) {
    let at = thread / TILE_QUADS * LINE + thread % TILE_QUADS * 4u;
    a_tile[at] = sums.x;
    a_tile[at + 1u] = sums.y;
    a_tile[at + 2u] = sums.z;
    a_tile[at + 3u] = sums.w;
    workgroupBarrier();
    let first = corner.x + thread * 4u;
    if corner.y > 0u || thread >= TILE_QUADS || first >= dims.rows {
        return;
    }
    var total = vec4(0.0);
    for (var k = 0u; k < K_STEP; k++) {
        let line = k * LINE + thread * 4u;
        total += vec4(a_tile[line], a_tile[line + 1u], a_tile[line + 2u], a_tile[line + 3u]);
    }
    dbias[first / 4u] += total;
}
