//! Inverted dropout from counter-based random numbers; the backward recomputes the mask.

use super::{RANDOM, STEP, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "dropout", text: include_str!("../../shaders/dropout.wgsl"), shared: &[STEP, RANDOM], variants: SINGLE };

/// The kernel that applies a dropout mask, forward and backward alike.
pub struct Dropout {
    forward: Kernel,
}

impl Dropout {
    /// `activations` is the element type of activations.
    pub fn new(activations: Dtype) -> Dropout {
        Dropout { forward: KernelFile::with_constants(&SOURCE, storage(activations)).kernel("forward") }
    }

    /// y = x times the mask of `stream`, for `samples` samples; with dy as x it is the backward.
    pub fn forward(&self, plan: &mut Plan, step: &Tensor, stream: u32, samples: usize, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len() && x.len().is_multiple_of(samples), "dropout.forward: shapes do not fit");
        let dims = [("quads", quads(x.len()).into()), ("per_sample", (x.len() / samples).into()), ("stream", stream.into())];
        plan.push(&self.forward, Extent::rows(x.len()), 16 * x.len() as u64, &dims, &[("step", step), ("x", x), ("y", y)]);
    }
}
