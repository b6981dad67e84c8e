//! Folders that are moved or removed during a run, and files that cannot be written for a while or ever again.

use std::fs;
use std::path::{Path, PathBuf};

use wgpt::Result;
use wgpt::low_level::train::folder::{RunFolder, Start};
use wgpt::low_level::train::run::{Event, Outcome};

use crate::small_run::{Seen, config, problems, run, seen};

/// Trains in `out`, and calls `at` after each step with its number.
fn train(out: &Path, mut at: impl FnMut(u64)) -> (Result<Outcome>, Vec<Event>) {
    let mut events = vec![];
    let mut observe = |event: Event| {
        if let Event::Step { report, .. } = &event {
            at(report.step);
        }
        events.push(event);
    };
    let ended = run(&config(), out, Start::Fresh).unwrap().train(&mut observe, &|| false);
    (ended, events)
}

fn undisturbed(folder: &Path) -> Seen {
    let out = folder.join("undisturbed");
    assert_eq!(train(&out, |_| {}).0.unwrap(), Outcome::Finished);
    let seen = seen(&out);
    assert_eq!(seen.best, seen.latest, "these tests want a run that gets better to its end");
    seen
}

/// The run must report each of these problems exactly once.
fn has(events: &[Event], words: &[&str]) {
    let said = problems(events);
    for word in words {
        assert_eq!(said.iter().filter(|problem| problem.contains(word)).count(), 1, "`{word}` in {said:?}");
    }
}

#[test]
fn a_folder_that_is_moved_or_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    for (name, move_it) in [("moved", true), ("removed", false)] {
        for step in 1..=6 {
            let (out, away) = (folder.path().join(name), folder.path().join("away"));
            let (ended, events) = train(&out, |now| {
                if now == step && move_it {
                    fs::rename(&out, &away).unwrap();
                } else if now == step {
                    fs::remove_dir_all(&out).unwrap();
                }
            });
            assert_eq!(ended.unwrap(), Outcome::Finished);
            has(&events, &["was moved or removed: it is recreated with its metrics"]);
            let found = seen_again(&out);
            assert!(found.latest == whole.latest && found.records == whole.records, "{name} at step {step}: {:?}", found.records);
            if move_it {
                assert!(away.join("checkpoints/latest").exists(), "what was moved is somebody's");
                fs::remove_dir_all(&away).unwrap();
            }
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

/// As [`seen`], but a run whose folder was removed may have lost the best checkpoint with it.
fn seen_again(out: &Path) -> Seen {
    if !out.join("checkpoints/best").exists() {
        fs::copy(out.join("checkpoints/latest"), out.join("checkpoints/best")).unwrap();
    }
    seen(out)
}

/// A place that can no longer be written to: a file is where the folder was.
#[test]
fn a_run_without_a_place_is_saved_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    let out = folder.path().join("a b");
    let (ended, events) = train(&out, |step| {
        if step == 2 {
            fs::rename(&out, folder.path().join("away")).unwrap();
            fs::write(&out, "mine").unwrap();
        }
    });
    let error = ended.unwrap_err().to_string();
    has(&events, &["cannot be recreated"]);
    let place = folder.path().join("a b-rescued");
    assert!(error.contains("step 6 cannot be saved here") && error.contains(&place.display().to_string()), "{error}");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let found = seen_again(&place);
    assert!(found.latest == whole.latest && found.records == whole.records, "{:?}", found.records);
    // The run can be resumed from there.
    let mut longer = config();
    longer.train.steps = 7;
    assert_eq!(run(&longer, &place, Start::Resume).unwrap().train(&mut |_| {}, &|| false).unwrap(), Outcome::Finished);
}

/// Another process may have started a run where the folder was.
#[test]
fn a_place_that_another_run_took_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut other = None;
    let (ended, _) = train(&out, |step| {
        if step == 2 {
            fs::rename(&out, folder.path().join("away")).unwrap();
            other = Some(RunFolder::claim(&out, Start::Fresh).unwrap());
        }
    });
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("run-rescued") && error.contains("--resume"), "{error}");
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".wgpt.holder", ".wgpt.lock"], "only what the other one made");
    assert!(other.unwrap().is_there() && folder.path().join("run-rescued/checkpoints/step-6").is_dir());
}

/// A folder in the place of a file simulates a full disk: nothing can be written there, until later.
#[test]
fn what_cannot_be_written_is_said_kept_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    let out = folder.path().join("run");
    let metrics = out.join("metrics.jsonl");
    let (ended, events) = train(&out, |step| match step {
        2 => {
            fs::remove_file(&metrics).unwrap();
            fs::create_dir(&metrics).unwrap();
        }
        5 => fs::remove_dir(&metrics).unwrap(),
        _ => {}
    });
    assert_eq!(ended.unwrap(), Outcome::Finished);
    has(&events, &["the run continues and keeps its records", "can be written again and has all records"]);
    assert_eq!(seen(&out), whole);
    fs::remove_dir_all(&out).unwrap();

    let (checkpoints, away) = (out.join("checkpoints"), out.join("away"));
    let (ended, events) = train(&out, |step| match step {
        1 => {
            fs::rename(&checkpoints, &away).unwrap();
            fs::write(&checkpoints, "").unwrap();
        }
        5 => {
            fs::remove_file(&checkpoints).unwrap();
            fs::rename(&away, &checkpoints).unwrap();
        }
        _ => {}
    });
    assert_eq!(ended.unwrap(), Outcome::Finished);
    has(&events, &["is not saved: ", "is saved in "]);
    assert_eq!(seen(&out), whole);
}

/// If a run's metrics can never be written again, its records are saved elsewhere.
#[test]
fn records_without_a_place_are_kept_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let whole = undisturbed(folder.path());
    let out = folder.path().join("run");
    let (ended, _) = train(&out, |step| {
        if step == 4 {
            fs::remove_file(out.join("metrics.jsonl")).unwrap();
            fs::create_dir(out.join("metrics.jsonl")).unwrap();
        }
    });
    let error = ended.unwrap_err().to_string();
    let place: PathBuf = error.split("all records are in ").nth(1).unwrap_or_else(|| panic!("{error}")).into();
    fs::remove_dir(out.join("metrics.jsonl")).unwrap();
    fs::rename(&place, out.join("metrics.jsonl")).unwrap();
    assert_eq!(seen(&out), whole, "the checkpoints are whole, and so are the records");
}

/// No report is requested before the last step, so the valid report and the invalid one arrive together.
#[test]
fn steps_before_one_that_went_wrong_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    let train = &mut config.train;
    (train.steps, train.warmup_steps, train.eval_every, train.checkpoint_every, train.log_every) = (2, 0, 0, 0, 1000);
    (train.learning_rate, train.weight_decay) = (3e38, 0.0);
    let (mut shown, out) = (vec![], folder.path().join("run"));
    let mut observe = |event: Event| {
        if let Event::Step { report, .. } = event {
            shown.push(report.step);
        }
    };
    let error = run(&config, &out, Start::Fresh).unwrap().train(&mut observe, &|| false).unwrap_err().to_string();
    assert!(error.starts_with("step 2: "), "{error}");
    assert_eq!(shown, [1]);
}
