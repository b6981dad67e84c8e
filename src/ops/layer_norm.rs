//! Layer normalization over the last axis.

use super::column_sum::{CHUNK, ColumnSum};
use super::{BY_ROW, LANES};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, Source, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source =
    Source { file: "layer_norm", text: include_str!("../../shaders/layer_norm.wgsl"), shared: &[LANES], variants: BY_ROW };

/// GPT-2's and PyTorch's ε.
pub const EPS: f32 = 1e-5;

pub struct LayerNorm {
    forward: Kernel,
    backward: Kernel,
    backward_add: Kernel,
    backward_weight: Kernel,
}

impl LayerNorm {
    pub fn new() -> LayerNorm {
        let file = KernelFile::load(&SOURCE);
        LayerNorm {
            forward: file.kernel("forward"),
            backward: file.kernel("backward"),
            backward_add: file.kernel("backward_add"),
            backward_weight: file.kernel("backward_weight"),
        }
    }

    /// y (rows, C) and moments (rows, 2) of x (rows, C), with weight (C) and an optional bias (C).
    pub fn forward(&self, plan: &mut Plan, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, y: &Tensor, moments: &Tensor) {
        assert!(x.len() == y.len() && weight.len() == x.cols() && moments.len() == 2 * x.rows(), "layer_norm.forward: shapes do not fit");
        let bindings = [("x", x), ("weight", weight), ("bias", bias.unwrap_or(weight)), ("y", y), ("moments", moments)];
        plan.push(&self.forward, Extent::rows(x.rows()), 8 * x.len() as u64, &dims(x, bias.is_some()), &bindings);
    }

    /// dx (rows, C) from dy (rows, C); added to dx if `add`.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    pub fn backward(&self, plan: &mut Plan, dy: &Tensor, x: &Tensor, weight: &Tensor, moments: &Tensor, dx: &Tensor, add: bool) {
        assert!(x.len() == dy.len() && x.len() == dx.len() && moments.len() == 2 * x.rows(), "layer_norm.backward: shapes do not fit");
        let kernel = if add { &self.backward_add } else { &self.backward };
        let bindings = [("dy", dy), ("x", x), ("weight", weight), ("saved", moments), ("dx", dx)];
        plan.push(kernel, Extent::rows(x.rows()), 14 * x.len() as u64, &dims(x, false), &bindings);
    }

    /// dweight (C) += Σ dy · x̂, and dbias (C) += Σ dy.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation, and where the partials are summed
    pub fn backward_weight(
        &self,
        plan: &mut Plan,
        column_sum: &ColumnSum,
        dy: &Tensor,
        x: &Tensor,
        moments: &Tensor,
        dweight: &Tensor,
        dbias: Option<&Tensor>,
    ) {
        assert!(x.len() == dy.len() && dweight.len() == x.cols(), "layer_norm.backward_weight: shapes do not fit");
        let partials = plan.tensor("partials", &[x.rows().div_ceil(CHUNK), x.cols()]);
        let groups = partials.rows() * x.cols().div_ceil(64);
        let bindings = [("dy", dy), ("x", x), ("saved", moments), ("partials", &partials)];
        plan.push(&self.backward_weight, Extent::groups(groups), 5 * x.len() as u64, &dims(x, false), &bindings);
        column_sum.finish(plan, &partials, dweight);
        if let Some(dbias) = dbias {
            column_sum.forward(plan, dy, dbias);
        }
    }
}

fn dims(x: &Tensor, has_bias: bool) -> [(&'static str, Value); 4] {
    [("rows", x.rows().into()), ("cols", x.cols().into()), ("has_bias", has_bias.into()), ("eps", EPS.into())]
}
