//! The shape of a model: `[model]` of a run's TOML, validated before anything is built from it.

use serde::{Deserialize, Serialize};

use super::numbers::{Number, Shown, need};
use crate::error::{Error, Result};
use crate::ops::matmul::Activation;

/// The largest attention head, in elements: what the attention kernels hold in registers without spilling.
pub const MAX_HEAD_SIZE: usize = 128;

/// The largest value of any size: shaders count in u32, and a product of two sizes must fit a u64 with a margin.
pub const MAX_SIZE: usize = 1 << 24;

/// The maximum number of layers: the host records and binds some sixty dispatches per layer before the first step.
pub const MAX_LAYERS: usize = 4096;

/// How a token's position is encoded; added to its embedding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PositionEncoding {
    /// Sines and cosines of geometric wavelengths; no parameters (Vaswani et al. 2017, section 3.5).
    #[default]
    Sinusoidal,
    /// A trained row per position, as in GPT-2.
    Learned,
}

/// Where a block normalizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Before attention and feed-forward, and once after the last block, as in GPT-2.
    #[default]
    Pre,
    /// After each residual sum, as in the original transformer (Vaswani et al. 2017).
    Post,
}

/// A GPT-style model. The default is a small one, the base of all presets.
///
/// Letters of shapes in comments elsewhere: L `n_layer`, H `n_head`, C `d_model`, F `d_ff`, T `seq_len`, V `vocab_size`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// L, the number of blocks: 1 to [`MAX_LAYERS`].
    pub n_layer: usize,
    /// H, the number of attention heads per block; it divides `d_model` into heads of at most [`MAX_HEAD_SIZE`] elements.
    pub n_head: usize,
    /// C, the width of the residual stream, in elements: a multiple of 4.
    pub d_model: usize,
    /// Width inside the feed-forward part; 0 selects 4·`d_model` (see [`ModelConfig::d_ff`]).
    pub d_ff: usize,
    /// The longest context, in tokens.
    pub seq_len: usize,
    /// Rows of the embedding table; 0 selects the tokenizer's size (see [`ModelConfig::with_vocab`]).
    pub vocab_size: usize,
    /// How positions are encoded.
    pub position: PositionEncoding,
    /// Applied between the two matrices of the feed-forward part.
    pub activation: Activation,
    /// Where each residual branch is normalized.
    pub norm: Norm,
    /// Whether matrices and layer norms have a bias. The head never has one.
    pub bias: bool,
    /// Whether the head shares the embedding table.
    pub tied_head: bool,
    /// Probability of zeroing an activation in training, in [0, 1).
    pub dropout: f64,
}

impl Default for ModelConfig {
    fn default() -> ModelConfig {
        ModelConfig {
            n_layer: 2,
            n_head: 4,
            d_model: 64,
            d_ff: 0,
            seq_len: 32,
            vocab_size: 0,
            position: PositionEncoding::Sinusoidal,
            activation: Activation::Gelu,
            norm: Norm::Pre,
            bias: true,
            tied_head: true,
            dropout: 0.0,
        }
    }
}

impl ModelConfig {
    /// Rejects an invalid config. `vocab_size = 0` is valid: [`ModelConfig::with_vocab`] resolves it.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the key, its value and the values allowed.
    pub fn validate(&self) -> Result<()> {
        need((1..=MAX_LAYERS).contains(&self.n_layer), "model.n_layer", self.n_layer, format!("needs 1 to {MAX_LAYERS}"))?;
        for (key, size) in [("n_head", self.n_head), ("d_model", self.d_model), ("seq_len", self.seq_len)] {
            need((1..=MAX_SIZE).contains(&size), &format!("model.{key}"), size, format!("needs 1 to {MAX_SIZE}"))?;
        }
        need(self.d_ff <= MAX_SIZE, "model.d_ff", self.d_ff, format!("needs at most {MAX_SIZE}, or 0 for 4 times model.d_model"))?;
        need(
            self.vocab_size <= MAX_SIZE,
            "model.vocab_size",
            self.vocab_size,
            format!("needs at most {MAX_SIZE}, or 0 for the tokenizer's"),
        )?;
        Number::BelowOne.check("model.dropout", self.dropout)?;
        // The device compares 32-bit random numbers with p · 2³², so a smaller probability would act as 0.
        let least = 1.0 / 4_294_967_296.0;
        need(
            self.dropout == 0.0 || self.dropout >= least,
            "model.dropout",
            Shown(self.dropout),
            format!("needs 0, or at least {least:e}, as the device draws random numbers of 32 bits"),
        )?;
        self.validate_heads()?;
        self.validate_quads()
    }

