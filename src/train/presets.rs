//! Ready-made runs, from a six-word example to GPT-2.

use super::config::{RunConfig, Schedule, TrainConfig};
use crate::error::{Error, Result, excerpt, suggestion};
use crate::model::config::{ModelConfig, PositionEncoding};
use crate::ops::matmul::Activation;
use crate::text::{DataConfig, TokenizerConfig};

/// The corpus of the preset `toy`: two sentences with six distinct words. `hello` is followed by two different words, `world` only by
/// `how`.
pub const TOY_TEXT: &str = "hello world how are you\nhello how are you today\n";

/// The entry of `data.files` that selects [`TOY_TEXT`], so that a run's config records what it was trained on.
pub const TOY_FILE: &str = "embedded:toy";

/// The bundled text that `data.files` selects: Shakespeare if it is empty, the two toy sentences if it is [`TOY_FILE`], `None` if it names
/// files.
pub fn embedded(files: &[String]) -> Option<&'static str> {
    match files {
        [] => Some(include_str!("../../assets/shakespeare.txt")),
        [file] if file == TOY_FILE => Some(TOY_TEXT),
        _ => None,
    }
}

/// Every preset and its purpose, the default first.
pub const PRESETS: &[(&str, &str)] = &[
    ("shakespeare-word", "words of Shakespeare, 2 layers of 64: half a minute on two CPU cores"),
    ("toy", "a minimal example, two sentences of six words, 1 layer of 16: seconds"),
    ("shakespeare-char", "characters of Shakespeare, nanoGPT's CPU recipe, 4 layers of 128"),
    ("nanogpt-char", "characters, nanoGPT's GPU recipe, 6 layers of 384, dropout"),
    ("gpt2", "124 million parameters, 12 layers of 768, byte-level BPE"),
    ("gpt2-medium", "355 million parameters, 24 layers of 1024"),
    ("gpt2-large", "774 million parameters, 36 layers of 1280"),
    ("gpt2-xl", "1558 million parameters, 48 layers of 1600"),
];

/// The preset of that name.
///
/// # Errors
/// [`Error::Usage`] for an unknown name; it suggests the nearest one and lists all of them.
pub fn preset(name: &str) -> Result<RunConfig> {
    // Peak rates and tokens per update of the four sizes: Brown et al. 2020 (GPT-3), table 2.1.
    match name {
        "toy" => Ok(toy()),
        "shakespeare-word" => Ok(shakespeare_word()),
        "shakespeare-char" => Ok(shakespeare_char()),
        "nanogpt-char" => Ok(nanogpt_char()),
        "gpt2" => Ok(gpt2([12, 12, 768], 8, 6e-4)),
        "gpt2-medium" => Ok(gpt2([24, 16, 1024], 4, 3e-4)),
        "gpt2-large" => Ok(gpt2([36, 20, 1280], 2, 2.5e-4)),
        "gpt2-xl" => Ok(gpt2([48, 25, 1600], 1, 2e-4)),
        _ => {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let nearest = suggestion(name, names.iter().copied());
            let all = names.join(", ");
            let list = if nearest.ends_with(&all) { String::new() } else { format!(" (presets: {all})") };
            Err(Error::usage(format!("unknown preset `{}`: {nearest}{list}", excerpt(name))))
        }
    }
}

impl Default for RunConfig {
    /// The preset `shakespeare-word`.
    fn default() -> RunConfig {
        shakespeare_word()
    }
}

fn toy() -> RunConfig {
    RunConfig {
        model: ModelConfig {
            n_layer: 1,
            n_head: 1,
            d_model: 16,
            d_ff: 32,
            seq_len: 4,
            activation: Activation::Relu,
            ..ModelConfig::default()
        },
        train: TrainConfig {
            steps: 300,
            batch_size: 8,
            learning_rate: 1e-2,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            weight_decay: 0.0,
            eval_every: 0,
            checkpoint_every: 0,
            ..TrainConfig::default()
        },
        tokenizer: TokenizerConfig { kind: "word".into(), punctuation: false, ..TokenizerConfig::default() },
        data: DataConfig { files: vec![TOY_FILE.into()], val_fraction: 0.0 },
    }
}

/// The default, sized for two CPU cores: Debian 12's own software Vulkan driver trains it in half a minute. It has few
/// words, few tokens, an untied head (which learns word pairs soonest) and a high learning rate.
fn shakespeare_word() -> RunConfig {
    RunConfig {
        model: ModelConfig { tied_head: false, ..ModelConfig::default() },
        train: TrainConfig {
            steps: 800,
            batch_size: 20,
            learning_rate: 4e-3,
            warmup_steps: 30,
            weight_decay: 0.3,
            eval_every: 200,
            checkpoint_every: 200,
            ..TrainConfig::default()
        },
        tokenizer: TokenizerConfig { kind: "word".into(), punctuation: true, max_vocab: 1024, ..TokenizerConfig::default() },
        data: DataConfig { files: Vec::new(), val_fraction: 0.1 },
    }
}

