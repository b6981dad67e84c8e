//! Replaces a whole file: writes it under another name in the same folder, syncs it, renames it.

use std::fs;
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::disk;
use crate::error::{Error, Result};

/// A file that is being written; [`put`](Replacement::put) renames it to its path. Dropping it before that leaves the old file.
#[derive(Debug)]
pub struct Replacement {
    /// `None` after `put`.
    out: Option<BufWriter<disk::File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Begins a file that will replace `path`. If `path` is a symbolic link, its target is replaced.
    ///
    /// # Errors
    /// [`Error::File`] when the folder is missing or not writable, or when there is something other than a regular file at `path`.
    pub fn begin(path: &Path) -> Result<Replacement> {
        let path = place(path)?;
        let (file, temporary) = temporary(&path).map_err(|e| failed(&path, e))?;
        Ok(Replacement { out: Some(BufWriter::with_capacity(1 << 16, file)), temporary, path })
    }

    /// Syncs the file and renames it to its path; it gets the permissions of the file that it replaces.
    ///
    /// # Errors
    /// [`Error::File`]; the old file is then unchanged.
    pub fn put(mut self) -> Result<()> {
        self.seal().map_err(|e| failed(&self.path, e))
    }

    fn seal(&mut self) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.flush()?;
        let file = out.get_ref();
        if let Ok(before) = fs::metadata(&self.path) {
            file.set_permissions(before.permissions())?;
        }
        file.sync()?;
        disk::rename(&self.temporary, &self.path)?;
        self.out = None;
        disk::sync_folder(super::parent(&self.path))
    }

    fn out(&mut self) -> io::Result<&mut BufWriter<disk::File>> {
        self.out.as_mut().ok_or_else(|| io::Error::other("the file is in its place already"))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out()?.flush()
    }
}

impl Seek for Replacement {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out()?.seek(to)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Without flushing the buffer.
            drop(out.into_parts());
            let _ = disk::remove_file(&self.temporary);
        }
    }
}

/// Writes a file with `fill` and replaces `path` with it.
///
/// # Errors
/// [`Error::File`]; the old file is then unchanged.
pub fn write(path: &Path, fill: impl FnOnce(&mut Replacement) -> io::Result<()>) -> Result<()> {
    let mut file = Replacement::begin(path)?;
    fill(&mut file).map_err(|e| failed(path, e))?;
    file.put()
}

/// As [`write`](fn@write), for a library that opens files itself: `fill` gets a temporary path whose name ends like that of `path`.
///
/// # Errors
/// [`Error::File`]; the old file is then unchanged.
pub fn write_by_path(path: &Path, fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<()> {
    let mut file = Replacement::begin(path)?;
    fill(&file.temporary).map_err(|problem| Error::file(path, format!("cannot be written: {problem}")))?;
    // The library may have created a new file at that path.
    let written = disk::File::open(&file.temporary).map_err(|e| failed(path, e))?;
    file.out = Some(BufWriter::new(written));
    file.put()
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::file(path, format!("cannot be written: {e}"))
}

/// Checks that a file can be put at `path`, before there is anything to write.
///
/// # Errors
/// [`Error::File`] when the folder is missing, or there is something other than a regular file.
pub fn check_place(path: &Path) -> Result<()> {
    place(path).map(|_| ())
}

/// The path that will be replaced: `path` with its symbolic links resolved.
fn place(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Error::file(path, "cannot be written: it is a folder")),
        // A rename would replace the device or pipe with a file.
        Ok(found) if !found.is_file() => return Err(Error::file(path, "cannot be written: it is not a regular file")),
        Ok(_) => {}
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(path, e)),
        Err(_) if !super::parent(path).is_dir() => {
            let folder = super::parent(path).display();
            return Err(Error::file(path, format!("cannot be written: there is no folder {folder}")));
        }
        Err(_) => {}
    }
    let Some(name) = path.file_name() else { return Err(Error::file(path, "cannot be written: it is not the name of a file")) };
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match fs::canonicalize(path) {
        Ok(target) if is_link => Ok(target),
        Err(e) if is_link => Err(Error::file(path, format!("cannot be written: it is a dangling symbolic link: {e}"))),
        _ => Ok(super::parent(path).join(name)),
    }
}

