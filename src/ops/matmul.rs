//! The matrix products of a linear layer and their derivatives, with elementwise operations fused into their epilogues.

use serde::{Deserialize, Serialize};

use super::partial_sums::PartialSums;
use super::{ACTIVATION, RANDOM, STEP, storage};
use crate::gpu::Traits;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{Kernel, KernelFile, KernelSource, Value, Variant};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::{Dtype, Tensor};

/// `matmul.wgsl` and its variants, one per kind of tile.
pub const SOURCE: KernelSource = KernelSource {
    file: "matmul",
    text: include_str!("../../shaders/matmul.wgsl"),
    shared: &[STEP, RANDOM, ACTIVATION],
    variants: VARIANTS,
};

/// The text of a tile: files of shaders/shared.
macro_rules! tile {
    ($($file:literal),+) => { concat!($(include_str!(concat!("../../shaders/shared/", $file, ".wgsl")), "\n"),+) };
}

/// The tile of cooperative matrices keeps its operands and a slab of its sums in workgroup memory.
const fn cooperative_bytes(mat: u32) -> u32 {
    // Two tiles of 8 `mat` lines of 2 `mat` elements and 16 bytes, f16, and 4 quarters of `mat` rows of 4 `mat` sums.
    2 * 8 * mat * (4 * mat + 16) + 4 * mat * 4 * mat * 4
}

/// On software adapters loads are expensive and barriers more so; on GPUs it is the reverse. A single row, as in decoding, would leave most
/// of a tile idle.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "tile_row_lanes",
        text: tile!("tile_row_lanes", "row_quad", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |traits, extent| traits.software && extent.rows == 1,
    },
    Variant {
        name: "tile_row_group",
        text: tile!("tile_row_group", "row_quad", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |traits, extent| !traits.software && extent.rows == 1,
    },
    Variant {
        name: "tile_broadcast",
        text: tile!("tile_broadcast", "tile_products"),
        storages: &[],
        runs: |traits| traits.subgroup == Some(8),
        suits: |traits, _| traits.software,
    },
    Variant {
        name: "tile_registers",
        text: tile!("tile_registers", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |traits, _| traits.software,
    },
    // For activations stored as f16 only: other types would be rounded. Not measured on hardware yet; by NVIDIA's instruction rates
    // 150 to 300 TFLOP/s on an H100, where tile_shared reaches 31. Fewer tiles than these leave most compute units idle.
    Variant {
        name: "tile_cooperative",
        text: tile!("matrices_16", "tile_cooperative", "store_f16_native"),
        storages: &[Dtype::F16],
        runs: |traits| traits.multiplies(16, 32, cooperative_bytes(16)),
        suits: |traits, extent| !traits.software && extent.workgroups([Some(128), Some(128)]) >= 32,
    },
    // The same text as lavapipe executes it.
    Variant {
        name: "tile_cooperative_8",
        text: tile!("matrices_8", "tile_cooperative", "store_f16_native"),
        storages: &[Dtype::F16],
        runs: |traits| traits.multiplies(8, 8, cooperative_bytes(8)),
        suits: |_, _| false,
    },
    // Fewer tiles of 64 x 64 than the 132 compute units of an H100 leave some idle: with 36 of them these tiles reach 10.8 TFLOP/s and
    // tile_shared 6.6, with 144 of them 16.0 and 16.6.
    Variant {
        name: "tile_shared_small",
        text: tile!("tile_shared_small", "tile_fetch", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |traits, extent| !traits.software && extent.workgroups([Some(64), Some(64)]) < 130,
    },
    // Never a default: on an H100, 8 x 8 sums in such a tile reached 30.5 TFLOP/s at 4096 x 4096 x 4096, the next 30.1; and 23.1 beside 29.6
    // at 384 tiles, of which 264 are resident at a time (`eight` in benches/record). Tuning selects it on adapters where it is faster.
    Variant {
        name: "tile_shared_large",
        text: tile!("tile_shared_large", "tile_fetch", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |_, _| false,
    },
    Variant {
        name: "tile_shared",
        text: tile!("tile_shared", "tile_fetch", "tile_products"),
        storages: &[],
        runs: |_| true,
        suits: |_, _| true,
    },
];

/// A range of the inner axis is a multiple of these elements, and so of what any tile sums at a time.
const RANGE_STEP: usize = 64;

/// Workgroups that occupy a graphics card: about four for each of an H100's 132 compute units, of which each holds five of `tile_shared`.
/// With 144 of them that card reaches half the rate that it has with 1,536 (benches/record).
const OCCUPIED: usize = 512;

/// Inner elements of a range at least, so that a tile of 64 x 64 does 256 operations for each byte of its partial sums.
const SHORTEST_RANGE: usize = 1024;

/// How many ranges of `inner` a product of `rows` x `cols` with few tiles is best summed in, on adapters with such `traits`. Software
/// adapters have few compute units. The result is a function of the sizes and the kind of adapter, so that a run on it can be repeated.
pub fn ranges(traits: &Traits, rows: usize, cols: usize, inner: usize) -> usize {
    let tiles = rows.div_ceil(64) * cols.div_ceil(64);
    if traits.software { 1 } else { OCCUPIED.div_ceil(tiles.max(1)).min(inner / SHORTEST_RANGE).max(1) }
}

/// The kernels of a linear layer, forward and backward, with and without fused operations.
pub struct Matmul {
    forward: Kernel,
    forward_bias: Kernel,
    forward_activate: Kernel,
    forward_residual: Kernel,
    backward_input: Kernel,
    backward_input_add: Kernel,
    backward_input_activate: Kernel,
    backward_weight: Kernel,
    backward_weight_bias: Kernel,
    backward_weight_range: Kernel,
    backward_weight_bias_range: Kernel,
    partial_sums: PartialSums,
}

/// The nonlinearity of a feed-forward layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The tanh form of GELU (Hendrycks and Gimpel 2016), as in GPT-2.
    #[default]
    Gelu,
    /// max(0, x).
    Relu,
}

/// Inverted dropout of a layer's output, with the mask of [`super::dropout::Dropout`].
#[derive(Clone, Copy)]
pub struct Drop<'a> {
    /// The random stream of this dropout.
    pub stream: u32,
    /// Number of samples in the rows of the output.
    pub samples: usize,
    /// The block of [`super::step::Step`].
    pub step: &'a Tensor,
    /// If false, nothing is dropped.
    pub on: bool,
}

/// A block of a stored matrix: `rows` x `cols` elements from (`row`, `col`) on. The matrix has whole quads of columns, and `col` is a
/// multiple of four.
#[derive(Clone)]
pub struct Block<'a> {
    /// The stored matrix, (rows, columns) of all its elements.
    pub tensor: &'a Tensor,
    /// Its first row, in the matrix's rows.
    pub row: usize,
    /// Its first column, in elements; a multiple of 4.
    pub col: usize,
    /// Number of its rows.
    pub rows: usize,
    /// Number of its columns, in elements.
    pub cols: usize,
}

