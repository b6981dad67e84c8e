//! Variants named by hand, variants from a tuning, and variants of resumed runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Done, Folder, small, text};

fn ok(folder: &Folder, args: &[&str]) -> Done {
    let done = folder.run(args);
    assert_eq!(done.code, 0, "{args:?}: {done:?}");
    done
}

/// The only file in the cache.
fn tuned(folder: &Folder) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder.path("cache/tuning")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn variants(folder: &Folder, checkpoint: &str) -> Vec<(String, String)> {
    let state: Value = serde_json::from_str(&folder.read(&format!("{checkpoint}/state.json"))).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{state}")).to_owned();
    let variants = state["variants"].as_array().unwrap().iter();
    variants.map(|choice| (format!("{}@{}", text(&choice["kernel"]), text(&choice["class"])), text(&choice["variant"]))).collect()
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no `{from}` in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

const TOY: &[&str] = &["--preset", "toy", "--steps", "3"];

#[test]
fn tuning_is_kept_read_and_ignored_where_it_does_not_fit() {
    let folder = Folder::new("tune");
    let done = ok(&folder, &["tune", "--preset", "toy", "--rounds", "1", "--json"]);
    let answer: Value = serde_json::from_str(&done.stdout).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    let kernels: Vec<&str> = rows.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    for kernel in ["matmul.forward_bias", "matmul.backward_weight", "attention.forward", "layer_norm.backward", "cross_entropy.forward"] {
        assert!(kernels.contains(&kernel), "{kernels:?}");
    }
    for row in rows {
        let candidates = row["candidates"].as_array().unwrap();
        assert!(candidates.len() > 1 && row["calls"].as_u64().unwrap() > 0, "{row}");
        // On a software driver some variants are skipped because of earlier measurements.
        let left_out = |c: &Value| c["problem"].as_str().is_some_and(|problem| problem.contains(" times the fastest in "));
        let timed = |c: &Value| c["seconds"].as_f64().is_some_and(|s| s > 0.0) && c["problem"].is_null();
        assert!(candidates.iter().all(|c| timed(c) || left_out(c)) && candidates.iter().any(timed), "{row}");
        assert!(candidates.iter().any(|c| c["variant"] == row["chosen"]), "{row}");
    }
    let file = tuned(&folder);
    assert_eq!(answer["file"].as_str().unwrap(), file.to_str().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("[[choices]]").count(), rows.len(), "{text}");

    // A run uses the variants in the file, and its checkpoint records them.
    let before = ok(&folder, &[&["train", "--out", "a"], TOY].concat());
    assert_eq!(before.stderr.matches("tuning    variants from ").count(), 1, "{before:?}");
    let taken = variants(&folder, "a/checkpoints/step-3");
    for row in rows {
        let place = format!("{}@{}", row["kernel"].as_str().unwrap(), row["class"].as_str().unwrap());
        // Decoding has shape classes of its own.
        if let Some((_, variant)) = taken.iter().find(|(taken, _)| *taken == place) {
            assert_eq!(row["chosen"], variant.as_str(), "{place}");
        }
    }
    assert!(ok(&folder, &["predict", "--run", "a", "hello"]).stderr.contains("tuning    variants from "));
    assert_eq!(ok(&folder, &["predict", "--run", "a", "hello", "--tuning", "none"]).stderr, "");

    // A tuning of another driver, or a damaged one: one notice, and nothing else.
    replace(&file, "shaders = \"", "shaders = \"f");
    let ignored = ok(&folder, &["predict", "--run", "a", "hello"]);
    assert!(ignored.stderr.contains("is ignored: its shader hash is f") && ignored.stderr.lines().count() == 1, "{ignored:?}");
    fs::write(&file, "broken").unwrap();
    let ignored = ok(&folder, &["predict", "--run", "a", "hello"]);
    assert!(ignored.stderr.starts_with("tuning    ignored: ") && ignored.stderr.lines().count() == 1, "{ignored:?}");
    folder.run(&["predict", "--run", "a", "hello", "--tuning", file.to_str().unwrap()]).assert_refused(1, &[], &["wgpt tune"]);
}

#[test]
fn train_tunes_first() {
    let folder = Folder::new("train_tune");
    let done = ok(&folder, &[&["train", "--tune", "--out", "a"], TOY].concat());
    for words in ["matmul.forward_bias", "* is chosen", "written to ", "tuning    variants from "] {
        assert!(done.stderr.contains(words), "no `{words}` in {done:?}");
    }
    assert!(!done.stdout.contains("matmul") && tuned(&folder).is_file());
}

#[test]
fn a_resumed_run_keeps_its_variants() {
    let folder = Folder::new("resume_variants");
    folder.write("text.txt", text());
    let other = ["--variant", "matmul=tile_shared", "--variant", "layer_norm.forward=lanes_32"];
    let schedule = "--set=train.schedule=constant";
    ok(&folder, &small(&[&other[..], &["--out", "whole", "--steps", "8", schedule]].concat()));
    ok(&folder, &small(&[&other[..], &["--out", "parts", "--steps", "4", schedule]].concat()));
    let taken = variants(&folder, "parts/checkpoints/step-4");
    let named = |kernel: &str| taken.iter().filter(|(place, _)| place.starts_with(kernel)).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert!(named("matmul.").len() > 3 && named("matmul.").iter().all(|v| *v == "tile_shared"), "{taken:?}");
    assert!(named("layer_norm.forward@").iter().all(|v| *v == "lanes_32"), "{taken:?}");
    assert!(named("layer_norm.backward@").iter().all(|v| *v != "lanes_32"), "{taken:?}");

    let done = ok(&folder, &["train", "--out", "parts", "--resume", "--steps", "8"]);
    assert!(!done.stderr.contains("WARNING"), "{done:?}");
    assert_eq!(variants(&folder, "parts/checkpoints/step-8"), taken);
    let [a, b] = ["whole", "parts"].map(|run| fs::read(folder.path(run).join("checkpoints/step-8/model.safetensors")).unwrap());
    assert!(a == b, "the weights differ");

    // With other variants the run continues as well, with a warning.
    let done = ok(&folder, &["train", "--out", "parts", "--resume", "--steps", "9", "--variant", "matmul=tile_registers"]);
    for words in ["WARNING", "matmul.forward", "uses tile_registers (was tile_shared)", "without --variant"] {
        assert!(done.stderr.contains(words), "no `{words}` in {done:?}");
    }
    // A variant that this adapter cannot run, or that an older version named differently, is not used, with a warning.
    replace(&folder.path("parts/checkpoints/step-9/state.json"), "tile_registers", "tile_of_old");
    let edited = ["train", "--out", "parts", "--resume", "--no-verify", "--steps"];
    let done = ok(&folder, &[&edited[..], &["10"]].concat());
    assert!(done.stderr.contains("(was tile_of_old)") && done.stderr.contains("cannot run its own"), "{done:?}");
    // The list as an older version wrote it: pairs of file and variant.
    let path = folder.path("parts/checkpoints/step-10/state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["variants"] = serde_json::json!([["matmul", "tile_shared"]]);
    fs::write(&path, state.to_string()).unwrap();
    let done = ok(&folder, &[&edited[..], &["11"]].concat());
    assert!(!done.stderr.contains("WARNING"), "{done:?}");
    let kept = variants(&folder, "parts/checkpoints/step-11");
    assert!(kept.iter().filter(|(place, _)| place.starts_with("matmul.")).all(|(_, v)| v == "tile_shared"), "{kept:?}");
}

#[test]
fn variants_and_tunings_that_cannot_be() {
    let folder = Folder::new("bad_variants");
    let train = |more: &[&'static str]| [&["train", "--quiet", "--preset", "toy"], more].concat();
    let refused = |code, more: &[&'static str], words: &[&str]| folder.refused(code, &train(more), words);
    refused(2, &["--variant", "matmul"], &["--variant", "`matmul`", "KERNEL=VARIANT"]);
    refused(2, &["--variant", "matmull=tile_shared"], &["no kernel `matmull`", "attention"]);
    refused(2, &["--variant", "matmul.fwd=tile_shared"], &["`matmul.fwd`", "no entry point `fwd`"]);
    refused(2, &["--variant", "matmul=tile_huge"], &["`tile_huge`", "unknown", "tile_shared"]);
    refused(2, &["--variant", "matmul@3x1x1=tile_shared"], &["`3x1x1`", "powers of two"]);
    refused(2, &["--limits", "baseline", "--variant", "matmul=tile_broadcast"], &["does not run on this adapter", "tile_shared"]);
    refused(1, &["--tuning", "none.toml"], &["none.toml", "no such file"]);
    refused(2, &["--tuning", "none.toml", "--tune"], &["--tuning", "--tune"]);
    folder.refused(1, &["tune", "--preset", "toy", "--out", "no/file.toml"], &["no/file.toml", "folder"]);
    folder.refused(
        2,
        &["tune", "--preset", "toy", "--quiet", "--kernel", "matmull"],
        &["--kernel matmull", "matmul.forward", "layer_norm.forward"],
    );
    folder.write("mine.txt", "mine");
    folder.write("latin1.txt", b"caf\xE9");
    for file in ["mine.txt", "latin1.txt"] {
        let tune = ["tune", "--preset=toy", "--quiet", "--rounds=1", "--kernel=gradient_norm", "--out", file];
        folder.refused(1, &tune, &[file, "is no file of `wgpt tune`", "is not replaced", "--out"]);
        folder.refused(1, &["train", "--quiet", "--preset=toy", "--tuning", file], &[file, "is no file of `wgpt tune`"]);
    }
    folder.refused(2, &["tune", "--preset", "toi"], &["did you mean `toy`?"]);
    folder.refused(2, &["tune", "--rounds", "0"], &["--rounds", "1..=1000"]);
}

#[test]
fn one_kernel_is_tuned_alone() {
    let folder = Folder::new("tune_kernel");
    let kernels = ["--kernel", "layer_norm.forward", "--kernel", "cross_entropy"];
    let tuned = folder.json(&[&["tune", "--preset", "toy", "--rounds", "1", "--json", "--out", "a.toml"][..], &kernels].concat());
    let names: Vec<&str> = tuned["rows"].as_array().unwrap().iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| *name == "layer_norm.forward" || name.starts_with("cross_entropy.")), "{names:?}");
    assert!(names.contains(&"layer_norm.forward") && names.iter().any(|name| name.starts_with("cross_entropy.")), "{names:?}");
    // Earlier tunings are kept.
    ok(&folder, &["tune", "--preset", "toy", "--rounds", "1", "--kernel", "gradient_norm", "--out", "a.toml"]);
    let file = folder.read("a.toml");
    assert!(["cross_entropy.", "layer_norm.forward", "gradient_norm."].iter().all(|kernel| file.contains(kernel)), "{file}");
}
