//! The activations that the forward leaves and the backward reads.

use crate::gpu::tensor::Tensor;

/// What a norm leaves.
pub struct NormActs {
    /// (rows, C)
    pub y: Tensor,
    /// (rows, 2): mean and reciprocal deviation.
    pub moments: Tensor,
}

/// What a residual branch leaves: the sum of its input and of what it computes, and the norm before or behind that.
pub struct BranchActs {
    /// (rows, C): its input.
    pub x: Tensor,
    pub norm: NormActs,
    /// (rows, C): the residual sum.
    pub sum: Tensor,
    /// (rows, C): its output, which is the sum, or the norm of it.
    pub y: Tensor,
}

/// What attention leaves inside its branch.
pub struct AttentionActs {
    /// (rows, 3C)
    pub qkv: Tensor,
    /// (rows, C)
    pub y: Tensor,
    /// (B, H, T): the log of each row's sum of exponentials; of whole sequences only.
    pub lse: Option<Tensor>,
}

/// What one block leaves.
pub struct BlockActs {
    pub attention: AttentionActs,
    pub attention_branch: BranchActs,
    /// (rows, F), before the activation, whose result the backward computes again.
    pub fc: Tensor,
    pub mlp_branch: BranchActs,
}

/// What embedding and blocks leave.
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
