//! Causal attention of new rows over cached keys and values.

use super::cursor::Cursor;
use super::{BY_ROW, CURSOR, load, quads};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelSource, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource = KernelSource {
    file: "cached_attention",
    text: include_str!("../../shaders/cached_attention.wgsl"),
    shared: &[CURSOR],
    variants: BY_ROW,
};

/// The kernels that append rows to a cache and attend over it, for one size of head.
pub struct CachedAttention {
    head_size: usize,
    append: Kernel,
    forward: Kernel,
    token: Kernel,
}

/// The keys and values of one layer, both (T, C).
#[derive(Clone)]
pub struct Cache {
    /// Keys, f32, a row per position of the context.
    pub keys: Tensor,
    /// Values, f32, a row per position of the context.
    pub values: Tensor,
}

impl CachedAttention {
    /// `head_size` is D, a multiple of 4; it sizes the kernels' registers.
    pub fn new(head_size: usize) -> CachedAttention {
        let file = load(&SOURCE, head_size, Dtype::F32);
        CachedAttention { head_size, append: file.kernel("append"), forward: file.kernel("forward"), token: file.kernel("token") }
    }

    /// y (R, C) from qkv (R, 3C), rows at the positions given by `cursor`, over `cache`, to which their keys and values are appended.
    pub fn forward(&self, plan: &mut Plan, cursor: &Tensor, qkv: &Tensor, cache: &Cache, y: &Tensor) {
        let (rows, width, context) = (qkv.rows(), cache.keys.cols(), cache.keys.rows());
        let fits = qkv.cols() == 3 * width && y.len() == rows * width && cache.values.len() == cache.keys.len();
        assert!(fits && cursor.len() == Cursor::WORDS && width.is_multiple_of(self.head_size), "cached_attention: shapes do not fit");
        let heads = width / self.head_size;
        let dims: [(&str, Value); 4] = [
            ("rows", rows.into()),
            ("heads", heads.into()),
            ("context", context.into()),
            ("scale", ((self.head_size as f64).powf(-0.5) as f32).into()),
        ];
        let written = [("cursor", cursor), ("qkv", qkv), ("keys", &cache.keys), ("values", &cache.values)];
        let bindings = [&written[..], &[("y", y)]].concat();
        let flops = 4 * (rows * width * context) as u64;
        if rows == 1 {
            return plan.push(&self.token, Extent::groups(heads), flops, &dims, &bindings);
        }
        plan.push(&self.append, Extent::groups(quads(rows * width).div_ceil(64)), 0, &dims, &written);
        plan.push(&self.forward, Extent::groups(rows * heads), flops, &dims, &bindings);
    }
}