impl<'a> Block<'a> {
    /// The whole matrix (all axes but the last are rows).
    pub fn whole(tensor: &'a Tensor) -> Block<'a> {
        Block { tensor, row: 0, col: 0, rows: tensor.rows(), cols: tensor.cols() }
    }

    /// Some of its rows.
    pub fn rows(tensor: &'a Tensor, row: usize, rows: usize) -> Block<'a> {
        Block { row, rows, ..Block::whole(tensor) }
    }

    /// A range of the block's columns, `col..col + cols`.
    pub fn columns(self, col: usize, cols: usize) -> Block<'a> {
        Block { col: self.col + col, cols, ..self }
    }

    /// In quads.
    fn stride(&self) -> usize {
        let cols = self.tensor.cols();
        assert!(cols.is_multiple_of(4), "{:?}: its rows are no whole quads", self.tensor);
        cols / 4
    }

    /// In quads.
    fn first(&self) -> usize {
        let inside = self.row + self.rows <= self.tensor.rows() && self.col + self.cols <= self.tensor.cols();
        assert!(inside && self.col.is_multiple_of(4), "a block from column {} outside {:?}, or between its quads", self.col, self.tensor);
        self.row * self.stride() + self.col / 4
    }
}

/// The parts of a dispatch that differ between kernels.
#[derive(Default)]
struct Job<'a> {
    inner: usize,
    /// Inner elements of a range, if the output is a row of sums for each range.
    range: Option<usize>,
    has_bias: bool,
    relu: bool,
    dropout: Option<Drop<'a>>,
    /// The bindings besides a and b, the output first.
    bindings: Vec<(&'static str, &'a Tensor)>,
}

impl Matmul {
    /// `activations` is the element type of operands and activations.
    pub fn new(activations: Dtype) -> Matmul {
        Matmul::with_source(&SOURCE, activations)
    }

