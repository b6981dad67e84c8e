// matmul.wgsl for single rows on GPUs: 1 x 4 of y by a workgroup of 64 that divides the inner axis, so that neighbouring invocations read
// neighbours in memory and even a small layer fills the device. Their parts are summed through workgroup memory in a fixed order.

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 1u;
const COLS_PER_GROUP: u32 = 4u;
const ROWS_PER_THREAD: u32 = 1u;
const PARTS: u32 = 1u;

// An invocation's part of the sums of the four rows that share the row's quad of dbias.
alias RowSums = vec4<f32>;

var<workgroup> parts: array<vec4<f32>, WORKGROUP>;

// The first invocation stores for all; the corner of the others is outside the matrix.
fn thread_corner(thread: u32, part: u32) -> vec2<u32> {
    return vec2(0u, select(0x40000000u, 0u, thread == 0u));
}

fn tile_product(
    corner: vec2<u32>,
    first_k: u32,
    thread: u32,
    a_operand: Operand,
    b_operand: Operand,
    row_sums: ptr<function, RowSums>,
) -> Sums {
    var sum = vec4(0.0);
    let b_begin = block_begin(b_operand, corner.y);
    let end = min(first_k + dims.range, dims.inner);
    for (var k = first_k + thread * 4u; k < end; k += WORKGROUP * 4u) {
        let b_at = block_at(b_operand, b_begin, k);
        let b_block = mat4x4(unpack(b[b_at.x]), unpack(b[b_at.y]), unpack(b[b_at.z]), unpack(b[b_at.w]));
        let row = a_quad(a_operand, corner.x, k, row_sums);
        let columns = by_k(b_operand, b_block);
        sum += row.x * columns[0] + row.y * columns[1] + row.z * columns[2] + row.w * columns[3];
    }
    return Sums(sum_parts(sum, thread));
}

// Every invocation of the workgroup calls this.
fn sum_parts(part: vec4<f32>, thread: u32) -> vec4<f32> {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half >>= 1u) {
        if thread < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    return parts[0];
}

fn whole_row_sums(thread: u32, sums: RowSums) -> vec4<f32> {
    return sum_parts(sums, thread);
}
