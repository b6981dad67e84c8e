//! The memory of parameters, gradients and moments: flat pools, all cut into the same segments.

use std::collections::HashMap;
use std::fmt;

use super::config::ModelConfig;
use super::params::{Param, table};
use crate::error::{Error, Result, bytes};
use crate::gpu::plan::{Keep, Plan};
use crate::gpu::tensor::{Dtype, Tensor, padded};
use crate::ops::Ops;
use crate::ops::adamw::Segment;

/// Alignment of slices of a pool in bytes, for every element type.
const SLICE: u64 = 256;

/// Parameters, gradients and moments: flat pools, all cut into the same segments.
pub struct Pools {
    /// The model's parameters, in the order of [`table`].
    pub table: Vec<Param>,
    weights: HashMap<String, Vec<Tensor>>,
    /// The location of every weight, in the table's order. Depends on the model and the limits, not on the element type of activations.
    pub(crate) slices: Vec<PoolSlice>,
    /// Copies of the operands of matrix products, if activations are not f32.
    copies: HashMap<String, Vec<Tensor>>,
    /// The source and the destination of each copy.
    casts: Vec<(Tensor, Tensor)>,
    grads: HashMap<String, Vec<Tensor>>,
    /// The tensors of each moment, by parameter.
    moments: Vec<HashMap<String, Vec<Tensor>>>,
    /// The same memory as segments for the optimizer; empty without gradients.
    pub segments: Vec<Segment>,
}

/// Consecutive rows of one parameter in a segment.
struct Piece {
    param: usize,
    rows: usize,
    offset: u64,
}

/// The same for comparison between plans.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PoolSlice {
    pub param: String,
    pub shape: Vec<usize>,
    pub segment: usize,
    /// In bytes.
    pub offset: u64,
}

impl fmt::Display for PoolSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {:?} at byte {} of segment {}", self.param, self.shape, self.offset, self.segment)
    }
}

/// The name of the storage of a segment's weights.
fn weights_of(segment: usize) -> String {
    format!("weights.{segment}")
}

impl Pools {
    /// Weights alone, or with gradients and `moments` optimizer moments; plus copies of the operands of products, if activations are not
    /// f32.
    pub(crate) fn new(
        plan: &mut Plan,
        config: &ModelConfig,
        moments: Option<usize>,
        activations: Dtype,
        limits: &wgpu::Limits,
    ) -> Result<Pools> {
        let table = table(config);
        let segments = cut(&table, limits.max_storage_buffer_binding_size.min(limits.max_buffer_size))?;
        let mut pools = Pools {
            table,
            weights: HashMap::new(),
            slices: vec![],
            copies: HashMap::new(),
            casts: vec![],
            grads: HashMap::new(),
            moments: vec![HashMap::new(); moments.unwrap_or(0)],
            segments: vec![],
        };
        for (index, pieces) in segments.iter().enumerate() {
            let ends = |decaying: bool| {
                let counted = pieces.iter().filter(|piece| !decaying || pools.table[piece.param].decays());
                counted.map(|piece| end(&pools.table, piece)).max().unwrap_or(0)
            };
            let (total, decay) = (ends(false), ends(true) as usize / 4);
            pools.slices.extend(pieces.iter().map(|piece| piece.slice(&pools.table, index)));
            let weights = pools.pool(plan, &weights_of(index), "weights", total, pieces, |pools| &mut pools.weights);
            if activations != Dtype::F32 {
                pools.copy(plan, index, &weights, pieces, activations);
            }
            let Some(moments) = moments else { continue };
            let grads = pools.pool(plan, &format!("grads.{index}"), "gradients", total, pieces, |pools| &mut pools.grads);
            let mut moment = |i: usize| {
                pools.pool(plan, &format!("moment_{}.{index}", i + 1), "optimizer", total, pieces, |pools| &mut pools.moments[i])
            };
            let m = (moments > 0).then(|| moment(0));
            let v = (moments > 1).then(|| moment(1));
            if let Some(m) = m {
                pools.segments.push(Segment { params: weights, grads, m, v, decay });
            }
        }
        Ok(pools)
    }

