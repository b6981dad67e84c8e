//! Pipes where files are expected: they are refused, and never block.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Done, Folder, small, text};

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Runs a command that might block forever.
fn run(folder: &Folder, args: &[&str]) -> Done {
    let mut child = folder.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{args:?} still waits after a minute");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Done::from(child.wait_with_output().unwrap())
}

fn refused(folder: &Folder, args: &[&str], words: &[&str]) {
    run(folder, args).assert_refused(1, args, words);
}

#[test]
fn arguments_that_are_pipes() {
    let folder = Folder::with_toy("pipes");
    pipe(&folder.path("pipe"));
    pipe(&folder.path("pipe.tokens"));
    let words = ["pipe", "is a pipe, a file is needed"];
    for more in [["--data", "pipe"], ["--config", "pipe"], ["--tuning", "pipe"], ["--set=tokenizer.kind=bpe", "--set=tokenizer.path=pipe"]]
    {
        refused(&folder, &[&["train", "--preset=shakespeare-char", "--quiet", "--out=new"][..], &more].concat(), &words);
    }
    refused(&folder, &["eval", "--data", "pipe"], &words);
    refused(&folder, &["eval", "--data", "pipe.tokens"], &words);
    refused(&folder, &["tokenizer", "train", "--size", "260", "--out", "bpe.json", "pipe"], &words);
    refused(&folder, &["train", "--preset", "toy", "--quiet", "--out", "pipe"], &["pipe", "needs a folder"]);
    assert!(!folder.path("new").exists());
}

#[test]
fn files_of_a_run_that_are_pipes() {
    let folder = Folder::with_toy("pipes_run");
    let (predict, resume) = (["predict", "--run=runs/toy", "hello"], ["train", "--quiet", "--out=runs/toy", "--resume", "--steps=301"]);
    let replaced = |name: &str, check: &dyn Fn()| {
        let (path, away) = (folder.path(&format!("runs/toy/{name}")), folder.path("away"));
        let there = path.exists();
        if there {
            fs::rename(&path, &away).unwrap();
        }
        pipe(&path);
        check();
        fs::remove_file(&path).unwrap();
        if there {
            fs::rename(&away, &path).unwrap();
        }
    };
    for name in ["model.safetensors", "config.toml", "tokenizer.json", "state.json"] {
        replaced(&format!("checkpoints/step-300/{name}"), &|| refused(&folder, &predict, &[name, "pipe"]));
    }
    for name in ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json", "state.json"] {
        replaced(&format!("checkpoints/step-300/{name}"), &|| refused(&folder, &resume, &[name]));
    }
    for name in ["metrics.jsonl", "config.toml", "loss.svg", "loss.png", ".wgpt.lock", ".wgpt.json"] {
        replaced(name, &|| refused(&folder, &resume, &[name, if name == ".wgpt.json" { "not" } else { "" }]));
    }
    replaced("checkpoints/latest", &|| refused(&folder, &resume, &["latest"]));
    // This file only names the lock's holder; the lock itself is another file.
    replaced(".wgpt.holder", &|| refused(&folder, &resume, &[".wgpt.holder"]));
    assert_eq!(run(&folder, &resume).code, 0);
}

/// A broken cache only costs time.
#[test]
fn caches_that_are_pipes() {
    let folder = Folder::new("pipes_cache");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out=a", "--steps=1"]));
    let cached: Vec<_> = fs::read_dir(folder.path("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    // There is none if the driver has no pipeline cache.
    cached.iter().for_each(|path| pipe(path));
    assert_eq!(run(&folder, &small(&["--out=b", "--steps=1"])).code, 0);
}
