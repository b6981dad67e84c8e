//! Checkpoints: folders that are complete or absent.
//!
//! A checkpoint is written to `checkpoints/step-N.tmp`, synced, renamed to `step-N` (or `step-N-2` if that name is taken), and then named
//! in the one-line files `latest` and `best`, each replaced by a rename. At any instant one complete checkpoint is named. Older ones are
//! removed afterwards, if their manifests say that this run wrote them. A file that does not match the manifest is not used.

mod read;
pub(super) mod tensors;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(super) use read::check_vocabulary;
pub use read::{Checkpoint, OpenCheckpoint, read_config, read_meta, read_moments, read_tokenizer, read_weights};
pub use tensors::Tensors;

use super::config::RunConfig;
pub use super::found::{FOLDER, any};
use super::found::{Found, folder, look, named, place, steps};
use crate::error::{Advice, Error, Result, shell_path, shell_word};
use crate::files::{self, NewFolder, disk};
use crate::gpu::variants::Choice;
use crate::model::params::Param;
use crate::ops::step::State;
use crate::text::{Corpus, TextSource, TokenStore};

/// The contents of `state.json`: everything besides weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the layout.
    pub version: u32,
    /// Completed steps.
    pub step: u64,
    /// Samples seen. This is the position in the data, since a step's data is a function of (seed, sample).
    pub samples: u64,
    /// Identifies the training tokens, if `sources` is empty.
    pub data_fingerprint: u64,
    /// The files that the corpus was read from, validation text included; empty in checkpoints of older versions.
    #[serde(default)]
    pub sources: Vec<TextSource>,
    /// The device's counts of applied and skipped updates, and its last clipping factor.
    pub device_state: State,
    /// Name of the adapter that the run uses.
    pub adapter: String,
    /// Name and version of the adapter's driver.
    pub driver: String,
    /// The kernel variants that the run uses, by kernel and shape class.
    pub variants: Vec<Choice>,
    /// Validation loss at this step, if it was measured, and the best so far.
    pub val_loss: Option<f64>,
    /// The lowest validation loss of the run up to this step, in nats.
    pub best_val_loss: Option<f64>,
}

/// The layout version that this program writes and reads.
pub const VERSION: u32 = 1;

/// Selects a checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was saved last.
    Latest,
    /// The one with the lowest validation loss, or the latest if the run never validates.
    Best,
}

/// The contents of a checkpoint.
pub struct CheckpointContent<'a> {
    /// All settings of the run, for `config.toml`.
    pub config: &'a RunConfig,
    /// As JSON.
    pub tokenizer: &'a str,
    /// The parameters, in the order of their tensors.
    pub table: &'a [Param],
    /// Reads weights and moments while they are written.
    pub tensors: &'a dyn Tensors,
    /// Everything else, for `state.json`.
    pub meta: &'a Meta,
}

/// The rank of a new checkpoint within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The first: those of an earlier run in the same folder are removed.
    First,
    /// The latest; which one is the best does not change.
    Latest,
    /// The latest, and the best so far.
    Best,
}

/// The files of a checkpoint.
const FILES: &[&str] = &[tensors::FILES[0], tensors::FILES[1], "config.toml", "tokenizer.json", "state.json"];

/// Finds a checkpoint of a run.
///
/// # Errors
/// [`Error::File`] when the run has none.
pub fn find(out: &Path, which: Which) -> Result<Checkpoint> {
    if out.exists() && !out.is_dir() {
        return Err(Error::file(out, "is a file, not the folder of a run"));
    }
    if !out.is_dir() {
        return Err(Error::file(out, "no such run: ").advised(Advice::TrainFirst));
    }
    if let Some(run) = run_of(out) {
        return Err(Error::file(out, format!("is a checkpoint of the run in {}: name the run instead", shell_path(run))));
    }
    let parent = folder(out);
    let latest = named(&parent, "latest");
    // Before the first validation there is none: `best` then names a checkpoint of the run that this one replaces.
    let meta_of = |latest: &PathBuf| read_meta(&Checkpoint::at(latest).verify(false));
    let none_yet = || latest.as_ref().is_some_and(|latest| meta_of(latest).is_ok_and(|meta| meta.best_val_loss.is_none()));
    let best = if which == Which::Best { named(&parent, "best").filter(|_| !none_yet()) } else { None };
    if let Some(best) = best {
        return Ok(Checkpoint::named(best, "best"));
    }
    if let Some(latest) = latest {
        return Ok(Checkpoint::named(latest, "latest"));
    }
    if let Some((_, path)) = steps(&parent).into_iter().next() {
        let (name, latest) = (path.file_name().unwrap_or_default().display().to_string(), parent.join("latest"));
        match fs::symlink_metadata(&latest) {
            // The first save of a run was interrupted before it wrote `latest`.
            Err(_) => return Ok(Checkpoint::named(path, "latest")),
            Ok(found) if !found.is_file() => {
                return Err(Error::file(
                    &latest,
                    format!("is not a regular file: move it away, and the newest checkpoint, {name}, is used"),
                ));
            }
            Ok(_) => {}
        }
        let word = shell_word(&latest);
        return Err(Error::file(&latest, format!("names no checkpoint; select the newest one with `echo {name} >{word}`")));
    }
    Err(match look(out)? {
        Found::Foreign(name) => Error::file(out, format!("is not a run, it contains `{name}`: name a run's folder")),
        _ => Error::file(out, "has no checkpoint to resume from: ").advised(Advice::TrainFirst),
    })
}

/// As [`find`], but also accepts a checkpoint's own folder, which a user may name instead of its run if nothing is written to it.
///
/// # Errors
/// As [`find`].
pub fn find_or_take(out: &Path, which: Which) -> Result<Checkpoint> {
    if run_of(out).is_some() { Ok(Checkpoint::at(out)) } else { find(out, which) }
}

