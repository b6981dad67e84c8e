//! Adds partial sums over ranges of an inner axis to a gradient.

use super::quads;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, SINGLE, Value};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "partial_sums", text: include_str!("../../shaders/partial_sums.wgsl"), shared: &[], variants: SINGLE };

/// The kernels that add partial sums, without and with those of a bias.
pub struct PartialSums {
    add: Kernel,
    add_bias: Kernel,
}

impl PartialSums {
    /// Parses `partial_sums.wgsl`.
    pub fn new() -> PartialSums {
        let file = KernelFile::load(&SOURCE);
        PartialSums { add: file.kernel("add"), add_bias: file.kernel("add_bias") }
    }

    /// dweight += the sum over the rows of `partials` (ranges, elements of dweight and of dbias), and dbias the same. Elements are whole
    /// quads.
    pub fn add(&self, plan: &mut Plan, partials: &Tensor, dweight: &Tensor, dbias: Option<&Tensor>) {
        let len = dweight.len() + dbias.map_or(0, Tensor::len);
        let whole = dweight.len().is_multiple_of(4) && len.is_multiple_of(4);
        assert!(whole && partials.cols() == len, "partial_sums.add: shapes do not fit");
        let dims: [(&str, Value); 3] =
            [("quads", quads(dweight.len()).into()), ("stride", quads(len).into()), ("ranges", partials.rows().into())];
        let mut bindings = vec![("partials", partials), ("dweight", dweight)];
        bindings.extend(dbias.map(|dbias| ("dbias", dbias)));
        let kernel = if dbias.is_some() { &self.add_bias } else { &self.add };
        plan.push(kernel, Extent::rows(len), partials.len() as u64, &dims, &bindings);
    }
}
