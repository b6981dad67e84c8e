//! One tokenizer type for the three kinds, and its file.

use std::collections::HashSet;
use std::sync::Arc;

use super::character::Character;
use super::config::{AUTO, TokenizerConfig};
use super::fit::fit;
use super::word::Word;
use crate::error::{Error, Result, brief, excerpt};

/// Text to token ids and back. Ids are 0 .. [`vocab_size`](Tokenizer::vocab_size). Cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Tokenizer {
    /// Pieces between white space, numbered by first appearance.
    Word(Arc<Word>),
    /// Single `char`s, numbered by code point.
    Character(Arc<Character>),
    /// Byte-level BPE, trained here or loaded from files such as `tokenizer.json`.
    #[cfg(feature = "bpe")]
    Bpe(Arc<super::bpe::Bpe>),
}

impl Tokenizer {
    /// Trains a tokenizer on `text` with the settings `config`, or loads it from `config.path`. `Err`: an invalid setting, or a text
    /// without tokens.
    pub fn train(config: &TokenizerConfig, text: &str) -> Result<Tokenizer> {
        config.validate()?;
        match config.kind.as_str() {
            _ if !config.path.is_empty() => Tokenizer::from_config_path(config),
            AUTO => Tokenizer::train(&fit(config, text).config, text),
            "word" => Ok(Tokenizer::Word(Arc::new(Word::train(config, text)?))),
            "character" => Ok(Tokenizer::Character(Arc::new(Character::train(config, text)?))),
            #[cfg(feature = "bpe")]
            _ => Ok(Tokenizer::Bpe(Arc::new(super::bpe_train::train(config, text)?))),
            #[cfg(not(feature = "bpe"))]
            _ => Err(no_bpe()),
        }
    }