/// The recipe for CPUs in nanoGPT's README, "train_shakespeare_char.py" with its overrides.
fn shakespeare_char() -> RunConfig {
    RunConfig {
        model: ModelConfig {
            n_layer: 4,
            n_head: 4,
            d_model: 128,
            seq_len: 64,
            position: PositionEncoding::Learned,
            bias: false,
            ..ModelConfig::default()
        },
        train: TrainConfig {
            steps: 2000,
            batch_size: 12,
            learning_rate: 1e-3,
            min_learning_rate: 1e-4,
            warmup_steps: 100,
            beta2: 0.99,
            weight_decay: 0.1,
            grad_clip: 1.0,
            eval_every: 250,
            checkpoint_every: 250,
            ..TrainConfig::default()
        },
        tokenizer: TokenizerConfig { kind: "character".into(), ..TokenizerConfig::default() },
        data: DataConfig { files: Vec::new(), val_fraction: 0.1 },
    }
}

/// nanoGPT's `config/train_shakespeare_char.py`.
fn nanogpt_char() -> RunConfig {
    let small = shakespeare_char();
    RunConfig {
        model: ModelConfig { n_layer: 6, n_head: 6, d_model: 384, seq_len: 256, dropout: 0.2, ..small.model },
        train: TrainConfig { steps: 5000, batch_size: 64, ..small.train },
        ..small
    }
}

/// nanoGPT's `config/train_gpt2.py`, with GPT-2's biases: 512 sequences of 1,024 tokens per update.
fn gpt2([n_layer, n_head, d_model]: [usize; 3], batch_size: usize, learning_rate: f64) -> RunConfig {
    let model = ModelConfig {
        n_layer,
        n_head,
        d_model,
        seq_len: 1024,
        vocab_size: 50257,
        position: PositionEncoding::Learned,
        ..ModelConfig::default()
    };
    RunConfig {
        model,
        train: TrainConfig {
            steps: 600_000,
            batch_size,
            grad_accumulation: 512 / batch_size,
            learning_rate,
            min_learning_rate: learning_rate / 10.0,
            warmup_steps: 2000,
            beta2: 0.95,
            weight_decay: 0.1,
            grad_clip: 1.0,
            eval_every: 1000,
            eval_batches: 200,
            checkpoint_every: 1000,
            ..TrainConfig::default()
        },
        // The preset runs only once `tokenizer.path` names a vocabulary.
        tokenizer: TokenizerConfig { kind: "bpe".into(), path: String::new(), ..TokenizerConfig::default() },
        data: DataConfig { files: Vec::new(), val_fraction: 0.0005 },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_preset_listed_is_there_and_valid() {
        for (name, _) in PRESETS {
            let mut config = preset(name).unwrap();
            if name.starts_with("gpt2") {
                config.tokenizer.path = "gpt2-tokenizer".into();
            }
            config.validate().unwrap();
        }
        assert_eq!(preset(PRESETS[0].0).unwrap(), RunConfig::default());
    }

    #[test]
    fn presets_name_their_embedded_text() {
        assert_eq!(embedded(&toy().data.files), Some(TOY_TEXT));
        assert!(embedded(&shakespeare_word().data.files).unwrap().len() > 1_000_000);
        assert_eq!(embedded(&["a.txt".into()]), None);
        assert_eq!(embedded(&[TOY_FILE.into(), "a.txt".into()]), None);
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        let error = preset("gpt-2").unwrap_err().to_string();
        assert!(error.starts_with("unknown preset `gpt-2`: did you mean `gpt2`? (presets: shakespeare-word, toy, "), "{error}");
        assert!(preset("zzz").unwrap_err().to_string().starts_with("unknown preset `zzz`: expected one of shakespeare-word, "));
        assert_eq!(preset("zzz").unwrap_err().to_string().matches("gpt2-xl").count(), 1);
        assert!(preset("shakespeare").unwrap_err().to_string().contains("did you mean `shakespeare-"));
    }

    #[test]
    fn the_lesson_has_six_words_and_world_is_followed_by_how() {
        let words: BTreeSet<&str> = TOY_TEXT.split_whitespace().collect();
        assert_eq!(words.len(), 6);
        assert_eq!(TOY_TEXT.lines().count(), 2);
        let stream: Vec<&str> = TOY_TEXT.split_whitespace().collect();
        let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        stream.windows(2).for_each(|pair| _ = next.entry(pair[0]).or_default().insert(pair[1]));
        assert_eq!(next["world"], BTreeSet::from(["how"]));
        assert!(stream.len() > toy().model.seq_len);
    }

    #[cfg(feature = "files")]
    #[test]
    fn every_preset_survives_toml() {
        for (name, _) in PRESETS {
            let (config, file) = (preset(name).unwrap(), std::path::Path::new("run.toml"));
            let text = config.to_toml().unwrap();
            assert_eq!(RunConfig::from_toml(&text, file).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn gpt2_sizes_are_the_published_ones() {
        for (name, millions) in [("gpt2", 124), ("gpt2-medium", 355), ("gpt2-large", 774), ("gpt2-xl", 1558)] {
            let config = preset(name).unwrap();
            assert_eq!((config.model.parameters() + 500_000) / 1_000_000, millions, "{name}");
            assert_eq!(config.train.batch_size * config.train.grad_accumulation, 512, "{name}");
        }
    }

    #[test]
    fn nanogpt_sizes_are_the_published_ones() {
        // nanoGPT reports 10.65M without the position table for its 65 characters.
        let model = preset("nanogpt-char").unwrap().model.with_vocab(65).unwrap();
        assert_eq!(model.parameters() - 256 * 384, 10_646_784);
    }
}
