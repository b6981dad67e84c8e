//! Drawing the next token from logits.

use super::cursor::Cursor;
use super::{CURSOR, RANDOM, STEP, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Variant};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

/// `sample.wgsl` and its variants.
pub const SOURCE: KernelSource =
    KernelSource { file: "sample", text: include_str!("../../shaders/sample.wgsl"), shared: &[CURSOR, STEP, RANDOM], variants: VARIANTS };

/// On a large vocabulary, eight invocations would exceed the loop trips that Mesa 22.3's lavapipe allows.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "lanes_8",
        text: include_str!("../../shaders/shared/lanes_8.wgsl"),
        storages: &[],
        runs: |_| true,
        suits: |traits, extent| traits.software && extent.cols <= 1 << 16,
    },
    Variant {
        name: "lanes_64",
        text: include_str!("../../shaders/shared/lanes_64.wgsl"),
        storages: &[],
        runs: |_| true,
        suits: |_, _| true,
    },
];

/// Drawn tokens that the device stores until they are read back.
pub const RING: usize = 64;

/// The kernel that draws a token.
pub struct Sample {
    draw: Kernel,
}

impl Sample {
    /// Parses `sample.wgsl` for f32 logits.
    pub fn new() -> Sample {
        Sample { draw: KernelFile::with_constants(&SOURCE, storage(Dtype::F32)).kernel("draw") }
    }

    /// Draws a token from `logits` (V or more) among `allowed` (V / 32 words, one bit per id), by the settings in `cursor`. Writes it to
    /// the first of `ids` and to the next entry of `ring` (RING), and advances `cursor`.
    #[allow(clippy::too_many_arguments)] // the inputs, and the three tensors that a draw updates
    pub fn draw(&self, plan: &mut Plan, vocab: usize, logits: &Tensor, allowed: &Tensor, cursor: &Tensor, ids: &Tensor, ring: &Tensor) {
        let fits = logits.len() >= vocab && allowed.len() == vocab.div_ceil(32) && cursor.len() == Cursor::WORDS && ring.len() == RING;
        assert!(fits && !ids.is_empty(), "sample.draw: shapes do not fit");
        let bindings = [("logits", logits), ("allowed", allowed), ("cursor", cursor), ("ids", ids), ("ring", ring)];
        let extent = Extent::matrix(1, vocab);
        plan.push(&self.draw, extent, 4 * vocab as u64, &[("ids", vocab.into())], &bindings);
    }
}

/// The words of `allowed` for a vocabulary without the ids in `never`.
pub fn allowed(vocab: usize, never: &[u32]) -> Vec<u32> {
    let mut words = vec![u32::MAX; vocab.div_ceil(32)];
    for &id in never {
        words[id as usize / 32] &= !(1 << (id % 32));
    }
    words
}
