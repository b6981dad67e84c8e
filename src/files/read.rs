//! Reading from regular files only, and checking that an open file is still at its path.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Opens a regular file for reading. Anything else is refused: opening a pipe blocks until there is a writer, and a device may have no end.
///
/// # Errors
/// `InvalidInput` for anything but a regular file; its text is a clause that names what was found. Otherwise the errors of the system.
pub fn open(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?.file_type();
    if !found.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("is {}, a file is needed", kind(found))));
    }
    File::open(path)
}

/// Reads a whole file, opened as by [`open`].
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole UTF-8 file, opened as by [`open`].
///
/// # Errors
/// As [`open`], and `InvalidData` for bytes that are not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether an open file is the one at `path`. Where the system cannot compare files, whether there is a file at `path` at all: such systems
/// do not let an open file be removed or moved.
pub fn is_at(file: &File, path: &Path) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        found.is_file()
    }
}

fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
    }
    "no regular file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, "text").unwrap();
        assert_eq!((read(&path).unwrap(), read_to_string(&path).unwrap()), (b"text".to_vec(), "text".to_owned()));
        fs::write(&path, b"\xFF").unwrap();
        assert_eq!(read_to_string(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(folder.path()).unwrap_err().to_string(), "is a folder, a file is needed");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_sockets_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let cases = [(at("pipe"), "a pipe"), (at("link"), "a pipe"), (at("socket"), "a socket"), ("/dev/zero".into(), "a device")];
        for (path, what) in cases {
            assert_eq!(open(&path).unwrap_err().to_string(), format!("is {what}, a file is needed"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_moved_or_replaced_is_not_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "").unwrap();
        let file = open(&a).unwrap();
        assert!(is_at(&file, &a));
        fs::rename(&a, &b).unwrap();
        assert!(!is_at(&file, &a) && is_at(&file, &b));
        fs::write(&a, "").unwrap();
        assert!(!is_at(&file, &a));
    }
}
