//! Text files: whole, or piece by piece for those larger than memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::pieces::{BYTE_ORDER_MARK, cut, known, not_utf8, nul, text_from_bytes};
use crate::error::{Error, Result};

/// A whole text file. `Err`: missing, a folder, empty, a NUL byte or bytes that are not UTF-8 (with their position).
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    text_from_bytes(bytes, &path.to_string_lossy())
}

/// Opens a file for reading; common mistakes get a message of their own.
pub(crate) fn open(path: &Path) -> Result<File> {
    crate::files::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::file(path, "no such file"),
        std::io::ErrorKind::InvalidInput => Error::file(path, e),
        _ => Error::file(path, format!("cannot be opened: {e}")),
    })
}

/// A text file read in pieces of about `size` bytes; the same text and the same errors as [`read_text`].
pub struct TextReader {
    file: File,
    path: PathBuf,
    size: usize,
    /// Bytes read and not yet returned; the first `checked` of them are valid text.
    buffer: Vec<u8>,
    checked: usize,
    /// Where in the file `buffer` starts.
    offset: u64,
    ended: bool,
}

impl TextReader {
    /// `size` is in bytes; a piece is longer only where there is no place to cut it.
    pub fn open(path: impl AsRef<Path>, size: usize) -> Result<TextReader> {
        let path = path.as_ref().to_path_buf();
        let mut reader =
            TextReader { file: open(&path)?, path, size: size.max(4), buffer: Vec::new(), checked: 0, offset: 0, ended: false };
        reader.read_up_to(reader.size)?;
        let mut mark = [0; 4];
        if reader.buffer.starts_with(BYTE_ORDER_MARK.encode_utf8(&mut mark).as_bytes()) {
            reader.take(BYTE_ORDER_MARK.len_utf8())?;
        }
        if reader.buffer.is_empty() {
            return Err(Error::file(&reader.path, "is empty, a text is needed"));
        }
        Ok(reader)
    }

    /// The next piece, or `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<String>> {
        let mut want = self.size;
        loop {
            // Four more bytes, so that the character at `want` is complete.
            self.read_up_to(want.saturating_add(4))?;
            if self.ended && self.checked <= want {
                return if self.checked == 0 { Ok(None) } else { self.take(self.checked).map(Some) };
            }
            let text = self.text(self.checked)?;
            if let Some(at) = cut(&text[..text.floor_char_boundary(want)]) {
                return self.take(at).map(Some);
            }
            want = want.saturating_mul(2);
        }
    }

    fn read_up_to(&mut self, len: usize) -> Result<()> {
        if self.ended || self.buffer.len() >= len {
            return Ok(());
        }
        let missing = len - self.buffer.len();
        let read = (&mut self.file).take(missing as u64).read_to_end(&mut self.buffer).map_err(|e| Error::file(&self.path, e))?;
        self.ended = read < missing;
        self.check()
    }

    /// Validates the bytes after `checked`; an incomplete character at their end is an error only at the end of the file.
    fn check(&mut self) -> Result<()> {
        let fresh = &self.buffer[self.checked..];
        let at = |index: usize| self.offset + (self.checked + index) as u64;
        let kind = || known(&self.buffer).filter(|_| self.offset == 0);
        if let Some(index) = fresh.iter().position(|byte| *byte == 0) {
            return Err(Error::file(&self.path, kind().unwrap_or_else(|| nul(at(index)))));
        }
        match std::str::from_utf8(fresh) {
            Ok(_) => self.checked = self.buffer.len(),
            Err(e) if e.error_len().is_none() && !self.ended => self.checked += e.valid_up_to(),
            Err(e) => {
                let unknown = || not_utf8(at(e.valid_up_to()), fresh[e.valid_up_to()]);
                return Err(Error::file(&self.path, kind().unwrap_or_else(unknown)));
            }
        }
        Ok(())
    }

    fn text(&self, len: usize) -> Result<&str> {
        std::str::from_utf8(&self.buffer[..len]).map_err(|e| Error::file(&self.path, e))
    }

    /// Removes and returns the first `len` bytes, which have been checked.
    fn take(&mut self, len: usize) -> Result<String> {
        let piece = self.text(len)?.to_string();
        self.buffer.drain(..len);
        self.checked -= len;
        self.offset += len as u64;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pieces::pieces;
    use super::*;

    fn read_all(path: &Path, size: usize) -> Result<Vec<String>> {
        let mut reader = TextReader::open(path, size)?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            all.push(piece);
        }
        Ok(all)
    }

    #[test]
    fn a_file_comes_in_the_same_pieces_as_a_string() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let text = "ab cd\n\nef  gh ij\nü é 世界\n🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀 z".repeat(20);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        assert_eq!(read_text(&path).unwrap(), text);
        for size in [4, 5, 7, 16, 33, 100, 1000, text.len() - 1, text.len(), text.len() + 1, 1 << 20] {
            assert_eq!(read_all(&path, size).unwrap(), pieces(&text, size).collect::<Vec<_>>(), "size {size}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.txt");
        let problem = |bytes: Option<&[u8]>| {
            bytes.inspect(|bytes| std::fs::write(&path, bytes).unwrap());
            let whole = read_text(&path).unwrap_err().to_string();
            for size in [4, 6, 64] {
                assert_eq!(read_all(&path, size).unwrap_err().to_string(), whole);
            }
            assert!(whole.starts_with(&format!("{}: ", path.display())) && !whole.contains('\n'), "{whole}");
            whole
        };
        assert!(problem(None).ends_with("no such file"));
        assert!(problem(Some(b"")).contains("is empty"));
        assert!(problem(Some("\u{feff}".as_bytes())).contains("is empty"), "a byte order mark alone");
        assert!(problem(Some(b"some words here \xE9 and there")).contains("byte 0xE9 at position 16,"));
        assert!(problem(Some("so\nviele w\u{f6}rter 世".as_bytes().split_last().unwrap().1)).contains("at position 17,"));
        assert!(problem(Some(b"some words here \0 and there")).contains("NUL byte at position 16:"));
        assert!(problem(Some(b"\x1f\x8b\x08\x08abcdefgh\0")).contains("gzip"));
        assert!(read_text(folder.path()).unwrap_err().to_string().contains("is a folder"));
    }

    /// Opening a pipe for reading blocks until a writer opens it.
    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, what) in [(pipe.as_path(), "is a pipe"), (Path::new("/dev/zero"), "is a device"), (folder.path(), "is a folder")] {
            let e = read_text(path).unwrap_err().to_string();
            assert!(e.starts_with(&format!("{}: {what}, a file is needed", path.display())), "{e}");
            assert_eq!(TextReader::open(path, 100).err().unwrap().to_string(), e);
        }
    }
}
