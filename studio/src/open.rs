//! From a run's folder or a preset's name to what is trained.

use std::path::Path;

use wgpt::gpu::Gpu;
use wgpt::gpu::compile::Options;
use wgpt::gpu::wait::block_on;
use wgpt::text::{Corpus, Tokenizer};
use wgpt::train::checkpoint::{self, Which};
use wgpt::train::{RunConfig, Snapshot, Trainer, presets};
use wgpt::{Error, Result};

/// What was opened.
pub struct Opened {
    pub name: String,
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    pub corpus: Corpus,
    pub trainer: Trainer,
}

/// Opens a run's folder with its latest checkpoint, or begins a preset; the default preset without a name.
///
/// # Errors
/// For a name that is neither, a damaged run, a model that does not fit.
pub fn open(gpu: &Gpu, what: Option<&str>) -> Result<Opened> {
    let name = what.unwrap_or("shakespeare-word");
    let folder = Path::new(name);
    if !checkpoint::is_run(folder) && !presets::PRESETS.iter().any(|(preset, _)| *preset == name) {
        let names: Vec<&str> = presets::PRESETS.iter().map(|(preset, _)| *preset).collect();
        return Err(Error::usage(format!("{name} is neither a run's folder nor a preset ({})", names.join(", "))));
    }
    let (mut config, saved) = match checkpoint::is_run(folder) {
        true => {
            let saved = checkpoint::find(folder, Which::Latest)?;
            (checkpoint::read_config(&saved)?, Some(saved))
        }
        false => (presets::preset(name)?, None),
    };
    let existing = saved.as_deref().map(checkpoint::read_tokenizer).transpose()?;
    let (tokenizer, corpus) = match presets::embedded(&config.data.files) {
        Some(text) => Corpus::build(&config.data, &[text], &config.tokenizer, existing)?,
        None => Corpus::open(&config.data, &config.tokenizer, existing)?,
    };
    if saved.is_none() {
        config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    }
    corpus.check_windows(config.model.seq_len)?;
    let options = Options { fine: true, ..Options::default() };
    let mut trainer = block_on(gpu, Trainer::new(gpu, &config, &options))?;
    if let Some(saved) = saved {
        let (meta, pools) = (checkpoint::read_meta(&saved)?, &trainer.session.model.pools);
        let weights = checkpoint::read_weights(&saved, &pools.table)?;
        let moments = checkpoint::read_moments(&saved, &pools.table, pools.moments())?;
        block_on(gpu, trainer.restore(&Snapshot { step: meta.step, state: meta.device_state, weights, moments }))?;
    }
    Ok(Opened { name: name.to_owned(), config, tokenizer, corpus, trainer })
}
