//! Tests of byte-level BPE against GPT-2's published files and against damaged ones.

use super::bpe::alphabet;
use super::{Tokenizer, TokenizerConfig};

const TEXT: &str = "Two households, both alike in dignity,\n\nIn fair Verona\u{2014}where we lay our scene; 🦀 世界 naïve.\n";

fn trained(size: usize, text: &str) -> Tokenizer {
    Tokenizer::train(&TokenizerConfig { kind: "bpe".into(), max_vocab: size, ..TokenizerConfig::default() }, text).unwrap()
}

#[test]
fn the_alphabet_is_gpt2s() {
    let all: Vec<char> = alphabet().collect();
    assert_eq!(
        (all.len(), all[b' ' as usize], all[b'\n' as usize], all[b'A' as usize], all[255], all[0xAD]),
        (256, 'Ġ', 'Ċ', 'A', 'ÿ', 'Ń')
    );
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 256);
}

#[test]
fn training_is_repeatable_and_loses_nothing() {
    let t = trained(300, &TEXT.repeat(10));
    assert_eq!((t.kind(), t.vocab_size()), ("bpe", 300));
    assert_eq!(t.to_json(), trained(300, &TEXT.repeat(10)).to_json());
    assert_eq!(t.token(0).unwrap(), "<|endoftext|>");
    for text in [TEXT, "", "\0\u{1}\u{7f}", " a  b\n\n c", "never seen: Привет \u{10FFFF} e\u{301}"] {
        assert_eq!(t.decode(&t.encode(text).unwrap()).unwrap(), text);
    }
    assert_eq!(t.encode("<|endoftext|>a").unwrap().len(), 2);
    let again = Tokenizer::from_json(&t.to_json(), "tokenizer.json").unwrap();
    assert_eq!((again.encode(TEXT).unwrap(), again.to_json()), (t.encode(TEXT).unwrap(), t.to_json()));
    assert!(t.decode(&[300]).unwrap_err().to_string().contains("token id 300 found, this tokenizer's ids end at 299"));
    let small = trained(5000, "ab ab");
    assert!((257..270).contains(&small.vocab_size()));
    let config = TokenizerConfig { kind: "bpe".into(), max_vocab: 270, lower_case: true, ..TokenizerConfig::default() };
    let lower = Tokenizer::train(&config, TEXT).unwrap();
    assert_eq!(lower.decode(&lower.encode("In FAIR Verona").unwrap()).unwrap(), "in fair verona");
}

#[test]
fn a_stream_holds_back_half_characters() {
    let t = trained(257, "abc");
    let ids = t.encode("é🦀!").unwrap();
    assert_eq!(ids.len(), 7);
    let mut decoder = t.decoder();
    let parts: Vec<String> = ids.iter().map(|id| decoder.push(*id).unwrap()).collect();
    assert_eq!(parts, ["", "é", "", "", "", "🦀", "!"]);
    assert_eq!(t.token(ids[0]).unwrap(), "<0xC3>");
    decoder.push(ids[2]).unwrap();
    assert!(decoder.push(257).is_err());
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(t.decode(&[ids[2], ids[6]]).unwrap(), "\u{fffd}!");
}

#[test]
fn long_texts_encode_as_if_in_one_piece() {
    let t = trained(400, TEXT);
    let line = TEXT.split_inclusive('\n').next().unwrap();
    let one = t.encode(&line.repeat(3)).unwrap();
    let per_line = t.encode(line).unwrap().len();
    // More than one batch of pieces. Every line has the same ids, so the count reveals a cut inside a token.
    let lines = 3 * (1 << 20) / line.len();
    let many = t.encode(&line.repeat(lines)).unwrap();
    assert_eq!((one.len(), many.len()), (3 * per_line, lines * per_line));
    assert_eq!(t.decode(&many).unwrap(), line.repeat(lines));
}

#[test]
fn foreign_and_damaged_json_is_refused() {
    let json = trained(300, TEXT).to_json();
    let problem = |json: &str| Tokenizer::from_json(json, "t.json").unwrap_err().to_string();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
        change(&mut value);
        problem(&value.to_string())
    };
    for cut in (1..json.len()).step_by(997) {
        if json.is_char_boundary(cut) {
            assert!(problem(&json[..cut]).starts_with("t.json: is not whole JSON"), "{cut}");
        }
    }
    assert!(changed(&|v| v["decoder"] = serde_json::json!({"type": "Metaspace"})).contains("the decoder `Metaspace`"));
    assert!(changed(&|v| v["model"]["type"] = "Unigram".into()).contains("type `Unigram`"));
    assert!(changed(&|v| v["model"]["dropout"] = 0.1.into()).contains("a dropout of 0.1"));
    assert!(changed(&|v| v["model"]["end_of_word_suffix"] = "</w>".into()).contains("end_of_word_suffix `</w>`"));
    assert!(changed(&|v| v["model"]["merges"][0] = "ab".into()).contains("merge 0 with no blank"));
    assert!(changed(&|v| v["model"]["merges"][3] = "zzz a".into()).contains("`zzz` is not in the vocabulary"));
    // The crate itself panics on a merge that is longer than any token.
    assert!(changed(&|v| v["model"]["merges"][3] = "<|endoftext|> <|endoftext|>".into()).contains("is not in the vocabulary"));
    assert!(changed(&|v| v["model"]["vocab"]["a"] = 4_000_000_000u32.into()).contains("the id 4000000000"));
    assert!(changed(&|v| v["model"]["vocab"]["a"] = 5.into()).contains("the id 5 to `"));
    assert!(changed(&|v| v["model"]["vocab"]["a"] = "x".into()).contains("a wrong `model`"));
    assert!(changed(&|v| v["added_tokens"][0]["id"] = 9.into()).contains("the id 9, its place in the vocabulary is 0"));
    assert!(changed(&|v| v["version"] = "9".into()).contains("cannot be used"));
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    value["truncation"] = serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    let t = Tokenizer::from_json(&value.to_string(), "t.json").unwrap();
    assert_eq!(t.decode(&t.encode(TEXT).unwrap()).unwrap(), TEXT, "a text is never truncated");
}

