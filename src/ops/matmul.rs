//! The matrix products of a linear layer and their derivatives.

use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, Source, Variant};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;

pub const SOURCE: Source = Source { file: "matmul", text: include_str!("../../shaders/matmul.wgsl"), shared: &[], variants: VARIANTS };

/// On software adapters loads are dear and barriers dearer; on GPUs it is the other way round.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "tile_broadcast",
        text: include_str!("../../shaders/shared/tile_broadcast.wgsl"),
        runs: |traits| traits.subgroup == Some(8),
        suits: |traits, _| traits.software,
    },
    Variant {
        name: "tile_registers",
        text: include_str!("../../shaders/shared/tile_registers.wgsl"),
        runs: |_| true,
        suits: |traits, _| traits.software,
    },
    Variant { name: "tile_shared", text: include_str!("../../shaders/shared/tile_shared.wgsl"), runs: |_| true, suits: |_, _| true },
];

pub struct Matmul {
    forward: Kernel,
    forward_bias: Kernel,
    backward_input: Kernel,
    backward_input_add: Kernel,
    backward_weight: Kernel,
}

/// A block of a stored matrix: `rows` x `cols` elements from (`row`, `col`) on.
#[derive(Clone)]
pub struct Block<'a> {
    pub tensor: &'a Tensor,
    pub row: usize,
    pub col: usize,
    pub rows: usize,
    pub cols: usize,
}

impl<'a> Block<'a> {
    /// The whole of a matrix (all axes but the last are rows).
    pub fn whole(tensor: &'a Tensor) -> Block<'a> {
        Block { tensor, row: 0, col: 0, rows: tensor.rows(), cols: tensor.cols() }
    }

    /// Some of its rows.
    pub fn rows(tensor: &'a Tensor, row: usize, rows: usize) -> Block<'a> {
        Block { row, rows, ..Block::whole(tensor) }
    }

    /// The block's columns `col..col + cols`.
    pub fn columns(self, col: usize, cols: usize) -> Block<'a> {
        Block { col: self.col + col, cols, ..self }
    }

    fn stride(&self) -> usize {
        self.tensor.cols()
    }

    fn first(&self) -> usize {
        assert!(
            self.row + self.rows <= self.tensor.rows() && self.col + self.cols <= self.tensor.cols(),
            "block outside {:?}",
            self.tensor
        );
        self.row * self.stride() + self.col
    }
}

impl Matmul {
    pub fn new() -> Matmul {
        let file = KernelFile::load(&SOURCE);
        Matmul {
            forward: file.kernel("forward"),
            forward_bias: file.kernel("forward_bias"),
            backward_input: file.kernel("backward_input"),
            backward_input_add: file.kernel("backward_input_add"),
            backward_weight: file.kernel("backward_weight"),
        }
    }

    /// y (rows, out) = x (rows, in) · weightᵀ + bias, weight (out, in), bias (out).
    pub fn forward(&self, plan: &mut Plan, x: Block, weight: Block, bias: Option<&Tensor>, y: Block) {
        assert!(x.cols == weight.cols && x.rows == y.rows && weight.rows == y.cols, "matmul.forward: shapes do not fit");
        match bias {
            Some(bias) => self.push(plan, &self.forward_bias, x.cols, [&x, &weight, &y], Some(bias)),
            None => self.push(plan, &self.forward, x.cols, [&x, &weight, &y], None),
        }
    }

    /// dx (rows, in) = dy (rows, out) · weight; added to dx if `add`.
    pub fn backward_input(&self, plan: &mut Plan, dy: Block, weight: Block, dx: Block, add: bool) {
        assert!(dy.cols == weight.rows && dy.rows == dx.rows && weight.cols == dx.cols, "matmul.backward_input: shapes do not fit");
        let kernel = if add { &self.backward_input_add } else { &self.backward_input };
        self.push(plan, kernel, dy.cols, [&dy, &weight, &dx], None);
    }

    /// dweight (out, in) += dyᵀ · x, summed over rows.
    pub fn backward_weight(&self, plan: &mut Plan, dy: Block, x: Block, dweight: Block) {
        assert!(dy.rows == x.rows && dy.cols == dweight.rows && x.cols == dweight.cols, "matmul.backward_weight: shapes do not fit");
        self.push(plan, &self.backward_weight, dy.rows, [&dy, &x, &dweight], None);
    }

    fn push(&self, plan: &mut Plan, kernel: &Kernel, inner: usize, [a, b, y]: [&Block; 3], bias: Option<&Tensor>) {
        let dims = [
            ("rows", y.rows.into()),
            ("cols", y.cols.into()),
            ("inner", inner.into()),
            ("a_stride", a.stride().into()),
            ("a_first", a.first().into()),
            ("b_stride", b.stride().into()),
            ("b_first", b.first().into()),
            ("y_stride", y.stride().into()),
            ("y_first", y.first().into()),
        ];
        let mut bindings = vec![("a", a.tensor), ("b", b.tensor), ("y", y.tensor)];
        bindings.extend(bias.map(|bias| ("bias", bias)));
        let flops = 2 * y.rows as u64 * y.cols as u64 * inner as u64;
        plan.push(kernel, Extent::matrix(y.rows, y.cols), flops, &dims, &bindings);
    }
}
