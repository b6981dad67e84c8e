//! Locks between processes. The system releases them when the process ends, even if it crashes.

use std::fs::TryLockError;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::disk;
use super::read::{is_at, open, read};
use crate::error::{Error, Result};

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id, which means something only on `host`.
    pub pid: u32,
    /// Host name of the machine that it runs on.
    pub host: String,
    /// Seconds since 1970, UTC.
    pub since: u64,
}

impl Holder {
    fn me() -> Holder {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Holder { pid: std::process::id(), host: gethostname::gethostname().to_string_lossy().into_owned(), since }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // The format ends at the year 9999, and the file may contain any number.
        let since = UNIX_EPOCH + Duration::from_secs(self.since.min(253_402_300_799));
        write!(f, "process {} on {} since {}", self.pid, self.host, humantime::format_rfc3339_seconds(since))
    }
}

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// Open while the lock is held.
    file: disk::File,
    path: PathBuf,
    /// The path of the file that names the holder, once it is written; `None` if the file system has no locks.
    holder: Option<PathBuf>,
}

/// The problem when the lock's folder is not there: another process may just have removed it.
pub(crate) const FOLDER_GONE: &str = "cannot be made: its folder is not there";

/// Takes the lock at `path`, an empty file that stays after the release. A second file beside it names the holder, because Windows does not
/// let other processes read a locked file. The folder must exist. Where the file system has no locks, the call succeeds and locks nothing.
///
/// # Errors
/// [`Error::Usage`] that names the holder; [`Error::File`] when the file cannot be created.
pub fn lock(path: &Path) -> Result<Lock> {
    let holder = path.with_extension("holder");
    let (file, locked) = loop {
        let cannot = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => Error::file(path, FOLDER_GONE),
            _ => Error::file(path, format!("cannot be made: {e}")),
        };
        open(path).map(drop).or_else(|e| if e.kind() == ErrorKind::InvalidInput { Err(cannot(e)) } else { Ok(()) })?;
        let file = disk::File::open_or_create(path).map_err(cannot)?;
        match file.inner().try_lock() {
            // The previous holder may have removed the file after we opened it: locking a removed file excludes nobody.
            Ok(()) if !is_at(file.inner(), path) => {}
            Ok(()) => break (file, true),
            Err(TryLockError::Error(_)) => break (file, false),
            Err(TryLockError::WouldBlock) => {
                let by = Holder::wait_for(&holder).map_or("another process".to_owned(), |by| by.to_string());
                let folder = super::parent(path).display();
                return Err(Error::usage(format!("{folder} is in use by {by}: wait until it has ended, or stop it")));
            }
        }
    };
    let mut lock = Lock { file, path: path.to_path_buf(), holder: None };
    if locked {
        let json = serde_json::to_string(&Holder::me()).map_err(|e| Error::file(&holder, e))?;
        super::write(&holder, |out| out.write_all(json.as_bytes()))?;
        lock.holder = Some(holder);
    }
    Ok(lock)
}

impl Holder {
    /// The holder named in the file, which may have released the lock since.
    fn read(path: &Path) -> Option<Holder> {
        serde_json::from_slice(&read(path).ok()?).ok()
    }

    /// As [`read`](Holder::read), but waits for a holder that has just taken the lock and not yet written the file.
    fn wait_for(path: &Path) -> Option<Holder> {
        for _ in 0..100 {
            if let Some(holder) = Holder::read(path) {
                return Some(holder);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Lock {
    /// Whether the locked file is still at its path: false after its folder was moved or removed.
    pub fn is_in_place(&self) -> bool {
        is_at(self.file.inner(), &self.path)
    }

    /// Removes the lock file and the holder file, then releases the lock.
    pub fn remove(mut self) {
        if self.is_in_place() {
            self.holder.take().map(|holder| disk::remove_file(&holder));
            let _ = disk::remove_file(&self.path);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take().filter(|_| self.is_in_place()) {
            // Must happen while the lock is held, because the next holder writes this file.
            let _ = disk::remove_file(&holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_hears_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let first = lock(&path).unwrap();
        let refused = lock(&path).unwrap_err().to_string();
        let me = format!("is in use by process {} on ", std::process::id());
        assert!(refused.contains(&me) && refused.contains(" since 20") && refused.contains("Z: wait"), "{refused}");
        assert!(folder.path().join(".lock.holder").exists());
        drop(first);
        assert!(!folder.path().join(".lock.holder").exists());
        let again = lock(&path).unwrap();
        drop(again);
        assert_eq!(fs::read(&path).unwrap(), b"", "the lock's file stays, empty");
        assert!(lock(&folder.path().join("no/.lock")).unwrap_err().to_string().contains("cannot be made"));
    }

    /// As when the folder was moved, or two processes created the same folder and one was refused.
    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_is_gone_is_not_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let first = lock(&path).unwrap();
        assert!(first.is_in_place());
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(!first.is_in_place());
        let second = lock(&path).unwrap();
        drop(first);
        assert!(second.is_in_place() && folder.path().join(".lock.holder").exists(), "what the second wrote stays");
        second.remove();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["moved"]);
    }

    #[test]
    fn what_a_dead_process_left_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        fs::write(&path, "").unwrap();
        fs::write(path.with_extension("holder"), r#"{"pid":1,"host":"elsewhere","since":18446744073709551615}"#).unwrap();
        let held = lock(&path).unwrap();
        assert!(lock(&path).unwrap_err().to_string().contains(&std::process::id().to_string()));
        drop(held);
        let old = Holder { pid: 1, host: "elsewhere".into(), since: u64::MAX };
        assert_eq!(old.to_string(), "process 1 on elsewhere since 9999-12-31T23:59:59Z");
    }
}
