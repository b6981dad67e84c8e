// matmul.wgsl for software adapters: a 32 x 32 tile of y by one subgroup of 8 invocations, which must be the adapter's only subgroup
// size (optional feature SUBGROUP). No workgroup memory, no barrier.
//
// Such adapters turn a load into 8 scalar loads, each with its own checks, so multiply-adds per load decide. Here 8 loads feed 1024
// multiply-adds: for each k an invocation loads 4 columns of b, and 4 rows of a that it hands to the other seven.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 32u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 32u;
const COL_STEP: u32 = 8u;

// Mesa 22.3's lavapipe ends all loops of an invocation, nested or not, after 65,535 trips in total, silently; so a long axis is walked
// two steps a trip, and `inner` may reach 131,000 there. A short one is not, which would cost every product a fifth of its speed.
const LONG: u32 = 60000u;

fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(0u, thread);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand) -> Sums {
    var sums: Sums;
    // Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
    let i = vec4(0u, 1u, 2u, 3u) * 8u + thread;
    let a_first = a_operand.first + min(corner.x + i, vec4(a_operand.outer_size - 1u)) * a_operand.outer;
    let b_first = b_operand.first + min(corner.y + i, vec4(b_operand.outer_size - 1u)) * b_operand.outer;
    var k = 0u;
    if dims.inner > LONG {
        for (; k + 1u < dims.inner; k += 2u) {
            add_product(&sums, a_first + k * a_operand.inner, b_first + k * b_operand.inner);
            add_product(&sums, a_first + (k + 1u) * a_operand.inner, b_first + (k + 1u) * b_operand.inner);
        }
    }
    for (; k < dims.inner; k++) {
        add_product(&sums, a_first + k * a_operand.inner, b_first + k * b_operand.inner);
    }
    return sums;
}

// Adds the outer product of 32 elements of a and 32 of b, of which each invocation loads four.
fn add_product(sums: ptr<function, Sums>, a_at: vec4<u32>, b_at: vec4<u32>) {
    // All loads first: with loads between the sums lavapipe is a quarter slower.
    let column = vec4(a[a_at.x], a[a_at.y], a[a_at.z], a[a_at.w]);
    let row = vec4(b[b_at.x], b[b_at.y], b[b_at.z], b[b_at.w]);
    add_eight(sums, 0u, column.x, row);
    add_eight(sums, 8u, column.y, row);
    add_eight(sums, 16u, column.z, row);
    add_eight(sums, 24u, column.w, row);
}

// Adds eight rows of it, for which each invocation holds one element of the column.
fn add_eight(sums: ptr<function, Sums>, first: u32, column: f32, row: vec4<f32>) {
    (*sums)[first] += subgroupBroadcast(column, 0u) * row;
    (*sums)[first + 1u] += subgroupBroadcast(column, 1u) * row;
    (*sums)[first + 2u] += subgroupBroadcast(column, 2u) * row;
    (*sums)[first + 3u] += subgroupBroadcast(column, 3u) * row;
    (*sums)[first + 4u] += subgroupBroadcast(column, 4u) * row;
    (*sums)[first + 5u] += subgroupBroadcast(column, 5u) * row;
    (*sums)[first + 6u] += subgroupBroadcast(column, 6u) * row;
    (*sums)[first + 7u] += subgroupBroadcast(column, 7u) * row;
}
