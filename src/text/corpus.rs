//! A text split into a training and a validation part, as token ids.

use serde::{Deserialize, Serialize};

use super::config::{AUTO, TokenizerConfig};
use super::fit::fit;
use super::store::TokenStore;
use super::tokenizer::Tokenizer;
use crate::error::{Advice, Error, Result};

/// Which text to train on, and how much of its end to keep for validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Text files, joined in this order, or `.tokens` files; empty selects the bundled Shakespeare text.
    pub files: Vec<String>,
    /// The fraction at the end of the text that is used for validation only: 0 (none) to below 1.
    pub val_fraction: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { files: Vec::new(), val_fraction: 0.1 }
    }
}

impl DataConfig {
    /// `Err` names the key, the value found and the value needed.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.val_fraction) {
            return Err(Error::usage(format!("data.val_fraction is {}, it must be at least 0 and below 1", self.val_fraction)));
        }
        if let Some(at) = self.files.iter().position(String::is_empty) {
            return Err(Error::usage(format!("data.files has an empty name at place {at}, a path is needed")));
        }
        Ok(())
    }
}

/// The two parts of a corpus.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// The tokens to train on: all those before the validation part.
    pub train: TokenStore,
    /// Empty when `val_fraction` is 0.
    pub val: TokenStore,
    /// Characters of the text in `val` ([`Tokenizer::characters`]); loss · tokens / characters / ln 2 is bits per character.
    pub val_characters: u64,
    /// The settings of the tokenizer, with `auto` replaced by the selected kind.
    pub tokenizer: TokenizerConfig,
    /// Why a kind was selected, if the settings said `auto`: a clause to follow "as".
    pub why: Option<String>,
    /// The texts or token files that the tokens were made from, in order.
    #[cfg(feature = "files")]
    pub sources: Vec<super::TextSource>,
    val_fraction: f64,
}

impl Corpus {
    /// Splits the joined `texts` and encodes both parts, with the `existing` tokenizer or one trained by the settings `config`.
    ///
    /// A text that does not end in white space is joined to the next by a line end. The training part is the first 1 − `val_fraction` of
    /// the characters; for words, a word on the border goes to validation as a whole. Characters are collected from the whole text (as
    /// nanoGPT does), words and BPE merges from the training part only. The kind `auto` examines the whole text and selects characters or a
    /// BPE, neither of which encodes any of it as `<UNK>`.
    pub fn build<S: AsRef<str>>(
        data: &DataConfig,
        texts: &[S],
        config: &TokenizerConfig,
        existing: Option<Tokenizer>,
    ) -> Result<(Tokenizer, Corpus)> {
        data.validate()?;
        let text = join(texts);
        let chosen = (existing.is_none() && config.kind == AUTO && config.path.is_empty()).then(|| fit(config, &text));
        let config = chosen.as_ref().map_or(config, |chosen| &chosen.config);
        let existing = match existing {
            None if !config.path.is_empty() => Some(Tokenizer::train(config, "")?),
            existing => existing,
        };
        let kind = existing.as_ref().map_or(config.kind.as_str(), |tokenizer| tokenizer.kind());
        let (train, val) = text.split_at(border(&text, data.val_fraction, kind == "word"));
        if train.is_empty() && !val.is_empty() {
            let fraction = data.val_fraction;
            return Err(Error::usage(format!(
                "data.val_fraction is {fraction}, which leaves none of the text to train on: make it smaller"
            )));
        }
        let tokenizer = match existing {
            Some(tokenizer) => tokenizer,
            None if kind == "character" => Tokenizer::train(config, &text)?,
            None => Tokenizer::train(config, train)?,
        };
        let encode = |part: &str| tokenizer.encode(part).map(TokenStore::from_ids);
        let corpus = Corpus {
            train: encode(train)?,
            val: encode(val)?,
            val_characters: tokenizer.characters(val),
            tokenizer: TokenizerConfig { kind: tokenizer.kind().into(), ..config.clone() },
            why: chosen.map(|chosen| chosen.why),
            #[cfg(feature = "files")]
            sources: texts.iter().map(|text| super::TextSource::of_text(text.as_ref())).collect(),
            val_fraction: data.val_fraction,
        };
        Ok((tokenizer, corpus))
    }

