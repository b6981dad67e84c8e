//! The attention probabilities of one head on one sample as a matrix, for display: computed on demand from the tensors of [`attention`].
//!
//! Parsed by its users only: training never needs it.

use super::{attention, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "attention_map", text: include_str!("../../shaders/attention_map.wgsl"), shared: &[], variants: SINGLE };

/// The kernel that computes the map, for one size of head.
pub struct AttentionMap {
    head_size: usize,
    forward: Kernel,
}

impl AttentionMap {
    /// `head_size` is D, a multiple of 4; qkv is stored as `activations`.
    pub fn new(head_size: usize, activations: Dtype) -> AttentionMap {
        assert!(head_size > 0 && head_size.is_multiple_of(4), "attention_map: a head of {head_size} is no multiple of 4");
        AttentionMap { head_size, forward: KernelFile::with_constants(&SOURCE, storage(activations)).kernel("forward") }
    }

    /// map (T, T), f32: the probabilities before dropout with which `head` attends from each position (row) of `sample` to each position
    /// (column), 0 above the diagonal. Computed from qkv (B·T, 3C) and the lse (B, H, T) that [`attention::Attention::forward`] computed
    /// from it.
    #[allow(clippy::too_many_arguments)] // three tensors, and which of their B · H parts
    pub fn forward(&self, plan: &mut Plan, shape: attention::Shape, sample: usize, head: usize, qkv: &Tensor, lse: &Tensor, map: &Tensor) {
        let attention::Shape { batch, time, heads, .. } = shape;
        assert!(sample < batch && head < heads, "attention_map: there is no sample {sample}, head {head} in {shape:?}");
        let fits = qkv.rows() == batch * time && qkv.cols() == 3 * heads * self.head_size && lse.len() == batch * heads * time;
        assert!(fits && map.rows() == time && map.cols() == time, "attention_map: {shape:?} does not fit {qkv:?}, {lse:?}, {map:?}");
        let dims = [
            ("time", time.into()),
            ("heads", heads.into()),
            ("quads", (self.head_size / 4).into()),
            ("sample", sample.into()),
            ("head", head.into()),
            ("scale", ((self.head_size as f64).powf(-0.5) as f32).into()),
        ];
        let flops = (time * (time + 1) * self.head_size) as u64;
        plan.push(&self.forward, Extent::rows(time * time), flops, &dims, &[("qkv", qkv), ("lse", lse), ("map", map)]);
    }
}
