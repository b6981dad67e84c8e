//! A copy of f32 tensors in the storage of activations.

use super::{quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, SINGLE, Source};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub const SOURCE: Source = Source { file: "cast", text: include_str!("../../shaders/cast.wgsl"), shared: &[], variants: SINGLE };

pub struct Cast {
    forward: Kernel,
}

impl Cast {
    /// To `activations`.
    pub fn new(activations: Dtype) -> Cast {
        Cast { forward: KernelFile::with_constants(&SOURCE, storage(activations)).kernel("forward") }
    }

    /// y = x, elementwise, each to the nearest that y's storage holds; x is f32.
    pub fn forward(&self, plan: &mut Plan, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len() && x.dtype == Dtype::F32, "cast.forward: shapes do not fit");
        plan.push(&self.forward, Extent::rows(x.len()), 0, &[("quads", quads(x.len()).into())], &[("x", x), ("y", y)]);
    }
}
