//! Head and cross-entropy in chunks of rows: the logits (B · T, V) are the largest tensor and are never materialized as a whole.

use super::params::Weights;
use super::recorder::Recorder;
use crate::error::{Error, Result};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::cross_entropy::Chunk;
use crate::ops::matmul::Block;

/// Bytes of logits per chunk, if there are enough rows; [`CHUNK_ROWS`] may require more.
const CHUNK_BYTES: usize = 32 << 20;
/// Rows that occupy a graphics card, as far as one binding holds their logits. On an H100 the head of GPT-2 in chunks of 166 rows (32 MiB)
/// took a third of the step: the gradient of `hidden` had 36 tiles for 132 compute units (benches/record).
const CHUNK_ROWS: usize = 2048;

/// Matrix products that the head of one micro-batch may take: each costs a kilobyte of plan and bindings, and a dispatch.
const MOST_PRODUCTS: usize = 1 << 16;

impl Recorder<'_> {
    /// Records the losses of all rows, without gradients, into this step's record.
    pub(crate) fn evaluate(&self, plan: &mut Plan, w: &Weights<Tensor>, hidden: &Tensor, targets: &Tensor, records: &Tensor) {
        plan.scoped("head", |plan| {
            let losses = plan.statistic("losses", &[hidden.rows()]);
            for (first, rows) in self.chunks(hidden) {
                let logits = self.tensor(plan, "logits", &[rows, self.padded_vocab()]);
                self.logits(plan, w, Block::rows(hidden, first, rows), &logits);
                let chunk = Chunk { rows, first, vocab: self.config.vocab_size, logits: &logits };
                self.ops.cross_entropy.forward(plan, chunk, targets, &losses);
            }
            self.ops.loss.sum(plan, self.step, &losses, records);
        });
    }

    /// Records the losses of all rows and the gradients of the head's weights and of `hidden`; returns the latter.
    pub(crate) fn head(
        &self,
        plan: &mut Plan,
        (w, grads): (&Weights<Tensor>, &Weights<Tensor>),
        hidden: &Tensor,
        targets: &Tensor,
        (records, state): (&Tensor, &Tensor),
    ) -> Tensor {
        plan.scoped("head", |plan| {
            let losses = plan.statistic("losses", &[hidden.rows()]);
            let dhidden = self.tensor(plan, "dhidden", &hidden.shape);
            for (first, rows) in self.chunks(hidden) {
                let logits = self.tensor(plan, "logits", &[rows, self.padded_vocab()]);
                let x = Block::rows(hidden, first, rows);
                self.logits(plan, w, x.clone(), &logits);
                let chunk = Chunk { rows, first, vocab: self.config.vocab_size, logits: &logits };
                self.ops.cross_entropy.forward_backward(plan, chunk, (self.step, state), targets, &losses);
                let dx = Block::rows(&dhidden, first, rows);
                let mut col = 0;
                for (part, dpart) in w.lm_head.iter().zip(&grads.lm_head) {
                    let dlogits = Block::rows(&logits, 0, rows).columns(col, part.rows());
                    self.weight_gradient(plan, dlogits.clone(), x.clone(), dpart, None);
                    self.ops.matmul.backward_input(plan, dlogits, Block::whole(part), dx.clone(), col > 0);
                    col += part.rows();
                }
            }
            self.ops.loss.sum(plan, self.step, &losses, records);
            dhidden
        })
    }

    /// Records the logits (rows, V, padded to whole quads) of the last block's output (rows, C), or of its rows `picks`.
    pub(crate) fn predict(&self, plan: &mut Plan, w: &Weights<Tensor>, x: &Tensor, picks: Option<&Tensor>, logits: &Tensor) {
        plan.scoped("head", |plan| {
            let picked = picks.map(|picks| {
                let picked = self.tensor(plan, "picked", &[picks.len(), self.config.d_model]);
                self.ops.embedding.forward(plan, picks, std::slice::from_ref(x), 1.0, &picked);
                picked
            });
            let x = picked.as_ref().unwrap_or(x);
            let norm = self.last_norm(plan, w, x);
            self.logits(plan, w, Block::whole(norm.as_ref().map_or(x, |norm| &norm.y)), logits);
        });
    }

    /// logits = x · lm_headᵀ, one range of columns for each part of the table.
    fn logits(&self, plan: &mut Plan, w: &Weights<Tensor>, x: Block, logits: &Tensor) {
        let mut col = 0;
        for part in &w.lm_head {
            let y = Block::rows(logits, 0, x.rows).columns(col, part.rows());
            self.ops.matmul.forward(plan, x.clone(), Block::whole(part), None, y);
            col += part.rows();
        }
    }

    /// Columns of a stored row of logits: whole quads.
    fn padded_vocab(&self) -> usize {
        self.config.vocab_size.next_multiple_of(4)
    }

    /// Whether the head can be recorded; checked before recording, which takes memory for every matrix product.
    ///
    /// # Errors
    /// [`Error::Usage`] with the sizes that require too many products.
    pub(crate) fn check_head(&self, w: &Weights<Tensor>) -> Result<()> {
        let (rows, parts) = (self.batch * self.config.seq_len, w.lm_head.len());
        // Forward, and backward to the weights and to the input.
        let products = rows.div_ceil(self.rows_per_chunk()).saturating_mul(3 * parts);
        if products <= MOST_PRODUCTS {
            return Ok(());
        }
        Err(Error::usage(format!(
            "the logits of {} x {} tokens over model.vocab_size = {}, whose table lies in {parts} bindings, take {products} matrix products, \
             at most {MOST_PRODUCTS} are possible: take a smaller train.batch_size (with more train.grad_accumulation), model.seq_len or \
             vocabulary",
            self.batch, self.config.seq_len, self.config.vocab_size
        )))
    }

    fn rows_per_chunk(&self) -> usize {
        let in_binding = self.traits.limits.max_storage_buffer_binding_size as usize / 4 / self.padded_vocab();
        (CHUNK_BYTES / 4 / self.padded_vocab()).max(CHUNK_ROWS.min(in_binding)).max(1)
    }

    /// (first row, rows) of each chunk.
    fn chunks(&self, hidden: &Tensor) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, most) = (hidden.rows(), self.rows_per_chunk());
        (0..rows).step_by(most).map(move |first| (first, most.min(rows - first)))
    }
}
