//! The activations that the forward leaves and the backward reads.

use super::config::{ModelConfig, Norm};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

/// Output of a norm and the moments its backward needs.
pub struct NormActs {
    /// (B · T, C)
    pub y: Tensor,
    /// (B · T, 2): mean, rstd
    pub moments: Tensor,
}

/// Activations of one block; all are (B · T, ...).
pub struct BlockActs {
    pub ln_1: NormActs,
    /// (B · T, 3C)
    pub qkv: Tensor,
    /// (B · T, C)
    pub attn: Tensor,
    /// (B, H, T)
    pub lse: Tensor,
    /// The attention's output, projected, and dropped out if there is dropout.
    pub attn_out: Tensor,
    /// The residual sum after attention.
    pub sum_1: Tensor,
    pub ln_2: NormActs,
    /// (B · T, F)
    pub fc: Tensor,
    /// (B · T, F)
    pub act: Tensor,
    pub mlp_out: Tensor,
    /// The residual sum after the feed-forward.
    pub sum_2: Tensor,
}

/// Activations of the whole model.
pub struct Acts {
    /// (B, T, C): embedding plus position.
    pub embedded: Tensor,
    pub h: Vec<BlockActs>,
    /// Of pre-norm models.
    pub ln_f: Option<NormActs>,
}

impl Acts {
    pub(crate) fn new(plan: &mut Plan, config: &ModelConfig, batch: usize) -> Acts {
        let (c, f, t) = (config.d_model, config.d_ff(), config.seq_len);
        let rows = batch * t;
        let embedded = plan.tensor("embedded", &[batch, t, c]);
        let block = |l: usize, plan: &mut Plan| {
            let mut tensor = |name: &str, cols: usize| plan.tensor(&format!("h.{l}.{name}"), &[rows, cols]);
            let ln_1 = NormActs { y: tensor("ln_1", c), moments: tensor("ln_1.moments", 2) };
            let (qkv, attn, attn_out, sum_1) = (tensor("attn.qkv", 3 * c), tensor("attn.y", c), tensor("attn.out", c), tensor("sum_1", c));
            let ln_2 = NormActs { y: tensor("ln_2", c), moments: tensor("ln_2.moments", 2) };
            let (fc, act, mlp_out, sum_2) = (tensor("mlp.fc", f), tensor("mlp.act", f), tensor("mlp.out", c), tensor("sum_2", c));
            let lse = plan.tensor(&format!("h.{l}.attn.lse"), &[batch, config.n_head, t]);
            BlockActs { ln_1, qkv, attn, lse, attn_out, sum_1, ln_2, fc, act, mlp_out, sum_2 }
        };
        let h = (0..config.n_layer).map(|l| block(l, plan)).collect();
        let mut last = || NormActs { y: plan.tensor("ln_f", &[rows, c]), moments: plan.tensor("ln_f.moments", &[rows, 2]) };
        let ln_f = (config.norm == Norm::Pre).then(&mut last);
        Acts { embedded, h, ln_f }
    }
}
