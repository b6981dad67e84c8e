//! All of a run's settings: `[model]`, `[train]`, `[tokenizer]` and `[data]`, from TOML or `--set section.key=value`.
//!
//! The structs are the only list of keys. Reading, setting and comparing walk the TOML tree that serde derives from them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::tensor::Dtype;
use crate::model::config::ModelConfig;
use crate::model::numbers::need;
use crate::model::numbers::{Number, Shown};
use crate::ops::gradient_norm::HIGHEST_LOSS_SCALE;
use crate::text::{DataConfig, TokenizerConfig};

/// How gradients are turned into updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay on matrices only (Loshchilov and Hutter 2019).
    #[default]
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// What the learning rate does after its warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays at `learning_rate`.
    Constant,
    /// Falls to `min_learning_rate` along half a cosine, over the steps after the warm-up.
    #[default]
    Cosine,
    /// Falls to `min_learning_rate` along a line, over the steps after the warm-up.
    Linear,
}

/// Element type of activations and of the matrices that they are multiplied with. Weights, their gradients and all sums are f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// The upper half of an f32: half the memory and traffic, 8 significant bits.
    Bf16,
    /// IEEE half precision: half the memory and traffic, 11 significant bits from 6e-8 to 65,504. The loss is scaled dynamically.
    F16,
}

impl From<StorageDtype> for Dtype {
    fn from(storage: StorageDtype) -> Dtype {
        match storage {
            StorageDtype::F32 => Dtype::F32,
            StorageDtype::Bf16 => Dtype::Bf16,
            StorageDtype::F16 => Dtype::F16,
        }
    }
}

/// How a model is trained. Presets state what differs from the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Total number of updates.
    pub steps: u64,
    /// Sequences in one forward and backward pass.
    pub batch_size: usize,
    /// Batches per update: a step sees `batch_size` · `grad_accumulation` sequences.
    pub grad_accumulation: usize,
    /// The rule of an update; `beta1`, `beta2` and `eps` are for `adamw` only.
    pub optimizer: Optimizer,
    /// Element type of activations and of the matrices that they are multiplied with.
    pub storage: StorageDtype,
    /// The first loss scale with storage `f16`, a power of two; 0 takes the tokens of a batch, rounded up to one. It halves when a gradient
    /// overflows, whose update is skipped, and doubles after 2,000 updates.
    pub loss_scale: u64,
    /// The highest learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// The learning rate at the end of the schedule; `constant` does not use it.
    pub min_learning_rate: f64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises.
    pub warmup_steps: u64,
    /// Decay rate of AdamW's first moment, in [0, 1).
    pub beta1: f64,
    /// Decay rate of AdamW's second moment, in [0, 1).
    pub beta2: f64,
    /// AdamW adds it to the square root of the second moment; above 0.
    pub eps: f64,
    /// AdamW's weight decay of matrices; vectors do not decay.
    pub weight_decay: f64,
    /// The largest Euclidean norm of the whole gradient; 0 turns clipping off.
    pub grad_clip: f64,
    /// Momentum of `sgd`; `adamw` does not use it.
    pub momentum: f64,
    /// Seeds the initial weights, the order of the data and dropout.
    pub seed: u64,
    /// Steps between validations; 0 validates only after the last step.
    pub eval_every: u64,
    /// Batches per validation; 0 takes the whole validation split.
    pub eval_batches: usize,
    /// Steps between checkpoints; 0 writes only the one after the last step.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, besides the best.
    pub keep_checkpoints: u64,
    /// Steps between records of metrics.
    pub log_every: u64,
    /// Seconds between snapshots in host memory, from which a trainer recovers; 0 takes none.
    pub snapshot_every: f64,
    /// How often one call of `Run::train` opens a device again after it was lost or out of memory.
    pub recoveries: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 1500,
            batch_size: 32,
            grad_accumulation: 1,
            optimizer: Optimizer::AdamW,
            storage: StorageDtype::F32,
            loss_scale: 0,
            learning_rate: 2e-3,
            min_learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warmup_steps: 100,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            grad_clip: 1.0,
            momentum: 0.9,
            seed: 1337,
            eval_every: 250,
            eval_batches: 0,
            checkpoint_every: 250,
            keep_checkpoints: 2,
            log_every: 10,
            snapshot_every: 30.0,
            recoveries: 3,
        }
    }
}

