//! The forward pass, top to bottom.

use super::Recorder;
use super::acts::{Acts, BlockActs, NormActs};
use super::config::{self, Norm};
use super::params::{BlockWeights, Layer, Weights};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::matmul::{Activation, Block, Drop};

impl Recorder<'_> {
    /// Records embedding and blocks; the result (B · T, C) goes to the head.
    pub(crate) fn forward(&self, plan: &mut Plan, w: &Weights, acts: &Acts) -> Tensor {
        let mut x = plan.scoped("embed", |plan| self.embed(plan, w, acts));
        for (l, (h, a)) in w.h.iter().zip(&acts.h).enumerate() {
            plan.scoped(&format!("h.{l}"), |plan| match self.config.norm {
                Norm::Pre => self.pre_norm_block(plan, l, h, a, &x),
                Norm::Post => self.post_norm_block(plan, l, h, a, &x),
            });
            x = block_output(self.config.norm, a).clone();
        }
        match (&w.ln_f, &acts.ln_f) {
            (Some(ln_f), Some(a)) => {
                self.norm(plan, ln_f, &x, a);
                a.y.clone()
            }
            _ => x,
        }
    }

    fn embed(&self, plan: &mut Plan, w: &Weights, acts: &Acts) -> Tensor {
        let x = if self.config.dropout > 0.0 { self.tensor(plan, "undropped", &acts.embedded.shape) } else { acts.embedded.clone() };
        self.ops.embedding.forward(plan, &self.inputs.ids, &w.wte, self.config.embedding_scale(), &x);
        match (&w.wpe, &self.inputs.frequencies) {
            (Some(wpe), _) => self.ops.position.learned(plan, &x, wpe),
            (None, Some(frequencies)) => self.ops.position.sinusoidal(plan, &x, frequencies),
            (None, None) => unreachable!("a model has learned or sinusoidal positions"),
        }
        self.dropped(plan, 0, &x, &acts.embedded);
        acts.embedded.clone()
    }

    fn pre_norm_block(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor) {
        self.norm(plan, &h.ln_1, x, &a.ln_1);
        self.attend(plan, l, h, a, &a.ln_1.y, x);
        self.norm(plan, &h.ln_2, &a.sum_1, &a.ln_2);
        self.feed_forward(plan, l, h, a, &a.ln_2.y, &a.sum_1);
    }

    fn post_norm_block(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor) {
        self.attend(plan, l, h, a, x, x);
        self.norm(plan, &h.ln_1, &a.sum_1, &a.ln_1);
        self.feed_forward(plan, l, h, a, &a.ln_1.y, &a.ln_1.y);
        self.norm(plan, &h.ln_2, &a.sum_2, &a.ln_2);
    }

    /// sum_1 = residual + the attention over x, projected.
    fn attend(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor, residual: &Tensor) {
        plan.scoped("attn", |plan| {
            self.linear(plan, &h.qkv, x, &a.qkv);
            self.ops.attention.forward(plan, self.attention(l), &self.inputs.step, &a.qkv, &a.attn, &a.lse);
            self.linear_residual(plan, 3 * l as u32 + 2, &h.attn_proj, &a.attn, residual, &a.sum_1);
        });
    }

    /// sum_2 = residual + the feed-forward of x.
    fn feed_forward(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor, residual: &Tensor) {
        plan.scoped("mlp", |plan| {
            let act = self.tensor(plan, "act", &a.fc.shape);
            self.ops.matmul.forward_activate(plan, self.activation(), x, &h.fc.weight, h.fc.bias.as_ref(), &a.fc, &act);
            self.linear_residual(plan, 3 * l as u32 + 3, &h.mlp_proj, &act, residual, &a.sum_2);
        });
    }

    fn norm(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, a: &NormActs) {
        self.ops.layer_norm.forward(plan, x, &layer.weight, layer.bias.as_ref(), &a.y, &a.moments);
    }

    fn linear(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, y: &Tensor) {
        self.ops.matmul.forward(plan, Block::whole(x), Block::whole(&layer.weight), layer.bias.as_ref(), Block::whole(y));
    }

    /// y = residual + dropout(a linear layer of x).
    fn linear_residual(&self, plan: &mut Plan, stream: u32, layer: &Layer, x: &Tensor, residual: &Tensor, y: &Tensor) {
        let dropout = Drop { stream, samples: self.batch, step: &self.inputs.step, on: self.config.dropout > 0.0 };
        self.ops.matmul.forward_residual(plan, dropout, x, &layer.weight, layer.bias.as_ref(), residual, y);
    }

    /// y = dropout(x); nothing without dropout, where both are one tensor.
    pub(super) fn dropped(&self, plan: &mut Plan, stream: u32, x: &Tensor, y: &Tensor) {
        if self.config.dropout > 0.0 {
            self.ops.dropout.forward(plan, &self.inputs.step, stream, self.batch, x, y);
        }
    }

    pub(super) fn activation(&self) -> Activation {
        match self.config.activation {
            config::Activation::Gelu => Activation::Gelu,
            config::Activation::Relu => Activation::Relu,
        }
    }
}

/// What a block hands to the next.
pub(super) fn block_output(norm: Norm, a: &BlockActs) -> &Tensor {
    match norm {
        Norm::Pre => &a.sum_2,
        Norm::Post => &a.ln_2.y,
    }
}
