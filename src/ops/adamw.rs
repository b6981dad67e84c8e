//! AdamW over segments of the parameter pool.

use super::{STATE, STEP, quads};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "adamw", text: include_str!("../../shaders/adamw.wgsl"), shared: &[STEP, STATE], variants: SINGLE };

/// The kernel of one AdamW update.
pub struct AdamW {
    apply: Kernel,
}

/// The constants of a training run.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// Decay rate of the first moment, in [0, 1).
    pub beta1: f32,
    /// Decay rate of the second moment, in [0, 1).
    pub beta2: f32,
    /// Added to the square root of the second moment; above 0.
    pub eps: f32,
    /// Share of each decaying weight that a step subtracts, before the factor of the learning rate; at least 0.
    pub weight_decay: f32,
}

/// One segment of the pools, all (n).
#[derive(Debug, Clone)]
pub struct Segment {
    /// Weights, updated in place.
    pub params: Tensor,
    /// Gradients summed over the step's micro-batches.
    pub grads: Tensor,
    /// AdamW's first moment, or SGD's velocity.
    pub m: Tensor,
    /// AdamW's second moment; SGD has none.
    pub v: Option<Tensor>,
    /// The number of elements, from the first, to which weight decay applies: a multiple of 4.
    pub decay: usize,
}

impl AdamW {
    /// Parses `adamw.wgsl`.
    pub fn new() -> AdamW {
        AdamW { apply: KernelFile::load(&SOURCE).kernel("apply") }
    }

    /// Records one update; `state` decides on the device whether it is applied.
    pub fn apply(&self, plan: &mut Plan, step: &Tensor, state: &Tensor, constants: Constants, segment: &Segment) {
        let n = segment.params.len();
        let v = segment.v.as_ref().expect("AdamW needs a second moment");
        assert!(
            [&segment.grads, &segment.m, v].iter().all(|t| t.len() == n) && segment.decay.is_multiple_of(4),
            "adamw.apply: shapes do not fit"
        );
        let dims = [
            ("quads", quads(n).into()),
            ("decay_quads", (segment.decay / 4).into()),
            ("beta1", constants.beta1.into()),
            ("beta2", constants.beta2.into()),
            ("eps", constants.eps.into()),
            ("weight_decay", constants.weight_decay.into()),
        ];
        let bindings =
            [("step", step), ("state", state), ("params", &segment.params), ("grads", &segment.grads), ("m", &segment.m), ("v", v)];
        plan.push(&self.apply, Extent::rows(n), 16 * n as u64, &dims, &bindings);
    }
}
