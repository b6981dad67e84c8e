//! The residual connection.

use super::quads;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, SINGLE, Source};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source = Source { file: "residual", text: include_str!("../../shaders/residual.wgsl"), shared: &[], variants: SINGLE };

pub struct Residual {
    add: Kernel,
}

impl Residual {
    pub fn new() -> Residual {
        Residual { add: KernelFile::load(&SOURCE).kernel("add") }
    }

    /// y = a + b, elementwise. The gradient passes to both sides as it is.
    pub fn add(&self, plan: &mut Plan, a: &Tensor, b: &Tensor, y: &Tensor) {
        assert!(a.len() == b.len() && a.len() == y.len(), "residual.add: shapes do not fit");
        plan.push(&self.add, Extent::rows(y.len()), y.len() as u64, &[("quads", quads(y.len()).into())], &[("a", a), ("b", b), ("y", y)]);
    }
}
