//! The contents of a run's folder: nothing, a run with checkpoints, or something else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{self, MARKER, Marker};

/// The contents of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Empty or missing.
    Free,
    /// A run that ended before its first checkpoint: there is nothing to lose and nothing to resume.
    Begun,
    /// A run with checkpoints.
    Run,
    /// A run with checkpoints but no marker: it can be resumed and is never replaced.
    Unmarked,
    /// Anything else, with the name of one entry.
    Foreign(String),
}

/// Prefix of the files that this program keeps in a run's folder and that are not part of the run.
const OURS: &str = ".wgpt";
/// Determines what `out` contains.
///
/// # Errors
/// [`Error::File`] when it is not a folder or cannot be read, or when something that is not a file has a name that this program uses.
pub fn look(out: &Path) -> Result<Found> {
    if !out.exists() {
        return Ok(Found::Free);
    }
    if !out.is_dir() {
        return Err(Error::file(out, "is a file, the run needs a folder"));
    }
    let cannot_read = |e: std::io::Error| Error::file(out, format!("cannot be read: {e}"));
    let mut names = vec![];
    for entry in fs::read_dir(out).map_err(cannot_read)? {
        names.push(entry.map_err(cannot_read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let checkpoints = folder(out);
    if checkpoints.is_dir() {
        // Unreadable is not empty.
        fs::read_dir(&checkpoints).map_err(|e| Error::file(&checkpoints, format!("cannot be read: {e}")))?;
    }
    let saved = any(out);
    if Marker::find(out)?.is_some() {
        return Ok(if saved { Found::Run } else { Found::Begun });
    }
    if saved {
        return Ok(Found::Unmarked);
    }
    // An unreadable marker is foreign like anything else; files left by a lock or a torn write are not.
    let foreign = names.into_iter().find(|name| !name.starts_with(OURS) || name == MARKER);
    Ok(foreign.map_or(Found::Free, Found::Foreign))
}

/// Whether a folder has checkpoints, even if no file names one.
pub fn any(out: &Path) -> bool {
    fs::symlink_metadata(folder(out).join("latest")).is_ok() || !steps(&folder(out)).is_empty()
}

/// Name of the folder that holds a run's checkpoints.
pub const FOLDER: &str = "checkpoints";

pub fn folder(out: &Path) -> PathBuf {
    out.join(FOLDER)
}

/// The step in a checkpoint's name, and which save of that step it is: `step-60` is the first, `step-60-2` the second.
pub fn place(path: &Path) -> Option<(u64, u64)> {
    let number = path.file_name()?.to_str()?.strip_prefix("step-")?;
    let (step, again) = number.split_once('-').unwrap_or((number, "1"));
    Some((step.parse().ok()?, again.parse().ok()?))
}

/// The checkpoints in `parent` as (step, folder), newest first.
pub fn steps(parent: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut found: Vec<((u64, u64), PathBuf)> = entries.filter_map(|path| Some((place(&path)?, path))).collect();
    found.sort_unstable();
    found.into_iter().rev().map(|((step, _), path)| (step, path)).collect()
}

/// The folder that a one-line file names, if it exists.
pub fn named(parent: &Path, pointer: &str) -> Option<PathBuf> {
    let text = files::read_to_string(&parent.join(pointer)).ok()?;
    let name = text.trim();
    let path = parent.join(name);
    (path.file_name() == Some(name.as_ref()) && path.is_dir()).then_some(path)
}