    /// The same with the tiles of another source, for experiments.
    pub fn with_source(source: &'static KernelSource, activations: Dtype) -> Matmul {
        let file = KernelFile::stored(source, activations, storage(activations), "");
        Matmul {
            forward: file.kernel("forward"),
            forward_bias: file.kernel("forward_bias"),
            forward_activate: file.kernel("forward_activate"),
            forward_residual: file.kernel("forward_residual"),
            backward_input: file.kernel("backward_input"),
            backward_input_add: file.kernel("backward_input_add"),
            backward_input_activate: file.kernel("backward_input_activate"),
            backward_weight: file.kernel("backward_weight"),
            backward_weight_bias: file.kernel("backward_weight_bias"),
            backward_weight_range: file.kernel("backward_weight_range"),
            backward_weight_bias_range: file.kernel("backward_weight_bias_range"),
            partial_sums: PartialSums::new(),
        }
    }

    /// y (rows, out) = x (rows, in) · weightᵀ + bias, weight (out, in), bias (out). Without a bias `out` may be any number: the padding of
    /// the last quad of a row of y is filled with finite numbers.
    pub fn forward(&self, plan: &mut Plan, x: Block, weight: Block, bias: Option<&Tensor>, y: Block) {
        let mut job = Job { inner: inner(&x, &weight, bias, &y), bindings: vec![("y", y.tensor)], ..Job::default() };
        job.bindings.extend(bias.map(|bias| ("bias", bias)));
        let kernel = if bias.is_some() { &self.forward_bias } else { &self.forward };
        push(plan, kernel, [&x, &weight, &y], job);
    }

    /// y (rows, out) = x · weightᵀ + bias, and activated (rows, out) its activation.
    #[allow(clippy::too_many_arguments)] // four tensors of one equation, and the activation
    pub fn forward_activate(
        &self,
        plan: &mut Plan,
        kind: Activation,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
        activated: &Tensor,
    ) {
        let [x, weight, y] = [x, weight, y].map(Block::whole);
        assert!(activated.len() == y.tensor.len(), "matmul.forward_activate: shapes do not fit");
        let bound = bias.cloned().unwrap_or_else(|| plan.stand_in());
        let job = Job {
            inner: inner(&x, &weight, bias, &y),
            has_bias: bias.is_some(),
            relu: kind == Activation::Relu,
            bindings: vec![("y", y.tensor), ("bias", &bound), ("activated", activated)],
            ..Job::default()
        };
        push(plan, &self.forward_activate, [&x, &weight, &y], job);
    }

    /// y (rows, out) = residual (rows, out) + dropout(x · weightᵀ + bias).
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    pub fn forward_residual(
        &self,
        plan: &mut Plan,
        dropout: Drop,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: &Tensor,
        y: &Tensor,
    ) {
        let [x, weight, y] = [x, weight, y].map(Block::whole);
        assert!(residual.len() == y.tensor.len() && y.rows.is_multiple_of(dropout.samples), "matmul.forward_residual: shapes do not fit");
        let bound = bias.cloned().unwrap_or_else(|| plan.stand_in());
        let job = Job {
            inner: inner(&x, &weight, bias, &y),
            has_bias: bias.is_some(),
            dropout: Some(dropout),
            bindings: vec![("y", y.tensor), ("bias", &bound), ("residual", residual), ("step", dropout.step)],
            ..Job::default()
        };
        push(plan, &self.forward_residual, [&x, &weight, &y], job);
    }

    /// dx (rows, in) = dy (rows, out) · weight; added to dx if `add`. `out` may be any number.
    pub fn backward_input(&self, plan: &mut Plan, dy: Block, weight: Block, dx: Block, add: bool) {
        check_input_gradient(&dy, &weight, &dx);
        let kernel = if add { &self.backward_input_add } else { &self.backward_input };
        push(plan, kernel, [&dy, &weight, &dx], Job { inner: dy.cols, bindings: vec![("y", dx.tensor)], ..Job::default() });
    }

    /// dbefore (rows, in) = (dy (rows, out) · weight) times the slope of the activation at `before` (rows, in); also recomputes
    /// `activated`, the activation of `before`.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation, and the activation
    pub fn backward_input_activate(
        &self,
        plan: &mut Plan,
        kind: Activation,
        dy: &Tensor,
        weight: &Tensor,
        before: &Tensor,
        activated: &Tensor,
        dbefore: &Tensor,
    ) {
        let [dy, weight, dx] = [dy, weight, dbefore].map(Block::whole);
        check_input_gradient(&dy, &weight, &dx);
        assert!(before.len() == dbefore.len() && activated.len() == dbefore.len(), "matmul.backward_input_activate: shapes do not fit");
        let bindings = vec![("y", dbefore), ("before", before), ("activated", activated)];
        let job = Job { inner: dy.cols, relu: kind == Activation::Relu, bindings, ..Job::default() };
        push(plan, &self.backward_input_activate, [&dy, &weight, &dx], job);
    }