    /// Like [`build`](Corpus::build), from `data.files`. `.tokens` files are memory-mapped and split by tokens; their tokenizer must be
    /// `existing` or come from `config.path`, and its vocabulary must have the size the files state.
    #[cfg(feature = "files")]
    pub fn open(data: &DataConfig, config: &TokenizerConfig, existing: Option<Tokenizer>) -> Result<(Tokenizer, Corpus)> {
        data.validate()?;
        if data.files.is_empty() {
            return Err(Error::usage("data.files is empty, at least one text or .tokens file is needed here"));
        }
        let is_tokens = |file: &&String| file.ends_with(".tokens");
        let Some(tokens) = data.files.iter().find(is_tokens) else {
            let texts = data.files.iter().map(super::reader::read_text).collect::<Result<Vec<String>>>()?;
            let (tokenizer, mut corpus) = Corpus::build(data, &texts, config, existing)?;
            for (source, file) in corpus.sources.iter_mut().zip(&data.files) {
                source.file = super::absolute(file);
            }
            return Ok((tokenizer, corpus));
        };
        if let Some(text) = data.files.iter().find(|file| !is_tokens(file)) {
            return Err(Error::usage(format!("data.files mixes `{tokens}` and `{text}`, it must be all .tokens files or all texts")));
        }
        let tokenizer = match existing {
            Some(tokenizer) => tokenizer,
            None if config.path.is_empty() => {
                return Err(Error::file(tokens, "holds token ids, not text: ").advised(Advice::NameTokenizer));
            }
            None => Tokenizer::train(config, "")?,
        };
        let corpus = Corpus::map(data, config, &tokenizer)?;
        Ok((tokenizer, corpus))
    }

    #[cfg(feature = "files")]
    fn map(data: &DataConfig, config: &TokenizerConfig, tokenizer: &Tokenizer) -> Result<Corpus> {
        let (mut store, mut sources) = (TokenStore::default(), vec![]);
        for file in &data.files {
            let next = TokenStore::open(file)?;
            if next.vocab_size() != Some(tokenizer.vocab_size()) {
                let (found, wanted) = (next.vocab_size().unwrap_or(0), tokenizer.vocab_size());
                return Err(Error::file(file, format!("was made by a tokenizer of {found} tokens, this one has {wanted}")));
            }
            store = store.followed_by(next);
            let (bytes, hash) = crate::files::Hash::of_file(std::path::Path::new(file))?;
            sources.push(super::TextSource { file: super::absolute(file), bytes, hash });
        }
        let border = first_part(store.len(), data.val_fraction);
        let (train, val) = (store.slice(0..border)?, store.slice(border..store.len())?);
        let val_characters = decoded_characters(&val, tokenizer)?;
        let config = TokenizerConfig { kind: tokenizer.kind().into(), ..config.clone() };
        Ok(Corpus { train, val, val_characters, tokenizer: config, why: None, sources, val_fraction: data.val_fraction })
    }

    /// The fractions of training and validation tokens that are `<UNK>`, each 0 to 1.
    pub fn unknown_shares(&self, tokenizer: &Tokenizer) -> Result<[f64; 2]> {
        let Some(unknown) = tokenizer.unknown() else { return Ok([0.0; 2]) };
        let share = |part: &TokenStore| Ok(part.occurrences(unknown)? as f64 / part.len().max(1) as f64);
        Ok([share(&self.train)?, share(&self.val)?])
    }

    /// `Err` with the counts if a part is shorter than one window of `seq_len` + 1 tokens; validation may be empty if `val_fraction` is 0.
    pub fn check_windows(&self, seq_len: usize) -> Result<()> {
        let needed = seq_len.saturating_add(1);
        for (name, part) in [("training", &self.train), ("validation", &self.val)] {
            if part.len() >= needed || (name == "validation" && self.val_fraction == 0.0) {
                continue;
            }
            let (train, val, fraction) = (self.train.len(), self.val.len(), self.val_fraction);
            return Err(Error::usage(format!(
                "the {name} part has {} tokens, seq_len {seq_len} needs at least {needed} \
                 (training {train}, validation {val}, data.val_fraction {fraction}): ",
                part.len()
            ))
            .advised(self.longer_text(needed)));
        }
        Ok(())
    }

    /// What allows training on a text too short for windows of `needed` tokens.
    fn longer_text(&self, needed: usize) -> Advice {
        let (train, val) = (self.train.len(), self.val.len());
        let shortest = if self.val_fraction == 0.0 { train } else { train.min(val) };
        let seq_len = (shortest >= 2).then(|| shortest - 1);
        Advice::MoreText { seq_len, unvalidated: self.val_fraction > 0.0 && train >= needed }
    }
}

