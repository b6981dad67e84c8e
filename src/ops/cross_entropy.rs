//! Cross-entropy over the vocabulary and its gradient, written over the logits.

use super::{BY_LONG_ROW, STATE, STEP, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource = KernelSource {
    file: "cross_entropy",
    text: include_str!("../../shaders/cross_entropy.wgsl"),
    shared: &[STEP, STATE],
    variants: BY_LONG_ROW,
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
        plan.push(&self.forward, Extent::matrix(chunk.rows, chunk.vocab), flops, &chunk.dims(), &bindings);
    }

    /// The same, and overwrites the logits with their gradient, which the blocks `step` and `state` scale.
    pub fn forward_backward(&self, plan: &mut Plan, chunk: Chunk, (step, state): Blocks, targets: &Tensor, losses: &Tensor) {
        chunk.check(targets, losses);
        let flops = 8 * (chunk.rows * chunk.vocab) as u64;
        let bindings = [("step", step), ("state", state), ("targets", targets), ("losses", losses), ("dlogits", chunk.logits)];
        plan.push(&self.forward_backward, Extent::matrix(chunk.rows, chunk.vocab), flops, &chunk.dims(), &bindings);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Traits;

    #[test]
    fn long_rows_take_more_lanes_on_cards() {
        let kernel = CrossEntropy::new(Dtype::F32).forward_backward;
        let chosen = |software: bool, vocab: usize| {
            let (traits, extent) = (Traits { software, ..Traits::default() }, Extent::matrix(2048, vocab));
            let interface = &kernel.interfaces()[kernel.choose(&traits, &extent, None, &[])];
            (interface.module.variant.name, extent.workgroups(interface.tile))
        };
        assert_eq!(chosen(false, 4095), ("lanes_64", 2048));
        assert_eq!(chosen(false, 4096), ("lanes_256", 2048));
        assert_eq!(chosen(false, 50_257), ("lanes_256", 2048), "one workgroup a row, however many columns");
        assert_eq!(chosen(true, 50_257), ("lanes_8", 2048));
    }
}
