//! Causal multi-head attention by streaming softmax, with its backward by recomputation.

use super::{RANDOM, STEP};
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelSource, Value, Variant};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

pub(crate) const SOURCE: KernelSource =
    KernelSource { file: "attention", text: include_str!("../../shaders/attention.wgsl"), shared: &[STEP, RANDOM], variants: VARIANTS };

/// The text of a variant by cooperative matrices.
macro_rules! cooperative {
    ($matrices:literal) => {
        concat!(
            include_str!(concat!("../../shaders/shared/", $matrices, ".wgsl")),
            include_str!("../../shaders/shared/attention_cooperative.wgsl"),
            include_str!("../../shaders/shared/attention_matrices.wgsl"),
            include_str!("../../shaders/shared/store_f16_native.wgsl")
        )
    };
}

/// Workgroup memory of a variant by matrices of `mat` x `mat`, for the largest heads.
const fn cooperative_bytes(mat: u32) -> u32 {
    // 2 blocks of 2 `mat` rows of a head, and for each of 4 `mat` rows twice 2 `mat` factors in f16 and scores in f32; all lines padded.
    2 * 2 * mat * (2 * 128 + 16) + 2 * 4 * mat * (2 * mat * 2 + 16) + 2 * 4 * mat * (2 * mat * 4 + 32) + 2 * 2 * mat * 4
}

/// The text of a variant by blocks of four rows, with the files that order its invocations.
macro_rules! blocks {
    ($($lanes:literal),*) => {
        concat!(
            include_str!("../../shaders/shared/attention_tiles.wgsl"),
            include_str!("../../shaders/shared/attention_blocks.wgsl"),
            $(include_str!(concat!("../../shaders/shared/", $lanes, ".wgsl"))),*
        )
    };
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "rows_broadcast",
        text: concat!(include_str!("../../shaders/shared/attention_rows.wgsl"), include_str!("../../shaders/shared/rows_broadcast.wgsl")),
        storages: &[],
        runs: |traits| traits.subgroup == Some(8),
        suits: |traits, _| traits.software,
    },
    Variant {
        name: "rows_memory",
        text: concat!(include_str!("../../shaders/shared/attention_rows.wgsl"), include_str!("../../shaders/shared/rows_memory.wgsl")),
        storages: &[],
        runs: |_| true,
        suits: |traits, _| traits.software,
    },
    // For activations stored as f16 only, as the products of matmul.
    Variant {
        name: "tiles_cooperative",
        text: cooperative!("matrices_16"),
        storages: &[Dtype::F16],
        runs: |traits| traits.multiplies(16, 32, cooperative_bytes(16)),
        suits: |traits, _| !traits.software,
    },
    // The same text as lavapipe executes it.
    Variant {
        name: "tiles_cooperative_8",
        text: cooperative!("matrices_8"),
        storages: &[Dtype::F16],
        runs: |traits| traits.multiplies(8, 8, cooperative_bytes(8)),
        suits: |_, _| false,
    },
    // `tiles` in another order of invocations. No card has run it yet, so only tuning selects it.
    Variant {
        name: "tiles_paired",
        text: blocks!("attention_lanes_paired", "attention_lines_paired"),
        storages: &[],
        runs: |_| true,
        suits: |_, _| false,
    },
    Variant { name: "tiles", text: blocks!("attention_lanes"), storages: &[], runs: |_| true, suits: |_, _| true },
];

/// The kernels of attention over whole sequences, for one size of head.
pub struct Attention {
    head_size: usize,
    forward: Kernel,
    backward_query: Kernel,
    backward_key_value: Kernel,
}

/// The shape of one layer's attention.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// B, the number of samples.
    pub batch: usize,
    /// T, the positions of each sample.
    pub time: usize,
    /// H, the heads at each position.
    pub heads: usize,
    /// The random stream of the dropout of probabilities, if any.
    pub dropout: Option<u32>,
}

impl Attention {
    /// `head_size` is D, a multiple of 4; it sizes the kernels' registers. qkv, y and their gradients are stored as `activations`.
    pub fn new(head_size: usize, activations: Dtype) -> Attention {
        assert!(head_size > 0 && head_size.is_multiple_of(4), "attention: a head of {head_size} is no multiple of 4");
        let file = super::load(&SOURCE, head_size, activations);
        Attention {
            head_size,
            forward: file.kernel("forward"),
            backward_query: file.kernel("backward_query"),
            backward_key_value: file.kernel("backward_key_value"),
        }
    }

    /// y (B·T, C) and the statistic lse (B, H, T), from qkv (B·T, 3C).
    pub fn forward(&self, plan: &mut Plan, shape: Shape, step: &Tensor, qkv: &Tensor, y: &Tensor, lse: &Tensor) {
        self.check(shape, qkv, y, lse);
        let flops = shape.flops(self.head_size) * 4;
        plan.push(&self.forward, shape.extent(), flops, &self.dims(shape), &[("step", step), ("qkv", qkv), ("y", y), ("lse", lse)]);
    }

    /// dqkv (B·T, 3C) from dy (B·T, C) and the forward's tensors.
    #[allow(clippy::too_many_arguments)] // six tensors of one equation
    pub fn backward(
        &self,
        plan: &mut Plan,
        shape: Shape,
        step: &Tensor,
        dy: &Tensor,
        qkv: &Tensor,
        y: &Tensor,
        lse: &Tensor,
        dqkv: &Tensor,
    ) {
        self.check(shape, qkv, y, lse);
        assert!(dqkv.len() == qkv.len() && dy.len() == y.len(), "attention.backward: shapes do not fit");
        let delta = plan.statistic("delta", &lse.shape);
        let (dims, flops) = (self.dims(shape), shape.flops(self.head_size));
        let bindings = [("step", step), ("qkv", qkv), ("out", y), ("dy", dy), ("saved", lse), ("delta", &delta), ("dqkv", dqkv)];
        plan.push(&self.backward_query, shape.extent(), 6 * flops, &dims, &bindings);
        let bindings = [("step", step), ("qkv", qkv), ("dy", dy), ("saved", lse), ("delta_in", &delta), ("dqkv", dqkv)];
        plan.push(&self.backward_key_value, shape.extent(), 8 * flops, &dims, &bindings);
    }

    fn check(&self, shape: Shape, qkv: &Tensor, y: &Tensor, lse: &Tensor) {
        let rows = shape.batch * shape.time;
        let width = shape.heads * self.head_size;
        let fits = qkv.rows() == rows && qkv.cols() == 3 * width && y.len() == rows * width && lse.len() == rows * shape.heads;
        assert!(fits, "attention: {shape:?} does not fit {qkv:?}, {y:?}, {lse:?}");
    }

    fn dims(&self, shape: Shape) -> [(&'static str, Value); 6] {
        [
            ("time", shape.time.into()),
            ("heads", shape.heads.into()),
            ("scale", ((self.head_size as f64).powf(-0.5) as f32).into()),
            ("dropout", shape.dropout.is_some().into()),
            ("stream", shape.dropout.unwrap_or(0).into()),
            ("quads", (self.head_size / 4).into()),
        ]
    }
}

impl Shape {
    fn extent(self) -> Extent {
        Extent::batched(self.time, self.batch * self.heads)
    }

    /// Multiply-adds of one product over all pairs of query and key: D for each of about T² / 2 pairs per head.
    fn flops(self, head_size: usize) -> u64 {
        (self.batch * self.heads) as u64 * (self.time * (self.time + 1) / 2) as u64 * head_size as u64
    }
}