    /// dweight (out, in) += dyᵀ · x, summed over rows; dbias (out) += the column sums of dy (rows, out). Without dbias, `out` may be any
    /// number. At most `ranges` ranges of rows are summed by different workgroups, see [`ranges`], and then added in order.
    pub fn backward_weight(&self, plan: &mut Plan, dy: Block, x: Block, dweight: &Tensor, dbias: Option<&Tensor>, ranges: usize) {
        let y = Block::whole(dweight);
        assert!(dy.rows == x.rows && dy.cols == y.rows && x.cols == y.cols, "matmul.backward_weight: shapes do not fit");
        let biases = dbias.is_none_or(|dbias| dbias.len() == dy.cols && dy.cols.is_multiple_of(4));
        assert!(x.cols.is_multiple_of(4) && biases, "matmul.backward_weight: no whole quads");
        let range = dy.rows.div_ceil(ranges).next_multiple_of(RANGE_STEP);
        if range >= dy.rows {
            let mut job = Job { inner: dy.rows, bindings: vec![("dweight", dweight)], ..Job::default() };
            job.bindings.extend(dbias.map(|dbias| ("dbias", dbias)));
            let kernel = if dbias.is_some() { &self.backward_weight_bias } else { &self.backward_weight };
            return push(plan, kernel, [&dy, &x, &y], job);
        }
        let len = dweight.len() + dbias.map_or(0, Tensor::len);
        let partials = plan.statistic("partials", &[dy.rows.div_ceil(range), len]);
        let job = Job { inner: dy.rows, range: Some(range), bindings: vec![("partials", &partials)], ..Job::default() };
        let kernel = if dbias.is_some() { &self.backward_weight_bias_range } else { &self.backward_weight_range };
        push(plan, kernel, [&dy, &x, &y], job);
        self.partial_sums.add(plan, &partials, dweight, dbias);
    }
}

/// The size of the summed axis of a forward product, which must be whole quads: both operands are read along it.
fn inner(x: &Block, weight: &Block, bias: Option<&Tensor>, y: &Block) -> usize {
    assert!(x.cols == weight.cols && x.rows == y.rows && weight.rows == y.cols, "matmul.forward: shapes do not fit");
    let biases = bias.is_none_or(|bias| bias.len() == y.cols && y.cols.is_multiple_of(4));
    assert!(x.cols.is_multiple_of(4) && biases, "matmul.forward: no whole quads");
    x.cols
}

fn check_input_gradient(dy: &Block, weight: &Block, dx: &Block) {
    let fit = dy.cols == weight.rows && dy.rows == dx.rows && weight.cols == dx.cols && dx.cols.is_multiple_of(4);
    assert!(fit, "matmul.backward_input: shapes do not fit");
}

fn push(plan: &mut Plan, kernel: &Kernel, [a, b, y]: [&Block; 3], job: Job) {
    let dropout = job.dropout;
    let per_sample = dropout.map_or(0, |dropout| y.rows / dropout.samples * y.cols);
    let range = job.range.unwrap_or(job.inner);
    let range_stride = job.range.map_or(0, |_| job.bindings[0].1.cols() / 4);
    let dims: [(&str, Value); 16] = [
        ("rows", y.rows.into()),
        ("cols", y.cols.into()),
        ("inner", job.inner.into()),
        ("range", range.into()),
        ("a_stride", a.stride().into()),
        ("a_first", a.first().into()),
        ("b_stride", b.stride().into()),
        ("b_first", b.first().into()),
        ("y_stride", y.stride().into()),
        ("y_first", y.first().into()),
        ("has_bias", job.has_bias.into()),
        ("relu", job.relu.into()),
        ("dropout", dropout.is_some_and(|dropout| dropout.on).into()),
        ("stream", dropout.map_or(0, |dropout| dropout.stream).into()),
        ("per_sample", per_sample.into()),
        ("range_stride", range_stride.into()),
    ];
    let mut bindings = vec![("a", a.tensor), ("b", b.tensor)];
    bindings.extend(job.bindings);
    let flops = 2 * y.rows as u64 * y.cols as u64 * job.inner as u64;
    let ranges = job.inner.div_ceil(range) as u64;
    plan.push(kernel, Extent { batch: ranges, ..Extent::matrix(y.rows, y.cols) }, flops, &dims, &bindings);
}
