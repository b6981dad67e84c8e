//! Checkpoints: a folder that is whole or absent.
//!
//! A checkpoint is written to `checkpoints/step-N.tmp`, synced, renamed to `step-N` (or `step-N-2` where that is taken), and then named in
//! the one-line files `latest` and `best`, each replaced by a rename. At any instant one whole checkpoint is named; older ones are removed
//! afterwards, as far as their manifests say that this run wrote them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::config::RunConfig;
use super::trainer::Snapshot;
use crate::error::{Error, Result, shell_word};
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
    pub snapshot: &'a Snapshot,
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
const FILES: &[&str] = &["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json", "state.json"];

/// Whether a folder holds a run.
pub fn is_run(out: &Path) -> bool {
    any(out)
}

/// Whether a folder has checkpoints, named or not.
pub fn any(out: &Path) -> bool {
    fs::symlink_metadata(folder(out).join("latest")).is_ok() || !steps(&folder(out)).is_empty()
}

/// Where a run's folder has its checkpoints.
pub const FOLDER: &str = "checkpoints";

fn folder(out: &Path) -> PathBuf {
    out.join(FOLDER)
}

/// The checkpoints in `parent`: their steps and folders, the newest first.
fn steps(parent: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let step = |path: PathBuf| {
        // `step-60`, or `step-60-2` where that name was taken.
        let number = path.file_name()?.to_str()?.strip_prefix("step-")?;
        let (step, again) = number.split_once('-').unwrap_or((number, "1"));
        Some(((step.parse().ok()?, again.parse::<u64>().ok()?), path))
    };
    let mut found: Vec<((u64, u64), PathBuf)> = entries.filter_map(|entry| step(entry.path())).filter(|(_, path)| path.is_dir()).collect();
    found.sort_unstable();
    found.into_iter().rev().map(|((step, _), path)| (step, path)).collect()
}

/// The folder that a one-line file names.
fn named(parent: &Path, pointer: &str) -> Option<PathBuf> {
    let text = files::read_to_string(&parent.join(pointer)).ok()?;
    let name = text.trim();
    let path = parent.join(name);
    (path.file_name() == Some(name.as_ref()) && path.is_dir()).then_some(path)
}

/// The folder of a run's checkpoint.
///
/// # Errors
/// [`Error::File`] when the run has none.
pub fn find(out: &Path, which: Which) -> Result<PathBuf> {
    let shown = shell_word(out);
    if !out.is_dir() {
        return Err(Error::file(out, format!("there is no such run: `wgpt train --out {shown}` makes one")));
    }
    if let Some(run) = run_of(out) {
        return Err(Error::file(out, format!("is a checkpoint of the run in {}: name that", shell_word(run))));
    }
    let parent = folder(out);
    let latest = named(&parent, "latest");
    // A run that has not validated yet has none: what is named so is of a run whose place it takes.
    let none_yet = || latest.as_deref().is_some_and(|latest| read_meta(latest).is_ok_and(|meta| meta.best_val_loss.is_none()));
    let best = if which == Which::Best { named(&parent, "best").filter(|_| !none_yet()) } else { None };
    if let Some(found) = best.or(latest) {
        return Ok(found);
    }
    if let Some(name) = steps(&parent).first().and_then(|(_, path)| path.file_name()) {
        let (name, latest) = (name.display(), parent.join("latest"));
        let word = shell_word(&latest);
        return Err(Error::file(&latest, format!("names no checkpoint; `echo {name} >{word}` takes the newest that is there")));
    }
    let advice = match super::folder::look(out)? {
        super::folder::Found::Foreign(name) => format!("is no run, `{name}` is in it: name a run's folder"),
        _ => format!("has no checkpoint, there is nothing to go on from: `wgpt train --out {shown}` begins it"),
    };
    Err(Error::file(out, advice))
}

