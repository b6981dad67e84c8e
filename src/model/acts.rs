//! The activations that the forward pass writes and the backward pass reads.

use crate::gpu::tensor::Tensor;

/// The activations of a norm.
pub struct NormActs {
    /// (rows, C)
    pub y: Tensor,
    /// (rows, 2): mean and reciprocal standard deviation.
    pub moments: Tensor,
}

/// The activations of a residual branch: the sum of its input and its inner layers, and the norm before (pre-norm) or after (post-norm) it.
pub struct BranchActs {
    /// (rows, C): its input.
    pub x: Tensor,
    pub norm: NormActs,
    /// (rows, C): the residual sum.
    pub sum: Tensor,
    /// (rows, C): its output: the sum (pre-norm) or its norm (post-norm).
    pub y: Tensor,
}

/// The activations of attention inside its branch.
pub struct AttentionActs {
    /// (rows, 3C)
    pub qkv: Tensor,
    /// (rows, C)
    pub y: Tensor,
    /// (B, H, T): the log of each row's sum of exponentials; whole sequences only.
    pub lse: Option<Tensor>,
}

/// The activations of one block.
pub struct BlockActs {
    pub attention: AttentionActs,
    pub attention_branch: BranchActs,
    /// (rows, F), before the activation function, which the backward pass recomputes.
    pub fc: Tensor,
    pub mlp_branch: BranchActs,
}

/// The activations of embedding and blocks.
pub struct Acts {
    /// (rows, C): embedding plus position.
    pub embedded: Tensor,
    pub h: Vec<BlockActs>,
}

impl Acts {
    /// (rows, C): the output of the last block.
    pub fn y(&self) -> &Tensor {
        self.h.last().map_or(&self.embedded, |block| &block.mlp_branch.y)
    }
}
