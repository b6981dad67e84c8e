//! Byte-level BPE (Sennrich, Haddow, Birch 2016; Radford et al. 2019) through the crate `tokenizers`.
//!
//! The crate encodes. Decoding is done here, from a table of each token's bytes, so that a stream can hold back incomplete characters.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::pieces::{PIECE, pieces};
use super::vocabulary::id_out_of_range;
use crate::error::{Error, Result, brief, excerpt};

/// A byte-level BPE tokenizer in the Hugging Face format.
#[derive(Clone)]
pub struct Bpe {
    tokenizer: tokenizers::Tokenizer,
    json: String,
    /// The bytes of each token by id; `None` for ids that the file does not assign. (V)
    bytes: Vec<Option<Box<[u8]>>>,
    /// Bytes without a token; the crate would drop them silently.
    missing: Vec<u8>,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

/// The parts of a Hugging Face `tokenizer.json` that are checked here before the crate sees them.
#[derive(Deserialize)]
struct BpeModel {
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A merge rule; older files write "a b", newer ones ["a", "b"].
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

/// A larger id counts as a damaged file: the largest vocabularies have about 2^18 tokens.
const MAX_ID: u32 = (1 << 22) - 1;

impl Bpe {
    /// Reads a `tokenizer.json`; `value` is `json` parsed. `Err`: not byte-level BPE, or merges and vocabulary that do not fit.
    pub(crate) fn from_json(json: &str, mut value: Value, origin: &str) -> Result<Bpe> {
        let wrong = |problem: String| Error::file(origin, problem);
        if !mentions_byte_level(&value["decoder"]) {
            let found = value["decoder"]["type"].as_str().unwrap_or("none").to_string();
            return Err(wrong(format!("has the decoder `{}`, only byte-level BPE (`ByteLevel`) is read", excerpt(&found))));
        }
        let kind = value["model"]["type"].as_str().unwrap_or("BPE").to_string();
        if kind != "BPE" {
            return Err(wrong(format!("has a model of type `{}`, only `BPE` is read", excerpt(&kind))));
        }
        let model: BpeModel =
            serde_json::from_value(value["model"].take()).map_err(|e| wrong(format!("has a wrong `model`: {}", brief(e))))?;
        model.check().map_err(wrong)?;
        let mut tokenizer: tokenizers::Tokenizer = json.parse().map_err(|e| wrong(format!("cannot be used: {}", brief(e))))?;
        // Settings for sentence pairs and batches, which would truncate or pad the text here.
        tokenizer.with_truncation(None).map_err(|e| wrong(e.to_string()))?;
        tokenizer.with_padding(None);
        for added in value["added_tokens"].as_array().into_iter().flatten() {
            let (token, id) = (added["content"].as_str().unwrap_or_default(), added["id"].as_u64());
            let got = tokenizer.token_to_id(token).map(u64::from);
            if got != id {
                let [got, id] = [got, id].map(|id| id.map_or("none".to_string(), |id| id.to_string()));
                return Err(wrong(format!("gives the added token `{}` the id {id}, its place in the vocabulary is {got}", excerpt(token))));
            }
        }
        let bytes = token_table(&tokenizer).map_err(wrong)?;
        let mut missing: Vec<u8> = (0..=255).collect();
        bytes.iter().flatten().for_each(|token| missing.retain(|byte| **token != [*byte]));
        Ok(Bpe { tokenizer, json: json.to_string(), bytes, missing })
    }

    /// Appends the ids of `text` to `ids`. Special tokens that the text spells out, such as `<|endoftext|>`, become one id.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if !self.missing.is_empty()
            && let Some(byte) = text.bytes().find(|byte| self.missing.contains(byte))
        {
            return Err(Error::usage(format!("the text has a byte 0x{byte:02X}, for which this BPE tokenizer has no token")));
        }
        let failed = |e: tokenizers::Error| Error::usage(format!("the BPE tokenizer failed: {e}"));
        // The crate stores offsets for every character, many times the size of the text, so text is encoded in batches, in parallel on all
        // cores.
        let mut rest = pieces(text, PIECE / 16);
        loop {
            let batch: Vec<&str> = rest.by_ref().take(32).collect();
            if batch.is_empty() {
                return Ok(());
            }
            for encoding in self.tokenizer.encode_batch_fast(batch, false).map_err(failed)? {
                ids.extend_from_slice(encoding.get_ids());
            }
        }
    }

