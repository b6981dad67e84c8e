//! `.tokens` files: a header of 24 bytes, then the ids as little-endian u16 (vocabularies up to 65,536) or u32.
//!
//! Header: `WGPT`, version (u16), bytes per id (u16), vocabulary size (u64), number of ids (u64), all little-endian.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::pieces::PIECE;
use super::reader::{self, TextReader};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files::Replacement;

const MAGIC: &[u8; 4] = b"WGPT";
const VERSION: u16 = 1;
const HEADER: usize = 24;

/// A memory-mapped token file; its pages are read on demand.
#[derive(Debug)]
pub(crate) struct Mapped {
    map: memmap2::Mmap,
    /// Kept open while it is mapped: its length is checked before every read.
    file: File,
    path: PathBuf,
    width: usize,
    vocab_size: usize,
    len: usize,
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Mapped> {
        let problem = |problem: String| Error::file(path, problem);
        let file = reader::open(path)?;
        let size = file.metadata().map_err(|e| Error::file(path, e))?.len();
        if size < HEADER as u64 {
            return Err(problem(format!("is cut short: {size} bytes found, a token file begins with {HEADER}")));
        }
        #[allow(unsafe_code)]
        // SAFETY: the map is read-only and every byte pattern is a valid id. Reading pages past the end of a truncated file ends the
        // process with SIGBUS; `read` describes what it guards against and what it cannot.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| problem(format!("cannot be mapped: {e}")))?;
        if &map[..4] != MAGIC {
            return Err(problem(format!("is no token file: it begins with {:02X?}, not with `WGPT`", &map[..4])));
        }
        let (version, width) = (u16::from_le_bytes([map[4], map[5]]), u16::from_le_bytes([map[6], map[7]]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| map[at + i]));
        let (vocab_size, count) = (long(8), long(16));
        if version != VERSION {
            return Err(problem(format!("is a token file of version {version}, this program reads version {VERSION}")));
        }
        if ![2, 4].contains(&width) {
            return Err(problem(format!("says {width} bytes per id, it must be 2 or 4")));
        }
        let found = (size - HEADER as u64) / u64::from(width);
        if count.checked_mul(u64::from(width)).is_none_or(|bytes| bytes != size - HEADER as u64) {
            let what = if found < count { "is cut short" } else { "has bytes past its end" };
            return Err(problem(format!("{what}: its header says {count} ids, {found} found")));
        }
        let too_large = |_| problem(format!("says {count} ids of {vocab_size} tokens, too many for this machine"));
        let (len, vocab_size) = (usize::try_from(count).map_err(too_large)?, usize::try_from(vocab_size).map_err(too_large)?);
        let mapped = Mapped { map, file, path: path.to_path_buf(), width: usize::from(width), vocab_size, len };
        mapped.check_ids().map_err(problem)?;
        Ok(mapped)
    }

