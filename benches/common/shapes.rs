//! The shapes of benches and of the race.

use wgpt::low_level::model::config::PositionEncoding;
use wgpt::low_level::train::config::Schedule;
use wgpt::presets::preset;
use wgpt::{ModelConfig, RunConfig, TrainConfig};

/// The config of a preset by name, of `S`, `M` or `L`, or of a shape `vocab=..,ctx=..,d=..,heads=..,layers=..,batch=..`: a pre-norm GPT
/// with learned positions, biases and an untied head, trained by AdamW at a constant rate, without gradient clipping or dropout.
///
/// # Errors
/// What is missing or wrong.
pub fn config(name: &str) -> Result<RunConfig, String> {
    let shape = match name {
        "S" => "vocab=512,ctx=64,d=128,heads=4,layers=4,batch=16",
        "M" => "vocab=4096,ctx=256,d=256,heads=8,layers=6,batch=8",
        "L" => "vocab=50257,ctx=256,d=768,heads=12,layers=12,batch=1",
        other => other,
    };
    if !shape.contains('=') {
        let mut config = preset(shape).map_err(|e| e.to_string())?;
        if config.model.vocab_size == 0 {
            config.model.vocab_size = if config.tokenizer.kind == "character" { 77 } else { config.tokenizer.max_vocab.max(8) };
        }
        return Ok(config);
    }
    let value = |key: &str| -> Result<usize, String> {
        let pair = shape.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let value = pair.ok_or(format!("{shape} has no {key}="))?;
        value.parse().map_err(|_| format!("{key}={value} in {shape}: needs a whole number"))
    };
    let model = ModelConfig {
        n_layer: value("layers")?,
        n_head: value("heads")?,
        d_model: value("d")?,
        seq_len: value("ctx")?,
        vocab_size: value("vocab")?,
        position: PositionEncoding::Learned,
        tied_head: false,
        ..ModelConfig::default()
    };
    let train = TrainConfig {
        batch_size: value("batch")?,
        learning_rate: 1e-3,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        beta2: 0.95,
        weight_decay: 0.01,
        grad_clip: 0.0,
        ..TrainConfig::default()
    };
    Ok(RunConfig { model, train, ..RunConfig::default() })
}
