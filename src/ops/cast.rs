//! A copy of f32 tensors in the element type of activations.

use super::{quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "cast", text: include_str!("../../shaders/cast.wgsl"), shared: &[], variants: SINGLE };

/// The kernel that copies f32 elements to another element type.
pub struct Cast {
    forward: Kernel,
}

impl Cast {
    /// `activations` is the element type of the copies.
    pub fn new(activations: Dtype) -> Cast {
        Cast { forward: KernelFile::with_constants(&SOURCE, storage(activations)).kernel("forward") }
    }

    /// y = x, elementwise, rounded to the nearest value of y's element type; x is f32.
    pub fn forward(&self, plan: &mut Plan, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len() && x.dtype == Dtype::F32, "cast.forward: shapes do not fit");
        plan.push(&self.forward, Extent::rows(x.len()), 0, &[("quads", quads(x.len()).into())], &[("x", x), ("y", y)]);
    }
}