/// [`find`], and a checkpoint itself, which a user may name instead of its run where nothing is written to it.
///
/// # Errors
/// As [`find`].
pub fn find_or_take(out: &Path, which: Which) -> Result<PathBuf> {
    if run_of(out).is_some() { Ok(out.to_path_buf()) } else { find(out, which) }
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
/// [`Error::File`]; what was named before is still there and whole.
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
    let Content { config, tokenizer, table, snapshot, meta } = content;
    let weights = table.iter().zip(&snapshot.weights).map(|(p, v)| (p.name.clone(), p.shape.as_slice(), v.as_slice())).collect();
    write_tensors(&mut folder, "model.safetensors", weights)?;
    let mut moments = vec![];
    for (index, moment) in snapshot.moments.iter().enumerate() {
        let rows = table.iter().zip(moment).map(|(p, v)| (format!("moment_{}.{}", index + 1, p.name), p.shape.as_slice(), v.as_slice()));
        moments.extend(rows);
    }
    write_tensors(&mut folder, "optimizer.safetensors", moments)?;
    folder.write_bytes("config.toml", config.to_toml()?.as_bytes())?;
    folder.write_bytes("tokenizer.json", tokenizer.as_bytes())?;
    let json = serde_json::to_string_pretty(meta).map_err(|e| Error::file("state.json", e))?;
    folder.write_bytes("state.json", json.as_bytes())?;
    Ok(folder)
}

/// Of one tensor in the header of a safetensors file.
#[derive(Serialize)]
struct TensorInfo<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

/// Writes a safetensors file as its library does, which writes only files that it opens itself.
fn write_tensors(folder: &mut NewFolder, name: &str, mut tensors: Vec<(String, &[usize], &[f32])>) -> Result<()> {
    let failed = |e: io::Error| Error::file(name, format!("cannot be written: {e}"));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut header, mut end) = (BTreeMap::new(), 0);
    for (name, shape, values) in &tensors {
        let begin = end;
        end += size_of_val(*values);
        header.insert(name, TensorInfo { dtype: "F32", shape, data_offsets: [begin, end] });
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| Error::file(name, e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    folder.write(name, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        out.write_all(&header).map_err(failed)?;
        tensors.iter().try_for_each(|(_, _, values)| out.write_all(bytemuck::cast_slice(values)).map_err(failed))
    })
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
/// time. What cannot be removed does no harm.
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
}

/// The config in a checkpoint.
pub fn read_config(checkpoint: &Path) -> Result<RunConfig> {
    let path = checkpoint.join("config.toml");
    let text = files::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    let config = RunConfig::from_toml(&text, &path)?;
    // A key that is left out takes its default; a whole section that is missing was lost.
    let found: toml::Table = toml::from_str(&text).map_err(|e| Error::file(&path, e))?;
    let whole = toml::Table::try_from(&config).map_err(|e| Error::file(&path, e))?;
    if let Some(section) = whole.keys().find(|section| !found.contains_key(*section)) {
        return Err(Error::file(&path, format!("has no section [{section}]: it is cut short")));
    }
    config.validate().map_err(|e| Error::file(&path, e))?;
    Ok(config)
}

/// The tokenizer in a checkpoint.
pub fn read_tokenizer(checkpoint: &Path) -> Result<crate::text::Tokenizer> {
    let path = checkpoint.join("tokenizer.json");
    let text = files::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    crate::text::Tokenizer::from_json(&text, &path.display().to_string())
}

/// `state.json` of a checkpoint.
pub fn read_meta(checkpoint: &Path) -> Result<Meta> {
    let path = checkpoint.join("state.json");
    let text = files::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    let meta: Meta = serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {e}")))?;
    if meta.version != VERSION {
        return Err(Error::file(&path, format!("has version {}, this program reads version {VERSION}", meta.version)));
    }
    Ok(meta)
}

