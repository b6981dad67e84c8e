//! Checksums: XXH3 with 128 bits. They detect damage and mix-ups, not forgery.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::error::{Error, Result};

/// The checksum of some bytes, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u128);

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Hash {
        Hash(xxh3_128(bytes))
    }

    /// The checksum of a whole file, with its length in bytes.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or is not a regular file.
    pub fn of_file(path: &Path) -> Result<(u64, Hash)> {
        let problem = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let opened = super::open(path).map_err(|e| if e.kind() == ErrorKind::InvalidInput { Error::file(path, e) } else { problem(e) });
        let (mut file, mut block) = (opened?, vec![0; BLOCK]);
        let mut hasher = Hasher::default();
        loop {
            match file.read(&mut block) {
                Ok(0) => return Ok((hasher.bytes(), hasher.hash())),
                Ok(read) => hasher.add(&block[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(problem(e)),
            }
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Hash, String> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let hash = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        hash.map(Hash).ok_or_else(|| format!("`{text}` is no checksum, 32 hexadecimal digits are needed"))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes piece by piece; the result does not depend on how they are split.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Xxh3,
    bytes: u64,
}

impl Hasher {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The checksum of the bytes added so far.
    pub fn hash(&self) -> Hash {
        Hash(self.state.digest128())
    }

    /// Number of bytes added so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A writer that hashes the bytes written through it.
pub(super) struct Hashing<W> {
    pub to: W,
    pub hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hash_whatever_the_way() {
        // XXH3 of no bytes, from its reference implementation (`xxhsum -H128`).
        assert_eq!(Hash::of(b"").to_string(), "99aa06d3014798d86001c324468d497f");
        let bytes: Vec<u8> = (0..3 * BLOCK / 2).map(|i| ((i * i) >> 3) as u8).collect();
        let hash = Hash::of(&bytes);
        for size in [1000, 4097, BLOCK, bytes.len()] {
            let mut hasher = Hasher::default();
            bytes.chunks(size).for_each(|chunk| hasher.add(chunk));
            assert_eq!((hasher.hash(), hasher.bytes()), (hash, bytes.len() as u64), "pieces of {size}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Hash::of_file(&path).unwrap(), (bytes.len() as u64, hash));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(serde_json::from_str::<Hash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
        for bad in ["", "12", "+9aa06d3014798d86001c324468d497f", "zzaa06d3014798d86001c324468d497f"] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
        let flipped = |bit: usize| {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Hash::of(&bytes)
        };
        assert!([0, 777, 8 * bytes.len() - 1].map(flipped).iter().all(|other| *other != hash));
        assert!(Hash::of_file(folder.path()).unwrap_err().to_string().ends_with("is a folder, a file is needed"));
        assert!(Hash::of_file(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
