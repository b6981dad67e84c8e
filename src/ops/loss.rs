//! Sums the losses of rows to the loss of the step.

use super::{BY_STRETCH, STEP};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "loss", text: include_str!("../../shaders/loss.wgsl"), shared: &[STEP], variants: BY_STRETCH };

/// Numbers in a record: loss, gradient norm, loss scale, and a 0.
pub const RECORD: usize = 4;

/// The kernel that sums the losses of a micro-batch into its step's record.
pub struct Loss {
    sum: Kernel,
}

impl Loss {
    /// Parses `loss.wgsl`.
    pub fn new() -> Loss {
        Loss { sum: KernelFile::load(&SOURCE).kernel("sum") }
    }

    /// Adds the scaled sum of `losses` (rows) to the loss in the step's row of `records` (n, [`RECORD`]); the first micro-batch overwrites it.
    pub fn sum(&self, plan: &mut Plan, step: &Tensor, losses: &Tensor, records: &Tensor) {
        assert!(records.cols() == RECORD, "loss.sum: shapes do not fit");
        let bindings = [("step", step), ("losses", losses), ("records", records)];
        plan.push(&self.sum, Extent::groups(1), losses.len() as u64, &[("rows", losses.len().into())], &bindings);
    }
}
