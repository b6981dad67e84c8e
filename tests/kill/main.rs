//! The same seed gives bit-identical weights: in two runs, and when the run is killed, stopped, loses its folder or its device,
//! and is resumed or recovers.

#![cfg(feature = "cli")]

#[cfg(debug_assertions)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(debug_assertions)]
mod recovery;
mod small_run;
mod stopped;
#[path = "../cli/support.rs"]
mod support;
#[cfg(unix)]
mod trouble;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::{Folder, small, text};

const KILLS: usize = 10;
const STEPS: u64 = 600;

/// A run with everything that has state: dropout, accumulation, a schedule, validation, frequent checkpoints.
fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "--set=model.dropout=0.1",
        "--set=train.grad_accumulation=2",
        "--set=train.warmup_steps=20",
        "--set=train.checkpoint_every=7",
        "--set=train.eval_every=50",
        "--steps=600",
        "--out",
        out,
    ];
    assert!(own.contains(&format!("--steps={STEPS}").as_str()));
    [&small(&own)[..], more].concat()
}

#[test]
fn a_run_killed_ten_times_ends_like_one_that_was_not() {
    let folder = Folder::new("kill");
    folder.write("text.txt", text());
    let began = Instant::now();
    folder.ok(&arguments("whole", &[]));
    let whole = began.elapsed();
    folder.ok(&arguments("again", &[]));
    same(&folder, "whole", "again");

    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("an uninterrupted run takes {whole:?}; random moments from seed {seed}");
    let mut random = seed;
    let mut share = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as f64 / (1u64 << 24) as f64
    };
    let mut kills = vec![];
    for kill in 0..KILLS {
        // Half of the kills come at any time after the process starts; the others within their share of the run, so that it makes progress.
        let share_of_run = (kill as f64 + share()) / (KILLS + 1) as f64;
        let reached = if kill.is_multiple_of(2) { 0 } else { (share_of_run * STEPS as f64) as u64 };
        let pause = whole.mul_f64(share() * if reached == 0 { 0.1 } else { 0.02 });
        kills.push(killed(&folder, reached, pause));
    }
    println!("the steps of the last checkpoint at each kill: {kills:?}");
    assert!(kills.last() > kills.first(), "the run did not get on: {kills:?}");
    folder.ok(&["train", "--quiet", "--out", "killed", "--resume"]);
    same(&folder, "whole", "killed");
}

/// Starts or resumes the run, and kills it `pause` after a checkpoint of step `reached` or later exists. Returns the last checkpoint's
/// step.
fn killed(folder: &Folder, reached: u64, pause: Duration) -> u64 {
    let latest = || {
        let name = fs::read_to_string(folder.path("killed/checkpoints/latest")).ok()?;
        name.trim().strip_prefix("step-")?.parse::<u64>().ok()
    };
    let resume = ["train", "--quiet", "--out", "killed", "--resume"];
    let arguments = if latest().is_some() { resume.to_vec() } else { arguments("killed", &["--overwrite"]) };
    let mut child = folder.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while latest().unwrap_or(0) < reached && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no checkpoint of step {reached} in five minutes: {:?}", child.kill());
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(pause);
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "the run ended before it was killed, with {ended:?} and checkpoint {:?}", latest());
    child.kill().unwrap();
    child.wait().unwrap();
    latest().unwrap_or(0)
}

/// Both runs end with the same bits and the same records.
fn same(folder: &Folder, a: &str, b: &str) {
    let latest = [a, b].map(|run| folder.read(&format!("{run}/checkpoints/latest")));
    assert_eq!(latest[0], latest[1]);
    for name in ["model.safetensors", "optimizer.safetensors", "tokenizer.json"] {
        let [x, y] = [a, b].map(|run| fs::read(folder.path(&format!("{run}/checkpoints/{}/{name}", latest[0].trim()))).unwrap());
        assert!(x == y, "{name} of {b} differs from that of {a}");
    }
    let measured = |run: &str| -> Vec<[serde_json::Value; 5]> {
        let records = folder.read(&format!("{run}/metrics.jsonl"));
        let records = records.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.map(|record| ["step", "loss", "val_loss", "lr", "grad_norm"].map(|key| record[key].clone())).collect()
    };
    assert_eq!(measured(a), measured(b));
}
