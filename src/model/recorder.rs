//! The state that recording a model's passes needs.

use super::config::ModelConfig;
use crate::gpu::Traits;
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::Ops;
use crate::ops::cached_attention::{Cache, CachedAttention};
use crate::ops::token_embedding::TokenEmbedding;

/// Records the passes of one model in one kind of context.
pub(crate) struct Recorder<'a> {
    pub ops: &'a Ops,
    pub config: &'a ModelConfig,
    /// The block of [`crate::ops::step::Step`].
    pub step: &'a Tensor,
    /// Fixed-point frequencies of sinusoidal positions.
    pub frequencies: Option<&'a Tensor>,
    pub context: KeyValues<'a>,
    /// Number of samples in the rows.
    pub batch: usize,
    /// The element type of activations.
    pub dtype: Dtype,
    /// Of the adapter that will run the plan.
    pub traits: &'a Traits,
}

/// The keys and values that a row attends to.
pub(crate) enum KeyValues<'a> {
    /// Those of the rows before it in its own sequence: the pass holds all rows of `batch` whole sequences.
    Sequences,
    /// Those in the caches, and of the new rows before it.
    Cached {
        /// The block of [`crate::ops::cursor::Cursor`].
        cursor: &'a Tensor,
        embedding: TokenEmbedding,
        attention: CachedAttention,
        /// One per layer.
        caches: Vec<Cache>,
    },
}

/// The dropouts of a model. Each has its own stream of random numbers.
#[derive(Clone, Copy)]
pub(crate) enum Mask {
    Embedding,
    /// A layer's attention probabilities.
    Probabilities(usize),
    /// A layer's projected attention.
    Attention(usize),
    /// A layer's feed-forward output.
    FeedForward(usize),
}

impl Mask {
    /// The embedding has the first stream, then each layer has three.
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
    /// Adds an activation of this model.
    pub fn tensor(&self, plan: &mut Plan, name: &str, shape: &[usize]) -> Tensor {
        plan.activation(name, shape, self.dtype)
    }
}
