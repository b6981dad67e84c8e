//! The forward pass, top to bottom: the same blocks for whole sequences and for new rows after a cache.

use super::acts::{Acts, AttentionActs, BlockActs, BranchActs, NormActs};
use super::config::Norm;
use super::params::{BlockWeights, Layer, Weights};
use super::recorder::{KeyValues, Mask, Recorder};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::attention::Shape;
use crate::ops::matmul::{Block, Drop};
use crate::ops::token_embedding::Positions;

impl Recorder<'_> {
    /// Records embedding and blocks of `ids`, one id per row.
    pub(crate) fn blocks(&self, plan: &mut Plan, w: &Weights<Tensor>, ids: &Tensor) -> Acts {
        let embedded = plan.scoped("embed", |plan| self.embed(plan, w, ids));
        let mut acts = Acts { embedded, h: vec![] };
        for (l, h) in w.h.iter().enumerate() {
            let block = plan.scoped(&format!("h.{l}"), |plan| self.block(plan, l, h, acts.y()));
            acts.h.push(block);
        }
        acts
    }

    /// Records the norm after the last block, if the model has one; the head reads its output.
    pub(crate) fn last_norm(&self, plan: &mut Plan, w: &Weights<Tensor>, x: &Tensor) -> Option<NormActs> {
        w.ln_f.as_ref().map(|ln_f| plan.scoped(&ln_f.name, |plan| self.norm(plan, ln_f, x)))
    }

    fn embed(&self, plan: &mut Plan, w: &Weights<Tensor>, ids: &Tensor) -> Tensor {
        let (scale, width) = (self.config.embedding_scale(), self.config.d_model);
        let embedded = self.tensor(plan, "embedded", &[&ids.shape[..], &[width]].concat());
        let position = match (&w.wpe, self.frequencies) {
            (Some(wpe), _) => Positions::Learned(wpe),
            (None, Some(frequencies)) => Positions::Sinusoidal(frequencies, self.config.seq_len),
            (None, None) => unreachable!("a model has learned or sinusoidal positions"),
        };
        if let KeyValues::Cached { cursor, embedding, .. } = &self.context {
            embedding.forward(plan, cursor, ids, &w.wte, scale, position, &embedded);
            return embedded;
        }
        let x = if self.config.dropout > 0.0 { self.tensor(plan, "undropped", &embedded.shape) } else { embedded.clone() };
        self.ops.embedding.forward(plan, ids, &w.wte, scale, &x);
        match position {
            Positions::Learned(wpe) => self.ops.position.learned(plan, &x, wpe),
            Positions::Sinusoidal(frequencies, _) => self.ops.position.sinusoidal(plan, &x, frequencies),
        }
        self.dropped(plan, Mask::Embedding, &x, &embedded);
        embedded
    }

    /// Two residual branches: attention, and the feed-forward layers.
    fn block(&self, plan: &mut Plan, l: usize, h: &BlockWeights<Tensor>, x: &Tensor) -> BlockActs {
        let (attention_branch, attention) = self.branch(plan, &h.ln_1, x, |plan, x, residual| {
            let sum = self.tensor(plan, &format!("h.{l}.sum_1"), &residual.shape);
            let acts = plan.scoped("attn", |plan| self.attend(plan, l, h, x, residual, &sum));
            (sum, acts)
        });
        let (mlp_branch, fc) = self.branch(plan, &h.ln_2, &attention_branch.y, |plan, x, residual| {
            let sum = self.tensor(plan, &format!("h.{l}.sum_2"), &residual.shape);
            let fc = plan.scoped("mlp", |plan| self.feed_forward(plan, l, h, x, residual, &sum));
            (sum, fc)
        });
        BlockActs { attention, attention_branch, fc, mlp_branch }
    }

    /// A residual branch. Pre-norm: y = x + inside(norm(x)); post-norm: y = norm(x + inside(x)). `inside` is called with the input of the
    /// inner layers and the residual, and records the sum of the residual and their output.
    fn branch<A>(
        &self,
        plan: &mut Plan,
        norm: &Layer<Tensor>,
        x: &Tensor,
        inside: impl FnOnce(&mut Plan, &Tensor, &Tensor) -> (Tensor, A),
    ) -> (BranchActs, A) {
        let x = x.clone();
        match self.config.norm {
            Norm::Pre => {
                let norm = self.norm(plan, norm, &x);
                let (sum, acts) = inside(plan, &norm.y, &x);
                (BranchActs { x, norm, y: sum.clone(), sum }, acts)
            }
            Norm::Post => {
                let (sum, acts) = inside(plan, &x, &x);
                let norm = self.norm(plan, norm, &sum);
                (BranchActs { x, y: norm.y.clone(), norm, sum }, acts)
            }
        }
    }

    /// sum = residual + the projected attention over x.
    fn attend(&self, plan: &mut Plan, l: usize, h: &BlockWeights<Tensor>, x: &Tensor, residual: &Tensor, sum: &Tensor) -> AttentionActs {
        let qkv = self.linear(plan, &h.qkv, x);
        let y = self.tensor(plan, &format!("h.{l}.attn.y"), &[x.rows(), x.cols()]);
        let lse = match &self.context {
            KeyValues::Sequences => {
                let shape = self.attention(l);
                let lse = plan.statistic(&format!("h.{l}.attn.lse"), &[shape.batch, shape.heads, shape.time]);
                self.ops.attention.forward(plan, shape, self.step, &qkv, &y, &lse);
                Some(lse)
            }
            KeyValues::Cached { cursor, attention, caches, .. } => {
                attention.forward(plan, cursor, &qkv, &caches[l], &y);
                None
            }
        };
        self.linear_residual(plan, Mask::Attention(l), &h.attn_proj, &y, residual, sum);
        AttentionActs { qkv, y, lse }
    }

    /// sum = residual + the feed-forward layers of x; returns the output of the first layer.
    fn feed_forward(&self, plan: &mut Plan, l: usize, h: &BlockWeights<Tensor>, x: &Tensor, residual: &Tensor, sum: &Tensor) -> Tensor {
        let fc = self.tensor(plan, &h.fc.name, &[x.rows(), h.fc.weight.rows()]);
        let act = self.tensor(plan, "act", &fc.shape);
        self.ops.matmul.forward_activate(plan, self.config.activation, x, &h.fc.weight, h.fc.bias.as_ref(), &fc, &act);
        self.linear_residual(plan, Mask::FeedForward(l), &h.mlp_proj, &act, residual, sum);
        fc
    }

    fn norm(&self, plan: &mut Plan, layer: &Layer<Tensor>, x: &Tensor) -> NormActs {
        let y = self.tensor(plan, &layer.name, &[x.rows(), x.cols()]);
        let moments = plan.statistic(&format!("{}.moments", layer.name), &[x.rows(), 2]);
        self.ops.layer_norm.forward(plan, x, &layer.weight, layer.bias.as_ref(), &y, &moments);
        NormActs { y, moments }
    }

    /// y (rows, out) = x · weightᵀ + bias.
    fn linear(&self, plan: &mut Plan, layer: &Layer<Tensor>, x: &Tensor) -> Tensor {
        let y = self.tensor(plan, &layer.name, &[x.rows(), layer.weight.rows()]);
        self.ops.matmul.forward(plan, Block::whole(x), Block::whole(&layer.weight), layer.bias.as_ref(), Block::whole(&y));
        y
    }

    /// y = residual + dropout(a linear layer of x).
    fn linear_residual(&self, plan: &mut Plan, mask: Mask, layer: &Layer<Tensor>, x: &Tensor, residual: &Tensor, y: &Tensor) {
        let dropout = Drop { stream: mask.stream(), samples: self.batch, step: self.step, on: self.config.dropout > 0.0 };
        self.ops.matmul.forward_residual(plan, dropout, x, &layer.weight, layer.bias.as_ref(), residual, y);
    }

    /// y = dropout(x); records nothing without dropout, where x and y are one tensor.
    pub(super) fn dropped(&self, plan: &mut Plan, mask: Mask, x: &Tensor, y: &Tensor) {
        if self.config.dropout > 0.0 {
            self.ops.dropout.forward(plan, self.step, mask.stream(), self.batch, x, y);
        }
    }

    /// The attention of a layer over whole sequences.
    pub(super) fn attention(&self, layer: usize) -> Shape {
        let dropout = (self.config.dropout > 0.0).then_some(Mask::Probabilities(layer).stream());
        Shape { batch: self.batch, time: self.config.seq_len, heads: self.config.n_head, dropout }
    }
}
