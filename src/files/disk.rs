//! The operations that change files, one function for each. All others of this crate are made of these.

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
    /// Makes a file that is not there yet, with the permissions that the process gives to new files.
    pub fn create_new(path: &Path) -> io::Result<File> {
        before(Kind::Grows("create"), path)?;
        Ok(File { file: OpenOptions::new().write(true).create_new(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens a file to write at its end, and to read what it has; makes it when it is missing.
    pub fn append(path: &Path) -> io::Result<File> {
        before(Kind::Grows("append"), path)?;
        Ok(File { file: OpenOptions::new().create(true).read(true).append(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens an existing file for writing, as it is.
    pub fn open(path: &Path) -> io::Result<File> {
        Ok(File { file: OpenOptions::new().write(true).open(path)?, path: path.to_path_buf() })
    }

    /// Opens a file to lock it; makes it when it is missing, and leaves what it holds.
    pub fn open_or_create(path: &Path) -> io::Result<File> {
        before(Kind::Grows("create"), path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(File { file, path: path.to_path_buf() })
    }

    /// Waits until the disk has all of it.
    pub fn sync(&self) -> io::Result<()> {
        before(Kind::Grows("sync"), &self.path)?;
        self.file.sync_all()
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        before(Kind::Other("set length of"), &self.path)?;
        self.file.set_len(length)
    }

    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        before(Kind::Other("set permissions of"), &self.path)?;
        self.file.set_permissions(permissions)
    }

    /// To lock it, or to look at it.
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

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(Kind::Grows("rename to"), to)?;
    fs::rename(from, to)
}

pub fn remove_file(path: &Path) -> io::Result<()> {
    before(Kind::Other("remove"), path)?;
    fs::remove_file(path)
}

/// Removes a folder that is empty.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    before(Kind::Other("remove folder"), path)?;
    fs::remove_dir(path)
}

/// Makes one folder, which is not there yet.
pub fn make_folder(path: &Path) -> io::Result<()> {
    before(Kind::Grows("make folder"), path)?;
    fs::create_dir(path)
}

/// Makes a folder, and those above it, as far as they are missing.
pub fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    match make_folder(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            make_folders(super::parent(path))?;
            make_folder(path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) })
        }
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(()),
        done => done,
    }
}

/// Waits until the disk has the names in a folder. Where the system cannot open or sync a folder there is nothing to wait for.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    before(Kind::Grows("sync folder"), path)?;
    let Ok(folder) = fs::File::open(path) else { return Ok(()) };
    match folder.sync_all() {
        Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Err(e),
        _ => Ok(()),
    }
}