impl TrainConfig {
    /// Whether a run writes this step to `metrics.jsonl`, apart from validations.
    pub fn logs(&self, step: u64) -> bool {
        step.is_multiple_of(self.log_every) || step == self.steps
    }

    /// Refuses settings that cannot be trained with.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] that names the key, its value and what is needed.
    pub fn validate(&self) -> Result<()> {
        need(self.steps >= 1, "train.steps", self.steps, "needs at least 1")?;
        need(self.batch_size >= 1, "train.batch_size", self.batch_size, "needs at least 1")?;
        need(self.grad_accumulation >= 1, "train.grad_accumulation", self.grad_accumulation, "needs at least 1")?;
        need(self.log_every >= 1, "train.log_every", self.log_every, "needs at least 1")?;
        need(self.keep_checkpoints >= 1, "train.keep_checkpoints", self.keep_checkpoints, "needs at least 1")?;
        self.check_samples()?;
        self.check_loss_scale()?;
        let (lr, low) = (self.learning_rate, self.min_learning_rate);
        let numbers = [
            ("learning_rate", lr, Number::Positive),
            ("min_learning_rate", low, Number::NotNegative),
            ("beta1", self.beta1, Number::BelowOne),
            ("beta2", self.beta2, Number::BelowOne),
            ("momentum", self.momentum, Number::BelowOne),
            ("eps", self.eps, Number::Positive),
            ("weight_decay", self.weight_decay, Number::NotNegative),
            ("grad_clip", self.grad_clip, Number::NotNegative),
            ("snapshot_every", self.snapshot_every, Number::NotNegative),
        ];
        for (key, value, number) in numbers {
            number.check(&format!("train.{key}"), value)?;
        }
        // Each step subtracts this share of a weight: learning_rate · weight_decay.
        let most = f64::from(f32::MAX) / lr;
        let decay =
            format!("needs at most {most:.1e} at train.learning_rate = {}, as the device multiplies them in 32-bit floats", Shown(lr));
        need(self.weight_decay <= most, "train.weight_decay", Shown(self.weight_decay), decay)?;
        let advice = format!("needs 0 to train.learning_rate = {}; set both, or train.schedule = constant", Shown(lr));
        need(low <= lr || self.schedule == Schedule::Constant, "train.min_learning_rate", Shown(low), advice)
    }

    /// The loss scale of the first step, on sequences of `seq_len` tokens: 1 unless activations are stored in f16.
    pub fn first_loss_scale(&self, seq_len: usize) -> f32 {
        let tokens = (self.batch_size as u64).saturating_mul(seq_len as u64);
        let automatic = tokens.min(HIGHEST_LOSS_SCALE.into()).next_power_of_two();
        match (self.storage, self.loss_scale) {
            (StorageDtype::F32 | StorageDtype::Bf16, _) => 1.0,
            (StorageDtype::F16, 0) => automatic as f32,
            (StorageDtype::F16, set) => set as f32,
        }
    }

    fn check_loss_scale(&self) -> Result<()> {
        let (key, scale) = ("train.loss_scale", self.loss_scale);
        let fits = scale == 0 || scale.is_power_of_two() && scale <= HIGHEST_LOSS_SCALE.into();
        need(fits, key, scale, format!("needs 0 or a power of two up to {HIGHEST_LOSS_SCALE}"))?;
        need(scale == 0 || self.storage == StorageDtype::F16, key, scale, "needs train.storage = f16")
    }

