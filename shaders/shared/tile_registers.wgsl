// matmul.wgsl for software adapters without tile_broadcast.wgsl's subgroups: each invocation keeps 8 x 4 sums in registers and loads its
// operands straight from memory, 12 loads for 32 multiply-adds. No workgroup memory, no barrier, no optional feature.

const WORKGROUP: u32 = 8u;
const ROWS_PER_GROUP: u32 = 8u;
const COLS_PER_GROUP: u32 = 32u;
const ROWS_PER_THREAD: u32 = 8u;
const COL_STEP: u32 = 8u;

// Mesa 22.3's lavapipe ends all loops of an invocation, nested or not, after 65,535 trips in total, silently; so a long axis is walked
// two steps a trip, and `inner` may reach 131,000 there. A short one is not, as in tile_broadcast.wgsl.
const LONG: u32 = 60000u;

fn thread_corner(thread: u32) -> vec2<u32> {
    return vec2(0u, thread);
}

fn tile_product(corner: vec2<u32>, thread: u32, a_operand: Operand, b_operand: Operand) -> Sums {
    var sums: Sums;
    // Rows and columns past the end of the matrix repeat its last one: they are computed, never stored.
    let rows = corner.x + vec4(0u, 1u, 2u, 3u);
    let a_low = a_operand.first + min(rows, vec4(a_operand.outer_size - 1u)) * a_operand.outer;
    let a_high = a_operand.first + min(rows + 4u, vec4(a_operand.outer_size - 1u)) * a_operand.outer;
    let b_first = b_operand.first + min(columns(corner.y + thread), vec4(b_operand.outer_size - 1u)) * b_operand.outer;
    var k = 0u;
    if dims.inner > LONG {
        for (; k + 1u < dims.inner; k += 2u) {
            add_product(&sums, a_low + k * a_operand.inner, a_high + k * a_operand.inner, b_first + k * b_operand.inner);
            add_product(&sums, a_low + (k + 1u) * a_operand.inner, a_high + (k + 1u) * a_operand.inner, b_first + (k + 1u) * b_operand.inner);
        }
    }
    for (; k < dims.inner; k++) {
        add_product(&sums, a_low + k * a_operand.inner, a_high + k * a_operand.inner, b_first + k * b_operand.inner);
    }
    return sums;
}

fn add_product(sums: ptr<function, Sums>, low_at: vec4<u32>, high_at: vec4<u32>, b_at: vec4<u32>) {
    // All loads first: with loads between the sums lavapipe is up to a quarter slower.
    let low = vec4(a[low_at.x], a[low_at.y], a[low_at.z], a[low_at.w]);
    let high = vec4(a[high_at.x], a[high_at.y], a[high_at.z], a[high_at.w]);
    let row = vec4(b[b_at.x], b[b_at.y], b[b_at.z], b[b_at.w]);
    // Written out: SwiftShader does not unroll loops, and an index it must compute keeps the sums in memory, four times slower.
    (*sums)[0] += low.x * row;
    (*sums)[1] += low.y * row;
    (*sums)[2] += low.z * row;
    (*sums)[3] += low.w * row;
    (*sums)[4] += high.x * row;
    (*sums)[5] += high.y * row;
    (*sums)[6] += high.z * row;
    (*sums)[7] += high.w * row;
}
