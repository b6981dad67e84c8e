//! Positional encoding: sinusoidal, computed in the shader, or learned.

use super::{SINE, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "position", text: include_str!("../../shaders/position.wgsl"), shared: &[SINE], variants: SINGLE };

/// Positions for which the range reduction is exact.
pub const MAX_POSITIONS: usize = 65_536;

/// The kernels that add positions to embeddings, and that of the learned table's gradient.
pub struct Position {
    sinusoidal: Kernel,
    learned: Kernel,
    learned_backward: Kernel,
}

impl Position {
    /// `activations` is the element type of activations.
    pub fn new(activations: Dtype) -> Position {
        let file = KernelFile::with_constants(&SOURCE, storage(activations));
        let kernel = |entry| file.kernel(entry);
        Position { sinusoidal: kernel("sinusoidal"), learned: kernel("learned"), learned_backward: kernel("learned_backward") }
    }

    /// x (B, T, C) += the sinusoids of its positions; `frequencies` holds those of [`frequencies`] for C.
    pub fn sinusoidal(&self, plan: &mut Plan, x: &Tensor, frequencies: &Tensor) {
        assert!(x.shape[1] <= MAX_POSITIONS && frequencies.len() == x.cols().div_ceil(2) * 2, "position.sinusoidal: shapes do not fit");
        let flops = 16 * x.len() as u64;
        plan.push(&self.sinusoidal, Extent::rows(x.len()), flops, &dims(x, x.len()), &[("x", x), ("frequencies", frequencies)]);
    }

    /// x (B, T, C) += table (T or more, C).
    pub fn learned(&self, plan: &mut Plan, x: &Tensor, table: &Tensor) {
        assert!(table.rows() >= x.shape[1] && table.cols() == x.cols(), "position.learned: shapes do not fit");
        plan.push(&self.learned, Extent::rows(x.len()), x.len() as u64, &dims(x, x.len()), &[("x", x), ("table", table)]);
    }

    /// dtable (T or more, C) += dx (B, T, C) summed over the batch.
    pub fn learned_backward(&self, plan: &mut Plan, dx: &Tensor, dtable: &Tensor) {
        assert!(dtable.rows() >= dx.shape[1] && dtable.cols() == dx.cols(), "position.learned_backward: shapes do not fit");
        let count = dx.shape[1] * dx.cols();
        plan.push(&self.learned_backward, Extent::rows(count), dx.len() as u64, &dims(dx, count), &[("d_x", dx), ("dtable", dtable)]);
    }
}

/// The dims of a kernel with `count` output elements over a tensor (B, T, C).
fn dims(x: &Tensor, count: usize) -> [(&'static str, Value); 4] {
    assert!(x.cols().is_multiple_of(4), "position: {} columns are no whole quads", x.cols());
    [("batch", x.shape[0].into()), ("time", x.shape[1].into()), ("quads", quads(x.cols()).into()), ("count", quads(count).into())]
}

/// Turns per position of each pair of channels, 10000^(−2i / C) / 2π, as 64-bit fixed-point fractions: (high, low) words.
pub fn frequencies(cols: usize) -> Vec<u32> {
    let words = |pair: usize| {
        let turns = 10000f64.powf(-2.0 * pair as f64 / cols as f64) / std::f64::consts::TAU;
        let fixed = (turns * 2f64.powi(64)) as u64;
        [(fixed >> 32) as u32, fixed as u32]
    };
    (0..cols.div_ceil(2)).flat_map(words).collect()
}
