//! The forward pass, top to bottom.

use super::Recorder;
use super::acts::{Acts, BlockActs, NormActs};
use super::config::{self, Norm};
use super::params::{BlockWeights, Layer, Weights};
use crate::gpu::plan::Plan;
use crate::gpu::tensor::Tensor;
use crate::ops::activation::Kind;
use crate::ops::matmul::Block;

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
        let x = if self.config.dropout > 0.0 { plan.tensor("undropped", &acts.embedded.shape) } else { acts.embedded.clone() };
        self.ops.embedding.forward(plan, &self.inputs.ids, &w.wte, self.embedding_scale(), &x);
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
        self.attend(plan, l, h, a, &a.ln_1.y);
        self.ops.residual.add(plan, x, &a.attn_out, &a.sum_1);
        self.norm(plan, &h.ln_2, &a.sum_1, &a.ln_2);
        self.feed_forward(plan, l, h, a, &a.ln_2.y);
        self.ops.residual.add(plan, &a.sum_1, &a.mlp_out, &a.sum_2);
    }

    fn post_norm_block(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor) {
        self.attend(plan, l, h, a, x);
        self.ops.residual.add(plan, x, &a.attn_out, &a.sum_1);
        self.norm(plan, &h.ln_1, &a.sum_1, &a.ln_1);
        self.feed_forward(plan, l, h, a, &a.ln_1.y);
        self.ops.residual.add(plan, &a.ln_1.y, &a.mlp_out, &a.sum_2);
        self.norm(plan, &h.ln_2, &a.sum_2, &a.ln_2);
    }

    fn attend(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor) {
        plan.scoped("attn", |plan| {
            self.linear(plan, &h.qkv, x, &a.qkv);
            self.ops.attention.forward(plan, self.attention(l), &self.inputs.step, &a.qkv, &a.attn, &a.lse);
            self.linear_dropped(plan, 3 * l as u32 + 2, &h.attn_proj, &a.attn, &a.attn_out);
        });
    }

    fn feed_forward(&self, plan: &mut Plan, l: usize, h: &BlockWeights, a: &BlockActs, x: &Tensor) {
        plan.scoped("mlp", |plan| {
            self.linear(plan, &h.fc, x, &a.fc);
            self.ops.activation.forward(plan, self.activation(), &a.fc, &a.act);
            self.linear_dropped(plan, 3 * l as u32 + 3, &h.mlp_proj, &a.act, &a.mlp_out);
        });
    }

    fn norm(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, a: &NormActs) {
        self.ops.layer_norm.forward(plan, x, &layer.weight, layer.bias.as_ref(), &a.y, &a.moments);
    }

    fn linear(&self, plan: &mut Plan, layer: &Layer, x: &Tensor, y: &Tensor) {
        self.ops.matmul.forward(plan, Block::whole(x), Block::whole(&layer.weight), layer.bias.as_ref(), Block::whole(y));
    }

    /// A linear layer whose output passes dropout, if the model has any.
    fn linear_dropped(&self, plan: &mut Plan, stream: u32, layer: &Layer, x: &Tensor, y: &Tensor) {
        if self.config.dropout == 0.0 {
            return self.linear(plan, layer, x, y);
        }
        let undropped = plan.tensor("undropped", &y.shape);
        self.linear(plan, layer, x, &undropped);
        self.dropped(plan, stream, &undropped, y);
    }

    /// y = dropout(x); nothing without dropout, where both are one tensor.
    pub(super) fn dropped(&self, plan: &mut Plan, stream: u32, x: &Tensor, y: &Tensor) {
        if self.config.dropout > 0.0 {
            self.ops.dropout.forward(plan, &self.inputs.step, stream, self.batch, x, y);
        }
    }

    pub(super) fn activation(&self) -> Kind {
        match self.config.activation {
            config::Activation::Gelu => Kind::Gelu,
            config::Activation::Relu => Kind::Relu,
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