    /// Checks all ids once: the host would count an id outside the vocabulary, and the device would skip it.
    fn check_ids(&self) -> std::result::Result<(), String> {
        let ids = &self.map[HEADER..];
        let found = match self.width {
            // Two bytes cannot encode an id above 65,535.
            2 if self.vocab_size > usize::from(u16::MAX) => None,
            2 => first_above(ids, self.vocab_size, |bytes| usize::from(u16::from_le_bytes(bytes))),
            _ => first_above(ids, self.vocab_size, |bytes| u32::from_le_bytes(bytes) as usize),
        };
        found.map_or(Ok(()), |(position, id)| {
            let vocab = self.vocab_size;
            Err(format!(
                "has the id {id} at position {position}, its vocabulary of {vocab} tokens has none above {}: encode its text again",
                vocab.saturating_sub(1)
            ))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Fills `ids` from token `start` on; the caller has checked the range.
    ///
    /// `Err` if the file was truncated after it was opened. If another process truncates it between this check and the end of the copy, a
    /// bus error (SIGBUS) still ends this process: a mapping cannot be guarded against that. Programs that replace token files by a rename,
    /// as this one does, never truncate the mapped file.
    pub(crate) fn read(&self, start: usize, ids: &mut [u32]) -> Result<()> {
        let (from, to) = (HEADER + start * self.width, HEADER + (start + ids.len()) * self.width);
        let size = self.file.metadata().map_err(|e| Error::file(&self.path, e))?.len();
        if size < to as u64 {
            let whole = HEADER + self.len * self.width;
            return Err(Error::file(
                &self.path,
                format!("was truncated while it was in use: it has {size} bytes now and had {whole}; restore it"),
            ));
        }
        let bytes = &self.map[from..to];
        for (id, bytes) in ids.iter_mut().zip(bytes.chunks_exact(self.width)) {
            *id = match *bytes {
                [a, b] => u32::from(u16::from_le_bytes([a, b])),
                [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
                _ => unreachable!("token_file: ids are 2 or 4 bytes wide, checked on opening"),
            };
        }
        Ok(())
    }
}

/// The first id that is not below `limit`, with its position. A branchless loop over each block finds its largest id first.
fn first_above<const WIDTH: usize>(bytes: &[u8], limit: usize, id: impl Fn([u8; WIDTH]) -> usize) -> Option<(usize, usize)> {
    const BLOCK: usize = 1 << 14;
    let (ids, _) = bytes.as_chunks::<WIDTH>();
    let block = ids.chunks(BLOCK).position(|block| block.iter().fold(0, |largest, bytes| id(*bytes).max(largest)) >= limit)?;
    (block * BLOCK..).zip(&ids[block * BLOCK..]).map(|(position, bytes)| (position, id(*bytes))).find(|(_, id)| *id >= limit)
}

/// Writes a token file under a temporary name; `finish` renames it to its path.
struct TokenWriter {
    file: Replacement,
    path: PathBuf,
    vocab_size: usize,
    count: u64,
}

impl TokenWriter {
    fn create(path: &Path, vocab_size: usize) -> Result<TokenWriter> {
        let mut writer = TokenWriter { file: Replacement::begin(path)?, path: path.to_path_buf(), vocab_size, count: 0 };
        writer.header().map_err(|e| writer.failed(e))?;
        Ok(writer)
    }

    fn failed(&self, e: std::io::Error) -> Error {
        Error::file(&self.path, format!("cannot be written: {e}"))
    }

    fn width(&self) -> u16 {
        if self.vocab_size <= 1 << 16 { 2 } else { 4 }
    }

    fn header(&mut self) -> std::io::Result<()> {
        let width = self.width();
        self.file.write_all(MAGIC)?;
        self.file.write_all(&VERSION.to_le_bytes())?;
        self.file.write_all(&width.to_le_bytes())?;
        self.file.write_all(&(self.vocab_size as u64).to_le_bytes())?;
        self.file.write_all(&self.count.to_le_bytes())
    }

    fn push(&mut self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(Error::usage(format!(
                "token id {id} found, a vocabulary of {} ends at {}",
                self.vocab_size,
                self.vocab_size.saturating_sub(1)
            )));
        }
        let width = usize::from(self.width());
        for id in ids {
            self.file.write_all(&id.to_le_bytes()[..width]).map_err(|e| self.failed(e))?;
        }
        self.count += ids.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.file.seek(SeekFrom::Start(0)).and_then(|_| self.header()).map_err(|e| self.failed(e))?;
        self.file.put()?;
        Ok(self.count)
    }
}

/// Writes `ids` as a token file. `Err`: an id that a vocabulary of `vocab_size` lacks, or a path that cannot be written.
pub fn write_tokens(path: impl AsRef<Path>, ids: &[u32], vocab_size: usize) -> Result<()> {
    let mut writer = TokenWriter::create(path.as_ref(), vocab_size)?;
    writer.push(ids)?;
    writer.finish().map(|_| ())
}

/// Encodes the text file `from` into the token file `to`, about 1 MiB of text at a time, and returns the number of tokens.
///
/// The ids are those of the whole text encoded at once. `Err` as for [`read_text`](super::read_text), or if `to` cannot be written; on an
/// error `to` keeps its previous content.
pub fn encode_file_to_tokens(tokenizer: &Tokenizer, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
    let mut text = TextReader::open(from, PIECE)?;
    let mut writer = TokenWriter::create(to.as_ref(), tokenizer.vocab_size())?;
    while let Some(piece) = text.next_piece()? {
        writer.push(&tokenizer.encode(&piece)?)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{TokenStore, TokenizerConfig};

    #[test]
    fn ids_come_back_in_both_widths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tokens");
        for (vocab, width) in [(1, 2), (65536, 2), (65537, 4), (1 << 20, 4)] {
            let ids: Vec<u32> = (0..1000u32).map(|i| (i.wrapping_mul(2654435761) as usize % vocab) as u32).collect();
            write_tokens(&path, &ids, vocab).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), (HEADER + 1000 * width) as u64);
            let store = TokenStore::open(&path).unwrap();
            let mut back = Vec::new();
            store.window(0, 1000, &mut back).unwrap();
            assert_eq!((&back, store.vocab_size()), (&ids, Some(vocab)));
            let mut part = Vec::new();
            store.slice(100..900).unwrap().window(7, 13, &mut part).unwrap();
            assert_eq!(part, ids[107..120]);
            assert!(store.window(990, 11, &mut Vec::new()).is_err());
        }
        let e = write_tokens(&path, &[3], 3).unwrap_err().to_string();
        assert_eq!(e, "token id 3 found, a vocabulary of 3 ends at 2");
        write_tokens(&path, &[], 3).unwrap();
        assert!(TokenStore::open(&path).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    /// Windows does not allow truncating a mapped file.
    #[cfg(unix)]
    #[test]
    fn a_file_that_is_cut_in_use_is_an_error_and_no_bus_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tokens");
        // Several pages: a read must not touch those past the new end of the file.
        let ids: Vec<u32> = (0..40_000).map(|i| i % 500).collect();
        write_tokens(&path, &ids, 500).unwrap();
        let store = TokenStore::open(&path).unwrap();
        let slice = store.slice(20_000..40_000).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50_000).unwrap();
        let mut back = Vec::new();
        store.window(0, 24_988, &mut back).unwrap();
        assert_eq!(back, ids[..24_988], "what is left can be read");
        for problem in [store.window(0, 24_989, &mut back), store.window(39_000, 10, &mut back), slice.window(10_000, 10_000, &mut back)] {
            let e = problem.unwrap_err().to_string();
            assert!(e.contains("a.tokens: was truncated while it was in use: it has 50000 bytes now and had 80024"), "{e}");
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tokens");
        write_tokens(&path, &[1, 2, 3], 10).unwrap();
        let good = std::fs::read(&path).unwrap();
        let problem = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            TokenStore::open(&path).unwrap_err().to_string()
        };
        for cut in 0..good.len() {
            assert!(problem(&good[..cut]).contains("is cut short"), "{cut} bytes");
        }
        assert!(problem(&good[..28]).contains("its header says 3 ids, 2 found"));
        assert!(problem(&[&good[..], &[0, 0]].concat()).contains("has bytes past its end: its header says 3 ids, 4 found"));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(problem(&changed(0, b'X')).contains("is no token file"));
        assert!(problem(&changed(4, 9)).contains("version 9"));
        assert!(problem(&changed(6, 3)).contains("3 bytes per id"));
        assert!(problem(&changed(23, 0xFF)).contains("is cut short"));
        std::fs::remove_file(&path).unwrap();
        assert!(TokenStore::open(&path).unwrap_err().to_string().ends_with("no such file"));
        assert!(write_tokens(folder.path().join("no/such/a.tokens"), &[], 1).unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn ids_outside_the_vocabulary_are_named_with_their_position() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tokens");
        for (vocab, count) in [(10, 100_000), (65_536, 10), (65_537, 50_000)] {
            let ids: Vec<u32> = (0..count).map(|i| i as u32 % vocab as u32).collect();
            write_tokens(&path, &ids, vocab).unwrap();
            TokenStore::open(&path).unwrap();
            let good = std::fs::read(&path).unwrap();
            let width = (good.len() - HEADER) / count;
            for at in [0, 1, count / 2, count - 1] {
                let mut bytes = good.clone();
                let place = HEADER + at * width;
                bytes[place..place + width].copy_from_slice(&(vocab as u32).to_le_bytes()[..width]);
                std::fs::write(&path, &bytes).unwrap();
                let opened = TokenStore::open(&path);
                if vocab == 65_536 {
                    // Any u16 is a valid id of this vocabulary; 65,536 was written as 0.
                    opened.unwrap();
                    continue;
                }
                let (e, last) = (opened.unwrap_err().to_string(), vocab - 1);
                let wanted = format!("has the id {vocab} at position {at}, its vocabulary of {vocab} tokens has none above {last}:");
                assert!(e.starts_with(&path.display().to_string()) && e.contains(&wanted), "{e}");
            }
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8..16].copy_from_slice(&0u64.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(TokenStore::open(&path).unwrap_err().to_string().contains("has the id 0 at position 0, its vocabulary of 0 tokens"));
    }

    #[test]
    fn a_file_encodes_like_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.txt"), folder.path().join("a.tokens"));
        let text = "Two households, both alike in dignity,\n\nIn fair Verona\u{2014}where we lay our scene.\n".repeat(30_000);
        assert!(text.len() > 2 * PIECE);
        std::fs::write(&from, &text).unwrap();
        for kind in ["word", "character"] {
            let config = TokenizerConfig { kind: kind.into(), punctuation: kind == "word", ..TokenizerConfig::default() };
            let tokenizer = Tokenizer::train(&config, &text).unwrap();
            let count = encode_file_to_tokens(&tokenizer, &from, &to).unwrap() as usize;
            let mut ids = Vec::new();
            TokenStore::open(&to).unwrap().window(0, count, &mut ids).unwrap();
            assert!(ids == tokenizer.encode(&text).unwrap(), "{kind}");
        }
        std::fs::write(&from, b"good text\n\xFF").unwrap();
        let before = std::fs::read(&to).unwrap();
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), "abc").unwrap();
        assert!(encode_file_to_tokens(&tokenizer, &from, &to).is_err());
        assert!(before == std::fs::read(&to).unwrap(), "a failed run leaves the old file");
    }
}
