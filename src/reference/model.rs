//! The forward pass of a whole GPT, composed of the other twins. Dropout is off.
//!
//! ```text
//! x = wte[ids] + wpe, or √C · wte[ids] + sinusoids
//! pre-norm (GPT-2):                    post-norm (Vaswani et al. 2017):
//!   x = x + attn(ln_1 x)                 x = ln_1(x + attn(x))
//!   x = x + mlp(ln_2 x)                  x = ln_2(x + mlp(x))
//!   x = ln_f(x), after the last block
//! logits = x · lm_headᵀ                lm_head is wte when tied, and has no bias
//!
//! attn(x) = proj(attention(qkv(x)))    mlp(x) = proj(activation(fc(x)))
//! ```

use super::{activation, attention, cross_entropy, embedding, layer_norm, matmul, position, residual};

/// The hyperparameters of a GPT. C = `d_model`, H = `heads`, F = `d_ff`, V = `vocab`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelShape {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block; divides `d_model`.
    pub heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width inside the feed-forward part.
    pub d_ff: usize,
    /// Rows of `wte`, and columns of the logits.
    pub vocab: usize,
    /// GELU in its tanh form if true, else ReLU.
    pub activation_gelu: bool,
    /// If true, normalize after each sum as in the original paper (without `ln_f`), else before each branch as in GPT-2.
    pub post_norm: bool,
    /// Fixed sinusoids if true, else the learned table `wpe`.
    pub sinusoidal: bool,
    /// Whether every linear layer except `lm_head`, and every norm, has a `.bias`.
    pub bias: bool,
    /// Whether the head is `wte`, else `lm_head`.
    pub tied: bool,
    /// ε of every layer norm.
    pub eps: f64,
}

/// Returns the weight of a name: `wte` (V, C), `wpe` (T_max, C), `h.{l}.ln_1.weight`, `h.{l}.attn.qkv.weight` (3·C, C),
/// `h.{l}.attn.proj.weight` (C, C), `h.{l}.ln_2.weight`, `h.{l}.mlp.fc.weight` (F, C), `h.{l}.mlp.proj.weight` (C, F), `ln_f.weight`,
/// `lm_head` (V, C), and a `.bias` beside each `.weight`. Called only with names that the shape has.
pub type Weights<'a> = &'a dyn Fn(&str) -> Vec<f64>;

impl ModelShape {
    /// `x` (rows, inner) -> (rows, cols), with the weights named `name`.
    fn linear(&self, weights: Weights, name: &str, x: &[f64], inner: usize, cols: usize) -> Vec<f64> {
        let bias = self.bias.then(|| weights(&format!("{name}.bias")));
        matmul::forward(x, &weights(&format!("{name}.weight")), bias.as_deref(), x.len() / inner, inner, cols)
    }

    /// `x` (rows, C) -> (rows, C), with the weights named `name`.
    fn norm(&self, weights: Weights, name: &str, x: &[f64]) -> Vec<f64> {
        let (bias, rows) = (self.bias.then(|| weights(&format!("{name}.bias"))), x.len() / self.d_model);
        layer_norm::forward(x, &weights(&format!("{name}.weight")), bias.as_deref(), rows, self.d_model, self.eps).0
    }

    /// `x` (B·T, C) -> (B·T, C).
    fn attn(&self, weights: Weights, l: usize, x: &[f64], batch: usize, time: usize) -> Vec<f64> {
        let qkv = self.linear(weights, &format!("h.{l}.attn.qkv"), x, self.d_model, 3 * self.d_model);
        let (y, _) = attention::forward(&qkv, batch, time, self.heads, self.d_model / self.heads, &|_, _, _, _| 1.0);
        self.linear(weights, &format!("h.{l}.attn.proj"), &y, self.d_model, self.d_model)
    }

    /// `x` (B·T, C) -> (B·T, C).
    fn mlp(&self, weights: Weights, l: usize, x: &[f64]) -> Vec<f64> {
        let fc = self.linear(weights, &format!("h.{l}.mlp.fc"), x, self.d_model, self.d_ff);
        let y = if self.activation_gelu { activation::gelu(&fc) } else { activation::relu(&fc) };
        self.linear(weights, &format!("h.{l}.mlp.proj"), &y, self.d_ff, self.d_model)
    }
}