/// A new file beside `path`, locked while this process has it open: an unlocked one was left by a killed process and may be removed.
fn temporary(path: &Path) -> io::Result<(disk::File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Names can have 255 bytes; the end is kept, because libraries take the format from it.
    let tail = &name[name.ceil_char_boundary(name.len().saturating_sub(100))..];
    let mut number = 0;
    loop {
        let temporary = path.with_file_name(format!(".wgpt-tmp{number}.{tail}"));
        match disk::File::create_new(&temporary) {
            Ok(file) => {
                let _ = file.inner().try_lock(); // without file locks, leftover files stay
                return Ok((file, temporary));
            }
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            Err(_) if left_behind(&temporary) => disk::remove_file(&temporary)?,
            Err(e) if number == 1000 => return Err(e),
            Err(_) => number += 1,
        }
    }
}

fn left_behind(temporary: &Path) -> bool {
    let regular = fs::symlink_metadata(temporary).is_ok_and(|found| found.is_file());
    regular && fs::File::open(temporary).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, |out| out.write_all(b"one")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let e = write(&path, |out| out.write_all(&[7; 1 << 17]).and(Err(io::Error::other("no more")))).unwrap_err().to_string();
        assert!(e.ends_with("a.txt: cannot be written: no more"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_by_path(&path, |path| fs::write(path, "two").map_err(|e| e.to_string())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(write_by_path(&path, |_| Err("no idea".into())).unwrap_err().to_string().contains("no idea"));
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"two".to_vec(), vec!["a.txt".to_string()]));
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(folder.path().join(".wgpt-tmp0.a"), "left").unwrap();
        let mut one = Replacement::begin(&path).unwrap();
        let mut two = Replacement::begin(&path).unwrap();
        assert_eq!(names(folder.path()), [".wgpt-tmp0.a", ".wgpt-tmp1.a"]);
        one.write_all(b"one").unwrap();
        two.write_all(b"two").unwrap();
        two.put().unwrap();
        one.put().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"one".to_vec(), vec!["a".to_string()]));
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let problem = |name: &str| write(&folder.path().join(name), |_| Ok(())).unwrap_err().to_string();
        assert!(problem("no/a").contains("there is no folder"));
        assert!(problem("").contains("it is a folder"));
        assert!(problem("..").contains("cannot be written"));
        fs::write(folder.path().join("a"), "").unwrap();
        assert!(problem("a/b").contains("cannot be written"));
        let long = "é".repeat(120);
        write(&folder.path().join(&long), |_| Ok(())).unwrap();
        assert_eq!(names(folder.path()), ["a".to_string(), long]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_links_and_devices() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        fs::write(at("plain"), "").unwrap();
        write(&at("new"), |_| Ok(())).unwrap();
        assert_eq!(mode("new"), mode("plain"), "as for any new file");
        fs::set_permissions(at("new"), fs::Permissions::from_mode(0o640)).unwrap();
        write(&at("new"), |_| Ok(())).unwrap();
        assert_eq!(mode("new"), 0o640);

        fs::create_dir(at("there")).unwrap();
        fs::write(at("there/file"), "old").unwrap();
        symlink("there/file", at("link")).unwrap();
        write(&at("link"), |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("there/file")).unwrap(), b"new");
        symlink("nowhere", at("dangling")).unwrap();
        assert!(write(&at("dangling"), |_| Ok(())).unwrap_err().to_string().contains("dangling symbolic link"));

        // A socket serves as the example for devices and pipes.
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("socket", at("to_socket")).unwrap();
        for name in ["socket", "to_socket"] {
            assert!(write(&at(name), |_| Ok(())).unwrap_err().to_string().contains("not a regular file"));
        }
        assert!(fs::metadata(at("socket")).unwrap().file_type().is_socket());
    }
}
