//! Cross-entropy over the vocabulary and its gradient, written over the logits.

use super::{BY_ROW, STATE, STEP, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource = KernelSource {
    file: "cross_entropy",
    text: include_str!("../../shaders/cross_entropy.wgsl"),
    shared: &[STEP, STATE],
    variants: BY_ROW,
};

/// The kernels of the loss of each row, without and with its gradient.
pub struct CrossEntropy {
    forward: Kernel,
    forward_backward: Kernel,
}

/// The blocks of [`super::step::Step`] and [`super::step::State`].
pub type Blocks<'a> = (&'a Tensor, &'a Tensor);

/// A range of rows: its logits, and the offset of its targets and losses.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    /// Number of rows in the chunk.
    pub rows: usize,
    /// The index of the chunk's first row among all rows.
    pub first: usize,
    /// V, the columns without the padding.
    pub vocab: usize,
    /// (rows or more, V padded to a multiple of 4)
    pub logits: &'a Tensor,
}

impl CrossEntropy {
    /// `activations` is the element type of the logits.
    pub fn new(activations: Dtype) -> CrossEntropy {
        let file = KernelFile::with_constants(&SOURCE, storage(activations));
        CrossEntropy { forward: file.kernel("forward"), forward_backward: file.kernel("forward_backward") }
    }

    /// Writes the chunk's losses; a target that is not a valid id has loss 0.
    pub fn forward(&self, plan: &mut Plan, chunk: Chunk, targets: &Tensor, losses: &Tensor) {
        chunk.check(targets, losses);
        let flops = 4 * (chunk.rows * chunk.vocab) as u64;
        let bindings = [("targets", targets), ("logits", chunk.logits), ("losses", losses)];
        plan.push(&self.forward, Extent::rows(chunk.rows), flops, &chunk.dims(), &bindings);
    }

    /// The same, and overwrites the logits with their gradient, which the blocks `step` and `state` scale.
    pub fn forward_backward(&self, plan: &mut Plan, chunk: Chunk, (step, state): Blocks, targets: &Tensor, losses: &Tensor) {
        chunk.check(targets, losses);
        let flops = 8 * (chunk.rows * chunk.vocab) as u64;
        let bindings = [("step", step), ("state", state), ("targets", targets), ("losses", losses), ("dlogits", chunk.logits)];
        plan.push(&self.forward_backward, Extent::rows(chunk.rows), flops, &chunk.dims(), &bindings);
    }
}

impl Chunk<'_> {
    fn check(&self, targets: &Tensor, losses: &Tensor) {
        let rows = self.first + self.rows <= targets.len() && losses.len() == targets.len() && self.rows <= self.logits.rows();
        assert!(rows && self.logits.cols() == 4 * quads(self.vocab), "cross_entropy: the chunk does not fit its tensors");
    }

    fn dims(&self) -> [(&'static str, Value); 3] {
        [("rows", self.rows.into()), ("cols", self.vocab.into()), ("first", self.first.into())]
    }
}
