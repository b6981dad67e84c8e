//! Words as tokens, as in the classic first lesson: split on white space, number the words by first appearance, `<UNK>` for the rest.

use serde::{Deserialize, Serialize};

use super::config::TokenizerConfig;
use super::vocabulary::{Counter, UNKNOWN, Vocabulary};
use crate::error::{Error, Result, brief};

/// White space, line ends included, only separates words: it is not a token, and decoding does not restore it.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    vocabulary: Vocabulary,
    punctuation: bool,
    lower_case: bool,
}

/// What `tokenizer.json` holds for a word tokenizer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WordJson {
    r#type: String,
    punctuation: bool,
    lower_case: bool,
    tokens: Vec<String>,
}

impl Word {
    pub(crate) const TYPE: &'static str = "wgpt-word";

    /// Numbers the words of `text` by first appearance, starting at 0; `<UNK>` comes last.
    pub(crate) fn train(config: &TokenizerConfig, text: &str) -> Result<Word> {
        let mut counter = Counter::default();
        let mut lowered = String::new();
        for word in split(text, config.punctuation) {
            counter.add(fold(word, config.lower_case, &mut lowered));
        }
        let mut tokens = counter.keep(config);
        if tokens.is_empty() {
            return Err(Error::usage(format!(
                "the training text ({} bytes) holds no word that occurs {} times: a word tokenizer needs at least one",
                text.len(),
                config.min_count.max(1)
            )));
        }
        tokens.push(UNKNOWN.to_string());
        let vocabulary = Vocabulary::new(tokens).map_err(Error::usage)?;
        Ok(Word { vocabulary, punctuation: config.punctuation, lower_case: config.lower_case })
    }

    /// Appends the ids of `text` to `ids` and calls `unknown` with each word that has none.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>, mut unknown: impl FnMut(&str)) {
        let mut lowered = String::new();
        for word in split(text, self.punctuation) {
            let id = self.vocabulary.id(fold(word, self.lower_case, &mut lowered));
            ids.push(id.unwrap_or_else(|| {
                unknown(word);
                self.vocabulary.unknown()
            }));
        }
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn joiner(&self) -> Joiner {
        Joiner { punctuation: self.punctuation, ..Joiner::default() }
    }

    pub(crate) fn to_json(&self) -> String {
        let saved = WordJson {
            r#type: Self::TYPE.to_string(),
            punctuation: self.punctuation,
            lower_case: self.lower_case,
            tokens: self.vocabulary.tokens().to_vec(),
        };
        serde_json::to_string_pretty(&saved).expect("a struct of strings and bools always becomes JSON")
    }

    pub(crate) fn from_json(value: serde_json::Value, origin: &str) -> Result<Word> {
        let saved: WordJson = serde_json::from_value(value).map_err(|e| Error::file(origin, brief(e)))?;
        let vocabulary = Vocabulary::new(saved.tokens).map_err(|problem| Error::file(origin, problem))?;
        Ok(Word { vocabulary, punctuation: saved.punctuation, lower_case: saved.lower_case })
    }
}

/// `word`, lower-cased into `buffer` if requested; `<UNK>` keeps its capitals so that decoded text encodes to the same ids.
fn fold<'a>(word: &'a str, lower_case: bool, buffer: &'a mut String) -> &'a str {
    if !lower_case || word == UNKNOWN {
        return word;
    }
    buffer.clear();
    buffer.extend(word.chars().flat_map(char::to_lowercase));
    buffer
}

/// The words of `text` in order; with `punctuation`, each mark is a word of its own.
fn split(text: &str, punctuation: bool) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(move |chunk| {
        let mut rest = chunk;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (word, after) = rest.split_at(if punctuation { word_len(rest) } else { rest.len() });
            rest = after;
            Some(word)
        })
    })
}

/// Bytes of the first word of `chunk`: a run of alphanumerics with inner apostrophes, or one mark, or `<UNK>`.
fn word_len(chunk: &str) -> usize {
    let mut end = 0;
    let mut chars = chunk.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        // An apostrophe is part of the word only between alphanumerics: `summer's`, but not `'tis` or `lords'`.
        let inner = is_apostrophe(c) && end > 0 && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if !c.is_alphanumeric() && !inner {
            break;
        }
        end = at + c.len_utf8();
    }
    if end > 0 {
        end
    } else if chunk.starts_with(UNKNOWN) {
        UNKNOWN.len()
    } else {
        chunk.chars().next().map_or(0, char::len_utf8)
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}')
}

/// Joins words one at a time: with a blank between words, except around punctuation tokens that are printed without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joiner {
    punctuation: bool,
    started: bool,
    glue_next: bool,
    in_quotes: bool,
}