    /// The device counts updates, and the samples of a step, in a u32; checkpoints hold the samples of a run as an i64.
    fn check_samples(&self) -> Result<()> {
        let (batch, accumulation) = (self.batch_size, self.grad_accumulation);
        let fits = |samples: &u64| u32::try_from(*samples).is_ok();
        need(fits(&(batch as u64)), "train.batch_size", batch, format!("needs at most {} sequences", u32::MAX))?;
        let samples = (batch as u64).checked_mul(accumulation as u64).filter(fits);
        let advice = format!("needs at most {} sequences a step, with train.batch_size = {batch}", u32::MAX);
        need(samples.is_some(), "train.grad_accumulation", accumulation, advice)?;
        let samples = samples.unwrap_or(1).max(1);
        let most = u64::from(u32::MAX).min(i64::MAX as u64 / samples);
        need(self.steps <= most, "train.steps", self.steps, format!("needs at most {most}, at {samples} sequences a step"))
    }

    /// If only the schedule's peak was changed from `base` and fell below the end, scales the end so that it keeps its ratio to the peak.
    /// Returns a note on the change for the user.
    pub fn follow_peak(&mut self, base: &TrainConfig) -> Option<String> {
        let (peak, low) = (self.learning_rate, self.min_learning_rate);
        let fell = self.schedule != Schedule::Constant && low == base.min_learning_rate && peak != base.learning_rate && peak < low;
        if !fell || base.min_learning_rate > base.learning_rate {
            return None;
        }
        self.min_learning_rate = peak * (base.min_learning_rate / base.learning_rate);
        let (peak, new) = (Shown(peak), Shown(self.min_learning_rate));
        Some(format!("train.min_learning_rate = {new} in place of {}, which is above train.learning_rate = {peak}", Shown(low)))
    }
}

/// All settings of a run. The default is the preset `shakespeare-word`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// `[model]`: the shape of the model.
    pub model: ModelConfig,
    /// `[train]`: optimizer, schedule, batches and checkpoints.
    pub train: TrainConfig,
    /// `[tokenizer]`: how text becomes tokens.
    pub tokenizer: TokenizerConfig,
    /// `[data]`: which text, and how it is split.
    pub data: DataConfig,
}

impl RunConfig {
    /// Refuses settings that cannot be run; every section checks itself.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] that names the key, its value and what is needed.
    pub fn validate(&self) -> Result<()> {
        self.check_whole_numbers()?;
        self.model.validate()?;
        self.train.validate()?;
        self.tokenizer.validate()?;
        self.data.validate()
    }

    /// TOML integers are i64: a larger number could not be written into the run's config.
    fn check_whole_numbers(&self) -> Result<()> {
        let tree = serde_json::to_value(self).map_err(|e| Error::usage(format!("the config cannot be read: {e}")))?;
        for (section, keys) in tree.as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                let fits = value.as_u64().is_none_or(|whole| i64::try_from(whole).is_ok());
                need(fits, &format!("{section}.{key}"), value, format!("needs at most {}", i64::MAX))?;
            }
        }
        Ok(())
    }
}

/// Whether `--resume` may change `key` (`section.key`): it may if the steps already made would be the same. `train.steps` changes only the
/// learning rate of later steps. `data.files` may name other locations, because the contents of the files are compared.
pub fn may_change_on_resume(key: &str) -> bool {
    const KEYS: [&str; 9] = [
        "data.files",
        "train.steps",
        "train.eval_every",
        "train.eval_batches",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.log_every",
        "train.snapshot_every",
        "train.recoveries",
    ];
    KEYS.contains(&key)
}