/// Refuses data that is not what the run of this checkpoint was trained and validated on. Where it lies does not matter.
///
/// # Errors
/// [`Error::File`] that names the file which changed.
pub fn check_data(checkpoint: &Path, meta: &Meta, corpus: &Corpus) -> Result<()> {
    let changed = if meta.sources.is_empty() {
        let other = meta.data_fingerprint != fingerprint(&corpus.train)?;
        other.then(|| "data.files is not what the run was trained on".to_owned())
    } else {
        Source::difference(&meta.sources, &corpus.sources)
    };
    let advice = "restore it, or begin anew with --init";
    changed.map_or(Ok(()), |changed| Err(Error::file(checkpoint, format!("this run needs the data it had: {changed}; {advice}"))))
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

/// The weights of a checkpoint in the table's order.
///
/// # Errors
/// [`Error::File`] that names the tensor which is missing, of another shape, or cut short.
pub fn read_weights(checkpoint: &Path, table: &[Param]) -> Result<Vec<Vec<f32>>> {
    read_tensors(&checkpoint.join("model.safetensors"), table, "")
}

/// All optimizer moments of a checkpoint.
pub fn read_moments(checkpoint: &Path, table: &[Param], moments: usize) -> Result<Vec<Vec<Vec<f32>>>> {
    let path = checkpoint.join("optimizer.safetensors");
    (0..moments).map(|index| read_tensors(&path, table, &format!("moment_{}.", index + 1))).collect()
}

fn read_tensors(path: &Path, table: &[Param], prefix: &str) -> Result<Vec<Vec<f32>>> {
    let bytes = files::read(path).map_err(|e| Error::file(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("is cut short or no safetensors file: {e}")))?;
    let tensors: HashMap<String, TensorView> = file.tensors().into_iter().collect();
    let read = |param: &Param| {
        let name = format!("{prefix}{}", param.name);
        let tensor = tensors.get(&name).ok_or_else(|| Error::file(path, format!("has no tensor `{name}` of shape {:?}", param.shape)))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != param.shape {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(Error::file(path, format!("`{name}` is {found}, this model needs F32 {:?}", param.shape)));
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::file(path, format!("`{name}` has the value {} at element {index}, not a finite number", values[index])));
        }
        Ok(values)
    };
    table.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_written_as_the_library_writes_them() {
        let place = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..30).map(|i| i as f32 / 7.0).collect();
        let tensors: Vec<(String, &[usize], &[f32])> =
            vec![("wte".into(), &[5, 4], &values[..20]), ("h.0.é".into(), &[7], &values[20..27]), ("a".into(), &[1, 3], &values[27..])];
        let mut folder = NewFolder::begin(place.path(), "step-1", FILES).unwrap();
        write_tensors(&mut folder, "model.safetensors", tensors.clone()).unwrap();
        let ours = fs::read(folder.put("me").unwrap().join("model.safetensors")).unwrap();
        let mut views = HashMap::new();
        for (name, shape, values) in &tensors {
            views.insert(name, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).unwrap());
        }
        // The library sorts by name, where the types are the same.
        assert_eq!(ours, safetensors::serialize(views, None).unwrap());
    }

    #[test]
    fn only_this_runs_older_checkpoints_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let parent = place.path();
        let made = |name: &str, owner: &str| {
            let mut folder = NewFolder::begin(parent, name, FILES).unwrap();
            folder.write_bytes("state.json", b"{}").unwrap();
            folder.put(owner).unwrap()
        };
        let left = || {
            let mut names: Vec<String> = fs::read_dir(parent).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names.join(" ")
        };
        for step in [0, 10, 20, 30, 40, 50, 400] {
            made(&format!("step-{step}"), "me");
        }
        made("step-40", "me"); // step-40-2
        made("step-15", "another run");
        fs::create_dir(parent.join("step-16")).unwrap();
        fs::create_dir(parent.join("step-60-keep")).unwrap();
        fs::rename(made("step-17", "me"), parent.join("step-18")).unwrap();
        point(parent, "best", "step-10").unwrap();
        point(parent, "latest", "step-50").unwrap();
        remove_old(parent, "me", 50, 3);
        assert_eq!(left(), "best latest step-10 step-15 step-16 step-18 step-40 step-40-2 step-50 step-60-keep");
        remove_old(parent, "me", 50, 1);
        assert_eq!(left(), "best latest step-10 step-15 step-16 step-18 step-50 step-60-keep");
    }
}
