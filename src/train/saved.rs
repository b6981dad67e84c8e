//! For applications: load a trained model, and save a training so that `wgpt train --resume` continues it.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use super::checkpoint::tensors::{FILES, Reader};
use super::checkpoint::{self, CheckpointContent, Meta, Naming, OpenCheckpoint, Which};
use super::config::{RunConfig, may_change_on_resume};
use super::folder::{RunFolder, Start};
use super::metrics::{self, METRICS, Record};
use super::trainer::{Snapshot, Trainer};
use crate::error::{Error, Result, excerpt};
use crate::files;
use crate::generate::Generator;
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::model::params;
use crate::ops::step::State;
use crate::text::{Corpus, Tokenizer};

/// A trained model in memory.
#[derive(Debug, Clone)]
pub struct Trained {
    /// All settings of the run that trained it.
    pub config: RunConfig,
    /// Encodes prompts and decodes the ids that the model produces.
    pub tokenizer: Tokenizer,
    /// In the parameter table's order.
    pub weights: Vec<Vec<f32>>,
}

impl Trained {
    /// Opens the best checkpoint of the run in a folder, or a checkpoint's own folder.
    ///
    /// # Errors
    /// [`Error::File`] for a run without a checkpoint, or a damaged one.
    pub fn open(run: impl AsRef<Path>) -> Result<Trained> {
        let OpenCheckpoint { files, config, tokenizer, .. } = checkpoint::find_or_take(run.as_ref(), Which::Best)?.open()?;
        let weights = checkpoint::read_weights(&files, &params::table(&config.model))?;
        Ok(Trained { config, tokenizer, weights })
    }

    /// Reads the contents of a checkpoint's `config.toml`, `tokenizer.json` and `model.safetensors`, which an application may embed by
    /// `include_str!` and `include_bytes!`. Errors use these three names.
    ///
    /// # Errors
    /// [`Error::File`] for contents that are damaged or do not match each other, [`Error::Usage`] for invalid settings.
    pub fn from_bytes(config: &str, tokenizer: &str, weights: &[u8]) -> Result<Trained> {
        let config = RunConfig::from_toml(config, Path::new("config.toml"))?;
        config.validate()?;
        let tokenizer = Tokenizer::from_json(tokenizer, "tokenizer.json")?;
        checkpoint::check_vocabulary(Path::new("tokenizer.json"), &config, &tokenizer)?;
        let mut file = Reader::new(Path::new(FILES[0]), Cursor::new(weights), weights.len() as u64)?;
        let table = params::table(&config.model);
        file.holds_only(&table)?;
        let weights = table.iter().map(|param| file.read(param, None)).collect::<Result<_>>()?;
        Ok(Trained { config, tokenizer, weights })
    }

    /// Ids that no text should contain: `<UNK>`, and ids of the model beyond those of its tokenizer.
    pub fn wordless(&self) -> Vec<u32> {
        let nameless = (0..self.config.model.vocab_size as u32).filter(|&id| self.tokenizer.token(id).is_err());
        self.tokenizer.unknown().into_iter().chain(nameless).collect()
    }

    /// A generator with its own copy of these weights, which never draws [`wordless`](Trained::wordless) ids.
    ///
    /// # Errors
    /// As [`Generator::new`].
    pub async fn generator(&self, gpu: &Gpu, options: &Options) -> Result<Generator> {
        let mut generator = Generator::new(gpu, &self.config.model, &self.weights, options).await?;
        generator.forbid(&self.wordless()).await?;
        Ok(generator)
    }
}

