//! What is in a run's folder: nothing, a run with checkpoints, or something else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{self, MARKER, Marker};

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or it is not there.
    Free,
    /// A run that ended before its first checkpoint: nothing to lose, nothing to go on from.
    Begun,
    /// A run with checkpoints.
    Run,
    /// A run with checkpoints but no marker: it can be gone on with and is never replaced.
    Unmarked,
    /// Something else, such as this.
    Foreign(String),
}

/// What this program's files in a run's folder begin with that are no part of the run.
const OURS: &str = ".wgpt";
/// Says what is in `out`.
///
/// # Errors
/// [`Error::File`] when it is no folder or cannot be read, or when one of its names is taken by something that is no file.
pub fn look(out: &Path) -> Result<Found> {
    if !out.exists() {
        return Ok(Found::Free);
    }
    if !out.is_dir() {
        return Err(Error::file(out, "is a file, a folder is needed for the run"));
    }
    let cannot_read = |e: std::io::Error| Error::file(out, format!("cannot be read: {e}"));
    let mut names = vec![];
    for entry in fs::read_dir(out).map_err(cannot_read)? {
        names.push(entry.map_err(cannot_read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let saved = any(out);
    if Marker::find(out)?.is_some() {
        return Ok(if saved { Found::Run } else { Found::Begun });
    }
    if saved {
        return Ok(Found::Unmarked);
    }
    // A marker that cannot be read is foreign, as anything else; what a lock or a torn write left is not.
    let foreign = names.into_iter().find(|name| !name.starts_with(OURS) || name == MARKER);
    Ok(foreign.map_or(Found::Free, Found::Foreign))
}

/// Whether a folder has checkpoints, named or not.
pub fn any(out: &Path) -> bool {
    fs::symlink_metadata(folder(out).join("latest")).is_ok() || !steps(&folder(out)).is_empty()
}

/// Where a run's folder has its checkpoints.
pub const FOLDER: &str = "checkpoints";

pub fn folder(out: &Path) -> PathBuf {
    out.join(FOLDER)
}

/// The step that a checkpoint's name says, and how often that step was saved before: `step-60`, or `step-60-2` where that name was taken.
pub fn place(path: &Path) -> Option<(u64, u64)> {
    let number = path.file_name()?.to_str()?.strip_prefix("step-")?;
    let (step, again) = number.split_once('-').unwrap_or((number, "1"));
    Some((step.parse().ok()?, again.parse().ok()?))
}

/// The checkpoints in `parent`: their steps and folders, the newest first.
pub fn steps(parent: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut found: Vec<((u64, u64), PathBuf)> = entries.filter_map(|path| Some((place(&path)?, path))).collect();
    found.sort_unstable();
    found.into_iter().rev().map(|((step, _), path)| (step, path)).collect()
}

/// The folder that a one-line file names.
pub fn named(parent: &Path, pointer: &str) -> Option<PathBuf> {
    let text = files::read_to_string(&parent.join(pointer)).ok()?;
    let name = text.trim();
    let path = parent.join(name);
    (path.file_name() == Some(name.as_ref()) && path.is_dir()).then_some(path)
}
