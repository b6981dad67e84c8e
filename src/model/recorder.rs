//! What recording the passes of a model needs at hand.

use super::config::ModelConfig;
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::Ops;
use crate::ops::cached_attention::{Cache, CachedAttention};
use crate::ops::token_embedding::TokenEmbedding;

/// Records the passes of one model over one kind of context.
pub(crate) struct Recorder<'a> {
    pub ops: &'a Ops,
    pub config: &'a ModelConfig,
    /// The block of [`crate::ops::step::Step`].
    pub step: &'a Tensor,
    /// Fixed-point frequencies of sinusoidal positions.
    pub frequencies: Option<&'a Tensor>,
    pub context: Context<'a>,
    /// Samples among the rows.
    pub batch: usize,
    /// How activations are stored.
    pub dtype: Dtype,
    /// Bytes, see [`wgpu::Limits::max_storage_buffer_binding_size`].
    pub largest_binding: u64,
}

/// What a row attends to.
pub(crate) enum Context<'a> {
    /// The rows before it in its own sequence: all rows of `batch` whole sequences are there.
    Sequences,
    /// What the caches hold, and the new rows before it.
    Cached {
        /// The block of [`crate::ops::cursor::Cursor`].
        cursor: &'a Tensor,
        embedding: TokenEmbedding,
        attention: CachedAttention,
        /// One a layer.
        caches: Vec<Cache>,
    },
}

/// The dropouts of a model, each of which draws from a stream of random numbers of its own.
#[derive(Clone, Copy)]
pub(crate) enum Mask {
    Embedding,
    /// Of a layer's attention probabilities.
    Probabilities(usize),
    /// Of a layer's projected attention.
    Attention(usize),
    /// Of a layer's feed-forward result.
    FeedForward(usize),
}

impl Mask {
    /// Three streams a layer, behind the embedding's.
    pub fn stream(self) -> u32 {
        match self {
            Mask::Embedding => 0,
            Mask::Probabilities(layer) => 3 * layer as u32 + 1,
            Mask::Attention(layer) => 3 * layer as u32 + 2,
            Mask::FeedForward(layer) => 3 * layer as u32 + 3,
        }
    }
}

impl Recorder<'_> {
    /// An activation of this model.
    pub fn tensor(&self, plan: &mut Plan, name: &str, shape: &[usize]) -> Tensor {
        plan.activation(name, shape, self.dtype)
    }
}
