//! Embedding and position of the rows that decoding adds to a context.

use super::cursor::Cursor;
use super::position::MAX_POSITIONS;
use super::{CURSOR, SINE, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource = KernelSource {
    file: "token_embedding",
    text: include_str!("../../shaders/token_embedding.wgsl"),
    shared: &[CURSOR, SINE],
    variants: SINGLE,
};

/// The kernels of token plus position, for learned and for sinusoidal positions.
pub struct TokenEmbedding {
    learned: Kernel,
    sinusoidal: Kernel,
}

/// The encoding of positions.
#[derive(Clone, Copy)]
pub enum Positions<'a> {
    /// The table (T, C).
    Learned(&'a Tensor),
    /// [`super::position::frequencies`] of C, and the length of the context.
    Sinusoidal(&'a Tensor, usize),
}

impl TokenEmbedding {
    /// Parses `token_embedding.wgsl` for f32 activations.
    pub fn new() -> TokenEmbedding {
        let file = KernelFile::with_constants(&SOURCE, storage(Dtype::F32));
        TokenEmbedding { learned: file.kernel("learned"), sinusoidal: file.kernel("sinusoidal") }
    }

    /// y (rows, C) = `scale` times the rows `ids` (rows) of the table (V, C), which may be split in parts, plus their positions, the first
    /// at `cursor`; for an id out of range, its position alone.
    #[allow(clippy::too_many_arguments)] // six operands of one equation
    pub fn forward(&self, plan: &mut Plan, cursor: &Tensor, ids: &Tensor, table: &[Tensor], scale: f32, positions: Positions, y: &Tensor) {
        let (kernel, context, (name, constants)) = match positions {
            Positions::Learned(table) => (&self.learned, table.rows(), ("positions", table)),
            Positions::Sinusoidal(frequencies, context) => (&self.sinusoidal, context, ("frequencies", frequencies)),
        };
        let all_ids: usize = table.iter().map(Tensor::rows).sum();
        let mut first_id = 0;
        for part in table {
            let fits = ids.len() == y.rows() && part.cols() == y.cols() && y.cols().is_multiple_of(4) && cursor.len() == Cursor::WORDS;
            let reached = context <= MAX_POSITIONS || matches!(positions, Positions::Learned(_));
            assert!(fits && reached && constants.cols() == y.cols(), "token_embedding: shapes do not fit");
            let dims = [
                ("rows", y.rows().into()),
                ("quads", (y.cols() / 4).into()),
                ("first_id", first_id.into()),
                ("ids", part.rows().into()),
                ("all_ids", all_ids.into()),
                ("context", context.into()),
                ("scale", scale.into()),
            ];
            let bindings = [("cursor", cursor), ("ids", ids), ("table", part), (name, constants), ("y", y)];
            plan.push(kernel, Extent::groups(quads(y.len()).div_ceil(64)), y.len() as u64, &dims, &bindings);
            first_id += part.rows();
        }
    }
}