    /// The bytes of token `id`.
    pub(crate) fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        self.bytes.get(id as usize).and_then(Option::as_deref).ok_or_else(|| id_out_of_range(id, self.vocab_size()))
    }

    /// The id of a token by its text, special tokens included; `None` if there is none.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn to_json(&self) -> &str {
        &self.json
    }
}

impl BpeModel {
    /// Rejects settings that make the crate panic, encode wrongly without an error, or encode at random.
    fn check(&self) -> std::result::Result<(), String> {
        if let Some(dropout) = self.dropout.filter(|p| *p != 0.0) {
            return Err(format!("has a dropout of {dropout}, which makes encoding random: it must be null"));
        }
        for (key, affix) in
            [("continuing_subword_prefix", &self.continuing_subword_prefix), ("end_of_word_suffix", &self.end_of_word_suffix)]
        {
            if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
                return Err(format!("has the {key} `{affix}`, byte-level BPE has none"));
            }
        }
        let mut by_id: HashMap<u32, &str> = HashMap::with_capacity(self.vocab.len());
        for (token, id) in &self.vocab {
            if *id > MAX_ID {
                return Err(format!("gives `{token}` the id {id}, at most {MAX_ID} is read"));
            }
            if let Some(other) = by_id.insert(*id, token) {
                return Err(format!("gives the id {id} to `{token}` and to `{other}`"));
            }
        }
        for (number, merge) in self.merges.iter().enumerate() {
            let Some((a, b)) = merge.parts() else {
                return Err(format!("has merge {number} with no blank in it, two tokens are needed"));
            };
            if let Some(token) = [a, b, &format!("{a}{b}")].into_iter().find(|token| !self.vocab.contains_key(*token)) {
                return Err(format!("has merge {number} of `{a}` and `{b}`, but `{token}` is not in the vocabulary"));
            }
        }
        Ok(())
    }
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Line(line) => line.split_once(' '),
            Merge::Pair(a, b) => Some((a, b)),
        }
    }
}

/// Whether a decoder is `ByteLevel` or a sequence with one in it.
fn mentions_byte_level(decoder: &Value) -> bool {
    decoder["type"] == "ByteLevel" || decoder["decoders"].as_array().is_some_and(|all| all.iter().any(mentions_byte_level))
}

/// The bytes of every token by id. A special token is its own text; all others are written in GPT-2's alphabet, one character per byte.
fn token_table(tokenizer: &tokenizers::Tokenizer) -> std::result::Result<Vec<Option<Box<[u8]>>>, String> {
    let byte_of: HashMap<char, u8> = alphabet().zip(0..=255).collect();
    let added = tokenizer.get_added_tokens_decoder();
    let vocab = tokenizer.get_vocab(true);
    let largest = vocab.values().max().copied().ok_or("has no tokens")?;
    if largest > MAX_ID {
        return Err(format!("has a token with the id {largest}, at most {MAX_ID} is read"));
    }
    let mut table = vec![None; largest as usize + 1];
    for (token, id) in vocab {
        let spelled: Option<Vec<u8>> = token.chars().map(|c| byte_of.get(&c).copied()).collect();
        let bytes = spelled.filter(|_| !added.contains_key(&id)).unwrap_or_else(|| token.clone().into_bytes());
        table[id as usize] = Some(bytes.into_boxed_slice());
    }
    Ok(table)
}

/// GPT-2's character for each byte 0 ..= 255: the byte itself if printable, else the next from U+0100 on (`bytes_to_unicode` in its
/// encoder.py).
pub(crate) fn alphabet() -> impl Iterator<Item = char> {
    let mut next = 0x100..;
    (0..=255u32).filter_map(move |byte| {
        let prints = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        char::from_u32(if prints { byte } else { next.next()? })
    })
}
