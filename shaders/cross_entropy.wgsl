// Cross-entropy of the softmax over the vocabulary, one row of logits a target; a target that is no id is ignored.
//
//   lse = log Σ_v exp(logits[v])      loss = lse − logits[target]
//   dlogits[v] = (exp(logits[v] − lse) − [v = target]) · scale         written over the logits
//
// A vocabulary may have 262,000 tokens on Mesa 22.3's lavapipe, which ends all loops of an invocation after 65,535 trips in total.
//
//   forward     losses and lse of `rows` rows, whose targets and results begin at row `first`
//   backward    dlogits in place, scale = 1 / real targets of the whole step

struct Dims {
    first_group: u32,
    rows: u32,
    cols: u32, //  V
    first: u32, // of the chunk's rows among all
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> targets: array<u32>; //         (all rows)
@group(0) @binding(3) var<storage, read> logits: array<f32>; //          (rows, V)
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; //    (all rows)
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; //       (rows)
@group(0) @binding(6) var<storage, read> saved: array<f32>; //           (rows), the lse
@group(0) @binding(7) var<storage, read_write> dlogits: array<f32>; //   (rows, V), logits on entry

const LOWEST: f32 = -3.4e38;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = dims.first_group + workgroup.x;
    let r = min(row, dims.rows - 1u);
    let at = r * dims.cols;
    var top = LOWEST;
    for (var v = lane; v < dims.cols; v += LANES) {
        top = max(top, logits[at + v]);
    }
    top = max_lanes(top, lane);
    var total = 0.0;
    for (var v = lane; v < dims.cols; v += LANES) {
        total += exp(logits[at + v] - top);
    }
    total = sum_lanes(total, lane);
    if row < dims.rows && lane == 0u {
        let row_lse = top + log(total);
        let target_id = targets[dims.first + r];
        lse[r] = row_lse;
        losses[dims.first + r] = select(0.0, row_lse - logits[at + min(target_id, dims.cols - 1u)], target_id < dims.cols);
    }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = dims.first_group + workgroup.x;
    if row >= dims.rows {
        return;
    }
    let at = row * dims.cols;
    let target_id = targets[dims.first + row];
    let scale = select(0.0, step.target_scale, target_id < dims.cols);
    for (var v = lane; v < dims.cols; v += LANES) {
        let probability = exp(dlogits[at + v] - saved[row]);
        dlogits[at + v] = (probability - select(0.0, 1.0, v == target_id)) * scale;
    }
}
