//! The life of a run: started, stopped, resumed, replaced, used as initial weights.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Done, Folder, small, text};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn steps(text: &str) -> Vec<u64> {
    lines(text).iter().map(|record| record["step"].as_u64().unwrap()).collect()
}

#[test]
fn json_lines_are_the_metrics() {
    let folder = Folder::new("metrics");
    folder.write("text.txt", text());
    let done = folder.run(&small(&["--out", "a", "--steps", "23", "--json"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let (records, result) = done.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(format!("{records}\n"), folder.read("a/metrics.jsonl"));
    assert_eq!(steps(records), [5, 10, 15, 20, 23]);
    let records = lines(records);
    for key in ["step", "loss", "lr", "grad_norm", "tokens_per_second", "ms"] {
        assert!(records.iter().all(|record| record[key].is_number()), "{key}");
    }
    let validated: Vec<&Value> = records.iter().filter(|r| r["val_loss"].is_number()).map(|r| &r["step"]).collect();
    assert_eq!(validated, [10, 20, 23]);
    let result: Value = serde_json::from_str(result).unwrap();
    assert_eq!((&result["outcome"], &result["step"], &result["run"]), (&"finished".into(), &23.into(), &"a".into()));
    assert!(result["best_val_loss"].is_number() && result["bigram_loss"].is_number(), "{result}");
    let picture = fs::read(folder.path("a/loss.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && folder.read("a/loss.svg").contains("bigram model"));
    for name in ["model.safetensors", "optimizer.safetensors", "config.toml", "tokenizer.json", "state.json"] {
        assert!(folder.path("a/checkpoints/step-23").join(name).exists(), "{name}");
    }
}

#[test]
fn ones_own_text_gets_a_folder_of_its_name() {
    let folder = Folder::new("named");
    folder.write("my text.txt", text());
    folder.write("other.txt", text());
    let train = |file: &'static str, more: &[&'static str]| {
        let settings =
            ["--set=model.n_layer=1", "--set=model.d_model=16", "--set=model.seq_len=16", "--set=train.warmup_steps=0", "--quiet"];
        [&["train", "--data", file, "--set=train.batch_size=4"], &settings[..], more].concat()
    };
    let said = folder.ok(&train("my text.txt", &["--steps=1"]));
    assert!(said.contains("--run 'runs/my text'"), "{said}");
    // The command that began the run resumes it.
    folder.ok(&train("my text.txt", &["--steps=2", "--resume"]));
    assert_eq!(folder.read("runs/my text/checkpoints/latest").trim(), "step-2");
    folder.refused(2, &train("my text.txt", &["--steps=1"]), &["runs/my text holds a run", "--next-free"]);
    folder.ok(&train("my text.txt", &["--steps=1", "--next-free"]));
    folder.ok(&train("other.txt", &["--steps=1", "--init", "runs/my text"]));
    let mut runs: Vec<_> = fs::read_dir(folder.path("runs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    runs.sort();
    assert_eq!(runs, ["my text", "my text-2", "other"]);
}

#[test]
fn resume_goes_on_and_changes_only_what_comes() {
    let folder = Folder::new("resume");
    folder.write("text.txt", text());
    folder.ok(&small(&["--out", "whole", "--steps", "20", "--set=train.schedule=constant"]));
    folder.ok(&small(&["--out", "parts", "--steps", "10", "--set=train.schedule=constant"]));
    let args = ["train", "--out", "parts", "--resume", "--steps", "20", "--set", "train.log_every=2", "--set=train.checkpoint_every=5"];
    let done = folder.run(&args);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("resumed   after step 10") && done.stdout.contains("trained 10 steps"), "{done:?}");
    assert_eq!(steps(&folder.read("parts/metrics.jsonl")), [5, 10, 12, 14, 16, 18, 20]);
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [a, b] = ["whole", "parts"].map(|run| fs::read(folder.path(run).join("checkpoints/step-20").join(name)).unwrap());
        assert!(a == b, "{name} differs");
    }
    // A run with no steps left says so, and is not an error.
    let done = folder.run(&["train", "--out", "parts", "--resume"]);
    assert!(done.code == 0 && done.stderr.contains("after step 20, its last"), "{done:?}");
}

#[test]
fn overwrite_next_free_and_config() {
    let folder = Folder::with_toy("again");
    let first = folder.read("runs/toy/checkpoints/step-300/tokenizer.json");
    folder.ok(&["train", "--quiet", "--preset", "toy", "--next-free", "--steps", "3"]);
    folder.ok(&["train", "--quiet", "--preset", "toy", "--next-free", "--steps", "3"]);
    assert!(folder.path("runs/toy-2/checkpoints/step-3").is_dir() && folder.path("runs/toy-3/checkpoints/step-3").is_dir());
    folder.ok(&["train", "--quiet", "--preset", "toy", "--overwrite", "--steps", "4"]);
    let names: Vec<_> = fs::read_dir(folder.path("runs/toy/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.len() == 2 && folder.path("runs/toy/checkpoints/step-4").is_dir(), "{names:?}");
    assert_eq!(folder.read("runs/toy/checkpoints/step-4/tokenizer.json"), first);
    // A run's own config gives the same run again.
    folder.ok(&["train", "--quiet", "--config", "runs/toy/config.toml", "--out", "same"]);
    let [a, b] = ["runs/toy", "same"].map(|run| fs::read(folder.path(run).join("checkpoints/step-4/model.safetensors")).unwrap());
    assert!(a == b, "the weights differ");
    // A partial config overrides the preset.
    folder.write("mine.toml", "[train]\nsteps = 2\n[model]\nn_head = 2\n");
    folder.ok(&["train", "--quiet", "--preset", "toy", "--config", "mine.toml", "--set", "train.log_every=1", "--out", "runs/mine"]);
    let config = folder.read("runs/mine/config.toml");
    assert!(config.contains("n_head = 2") && config.contains("d_model = 16") && config.contains("log_every = 1"), "{config}");
    assert_eq!(steps(&folder.read("runs/mine/metrics.jsonl")), [1, 2]);
    // The newest run is used.
    assert_eq!(folder.ok(&["predict", "hello"]), folder.ok(&["predict", "hello", "--run", "runs/mine"]));
}

#[test]
fn init_takes_weights_and_tokenizer() {
    let folder = Folder::with_toy("init");
    folder.write("more.txt", "today how are you world\nhello again and again\n".repeat(3));
    let tiny = ["--set=train.learning_rate=1e-12", "--set=train.min_learning_rate=0", "--steps=1", "--data=more.txt"];
    folder.ok(&[&["train", "--quiet", "--init", "runs/toy", "--out", "runs/tuned"], &tiny[..]].concat());
    let predicted = |run: &str| folder.json(&["predict", "--run", run, "hello world", "--json"])["predictions"][0].clone();
    let (old, new) = (predicted("runs/toy"), predicted("runs/tuned"));
    assert_eq!(old["token"], new["token"]);
    assert!((old["probability"].as_f64().unwrap() - new["probability"].as_f64().unwrap()).abs() < 1e-6, "{old} {new}");
    let tokenizer = |run: &str, step: u32| folder.read(&format!("{run}/checkpoints/step-{step}/tokenizer.json"));
    assert_eq!(tokenizer("runs/toy", 300), tokenizer("runs/tuned", 1));
    folder.refused(2, &["train", "--init", "runs/toy"], &["runs/toy holds a run", "--out"]);
}

#[test]
fn before_the_first_step_it_says_what_is_coming() {
    let folder = Folder::new("before");
    folder.write("text.txt", text());
    let args: Vec<&str> = small(&["--out", "a", "--steps", "2"]).into_iter().filter(|arg| *arg != "--quiet").collect();
    let done = folder.run(&args);
    for words in [
        "adapter ",
        "data      text.txt: ",
        " tokens to train on, ",
        "parameters: 1 layer of width 16, 2 heads",
        "memory ",
        "baseline ",
        "run       a, 2 steps of 64 tokens",
    ] {
        assert!(done.stderr.contains(words), "no `{words}` in: {}", done.stderr);
    }
    let devices = folder.json(&["devices", "--json"]);
    let software = devices["adapters"][devices["taken"].as_u64().unwrap() as usize]["type"] == "software adapter";
    assert_eq!(done.stderr.contains("SOFTWARE adapter"), software);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let folder = Folder::new("ctrl_c");
    folder.write("text.txt", text());
    let mut child =
        folder.command(&small(&["--out", "a", "--steps", "1000000"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = || fs::metadata(folder.path("a/metrics.jsonl")).is_ok_and(|file| file.len() > 0);
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        if begun() || child.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(begun(), "no step within a minute: {:?}", child.kill());
    let interrupted = std::process::Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(interrupted.success());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 130, "{done:?}");
    assert!(done.stdout.contains("stopped at step ") && done.stdout.contains("resume with: wgpt train --out a --resume"), "{done:?}");
    let name = folder.read("a/checkpoints/latest");
    let step: u64 = name.trim().strip_prefix("step-").unwrap().parse().unwrap();
    assert!(step > 0 && folder.path("a/loss.svg").exists());
    let next = (step + 2).to_string();
    folder.ok(&["train", "--quiet", "--out", "a", "--resume", "--steps", &next]);
    assert_eq!(folder.read("a/checkpoints/latest").trim(), format!("step-{next}"));
}