    /// Adds one storage, registers its pieces by name, and returns a tensor of the whole storage.
    fn pool(
        &mut self,
        plan: &mut Plan,
        name: &str,
        class: &'static str,
        bytes: u64,
        pieces: &[Piece],
        map: impl Fn(&mut Pools) -> &mut HashMap<String, Vec<Tensor>>,
    ) -> Tensor {
        let storage = plan.storage(name, bytes, Keep::Always, class);
        for piece in pieces {
            let param = &self.table[piece.param];
            let mut shape = param.shape.clone();
            shape[0] = piece.rows;
            let tensor = plan.view(storage, &param.name, &shape, Dtype::F32, piece.offset);
            let name = param.name.clone();
            map(self).entry(name).or_default().push(tensor);
        }
        plan.view(storage, name, &[bytes as usize / 4], Dtype::F32, 0)
    }

    /// Adds copies of those parameters of a segment that are operands of products.
    fn copy(&mut self, plan: &mut Plan, index: usize, weights: &Tensor, pieces: &[Piece], dtype: Dtype) {
        let multiplied: Vec<&Piece> = pieces.iter().filter(|piece| self.table[piece.param].multiplies()).collect();
        let runs = runs(&self.table, &multiplied, dtype);
        let Some(last) = runs.last() else { return };
        let name = format!("operands.{index}");
        let storage = plan.storage(&name, last.to + padded(last.elements, dtype), Keep::Always, "weights");
        for run in runs {
            let master = plan.view(weights.storage, &weights.name, &[run.elements], Dtype::F32, run.from);
            self.casts.push((master, plan.view(storage, &name, &[run.elements], dtype, run.to)));
            for piece in run.pieces {
                let param = &self.table[piece.param];
                let (shape, offset) = ([piece.rows, param.shape[1]], run.to + (piece.offset - run.from) / 4 * dtype.size());
                self.copies.entry(param.name.clone()).or_default().push(plan.view(storage, &param.name, &shape, dtype, offset));
            }
        }
    }

    /// The names of the storages of all weights.
    pub(crate) fn weight_storages(&self) -> impl Iterator<Item = String> {
        let segments = self.slices.last().map_or(0, |slice| slice.segment + 1);
        (0..segments).map(weights_of)
    }

    /// Records the copies of the weights.
    pub(crate) fn cast(&self, plan: &mut Plan, ops: &Ops) {
        for (master, copy) in &self.casts {
            ops.cast.forward(plan, master, copy);
        }
    }

    /// A parameter as operand of a product: its copy in the element type of activations, or the weights themselves.
    pub fn operands(&self, name: &str) -> Vec<Tensor> {
        self.copies.get(name).unwrap_or_else(|| &self.weights[name]).clone()
    }

    /// The weight tensors of a parameter: one, or several split by rows.
    pub fn weights(&self, name: &str) -> Vec<Tensor> {
        self.weights[name].clone()
    }

    /// The gradient tensors of a parameter, f32, split by rows as its weights are; training plans only.
    pub fn grads(&self, name: &str) -> Vec<Tensor> {
        self.grads[name].clone()
    }

    /// The tensors of optimizer moment `index` of a parameter.
    pub fn moment(&self, index: usize, name: &str) -> Vec<Tensor> {
        self.moments[index][name].clone()
    }

    /// Whether there are gradients.
    pub fn trains(&self) -> bool {
        !self.grads.is_empty()
    }

    /// Number of optimizer moments.
    pub fn moments(&self) -> usize {
        self.moments.len()
    }