/// The run that a folder is a checkpoint of, or `None` if it is not one.
fn run_of(out: &Path) -> Option<PathBuf> {
    let whole = ["state.json", "model.safetensors"].iter().all(|name| out.join(name).is_file());
    let above = fs::canonicalize(out).ok().filter(|_| whole)?;
    let run = above.parent().filter(|parent| parent.ends_with("checkpoints"))?.parent()?;
    // As the user wrote it, if the path contains that part.
    let written = out.parent().filter(|parent| parent.ends_with("checkpoints")).and_then(Path::parent);
    Some(written.filter(|written| !written.as_os_str().is_empty()).unwrap_or(run).to_path_buf())
}

/// Writes a complete checkpoint into a run's folder and names it. `owner` is the id of the folder's marker. The `keep` newest checkpoints,
/// this one among them, and the best one are kept.
///
/// # Errors
/// [`Error::File`], [`Error::Diverged`] for a value that is not finite, and the errors of the tensors; the checkpoint named before is then
/// still there and complete.
pub fn save(out: &Path, owner: &str, content: &CheckpointContent, naming: Naming, keep: u64) -> Result<PathBuf> {
    let (parent, name) = (folder(out), format!("step-{}", content.meta.step));
    let path = write_folder(NewFolder::begin(&parent, &name, FILES)?, content)?.put(owner)?;
    if let Err(e) = give_name(&parent, &path, naming) {
        if !POINTERS.iter().any(|pointer| named(&parent, pointer).as_ref() == Some(&path)) {
            let _ = files::remove_made(&path, owner);
        }
        return Err(e);
    }
    let stays = if naming == Naming::First { 1 } else { keep.max(1) };
    remove_old(&parent, owner, content.meta.step, stays);
    Ok(path)
}

fn write_folder(mut folder: NewFolder, content: &CheckpointContent) -> Result<NewFolder> {
    let CheckpointContent { config, tokenizer, table, tensors, meta } = content;
    tensors::write(&mut folder, table, *tensors, meta.step)?;
    folder.write_bytes("config.toml", config.to_toml()?.as_bytes())?;
    folder.write_bytes("tokenizer.json", tokenizer.as_bytes())?;
    let json = serde_json::to_string_pretty(meta).map_err(|e| Error::file(folder.path("state.json"), e))?;
    folder.write_bytes("state.json", json.as_bytes())?;
    Ok(folder)
}

/// Replaces a one-line file.
fn point(parent: &Path, pointer: &str, name: &str) -> Result<()> {
    files::write(&parent.join(pointer), |out| writeln!(out, "{name}"))
}

/// Names a checkpoint in the one-line files that apply to it.
fn give_name(parent: &Path, checkpoint: &Path, naming: Naming) -> Result<()> {
    let name = checkpoint.file_name().unwrap_or_default().display().to_string();
    if naming == Naming::Best {
        point(parent, "best", &name)?;
    }
    point(parent, "latest", &name)?;
    if naming == Naming::First {
        // It is of the previous run; if it cannot be removed, `find` ignores it.
        let _ = disk::remove_file(&parent.join("best"));
    }
    Ok(())
}

/// The one-line files that name checkpoints.
const POINTERS: [&str; 2] = ["latest", "best"];

/// Removes checkpoints that this run wrote and that neither `latest` nor `best` names: all of later steps than this one, which this run has
/// redone or replaced, and all but the `keep` newest of the others. Step 0 can be recreated at any time, so it is removed too. Folders that
/// killed processes left half written or half removed are also removed. What cannot be removed does no harm.
fn remove_old(parent: &Path, owner: &str, step: u64, keep: u64) {
    let named = POINTERS.map(|pointer| named(parent, pointer));
    let mut kept = 0;
    for (of, path) in steps(parent) {
        let is_named = named.iter().flatten().any(|name| *name == path);
        let stays = of <= step && of > 0 && kept < keep;
        if is_named || stays {
            kept += u64::from(named[1].as_ref() != Some(&path) || named[0].as_ref() == Some(&path));
        } else {
            let _ = files::remove_made(&path, owner);
        }
    }
    for path in fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|end| end == "tmp") && place(&path.with_extension("")).is_some() {
            files::remove_unfinished(&path, FILES);
        }
    }
}

/// Refuses data that differs from what the checkpoint's run was trained and validated on. Its location does not matter.
///
/// # Errors
/// [`Error::File`] naming the file that changed.
pub fn check_data(checkpoint: &Checkpoint, meta: &Meta, corpus: &Corpus) -> Result<()> {
    let changed = if meta.sources.is_empty() {
        let other = meta.data_fingerprint != fingerprint(&corpus.train)?;
        other.then(|| "data.files is not what the run was trained on".to_owned())
    } else {
        TextSource::difference(&meta.sources, &corpus.sources)
    };
    let error = |changed| Error::file(checkpoint.path(), format!("this run needs its original data: {changed}; "));
    changed.map_or(Ok(()), |changed| Err(error(changed).advised(Advice::OriginalData)))
}

/// Identifies the tokens of a store by its length and a sample of evenly spaced tokens, fewer than 128 Ki of them (FNV-1a).
///
/// # Errors
/// [`Error::File`] for a token file that can no longer be read.
pub fn fingerprint(store: &TokenStore) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |word: u64| {
        for byte in word.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    add(store.len() as u64);
    let mut id = [0];
    for place in (0..store.len()).step_by((store.len() / 65_536).max(1)) {
        store.read(place, &mut id)?;
        add(u64::from(id[0]));
    }
    Ok(hash)
}
