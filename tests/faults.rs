//! Every operation that changes a file fails, or ends the process at that point: the run is complete each time, and can be resumed.
//!
//! In builds with debug assertions the program counts its file operations, and `WGPT_FAULT` says which of them fails and how
//! (src/files/fault.rs). A write that fails, or during which the process ends, has written its first half.
//!
//! With WGPT_FAULTS=all, as in CI, every operation is tested, several hundred in all; otherwise every fifth fault.

#![cfg(all(feature = "cli", debug_assertions))]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Folder, copy, small, text};
use wgpt::low_level::files::{MANIFEST, Manifest};
use wgpt::low_level::model::params;
use wgpt::low_level::train::checkpoint;
use wgpt::low_level::train::checkpoint::Which;

/// A command run in a folder with some contents, and what must be there after a fault.
struct Scene {
    name: &'static str,
    /// The command starts in a copy of this folder.
    base: PathBuf,
    command: Vec<&'static str>,
    /// Whether it holds a run with a checkpoint.
    has_run: bool,
}

/// One step; every step is saved and validated.
const RUN: [&str; 8] = [
    "--out=run",
    "--set=train.steps=1",
    "--set=train.batch_size=1",
    "--set=model.d_model=8",
    "--set=train.checkpoint_every=1",
    "--set=train.eval_every=1",
    "--set=train.eval_batches=1",
    "--set=train.log_every=1",
];
const RESUME: [&str; 5] = ["train", "--out=run", "--quiet", "--resume", "--set=train.steps=2"];

fn scenes(all: &Folder) -> Vec<Scene> {
    let base = |name: &str| {
        let base = all.path(name);
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("text.txt"), text()).unwrap();
        base
    };
    let made = |name: &str, more: &[&str]| {
        let base = base(name);
        let done = command(&base, &[&small(&RUN)[..], more].concat()).output().unwrap();
        assert!(done.status.success(), "{name}: {done:?}");
        base
    };
    let resave = made("resave", &["--set=train.steps=2"]);
    // The state after a kill between the rename of step-2 and the update of the files that name it.
    for pointer in ["latest", "best"] {
        fs::write(resave.join("run/checkpoints").join(pointer), "step-1\n").unwrap();
    }
    let scene = |name, base, command, has_run| Scene { name, base, command, has_run };
    vec![
        scene("first save", base("first"), small(&RUN), false),
        scene("re-save", resave, RESUME.to_vec(), true),
        scene("overwrite", made("overwrite", &["--set=train.seed=7"]), [&small(&RUN)[..], &["--overwrite"]].concat(), true),
        scene("resume", made("resume", &[]), RESUME.to_vec(), true),
    ]
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgpt"));
    // One cache for all commands: nothing is written to it after the first run.
    let cache = folder.parent().unwrap().join("cache");
    command.current_dir(folder).args(args).env("WGPT_CACHE", cache).env("TMPDIR", folder);
    command
}

