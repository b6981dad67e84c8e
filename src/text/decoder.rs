//! Streaming decoding, for text that is shown while it is generated.

use super::tokenizer::Tokenizer;
use super::word::Joiner;
use crate::error::Result;

/// Decodes ids one at a time; the text that it has returned never changes.
#[derive(Debug, Clone)]
pub struct Decoder {
    tokenizer: Tokenizer,
    joiner: Joiner,
    /// The first bytes of an incomplete UTF-8 character.
    bytes: Vec<u8>,
}

impl Tokenizer {
    /// The text of `ids`. `Err` on an id that the vocabulary does not have; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut decoder = self.decoder();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&decoder.push(id)?);
        }
        text.push_str(&decoder.finish());
        Ok(text)
    }

    /// A streaming decoder. It shares the vocabulary of this tokenizer without borrowing it, so both fit in one struct.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.clone())
    }
}

impl Decoder {
    fn new(tokenizer: Tokenizer) -> Decoder {
        let joiner = match &tokenizer {
            Tokenizer::Word(word) => word.joiner(),
            _ => Joiner::default(),
        };
        Decoder { tokenizer, joiner, bytes: Vec::new() }
    }

    /// Decodes one id and returns all complete characters; empty while one is incomplete. An id out of range is an `Err` and changes
    /// nothing.
    pub fn push(&mut self, id: u32) -> Result<String> {
        match &self.tokenizer {
            Tokenizer::Word(word) => Ok(self.joiner.push(word.vocabulary().token(id)?)),
            Tokenizer::Character(character) => character.vocabulary().token(id).map(str::to_string),
            #[cfg(feature = "bpe")]
            Tokenizer::Bpe(bpe) => {
                self.bytes.extend_from_slice(bpe.token_bytes(id)?);
                Ok(take_utf8(&mut self.bytes))
            }
        }
    }

    /// The rest of the text after the last id: an incomplete character becomes U+FFFD.
    pub fn finish(mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Removes all complete characters from the front of `bytes`; invalid bytes become U+FFFD as in `String::from_utf8_lossy`.
#[cfg(any(feature = "bpe", test))]
fn take_utf8(bytes: &mut Vec<u8>) -> String {
    let mut held = 0;
    if let Some(last) = bytes.utf8_chunks().last() {
        // Only an incomplete tail is held back: `error_len` of `from_utf8` distinguishes it from an invalid byte.
        let tail = last.invalid();
        if std::str::from_utf8(tail).is_err_and(|e| e.error_len().is_none()) {
            held = tail.len();
        }
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len() - held]).into_owned();
    bytes.drain(..bytes.len() - held);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TokenizerConfig;

    /// An application's speaking character, which owns both.
    struct Speaker {
        decoder: Decoder,
        tokenizer: Tokenizer,
    }

    #[test]
    fn a_decoder_is_kept_beside_its_tokenizer_and_after_it() {
        let config = TokenizerConfig { kind: "word".into(), ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, "so it goes").unwrap();
        let mut speaker = Speaker { decoder: tokenizer.decoder(), tokenizer };
        assert_eq!(speaker.decoder.push(0).unwrap() + &speaker.decoder.push(1).unwrap(), "so it");
        assert!(speaker.decoder.push(4).is_err());
        let Speaker { mut decoder, tokenizer } = speaker;
        drop(tokenizer);
        assert_eq!(std::thread::spawn(move || decoder.push(2).unwrap()).join().unwrap(), " goes");
    }

    #[test]
    fn utf8_is_held_back_until_whole_and_equals_lossy() {
        let mut state = 3u64;
        for _ in 0..2000 {
            // A mix of complete characters and random bytes, so that valid, truncated and invalid sequences all occur.
            let mut bytes = Vec::new();
            for _ in 0..8 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let r = (state >> 40) as usize;
                if r.is_multiple_of(3) {
                    bytes.push((r >> 4) as u8)
                } else {
                    bytes.extend_from_slice(["a", "é", "世", "🦀"][(r >> 4) % 4].as_bytes())
                }
            }
            let (mut pending, mut text) = (Vec::new(), String::new());
            for &byte in &bytes {
                pending.push(byte);
                text.push_str(&take_utf8(&mut pending));
                assert!(pending.len() < 4);
            }
            text.push_str(&String::from_utf8_lossy(&pending));
            assert_eq!(text, String::from_utf8_lossy(&bytes), "{bytes:?}");
        }
    }
}
