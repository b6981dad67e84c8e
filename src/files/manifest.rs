//! Manifests: the files that belong together in a folder, with their lengths and checksums.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use crate::error::{Error, Result, brief, excerpt};

/// The name of the manifest file.
pub const MANIFEST: &str = "manifest.json";

/// The layout that this version writes and reads.
const VERSION: u32 = 1;

/// The list of files that were written into a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    pub version: u32,
    /// The program and its version.
    pub made_by: String,
    /// The folder's name when it was made; a copy under another name belongs to the user.
    pub folder: String,
    /// The id of the marker of the folder that this one belongs to.
    pub owner: String,
    /// All files by name, except the manifest itself.
    pub files: BTreeMap<String, Entry>,
}

/// The length and checksum of a file when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Checksum of the whole file.
    pub xxh3: Hash,
}

impl Manifest {
    pub(super) fn new(folder: &str, owner: &str, files: BTreeMap<String, Entry>) -> Manifest {
        Manifest { version: VERSION, made_by: super::marker::made_by(), folder: folder.to_owned(), owner: owner.to_owned(), files }
    }

    /// The manifest of a folder; None if it has none.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, is damaged or has another version.
    pub fn find(folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join(MANIFEST);
        let bytes = match super::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == ErrorKind::InvalidInput => return Err(Error::file(&path, e)),
            Err(e) => return Err(Error::file(&path, format!("cannot be read: {e}"))),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, format!("is damaged: {}", brief(e))))?;
        if manifest.version != VERSION {
            return Err(Error::file(&path, format!("has version {}, this program reads version {VERSION}", manifest.version)));
        }
        // These names become paths of files that are read and removed, so they must not leave the folder.
        let plain = |name: &&String| Path::new(name).file_name() == Some(name.as_ref());
        if let Some(name) = manifest.files.keys().find(|name| !plain(name)) {
            return Err(Error::file(&path, format!("is damaged: it names `{}`, which is not in its folder", excerpt(name))));
        }
        Ok(Some(manifest))
    }

    /// Checks that `bytes` are the contents that were written as `name` into `folder`.
    ///
    /// # Errors
    /// [`Error::File`] that names the file and says how it differs.
    pub fn check(&self, folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        self.compare(folder, name, (bytes.len() as u64, Hash::of(bytes)))
    }

    /// As [`check`](Manifest::check) for a file on disk, which is read in blocks.
    ///
    /// # Errors
    /// [`Error::File`] that names the file and says how it differs.
    pub fn check_file(&self, folder: &Path, name: &str) -> Result<()> {
        self.compare(folder, name, Hash::of_file(&folder.join(name))?)
    }

    fn compare(&self, folder: &Path, name: &str, found: (u64, Hash)) -> Result<()> {
        let path = folder.join(name);
        let Some(entry) = self.files.get(name) else {
            return Err(Error::file(&path, format!("is not in {MANIFEST}")));
        };
        let (bytes, hash) = found;
        if bytes != entry.bytes {
            return Err(Error::file(&path, format!("is damaged: it has {bytes} bytes, {MANIFEST} says {}", entry.bytes)));
        }
        if hash != entry.xxh3 {
            return Err(Error::file(&path, format!("is damaged: its checksum is {hash}, {MANIFEST} says {}", entry.xxh3)));
        }
        Ok(())
    }

    /// Checks every file of the folder.
    ///
    /// # Errors
    /// [`Error::File`] that names the first file that is missing or differs.
    pub fn check_all(&self, folder: &Path) -> Result<()> {
        self.files.keys().try_for_each(|name| self.check_file(folder, name))
    }
}