/// Runs the scene's command with a fault, and checks the result; resumes from it if `goes_on`, which is set if the state differs from that
/// after the operation before.
fn disturbed(scene: &Scene, folder: &Path, fault: &str, goes_on: bool, expected: &Weights) {
    let _ = fs::remove_dir_all(folder);
    copy(&scene.base, folder);
    let done = command(folder, &scene.command).env("WGPT_FAULT", fault).output().unwrap();
    let (said, what) = (String::from_utf8_lossy(&done.stderr).into_owned(), format!("{}, {fault}", scene.name));
    assert!(!said.contains("panicked"), "{what}: {said}");
    let killed = fault.starts_with("kill");
    assert_eq!(done.status.code().is_none(), killed, "{what}: {:?} {said}", done.status);

    let run = folder.join("run");
    let saved = checkpoint::any(&run);
    assert!(saved || !scene.has_run, "{what}: the run is gone: {said}");
    if saved {
        for which in [Which::Latest, Which::Best] {
            let found = checkpoint::find(&run, which).unwrap_or_else(|e| panic!("{what}: {e}: {said}"));
            let whole = Manifest::find(found.path()).and_then(|manifest| manifest.unwrap().check_all(found.path()));
            whole.unwrap_or_else(|e| panic!("{what}: {e}: {said}"));
            let table = params::table(&checkpoint::read_config(&found).unwrap().model);
            checkpoint::read_weights(&found, &table).unwrap();
            checkpoint::read_moments(&found, &table, 2).unwrap();
        }
    }
    if !goes_on {
        return;
    }
    // Continue with the command that a user would run next.
    let mut next = scene.command.clone();
    next.retain(|word| saved || *word != "--resume");
    if saved && !next.contains(&"--overwrite") && !next.contains(&"--resume") {
        next = [&RESUME[..4], &[scene.command.iter().find(|word| word.contains("train.steps=")).unwrap()]].concat();
    }
    let latest = fs::read_to_string(run.join("checkpoints/latest")).unwrap_or_default();
    let done = command(folder, &next).output().unwrap();
    assert!(done.status.success(), "{what}, then {next:?}: {done:?}, after: {said}");
    let ended = weights(&run);
    // On a busy machine a driver may fail to start, and another adapter is used.
    assert!(ended.adapter != expected.adapter || ended.values == expected.values, "{what}: the run ends with other weights");
    if ended.checkpoint == latest {
        return;
    }
    let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    for path in checkpoints.filter(|path| path.is_dir()) {
        assert!(path.join(MANIFEST).is_file(), "{what}: {} is left", path.display());
    }
}

/// The result of a run.
struct Weights {
    adapter: (String, String),
    values: Vec<Vec<f32>>,
    /// The contents of `latest`.
    checkpoint: String,
}

fn weights(run: &Path) -> Weights {
    let found = checkpoint::find(run, Which::Latest).unwrap();
    let (config, meta) = (checkpoint::read_config(&found).unwrap(), checkpoint::read_meta(&found).unwrap());
    let values = checkpoint::read_weights(&found, &params::table(&config.model)).unwrap();
    let checkpoint = fs::read_to_string(run.join("checkpoints/latest")).unwrap();
    Weights { adapter: (meta.adapter, meta.driver), values, checkpoint }
}

#[test]
fn a_fault_at_any_operation_leaves_a_whole_run() {
    let all = Folder::new("faults");
    let mut trials = 0;
    for scene in scenes(&all) {
        let (folder, log) = (all.path("undisturbed"), all.path("log"));
        let _ = (fs::remove_dir_all(&folder), fs::remove_file(&log));
        copy(&scene.base, &folder);
        let done = command(&folder, &scene.command).env("WGPT_FAULT_LOG", &log).output().unwrap();
        assert!(done.status.success(), "{}: {done:?}", scene.name);
        let (expected, log) = (weights(&folder.join("run")), fs::read_to_string(&log).unwrap());
        let operations: Vec<&str> = log.lines().collect();
        assert!(operations.len() > 40, "{}: {log}", scene.name);
        let faults = operations.iter().zip(1..).flat_map(|(operation, at)| {
            // Half a file, or an unsynced one, under a name that nothing reads.
            let same = ["write", "sync", "create"].iter().any(|kind| operation.contains(kind)) && operation.contains("tmp");
            let full = (at % 5 == 0).then(|| format!("full:{at}"));
            let faults = [Some(format!("kill:{at}")), Some(format!("error:{at}")), full].into_iter().flatten();
            faults.map(move |fault| (fault, !same || at % 8 == 0))
        });
        let all_of_them = std::env::var("WGPT_FAULTS").is_ok_and(|which| which == "all");
        let faults: Vec<(String, bool)> = faults.step_by(if all_of_them { 1 } else { 5 }).collect();
        std::thread::scope(|threads| {
            for half in 0..2 {
                let (scene, faults, expected, folder) = (&scene, &faults, &expected, all.path(&format!("trial-{half}")));
                let mine = faults.iter().skip(half).step_by(2);
                threads.spawn(move || mine.for_each(|(fault, goes_on)| disturbed(scene, &folder, fault, *goes_on, expected)));
            }
        });
        println!("{}: {} operations, {} faults", scene.name, operations.len(), faults.len());
        trials += faults.len();
    }
    println!("{trials} faults, the run is whole after each");
}
