//! Folders of files with a manifest: complete or absent. Only files that this program wrote are removed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::disk;
use super::hash::{Hasher, Hashing};
use super::manifest::{Entry, MANIFEST, Manifest};
use crate::error::{Error, Result};

/// A folder that is being written under the name `NAME.tmp`; [`put`](NewFolder::put) renames it. Dropping it before that removes it.
#[derive(Debug)]
pub struct NewFolder {
    parent: PathBuf,
    name: String,
    temporary: PathBuf,
    files: BTreeMap<String, Entry>,
    done: bool,
}

impl NewFolder {
    /// Begins a folder in `parent`, which is created if it is missing. Removes what a killed process left of the same folder, if that holds
    /// only files of `names`, the files that such a folder can have.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be created, or when `NAME.tmp` holds files that this program did not write.
    pub fn begin(parent: &Path, name: &str, names: &[&str]) -> Result<NewFolder> {
        disk::make_folders(parent).map_err(|e| Error::file(parent, format!("cannot be made: {e}")))?;
        let temporary = parent.join(format!("{name}.tmp"));
        remove_left(&temporary, names)?;
        disk::make_folder(&temporary).map_err(|e| Error::file(&temporary, format!("cannot be made: {e}")))?;
        Ok(NewFolder { parent: parent.to_path_buf(), name: name.to_owned(), temporary, files: BTreeMap::new(), done: false })
    }

    /// The temporary path of a file of this folder, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    /// Writes one file with `fill`, and syncs it.
    ///
    /// # Errors
    /// That of `fill`, or [`Error::File`].
    pub fn write(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let path = self.path(name);
        let failed = |e: io::Error| Error::file(&path, format!("cannot be written: {e}"));
        let file = disk::File::create_new(&path).map_err(failed)?;
        self.files.insert(name.to_owned(), Entry { bytes: 0, xxh3: Hasher::default().hash() });
        let mut out = Hashing { to: BufWriter::with_capacity(1 << 16, file), hasher: Hasher::default() };
        fill(&mut out)?;
        let Hashing { to, hasher } = out;
        let file = to.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync().map_err(failed)?;
        self.files.insert(name.to_owned(), Entry { bytes: hasher.bytes(), xxh3: hasher.hash() });
        Ok(())
    }

    /// As [`write`](NewFolder::write), with bytes in memory.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        self.write(name, |out| out.write_all(bytes).map_err(|e| Error::file(&path, format!("cannot be written: {e}"))))
    }

    /// Writes the manifest and renames the folder to `NAME`, or to the first free of `NAME-2`, `NAME-3`, ...: an existing folder is
    /// not touched. `owner` is the id in the marker of the folder that this one belongs to.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn put(mut self, owner: &str) -> Result<PathBuf> {
        let mut names = (2..).map(|number| format!("{}-{number}", self.name));
        let mut name = self.name.clone();
        // A rename would silently replace an empty folder.
        while fs::symlink_metadata(self.parent.join(&name)).is_ok() {
            name = names.next().unwrap_or_default();
        }
        let json = serde_json::to_string_pretty(&Manifest::new(&name, owner, self.files.clone()));
        self.write_bytes(MANIFEST, json.map_err(|e| Error::file(&self.temporary, e))?.as_bytes())?;
        let path = self.parent.join(&name);
        let place = || {
            disk::sync_folder(&self.temporary)?;
            disk::rename(&self.temporary, &path)
        };
        place().map_err(|e: io::Error| Error::file(&path, format!("cannot be put in place: {e}")))?;
        self.done = true;
        disk::sync_folder(&self.parent).map_err(|e| Error::file(&self.parent, format!("cannot be synced: {e}")))?;
        Ok(path)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.done {
            let names: Vec<&str> = self.files.keys().map(String::as_str).collect();
            let _ = remove_left(&self.temporary, &names);
        }
    }
}

/// Removes a folder that [`NewFolder`] made for `owner`, unless files were added to it. At every instant it is complete or absent under its
/// name. Returns false and leaves it if it is not such a folder.
///
/// # Errors
/// [`Error::File`] when it cannot be removed.
pub fn remove_made(folder: &Path, owner: &str) -> Result<bool> {
    let real = fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir());
    let Ok(Some(manifest)) = Manifest::find(folder) else { return Ok(false) };
    let Some(name) = folder.file_name().filter(|name| real && manifest.owner == owner && name.to_str() == Some(&manifest.folder)) else {
        return Ok(false);
    };
    let names: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
    if !has_only(folder, &names).map_err(|e| Error::file(folder, format!("cannot be read: {e}")))? {
        return Ok(false);
    }
    let temporary = folder.with_file_name(format!("{}.tmp", name.display()));
    remove_left(&temporary, &names)?;
    disk::rename(folder, &temporary).map_err(|e| Error::file(folder, format!("cannot be removed: {e}")))?;
    remove_left(&temporary, &names)?;
    Ok(true)
}

/// Removes `folder`, a `NAME.tmp` that a killed process left, if it holds only files of `names` and a manifest. Ignores failures: what
/// stays does no harm.
pub fn remove_unfinished(folder: &Path, names: &[&str]) {
    if fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()) {
        let _ = remove_left(folder, names);
    }
}

