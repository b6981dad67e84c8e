//! Stochastic gradient descent with momentum over segments of the parameter pool.

use super::adamw::Segment;
use super::{STATE, STEP, quads};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "sgd", text: include_str!("../../shaders/sgd.wgsl"), shared: &[STEP, STATE], variants: SINGLE };

/// The kernel of one update with momentum.
pub struct Sgd {
    apply: Kernel,
}

impl Sgd {
    /// Parses `sgd.wgsl`.
    pub fn new() -> Sgd {
        Sgd { apply: KernelFile::load(&SOURCE).kernel("apply") }
    }

    /// Records one update; `state` decides on the device whether it is applied.
    pub fn apply(&self, plan: &mut Plan, step: &Tensor, state: &Tensor, momentum: f32, weight_decay: f32, segment: &Segment) {
        let n = segment.params.len();
        assert!(segment.grads.len() == n && segment.m.len() == n && segment.decay.is_multiple_of(4), "sgd.apply: shapes do not fit");
        let dims = [
            ("quads", quads(n).into()),
            ("decay_quads", (segment.decay / 4).into()),
            ("momentum", momentum.into()),
            ("weight_decay", weight_decay.into()),
        ];
        let bindings = [("step", step), ("state", state), ("params", &segment.params), ("grads", &segment.grads), ("m", &segment.m)];
        plan.push(&self.apply, Extent::rows(n), 6 * n as u64, &dims, &bindings);
    }
}
