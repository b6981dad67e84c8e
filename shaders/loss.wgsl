// The step's loss from the rows' losses: records[record].loss += scale · Σ losses, one workgroup, in a fixed order.
//
// A record is (loss, gradient norm, loss scale, 0); the first micro-batch of a step overwrites its row.

struct Dims {
    first_group: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> losses: array<f32>; //               (rows)
@group(0) @binding(3) var<storage, read_write> records: array<vec4<f32>>; //  (records)

@compute @workgroup_size(LANES)
fn sum(@builtin(local_invocation_index) lane: u32) {
    var total = 0.0;
    for (var r = lane; r < dims.rows; r += LANES) {
        total += losses[r];
    }
    total = sum_lanes(total, lane);
    if lane == 0u && dims.first_group == 0u {
        let before = select(records[step.record].x, 0.0, step.fresh == 1u);
        records[step.record].x = before + total * step.target_scale;
    }
}
