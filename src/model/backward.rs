//! The backward pass: the mirror of the forward, line for line from its end.
//!
//! `dx` is the gradient of what flows between blocks. A residual sum passes it to both sides, so it stays in place and each
//! branch adds its own part.

use super::Recorder;
use super::acts::{Acts, BlockActs, NormActs};
use super::config::Norm;
use super::forward::block_output;
use super::params::{BlockWeights, Layer, Weights};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::matmul::Block;

impl Recorder<'_> {
    /// Records the backward from `dhidden` (B · T, C), the gradient of what the forward returned.
    pub(crate) fn backward(&self, plan: &mut Plan, w: &Weights, grads: &Weights, acts: &Acts, dhidden: Tensor) {
        let last = acts.h.last().map_or(&acts.embedded, |a| block_output(self.config.norm, a));
        let mut dx = match (&w.ln_f, &grads.ln_f, &acts.ln_f) {
            (Some(ln_f), Some(g), Some(a)) => {
                let dx = self.tensor(plan, "dx", &dhidden.shape);
                self.norm_backward(plan, (ln_f, g), &dhidden, last, a, &dx, false);
                dx
            }
            _ => dhidden,
        };
        for l in (0..acts.h.len()).rev() {
            let x = if l == 0 { &acts.embedded } else { block_output(self.config.norm, &acts.h[l - 1]) };
            let (h, a) = ((&w.h[l], &grads.h[l]), &acts.h[l]);
            dx = plan.scoped(&format!("h.{l}"), |plan| match self.config.norm {
                Norm::Pre => self.pre_norm_block_backward(plan, l, h, a, x, dx),
                Norm::Post => self.post_norm_block_backward(plan, l, h, a, x, dx),
            });
        }
        plan.scoped("embed", |plan| self.embed_backward(plan, grads, &dx));
    }

    fn embed_backward(&self, plan: &mut Plan, grads: &Weights, dx: &Tensor) {
        // The lookup's backward wants (B, T, C); the memory is the same.
        let frame = [self.batch, self.config.seq_len, self.config.d_model];
        let dx = Tensor { shape: frame.to_vec(), ..self.dropped_gradient(plan, 0, dx) };
        if let Some(wpe) = &grads.wpe {
            self.ops.position.learned_backward(plan, &dx, wpe);
        }
        let order = self.inputs.order.as_ref().expect("a training plan has an order");
        self.ops.embedding.backward(plan, &self.inputs.ids, order, &dx, self.config.embedding_scale(), &grads.wte);
    }

    fn pre_norm_block_backward(&self, plan: &mut Plan, l: usize, h: Both, a: &BlockActs, x: &Tensor, dx: Tensor) -> Tensor {
        let dbranch = self.tensor(plan, "dbranch", &dx.shape);
        self.feed_forward_backward(plan, l, h, a, &a.ln_2.y, &dx, &dbranch, false);
        self.norm_backward(plan, (&h.0.ln_2, &h.1.ln_2), &dbranch, &a.sum_1, &a.ln_2, &dx, true);
        let dbranch = self.tensor(plan, "dbranch", &dx.shape);
        self.attend_backward(plan, l, h, a, &a.ln_1.y, &dx, &dbranch, false);
        self.norm_backward(plan, (&h.0.ln_1, &h.1.ln_1), &dbranch, x, &a.ln_1, &dx, true);
        dx
    }

    fn post_norm_block_backward(&self, plan: &mut Plan, l: usize, h: Both, a: &BlockActs, x: &Tensor, dx: Tensor) -> Tensor {
        let dsum_2 = self.tensor(plan, "dsum_2", &dx.shape);
        self.norm_backward(plan, (&h.0.ln_2, &h.1.ln_2), &dx, &a.sum_2, &a.ln_2, &dsum_2, false);
        self.feed_forward_backward(plan, l, h, a, &a.ln_1.y, &dsum_2, &dsum_2, true);
        let dsum_1 = self.tensor(plan, "dsum_1", &dx.shape);
        self.norm_backward(plan, (&h.0.ln_1, &h.1.ln_1), &dsum_2, &a.sum_1, &a.ln_1, &dsum_1, false);
        self.attend_backward(plan, l, h, a, x, &dsum_1, &dsum_1, true);
        dsum_1
    }

    /// From `dy`, the gradient of the feed-forward's output, to `dx`, that of its input `x`.
    #[allow(clippy::too_many_arguments)] // a layer, its activations, and the gradients on both of its sides
    fn feed_forward_backward(&self, plan: &mut Plan, l: usize, h: Both, a: &BlockActs, x: &Tensor, dy: &Tensor, dx: &Tensor, add: bool) {
        plan.scoped("mlp", |plan| {
            let dy = self.dropped_gradient(plan, 3 * l as u32 + 3, dy);
            let (act, dfc) = (self.tensor(plan, "act", &a.fc.shape), self.tensor(plan, "dfc", &a.fc.shape));
            let (w, g) = (&h.0.mlp_proj, &h.1.mlp_proj);
            self.ops.matmul.backward_input_activate(plan, self.activation(), &dy, &w.weight, &a.fc, &act, &dfc);
            self.ops.matmul.backward_weight(plan, Block::whole(&dy), Block::whole(&act), &g.weight, g.bias.as_ref());
            self.linear_backward(plan, (&h.0.fc, &h.1.fc), &dfc, x, dx, add);
        });
    }

    /// From `dy`, the gradient of the attention's output, to `dx`, that of its input `x`.
    #[allow(clippy::too_many_arguments)] // a layer, its activations, and the gradients on both of its sides
    fn attend_backward(&self, plan: &mut Plan, l: usize, h: Both, a: &BlockActs, x: &Tensor, dy: &Tensor, dx: &Tensor, add: bool) {
        plan.scoped("attn", |plan| {
            let dy = self.dropped_gradient(plan, 3 * l as u32 + 2, dy);
            let dattn = self.tensor(plan, "dattn", &a.attn.shape);
            self.linear_backward(plan, (&h.0.attn_proj, &h.1.attn_proj), &dy, &a.attn, &dattn, false);
            let dqkv = self.tensor(plan, "dqkv", &a.qkv.shape);
            self.ops.attention.backward(plan, self.attention(l), &self.inputs.step, &dattn, &a.qkv, &a.attn, &a.lse, &dqkv);
            self.linear_backward(plan, (&h.0.qkv, &h.1.qkv), &dqkv, x, dx, add);
        });
    }

    /// dx from dy, and the gradients of weight and bias.
    #[allow(clippy::too_many_arguments)] // five tensors of one equation
    fn norm_backward(&self, plan: &mut Plan, (w, g): (&Layer, &Layer), dy: &Tensor, x: &Tensor, a: &NormActs, dx: &Tensor, add: bool) {
        self.ops.layer_norm.backward_weight(plan, dy, x, &a.moments, &g.weight, g.bias.as_ref());
        self.ops.layer_norm.backward(plan, dy, x, &w.weight, &a.moments, dx, add);
    }

    /// dx (rows, in) from dy (rows, out), and the gradients of weight and bias.
    fn linear_backward(&self, plan: &mut Plan, (w, g): (&Layer, &Layer), dy: &Tensor, x: &Tensor, dx: &Tensor, add: bool) {
        self.ops.matmul.backward_weight(plan, Block::whole(dy), Block::whole(x), &g.weight, g.bias.as_ref());
        self.ops.matmul.backward_input(plan, Block::whole(dy), Block::whole(&w.weight), Block::whole(dx), add);
    }

    /// The gradient before a dropout: a masked copy of dy, or dy itself without dropout.
    fn dropped_gradient(&self, plan: &mut Plan, stream: u32, dy: &Tensor) -> Tensor {
        if self.config.dropout == 0.0 {
            return dy.clone();
        }
        let dx = self.tensor(plan, "ddropped", &dy.shape);
        self.dropped(plan, stream, dy, &dx);
        dx
    }
}

/// The weights of a block, and their gradients.
type Both<'a> = (&'a BlockWeights, &'a BlockWeights);
