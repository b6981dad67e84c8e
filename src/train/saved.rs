//! For applications: a trained model as they take it, and a training of their own as `wgpt train --resume` goes on with it.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use super::checkpoint::tensors::{FILES, Reader};
use super::checkpoint::{self, Content, Meta, Naming, Which};
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
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    /// In the parameter table's order.
    pub weights: Vec<Vec<f32>>,
}

impl Trained {
    /// The best checkpoint of the run in a folder, or a checkpoint itself.
    ///
    /// # Errors
    /// [`Error::File`] for a run without checkpoint, or one that is damaged.
    pub fn open(run: impl AsRef<Path>) -> Result<Trained> {
        let found = checkpoint::find_or_take(run.as_ref(), Which::Best)?;
        let (config, tokenizer) = (checkpoint::read_config(&found)?, checkpoint::read_tokenizer(&found)?);
        let weights = checkpoint::read_weights(&found, &params::table(&config.model))?;
        Trained { config, tokenizer, weights }.checked()
    }

    /// From the contents of a checkpoint's `config.toml`, `tokenizer.json` and `model.safetensors`, which an application may carry in
    /// itself by `include_str!` and `include_bytes!`. Errors name these three.
    ///
    /// # Errors
    /// [`Error::File`] for contents that are damaged or do not belong together, [`Error::Usage`] for settings that cannot be.
    pub fn from_bytes(config: &str, tokenizer: &str, weights: &[u8]) -> Result<Trained> {
        let config = RunConfig::from_toml(config, Path::new("config.toml"))?;
        config.validate()?;
        let tokenizer = Tokenizer::from_json(tokenizer, "tokenizer.json")?;
        let mut file = Reader::new(Path::new(FILES[0]), Cursor::new(weights), weights.len() as u64)?;
        let weights = params::table(&config.model).iter().map(|param| file.read(param, None)).collect::<Result<_>>()?;
        Trained { config, tokenizer, weights }.checked()
    }

    fn checked(self) -> Result<Trained> {
        let (tokens, rows) = (self.tokenizer.vocab_size(), self.config.model.vocab_size);
        if tokens > rows {
            return Err(Error::file("tokenizer.json", format!("its tokenizer has {tokens} tokens, its model only {rows}")));
        }
        Ok(self)
    }

    /// What no text should get: `<UNK>`, and ids that the model has beyond those of its tokenizer.
    pub fn wordless(&self) -> Vec<u32> {
        let nameless = (0..self.config.model.vocab_size as u32).filter(|&id| self.tokenizer.token(id).is_err());
        self.tokenizer.unknown().into_iter().chain(nameless).collect()
    }

    /// A generator of its own with these weights, which never draws what is [`wordless`](Trained::wordless).
    ///
    /// # Errors
    /// As [`Generator::new`].
    pub async fn generator(&self, gpu: &Gpu, options: &Options) -> Result<Generator> {
        let mut generator = Generator::new(gpu, &self.config.model, &self.weights, options).await?;
        generator.forbid(&self.wordless()).await?;
        Ok(generator)
    }
}

/// Saves a training of one's own as the run in `out`: `wgpt train --out OUT --resume` goes on with it, and so may an application.
///
/// `snapshot` is of `trainer`, whose config should name in `data.files` what `corpus` was built from. A folder that holds an earlier
/// checkpoint of the same training gets another one; `train.keep_checkpoints` of them stay. The checkpoint's path. An application that
/// saves more than once, while it draws, takes [`RunFiles`] and keeps its folder claimed.
///
/// # Errors
/// [`Error::Usage`] when the folder holds the run of another training or somebody else trains in it; [`Error::File`] when it holds anything
/// else, or cannot be written to.
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

/// What the files of a run say of a training, apart from the tensors of its snapshot. It holds on to neither the trainer nor the device:
/// both may go to another thread to be written while the trainer goes on.
#[derive(Debug, Clone)]
pub struct RunFiles {
    config: RunConfig,
    /// As JSON.
    tokenizer: String,
    meta: Meta,
}

impl RunFiles {
    /// Of a snapshot of this trainer.
    ///
    /// # Errors
    /// [`Error::File`] for a corpus whose token file can no longer be read.
    pub fn of(trainer: &Trainer, snapshot: &Snapshot, tokenizer: &Tokenizer, corpus: &Corpus) -> Result<RunFiles> {
        let config = RunConfig { tokenizer: corpus.tokenizer.clone(), ..trainer.config().clone() };
        let meta = meta(trainer, snapshot.step, snapshot.state, corpus)?;
        Ok(RunFiles { config, tokenizer: tokenizer.to_json(), meta })
    }

    /// Writes the run's next checkpoint, or its first, and the config beside it; with `history`, that takes the place of `metrics.jsonl`.
    /// `folder` was claimed by [`Start::Fresh`] or [`RunFolder::claim_next`], or to go on with this training. The checkpoint's path.
    ///
    /// # Errors
    /// [`Error::File`]; a folder that has no checkpoint then is left as it was found when it is dropped. [`Error::Diverged`] for a value
    /// that is not finite.
    pub fn write(&self, folder: &mut RunFolder, snapshot: &Snapshot, history: Option<&[Record]>) -> Result<PathBuf> {
        let RunFiles { config, tokenizer, meta } = self;
        let (out, goes_on) = (folder.path().to_path_buf(), checkpoint::any(folder.path()));
        let history = || history.map_or(Ok(()), |records| metrics::write(&out.join(METRICS), records));
        let owner = folder.mark()?;
        if goes_on {
            // A kill in between leaves records of steps that have no checkpoint, which `--resume` cuts off.
            history()?;
        }
        let table = params::table(&config.model);
        let content = Content { config, tokenizer, table: &table, tensors: snapshot, meta };
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

/// What a checkpoint says of a trainer after `step` steps; nothing was validated.
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