/// Whether a folder holds only regular files with these names and a manifest.
fn has_only(folder: &Path, names: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let known = entry.file_name().to_str().is_some_and(|name| name == MANIFEST || names.contains(&name));
        if !known || !entry.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the files with these names and then the folder, if it exists.
fn remove_left(folder: &Path, names: &[&str]) -> Result<()> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok(());
    }
    let remove = || -> io::Result<()> {
        if !has_only(folder, names)? {
            return Err(io::Error::other("it contains files that this program did not write; move them away"));
        }
        for name in names.iter().chain([&MANIFEST]) {
            let path = folder.join(name);
            if path.exists() {
                disk::remove_file(&path)?;
            }
        }
        disk::remove_folder(folder)
    };
    remove().map_err(|e| Error::file(folder, format!("cannot be removed: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["a", "b"];

    fn made(parent: &Path, name: &str, owner: &str) -> PathBuf {
        let mut folder = NewFolder::begin(parent, name, NAMES).unwrap();
        folder.write_bytes("a", b"some text").unwrap();
        folder.write("b", |out| out.write_all(&[7; 100_000]).map_err(|e| Error::file("b", e))).unwrap();
        folder.put(owner).unwrap()
    }

    #[test]
    fn a_folder_comes_whole_with_a_manifest_that_finds_every_flipped_bit() {
        let place = tempfile::tempdir().unwrap();
        let parent = place.path().join("new/parent");
        let path = made(&parent, "one", "me");
        assert_eq!(path, parent.join("one"));
        let manifest = Manifest::find(&path).unwrap().unwrap();
        assert_eq!((manifest.folder.as_str(), manifest.owner.as_str(), manifest.files["b"].bytes), ("one", "me", 100_000));
        manifest.check_all(&path).unwrap();
        let whole = fs::read(path.join("a")).unwrap();
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path.join("a"), &bytes).unwrap();
            let e = manifest.check_all(&path).unwrap_err().to_string();
            assert!(e.contains("a: is damaged: its checksum is"), "{e}");
        }
        fs::write(path.join("a"), &whole[1..]).unwrap();
        assert!(manifest.check_all(&path).unwrap_err().to_string().contains("it has 8 bytes, manifest.json says 9"));
        assert!(manifest.check(&path, "c", b"").unwrap_err().to_string().contains("is not in manifest.json"));
        fs::remove_file(path.join("a")).unwrap();
        assert!(manifest.check_all(&path).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_taken_name_is_never_touched() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("one")).unwrap();
        assert!(made(place.path(), "one", "me").ends_with("one-2"));
        assert!(made(place.path(), "one", "me").ends_with("one-3"));
        assert_eq!(fs::read_dir(place.path().join("one")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_left_is_cleaned_and_what_is_foreign_stays() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join("one.tmp");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("a"), "half").unwrap();
        drop(NewFolder::begin(place.path(), "one", NAMES).unwrap());
        assert!(!left.exists());
        fs::create_dir(&left).unwrap();
        fs::write(left.join("a"), "half").unwrap();
        remove_unfinished(&left, NAMES);
        assert!(!left.exists());
        fs::create_dir(&left).unwrap();
        fs::write(left.join("mine.txt"), "mine").unwrap();
        remove_unfinished(&left, NAMES);
        let e = NewFolder::begin(place.path(), "one", NAMES).unwrap_err().to_string();
        assert!(e.contains("one.tmp") && e.contains("did not write"), "{e}");
        assert_eq!(fs::read(left.join("mine.txt")).unwrap(), b"mine");
    }

    #[test]
    fn a_manifest_reaches_no_file_outside_of_its_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = made(place.path(), "one", "me");
        let (mine, manifest) = (place.path().join("mine"), path.join(MANIFEST));
        fs::write(&mine, "mine").unwrap();
        let whole = fs::read_to_string(&manifest).unwrap();
        for name in ["../mine", "./a", "a/../../mine", "..", "", "/", mine.to_str().unwrap()] {
            fs::write(&manifest, whole.replace("\"a\"", &serde_json::to_string(name).unwrap())).unwrap();
            let e = Manifest::find(&path).unwrap_err().to_string();
            assert!(e.contains(&format!("it names `{name}`, which is not in its folder")), "{e}");
            fs::remove_file(path.join("a")).unwrap();
            assert!(!remove_made(&path, "me").unwrap());
            assert_eq!(fs::read(&mine).unwrap(), b"mine");
            fs::write(path.join("a"), b"some text").unwrap();
        }
        fs::write(&manifest, whole).unwrap();
        assert!(remove_made(&path, "me").unwrap());
    }

    #[test]
    fn only_what_was_made_here_under_this_name_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let path = made(place.path(), "one", "me");
        assert!(!remove_made(&path, "somebody else").unwrap());
        let copy = place.path().join("one-keep");
        fs::rename(&path, &copy).unwrap();
        assert!(!remove_made(&copy, "me").unwrap());
        fs::rename(&copy, &path).unwrap();
        fs::write(path.join("notes"), "mine").unwrap();
        assert!(!remove_made(&path, "me").unwrap());
        fs::remove_file(path.join("notes")).unwrap();
        fs::remove_file(path.join("a")).unwrap();
        fs::create_dir(path.join("a")).unwrap();
        assert!(!remove_made(&path, "me").unwrap());
        fs::remove_dir(path.join("a")).unwrap();
        fs::create_dir(place.path().join("plain")).unwrap();
        assert!(!remove_made(&place.path().join("plain"), "me").unwrap());
        assert!(!remove_made(&place.path().join("none"), "me").unwrap());
        // A process was killed while it removed this folder.
        fs::create_dir(place.path().join("one.tmp")).unwrap();
        fs::write(place.path().join("one.tmp/b"), "").unwrap();
        assert!(remove_made(&path, "me").unwrap());
        assert!(!path.exists() && !place.path().join("one.tmp").exists());
    }
}
