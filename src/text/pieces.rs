//! Cuts long texts into pieces that encode to the same ids as the whole, and checks that bytes are text.

use crate::error::{Error, Result};

/// How much text is encoded at a time, in bytes.
#[cfg(any(feature = "files", feature = "bpe"))]
pub(crate) const PIECE: usize = 1 << 20;

/// The last byte index inside `text` at which it may be cut, or `None`: right after a single line end, right before a single blank.
///
/// "Single" means that no other white space touches it. At such a place words end for every tokenizer, and the splitting patterns of GPT-2
/// and its successors begin a new piece, so encoding both halves equals encoding the whole. A text without such a place is cut before the
/// line end that closes a run of white space, which is equivalent for GPT-2's pattern.
#[cfg(any(feature = "files", feature = "bpe", test))]
pub(crate) fn cut(text: &str) -> Option<usize> {
    let mut fallback = None;
    // `white(None)` is the end of the text, where the next character is not known yet.
    let white = |c: Option<char>| c.is_none_or(char::is_whitespace);
    let mut next = None;
    let mut chars = text.char_indices().rev().peekable();
    while let Some((at, c)) = chars.next() {
        let before = chars.peek().map(|(_, c)| *c);
        if (c == '\n' || c == ' ') && !white(next) {
            if !white(before) {
                return Some(if c == '\n' { at + 1 } else { at });
            }
            if c == '\n' && before.is_some() && fallback.is_none() {
                fallback = Some(at);
            }
        }
        next = Some(c);
    }
    fallback
}

/// `text` cut into pieces of about `size` bytes, longer only where there is no place to cut.
#[cfg(any(feature = "bpe", test))]
pub(crate) fn pieces(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut want = size.max(1);
        while want < rest.len() {
            if let Some(at) = cut(&rest[..rest.floor_char_boundary(want)]) {
                let (piece, after) = rest.split_at(at);
                rest = after;
                return Some(piece);
            }
            want = want.saturating_mul(2);
        }
        (!rest.is_empty()).then(|| std::mem::take(&mut rest))
    })
}

/// `bytes` as text; a UTF-8 byte order mark at the front is dropped. `origin` names the file in errors.
///
/// `Err`: no bytes, a NUL byte (which no text has), bytes that are not UTF-8; the position of either is in the message, counted from 0.
pub fn text_from_bytes(bytes: Vec<u8>, origin: &str) -> Result<String> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Error::file(origin, known(&bytes).unwrap_or_else(|| nul(at as u64))));
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::file(origin, known(e.as_bytes()).unwrap_or_else(|| not_utf8(at as u64, e.as_bytes()[at])))
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    if text.is_empty() {
        return Err(Error::file(origin, "is empty, a text is needed"));
    }
    Ok(text)
}

pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// The format of a file that is not text, by its first bytes, with advice.
pub(crate) fn known(front: &[u8]) -> Option<String> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "is compressed by gzip: unpack it with `gunzip`"),
        (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it with `unzstd`"),
        (b"\xfd7zXZ\0", "is compressed by xz: unpack it with `unxz`"),
        (b"BZh", "is compressed by bzip2: unpack it with `bunzip2`"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it"),
        (b"PK\x03\x04", "is a zip archive, as are .docx and .epub: unpack it, or save its text as UTF-8"),
        (b"%PDF", "is a PDF: save its text as UTF-8"),
        (b"\x89PNG", "is a picture, not text"),
        (b"\xff\xd8\xff", "is a picture, not text"),
        (b"\x7fELF", "is a program, not text"),
        (b"WGPT", "holds token ids, not text: name it with the ending .tokens"),
        (b"\xff\xfe", "is UTF-16: save the file as UTF-8"),
        (b"\xfe\xff", "is UTF-16: save the file as UTF-8"),
    ];
    KINDS.iter().find(|(magic, _)| front.starts_with(magic)).map(|(_, what)| (*what).to_owned())
}

pub(crate) fn nul(at: u64) -> String {
    format!("has a NUL byte at position {at}: it is not text, or it is UTF-16 and must be saved as UTF-8")
}

pub(crate) fn not_utf8(at: u64, byte: u8) -> String {
    format!("has byte 0x{byte:02X} at position {at}, which is not UTF-8: save the file as UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_no_token_can_cross() {
        assert_eq!(cut("one\ntwo"), Some(4));
        assert_eq!(cut("one two"), Some(3));
        assert_eq!(cut("one two "), Some(3), "after the last blank may come more white space");
        assert_eq!(cut("one\n\ntwo"), Some(4), "before the last line end of a run");
        assert_eq!(cut("a b\n\n\nc"), Some(1), "a clean place is better than a late one");
        for text in ["", "one", "\none", " one", "one\n", "one  two", "\n"] {
            assert_eq!(cut(text), None, "{text:?}");
        }
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let text = "ab cd\n\nef  gh ij\nü é 世界\n".repeat(20) + &"x".repeat(50);
        for size in 0..80 {
            let all: Vec<&str> = pieces(&text, size).collect();
            assert_eq!(all.concat(), text);
            assert!(all.iter().all(|piece| !piece.is_empty()));
            assert!(size == 0 || size > 40 || all.len() > 10);
        }
        assert_eq!(pieces("", 5).count(), 0);
    }

    #[test]
    fn bad_bytes_are_named_with_their_position() {
        let problem = |bytes: &[u8]| text_from_bytes(bytes.to_vec(), "a.txt").unwrap_err().to_string();
        assert_eq!(problem(b""), "a.txt: is empty, a text is needed");
        assert!(problem(b"abc\0def").contains("a NUL byte at position 3"));
        assert!(problem(b"ab\xFFc").contains("byte 0xFF at position 2"));
        assert!(problem("世".as_bytes()[..2].as_ref()).contains("byte 0xE4 at position 0"));
        assert_eq!(text_from_bytes("\u{feff}hé".into(), "a.txt").unwrap(), "hé");
        assert_eq!(problem(b"\x1f\x8b\x08\0\0\0\0\0"), "a.txt: is compressed by gzip: unpack it with `gunzip`");
        assert_eq!(problem(b"PK\x03\x04\x14\0"), "a.txt: is a zip archive, as are .docx and .epub: unpack it, or save its text as UTF-8");
        assert_eq!(problem(b"\xff\xfeh\0i\0"), "a.txt: is UTF-16: save the file as UTF-8");
        // A text that begins with the same letters as one of these formats is still a text.
        assert_eq!(text_from_bytes(b"BZh is a key, PK another".into(), "a.txt").unwrap().len(), 24);
    }
}
