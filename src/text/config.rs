//! `[tokenizer]` of a run's TOML: how to train or load a tokenizer.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, excerpt};

/// The kind that selects a tokenizer by the text; the config of a run stores the selected kind instead.
pub const AUTO: &str = "auto";

/// How to train a tokenizer on a text, or where to load one from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// `word`, `character`, `bpe`, or `auto`: selected by the text (or by the file at `path`).
    pub kind: String,
    /// Word only (`auto` ignores it): punctuation marks are tokens of their own.
    pub punctuation: bool,
    /// Lower-case the text before anything else.
    pub lower_case: bool,
    /// Largest vocabulary, `<UNK>` included; 0 is no limit. For `bpe`, the requested size.
    pub max_vocab: usize,
    /// Words and characters that occur less often get no token; for `bpe`, such pairs are not merged. 0 and 1 keep everything.
    pub min_count: usize,
    /// A `tokenizer.json` of any kind, an `encoder.json` with `vocab.bpe` beside it, or their folder, to load instead of training.
    pub path: String,
}

/// The largest BPE vocabulary that can be requested, and the largest of any model: the trainer allocates memory for all of it at once.
const MAX_BPE: usize = 1 << 24;

impl Default for TokenizerConfig {
    /// Characters without limits: the one kind that needs no settings and loses nothing of the text.
    fn default() -> Self {
        TokenizerConfig {
            kind: "character".to_string(),
            punctuation: false,
            lower_case: false,
            max_vocab: 0,
            min_count: 0,
            path: String::new(),
        }
    }
}

impl TokenizerConfig {
    /// `Err` names the key, the value found and the value needed.
    pub fn validate(&self) -> Result<()> {
        let usage = |message: String| Err(Error::usage(message));
        let kind = excerpt(&self.kind);
        if ![AUTO, "word", "character", "bpe"].contains(&self.kind.as_str()) {
            return usage(format!("tokenizer.kind is `{kind}`, it must be `{AUTO}`, `word`, `character` or `bpe`"));
        }
        if !self.path.is_empty() {
            let made = TokenizerConfig { kind: self.kind.clone(), path: self.path.clone(), ..TokenizerConfig::default() };
            if *self != made {
                let found = "tokenizer.path loads a tokenizer";
                return usage(format!("{found}: with it, max_vocab and min_count must be 0, punctuation and lower_case must be false"));
            }
            return Ok(());
        }
        if self.punctuation && !["word", AUTO].contains(&kind.as_ref()) {
            return usage(format!("tokenizer.punctuation is true, which only kind `word` supports; tokenizer.kind is `{kind}`"));
        }
        if kind == "bpe" && self.max_vocab < 257 {
            let found = self.max_vocab;
            return usage(format!(
                "tokenizer.max_vocab is {found}, kind `bpe` needs at least 257 (256 bytes and <|endoftext|>), or a tokenizer.path"
            ));
        }
        if kind == "bpe" && self.max_vocab > MAX_BPE {
            return usage(format!("tokenizer.max_vocab is {}, kind `bpe` takes at most {MAX_BPE}", self.max_vocab));
        }
        if kind != "bpe" && self.max_vocab == 1 {
            return usage("tokenizer.max_vocab is 1, it must be 0 (no limit) or at least 2, as <UNK> takes one".to_string());
        }
        Ok(())
    }
}
