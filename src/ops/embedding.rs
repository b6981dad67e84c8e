//! Embedding lookup and its deterministic backward; tables split by rows at the binding limit.

use super::{quads, storage};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "embedding", text: include_str!("../../shaders/embedding.wgsl"), shared: &[], variants: SINGLE };

/// The kernels of the lookup in a table and of the table's gradient.
pub struct Embedding {
    forward: Kernel,
    backward: Kernel,
}

impl Embedding {
    /// `activations` is the element type of activations.
    pub fn new(activations: Dtype) -> Embedding {
        let file = KernelFile::with_constants(&SOURCE, storage(activations));
        Embedding { forward: file.kernel("forward"), backward: file.kernel("backward") }
    }

    /// y (rows, C) = `scale` times the rows `ids` (rows) of the table (V, C), which may be split in parts; zeros for an id out of range.
    pub fn forward(&self, plan: &mut Plan, ids: &Tensor, table: &[Tensor], scale: f32, y: &Tensor) {
        self.each_part(table, |first_id, part, all_ids| {
            let fits = ids.len() == y.rows() && part.cols() == y.cols() && part.dtype == Dtype::F32;
            assert!(fits, "embedding.forward: shapes do not fit");
            let dims = dims(y, first_id, part, all_ids, scale);
            let bindings = [("ids", ids), ("table", part), ("y", y)];
            plan.push(&self.forward, Extent::rows(y.len()), 0, &dims, &bindings);
        });
    }

    /// dtable (V, C) += `scale` times the rows of dy, by id; `order` (rows) holds the rows sorted by (id, row).
    pub fn backward(&self, plan: &mut Plan, ids: &Tensor, order: &Tensor, dy: &Tensor, scale: f32, dtable: &[Tensor]) {
        self.each_part(dtable, |first_id, part, all_ids| {
            assert!(
                ids.len() == dy.rows() && order.len() == ids.len() && part.cols() == dy.cols(),
                "embedding.backward: shapes do not fit"
            );
            let dims = dims(dy, first_id, part, all_ids, scale);
            let bindings = [("ids", ids), ("order", order), ("dy", dy), ("dtable", part)];
            plan.push(&self.backward, Extent::rows(dy.len()), dy.len() as u64, &dims, &bindings);
        });
    }

    fn each_part(&self, table: &[Tensor], mut each: impl FnMut(usize, &Tensor, usize)) {
        let all_ids = table.iter().map(Tensor::rows).sum();
        let mut first_id = 0;
        for part in table {
            each(first_id, part, all_ids);
            first_id += part.rows();
        }
    }
}

fn dims(y: &Tensor, first_id: usize, part: &Tensor, all_ids: usize, scale: f32) -> [(&'static str, Value); 6] {
    assert!(y.cols().is_multiple_of(4), "embedding: {} columns are no whole quads", y.cols());
    [
        ("rows", y.rows().into()),
        ("quads", quads(y.cols()).into()),
        ("first_id", first_id.into()),
        ("ids", part.rows().into()),
        ("all_ids", all_ids.into()),
        ("scale", scale.into()),
    ]
}
