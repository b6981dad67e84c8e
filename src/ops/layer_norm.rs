//! Layer normalization over the last axis.

use super::{BY_ROW, quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

/// `layer_norm.wgsl` and its variants.
pub const SOURCE: KernelSource =
    KernelSource { file: "layer_norm", text: include_str!("../../shaders/layer_norm.wgsl"), shared: &[], variants: BY_ROW };

/// GPT-2's and PyTorch's ε.
pub const EPS: f32 = 1e-5;

/// Rows summed by one workgroup of the first stage of a weight's gradient; a test checks it against `CHUNK` in the shader.
pub const CHUNK: usize = 32;

/// Quads of columns summed by one workgroup; a test checks it against `WEIGHT_QUADS` in the shader.
pub const WEIGHT_QUADS: usize = 64;

/// The kernels of the norm of each row and of its gradients.
pub struct LayerNorm {
    forward: Kernel,
    backward: Kernel,
    backward_add: Kernel,
    backward_weight: Kernel,
    finish: Kernel,
    finish_bias: Kernel,
}

impl LayerNorm {
    /// `activations` is the element type of activations.
    pub fn new(activations: Dtype) -> LayerNorm {
        let file = KernelFile::with_constants(&SOURCE, storage(activations));
        LayerNorm {
            forward: file.kernel("forward"),
            backward: file.kernel("backward"),
            backward_add: file.kernel("backward_add"),
            backward_weight: file.kernel("backward_weight"),
            finish: file.kernel("finish"),
            finish_bias: file.kernel("finish_bias"),
        }
    }

    /// y (rows, C) and moments (rows, 2) of x (rows, C), with weight (C) and an optional bias (C).
    pub fn forward(&self, plan: &mut Plan, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, y: &Tensor, moments: &Tensor) {
        assert!(x.len() == y.len() && weight.len() == x.cols() && moments.len() == 2 * x.rows(), "layer_norm.forward: shapes do not fit");
        let bound = bias.cloned().unwrap_or_else(|| plan.stand_in());
        let bindings = [("x", x), ("weight", weight), ("bias", &bound), ("y", y), ("moments", moments)];
        plan.push(&self.forward, Extent::rows(x.rows()), 8 * x.len() as u64, &dims(x, x.rows(), bias.is_some()), &bindings);
    }

    /// dx (rows, C) from dy (rows, C); added to dx if `add`.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    pub fn backward(&self, plan: &mut Plan, dy: &Tensor, x: &Tensor, weight: &Tensor, moments: &Tensor, dx: &Tensor, add: bool) {
        assert!(x.len() == dy.len() && x.len() == dx.len() && moments.len() == 2 * x.rows(), "layer_norm.backward: shapes do not fit");
        let kernel = if add { &self.backward_add } else { &self.backward };
        let bindings = [("dy", dy), ("x", x), ("weight", weight), ("saved", moments), ("d_x", dx)];
        plan.push(kernel, Extent::rows(x.rows()), 14 * x.len() as u64, &dims(x, x.rows(), false), &bindings);
    }

    /// dweight (C) += Σ dy · x̂, and dbias (C) += Σ dy.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    pub fn backward_weight(&self, plan: &mut Plan, dy: &Tensor, x: &Tensor, moments: &Tensor, dweight: &Tensor, dbias: Option<&Tensor>) {
        assert!(x.len() == dy.len() && dweight.len() == x.cols(), "layer_norm.backward_weight: shapes do not fit");
        let chunks = x.rows().div_ceil(CHUNK);
        let tiles = quads(x.cols()).div_ceil(WEIGHT_QUADS);
        let partials = plan.statistic("partials", &[chunks, 2, x.cols()]);
        let bindings = [("dy", dy), ("x", x), ("saved", moments), ("partials", &partials)];
        let rows = dims(x, x.rows(), false);
        plan.push(&self.backward_weight, Extent::groups(chunks * tiles), 5 * x.len() as u64, &rows, &bindings);
        let chunks = dims(x, chunks, false);
        let mut bindings = vec![("sums", &partials), ("dweight", dweight)];
        bindings.extend(dbias.map(|dbias| ("dbias", dbias)));
        // Without a bias only the first half of the partials is summed.
        let (kernel, sums) = if dbias.is_some() { (&self.finish_bias, 2) } else { (&self.finish, 1) };
        plan.push(kernel, Extent::groups(tiles), sums * (partials.len() / 2) as u64, &chunks, &bindings);
    }
}

fn dims(x: &Tensor, rows: usize, has_bias: bool) -> [(&'static str, Value); 4] {
    assert!(x.cols().is_multiple_of(4), "layer_norm: {} columns are no whole quads", x.cols());
    [("rows", rows.into()), ("quads", quads(x.cols()).into()), ("has_bias", has_bias.into()), ("eps", EPS.into())]
}
