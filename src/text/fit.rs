//! Selects a tokenizer that fits a text, for the kind `auto`: byte-level BPE where words repeat, else characters.
//!
//! Neither encodes any of the text as `<UNK>`: the characters are those of the whole text, and BPE falls back to bytes. Words as tokens
//! must be requested.
//!
//! Measured with the default model and its 800 steps on Shakespeare, in bits per character: characters 3.19, BPE of 512 tokens 2.78, of
//! 1,024 tokens 2.64, of 2,048 tokens 2.59 in three times the time.

use std::collections::HashSet;

use super::config::TokenizerConfig;

/// Settings that fit a text.
pub(crate) struct Fit {
    /// Its kind is no longer `auto`.
    pub config: TokenizerConfig,
    /// The reason, as a clause to follow "as".
    pub why: String,
}

/// Tokens of a BPE if the settings give no size.
const BPE_SIZE: usize = 1024;
/// If words occur less often than this on average, merges learned from the beginning of a text help little at its end.
const REPEATS: f64 = 3.0;
/// A character that occurs less often than this on average is hardly learned; its bytes are shared with others.
const RARE: usize = 20;
/// A vocabulary of more characters makes the head the largest part of a small model.
const MANY: usize = 8192;
/// Bytes of text in which words are counted.
const SAMPLE: usize = 4 << 20;

/// Replaces the kind `auto` by settings for `text`; keeps the other keys of `config`, except `punctuation`.
pub(crate) fn fit(config: &TokenizerConfig, text: &str) -> Fit {
    let (total, distinct) = characters(text);
    let repeats = repeats(text);
    // `punctuation` applies to words only, which are never selected.
    let config = &TokenizerConfig { punctuation: false, ..config.clone() };
    let bpe = |why: String| {
        let size = if config.max_vocab == 0 { BPE_SIZE } else { config.max_vocab };
        // A pair that occurs once is no pattern.
        let merged = TokenizerConfig { kind: "bpe".into(), max_vocab: size, min_count: config.min_count.max(2), ..config.clone() };
        Fit { config: merged, why }
    };
    let fits = cfg!(feature = "bpe") && (config.max_vocab == 0 || config.max_vocab > 256);
    if fits && repeats >= REPEATS {
        return bpe(format!("its words occur {repeats:.1} times each"));
    }
    if fits && distinct > 256 && (total / distinct < RARE || distinct > MANY) {
        return bpe(format!("it has {distinct} distinct characters, too many for its {total}"));
    }
    if fits && config.max_vocab != 0 && distinct >= config.max_vocab {
        return bpe(format!("its {distinct} distinct characters do not fit tokenizer.max_vocab"));
    }
    let characters = TokenizerConfig { kind: "character".into(), ..config.clone() };
    let why = match repeats {
        _ if !fits => format!("it has {distinct} distinct characters"),
        _ if distinct <= 32 => format!("it has only {distinct} distinct characters"),
        _ if text.split_whitespace().nth(1).is_none() => "it has no white space between words".to_owned(),
        _ => format!("its words hardly repeat ({repeats:.1} times each)"),
    };
    Fit { config: characters, why }
}

/// How many characters a text has, and how many distinct ones.
fn characters(text: &str) -> (usize, usize) {
    let mut seen = vec![false; char::MAX as usize + 1];
    let mut total = 0;
    for c in text.chars() {
        seen[c as usize] = true;
        total += 1;
    }
    (total, seen.iter().filter(|seen| **seen).count())
}

/// How often a word occurs on average, counted in samples from all over a long text.
fn repeats(text: &str) -> f64 {
    let (mut words, mut distinct) = (0usize, HashSet::new());
    for word in samples(text).flat_map(str::split_whitespace) {
        words += 1;
        distinct.insert(word);
    }
    words as f64 / distinct.len().max(1) as f64
}

/// The whole text, or sixteen pieces of a long one with [`SAMPLE`] bytes in total.
fn samples(text: &str) -> impl Iterator<Item = &str> {
    let pieces = if text.len() > SAMPLE { 16 } else { 1 };
    (0..pieces).map(move |index| {
        let start = text.floor_char_boundary(text.len() / pieces * index);
        &text[start..text.floor_char_boundary(start + text.len().min(SAMPLE) / pieces)]
    })
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod kinds;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::AUTO;

    fn fitted(text: &str) -> (String, usize, String) {
        let auto = TokenizerConfig { kind: AUTO.into(), ..TokenizerConfig::default() };
        let Fit { config, why } = fit(&auto, text);
        config.validate().unwrap();
        (config.kind, config.max_vocab, why)
    }

    #[test]
    fn words_that_repeat_become_pieces_and_others_characters() {
        let words = ["sun", "moon", "star", "sea", "wind"];
        let prose: String = (0..400usize).map(|i| format!("the {} sees the {}.\n", words[i % 5], words[(i * i + 1) % 5])).collect();
        let bpe = if cfg!(feature = "bpe") { "bpe" } else { "character" };
        assert_eq!(fitted(&prose).0, bpe);
        assert_eq!(fitted(&prose.replace('\n', " ")).0, bpe, "one endless line");
        let list: String = (0..2000).map(|i| format!("w{}x{i}\n", words[i % 5])).collect();
        let (kind, max_vocab, why) = fitted(&list);
        assert_eq!((kind.as_str(), max_vocab), ("character", 0));
        assert!(cfg!(not(feature = "bpe")) || why.contains("distinct characters") || why.contains("hardly repeat"), "{why}");
        let dna: String = (0..5000usize).map(|i| ["A", "C", "G", "T"][i * i / 7 % 4]).collect();
        assert_eq!((fitted(&dna).0.as_str(), fitted("").0.as_str()), ("character", "character"));
        // 66 distinct characters (the squares modulo 600), each often: one token for each. 3,000 characters that occur once: bytes.
        let chinese = |distinct: u32, total: u32| (0..total).filter_map(|i| char::from_u32(0x4e00 + i * i % distinct)).collect::<String>();
        assert_eq!(fitted(&chinese(600, 60_000)).0, "character");
        let rare: String = (0..3000).filter_map(|i| char::from_u32(0x4e00 + i)).collect();
        assert_eq!(fitted(&rare).0, bpe);
    }

    #[test]
    fn the_other_settings_stay() {
        let auto = TokenizerConfig { kind: AUTO.into(), lower_case: true, max_vocab: 40, min_count: 3, ..TokenizerConfig::default() };
        let found = fit(&TokenizerConfig { punctuation: true, ..auto.clone() }, &"one two ".repeat(100)).config;
        assert_eq!(found, TokenizerConfig { kind: "character".into(), ..auto.clone() }, "40 tokens are too few for bytes");
        let found = fit(&TokenizerConfig { max_vocab: 300, ..auto.clone() }, &"one two ".repeat(100)).config;
        let kind = if cfg!(feature = "bpe") { "bpe" } else { "character" };
        assert_eq!(found, TokenizerConfig { kind: kind.into(), max_vocab: 300, ..auto });
    }

    #[test]
    fn a_long_text_is_sampled_all_over() {
        let long = "é word ".repeat(SAMPLE / 4);
        let parts: Vec<&str> = samples(&long).collect();
        assert!(parts.len() == 16 && parts.iter().map(|part| part.len()).sum::<usize>().abs_diff(SAMPLE) < 64);
        assert!(parts[15].as_ptr() as usize - long.as_ptr() as usize > long.len() / 16 * 15 - 4);
        assert_eq!(samples("short").collect::<Vec<_>>(), ["short"]);
        assert!(repeats(&long) > 1e5);
    }
}
