//! Cross-entropy over the vocabulary and its gradient, written over the logits.

use super::{BY_ROW, LANES, STEP};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, Source, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source =
    Source { file: "cross_entropy", text: include_str!("../../shaders/cross_entropy.wgsl"), shared: &[STEP, LANES], variants: BY_ROW };

pub struct CrossEntropy {
    forward: Kernel,
    backward: Kernel,
}

/// Some rows of all: their logits, and where their targets and losses begin.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    pub rows: usize,
    /// First of the chunk's rows among all.
    pub first: usize,
    /// (rows or more, V)
    pub logits: &'a Tensor,
    /// (rows or more)
    pub lse: &'a Tensor,
}

impl CrossEntropy {
    pub fn new() -> CrossEntropy {
        let file = KernelFile::load(&SOURCE);
        CrossEntropy { forward: file.kernel("forward"), backward: file.kernel("backward") }
    }

    /// The chunk's losses and lse; a target that is no id has loss 0.
    pub fn forward(&self, plan: &mut Plan, chunk: Chunk, targets: &Tensor, losses: &Tensor) {
        chunk.check(targets);
        assert!(losses.len() == targets.len(), "cross_entropy.forward: shapes do not fit");
        let flops = 4 * (chunk.rows * chunk.logits.cols()) as u64;
        let bindings = [("targets", targets), ("logits", chunk.logits), ("losses", losses), ("lse", chunk.lse)];
        plan.push(&self.forward, Extent::rows(chunk.rows), flops, &chunk.dims(), &bindings);
    }

    /// The gradient over the logits, in place.
    pub fn backward(&self, plan: &mut Plan, chunk: Chunk, step: &Tensor, targets: &Tensor) {
        chunk.check(targets);
        let flops = 4 * (chunk.rows * chunk.logits.cols()) as u64;
        let bindings = [("step", step), ("targets", targets), ("saved", chunk.lse), ("dlogits", chunk.logits)];
        plan.push(&self.backward, Extent::rows(chunk.rows), flops, &chunk.dims(), &bindings);
    }
}

impl Chunk<'_> {
    fn check(&self, targets: &Tensor) {
        let fits = self.first + self.rows <= targets.len() && self.rows <= self.logits.rows() && self.rows <= self.lse.len();
        assert!(fits, "cross_entropy: the chunk does not fit its tensors");
    }

    fn dims(&self) -> [(&'static str, Value); 3] {
        [("rows", self.rows.into()), ("cols", self.logits.cols().into()), ("first", self.first.into())]
    }
}
