// matmul.wgsl for GPUs: a 64 x 64 tile of y, its operands passed through workgroup memory 16 elements of k at a time.
// Each of 256 invocations keeps 4 x 4 sums in registers, so that two reads of four neighbours feed 16 multiply-adds, and fetches
// its share of the next 16 elements before it multiplies the present ones: small products fill few waves and must hide memory themselves.

const WORKGROUP: u32 = 256u;
const ROWS_PER_GROUP: u32 = 64u;
const COLS_PER_GROUP: u32 = 64u;
const ROWS_PER_THREAD: u32 = 4u;
const COL_STEP: u32 = 1u;

const TILE: u32 = 64u;
const K_STEP: u32 = 16u;
const LINE: u32 = TILE + 4u; // one k of a tile, padded against bank conflicts; by four, so that four neighbours stay one aligned read

var<workgroup> a_tile: array<f32, K_STEP * LINE>;
var<workgroup> b_tile: array<f32, K_STEP * LINE>;

// The four elements of an operand's tile that an invocation fetches.
struct Share {
    at: vec4<u32>,    // where they lie in memory for the first 16 of k
    k: vec4<u32>,     // their k within the tile
    place: vec4<u32>, // where they go in workgroup memory
}

// Neighbouring invocations fetch neighbours in memory: along k from an operand stored by row, else across.
fn share_of(thread: u32, corner: u32, operand: Operand) -> Share {
    let i = vec4(0u, 1u, 2u, 3u);
    var outer = vec4(thread % TILE);
    var k = thread / TILE + i * (WORKGROUP / TILE);
    if operand.by_row {
        outer = thread / K_STEP + i * (WORKGROUP / K_STEP);
        k = vec4(thread % K_STEP);
    }
    // Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
    let from_outer = min(corner + outer, vec4(operand.outer_size - 1u)) * operand.outer;
    return Share(operand.first + from_outer + k * operand.inner, k, k * LINE + outer);
}

fn fetch_a(share: Share, operand: Operand, k: u32) -> vec4<f32> {
    let at = share.at + k * operand.inner;
    if k + K_STEP <= dims.inner {
        return vec4(a[at.x], a[at.y], a[at.z], a[at.w]);
    }
    let inside = k + share.k < vec4(dims.inner);
    let safe = select(vec4(operand.first), at, inside);
    return select(vec4(0.0), vec4(a[safe.x], a[safe.y], a[safe.z], a[safe.w]), inside);
}

fn fetch_b(share: Share, operand: Operand, k: u32) -> vec4<f32> {
    let at = share.at + k * operand.inner;
    if k + K_STEP <= dims.inner {
        return vec4(b[at.x], b[at.y], b[at.z], b[at.w]);
    }
    let inside = k + share.k < vec4(dims.inner);
    let safe = select(vec4(operand.first), at, inside);
    return select(vec4(0.0), vec4(b[safe.x], b[safe.y], b[safe.z], b[safe.w]), inside);
}

fn thread_corner(thread: u32) -> vec2<u32> {
    // The first % 16 changes nothing, but shows AMD's compiler that the reads of a_tile are aligned: 32 of them instead of 48.
    return vec2(thread / 16u % 16u, thread % 16u) * 4u;
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand) -> Sums {
    var sums: Sums;
    let own = thread_corner(thread);
    let a_share = share_of(thread, corner.x, a_operand);
    let b_share = share_of(thread, corner.y, b_operand);
    var a_next = fetch_a(a_share, a_operand, 0u);
    var b_next = fetch_b(b_share, b_operand, 0u);
    for (var k0 = 0u; k0 < dims.inner; k0 += K_STEP) {
        for (var i = 0u; i < 4u; i++) {
            a_tile[a_share.place[i]] = a_next[i];
            b_tile[b_share.place[i]] = b_next[i];
        }
        workgroupBarrier();
        a_next = fetch_a(a_share, a_operand, k0 + K_STEP);
        b_next = fetch_b(b_share, b_operand, k0 + K_STEP);
        // Two a trip: Mesa 22.3's lavapipe ends all loops of an invocation after 65,535 trips in total, which are then enough for 80,000 of k.
        for (var k = 0u; k < K_STEP; k += 2u) {
            add_product(&sums, k, own);
            add_product(&sums, k + 1u, own);
        }
        workgroupBarrier();
    }
    return sums;
}

// Adds the product of one column of the tile of a and one row of the tile of b.
fn add_product(sums: ptr<function, Sums>, k: u32, own: vec2<u32>) {
    let r = k * LINE + own.x;
    let c = k * LINE + own.y;
    let column = vec4(a_tile[r], a_tile[r + 1u], a_tile[r + 2u], a_tile[r + 3u]);
    let row = vec4(b_tile[c], b_tile[c + 1u], b_tile[c + 2u], b_tile[c + 3u]);
    (*sums)[0] += column.x * row;
    (*sums)[1] += column.y * row;
    (*sums)[2] += column.z * row;
    (*sums)[3] += column.w * row;
}
