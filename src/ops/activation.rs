//! Activations of the feed-forward layer: tanh-GELU and ReLU.

use super::quads;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, SINGLE, Source};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source =
    Source { file: "activation", text: include_str!("../../shaders/activation.wgsl"), shared: &[], variants: SINGLE };

pub struct Activation {
    gelu: Kernel,
    gelu_backward: Kernel,
    relu: Kernel,
    relu_backward: Kernel,
}

/// Which activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gelu,
    Relu,
}

impl Activation {
    pub fn new() -> Activation {
        let file = KernelFile::load(&SOURCE);
        Activation {
            gelu: file.kernel("gelu"),
            gelu_backward: file.kernel("gelu_backward"),
            relu: file.kernel("relu"),
            relu_backward: file.kernel("relu_backward"),
        }
    }

    /// y = the activation of x, elementwise.
    pub fn forward(&self, plan: &mut Plan, kind: Kind, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len(), "activation.forward: shapes do not fit");
        let kernel = if kind == Kind::Gelu { &self.gelu } else { &self.relu };
        plan.push(kernel, Extent::rows(x.len()), 12 * x.len() as u64, &[("quads", quads(x.len()).into())], &[("x", x), ("y", y)]);
    }

    /// dx = dy times the slope at x, elementwise.
    pub fn backward(&self, plan: &mut Plan, kind: Kind, dy: &Tensor, x: &Tensor, dx: &Tensor) {
        assert!(x.len() == dy.len() && x.len() == dx.len(), "activation.backward: shapes do not fit");
        let kernel = if kind == Kind::Gelu { &self.gelu_backward } else { &self.relu_backward };
        let dims = [("quads", quads(x.len()).into())];
        plan.push(kernel, Extent::rows(x.len()), 20 * x.len() as u64, &dims, &[("dy", dy), ("x", x), ("dx", dx)]);
    }
}
