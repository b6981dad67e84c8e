//! `wgpt selftest`: what it prints, what it stores, and what later commands do about it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use wgpt::low_level::ops::SOURCES;

use crate::support::{Done, Folder};

const TOY: &[&str] = &["train", "--preset=toy", "--steps=1", "--overwrite", "--out=run"];

/// A command with a shader broken on purpose, which builds with debug assertions can do (src/gpu/broken.rs).
fn broken(folder: &Folder, how: &str, args: &[&str]) -> Done {
    Done::from(folder.command(args).env("WGPT_BREAK", how).output().unwrap())
}

fn stored(folder: &Folder) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder.path("cache/selftest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn ok(folder: &Folder, args: &[&str]) -> Done {
    let done = folder.run(args);
    assert_eq!(done.code, 0, "{args:?}: {done:?}");
    done
}

/// The variant of cross_entropy that the run used.
fn taken(folder: &Folder) -> String {
    let state: Value = serde_json::from_str(&folder.read("run/checkpoints/step-1/state.json")).unwrap();
    let variants = state["variants"].as_array().unwrap();
    let found = variants.iter().find(|choice| choice["kernel"].as_str().unwrap().starts_with("cross_entropy.forward_backward"));
    found.unwrap_or_else(|| panic!("{state}"))["variant"].as_str().unwrap().to_owned()
}

#[test]
fn this_driver_passes() {
    let folder = Folder::new("selftest");
    let found = folder.json(&["selftest", "--json"]);
    for key in ["version", "wgpu", "os", "adapter", "backend", "driver", "device_type", "shaders", "file"] {
        assert!(found[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {found}");
    }
    assert!(found["passed"] == true && found["problems"].as_array().unwrap().is_empty() && found["faults"].is_array(), "{found}");
    let rows = found["rows"].as_array().unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} of {row}")).to_owned();
    for source in SOURCES {
        let tested = rows.iter().any(|row| text(row, "part") == "kernel" && text(row, "test") == source.file && row["cases"] != 0);
        assert!(tested, "no row of {}", source.file);
    }
    for row in rows {
        assert!(["passed", "known fault", "not tested"].contains(&text(row, "result").as_str()), "{row}");
    }
    let models: Vec<String> = rows.iter().filter(|row| text(row, "part") == "model").map(|row| text(row, "result")).collect();
    assert!(models.len() >= 4 && models.iter().all(|result| result == "passed"), "{models:?}");
    assert_eq!(text(&found, "file"), stored(&folder).to_str().unwrap());
    // Nothing is wrong: a run need not mention it.
    assert!(!ok(&folder, TOY).stderr.contains("selftest"));
    fs::remove_file(stored(&folder)).unwrap();
    let run = ok(&folder, &[TOY, &["--selftest"]].concat());
    assert!(run.stderr.contains("selftest  checks every kernel") && run.stderr.contains(" passed") && stored(&folder).is_file(), "{run:?}");
}

#[cfg(debug_assertions)]
#[test]
fn a_broken_kernel_fails_by_name_and_is_not_trained_with() {
    let folder = Folder::new("selftest_kernel");
    let how = "adamw: (deviation + dims.eps) => (deviation + 1e-3)";
    let done = broken(&folder, how, &["selftest", "--kernel=adamw"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.contains("FAILED: adamw.apply[plain] is wrong as shipped: params["), "{done:?}");
    let error = done.stderr.lines().last().unwrap();
    assert!(error.starts_with("error: the self-test failed: adamw.apply[plain] is wrong") && error.contains("want"), "{done:?}");

    let wrong = "the kernels of adamw are wrong in every variant";
    folder.refused(1, TOY, &[wrong, "--ignore-selftest"]);
    assert!(!ok(&folder, &[TOY, &["--ignore-selftest"]].concat()).stderr.contains("adamw"));
    // Who only uses the model is warned.
    let predicted = ok(&folder, &["predict", "--run=run", "hello"]);
    assert_eq!(predicted.stderr.lines().filter(|line| line.starts_with("WARNING") && line.contains(wrong)).count(), 1, "{predicted:?}");

    assert_eq!(folder.run(&["selftest", "--kernel=adamw.apply"]).code, 0);
    assert!(!ok(&folder, TOY).stderr.contains("adamw"));
}

#[cfg(debug_assertions)]
#[test]
fn a_broken_variant_is_avoided() {
    let folder = Folder::new("selftest_variant");
    ok(&folder, TOY);
    let usual = taken(&folder);
    let how = format!("cross_entropy={usual}: select(0.0, lse - logit => select(0.0, 1.01 * lse - logit");
    let done = broken(&folder, &how, &["selftest", "--kernel=cross_entropy.forward"]);
    let named = format!("cross_entropy.forward[{usual}] is wrong");
    assert!(done.code == 1 && done.stderr.contains(&named) && done.stdout.matches("FAILED: ").count() == 1, "{done:?}");
    assert!(done.stdout.contains("  passed"), "the other variants are right: {done:?}");

    let run = ok(&folder, TOY);
    let notice = format!("selftest  not used, as it failed here: cross_entropy={usual}");
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with(&notice)).count(), 1, "{run:?}");
    assert_ne!(taken(&folder), usual);
    let variant = format!("--variant=cross_entropy={usual}");
    let run = ok(&folder, &[TOY, &[&variant]].concat());
    assert!(run.stderr.contains("used as you wish, although it failed here") && taken(&folder) == usual, "{run:?}");

    // A result of another driver, or of other shaders, and a damaged one: one line, and nothing is avoided.
    let file = stored(&folder);
    let text = fs::read_to_string(&file).unwrap();
    for (from, to, words) in [
        ("driver = \"", "driver = \"other ", "is ignored: its driver is other "),
        ("shaders = \"", "shaders = \"f", "is ignored: its shader hash is f"),
        ("version = 1", "version = ", "selftest  ignored: "),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let run = ok(&folder, TOY);
        let said: Vec<&str> = run.stderr.lines().filter(|line| line.contains("selftest")).collect();
        assert!(said.len() == 1 && said[0].starts_with("selftest  ") && said[0].contains(words), "{run:?}");
        assert_eq!(taken(&folder), usual);
    }
}

#[test]
fn kernels_that_are_not_there() {
    let folder = Folder::new("selftest_bad");
    folder.refused(2, &["selftest", "--kernel=matmull"], &["--kernel: there is no kernel `matmull`", "layer_norm"]);
    folder.refused(2, &["selftest", "--kernel=matmul.fly"], &["matmul.wgsl has no entry point `fly`"]);
    folder.refused(2, &["train", "--selftest", "--ignore-selftest"], &["--ignore-selftest"]);
}