/// Saves an application's training as the run in `out`, for `wgpt train --out OUT --resume` or an application to continue.
///
/// `snapshot` is of `trainer`, whose config should name in `data.files` what `corpus` was built from. A folder that holds an earlier
/// checkpoint of the same training gets another one; `train.keep_checkpoints` of them are kept. Returns the checkpoint's path. An
/// application that saves more than once, while it draws, should use [`RunFiles`] and keep its folder claimed.
///
/// # Errors
/// [`Error::Usage`] when the folder holds the run of another training or another process is training in it; [`Error::File`] when it holds
/// anything else, or cannot be written to.
pub fn save_run(out: &Path, trainer: &Trainer, snapshot: &Snapshot, tokenizer: &Tokenizer, corpus: &Corpus) -> Result<PathBuf> {
    let files = RunFiles::of(trainer, snapshot, tokenizer, corpus)?;
    let goes_on = checkpoint::any(out);
    let mut folder = RunFolder::claim(out, if goes_on { Start::Resume } else { Start::Fresh })?;
    if goes_on {
        let own = checkpoint::read_config(&checkpoint::find(out, Which::Latest)?)?;
        let differences = own.differences(&files.config)?;
        if let Some((key, old, new)) = differences.iter().find(|(key, ..)| !may_change_on_resume(key)) {
            let problem =
                format!("{} holds a run of another training: {key} = {} there, {} here", out.display(), excerpt(old), excerpt(new));
            return Err(Error::usage(problem + ": name another folder"));
        }
    }
    files.write(&mut folder, snapshot, None)
}

/// The files of a run without the tensors of its snapshot. It borrows neither the trainer nor the device: another thread may write it and
/// the snapshot while the trainer continues.
#[derive(Debug, Clone)]
pub struct RunFiles {
    config: RunConfig,
    /// As JSON.
    tokenizer: String,
    meta: Meta,
}

impl RunFiles {
    /// Collects them for a snapshot of this trainer.
    ///
    /// # Errors
    /// [`Error::File`] for a corpus whose token file can no longer be read.
    pub fn of(trainer: &Trainer, snapshot: &Snapshot, tokenizer: &Tokenizer, corpus: &Corpus) -> Result<RunFiles> {
        let config = RunConfig { tokenizer: corpus.tokenizer.clone(), ..trainer.config().clone() };
        let meta = meta(trainer, snapshot.step, snapshot.state, corpus)?;
        Ok(RunFiles { config, tokenizer: tokenizer.to_json(), meta })
    }

    /// Writes the run's next checkpoint, or its first, and the config beside it; `history`, if given, replaces `metrics.jsonl`. `folder`
    /// must be claimed with [`Start::Fresh`] or [`RunFolder::claim_next`], or to resume this training. Returns the checkpoint's path.
    ///
    /// # Errors
    /// [`Error::File`]; if the folder has no checkpoint then, dropping it restores it to how it was found. [`Error::Diverged`] for a value
    /// that is not finite.
    pub fn write(&self, folder: &mut RunFolder, snapshot: &Snapshot, history: Option<&[Record]>) -> Result<PathBuf> {
        let RunFiles { config, tokenizer, meta } = self;
        let (out, goes_on) = (folder.path().to_path_buf(), checkpoint::any(folder.path()));
        let history = || history.map_or(Ok(()), |records| metrics::write(&out.join(METRICS), records));
        let owner = folder.mark()?;
        if goes_on {
            // A kill in between leaves records of steps without a checkpoint, which `--resume` removes.
            history()?;
        }
        let table = params::table(&config.model);
        let content = CheckpointContent { config, tokenizer, table: &table, tensors: snapshot, meta };
        let naming = if goes_on { Naming::Latest } else { Naming::First };
        let path = checkpoint::save(&out, &owner, &content, naming, config.train.keep_checkpoints)?;
        folder.settle();
        if !goes_on {
            folder.remove_left()?;
            history()?;
        }
        let text = config.to_toml()?;
        files::write(&out.join("config.toml"), |file| file.write_all(text.as_bytes()))?;
        Ok(path)
    }
}

/// The metadata of a checkpoint of a trainer after `step` steps, without a validation.
pub(super) fn meta(trainer: &Trainer, step: u64, device_state: State, corpus: &Corpus) -> Result<Meta> {
    let info = trainer.session.gpu.info();
    Ok(Meta {
        version: checkpoint::VERSION,
        step,
        samples: step * trainer.samples_per_step(),
        data_fingerprint: checkpoint::fingerprint(&corpus.train)?,
        sources: corpus.sources.clone(),
        device_state,
        adapter: info.name.clone(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        variants: trainer.session.compiled.variants.clone(),
        val_loss: None,
        best_val_loss: None,
    })
}
