//! Finds runs in folders, the named one or the newest, and loads what a command needs from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Context;
use crate::error::{Error, Result, excerpt};
use crate::generate::Generator;
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::wait::block_on;
use crate::model::params;
use crate::text::{TextSource, Tokenizer};
use crate::train::RunConfig;
use crate::train::checkpoint::{self, OpenCheckpoint, Which};

/// Default folder of runs, if `--out` names no other.
pub const RUNS: &str = "runs";

/// The best checkpoint of a run, read.
pub struct Loaded {
    pub run: PathBuf,
    pub step: u64,
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    pub weights: Vec<Vec<f32>>,
    /// What it was trained on; empty if the checkpoint does not record it.
    pub sources: Vec<TextSource>,
}

/// The folder that `--run` names, or the newest run under [`RUNS`].
///
/// # Errors
/// [`Error::File`] when there is none.
pub fn named_or_newest(run: Option<&Path>) -> Result<PathBuf> {
    match run {
        Some(run) => Ok(run.to_path_buf()),
        None => newest(Path::new(RUNS)),
    }
}

/// The run in `runs` whose last checkpoint is the newest.
fn newest(runs: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let saved = |run: PathBuf| {
        let folder = run.join(checkpoint::FOLDER);
        // An interrupted first save leaves a checkpoint, but not the file that names it.
        let unnamed = |e| if checkpoint::any(&run) { fs::metadata(&folder) } else { Err(e) };
        let time: SystemTime = fs::metadata(folder.join("latest")).or_else(unnamed).and_then(|m| m.modified()).ok()?;
        Some((time, run))
    };
    let newest = entries.filter_map(saved).max();
    newest
        .map(|(_, run)| run)
        .ok_or_else(|| Error::file(runs, "contains no run with a checkpoint: make one with `wgpt train`, or name one with --run"))
}

/// Reads the checkpoint with the lowest validation loss of the run that `--run` names, or of the newest run; or the checkpoint that it
/// names. Verifies its files against its manifest if `verify`.
///
/// # Errors
/// [`Error::File`] for a run without a checkpoint, or a damaged one.
pub fn load(run: Option<&Path>, verify: bool) -> Result<Loaded> {
    let run = named_or_newest(run)?;
    let OpenCheckpoint { files, config, tokenizer, meta } = checkpoint::find_or_take(&run, Which::Best)?.verify(verify).open()?;
    let weights = checkpoint::read_weights(&files, &params::table(&config.model))?;
    Ok(Loaded { run, step: meta.step, config, tokenizer, weights, sources: meta.sources })
}

impl Loaded {
    /// One line that names the run and the step.
    pub fn describe(&self) -> String {
        format!("{}, step {}", self.run.display(), self.step)
    }

    /// The model on the device, ready to predict; it never draws ids for which its tokenizer has no token.
    pub fn generator(&self, gpu: &Gpu, options: &Options) -> Result<Generator> {
        let mut generator = block_on(gpu, Generator::new(gpu, &self.config.model, &self.weights, options))?;
        let rows = self.config.model.vocab_size as u32;
        let nameless: Vec<u32> = (0..rows).filter(|&id| self.tokenizer.token(id).is_err()).collect();
        block_on(gpu, generator.forbid(&nameless))?;
        Ok(generator)
    }

    /// The ids of a prompt: the given ids, or those of a text. Prints one notice of its unknown words.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty prompt or an id out of range.
    pub fn prompt(&self, context: &Context, text: Option<&str>, ids: &[u32]) -> Result<Vec<u32>> {
        let ids = match text {
            Some(text) => {
                let (ids, unknown) = self.tokenizer.encode_counting_unknown(text)?;
                if !unknown.is_empty() {
                    context.out.notice(&unknown_words(&unknown));
                }
                ids
            }
            None => ids.to_vec(),
        };
        crate::generate::check_ids(&ids, self.tokenizer.vocab_size())?;
        let seen = self.config.model.seq_len;
        if ids.len() > seen {
            context.out.notice(&format!("note: the prompt has {} tokens, the model sees the last {seen}", ids.len()));
        }
        Ok(ids)
    }
}

/// A notice that names a handful of them at most.
fn unknown_words(unknown: &[String]) -> String {
    let named: Vec<String> = unknown.iter().take(5).map(|word| format!("\"{}\"", excerpt(word))).collect();
    let more = if unknown.len() > 5 { format!(" and {} more", unknown.len() - 5) } else { String::new() };
    format!("note: not in the vocabulary, read as <UNK>: {}{more}", named.join(", "))
}
