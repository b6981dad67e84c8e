//! A long sequence of token ids: in memory, in memory-mapped files, or several of these one after another.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Token ids 0 .. `len`, read by windows. Cloning and slicing share the ids.
#[derive(Debug, Clone, Default)]
pub struct TokenStore {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Part {
    source: Ids,
    start: usize,
    len: usize,
}

#[derive(Debug, Clone)]
enum Ids {
    Memory(Arc<[u32]>),
    #[cfg(feature = "files")]
    Mapped(Arc<super::token_file::Mapped>),
}

impl TokenStore {
    /// Ids held in memory.
    pub fn from_ids(ids: Vec<u32>) -> TokenStore {
        let len = ids.len();
        TokenStore { parts: vec![Part { source: Ids::Memory(ids.into()), start: 0, len }], len }
    }

    /// A `.tokens` file, memory-mapped; all of its ids are read once to check them.
    ///
    /// `Err`: missing, not a token file, another version, cut short or too long, or with an id outside its vocabulary (by position).
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<TokenStore> {
        let mapped = super::token_file::Mapped::open(path.as_ref())?;
        let len = mapped.len();
        Ok(TokenStore { parts: vec![Part { source: Ids::Mapped(Arc::new(mapped)), start: 0, len }], len })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The vocabulary size in the header of a mapped file (the largest, if there are several); `None` for ids in memory.
    pub fn vocab_size(&self) -> Option<usize> {
        #[cfg(feature = "files")]
        return self
            .parts
            .iter()
            .filter_map(|part| match &part.source {
                Ids::Mapped(mapped) => Some(mapped.vocab_size()),
                Ids::Memory(_) => None,
            })
            .max();
        #[cfg(not(feature = "files"))]
        None
    }

    /// Replaces the content of `ids` by the tokens `start .. start + len`. `Err` past the end.
    pub fn window(&self, start: usize, len: usize, ids: &mut Vec<u32>) -> Result<()> {
        self.check(start, len)?;
        ids.clear();
        ids.resize(len, 0);
        self.read(start, ids)
    }

    /// Fills `ids` with the tokens `start .. start + ids.len()`. `Err` past the end.
    pub fn read(&self, start: usize, ids: &mut [u32]) -> Result<()> {
        self.check(start, ids.len())?;
        let (mut start, mut rest) = (start, ids);
        for part in &self.parts {
            if start >= part.len {
                start -= part.len;
                continue;
            }
            let (now, later) = rest.split_at_mut(rest.len().min(part.len - start));
            let from = part.start + start;
            match &part.source {
                Ids::Memory(all) => now.copy_from_slice(&all[from..from + now.len()]),
                #[cfg(feature = "files")]
                Ids::Mapped(mapped) => mapped.read(from, now)?,
            }
            (start, rest) = (0, later);
        }
        Ok(())
    }

    /// How often `id` occurs.
    pub fn occurrences(&self, id: u32) -> Result<u64> {
        let mut found = 0;
        self.for_each_block(|ids| {
            found += ids.iter().filter(|&&other| other == id).count() as u64;
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `each` with all ids in order, some thousands at a time.
    pub(crate) fn for_each_block(&self, mut each: impl FnMut(&[u32]) -> Result<()>) -> Result<()> {
        let mut block = Vec::new();
        for start in (0..self.len).step_by(BLOCK) {
            self.window(start, BLOCK.min(self.len - start), &mut block)?;
            each(&block)?;
        }
        Ok(())
    }

    /// The tokens of `range`. `Err` past the end.
    pub fn slice(&self, range: Range<usize>) -> Result<TokenStore> {
        let len = range.end.saturating_sub(range.start);
        self.check(range.start, len)?;
        let (mut skip, mut wanted, mut parts) = (range.start, len, Vec::new());
        for part in &self.parts {
            let from = skip.min(part.len);
            let taken = wanted.min(part.len - from);
            if taken > 0 {
                parts.push(Part { source: part.source.clone(), start: part.start + from, len: taken });
            }
            skip -= from;
            wanted -= taken;
        }
        Ok(TokenStore { parts, len })
    }

    /// This store followed by `other`.
    pub fn followed_by(mut self, other: TokenStore) -> TokenStore {
        self.parts.extend(other.parts);
        self.len += other.len;
        self
    }

    fn check(&self, start: usize, len: usize) -> Result<()> {
        if start.checked_add(len).is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        Err(Error::usage(format!("tokens {start} .. {start} + {len} asked for, the corpus part has {}", self.len)))
    }
}

/// Ids read at a time when a whole store is scanned.
const BLOCK: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_joins_read_like_one_sequence() {
        let store = TokenStore::from_ids((0..10).collect())
            .followed_by(TokenStore::default())
            .followed_by(TokenStore::from_ids((10..17).collect()));
        let all: Vec<u32> = (0..17).collect();
        let mut ids = Vec::new();
        for start in 0..=17 {
            for end in start..=17 {
                store.window(start, end - start, &mut ids).unwrap();
                assert_eq!(ids, all[start..end]);
                let slice = store.slice(start..end).unwrap();
                assert_eq!(slice.len(), end - start);
                slice.window(0, end - start, &mut ids).unwrap();
                assert_eq!(ids, all[start..end]);
            }
        }
        let e = store.window(15, 3, &mut ids).unwrap_err().to_string();
        assert_eq!(e, "tokens 15 .. 15 + 3 asked for, the corpus part has 17");
        assert!(store.window(usize::MAX, 3, &mut ids).is_err());
        assert!(store.slice(0..18).is_err());
        assert_eq!(store.vocab_size(), None);
        let repeated = TokenStore::from_ids([3, 1, 3].repeat(50_000)).followed_by(TokenStore::from_ids(vec![3]));
        assert_eq!([0, 1, 3].map(|id| repeated.occurrences(id).unwrap()), [0, 50_000, 100_001]);
    }
}