    #[cfg(feature = "files")]
    pub(crate) fn from_config_path(config: &TokenizerConfig) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::open(&config.path)?;
        if config.kind == AUTO || tokenizer.kind() == config.kind {
            return Ok(tokenizer);
        }
        Err(Error::file(&config.path, format!("is a {} tokenizer, tokenizer.kind is `{}`", tokenizer.kind(), config.kind)))
    }

    #[cfg(not(feature = "files"))]
    fn from_config_path(config: &TokenizerConfig) -> Result<Tokenizer> {
        Err(Error::file(&config.path, "cannot be read: this build opens no files (feature `files`)"))
    }

    /// Reads a `tokenizer.json` of any kind, GPT-2's `encoder.json` with `vocab.bpe` beside it, or a folder that holds either.
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let json = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let gpt2 = path.ends_with("encoder.json") || path.ends_with("vocab.json") || (path.is_dir() && !json.exists());
        if !gpt2 {
            return Tokenizer::from_json(&super::reader::read_text(&json)?, &json.to_string_lossy());
        }
        #[cfg(feature = "bpe")]
        return Ok(Tokenizer::Bpe(Arc::new(super::bpe_train::open_gpt2(path)?)));
        #[cfg(not(feature = "bpe"))]
        return Err(Error::file(path, no_bpe()));
    }

    /// The ids of `text`. Words and characters never fail; a BPE fails on a byte it has no token for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids, |_| {})?;
        Ok(ids)
    }

    /// The ids of `text`, and each distinct word or character that became `<UNK>`, in order of appearance.
    pub fn encode_counting_unknown(&self, text: &str) -> Result<(Vec<u32>, Vec<String>)> {
        let (mut ids, mut unknown, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        self.encode_into(text, &mut ids, |word| {
            if seen.insert(word.to_string()) {
                unknown.push(word.to_string());
            }
        })?;
        Ok((ids, unknown))
    }

    /// Appends the ids of `text` to `ids`.
    fn encode_into(&self, text: &str, ids: &mut Vec<u32>, unknown: impl FnMut(&str)) -> Result<()> {
        match self {
            Tokenizer::Word(word) => word.encode(text, ids, unknown),
            Tokenizer::Character(character) => character.encode(text, ids, unknown),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(bpe) => bpe.encode(text, ids)?,
        }
        Ok(())
    }

    /// One token as text, for lists and tables. Bytes that are not valid UTF-8 by themselves are shown as `<0xE2>`.
    pub fn token(&self, id: u32) -> Result<String> {
        match self {
            Tokenizer::Word(word) => word.vocabulary().token(id).map(str::to_string),
            Tokenizer::Character(character) => character.vocabulary().token(id).map(str::to_string),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(bpe) => {
                let bytes = bpe.token_bytes(id)?;
                let hex = |_| bytes.iter().map(|byte| format!("<0x{byte:02X}>")).collect();
                Ok(std::str::from_utf8(bytes).map_or_else(hex, str::to_string))
            }
        }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        match self {
            Tokenizer::Word(word) => word.vocabulary().len(),
            Tokenizer::Character(character) => character.vocabulary().len(),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(bpe) => bpe.vocab_size(),
        }
    }

    /// The id of `<UNK>`, for text outside the vocabulary; a BPE has none and needs none.
    pub fn unknown(&self) -> Option<u32> {
        match self {
            Tokenizer::Word(word) => Some(word.vocabulary().unknown()),
            Tokenizer::Character(character) => Some(character.vocabulary().unknown()),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(_) => None,
        }
    }

    /// The number of characters of `text` in its tokens, for bits per character. Word tokens do not store the white space between them:
    /// each gap counts as the one blank that decoding inserts, however long it is.
    pub fn characters(&self, text: &str) -> u64 {
        let all = |text: &str| text.chars().count() as u64;
        match self {
            Tokenizer::Word(_) => text.split_whitespace().map(|word| all(word) + 1).sum::<u64>().saturating_sub(1),
            _ => all(text),
        }
    }

    /// `word`, `character` or `bpe`, as in [`TokenizerConfig::kind`].
    pub fn kind(&self) -> &'static str {
        match self {
            Tokenizer::Word(_) => "word",
            Tokenizer::Character(_) => "character",
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(_) => "bpe",
        }
    }

    /// The content of `tokenizer.json`; for a BPE it is the Hugging Face format.
    pub fn to_json(&self) -> String {
        match self {
            Tokenizer::Word(word) => word.to_json(),
            Tokenizer::Character(character) => character.to_json(),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(bpe) => bpe.to_json().to_string(),
        }
    }

    /// Reads what [`to_json`](Tokenizer::to_json) wrote, or any byte-level BPE `tokenizer.json`. `origin` names the file in errors.
    pub fn from_json(json: &str, origin: &str) -> Result<Tokenizer> {
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|e| Error::file(origin, format!("is not whole JSON: {}", brief(e))))?;
        match value.get("type").and_then(|tag| tag.as_str()) {
            Some(Word::TYPE) => Ok(Tokenizer::Word(Arc::new(Word::from_json(value, origin)?))),
            Some(Character::TYPE) => Ok(Tokenizer::Character(Arc::new(Character::from_json(value, origin)?))),
            Some(tag) => {
                Err(Error::file(origin, format!("has type `{}`, this version reads `wgpt-word`, `wgpt-character` and BPE", excerpt(tag))))
            }
            #[cfg(feature = "bpe")]
            None if value.get("model").is_some() => Ok(Tokenizer::Bpe(Arc::new(super::bpe::Bpe::from_json(json, value, origin)?))),
            #[cfg(not(feature = "bpe"))]
            None if value.get("model").is_some() => Err(Error::file(origin, no_bpe())),
            None => Err(Error::file(origin, "has neither `type` nor `model`: it is no tokenizer.json")),
        }
    }
}