    /// Shaders access rows in quads of four elements.
    fn validate_quads(&self) -> Result<()> {
        let (c, h, f) = (self.d_model, self.n_head, self.d_ff());
        let advice = |n: usize| format!("needs a multiple of 4, such as {}", n.next_multiple_of(4));
        need(c.is_multiple_of(4), "model.d_model", c, advice(c))?;
        need(f.is_multiple_of(4), "model.d_ff", f, advice(f))?;
        if (c / h).is_multiple_of(4) {
            return Ok(());
        }
        let fewer = (1..=h).rev().find(|n| c.is_multiple_of(4 * n) && c / n <= MAX_HEAD_SIZE);
        let advice = fewer.map_or_else(|| format!("model.d_model = {}", 4 * h), |n| format!("model.n_head = {n}"));
        Err(Error::usage(format!(
            "model.d_model = {c} over model.n_head = {h} makes heads of {}, which must be a multiple of 4: try {advice}",
            c / h
        )))
    }

    fn validate_heads(&self) -> Result<()> {
        let (c, h) = (self.d_model, self.n_head);
        if c % h != 0 {
            let (below, above) = (c / (4 * h) * 4 * h, c.div_ceil(4 * h) * 4 * h);
            let advice = if below == 0 { above.to_string() } else { format!("{below} or {above}") };
            return Err(Error::usage(format!("model.d_model = {c} is not divisible by model.n_head = {h}: try {advice}")));
        }
        if c / h > MAX_HEAD_SIZE {
            let enough = (c.div_ceil(MAX_HEAD_SIZE)..=c).find(|n| c.is_multiple_of(*n)).unwrap_or(c);
            return Err(Error::usage(format!(
                "model.d_model = {c} over model.n_head = {h} makes heads of {}, at most {MAX_HEAD_SIZE} are possible: try model.n_head = {enough}",
                c / h
            )));
        }
        Ok(())
    }

    /// The factor on token embeddings: √C with sinusoidal positions (Vaswani et al. 2017, section 3.4), else 1.
    pub fn embedding_scale(&self) -> f32 {
        match self.position {
            PositionEncoding::Sinusoidal => (self.d_model as f32).sqrt(),
            PositionEncoding::Learned => 1.0,
        }
    }

    /// The same model with `vocab_size` resolved: the tokenizer's size if the config says 0.
    ///
    /// # Errors
    /// [`Error::Usage`] if the tokenizer is empty or has more tokens than the table has rows.
    pub fn with_vocab(&self, tokenizer_size: usize) -> Result<ModelConfig> {
        let vocab_size = if self.vocab_size == 0 { tokenizer_size } else { self.vocab_size };
        need((1..=MAX_SIZE).contains(&tokenizer_size), "the tokenizer's size", tokenizer_size, format!("needs 1 to {MAX_SIZE} tokens"))?;
        let advice = format!("needs {tokenizer_size} or more, the tokenizer's size, or 0 to take it");
        need(tokenizer_size <= vocab_size, "model.vocab_size", vocab_size, advice)?;
        Ok(ModelConfig { vocab_size, ..self.clone() })
    }

    /// Elements per attention head, D = C / H.
    pub fn head_size(&self) -> usize {
        self.d_model / self.n_head.max(1)
    }

