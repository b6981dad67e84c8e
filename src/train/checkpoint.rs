//! Checkpoints: a folder that is whole or absent.
//!
//! A checkpoint is written to `checkpoints/step-N.tmp`, synced, renamed to `step-N`, and then named in the one-line files `latest` and
//! `best`, each replaced by a rename. At any instant one whole checkpoint is named; older ones are removed afterwards.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::config::RunConfig;
use super::trainer::Snapshot;
use crate::error::{Error, Result, shell_word};
use crate::gpu::variants::Choice;
use crate::model::params::Param;
use crate::ops::step::State;

/// What `state.json` says beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Of this layout.
    pub version: u32,
    pub step: u64,
    /// Samples seen: the data's position, since a step's data is a function of (seed, sample).
    pub samples: u64,
    /// Identifies the training tokens.
    pub data_fingerprint: u64,
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

/// Whether a folder holds a run.
pub fn is_run(out: &Path) -> bool {
    folder(out).join("latest").exists() || out.join("config.toml").exists()
}

fn folder(out: &Path) -> PathBuf {
    out.join("checkpoints")
}

/// The folder of a run's checkpoint.
///
/// # Errors
/// [`Error::File`] when the run has none.
pub fn find(out: &Path, which: Which) -> Result<PathBuf> {
    if !out.is_dir() {
        return Err(Error::file(out, "there is no such run; `wgpt train --out` makes one"));
    }
    if let Some(run) = run_of(out) {
        return Err(Error::file(out, format!("is a checkpoint of the run in {}: name that", shell_word(run))));
    }
    let named = |pointer: &str| {
        let name = fs::read_to_string(folder(out).join(pointer)).ok()?;
        let path = folder(out).join(name.trim());
        path.is_dir().then_some(path)
    };
    let best = if which == Which::Best { named("best") } else { None };
    best.or_else(|| named("latest")).ok_or_else(|| Error::file(out, "this run has no checkpoint yet; train it, or name another with --run"))
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

/// Writes a whole checkpoint and names it; `best` names it so too.
///
/// # Errors
/// [`Error::File`]; what was named before is still there and whole.
pub fn save(
    out: &Path,
    config: &RunConfig,
    tokenizer: &str,
    table: &[Param],
    snapshot: &Snapshot,
    meta: &Meta,
    best: bool,
) -> Result<PathBuf> {
    let name = format!("step-{}", meta.step);
    let parent = folder(out);
    let (temporary, path) = (parent.join(format!("{name}.tmp")), parent.join(&name));
    fs::create_dir_all(&parent).map_err(|e| Error::file(&parent, format!("cannot be made: {e}")))?;
    let written = write_folder(&temporary, config, tokenizer, table, snapshot, meta);
    let moved = written.and_then(|()| {
        // Left from a run that was stopped between rename and naming, or made before --steps grew: replaced by its equal.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|e| Error::file(&path, format!("cannot be replaced: {e}")))?;
        }
        fs::rename(&temporary, &path).map_err(|e| Error::file(&path, format!("cannot be put in place: {e}")))?;
        sync_folder(&parent)
    });
    if let Err(error) = moved {
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    if best {
        point(&parent, "best", &name)?;
    }
    point(&parent, "latest", &name)?;
    remove_unnamed(&parent);
    Ok(path)
}

fn write_folder(path: &Path, config: &RunConfig, tokenizer: &str, table: &[Param], snapshot: &Snapshot, meta: &Meta) -> Result<()> {
    let _ = fs::remove_dir_all(path);
    fs::create_dir(path).map_err(|e| Error::file(path, format!("cannot be made: {e}")))?;
    let weights: Vec<(String, &[usize], &[f32])> =
        table.iter().zip(&snapshot.weights).map(|(p, v)| (p.name.clone(), p.shape.as_slice(), v.as_slice())).collect();
    write_tensors(&path.join("model.safetensors"), &weights)?;
    let mut moments = vec![];
    for (index, moment) in snapshot.moments.iter().enumerate() {
        let rows = table.iter().zip(moment).map(|(p, v)| (format!("moment_{}.{}", index + 1, p.name), p.shape.as_slice(), v.as_slice()));
        moments.extend(rows);
    }
    write_tensors(&path.join("optimizer.safetensors"), &moments)?;
    write_synced(&path.join("config.toml"), config.to_toml()?.as_bytes())?;
    write_synced(&path.join("tokenizer.json"), tokenizer.as_bytes())?;
    let json = serde_json::to_string_pretty(meta).map_err(|e| Error::file(path, e))?;
    write_synced(&path.join("state.json"), json.as_bytes())?;
    sync_folder(path)
}

fn write_tensors(path: &Path, tensors: &[(String, &[usize], &[f32])]) -> Result<()> {
    let problem = |e: safetensors::SafeTensorError| Error::file(path, format!("cannot be written: {e}"));
    let mut views = vec![];
    for (name, shape, values) in tensors {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        views.push((name.clone(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(problem)?));
    }
    safetensors::serialize_to_file(views, None, path).map_err(problem)?;
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::file(path, format!("cannot be synced: {e}")))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e: std::io::Error| Error::file(path, format!("cannot be written: {e}")))
}

/// On systems that cannot open a folder there is nothing to sync.
fn sync_folder(path: &Path) -> Result<()> {
    let Ok(folder) = File::open(path) else { return Ok(()) };
    folder.sync_all().or(Ok(()))
}

/// Replaces a one-line file.
fn point(parent: &Path, pointer: &str, name: &str) -> Result<()> {
    let temporary = parent.join(format!("{pointer}.tmp"));
    write_synced(&temporary, format!("{name}\n").as_bytes())?;
    let path = parent.join(pointer);
    fs::rename(&temporary, &path).map_err(|e| Error::file(&path, format!("cannot be replaced: {e}")))?;
    sync_folder(parent)
}

/// Removes checkpoints that neither `latest` nor `best` names. What cannot be removed does no harm.
fn remove_unnamed(parent: &Path) {
    let named: Vec<String> = ["latest", "best"].iter().filter_map(|p| fs::read_to_string(parent.join(p)).ok()).collect();
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("step-") && !named.iter().any(|n| n.trim() == name) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The config in a checkpoint.
pub fn read_config(checkpoint: &Path) -> Result<RunConfig> {
    let path = checkpoint.join("config.toml");
    let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
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
    let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    crate::text::Tokenizer::from_json(&text, &path.display().to_string())
}

/// `state.json` of a checkpoint.
pub fn read_meta(checkpoint: &Path) -> Result<Meta> {
    let path = checkpoint.join("state.json");
    let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    let meta: Meta = serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {e}")))?;
    if meta.version != VERSION {
        return Err(Error::file(&path, format!("has version {}, this program reads version {VERSION}", meta.version)));
    }
    Ok(meta)
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
    let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
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
