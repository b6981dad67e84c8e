//! A run's folder: its contents, its lock, and what may be removed from it.
//!
//! A run's folder holds a marker file that only this program writes; the folder's name proves nothing. A training process holds the
//! folder's lock, which the system releases when the process dies.

use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::found::{FOLDER, Found, look};
use super::metrics::METRICS;
use crate::error::{Advice, Error, Result};
use crate::files::{self, FOLDER_GONE, Lock, MARKER, Marker, disk};

/// How a run starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// In a folder that holds no run.
    #[default]
    Fresh,
    /// Replaces the run in the folder.
    Overwrite,
    /// Resumes the run in the folder exactly where it stopped.
    Resume,
}

/// The lock file. Its holder is recorded beside it, in `.wgpt.holder`.
const LOCK: &str = ".wgpt.lock";
/// Attempts to claim a folder that other processes keep removing.
const TRIES: u32 = 100;
/// The files that a run's folder holds besides the checkpoints.
const FILES: [&str; 4] = ["config.toml", METRICS, "loss.svg", "loss.png"];

/// Refuses a start that the folder's contents do not allow.
fn check(out: &Path, found: Found, start: Start) -> Result<()> {
    let shown = out.display();
    match (found, start) {
        (Found::Free | Found::Begun, Start::Fresh | Start::Overwrite)
        | (Found::Run, Start::Overwrite | Start::Resume)
        | (Found::Unmarked, Start::Resume) => Ok(()),
        (Found::Run, Start::Fresh) => Err(Error::usage(format!("{shown} holds a run: ")).advised(Advice::RunThere)),
        (Found::Unmarked, Start::Fresh | Start::Overwrite) => {
            let problem = format!("{shown} holds a run without the marker {MARKER}, so it is not replaced: ");
            Err(Error::usage(problem).advised(Advice::UnmarkedRun))
        }
        (Found::Foreign(name), Start::Fresh | Start::Overwrite) => {
            Err(Error::file(out, format!("is neither empty nor a run, it contains `{name}`: ")).advised(Advice::OtherFolder))
        }
        (Found::Free | Found::Begun, Start::Resume) => {
            if !out.exists() {
                // Starting anew would not help.
                missing(out)?;
            }
            let what = if out.exists() { "has no checkpoint to resume from" } else { "no such run" };
            Err(Error::file(out, format!("{what}: ")).advised(Advice::StartNew))
        }
        (Found::Foreign(_), Start::Resume) => checkpoint::find(out, checkpoint::Which::Latest).map(|_| ()),
    }
}

/// A run's folder, locked by this process. Dropping it before [`settle`](RunFolder::settle) restores the folder to how it was found.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// `None` only during drop.
    lock: Option<Lock>,
    /// Folders that this claim created, outermost first. The flags below say whether it created the lock and the marker.
    made: Vec<PathBuf>,
    made_lock: bool,
    made_marker: bool,
    settled: bool,
}

impl RunFolder {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// [`Error::Usage`] when the folder holds a run and `start` does not say what to do with it, or when another process holds the lock;
    /// [`Error::File`] when the folder cannot be created, or is neither empty nor a run.
    pub fn claim(path: &Path, start: Start) -> Result<RunFolder> {
        let mut tries = 1;
        loop {
            match RunFolder::try_claim(path, start) {
                // A refused process removes the empty folders that it made, possibly just before this process would use them; a third one
                // may have made them again since.
                Err(Error::File { problem, .. }) if tries < TRIES && (!path.exists() || problem.to_string() == FOLDER_GONE) => tries += 1,
                claimed => return claimed,
            }
        }
    }

    fn try_claim(path: &Path, start: Start) -> Result<RunFolder> {
        check(path, look(path)?, start)?;
        let made = make(path)?;
        let file = path.join(LOCK);
        let made_lock = fs::symlink_metadata(&file).is_err();
        let lock = match files::lock(&file) {
            Ok(lock) => lock,
            Err(e) => {
                undo(&made);
                return Err(e);
            }
        };
        let folder = RunFolder { path: path.to_path_buf(), lock: Some(lock), made, made_lock, made_marker: false, settled: false };
        // Another process may have started and finished a run since the first check.
        check(path, look(path)?, start)?;
        for name in FILES {
            let file = path.join(name);
            if fs::symlink_metadata(&file).is_ok() && !file.is_file() {
                return Err(Error::file(&file, "is not a regular file, the run needs one here: move it away"));
            }
        }
        Ok(folder)
    }

    /// Claims the first of `path`, `path-2`, `path-3` ... that is free and not claimed by another process.
    ///
    /// # Errors
    /// [`Error::File`] when a folder cannot be made or locked, or has no name.
    pub fn claim_next(path: &Path) -> Result<RunFolder> {
        let (path, beside) = (path.to_path_buf(), with_name(path)?);
        let numbered = (2..).map(|n: u64| {
            let mut name = beside.file_name().unwrap_or_default().to_os_string();
            name.push(format!("-{n}"));
            beside.with_file_name(name)
        });
        for path in std::iter::once(path.clone()).chain(numbered) {
            // A folder that cannot be read is not free either.
            if path.exists() && !look(&path).is_ok_and(|found| found == Found::Free) {
                continue;
            }
            match RunFolder::claim(&path, Start::Fresh) {
                // Another process was faster.
                Err(Error::Usage(_)) => {}
                claimed => return claimed,
            }
        }
        unreachable!("folder: there is always one more number")
    }

