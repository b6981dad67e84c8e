//! Creates BPE tokenizers: trained on a text or on files, or read from GPT-2's own two files.

use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainerBuilder;
use tokenizers::{AddedToken, Tokenizer as Crate};

use super::bpe::{Bpe, alphabet};
use super::config::TokenizerConfig;
use super::pieces::{PIECE, pieces};
use crate::error::{Error, Result, brief};

/// The token that separates documents; it has id 0 in a tokenizer trained here.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Bytes of text passed to the trainer at a time: it stores offsets for every character.
const TRAIN_PIECE: usize = PIECE / 16;

/// A byte-level BPE of at most `config.max_vocab` tokens: fewer when the text has not enough pairs to merge.
pub(crate) fn train(config: &TokenizerConfig, text: &str) -> Result<Bpe> {
    train_pieces(config, pieces(text, TRAIN_PIECE))
}

/// A byte-level BPE of at most `size` tokens from text files, which may be larger than memory.
///
/// `Err`: no files, `size` below 257, or a file that [`read_text`](super::read_text) rejects.
#[cfg(feature = "files")]
pub fn train_bpe_files<P: AsRef<std::path::Path>>(paths: &[P], size: usize) -> Result<super::Tokenizer> {
    let config = TokenizerConfig { kind: "bpe".to_string(), max_vocab: size, ..TokenizerConfig::default() };
    config.validate()?;
    if paths.is_empty() {
        return Err(Error::usage("no files given, a BPE tokenizer is trained on at least one text"));
    }
    let mut paths = paths.iter().map(|path| path.as_ref().to_path_buf()).collect::<Vec<_>>().into_iter();
    let mut reader: Option<super::TextReader> = None;
    let mut next_piece = move || -> Result<Option<String>> {
        loop {
            if let Some(piece) = reader.as_mut().map_or(Ok(None), super::TextReader::next_piece)? {
                return Ok(Some(piece));
            }
            let Some(path) = paths.next() else { return Ok(None) };
            reader = Some(super::TextReader::open(path, TRAIN_PIECE)?);
        }
    };
    // The trainer's iterator yields text only: a read error ends it, and the caller gets that error instead of the result.
    let mut failure = None;
    let bpe = train_pieces(
        &config,
        std::iter::from_fn(|| {
            next_piece().unwrap_or_else(|e| {
                failure = Some(e);
                None
            })
        }),
    );
    match failure {
        Some(e) => Err(e),
        None => Ok(super::Tokenizer::Bpe(std::sync::Arc::new(bpe?))),
    }
}

fn train_pieces<S: AsRef<str> + Send>(config: &TokenizerConfig, text: impl Iterator<Item = S> + Send) -> Result<Bpe> {
    let failed = |e: &dyn std::fmt::Display| Error::usage(format!("training the BPE tokenizer failed: {e}"));
    let empty = hugging_face(Map::new(), Vec::new(), config.lower_case).to_string();
    let mut tokenizer: Crate = empty.parse().map_err(|e| failed(&e))?;
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(config.max_vocab)
        .min_frequency(config.min_count as u64)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(alphabet().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, text).map_err(|e| failed(&e))?;
    let mut value = serde_json::to_value(&tokenizer).map_err(|e| failed(&e))?;
    let merges = value["model"]["merges"].as_array().into_iter().flatten();
    let lines = merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default())).collect();
    let Value::Object(vocab) = value["model"]["vocab"].take() else { return Err(failed(&"no vocabulary came out")) };
    from_parts(vocab, lines, config.lower_case, "the trained tokenizer")
}

/// GPT-2's `encoder.json` and `vocab.bpe`, or the same two as `vocab.json` and `merges.txt`. `path` is the first of them or their folder.
#[cfg(feature = "files")]
pub(crate) fn open_gpt2(path: &std::path::Path) -> Result<Bpe> {
    const NAMES: [(&str, &str); 2] = [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")];
    let (folder, pair) = if path.is_dir() {
        (path, NAMES.into_iter().find(|(vocab, _)| path.join(vocab).exists()))
    } else {
        (path.parent().unwrap_or(std::path::Path::new("")), NAMES.into_iter().find(|(vocab, _)| path.ends_with(vocab)))
    };
    let Some((vocab, merges)) = pair else {
        return Err(Error::file(path, "holds neither tokenizer.json, nor encoder.json with vocab.bpe, nor vocab.json with merges.txt"));
    };
    let (vocab_path, merges_path) = (folder.join(vocab), folder.join(merges));
    let json = super::read_text(&vocab_path)?;
    let vocab: Map<String, Value> =
        serde_json::from_str(&json).map_err(|e| Error::file(&vocab_path, format!("is not a whole JSON map: {}", brief(e))))?;
    if let Some((token, id)) = vocab.iter().find(|(_, id)| !id.is_u64()) {
        return Err(Error::file(&vocab_path, format!("gives `{token}` the id {id}, a whole number is needed")));
    }
    let lines = read_merges(&super::read_text(&merges_path)?).map_err(|problem| Error::file(&merges_path, problem))?;
    // Each token longer than one byte comes from a merge; this also detects a file truncated between two lines.
    let special = |token: &str| token.starts_with("<|") && token.ends_with("|>");
    let needed = vocab.keys().filter(|token| token.chars().nth(1).is_some() && !special(token)).count();
    if lines.len() < needed {
        let found = lines.len();
        return Err(Error::file(
            &merges_path,
            format!("is cut short: {found} merges found, the {needed} long tokens of {} need one each", vocab_path.display()),
        ));
    }
    from_parts(vocab, lines, false, &merges_path.to_string_lossy())
}

/// The merges of a `vocab.bpe`, each "a b". `Err` names the line.
#[cfg(feature = "files")]
fn read_merges(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        let mut parts = line.split(' ').map(|part| !part.is_empty());
        if (parts.next(), parts.next(), parts.next()) != (Some(true), Some(true), None) {
            return Err(format!("has `{line}` in line {}, two tokens with a blank between are needed", number + 1));
        }
        merges.push(line.to_string());
    }
    Ok(merges)
}

fn from_parts(vocab: Map<String, Value>, merges: Vec<String>, lower_case: bool, origin: &str) -> Result<Bpe> {
    let value = hugging_face(vocab, merges, lower_case);
    let json = serde_json::to_string_pretty(&value).map_err(|e| Error::file(origin, e))?;
    Bpe::from_json(&json, value, origin)
}

/// A `tokenizer.json` for byte-level BPE as GPT-2 does it.
fn hugging_face(vocab: Map<String, Value>, merges: Vec<String>, lower_case: bool) -> Value {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let end = vocab.get(END_OF_TEXT).map(|id| {
        json!({"id": id, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": end.into_iter().collect::<Vec<Value>>(),
        "normalizer": lower_case.then(|| json!({"type": "Lowercase"})),
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}
