//! Twelve kinds of text: each gets a tokenizer that encodes it without `<UNK>` and decodes to the same text.

use super::*;
use crate::text::{AUTO, Corpus, DataConfig};

const SHAKESPEARE: &str = include_str!("../../assets/shakespeare.txt");

/// 150 kB from the middle of the bundled text.
fn english() -> &'static str {
    &SHAKESPEARE[300_000..450_000]
}

/// A random sequence in which the next symbol depends on the previous one.
fn sequence(symbols: &[&str], n: usize, line: usize) -> String {
    let (mut state, mut last) = (7usize, 0);
    let mut text = String::new();
    for i in 1..=n {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        last = (last * 5 + 1 + (state >> 60) % 3) % symbols.len();
        text += symbols[last];
        if i.is_multiple_of(line) {
            text.push('\n');
        }
    }
    text
}

fn list() -> String {
    let syllables = ["ba", "con", "di", "fer", "gro", "lin", "mo", "per", "stra", "tu"];
    (0..1000).map(|i| format!("{}{}{}\n", syllables[i / 100], syllables[i / 10 % 10], syllables[i % 10])).collect()
}

fn log() -> String {
    let line = |i: usize| {
        let (minute, second, user) = (i / 60 % 60, i % 60, i * i % 13);
        format!("2026-03-01 12:{minute:02}:{second:02} INFO server: request {i} of user{user} took {} ms\n", i * 7 % 90)
    };
    (0..600).map(line).collect()
}

const GERMAN: &str = "Wer reitet so spät durch Nacht und Wind?\nEs ist der Vater mit seinem Kind;\nEr hat den Knaben wohl in dem Arm,\n\
                      Er faßt ihn sicher, er hält ihn warm.\n\nMein Sohn, was birgst du so bang dein Gesicht? –\nSiehst, Vater, du den Erlkönig nicht?\n\
                      Den Erlenkönig mit Kron’ und Schweif? –\nMein Sohn, es ist ein Nebelstreif. –\n";
const CHINESE: &str = "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。此兩者，同出而異名，\
                       同謂之玄。玄之又玄，衆妙之門。天下皆知美之爲美，斯惡已。皆知善之爲善，斯不善已。";
const ARABIC: &str = "الحمد لله رب العالمين\nالرحمن الرحيم\nمالك يوم الدين\nإياك نعبد وإياك نستعين\nاهدنا الصراط المستقيم\n\
                      صراط الذين أنعمت عليهم غير المغضوب عليهم ولا الضالين\n";
const POEM: &str = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\nRough winds do shake the darling buds of May,\n\
                    And summer's lease hath all too short a date.\n";

#[test]
fn the_twelve_kinds_of_text_each_get_what_fits_them() {
    let english = english().to_owned();
    let chinese: String = CHINESE.chars().cycle().take(20_000).collect();
    let emoji = sequence(&["😀", "😂", "🐱", "🐭", "❤", "🌍", "🚀", "👍🏽"], 5000, 40);
    let texts: [(&str, String, &str); 14] = [
        ("English", english.clone(), "bpe"),
        ("German, short", GERMAN.to_owned(), "character"),
        ("Chinese without spaces", chinese, "character"),
        ("Chinese, most of it once", CHINESE.to_owned(), "character"),
        ("Arabic, short", ARABIC.to_owned(), "character"),
        ("Rust source, one file", include_str!("word.rs").to_owned(), "character"),
        ("a word list", list(), "character"),
        ("CRLF", english.replace('\n', "\r\n"), "bpe"),
        ("one endless line", english.split_whitespace().collect::<Vec<_>>().join(" "), "bpe"),
        ("emoji", emoji, "character"),
        ("DNA in lines", sequence(&["A", "C", "G", "T"], 20_000, 70), "character"),
        ("DNA in one line", sequence(&["A", "C", "G", "T"], 20_000, 70).replace('\n', ""), "character"),
        ("a poem", POEM.to_owned(), "character"),
        ("logs", log(), "bpe"),
    ];
    let auto = TokenizerConfig { kind: AUTO.into(), ..TokenizerConfig::default() };
    for (name, text, kind) in texts {
        let (tokenizer, corpus) = Corpus::build(&DataConfig::default(), &[&text], &auto, None).unwrap();
        let kind = if cfg!(feature = "bpe") { kind } else { "character" };
        assert_eq!(tokenizer.kind(), kind, "{name}: {:?}", corpus.why);
        assert_eq!(corpus.unknown_shares(&tokenizer).unwrap(), [0.0, 0.0], "{name}");
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text, "{name}");
        assert!(corpus.why.is_some_and(|why| !why.is_empty()), "{name}");
        // Any new text can be a prompt: characters outside the vocabulary become <UNK>, or bytes.
        assert!(!tokenizer.encode("Ünïcode ☃ 雪\r\n").unwrap().is_empty(), "{name}");
    }
}