impl Joiner {
    /// The text that `word` adds after everything pushed before.
    pub(crate) fn push(&mut self, word: &str) -> String {
        let mut glue_before = std::mem::replace(&mut self.glue_next, false) || !self.started;
        self.started = true;
        if self.punctuation {
            match word {
                "," | "." | ";" | ":" | "!" | "?" | "'" | "\u{2019}" | ")" | "]" | "}" | "\u{201d}" | "\u{2026}" | "%" => {
                    glue_before = true
                }
                "(" | "[" | "{" | "\u{201c}" | "\u{2018}" => self.glue_next = true,
                // Hyphens and dashes have no blanks around them in most English text: `well-known`, `no--never`.
                "-" | "\u{2010}" | "\u{2014}" => (glue_before, self.glue_next) = (true, true),
                "\"" => {
                    glue_before |= self.in_quotes;
                    self.in_quotes = !self.in_quotes;
                    self.glue_next = self.in_quotes;
                }
                _ => {}
            }
        }
        if glue_before { word.to_string() } else { format!(" {word}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokenizer;

    fn config(punctuation: bool) -> TokenizerConfig {
        TokenizerConfig { kind: "word".into(), punctuation, ..TokenizerConfig::default() }
    }

    #[test]
    fn the_classic_lesson() {
        let t = Tokenizer::train(&config(false), "hello world how are you\nhello you are here").unwrap();
        let tokens: Vec<String> = (0..t.vocab_size() as u32).map(|id| t.token(id).unwrap()).collect();
        assert_eq!(tokens, ["hello", "world", "how", "are", "you", "here", "<UNK>"]);
        assert_eq!(t.encode("how are\tyou  friend").unwrap(), [2, 3, 4, 6]);
        assert_eq!(t.decode(&[2, 3, 4, 6]).unwrap(), "how are you <UNK>");
        assert_eq!(t.encode("how are you <UNK>").unwrap(), [2, 3, 4, 6]);
        let (_, unknown) = t.encode_counting_unknown("my friend hello my friend").unwrap();
        assert_eq!(unknown, ["my", "friend"]);
        assert!(t.decode(&[7]).unwrap_err().to_string().contains("token id 7 found, this tokenizer's ids end at 6"));
    }

    #[test]
    fn limits_keep_the_most_frequent_in_order_of_appearance() {
        let c = TokenizerConfig { max_vocab: 4, ..config(false) };
        let t = Word::train(&c, "z a b b c c c a").unwrap();
        assert_eq!(t.vocabulary.tokens(), ["a", "b", "c", "<UNK>"]);
        let t = Word::train(&TokenizerConfig { max_vocab: 3, ..config(false) }, "z a b b c c c a").unwrap();
        assert_eq!(t.vocabulary.tokens(), ["a", "c", "<UNK>"], "a and b are tied, a came first");
        let t = Word::train(&TokenizerConfig { min_count: 3, ..config(false) }, "z a b b c c c a <UNK> <UNK> <UNK>").unwrap();
        assert_eq!(t.vocabulary.tokens(), ["c", "<UNK>"]);
        assert!(Word::train(&TokenizerConfig { min_count: 4, ..config(false) }, "a b").is_err());
        assert!(Word::train(&config(true), " \n ").is_err());
    }

    #[test]
    fn punctuation_and_case() {
        let words: Vec<&str> = split("'Tis summer's day; the lords' well-known \"o\u{2019}er\"\u{2014}<UNK>!", true).collect();
        let wanted = [
            "'",
            "Tis",
            "summer's",
            "day",
            ";",
            "the",
            "lords",
            "'",
            "well",
            "-",
            "known",
            "\"",
            "o\u{2019}er",
            "\"",
            "\u{2014}",
            "<UNK>",
            "!",
        ];
        assert_eq!(words, wanted);
        let t = Word::train(&TokenizerConfig { lower_case: true, ..config(true) }, "The the THE, \u{0130}x").unwrap();
        assert_eq!(t.vocabulary.tokens()[..2], ["the", ","]);
    }

    #[test]
    fn decoded_punctuation_reads_like_print_and_encodes_to_the_same_ids() {
        let text = "Well, he (my well-known \"friend\") said: <UNK> no--never!";
        let t = Tokenizer::train(&config(true), text).unwrap();
        let ids = t.encode(text).unwrap();
        assert_eq!(t.decode(&ids).unwrap(), text);
        // Any sequence of tokens, not only one that encoding produces.
        let mut state = 7u64;
        let ids: Vec<u32> = (0..4000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) % t.vocab_size() as u64) as u32
            })
            .collect();
        assert_eq!(t.encode(&t.decode(&ids).unwrap()).unwrap(), ids);
    }
}