    /// The folder's path, as it was claimed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks the folder as a run's. Returns the marker's id, which the run records in what it writes.
    ///
    /// # Errors
    /// [`Error::File`] when the marker cannot be read or written.
    pub fn mark(&mut self) -> Result<String> {
        if let Some(marker) = Marker::find(&self.path)? {
            return Ok(marker.id);
        }
        let marker = Marker::new("run");
        marker.put(&self.path)?;
        self.made_marker = true;
        Ok(marker.id)
    }

    /// Keeps the folder and its contents even if this is dropped. Call it once the folder has a checkpoint.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Whether the locked folder is still at its path.
    pub fn is_there(&self) -> bool {
        self.lock.as_ref().is_some_and(Lock::is_in_place)
    }

    /// Removes the files of an earlier run in the same folder. Call it once the new run has its first checkpoint.
    ///
    /// # Errors
    /// [`Error::File`] naming the file that cannot be removed.
    pub fn remove_left(&self) -> Result<()> {
        for name in FILES {
            let file = self.path.join(name);
            if file.is_file() {
                disk::remove_file(&file).map_err(|e| Error::file(&file, format!("cannot be removed: {e}")))?;
            }
        }
        Ok(())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if self.settled || !lock.is_in_place() {
            return;
        }
        if self.made_marker {
            let _ = disk::remove_folder(&self.path.join(FOLDER));
            let _ = disk::remove_file(&self.path.join(MARKER));
        }
        if self.made_lock {
            lock.remove();
        }
        undo(&self.made);
    }
}

/// The path with the folder's own name, which `.` and `..` do not contain.
fn with_name(path: &Path) -> Result<PathBuf> {
    if path.file_name().is_some() {
        return Ok(path.to_path_buf());
    }
    let whole = fs::canonicalize(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let no_name = || Error::file(path, "has no name to append a number to: ").advised(Advice::NamedFolder);
    if whole.file_name().is_some() { Ok(whole) } else { Err(no_name()) }
}

/// The folder and its missing parents, outermost first.
///
/// # Errors
/// [`Error::File`] if they cannot be made, because a file or a link is in their place.
fn missing(path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> =
        path.ancestors().filter(|p| !p.as_os_str().is_empty()).take_while(|p| !p.exists()).map(Path::to_path_buf).collect();
    missing.reverse();
    let above = path.ancestors().skip(1).find(|path| path.exists());
    if let Some(file) = above.filter(|path| !path.is_dir()) {
        return Err(Error::file(path, format!("cannot be made: {} is a file, not a folder", file.display())));
    }
    if let Some(link) = missing.iter().find(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())) {
        return Err(Error::file(path, format!("cannot be made: {} is a dangling symbolic link", link.display())));
    }
    Ok(missing)
}

/// Creates the folder and its missing parents. Returns the folders that it created, outermost first.
fn make(path: &Path) -> Result<Vec<PathBuf>> {
    let mut made: Vec<PathBuf> = vec![];
    for folder in missing(path)? {
        match disk::make_folder(&folder) {
            Ok(()) => made.push(folder),
            // Another process was faster.
            Err(_) if folder.is_dir() => {}
            Err(e) => {
                undo(&made);
                return Err(Error::file(path, format!("cannot be made: {e}")));
            }
        }
    }
    Ok(made)
}

/// Removes these folders, innermost first; those that are not empty stay.
fn undo(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        let _ = disk::remove_folder(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads create and remove the same folders at the same time: a refusal names the other thread's lock, and nothing else fails.
    #[test]
    fn claims_at_once_are_made_or_refused_by_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs").join("toy");
        let claims = || {
            (0..2000).filter(|_| match RunFolder::claim(&path, Start::Fresh) {
                Ok(_) => true,
                Err(Error::Usage(said)) if said.to_string().contains("is in use by ") => false,
                Err(other) => panic!("{other}"),
            })
        };
        let won: usize = std::thread::scope(|scope| {
            let both = [scope.spawn(|| claims().count()), scope.spawn(|| claims().count())];
            both.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // One thread may leave a folder or a lock that the other one created.
        let left = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        assert!(won > 0 && left.into_iter().all(|name| name.starts_with(LOCK.trim_end_matches("lock"))), "{won} claims");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("runs");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let error = RunFolder::claim(&link.join("toy"), Start::Fresh).err().unwrap().to_string();
        assert!(error.contains("runs is a dangling symbolic link"), "{error}");
        let error = RunFolder::claim(&link, Start::Resume).err().unwrap().to_string();
        assert!(error.contains("cannot be made"), "{error}");
    }
}
