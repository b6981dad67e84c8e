//! The backward pass: mirrors the forward pass line for line, from its end.
//!
//! `dx` is the gradient of the residual stream. A residual sum passes it on unchanged to both summands, so it stays in place and each
//! branch adds its own gradient.

use super::acts::{Acts, BlockActs, BranchActs, NormActs};
use super::config::Norm;
use super::inputs::Inputs;
use super::params::{BlockWeights, Layer, Weights};
use super::recorder::{Mask, Recorder};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::matmul::{self, Block};

/// Weights and their gradients.
type Both<'a, T> = (&'a T, &'a T);

/// What a branch computes, by its ends: tensors of (rows, C).
struct Ends<'a> {
    x: &'a Tensor,
    /// The gradient of `x`: written, or added to if `add`.
    dx: &'a Tensor,
    add: bool,
    /// The gradient of the output.
    dy: &'a Tensor,
}

impl Recorder<'_> {
    /// Records the backward of the last norm; returns the gradient of its input `x` (rows, C).
    pub(crate) fn last_norm_backward(
        &self,
        plan: &mut Plan,
        (w, grads): Both<Weights<Tensor>>,
        acts: Option<&NormActs>,
        x: &Tensor,
        dy: Tensor,
    ) -> Tensor {
        let (Some(ln_f), Some(g), Some(a)) = (&w.ln_f, &grads.ln_f, acts) else { return dy };
        let dx = self.tensor(plan, "dx", &dy.shape);
        plan.scoped(&ln_f.name, |plan| self.norm_backward(plan, (ln_f, g), &dy, x, a, &dx, false));
        dx
    }

    /// Records the backward of blocks and embedding from `dy` (rows, C), the gradient of the last block's output.
    pub(crate) fn backward(&self, plan: &mut Plan, (w, grads): Both<Weights<Tensor>>, acts: &Acts, inputs: &Inputs, dy: Tensor) {
        let mut dx = dy;
        for (l, a) in acts.h.iter().enumerate().rev() {
            dx = plan.scoped(&format!("h.{l}"), |plan| self.block_backward(plan, l, (&w.h[l], &grads.h[l]), a, dx));
        }
        plan.scoped("embed", |plan| self.embed_backward(plan, grads, inputs, &dx));
    }

    fn embed_backward(&self, plan: &mut Plan, grads: &Weights<Tensor>, inputs: &Inputs, dx: &Tensor) {
        // The embedding's backward expects (B, T, C); the memory is the same.
        let frame = [self.batch, self.config.seq_len, self.config.d_model];
        let dx = Tensor { shape: frame.to_vec(), ..self.dropped_gradient(plan, Mask::Embedding, dx) };
        if let Some(wpe) = &grads.wpe {
            self.ops.position.learned_backward(plan, &dx, wpe);
        }
        let order = inputs.order.as_ref().expect("a training plan has an order");
        self.ops.embedding.backward(plan, &inputs.ids, order, &dx, self.config.embedding_scale(), &grads.wte);
    }

    fn block_backward(&self, plan: &mut Plan, l: usize, (w, g): Both<BlockWeights<Tensor>>, a: &BlockActs, dy: Tensor) -> Tensor {
        let dy = self.branch_backward(plan, (&w.ln_2, &g.ln_2), &a.mlp_branch, dy, |plan, ends| {
            plan.scoped("mlp", |plan| self.feed_forward_backward(plan, l, (w, g), a, ends));
        });
        self.branch_backward(plan, (&w.ln_1, &g.ln_1), &a.attention_branch, dy, |plan, ends| {
            plan.scoped("attn", |plan| self.attend_backward(plan, l, (w, g), a, ends));
        })
    }

    /// Returns the gradient of a branch's input, given `dy`, that of its output. `inside` records the backward of the inner layers.
    fn branch_backward(
        &self,
        plan: &mut Plan,
        norm: Both<Layer<Tensor>>,
        a: &BranchActs,
        dy: Tensor,
        inside: impl FnOnce(&mut Plan, Ends),
    ) -> Tensor {
        match self.config.norm {
            Norm::Pre => {
                let dbranch = self.tensor(plan, "dbranch", &dy.shape);
                inside(plan, Ends { x: &a.norm.y, dx: &dbranch, add: false, dy: &dy });
                self.norm_backward(plan, norm, &dbranch, &a.x, &a.norm, &dy, true);
                dy
            }
            Norm::Post => {
                let dsum = self.tensor(plan, "dsum", &dy.shape);
                self.norm_backward(plan, norm, &dy, &a.sum, &a.norm, &dsum, false);
                inside(plan, Ends { x: &a.x, dx: &dsum, add: true, dy: &dsum });
                dsum
            }
        }
    }

    /// The backward of the feed-forward layers.
    fn feed_forward_backward(&self, plan: &mut Plan, l: usize, (w, g): Both<BlockWeights<Tensor>>, a: &BlockActs, ends: Ends) {
        let dy = self.dropped_gradient(plan, Mask::FeedForward(l), ends.dy);
        let (act, dfc) = (self.tensor(plan, "act", &a.fc.shape), self.tensor(plan, "dfc", &a.fc.shape));
        let (proj, dproj) = (&w.mlp_proj, &g.mlp_proj);
        self.ops.matmul.backward_input_activate(plan, self.config.activation, &dy, &proj.weight, &a.fc, &act, &dfc);
        self.weight_gradient(plan, Block::whole(&dy), Block::whole(&act), &dproj.weight, dproj.bias.as_ref());
        self.linear_backward(plan, (&w.fc, &g.fc), &dfc, ends.x, ends.dx, ends.add);
    }

    /// The backward of attention and its two linear layers.
    fn attend_backward(&self, plan: &mut Plan, l: usize, (w, g): Both<BlockWeights<Tensor>>, a: &BlockActs, ends: Ends) {
        let a = &a.attention;
        let dy = self.dropped_gradient(plan, Mask::Attention(l), ends.dy);
        let dattn = self.tensor(plan, "dattn", &a.y.shape);
        self.linear_backward(plan, (&w.attn_proj, &g.attn_proj), &dy, &a.y, &dattn, false);
        let dqkv = self.tensor(plan, "dqkv", &a.qkv.shape);
        let lse = a.lse.as_ref().expect("attention over whole sequences leaves it");
        self.ops.attention.backward(plan, self.attention(l), self.step, &dattn, &a.qkv, &a.y, lse, &dqkv);
        self.linear_backward(plan, (&w.qkv, &g.qkv), &dqkv, ends.x, ends.dx, ends.add);
    }

    /// Computes dx from dy, and the gradients of weight and bias.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    fn norm_backward(&self, plan: &mut Plan, (w, g): Both<Layer<Tensor>>, dy: &Tensor, x: &Tensor, a: &NormActs, dx: &Tensor, add: bool) {
        self.ops.layer_norm.backward_weight(plan, dy, x, &a.moments, &g.weight, g.bias.as_ref());
        self.ops.layer_norm.backward(plan, dy, x, &w.weight, &a.moments, dx, add);
    }

    /// Computes dx (rows, in) from dy (rows, out), and the gradients of weight and bias.
    fn linear_backward(&self, plan: &mut Plan, (w, g): Both<Layer<Tensor>>, dy: &Tensor, x: &Tensor, dx: &Tensor, add: bool) {
        self.weight_gradient(plan, Block::whole(dy), Block::whole(x), &g.weight, g.bias.as_ref());
        self.ops.matmul.backward_input(plan, Block::whole(dy), Block::whole(&w.weight), Block::whole(dx), add);
    }

    /// Adds to the gradients of a weight (out, in) and its bias, from dy (rows, out) and x (rows, in).
    pub(super) fn weight_gradient(&self, plan: &mut Plan, dy: Block, x: Block, dweight: &Tensor, dbias: Option<&Tensor>) {
        let ranges = matmul::ranges(self.traits, dy.cols, x.cols, dy.rows);
        self.ops.matmul.backward_weight(plan, dy, x, dweight, dbias, ranges);
    }

    /// The gradient of a dropout's input: a masked copy of dy, or dy itself without dropout.
    fn dropped_gradient(&self, plan: &mut Plan, mask: Mask, dy: &Tensor) -> Tensor {
        if self.config.dropout == 0.0 {
            return dy.clone();
        }
        let dx = self.tensor(plan, "ddropped", &dy.shape);
        self.dropped(plan, mask, dy, &dx);
        dx
    }
}