#[cfg(feature = "files")]
mod tree;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_every_so_many_steps_and_the_last() {
        let train = TrainConfig { steps: 25, log_every: 10, ..TrainConfig::default() };
        assert_eq!((1..=40).filter(|step| train.logs(*step)).collect::<Vec<_>>(), [10, 20, 25, 30, 40]);
    }

    #[test]
    fn the_first_loss_scale_is_the_tokens_of_a_batch() {
        let of = |storage, batch_size, loss_scale| {
            TrainConfig { storage, batch_size, loss_scale, ..TrainConfig::default() }.first_loss_scale(100)
        };
        assert_eq!(of(StorageDtype::F16, 3, 0), 512.0);
        assert_eq!(of(StorageDtype::F16, 1 << 31, 0), HIGHEST_LOSS_SCALE as f32);
        assert_eq!(of(StorageDtype::F16, 3, 2), 2.0);
        assert_eq!(of(StorageDtype::F32, 3, 0), 1.0);
        assert_eq!(of(StorageDtype::Bf16, 3, 0), 1.0);
    }

    #[test]
    fn refuses_what_cannot_be_trained_with() {
        type Change = fn(&mut TrainConfig);
        let cases: [(Change, &str); 21] = [
            (|c| c.keep_checkpoints = 0, "train.keep_checkpoints = 0: needs at least 1"),
            (|c| c.steps = 0, "train.steps = 0: needs at least 1"),
            (|c| c.batch_size = 0, "train.batch_size = 0: needs at least 1"),
            (|c| c.grad_accumulation = 0, "train.grad_accumulation = 0: needs at least 1"),
            (|c| c.log_every = 0, "train.log_every = 0: needs at least 1"),
            (
                |c| c.grad_accumulation = usize::MAX,
                "train.grad_accumulation = 18446744073709551615: needs at most 4294967295 sequences a step, with train.batch_size = 32",
            ),
            (
                |c| c.grad_accumulation = 1 << 27,
                "train.grad_accumulation = 134217728: needs at most 4294967295 sequences a step, with train.batch_size = 32",
            ),
            (|c| c.batch_size = 1 << 32, "train.batch_size = 4294967296: needs at most 4294967295 sequences"),
            (|c| c.steps = 1 << 62, "train.steps = 4611686018427387904: needs at most 4294967295, at 32 sequences a step"),
            (|c| c.learning_rate = 0.0, "train.learning_rate = 0: needs a number above 0"),
            (|c| c.learning_rate = f64::INFINITY, "train.learning_rate = inf: needs a number above 0"),
            (
                |c| c.min_learning_rate = 0.5,
                "train.min_learning_rate = 0.5: needs 0 to train.learning_rate = 0.002; set both, or train.schedule = constant",
            ),
            (|c| c.beta2 = 1.0, "train.beta2 = 1: needs a number from 0 to below 1"),
            (|c| c.momentum = f64::NAN, "train.momentum = NaN: needs a number from 0 to below 1"),
            (|c| c.eps = 0.0, "train.eps = 0: needs a number above 0"),
            (|c| c.weight_decay = -0.1, "train.weight_decay = -0.1: needs a number of at least 0"),
            (
                |c| (c.learning_rate, c.weight_decay) = (1e20, 1e20),
                "train.weight_decay = 1e20: needs at most 3.4e18 at train.learning_rate = 1e20, as the device multiplies them in 32-bit floats",
            ),
            (|c| (c.storage, c.loss_scale) = (StorageDtype::F16, 3), "train.loss_scale = 3: needs 0 or a power of two up to 1073741824"),
            (|c| c.loss_scale = 1 << 31, "train.loss_scale = 2147483648: needs 0 or a power of two up to 1073741824"),
            (|c| c.loss_scale = 8, "train.loss_scale = 8: needs train.storage = f16"),
            (|c| c.grad_clip = f64::NAN, "train.grad_clip = NaN: needs a number of at least 0"),
        ];
        for (change, expected) in cases {
            let mut config = TrainConfig::default();
            assert!(config.validate().is_ok());
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
    }
}

#[cfg(all(test, feature = "files"))]
mod values_tests;

#[cfg(all(test, feature = "files"))]
mod tree_tests;
