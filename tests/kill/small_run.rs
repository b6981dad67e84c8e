//! Runs of a tiny model by the library, so that a test can interfere between any two steps.

use std::path::{Path, PathBuf};

use wgpt::low_level::train::checkpoint::{self, Which};
use wgpt::low_level::train::folder::{RunFolder, Start};
use wgpt::low_level::train::run::{Event, Origin, Run, Setup};
use wgpt::{Corpus, DataConfig, Gpu, ModelConfig, Options, Request, Result, RunConfig, TokenizerConfig, TrainConfig};

use crate::support::text;

/// Six steps of two micro-batches, with a validation after every second step, a checkpoint after every third, and a record of each.
pub fn config() -> RunConfig {
    RunConfig {
        model: ModelConfig { n_layer: 1, n_head: 2, d_model: 16, seq_len: 8, dropout: 0.1, ..ModelConfig::default() },
        train: TrainConfig {
            steps: 6,
            batch_size: 2,
            grad_accumulation: 2,
            warmup_steps: 2,
            eval_every: 2,
            eval_batches: 2,
            checkpoint_every: 3,
            log_every: 1,
            ..TrainConfig::default()
        },
        tokenizer: TokenizerConfig { kind: "character".into(), ..TokenizerConfig::default() },
        data: DataConfig::default(),
    }
}

pub fn gpu() -> &'static Gpu {
    static GPU: std::sync::OnceLock<Gpu> = std::sync::OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(Gpu::request(&Request::default())).expect("tests need an adapter"))
}

/// A run in `out`, created as `wgpt train` does.
pub fn run(config: &RunConfig, out: &Path, start: Start) -> Result<Run> {
    Run::new(gpu(), setup(config, out, start)?, &Options::default())
}

pub fn setup(config: &RunConfig, out: &Path, start: Start) -> Result<Setup> {
    let mut config = config.clone();
    let (tokenizer, corpus) = Corpus::build(&config.data, &[text()], &config.tokenizer, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    let folder = RunFolder::claim(out, start)?;
    let origin = match start {
        Start::Resume => Origin::Resumed(checkpoint::find(out, Which::Latest)?.open()?.into()),
        Start::Fresh | Start::Overwrite => Origin::Random,
    };
    Ok(Setup { config, tokenizer, corpus, folder, origin })
}

/// What a run leaves, apart from timings: every bit of the checkpoints that `latest` and `best` name, and the records.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub latest: Vec<(&'static str, Vec<u8>)>,
    pub best: Vec<(&'static str, Vec<u8>)>,
    pub records: Vec<Measured>,
}

/// Step, loss, validation loss, learning rate and gradient norm of a record.
pub type Measured = (u64, Option<f64>, Option<f64>, f64, f64);

pub fn seen(out: &Path) -> Seen {
    let named = |pointer: &str| {
        let name = std::fs::read_to_string(out.join("checkpoints").join(pointer)).unwrap();
        let folder: PathBuf = out.join("checkpoints").join(name.trim());
        ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json", "state.json"]
            .map(|name| (name, std::fs::read(folder.join(name)).unwrap()))
            .to_vec()
    };
    let records = wgpt::low_level::train::metrics::read(&out.join("metrics.jsonl")).unwrap();
    let records = records.iter().map(|r| (r.step, r.loss, r.val_loss, r.lr, r.grad_norm)).collect();
    Seen { latest: named("latest"), best: named("best"), records }
}

/// The problems that the run reported, in order.
pub fn problems(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| if let Event::Trouble { problem } = event { Some(problem.as_str()) } else { None }).collect()
}
