//! Characters as tokens: every distinct `char` of the text, sorted by code point (as in nanoGPT), `<UNK>` last.

use serde::{Deserialize, Serialize};

use super::config::TokenizerConfig;
use super::vocabulary::{Counter, UNKNOWN, Vocabulary};
use crate::error::{Error, Result, brief};

/// A character tokenizer. `<UNK>` exists so that a prompt with a foreign character still encodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Character {
    vocabulary: Vocabulary,
    lower_case: bool,
}

/// What `tokenizer.json` holds for a character tokenizer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CharacterJson {
    r#type: String,
    lower_case: bool,
    tokens: Vec<String>,
}

impl Character {
    pub(crate) const TYPE: &'static str = "wgpt-character";

    /// Every distinct character of `text`, sorted by code point; `<UNK>` comes last.
    pub(crate) fn train(config: &TokenizerConfig, text: &str) -> Result<Character> {
        let mut counter = Counter::default();
        let mut buffer = [0; 4];
        for c in chars(text, config.lower_case) {
            counter.add(c.encode_utf8(&mut buffer));
        }
        let mut tokens = counter.keep(config);
        if tokens.is_empty() {
            return Err(Error::usage(format!(
                "the training text ({} bytes) holds no character that occurs {} times: a character tokenizer needs at least one",
                text.len(),
                config.min_count.max(1)
            )));
        }
        // UTF-8 sorts like code points.
        tokens.sort_unstable();
        tokens.push(UNKNOWN.to_string());
        Ok(Character { vocabulary: Vocabulary::new(tokens).map_err(Error::usage)?, lower_case: config.lower_case })
    }

    /// Appends the ids of `text` to `ids` and calls `unknown` with each character that has none.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>, mut unknown: impl FnMut(&str)) {
        let mut buffer = [0; 4];
        ids.reserve(text.len());
        for c in chars(text, self.lower_case) {
            let character: &str = c.encode_utf8(&mut buffer);
            ids.push(self.vocabulary.id(character).unwrap_or_else(|| {
                unknown(character);
                self.vocabulary.unknown()
            }));
        }
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn to_json(&self) -> String {
        let tokens = self.vocabulary.tokens().to_vec();
        let saved = CharacterJson { r#type: Self::TYPE.to_string(), lower_case: self.lower_case, tokens };
        serde_json::to_string_pretty(&saved).expect("a struct of strings and bools always becomes JSON")
    }

    pub(crate) fn from_json(value: serde_json::Value, origin: &str) -> Result<Character> {
        let saved: CharacterJson = serde_json::from_value(value).map_err(|e| Error::file(origin, brief(e)))?;
        let (_, characters) = saved.tokens.split_last().unwrap_or((&String::new(), &[])).to_owned();
        if let Some(long) = characters.iter().find(|token| token.chars().count() != 1) {
            return Err(Error::file(origin, format!("token `{long}` found, every token but the last must be one character")));
        }
        let vocabulary = Vocabulary::new(saved.tokens).map_err(|problem| Error::file(origin, problem))?;
        Ok(Character { vocabulary, lower_case: saved.lower_case })
    }
}

/// The characters of `text`, lower-cased if requested (one capital may become two characters).
fn chars(text: &str, lower_case: bool) -> impl Iterator<Item = char> {
    text.chars().flat_map(move |c| {
        let lowered = lower_case.then(|| c.to_lowercase());
        let kept = (!lower_case).then_some(c);
        lowered.into_iter().flatten().chain(kept)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokenizer;

    fn config() -> TokenizerConfig {
        TokenizerConfig { kind: "character".into(), ..TokenizerConfig::default() }
    }

    #[test]
    fn sorted_by_code_point_with_unknown_last() {
        let t = Tokenizer::train(&config(), "hé\nllo 世🦀").unwrap();
        let tokens: Vec<String> = (0..t.vocab_size() as u32).map(|id| t.token(id).unwrap()).collect();
        assert_eq!(tokens, ["\n", " ", "h", "l", "o", "é", "世", "🦀", "<UNK>"]);
        let (ids, unknown) = t.encode_counting_unknown("hello\n").unwrap();
        assert_eq!(ids, [2, 8, 3, 3, 4, 0]);
        assert_eq!(unknown, ["e"]);
        assert!(t.decode(&[9]).is_err());
    }

    #[test]
    fn any_text_comes_back_whole() {
        let text = "Line one\r\n\tline 世 two\n\n🦀 e\u{301} end ";
        let t = Tokenizer::train(&config(), text).unwrap();
        assert_eq!(t.decode(&t.encode(text).unwrap()).unwrap(), text);
        let again = Tokenizer::from_json(&t.to_json(), "tokenizer.json").unwrap();
        assert_eq!(again.encode(text).unwrap(), t.encode(text).unwrap());
    }

    #[test]
    fn lower_case_and_limits() {
        let t = Character::train(&TokenizerConfig { lower_case: true, ..config() }, "AbaB").unwrap();
        assert_eq!(t.vocabulary.tokens(), ["a", "b", "<UNK>"]);
        let t = Character::train(&TokenizerConfig { max_vocab: 2, ..config() }, "abb").unwrap();
        assert_eq!(t.vocabulary.tokens(), ["b", "<UNK>"]);
        assert!(Character::train(&config(), "").is_err());
    }
}
