//! `train` on a device that is lost, or that has no memory: by the seam of builds with debug assertions (src/gpu/fault.rs).

use std::fs;

use serde_json::Value;

use crate::support::{Done, Folder, small, text};

/// The measurements of a run, without times.
fn records(folder: &Folder, out: &str) -> Vec<Vec<Value>> {
    let text = folder.read(&format!("{out}/metrics.jsonl"));
    let of = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        ["step", "loss", "val_loss", "lr", "grad_norm"].map(|key| record[key].clone()).to_vec()
    };
    text.lines().map(of).collect()
}

fn weights(folder: &Folder, out: &str, step: u32) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"]
        .map(|name| fs::read(folder.path(out).join(format!("checkpoints/step-{step}")).join(name)).unwrap())
}

fn train(folder: &Folder, out: &str, fault: (&str, &str), more: &[&str]) -> Done {
    let own = ["--steps=40", "--set=train.snapshot_every=1e-9", "--out", out];
    let args: Vec<&str> = small(&[&own[..], more].concat()).into_iter().filter(|arg| *arg != "--quiet").collect();
    Done::from(folder.command(&args).env(fault.0, fault.1).output().unwrap())
}

const NONE: (&str, &str) = ("WGPT_LOSE", "");

#[test]
fn a_run_that_loses_its_device_goes_on() {
    let folder = Folder::new("recovery");
    folder.write("text.txt", text());
    assert_eq!(train(&folder, "whole", NONE, &[]).code, 0);
    // Before the first step, in the middle, and after that.
    let done = train(&folder, "lost", ("WGPT_LOSE", "20,180,260"), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.contains("recovery")).collect();
    assert_eq!(lines.len(), 3, "{done:?}");
    for (line, count) in lines.iter().zip(["recovery 1 of 3", "recovery 2 of 3", "recovery 3 of 3"]) {
        assert!(line.starts_with("WARNING   the device ") && line.contains(" was lost (") && line.contains(count), "{line}");
    }
    assert!(lines[0].contains("it begins again") && lines[2].contains("the run continues from step "), "{lines:?}");
    assert_eq!(records(&folder, "lost"), records(&folder, "whole"));
    assert!(weights(&folder, "lost", 40) == weights(&folder, "whole", 40), "the weights differ");
}

#[test]
fn a_run_that_loses_its_device_too_often_is_saved() {
    let folder = Folder::new("too_often");
    folder.write("text.txt", text());
    let rare = ["--set=train.recoveries=1", "--set=train.eval_every=0", "--set=train.checkpoint_every=0"];
    assert_eq!(train(&folder, "whole", NONE, &rare).code, 0);
    let done = train(&folder, "lost", ("WGPT_LOSE", "140,150"), &rare);
    let error = done.stderr.lines().last().unwrap();
    assert_eq!(done.code, 1, "{done:?}");
    for word in
        ["error: the device ", " was lost (", "after recovery 1 of 1; step ", " is saved in lost/checkpoints/step-", "with --resume"]
    {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
    let step = error.split_once("; step ").unwrap().1.split_once(' ').unwrap().0;
    assert_ne!(step, "0", "{error}");
    assert_eq!(folder.read("lost/checkpoints/latest").trim(), format!("step-{step}"));
    folder.ok(&["train", "--quiet", "--out", "lost", "--resume"]);
    assert_eq!(records(&folder, "lost"), records(&folder, "whole"));
    assert!(weights(&folder, "lost", 40) == weights(&folder, "whole", 40), "the weights differ");
}

#[test]
fn a_run_without_memory_says_what_helps() {
    let folder = Folder::new("no_memory");
    folder.write("text.txt", text());
    // Once: it begins again.
    let done = train(&folder, "once", ("WGPT_OUT_OF_MEMORY", "9"), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains(" is out of memory at ") && done.stderr.contains("it begins again: recovery 1 of 3"), "{done:?}");
    // Always, from this allocation on.
    let done = train(&folder, "never", ("WGPT_OUT_OF_MEMORY", "9-"), &["--set=train.recoveries=2"]);
    let error = done.stderr.lines().last().unwrap();
    assert!(done.code == 1 && error.contains("is out of memory at") && error.contains("takes less memory"), "{done:?}");
    assert!(!folder.path("never").exists(), "a refused run has left a folder");
}
