//! The norm of all gradients, clipping, and whether the step may be applied.

use super::{BY_STRETCH, STATE, STEP, quads};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

/// `gradient_norm.wgsl` and its variants.
pub const SOURCE: KernelSource = KernelSource {
    file: "gradient_norm",
    text: include_str!("../../shaders/gradient_norm.wgsl"),
    shared: &[STEP, STATE],
    variants: BY_STRETCH,
};

/// Elements summed by one workgroup; a test checks it against `ROWS_PER_GROUP` in the shader.
pub const TILE: usize = 16_384;

/// The largest loss scale; a test checks it against `HIGHEST_SCALE` in the shader.
pub const HIGHEST_LOSS_SCALE: u32 = 1 << 30;

/// What is done with the norm.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Longer gradients are clipped to this norm; 0 disables clipping.
    pub max_norm: f32,
    /// Whether the loss scale falls and grows with the gradients.
    pub dynamic_scale: bool,
}

/// The kernels that sum the squares of each segment, and the partial sums to the norm.
pub struct GradientNorm {
    partial: Kernel,
    finish: Kernel,
}

impl GradientNorm {
    /// Parses `gradient_norm.wgsl`.
    pub fn new() -> GradientNorm {
        let file = KernelFile::load(&SOURCE);
        GradientNorm { partial: file.kernel("partial"), finish: file.kernel("finish") }
    }

    /// Records the norm of all segments of the gradients, and the update of `state` for the optimizer and the next step.
    pub fn forward(&self, plan: &mut Plan, step: &Tensor, grads: &[Tensor], rules: Rules, records: &Tensor, state: &Tensor) {
        let total: usize = grads.iter().map(|segment| segment.len().div_ceil(TILE)).sum();
        let partials = plan.statistic("norm_partials", &[total]);
        let dims = |quads: usize, first: usize| -> [(&'static str, Value); 5] {
            let limits = [("max_norm", rules.max_norm.into()), ("dynamic", rules.dynamic_scale.into())];
            [("quads", quads.into()), ("first", first.into()), ("partials", total.into()), limits[0], limits[1]]
        };
        let mut first = 0;
        for segment in grads {
            let bindings = [("grads", segment), ("partials", &partials)];
            plan.push(&self.partial, Extent::rows(segment.len()), 2 * segment.len() as u64, &dims(quads(segment.len()), first), &bindings);
            first += segment.len().div_ceil(TILE);
        }
        let bindings = [("step", step), ("sums", &partials), ("records", records), ("state", state)];
        plan.push(&self.finish, Extent::groups(1), total as u64, &dims(0, 0), &bindings);
    }
}