/// `ids` (B, T) -> logits (B·T, V).
pub fn logits(shape: &ModelShape, weights: Weights, ids: &[u32], batch: usize, time: usize) -> Vec<f64> {
    let scale = if shape.sinusoidal { (shape.d_model as f64).sqrt() } else { 1.0 };
    let x = embedding::forward(ids, &weights("wte"), shape.d_model, scale);
    let mut x = match shape.sinusoidal {
        true => position::sinusoidal(&x, batch, time, shape.d_model),
        false => position::learned(&x, &weights("wpe"), batch, time, shape.d_model),
    };
    for l in 0..shape.layers {
        let (ln_1, ln_2) = (format!("h.{l}.ln_1"), format!("h.{l}.ln_2"));
        if shape.post_norm {
            x = shape.norm(weights, &ln_1, &residual::add(&x, &shape.attn(weights, l, &x, batch, time)));
            x = shape.norm(weights, &ln_2, &residual::add(&x, &shape.mlp(weights, l, &x)));
        } else {
            x = residual::add(&x, &shape.attn(weights, l, &shape.norm(weights, &ln_1, &x), batch, time));
            x = residual::add(&x, &shape.mlp(weights, l, &shape.norm(weights, &ln_2, &x)));
        }
    }
    if !shape.post_norm {
        x = shape.norm(weights, "ln_f", &x);
    }
    let head = weights(if shape.tied { "wte" } else { "lm_head" });
    matmul::forward(&x, &head, None, batch * time, shape.d_model, shape.vocab)
}