    pub(crate) fn clear_grads(&self, plan: &mut Plan) {
        let mut storages: Vec<usize> = self.grads.values().flatten().map(|tensor| tensor.storage).collect();
        storages.sort_unstable();
        storages.dedup();
        for storage in storages {
            plan.clear(storage);
        }
    }
}

impl Piece {
    fn slice(&self, table: &[Param], segment: usize) -> PoolSlice {
        let param = &table[self.param];
        let mut shape = param.shape.clone();
        shape[0] = self.rows;
        PoolSlice { param: param.name.clone(), shape, segment, offset: self.offset }
    }
}

/// The end of a piece in its segment, padded to the alignment of slices.
fn end(table: &[Param], piece: &Piece) -> u64 {
    let row: usize = table[piece.param].shape[1..].iter().product();
    (piece.offset + (piece.rows * row) as u64 * 4).next_multiple_of(SLICE)
}

/// A range of a segment of weights that one dispatch copies.
struct CopyRange<'p> {
    /// Byte offsets in the segment and in its copy.
    from: u64,
    to: u64,
    elements: usize,
    pieces: Vec<&'p Piece>,
}

/// The fewest ranges that copy every piece to an aligned slice. Within a range, offsets in the copy are those in the segment times the
/// ratio of element sizes; a piece that this would misalign begins a new range.
fn runs<'p>(table: &[Param], pieces: &[&'p Piece], dtype: Dtype) -> Vec<CopyRange<'p>> {
    let mut runs: Vec<CopyRange> = vec![];
    for &piece in pieces {
        let fits = |run: &&mut CopyRange| ((piece.offset - run.from) / 4 * dtype.size()).is_multiple_of(SLICE);
        let run = match runs.last_mut().filter(fits) {
            Some(run) => run,
            None => {
                let to = runs.last().map_or(0, |run| (run.to + padded(run.elements, dtype)).next_multiple_of(SLICE));
                runs.push(CopyRange { from: piece.offset, to, elements: 0, pieces: vec![] });
                runs.last_mut().expect("one was just added")
            }
        };
        run.elements = ((end(table, piece) - run.from) / 4) as usize;
        run.pieces.push(piece);
    }
    runs
}

/// Cuts the table into segments of at most `limit` bytes; only the vocabulary tables may be split by rows.
fn cut(table: &[Param], limit: u64) -> Result<Vec<Vec<Piece>>> {
    let mut segments: Vec<Vec<Piece>> = vec![vec![]];
    let mut used = 0;
    for (index, param) in table.iter().enumerate() {
        let row_bytes = param.shape[1..].iter().product::<usize>() as u64 * 4;
        let mut rows = param.shape[0];
        while rows > 0 {
            let whole = rows as u64 * row_bytes;
            if !param.splits() && whole.next_multiple_of(SLICE) > limit {
                let advice = "take a smaller model.d_model or model.d_ff, or an adapter that allows more".into();
                return Err(Error::Limit {
                    what: format!("`{}` in one binding", param.name),
                    needed: bytes(whole),
                    allowed: bytes(limit),
                    advice,
                });
            }
            // A table that does not fit begins a new segment, so that it has few parts.
            if used > 0 && used + whole.next_multiple_of(SLICE) > limit {
                segments.push(vec![]);
                used = 0;
            }
            // Shaders access logits four columns at a time, so every part begins at a multiple of four.
            let most = (limit / row_bytes) as usize;
            let fitting = if rows <= most { rows } else { most / 4 * 4 };
            if fitting == 0 {
                let advice = "take a smaller model.d_model".into();
                return Err(Error::Limit {
                    what: format!("four rows of `{}`", param.name),
                    needed: bytes(4 * row_bytes),
                    allowed: bytes(limit),
                    advice,
                });
            }
            let piece = Piece { param: index, rows: fitting, offset: used };
            used = end(table, &piece);
            rows -= fitting;
            segments.last_mut().expect("there is a segment").push(piece);
        }
    }
    Ok(segments)
}