/// The number of characters in the tokens of a store, for corpora that have no text to count in.
#[cfg(feature = "files")]
fn decoded_characters(store: &TokenStore, tokenizer: &Tokenizer) -> Result<u64> {
    let (mut decoder, mut characters) = (tokenizer.decoder(), 0);
    store.for_each_block(|ids| {
        for &id in ids {
            characters += decoder.push(id)?.chars().count() as u64;
        }
        Ok(())
    })?;
    Ok(characters + decoder.finish().chars().count() as u64)
}

/// Joins all texts; a line end separates the last word of one from the first word of the next.
fn join<S: AsRef<str>>(texts: &[S]) -> String {
    let mut all = String::with_capacity(texts.iter().map(|text| text.as_ref().len() + 1).sum());
    for text in texts {
        if !all.is_empty() && !all.ends_with(char::is_whitespace) {
            all.push('\n');
        }
        all.push_str(text.as_ref());
    }
    all
}

/// How many of `n` belong to the training part, rounded down as nanoGPT does.
fn first_part(n: usize, val_fraction: f64) -> usize {
    if val_fraction == 0.0 { n } else { ((n as f64 * (1.0 - val_fraction)) as usize).min(n) }
}

/// The byte index where validation begins; with `whole_words`, moved back to the start of a word that it would cut.
fn border(text: &str, val_fraction: f64, whole_words: bool) -> usize {
    let characters = first_part(text.chars().count(), val_fraction);
    let at = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    let (before, after) = text.split_at(at);
    if !whole_words || before.ends_with(char::is_whitespace) || !after.starts_with(|c: char| !c.is_whitespace()) {
        return at;
    }
    // A text of a single word is cut inside that word: moving the border would leave an empty training part.
    before.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(at, |(at, c)| at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: &str) -> TokenizerConfig {
        TokenizerConfig { kind: kind.into(), ..TokenizerConfig::default() }
    }

    #[test]
    fn the_split_is_by_characters_of_the_joined_text() {
        assert_eq!(first_part(1_115_394, 0.1), 1_003_854, "nanoGPT's Shakespeare");
        let data = DataConfig { val_fraction: 0.25, ..DataConfig::default() };
        let (t, corpus) = Corpus::build(&data, &["éab\n", "cd", "世x"], &kind("character"), None).unwrap();
        assert_eq!((corpus.train.len(), corpus.val.len(), corpus.val_characters), (6, 3, 3));
        let mut ids = Vec::new();
        corpus.val.window(0, 3, &mut ids).unwrap();
        assert_eq!(t.decode(&ids).unwrap(), "\n世x", "the vocabulary is of the whole text");
        assert_eq!(t.vocab_size(), 9);
    }

    #[test]
    fn words_come_from_the_training_part_and_are_never_cut() {
        let data = DataConfig { val_fraction: 0.3, ..DataConfig::default() };
        let (t, corpus) = Corpus::build(&data, &["one two three four five sixty"], &kind("word"), None).unwrap();
        let mut ids = Vec::new();
        corpus.train.window(0, corpus.train.len(), &mut ids).unwrap();
        assert_eq!(t.decode(&ids).unwrap(), "one two three four");
        corpus.val.window(0, 2, &mut ids).unwrap();
        assert_eq!(ids, [4, 4]);
        assert_eq!(corpus.val_characters, "five sixty".len() as u64);
        assert_eq!(border("onlyone", 0.5, true), 3);
        for whole in [false, true] {
            assert_eq!(border("ab cd", 0.0, whole), 5);
            assert_eq!(border("", 0.5, whole), 0);
        }
        let again = Corpus::build(&data, &["one sixty"], &kind("character"), Some(t)).unwrap();
        assert_eq!((again.0.kind(), again.1.train.len()), ("word", 1));
    }

    #[test]
    fn parts_shorter_than_a_window_are_refused_with_numbers() {
        let (_, corpus) = Corpus::build(&DataConfig::default(), &["x".repeat(100)], &kind("character"), None).unwrap();
        corpus.check_windows(9).unwrap();
        let e = corpus.check_windows(10).unwrap_err().to_string();
        assert!(e.starts_with("the validation part has 10 tokens, seq_len 10 needs at least 11 (training 90, validation 10,"), "{e}");
        assert!(e.ends_with("use more text, or set model.seq_len=9, or set data.val_fraction=0 to train without validation"), "{e}");
        assert!(corpus.check_windows(90).unwrap_err().to_string().ends_with("use more text, or set model.seq_len=9"));
        assert!(corpus.check_windows(90).unwrap_err().to_string().starts_with("the training part has 90 tokens"));
        let data = DataConfig { val_fraction: 0.0, ..DataConfig::default() };
        let (_, corpus) = Corpus::build(&data, &["x".repeat(100)], &kind("character"), None).unwrap();
        assert!(corpus.val.is_empty());
        corpus.check_windows(99).unwrap();
        assert!(corpus.check_windows(100).unwrap_err().to_string().ends_with("use more text, or set model.seq_len=99"));
        for val_fraction in [-0.1, 1.0, f64::NAN] {
            let data = DataConfig { val_fraction, ..DataConfig::default() };
            assert!(data.validate().unwrap_err().to_string().starts_with("data.val_fraction is "));
            assert!(Corpus::build(&data, &["abc"], &kind("character"), None).is_err());
        }
    }

    #[test]
    fn what_becomes_unknown_is_counted_for_each_part() {
        let data = DataConfig { val_fraction: 0.5, ..DataConfig::default() };
        let limited = TokenizerConfig { max_vocab: 2, ..kind("word") };
        let (t, corpus) = Corpus::build(&data, &["a a a b\nc a c c"], &limited, None).unwrap();
        assert_eq!(corpus.unknown_shares(&t).unwrap(), [0.25, 0.75]);
        let (t, corpus) = Corpus::build(&data, &["ab ab ab cd"], &kind(AUTO), None).unwrap();
        assert_eq!(corpus.unknown_shares(&t).unwrap(), [0.0, 0.0]);
        assert_eq!((corpus.tokenizer.kind.as_str(), t.kind()), ("character", "character"));
        assert!(corpus.why.is_some_and(|why| !why.is_empty()));
        let (_, corpus) = Corpus::build(&data, &["ab cd"], &kind(AUTO), Some(t)).unwrap();
        assert_eq!((corpus.tokenizer.kind.as_str(), corpus.why), ("character", None));
    }

    #[test]
    #[cfg(feature = "files")]
    fn token_files_are_mapped_and_checked() {
        use super::super::TextSource;
        let folder = tempfile::tempdir().unwrap();
        let name = |file: &str| folder.path().join(file).to_string_lossy().into_owned();
        let text = "some words, and some more words é\n".repeat(40);
        std::fs::write(name("a.txt"), &text).unwrap();
        let data = |files: &[&str]| DataConfig { files: files.iter().map(|f| name(f)).collect(), val_fraction: 0.1 };
        let (t, from_text) = Corpus::open(&data(&["a.txt"]), &kind("character"), None).unwrap();
        super::super::encode_file_to_tokens(&t, name("a.txt"), name("a.tokens")).unwrap();
        let (_, mapped) = Corpus::open(&data(&["a.tokens"]), &kind("character"), Some(t.clone())).unwrap();
        assert_eq!((mapped.train.len(), mapped.val_characters), (from_text.train.len(), from_text.val_characters));
        assert_eq!(from_text.sources, [TextSource { file: name("a.txt"), ..TextSource::of_text(&text) }]);
        assert_eq!(mapped.sources[0].bytes, std::fs::metadata(name("a.tokens")).unwrap().len());
        // Both the kind of the file and `auto` load a tokenizer from its file.
        std::fs::write(name("t.json"), t.to_json()).unwrap();
        for kind in [AUTO, "character"] {
            let config = TokenizerConfig { kind: kind.into(), path: name("t.json"), ..TokenizerConfig::default() };
            for file in ["a.tokens", "a.txt"] {
                let (_, read) = Corpus::open(&data(&[file]), &config, None).unwrap();
                assert_eq!((read.tokenizer.kind.as_str(), read.train.len()), ("character", mapped.train.len()), "{file}");
            }
        }
        let (_, twice) = Corpus::open(&data(&["a.tokens", "a.tokens"]), &kind("character"), Some(t.clone())).unwrap();
        assert_eq!(twice.train.len() + twice.val.len(), 2 * text.chars().count());

        let problem = |files: &[&str], t: Option<Tokenizer>| Corpus::open(&data(files), &kind("character"), t).unwrap_err().to_string();
        assert!(problem(&["a.tokens"], None).contains("set tokenizer.path to the file"));
        assert!(problem(&["a.tokens", "a.txt"], Some(t)).contains("data.files mixes"));
        assert!(problem(&["no.txt"], None).contains("no.txt: no such file"));
        assert!(problem(&[], None).contains("data.files is empty"));
        let other = Tokenizer::train(&kind("character"), "abc").unwrap();
        assert!(problem(&["a.tokens"], Some(other)).contains("this one has 4"));
    }
}