/// `ids` and `targets` (B, T) -> the mean loss in nats over the targets that are not ignored; 0 if there are none.
pub fn loss(shape: &ModelShape, weights: Weights, ids: &[u32], targets: &[u32], batch: usize, time: usize) -> f64 {
    let (losses, _) = cross_entropy::forward(&logits(shape, weights, ids, batch, time), targets, shape.vocab);
    let count = targets.iter().filter(|target| (**target as usize) < shape.vocab).count();
    losses.iter().sum::<f64>() / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    const BATCH: usize = 2;
    const TIME: usize = 5;

    fn gpt2() -> ModelShape {
        ModelShape {
            layers: 2,
            heads: 3,
            d_model: 6,
            d_ff: 7,
            vocab: 11,
            activation_gelu: true,
            post_norm: false,
            sinusoidal: false,
            bias: true,
            tied: true,
            eps: 1e-5,
        }
    }

    fn paper() -> ModelShape {
        ModelShape { activation_gelu: false, post_norm: true, sinusoidal: true, bias: false, tied: false, ..gpt2() }
    }

    /// Noise of the size of the weight `name` in the shapes above, different for every name.
    fn weight(name: &str) -> Vec<f64> {
        let seed = name.bytes().fold(7, |seed: u32, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let len = match name.trim_start_matches(|c: char| "h.0123456789".contains(c)) {
            "wte" | "lm_head" => 11 * 6,
            "wpe" => TIME * 6,
            "attn.qkv.weight" => 18 * 6,
            "attn.qkv.bias" => 18,
            "attn.proj.weight" => 6 * 6,
            "mlp.fc.weight" | "mlp.proj.weight" => 7 * 6,
            "mlp.fc.bias" => 7,
            _ => 6,
        };
        noise(len, seed)
    }

    /// The same, except that both projections into the residual stream are zero: attention and feed-forward add nothing.
    fn weight_without_blocks(name: &str) -> Vec<f64> {
        weight(name).iter().map(|w| if name.contains("proj") { 0.0 } else { *w }).collect()
    }

    fn ids() -> Vec<u32> {
        (0..BATCH as u32 * TIME as u32).map(|i| (i * 7 + 3) % 11).collect()
    }

    #[test]
    fn blocks_that_add_nothing_leave_the_norms_where_the_shape_puts_them() {
        let (rows, ids) = (BATCH * TIME, ids());
        let norm = |name: &str, x: &[f64], bias: bool| {
            let bias = bias.then(|| weight(&format!("{name}.bias")));
            layer_norm::forward(x, &weight(&format!("{name}.weight")), bias.as_deref(), rows, 6, 1e-5).0
        };
        let x = embedding::forward(&ids, &weight("wte"), 6, 1.0);

        let learned = position::learned(&x, &weight("wpe"), BATCH, TIME, 6);
        let want = matmul::forward(&norm("ln_f", &learned, true), &weight("wte"), None, rows, 6, 11);
        assert_close("pre-norm logits", &logits(&gpt2(), &weight_without_blocks, &ids, BATCH, TIME), &want, 1e-12, 0.0);

        let scaled = embedding::forward(&ids, &weight("wte"), 6, 6f64.sqrt());
        let mut x = position::sinusoidal(&scaled, BATCH, TIME, 6);
        for name in ["h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2"] {
            x = norm(name, &x, false);
        }
        let want = matmul::forward(&x, &weight("lm_head"), None, rows, 6, 11);
        assert_close("post-norm logits", &logits(&paper(), &weight_without_blocks, &ids, BATCH, TIME), &want, 1e-12, 0.0);
    }

    #[test]
    fn the_shape_chooses_the_activation() {
        let without_attention =
            |name: &str| -> Vec<f64> { weight(name).iter().map(|w| if name.contains("attn.proj") { 0.0 } else { *w }).collect() };
        let one_layer = ModelShape { layers: 1, bias: false, ..gpt2() };
        let (rows, w) = (BATCH * TIME, &without_attention);
        let x = position::learned(&embedding::forward(&ids(), &w("wte"), 6, 1.0), &w("wpe"), BATCH, TIME, 6);
        let fc = matmul::forward(&one_layer.norm(w, "h.0.ln_2", &x), &w("h.0.mlp.fc.weight"), None, rows, 6, 7);
        for (activation_gelu, a) in [(true, activation::gelu(&fc)), (false, activation::relu(&fc))] {
            let mlp = matmul::forward(&a, &w("h.0.mlp.proj.weight"), None, rows, 7, 6);
            let x = one_layer.norm(w, "ln_f", &residual::add(&x, &mlp));
            let want = matmul::forward(&x, &w("wte"), None, rows, 6, 11);
            let shape = ModelShape { activation_gelu, ..one_layer.clone() };
            assert_close(&format!("logits, gelu {activation_gelu}"), &logits(&shape, w, &ids(), BATCH, TIME), &want, 1e-12, 0.0);
        }
    }

    #[test]
    fn no_logit_depends_on_a_later_id_or_another_batch_row() {
        for shape in [gpt2(), paper()] {
            let (before, mut moved) = (logits(&shape, &weight, &ids(), BATCH, TIME), ids());
            let changed = TIME + 2;
            moved[changed] = (moved[changed] + 1) % 11;
            let after = logits(&shape, &weight, &moved, BATCH, TIME);
            for row in 0..BATCH * TIME {
                let same = before[row * 11..][..11] == after[row * 11..][..11];
                assert_eq!(same, row < changed, "row {row} after a change in row {changed}, {shape:?}");
            }
        }
    }

    #[test]
    fn only_the_weights_of_the_shape_are_asked_for() {
        let asked = |shape: &ModelShape| {
            let names = RefCell::new(BTreeSet::new());
            let record = |name: &str| {
                names.borrow_mut().insert(name.to_string());
                weight(name)
            };
            logits(shape, &record, &ids(), BATCH, TIME);
            names.into_inner()
        };
        // Twelve per layer, plus wte, wpe, ln_f.weight and ln_f.bias. Without biases, wpe, ln_f and tie: six per layer, plus wte and
        // lm_head.
        assert_eq!(asked(&gpt2()).len(), 2 * 12 + 4);
        let names = asked(&paper());
        assert_eq!(names.len(), 2 * 6 + 2, "{names:?}");
        assert!(names.contains("lm_head") && names.contains("h.1.mlp.proj.weight"), "{names:?}");
    }

    #[test]
    fn the_loss_is_the_mean_over_the_targets_that_count() {
        let (shape, ids) = (gpt2(), ids());
        let mut targets = vec![cross_entropy::IGNORED; BATCH * TIME];
        assert_eq!(loss(&shape, &weight, &ids, &targets, BATCH, TIME), 0.0);
        (targets[1], targets[7]) = (4, 10);
        let (losses, _) = cross_entropy::forward(&logits(&shape, &weight, &ids, BATCH, TIME), &targets, shape.vocab);
        let got = loss(&shape, &weight, &ids, &targets, BATCH, TIME);
        assert_close("model.loss", &[got], &[(losses[1] + losses[7]) / 2.0], 1e-14, 0.0);
    }
}
