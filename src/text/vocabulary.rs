//! The table both simple tokenizers share: distinct tokens with ids in a fixed order, `<UNK>` last.

use std::collections::HashMap;

use super::config::TokenizerConfig;
use crate::error::{Error, Result};

/// The token for every word or character outside the vocabulary. It always has the last id.
pub const UNKNOWN: &str = "<UNK>";

/// Tokens by id and ids by token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// Ids are positions in `tokens`. `Err` describes the problem: a duplicate token, `<UNK>` not last, or nothing but `<UNK>`.
    pub(crate) fn new(tokens: Vec<String>) -> Result<Vocabulary, String> {
        if tokens.last().is_none_or(|last| last != UNKNOWN) {
            let last = tokens.last().map_or("nothing", String::as_str);
            return Err(format!("the last token is `{last}`, it must be `{UNKNOWN}`"));
        }
        if tokens.len() < 2 {
            return Err(format!("the vocabulary holds only `{UNKNOWN}`, at least one more token is needed"));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            let id = u32::try_from(id).map_err(|_| format!("{} tokens do not fit 32-bit ids", tokens.len()))?;
            if let Some(first) = ids.insert(token.clone(), id) {
                return Err(format!("token `{token}` has two ids, {first} and {id}"));
            }
        }
        Ok(Vocabulary { tokens, ids })
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The id of `<UNK>`, which is the last.
    pub(crate) fn unknown(&self) -> u32 {
        self.tokens.len() as u32 - 1
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(crate) fn token(&self, id: u32) -> Result<&str> {
        self.tokens.get(id as usize).map(String::as_str).ok_or_else(|| id_out_of_range(id, self.len()))
    }
}

/// The error for an id outside the vocabulary.
pub(crate) fn id_out_of_range(id: u32, vocab_size: usize) -> Error {
    Error::usage(format!("token id {id} found, this tokenizer's ids end at {}", vocab_size.saturating_sub(1)))
}

/// The count of each token, and the order of first appearance.
#[derive(Default)]
pub(crate) struct Counter {
    counts: HashMap<String, (usize, usize)>,
}

impl Counter {
    pub(crate) fn add(&mut self, token: &str) {
        if let Some((count, _)) = self.counts.get_mut(token) {
            *count += 1;
        } else if token != UNKNOWN {
            let order = self.counts.len();
            self.counts.insert(token.to_string(), (1, order));
        }
    }

    /// The tokens that `min_count` and `max_vocab` admit, in order of first appearance, without `<UNK>`.
    ///
    /// When there are too many, the most frequent stay; among equals, those that appeared first.
    pub(crate) fn keep(self, config: &TokenizerConfig) -> Vec<String> {
        let mut entries: Vec<(String, usize, usize)> = self
            .counts
            .into_iter()
            .filter(|(_, (count, _))| *count >= config.min_count)
            .map(|(t, (count, order))| (t, count, order))
            .collect();
        if config.max_vocab > 0 {
            entries.sort_unstable_by_key(|(_, count, order)| (std::cmp::Reverse(*count), *order));
            // One id is reserved for `<UNK>`.
            entries.truncate(config.max_vocab - 1);
        }
        entries.sort_unstable_by_key(|(_, _, order)| *order);
        entries.into_iter().map(|(token, _, _)| token).collect()
    }
}
