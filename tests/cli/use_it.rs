//! predict, generate, eval, tokenizer and devices, as text and as JSON.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Folder, small, text, toy_run};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

#[test]
fn the_lesson_learns_that_how_follows_hello_world() {
    let folder = Folder::with_toy("lesson");
    let answer = folder.json(&["predict", "hello world", "--json"]);
    assert_eq!(keys(&answer), BTreeSet::from(["predictions"]));
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 5);
    assert_eq!(keys(&predictions[0]), BTreeSet::from(["id", "probability", "token"]));
    assert_eq!(predictions[0]["token"], "how");
    assert!(predictions[0]["probability"].as_f64().unwrap() > 0.9, "{answer}");

    let all = folder.json(&["predict", "hello world", "--top", "7", "--json"]);
    let all = all["predictions"].as_array().unwrap();
    let sum: f64 = all.iter().map(|p| p["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    assert!(all.windows(2).all(|p| p[0]["probability"].as_f64() >= p[1]["probability"].as_f64()));

    let shown = folder.ok(&["predict", "hello world"]);
    assert!(shown.starts_with("how ") && shown.lines().count() == 5, "{shown}");
    assert_eq!(folder.ok(&["predict", "--ids", "0,1"]), shown, "hello and world are the ids 0 and 1");
    assert_eq!(folder.ok(&["predict", "--run", "runs/toy", "hello world"]), shown, "runs/toy is the newest run");
    assert_eq!(folder.ok(&["predict", "hello world", "--limits", "baseline", "--adapter", "0"]), shown);
}

#[test]
fn what_train_says_at_its_end() {
    let said = std::fs::read_to_string(toy_run().join("stdout")).unwrap();
    for words in ["trained 300 steps in", "predictions", " -> ", "sample\n", "runs/toy/loss.svg", "wgpt generate --run runs/toy"] {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    assert!(!said.contains("validation"), "it has none: {said}");
}

#[test]
fn generate_streams_and_repeats() {
    let folder = Folder::with_toy("generate");
    let greedy = ["generate", "--prompt", "hello world", "--tokens", "6", "--greedy"];
    let text = folder.ok(&greedy);
    assert!(text.starts_with("hello world how are you") && text.ends_with('\n'), "{text}");
    assert_eq!(folder.ok(&greedy), text);
    assert_eq!(folder.ok(&["generate", "--ids", "0,1", "--tokens", "6", "--temperature", "0"]), text);

    let answer = folder.json(&[&greedy[..], &["--json"]].concat());
    assert_eq!(keys(&answer), BTreeSet::from(["ids", "prompt_ids", "text"]));
    assert_eq!(answer["prompt_ids"], serde_json::json!([0, 1]));
    assert_eq!(answer["ids"].as_array().unwrap().len(), 6);
    assert_eq!(format!("hello world{}\n", answer["text"].as_str().unwrap()), text);

    let drawn = |seed: &str| folder.ok(&["generate", "--prompt", "hello", "--tokens", "40", "--temperature", "3", "--seed", seed]);
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    assert!(!drawn("1").contains("<UNK>"));
    assert!(folder.ok(&["generate", "--ids", "0", "--tokens", "60", "--temperature", "9", "--unknown"]).contains("<UNK>"));
    assert_eq!(folder.ok(&["generate", "--prompt", "hello", "--tokens", "0"]), "hello\n");
    let narrow = folder.ok(&["generate", "--prompt", "hello world", "--tokens", "6", "--temperature", "9", "--top-k", "1"]);
    assert_eq!(narrow, text);
    assert_eq!(folder.ok(&["generate", "--prompt", "hello world", "--tokens", "6", "--top-p", "0.001"]), text);
}

#[test]
fn eval_agrees_with_training() {
    let folder = Folder::new("eval");
    folder.write("text.txt", text());
    let said = folder.ok(&small(&["--out", "runs/a", "--steps", "60"]));
    assert!(said.contains("best validation loss") && said.contains("bigram model"), "{said}");
    let figures = folder.json(&["eval", "--json"]);
    assert_eq!(keys(&figures), BTreeSet::from(["bigram_loss", "bits_per_character", "loss", "perplexity", "tokens"]));
    let number = |key: &str| figures[key].as_f64().unwrap_or_else(|| panic!("{key} in {figures}"));
    let state: Value = serde_json::from_str(&folder.read("runs/a/checkpoints/step-60/state.json")).unwrap();
    assert!((number("loss") - state["best_val_loss"].as_f64().unwrap()).abs() < 1e-5, "{figures} {state}");
    assert!((number("perplexity") - number("loss").exp()).abs() < 1e-9);
    // Here a token is a character, and all but the first are predicted.
    let characters = number("tokens") + 1.0;
    assert!((number("bits_per_character") - number("loss") / 2f64.ln() * number("tokens") / characters).abs() < 1e-9);
    assert!((0.1..3.0).contains(&number("bigram_loss")), "{figures}");

    let shown = folder.ok(&["eval", "--run", "runs/a"]);
    for words in ["loss ", "perplexity ", "bits per character ", "tokens ", "bigram model "] {
        assert!(shown.contains(words), "{shown}");
    }
    let own = folder.json(&["eval", "--data", "text.txt", "--json"]);
    assert_eq!(own["tokens"].as_u64().unwrap() as usize, text().chars().count() - 1);
    folder.write("tiny.txt", "the ☃");
    let tiny = folder.json(&["eval", "--data", "tiny.txt", "--json"]);
    assert_eq!(tiny["tokens"], 4);
    folder.write("one.txt", "t");
    folder.refused(2, &["eval", "--data", "one.txt"], &["one.txt has 1 tokens", "at least 2"]);

    // Without the training text, everything except the bigram model is available.
    std::fs::rename(folder.path("text.txt"), folder.path("moved.txt")).unwrap();
    let moved = folder.run(&["eval", "--data", "moved.txt", "--json"]);
    assert!(moved.code == 0 && moved.stderr.starts_with("note: no bigram model") && moved.stderr.contains("text.txt"), "{moved:?}");
    let moved: Value = serde_json::from_str(&moved.stdout).unwrap();
    assert_eq!((moved["loss"].as_f64(), &moved["bigram_loss"]), (own["loss"].as_f64(), &Value::Null));
    folder.refused(1, &["eval"], &["text.txt", "no such file"]);
}

#[test]
fn tokenizers_go_there_and_back() {
    let folder = Folder::new("bpe");
    folder.write("text.txt", text());
    let made = folder.json(&["tokenizer", "train", "--size", "280", "--out", "bpe.json", "text.txt", "--json"]);
    assert_eq!((&made["path"], &made["vocab_size"]), (&Value::from("bpe.json"), &Value::from(280)));
    let wanted = "the sun, \"naïve\" ☃\n";
    let ids = folder.json(&["tokenizer", "encode", "--tokenizer", "bpe.json", wanted, "--json"]);
    let ids: Vec<String> = ids["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    let line = folder.ok(&["tokenizer", "encode", "--tokenizer", "bpe.json", wanted]);
    assert_eq!(line.trim_end(), ids.join(","));
    assert_eq!(folder.ok(&["tokenizer", "decode", "--tokenizer", "bpe.json", line.trim_end()]), format!("{wanted}\n"));
    let spaced: Vec<&str> = ids.iter().map(String::as_str).collect();
    let decoded = folder.json(&[&["tokenizer", "decode", "--tokenizer", "bpe.json", "--json"], &spaced[..]].concat());
    assert_eq!(decoded["text"], wanted);

    // Encode a corpus to a token file, and train on it.
    let files = ["tokenizer", "encode", "--tokenizer", "bpe.json", "--file", "text.txt", "--out", "text.tokens", "--json"];
    let tokens = folder.json(&files)["tokens"].as_u64().unwrap();
    let whole = folder.json(&["tokenizer", "encode", "--tokenizer", "bpe.json", "--file", "text.txt", "--json"]);
    assert_eq!(whole["ids"].as_array().unwrap().len() as u64, tokens);
    let bpe = ["--set=tokenizer.kind=bpe", "--set=tokenizer.path=bpe.json", "--steps=2", "--data=text.tokens", "--out=runs/bpe"];
    folder.ok(&small(&bpe).into_iter().filter(|arg| *arg != "--data=text.txt").collect::<Vec<_>>());
    assert_eq!(folder.ok(&["tokenizer", "encode", "the sun"]), folder.ok(&["tokenizer", "encode", "--tokenizer", "bpe.json", "the sun"]));
    assert_eq!(folder.json(&["generate", "--prompt", "the", "--tokens", "4", "--json"])["ids"].as_array().unwrap().len(), 4);
}

#[test]
fn devices_says_which_and_why() {
    let folder = Folder::new("devices");
    let answer = folder.json(&["devices", "--json"]);
    assert_eq!(keys(&answer), BTreeSet::from(["adapters", "taken", "why"]));
    let adapters = answer["adapters"].as_array().unwrap();
    let taken = &adapters[answer["taken"].as_u64().unwrap() as usize];
    let wanted = ["backend", "driver", "features", "index", "limits", "name", "problem", "type"];
    assert_eq!(keys(taken), BTreeSet::from(wanted));
    assert_eq!(taken["problem"], Value::Null);
    assert!(taken["limits"]["max_storage_buffers_per_shader_stage"].as_u64().unwrap() >= 8, "{taken}");
    let name = taken["name"].as_str().unwrap();
    let shown = folder.ok(&["devices"]);
    assert!(shown.contains(name) && shown.contains("`wgpt train` uses"), "{shown}");
    let by_name = folder.json(&["devices", "--json", "--adapter", &name[..4].to_uppercase()]);
    assert!(by_name["why"].as_str().unwrap().contains("selected by --adapter"), "{by_name}");
    let baseline = folder.json(&["devices", "--json", "--limits", "baseline"]);
    assert_eq!(baseline["adapters"][0]["limits"]["max_storage_buffers_per_shader_stage"], 8);
    assert!(baseline["adapters"][0]["features"].as_array().unwrap().is_empty());
}

#[test]
fn every_command_has_help_with_examples() {
    let folder = Folder::new("help");
    for command in ["train", "predict", "generate", "eval", "tokenizer", "devices", "tune", "shaders"] {
        let help = folder.ok(&[command, "--help"]);
        assert!(help.contains("Examples:\n") && help.contains(&format!("  wgpt {command}")), "{help}");
        assert_eq!(folder.ok(&["help", command]), help);
    }
    assert!(folder.ok(&["--version"]).starts_with("wgpt "));
    assert!(folder.ok(&["train", "-h"]).contains("shakespeare-char"));
}
