//! Decoding as ids arrive, for text that is shown while it is generated.

use super::tokenizer::Tokenizer;
use super::word::Joiner;
use crate::error::Result;

/// Turns ids into text one by one; what it has handed out never changes.
#[derive(Debug, Clone)]
pub struct Decoder {
    tokenizer: Tokenizer,
    joiner: Joiner,
    /// The beginning of a UTF-8 character whose other bytes have not come yet.
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

    /// A decoder that hands out text as ids arrive. It shares the vocabulary with this tokenizer, so it may be kept beside it.
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

    /// The text that may be shown now; empty while a character is incomplete. `Err` on an id out of range, which changes nothing.
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

    /// What is left when no more ids come: an unfinished character becomes U+FFFD.
    pub fn finish(mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Takes all whole characters off the front of `bytes`; wrong bytes become U+FFFD as in `String::from_utf8_lossy`.
#[cfg(any(feature = "bpe", test))]
fn take_utf8(bytes: &mut Vec<u8>) -> String {
    let mut held = 0;
    if let Some(last) = bytes.utf8_chunks().last() {
        // Only an unfinished tail is held back: `from_utf8` alone can tell it from a wrong byte, by `error_len`.
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

    /// What an application keeps of a character that speaks.
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
            // A mix of whole characters and random bytes, so that good, cut and wrong sequences all occur.
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
