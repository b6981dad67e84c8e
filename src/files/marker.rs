//! The marker file of a folder that this program made. The names of folders and files alone prove nothing.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, brief};

/// The name of the marker file.
pub const MARKER: &str = ".wgpt.json";

/// The contents of a marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The program and its version.
    pub made_by: String,
    /// The kind of folder: `run`.
    pub kind: String,
    /// A unique id of this folder; a copy of the folder has the same one.
    pub id: String,
}

impl Marker {
    /// A marker with a new id.
    pub fn new(kind: &str) -> Marker {
        let [a, b] = [0u64, 1].map(|part| RandomState::new().hash_one(part));
        Marker { made_by: made_by(), kind: kind.to_owned(), id: format!("{a:016x}{b:016x}") }
    }

    /// Writes the marker into a folder, replacing an existing one.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn put(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MARKER);
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::file(&path, e))?;
        super::write(&path, |out| writeln!(out, "{json}"))
    }

    /// The marker of a folder that this program made; `None` for any other folder and for a path without one.
    ///
    /// # Errors
    /// [`Error::File`] when there is a marker that cannot be read.
    pub fn find(folder: &Path) -> Result<Option<Marker>> {
        let path = folder.join(MARKER);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {}
            _ => return Ok(None),
        }
        match super::read(&path) {
            Ok(bytes) => {
                let marker = serde_json::from_slice(&bytes);
                marker.map(Some).map_err(|e| Error::file(&path, format!("is not what this program writes ({}): move it away", brief(e))))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file(&path, format!("cannot be read: {e}"))),
        }
    }
}

pub(super) fn made_by() -> String {
    concat!("wgpt ", env!("CARGO_PKG_VERSION")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_folders_have_a_marker() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Marker::find(folder.path()).unwrap(), None);
        assert_eq!(Marker::find(&folder.path().join("none")).unwrap(), None);
        let marker = Marker::new("run");
        marker.put(folder.path()).unwrap();
        assert_eq!(Marker::find(folder.path()).unwrap(), Some(marker.clone()));
        assert_ne!(Marker::new("run").id, marker.id);
        fs::write(folder.path().join(MARKER), "{}").unwrap();
        assert!(Marker::find(folder.path()).unwrap_err().to_string().contains("is not what this program writes"));
        fs::remove_file(folder.path().join(MARKER)).unwrap();
        fs::create_dir(folder.path().join(MARKER)).unwrap();
        assert_eq!(Marker::find(folder.path()).unwrap(), None);
    }
}
