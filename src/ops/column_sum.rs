//! Column sums in two stages of fixed order: the gradient of biases.

use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, SINGLE, Source};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source =
    Source { file: "column_sum", text: include_str!("../../shaders/column_sum.wgsl"), shared: &[], variants: SINGLE };

/// Rows that one workgroup of a first stage sums; `CHUNK` in the shaders, held to it by a test.
pub const CHUNK: usize = 64;

pub struct ColumnSum {
    partial: Kernel,
    finish: Kernel,
}

impl ColumnSum {
    pub fn new() -> ColumnSum {
        let file = KernelFile::load(&SOURCE);
        ColumnSum { partial: file.kernel("partial"), finish: file.kernel("finish") }
    }

    /// y (C) += the sum of x (rows, C) over its rows.
    pub fn forward(&self, plan: &mut Plan, x: &Tensor, y: &Tensor) {
        assert!(x.cols() == y.len(), "column_sum.forward: shapes do not fit");
        let partials = plan.tensor("partials", &[x.rows().div_ceil(CHUNK), x.cols()]);
        let dims = [("rows", x.rows().into()), ("cols", x.cols().into())];
        plan.push(&self.partial, Extent::matrix(partials.rows(), x.cols()), x.len() as u64, &dims, &[("x", x), ("partials", &partials)]);
        self.finish(plan, &partials, y);
    }

    /// y (C) += the sum of partials (chunks, C).
    pub fn finish(&self, plan: &mut Plan, partials: &Tensor, y: &Tensor) {
        assert!(partials.cols() == y.len(), "column_sum.finish: shapes do not fit");
        let dims = [("rows", partials.rows().into()), ("cols", partials.cols().into())];
        plan.push(&self.finish, Extent::matrix(1, y.len()), partials.len() as u64, &dims, &[("sums", partials), ("y", y)]);
    }
}