#[cfg(not(feature = "bpe"))]
fn no_bpe() -> Error {
    Error::usage("a BPE tokenizer needs a build with the feature `bpe`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_damage_is_named() {
        for kind in ["word", "character"] {
            let config = TokenizerConfig { kind: kind.into(), lower_case: true, ..TokenizerConfig::default() };
            let t = Tokenizer::train(&config, "To be, or not to be: that is the question.").unwrap();
            let json = t.to_json();
            let again = Tokenizer::from_json(&json, "run/tokenizer.json").unwrap();
            assert_eq!((again.kind(), again.vocab_size(), again.to_json()), (kind, t.vocab_size(), json.clone()));
            for cut in [1, json.len() / 2, json.len() - 1] {
                let e = Tokenizer::from_json(&json[..cut], "run/tokenizer.json").unwrap_err().to_string();
                assert!(e.starts_with("run/tokenizer.json: is not whole JSON: "), "{e}");
            }
            let e = Tokenizer::from_json(&json.replace("<UNK>", "<unk>"), "t.json").unwrap_err().to_string();
            assert_eq!(e, "t.json: the last token is `<unk>`, it must be `<UNK>`");
        }
        for (json, part) in [
            (r#"{"type":"wgpt-word","punctuation":false,"lower_case":false,"tokens":["a","a","<UNK>"]}"#, "`a` has two ids, 0 and 1"),
            (r#"{"type":"wgpt-word","punctuation":false,"lower_case":false,"tokens":[]}"#, "the last token is `nothing`"),
            (r#"{"type":"wgpt-word","punctuation":false,"tokens":[]}"#, "missing field `lower_case`"),
            (r#"{"type":"wgpt-character","lower_case":false,"tokens":["ab","<UNK>"]}"#, "token `ab` found"),
            (r#"{"type":"wgpt-character","lower_case":false,"tokens":[]}"#, "the last token is `nothing`"),
            (r#"{"type":"other"}"#, "has type `other`"),
            ("[1]", "it is no tokenizer.json"),
        ] {
            let e = Tokenizer::from_json(json, "t.json").unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
    }

    #[test]
    fn white_space_between_words_counts_once() {
        let train = |kind: &str| Tokenizer::train(&TokenizerConfig { kind: kind.into(), ..TokenizerConfig::default() }, "a bc").unwrap();
        for text in ["ab cd, ef", " ab     cd,\n\n\tef \n"] {
            assert_eq!(train("word").characters(text), 9);
            assert_eq!(train("character").characters(text) as usize, text.len());
        }
        assert_eq!(train("word").characters(" \n"), 0);
        assert_eq!((train("word").unknown(), train("character").unknown()), (Some(2), Some(4)));
    }

    #[test]
    fn settings_are_checked() {
        let base = TokenizerConfig::default();
        for (config, part) in [
            (TokenizerConfig { kind: "words".into(), ..base.clone() }, "tokenizer.kind is `words`"),
            (TokenizerConfig { punctuation: true, ..base.clone() }, "tokenizer.punctuation is true"),
            (TokenizerConfig { path: "x".into(), lower_case: true, ..base.clone() }, "tokenizer.path loads a tokenizer"),
            (TokenizerConfig { path: "x".into(), kind: "word".into(), punctuation: true, ..base.clone() }, "punctuation and lower_case"),
            (TokenizerConfig { max_vocab: 1, ..base.clone() }, "tokenizer.max_vocab is 1"),
            (TokenizerConfig { kind: "bpe".into(), max_vocab: 256, ..base.clone() }, "tokenizer.max_vocab is 256"),
            (TokenizerConfig { kind: "bpe".into(), max_vocab: 300, path: "x".into(), ..base.clone() }, "must be 0"),
        ] {
            let e = config.validate().unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
            assert!(Tokenizer::train(&config, "a b").is_err());
        }
        base.validate().unwrap();
        TokenizerConfig { kind: AUTO.into(), path: "x".into(), ..base.clone() }.validate().unwrap();
        TokenizerConfig { kind: AUTO.into(), punctuation: true, ..base }.validate().unwrap();
        assert!(serde_json::from_str::<TokenizerConfig>(r#"{"kid": "word"}"#).is_err());
    }
}
