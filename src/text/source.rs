//! Identifies the files of a corpus, so that resuming or evaluating a run can detect a changed text.

use serde::{Deserialize, Serialize};

use crate::files::Hash;

/// One text or token file of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSource {
    /// Its path, absolute if that is valid UTF-8; empty for a text from memory.
    pub file: String,
    /// Size of the text without a byte order mark, or of the whole token file.
    pub bytes: u64,
    /// XXH3 checksum of those bytes.
    pub hash: Hash,
}

impl TextSource {
    pub(crate) fn of_text(text: &str) -> TextSource {
        TextSource { file: String::new(), bytes: text.len() as u64, hash: Hash::of(text.as_bytes()) }
    }

    /// The first difference between the files that a run was `trained` on and those of `now`, as one clause that names the file; None if
    /// the contents are equal. Paths are not compared.
    pub fn difference(trained: &[TextSource], now: &[TextSource]) -> Option<String> {
        if trained.len() != now.len() {
            return Some(format!("the run was trained on {} files, data.files names {}", trained.len(), now.len()));
        }
        let (old, new) = trained.iter().zip(now).find(|(old, new)| (old.bytes, old.hash) != (new.bytes, new.hash))?;
        let named = |source: &TextSource| if source.file.is_empty() { "the text".to_owned() } else { source.file.clone() };
        let (new_name, old_name) = (named(new), named(old));
        let before = if old_name == new_name { "it".to_owned() } else { old_name };
        Some(format!(
            "{new_name} is not what the run was trained on: it has {} bytes with the checksum {}, {before} had {} bytes with {}",
            new.bytes, new.hash, old.bytes, old.hash
        ))
    }
}

/// `file` as an absolute path, so that a run finds its text from any folder; unchanged if the absolute path is not valid UTF-8.
pub fn absolute(file: &str) -> String {
    let path = std::path::absolute(file).ok().and_then(|path| path.into_os_string().into_string().ok());
    path.unwrap_or_else(|| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_changed_is_named() {
        let source = |file: &str, text: &str| TextSource { file: file.into(), ..TextSource::of_text(text) };
        let trained = [source("/a/one.txt", "one"), source("/a/two.txt", "two")];
        assert_eq!(TextSource::difference(&trained, &[source("/b/one.txt", "one"), source("/c", "two")]), None);
        let changed = TextSource::difference(&trained, &[source("/a/one.txt", "one"), source("/a/two.txt", "tWo")]).unwrap();
        assert!(changed.starts_with("/a/two.txt is not what the run was trained on: it has 3 bytes with the checksum "), "{changed}");
        let other = TextSource::difference(&trained, &[source("/b/one.txt", "on"), source("/a/two.txt", "two")]).unwrap();
        assert!(other.starts_with("/b/one.txt ") && other.contains(", /a/one.txt had 3 bytes with "), "{other}");
        assert!(TextSource::difference(&trained, &trained[..1]).unwrap().contains("trained on 2 files, data.files names 1"));
        assert!(absolute("x.txt").ends_with("x.txt") && std::path::Path::new(&absolute("x.txt")).is_absolute());
    }
}
