//! The activations that the forward leaves and the backward reads.

use super::config::{ModelConfig, Norm};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

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
    /// The residual sum after attention.
    pub sum_1: Tensor,
    pub ln_2: NormActs,
    /// (B · T, F), before the activation, whose result the backward computes again.
    pub fc: Tensor,
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

impl NormActs {
    fn new(plan: &mut Plan, name: &str, rows: usize, cols: usize, dtype: Dtype) -> NormActs {
        NormActs { y: plan.activation(name, &[rows, cols], dtype), moments: plan.statistic(&format!("{name}.moments"), &[rows, 2]) }
    }
}

impl Acts {
    /// All but statistics are stored as `dtype`.
    pub(crate) fn new(plan: &mut Plan, config: &ModelConfig, batch: usize, dtype: Dtype) -> Acts {
        let (c, f, t) = (config.d_model, config.d_ff(), config.seq_len);
        let rows = batch * t;
        let embedded = plan.activation("embedded", &[batch, t, c], dtype);
        let block = |l: usize, plan: &mut Plan| {
            let ln_1 = NormActs::new(plan, &format!("h.{l}.ln_1"), rows, c, dtype);
            let ln_2 = NormActs::new(plan, &format!("h.{l}.ln_2"), rows, c, dtype);
            let lse = plan.statistic(&format!("h.{l}.attn.lse"), &[batch, config.n_head, t]);
            let mut tensor = |name: &str, cols: usize| plan.activation(&format!("h.{l}.{name}"), &[rows, cols], dtype);
            let (qkv, attn, sum_1) = (tensor("attn.qkv", 3 * c), tensor("attn.y", c), tensor("sum_1", c));
            let (fc, sum_2) = (tensor("mlp.fc", f), tensor("sum_2", c));
            BlockActs { ln_1, qkv, attn, lse, sum_1, ln_2, fc, sum_2 }
        };
        let h = (0..config.n_layer).map(|l| block(l, plan)).collect();
        let ln_f = (config.norm == Norm::Pre).then(|| NormActs::new(plan, "ln_f", rows, c, dtype));
        Acts { embedded, h, ln_f }
    }
}
