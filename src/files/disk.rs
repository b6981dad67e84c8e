//! The primitive operations that change files, one function each. All other functions of this crate that change files call these.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fault::{Kind, before, write};

/// A file open for writing.
#[derive(Debug)]
pub struct File {
    file: fs::File,
    path: PathBuf,
}

impl File {
    /// Creates a file that must not exist yet, with the default permissions of the process.
    pub fn create_new(path: &Path) -> io::Result<File> {
        before(Kind::Grows("create"), path)?;
        Ok(File { file: OpenOptions::new().write(true).create_new(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens a file for appending and reading; creates it if it is missing.
    pub fn append(path: &Path) -> io::Result<File> {
        before(Kind::Grows("append"), path)?;
        Ok(File { file: OpenOptions::new().create(true).read(true).append(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens an existing file for writing, without truncating it.
    pub fn open(path: &Path) -> io::Result<File> {
        Ok(File { file: OpenOptions::new().write(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens a file for locking; creates it if it is missing, and keeps its contents.
    pub fn open_or_create(path: &Path) -> io::Result<File> {
        before(Kind::Grows("create"), path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(File { file, path: path.to_path_buf() })
    }

    /// Waits until the whole file is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        before(Kind::Grows("sync"), &self.path)?;
        self.file.sync_all()
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        before(Kind::Other("set length of"), &self.path)?;
        self.file.set_len(length)
    }

    pub(crate) fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        before(Kind::Other("set permissions of"), &self.path)?;
        self.file.set_permissions(permissions)
    }

    /// The file itself, to lock it or read its metadata.
    pub fn inner(&self) -> &fs::File {
        &self.file
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&self.path, bytes, |bytes| self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(Kind::Grows("rename to"), to)?;
    fs::rename(from, to)
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    before(Kind::Other("remove"), path)?;
    fs::remove_file(path)
}

/// Removes an empty folder.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    before(Kind::Other("remove folder"), path)?;
    fs::remove_dir(path)
}

/// Creates one folder that must not exist yet.
pub fn make_folder(path: &Path) -> io::Result<()> {
    before(Kind::Grows("make folder"), path)?;
    fs::create_dir(path)
}

/// Creates a folder and its missing parents.
pub fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    match make_folder(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            make_folders(super::parent(path))?;
            make_folder(path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) })
        }
        // Another process created it first.
        Err(_) if path.is_dir() => Ok(()),
        done => done,
    }
}

/// Waits until the entries of a folder are on the disk. Does nothing where the system cannot open or sync folders.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    before(Kind::Grows("sync folder"), path)?;
    let Ok(folder) = fs::File::open(path) else { return Ok(()) };
    match folder.sync_all() {
        Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Err(e),
        _ => Ok(()),
    }
}