#[cfg(feature = "files")]
mod files {
    use std::path::{Path, PathBuf};

    use super::super::{TokenStore, encode_file_to_tokens, train_bpe_files};
    use super::*;

    fn assets() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
    }

    #[test]
    fn gpt2_ids() {
        for path in [assets().join("gpt2-tokenizer"), assets().join("gpt2-tokenizer/encoder.json")] {
            let t = Tokenizer::open(&path).unwrap();
            assert_eq!(t.vocab_size(), 50257);
            assert_eq!(t.encode("Hello world").unwrap(), [15496, 995]);
            assert_eq!(t.encode("<|endoftext|>").unwrap(), [50256]);
            assert_eq!(t.token(995).unwrap(), " world");
            assert_eq!(t.decode(&t.encode(TEXT).unwrap()).unwrap(), TEXT);
        }
    }

    #[test]
    fn pieces_of_real_text_have_the_ids_of_the_whole() {
        // Blank lines, indented lines and line ends after blanks: every kind of cut position.
        let text = super::super::read_text(assets().join("shakespeare.txt")).unwrap();
        let text = &text[..text.floor_char_boundary(300_000)];
        let t = trained(300, &text[..20_000]);
        let whole: tokenizers::Tokenizer = t.to_json().parse().unwrap();
        assert!(t.encode(text).unwrap() == whole.encode_fast(text, false).unwrap().get_ids());
        assert!(t.decode(&t.encode(text).unwrap()).unwrap() == text);
    }

    #[test]
    fn a_config_path_loads_and_its_kind_must_fit() {
        let config =
            |path: PathBuf| TokenizerConfig { kind: "bpe".into(), path: path.to_string_lossy().into(), ..TokenizerConfig::default() };
        let t = Tokenizer::train(&config(assets().join("golden/tiny-gpt2/tokenizer.json")), "").unwrap();
        assert_eq!(t.decode(&t.encode(TEXT).unwrap()).unwrap(), TEXT);
        let folder = tempfile::tempdir().unwrap();
        let word = TokenizerConfig { kind: "word".into(), ..TokenizerConfig::default() };
        std::fs::write(folder.path().join("tokenizer.json"), Tokenizer::train(&word, TEXT).unwrap().to_json()).unwrap();
        let e = Tokenizer::train(&config(folder.path().into()), "").unwrap_err().to_string();
        assert!(e.ends_with("is a word tokenizer, tokenizer.kind is `bpe`"), "{e}");
    }

    #[test]
    fn damaged_gpt2_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (vocab, merges) = (folder.path().join("encoder.json"), folder.path().join("vocab.bpe"));
        let problem = || {
            let e = Tokenizer::open(folder.path()).unwrap_err().to_string();
            assert!(!e.contains('\n'));
            e
        };
        assert!(problem().contains("holds neither tokenizer.json"));
        let json = std::fs::read_to_string(assets().join("gpt2-tokenizer/encoder.json")).unwrap();
        let bpe = std::fs::read_to_string(assets().join("gpt2-tokenizer/vocab.bpe")).unwrap();
        std::fs::write(&vocab, &json).unwrap();
        assert!(problem().ends_with("vocab.bpe: no such file"));
        let cut = |text: &str, at: usize| text[..text.floor_char_boundary(at)].to_string();
        for at in [0, 5, 100, 200_000, bpe.len() - 3] {
            std::fs::write(&merges, cut(&bpe, at)).unwrap();
            assert!(problem().starts_with(&format!("{}: ", merges.display())), "{}", problem());
        }
        std::fs::write(&merges, cut(&bpe, bpe.find("\nĠc l").unwrap())).unwrap();
        assert!(problem().contains("is cut short: "), "{}", problem());
        std::fs::write(&merges, bpe.replacen("Ġ t\n", "Ġt\n", 1)).unwrap();
        assert!(problem().contains("has `Ġt` in line 2"), "{}", problem());
        std::fs::write(&merges, &bpe).unwrap();
        std::fs::write(&vocab, cut(&json, 500_000)).unwrap();
        assert!(problem().starts_with(&format!("{}: is not a whole JSON map", vocab.display())));
        std::fs::write(&vocab, r#"{"a": "b"}"#).unwrap();
        assert!(problem().contains("gives `a` the id"));
    }

    #[test]
    fn training_on_files_equals_training_on_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let text = TEXT.repeat(2000);
        std::fs::write(&path, &text).unwrap();
        let t = train_bpe_files(&[&path], 320).unwrap();
        assert_eq!(t.to_json(), trained(320, &text).to_json());
        let tokens = folder.path().join("a.tokens");
        let count = encode_file_to_tokens(&t, &path, &tokens).unwrap() as usize;
        let mut ids = Vec::new();
        TokenStore::open(&tokens).unwrap().window(0, count, &mut ids).unwrap();
        assert!(ids == t.encode(&text).unwrap());
        assert!(train_bpe_files(&[&path], 256).is_err());
        assert!(train_bpe_files::<&Path>(&[], 300).is_err());
        std::fs::write(folder.path().join("b.txt"), b"ok \xFF").unwrap();
        let e = train_bpe_files(&[path, folder.path().join("b.txt")], 300).unwrap_err().to_string();
        assert!(e.contains("b.txt: has byte 0xFF at position 3"), "{e}");
    }
}