    /// Width inside the feed-forward part, F: the config's value, or 4·C if it is 0.
    pub fn d_ff(&self) -> usize {
        if self.d_ff == 0 { self.d_model.saturating_mul(4) } else { self.d_ff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpt2() -> ModelConfig {
        let position = PositionEncoding::Learned;
        ModelConfig { n_layer: 12, n_head: 12, d_model: 768, seq_len: 1024, vocab_size: 50257, position, ..ModelConfig::default() }
    }

    fn refusal(config: ModelConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn counts_gpt2_as_published() {
        assert_eq!(gpt2().parameters(), 124_439_808);
        assert_eq!(ModelConfig { n_layer: 48, n_head: 25, d_model: 1600, ..gpt2() }.parameters(), 1_557_611_200);
        assert_eq!(gpt2().flops_per_token(), 6 * (12 * 12 * 768 * 768 + 50257 * 768) + 12 * 12 * 1024 * 768);
    }

    #[test]
    fn counts_every_option() {
        // By hand, for L = 1, C = 2, F = 3, T = 5, V = 7.
        let base =
            ModelConfig { n_layer: 1, n_head: 1, d_model: 2, d_ff: 3, seq_len: 5, vocab_size: 7, bias: false, ..ModelConfig::default() };
        let matrices = 7 * 2 + (2 + 12 + 4 + 2 + 6 + 6) + 2;
        assert_eq!(base.parameters(), matrices);
        assert_eq!(ModelConfig { bias: true, ..base.clone() }.parameters(), matrices + (2 + 6 + 2 + 2 + 3 + 2) + 2);
        assert_eq!(ModelConfig { position: PositionEncoding::Learned, ..base.clone() }.parameters(), matrices + 10);
        assert_eq!(ModelConfig { tied_head: false, ..base.clone() }.parameters(), matrices + 14);
        assert_eq!(ModelConfig { norm: Norm::Post, ..base }.parameters(), matrices - 2);
    }

    #[test]
    fn refuses_with_a_way_out() {
        let of = |d_model, n_head| ModelConfig { d_model, n_head, ..gpt2() };
        assert_eq!(refusal(of(100, 7)), "model.d_model = 100 is not divisible by model.n_head = 7: try 84 or 112");
        assert_eq!(refusal(of(3, 7)), "model.d_model = 3 is not divisible by model.n_head = 7: try 28");
        assert_eq!(
            refusal(of(1024, 2)),
            "model.d_model = 1024 over model.n_head = 2 makes heads of 512, at most 128 are possible: try model.n_head = 8"
        );
        assert_eq!(refusal(of(64, 0)), "model.n_head = 0: needs 1 to 16777216");
        assert_eq!(refusal(ModelConfig { dropout: f64::NAN, ..gpt2() }), "model.dropout = NaN: needs a number from 0 to below 1");
        assert_eq!(refusal(ModelConfig { dropout: 1.0, ..gpt2() }), "model.dropout = 1: needs a number from 0 to below 1");
        assert!(refusal(ModelConfig { dropout: 1e-10, ..gpt2() }).starts_with("model.dropout = 1e-10: needs 0, or at least 2.3"));
        for key in ["n_layer", "n_head", "d_model", "seq_len", "d_ff", "vocab_size"] {
            let mut json = serde_json::to_value(gpt2()).unwrap();
            json[key] = (MAX_SIZE + 1).into();
            let config: ModelConfig = serde_json::from_value(json).unwrap();
            assert!(refusal(config).starts_with(&format!("model.{key} = 16777217: needs ")));
        }
        assert!(gpt2().validate().is_ok());
        assert!(of(260, 65).validate().is_ok());
        assert_eq!(
            refusal(of(256, 128)),
            "model.d_model = 256 over model.n_head = 128 makes heads of 2, which must be a multiple of 4: try model.n_head = 64"
        );
        assert_eq!(refusal(of(66, 1)), "model.d_model = 66: needs a multiple of 4, such as 68");
        assert_eq!(refusal(ModelConfig { d_ff: 5, ..gpt2() }), "model.d_ff = 5: needs a multiple of 4, such as 8");
    }

    #[test]
    fn largest_sizes_do_not_overflow() {
        let of = |layers, n: usize| ModelConfig {
            n_layer: layers,
            n_head: n / 128,
            d_model: n,
            d_ff: n,
            seq_len: n,
            vocab_size: n,
            ..ModelConfig::default()
        };
        assert!(of(MAX_LAYERS, MAX_SIZE).validate().is_ok());
        assert!(of(MAX_LAYERS, MAX_SIZE).parameters() > 1 << 62);
        assert_eq!(of(usize::MAX, usize::MAX).parameters(), u64::MAX);
        assert_eq!(of(usize::MAX, usize::MAX).flops_per_token(), u64::MAX);
        assert_eq!(refusal(of(1 << 24, MAX_SIZE)), "model.n_layer = 16777216: needs 1 to 4096");
    }

    #[test]
    fn settles_the_vocabulary() {
        let open = ModelConfig::default();
        assert_eq!(open.with_vocab(76).unwrap().vocab_size, 76);
        assert_eq!(gpt2().with_vocab(76).unwrap().vocab_size, 50257);
        let error = ModelConfig { vocab_size: 75, ..open.clone() }.with_vocab(76).unwrap_err().to_string();
        assert_eq!(error, "model.vocab_size = 75: needs 76 or more, the tokenizer's size, or 0 to take it");
        assert!(open.with_vocab(0).is_err());
    }

    #[test]
    fn derived_sizes() {
        assert_eq!(gpt2().head_size(), 64);
        assert_eq!(gpt2().d_ff(), 3072);
        assert_eq!(ModelConfig { d_ff: 5, ..gpt2() }.d_ff(), 5);
    }
}
