//! Checkpoints: a folder that is whole or absent.
//!
//! A checkpoint is written to `checkpoints/step-N.tmp`, synced, renamed to `step-N` (or `step-N-2` where that is taken), and then named in
//! the one-line files `latest` and `best`, each replaced by a rename. At any instant one whole checkpoint is named; older ones are removed
//! afterwards, as far as their manifests say that this run wrote them. A file that is not what the manifest says is not used.

mod read;
pub(super) mod tensors;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use read::{Checkpoint, TAKEN_AS_IT_IS, read_config, read_meta, read_moments, read_tokenizer, read_weights};
pub use tensors::Tensors;

use super::config::RunConfig;
pub use super::found::{FOLDER, any};
use super::found::{Found, folder, look, named, place, steps};
use crate::error::{Error, Result, shell_path, shell_word};
use crate::files::{self, NewFolder, disk};
use crate::gpu::variants::Choice;
use crate::model::params::Param;
use crate::ops::step::State;
use crate::text::{Corpus, Source, TokenStore};

/// What `state.json` says beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Of this layout.
    pub version: u32,
    pub step: u64,
    /// Samples seen: the data's position, since a step's data is a function of (seed, sample).
    pub samples: u64,
    /// Identifies the training tokens, where `sources` is empty.
    pub data_fingerprint: u64,
    /// What the corpus was read from, validation text included; checkpoints of older versions do not say.
    #[serde(default)]
    pub sources: Vec<Source>,
    pub device_state: State,
    pub adapter: String,
    pub driver: String,
    /// The kernel variants that the run uses, by kernel and shape class.
    pub variants: Vec<Choice>,
    /// Validation loss at this step, if it was taken, and the best so far.
    pub val_loss: Option<f64>,
    pub best_val_loss: Option<f64>,
}

/// The layout that this version writes and reads.
pub const VERSION: u32 = 1;

/// Which checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Latest,
    /// With the lowest validation loss; the latest if the run never validates.
    Best,
}

/// What a checkpoint is made of.
pub struct Content<'a> {
    pub config: &'a RunConfig,
    /// As JSON.
    pub tokenizer: &'a str,
    pub table: &'a [Param],
    pub tensors: &'a dyn Tensors,
    pub meta: &'a Meta,
}

/// What a new checkpoint is to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The first: those of an earlier run in the same folder are removed.
    First,
    Latest,
    /// The latest, and the best so far.
    Best,
}

/// The files of a checkpoint.
const FILES: &[&str] = &[tensors::FILES[0], tensors::FILES[1], "config.toml", "tokenizer.json", "state.json"];

/// A run's checkpoint.
///
/// # Errors
/// [`Error::File`] when the run has none.
pub fn find(out: &Path, which: Which) -> Result<Checkpoint> {
    let shown = shell_path(out);
    if out.exists() && !out.is_dir() {
        return Err(Error::file(out, "is a file, the folder of a run is needed"));
    }
    if !out.is_dir() {
        return Err(Error::file(out, format!("there is no such run: `wgpt train --out {shown}` makes one")));
    }
    if let Some(run) = run_of(out) {
        return Err(Error::file(out, format!("is a checkpoint of the run in {}: name that", shell_path(run))));
    }
    let parent = folder(out);
    let latest = named(&parent, "latest");
    // A run that has not validated yet has none: what is named so is of a run whose place it takes.
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
            // The first save of a run was cut off before the line that names it.
            Err(_) => return Ok(Checkpoint::named(path, "latest")),
            Ok(found) if !found.is_file() => {
                return Err(Error::file(
                    &latest,
                    format!("is no regular file: move it away, then {name} is taken, the newest that is there"),
                ));
            }
            Ok(_) => {}
        }
        let word = shell_word(&latest);
        return Err(Error::file(&latest, format!("names no checkpoint; `echo {name} >{word}` takes the newest that is there")));
    }
    let advice = match look(out)? {
        Found::Foreign(name) => format!("is no run, `{name}` is in it: name a run's folder"),
        _ => format!("has no checkpoint, there is nothing to go on from: `wgpt train --out {shown}` begins it"),
    };
    Err(Error::file(out, advice))
}

/// [`find`], and a checkpoint itself, which a user may name instead of its run where nothing is written to it.
///
/// # Errors
/// As [`find`].
pub fn find_or_take(out: &Path, which: Which) -> Result<Checkpoint> {
    if run_of(out).is_some() { Ok(Checkpoint::at(out)) } else { find(out, which) }
}

/// The run that a folder is a checkpoint of, if it is one.
fn run_of(out: &Path) -> Option<PathBuf> {
    let whole = ["state.json", "model.safetensors"].iter().all(|name| out.join(name).is_file());
    let above = fs::canonicalize(out).ok().filter(|_| whole)?;
    let run = above.parent().filter(|parent| parent.ends_with("checkpoints"))?.parent()?;
    // As the user wrote it, where the name has that part.
    let written = out.parent().filter(|parent| parent.ends_with("checkpoints")).and_then(Path::parent);
    Some(written.filter(|written| !written.as_os_str().is_empty()).unwrap_or(run).to_path_buf())
}

/// Writes a whole checkpoint into a run's folder and names it. `owner` is the id of the folder's marker; `keep` of the newest checkpoints
/// stay, this one among them, and the best.
///
/// # Errors
/// [`Error::File`], [`Error::Diverged`] for a value that is not finite, those of the tensors; what was named before is still there and
/// whole.
pub fn save(out: &Path, owner: &str, content: &Content, naming: Naming, keep: u64) -> Result<PathBuf> {
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

fn write_folder(mut folder: NewFolder, content: &Content) -> Result<NewFolder> {
    let Content { config, tokenizer, table, tensors, meta } = content;
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

/// Names a checkpoint in the one-line files that are to name it.
fn give_name(parent: &Path, checkpoint: &Path, naming: Naming) -> Result<()> {
    let name = checkpoint.file_name().unwrap_or_default().display().to_string();
    if naming == Naming::Best {
        point(parent, "best", &name)?;
    }
    point(parent, "latest", &name)?;
    if naming == Naming::First {
        // That of the run before; if it stays, `find` knows better.
        let _ = disk::remove_file(&parent.join("best"));
    }
    Ok(())
}

/// The one-line files that name checkpoints.
const POINTERS: [&str; 2] = ["latest", "best"];

/// Removes checkpoints that this run wrote and that neither `latest` nor `best` names: all that are of later steps than this one, left
/// from what this run has made again or taken the place of, and of the others all but the `keep` newest. Step 0 can be made again at any
/// time. What killed processes left half made or half removed goes too. What cannot be removed does no harm.
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

/// Refuses data that is not what the run of this checkpoint was trained and validated on. Where it lies does not matter.
///
/// # Errors
/// [`Error::File`] that names the file which changed.
pub fn check_data(checkpoint: &Checkpoint, meta: &Meta, corpus: &Corpus) -> Result<()> {
    let changed = if meta.sources.is_empty() {
        let other = meta.data_fingerprint != fingerprint(&corpus.train)?;
        other.then(|| "data.files is not what the run was trained on".to_owned())
    } else {
        Source::difference(&meta.sources, &corpus.sources)
    };
    let advice = "restore it, or begin anew with --init";
    changed.map_or(Ok(()), |changed| Err(Error::file(checkpoint.path(), format!("this run needs the data it had: {changed}; {advice}"))))
}

/// Identifies the tokens of a store by its length and up to 64 Ki of its tokens, evenly spread (FNV-1a).
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
