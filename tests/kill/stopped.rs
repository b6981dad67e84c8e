//! Ctrl-C at every moment at which a run checks for it.

use std::cell::Cell;

use wgpt::low_level::train::folder::Start;
use wgpt::low_level::train::run::{Event, Outcome};

use crate::small_run::{config, run, seen};

/// In steps, in validations, before and after checkpoints: the resumed run ends like one that was not stopped, including validations, best
/// checkpoint and records.
#[test]
fn a_run_stopped_at_every_moment_ends_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let asked = Cell::new(0);
    let count = || {
        asked.set(asked.get() + 1);
        false
    };
    let mut validating = vec![];
    let mut undisturbed = run(&config(), &whole, Start::Fresh).unwrap();
    let mut from = 0;
    let mut watch = |event: Event| match event {
        // The validation's first check came after the last one of the step.
        Event::Step { .. } => from = asked.get() + 1,
        Event::Validation { .. } => validating.extend(from..=asked.get()),
        _ => {}
    };
    assert_eq!(undisturbed.train(&mut watch, &count).unwrap(), Outcome::Finished);
    drop(undisturbed);
    let (moments, whole) = (asked.get(), seen(&whole));
    assert_eq!(whole.records.iter().filter(|record| record.2.is_some()).count(), 3);
    assert!(validating.len() >= 3 && moments > validating.len() as u64, "{validating:?} of {moments}");

    for moment in 1..=moments {
        let out = folder.path().join(format!("stopped-{moment}"));
        asked.set(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() >= moment
        };
        let stopped = run(&config(), &out, Start::Fresh).unwrap().train(&mut |_| {}, &stop).unwrap();
        assert_eq!(stopped, Outcome::Interrupted, "moment {moment}");
        // Stop a second time at the first check, which may be in the same validation.
        run(&config(), &out, Start::Resume).unwrap().train(&mut |_| {}, &|| true).unwrap();
        let ended = run(&config(), &out, Start::Resume).unwrap().train(&mut |_| {}, &|| false).unwrap();
        assert_eq!(ended, Outcome::Finished);
        assert!(
            seen(&out) == whole,
            "stopped at moment {moment} of {moments}, validating in {validating:?}: {:?} {:?}",
            seen(&out).records,
            whole.records
        );
        std::fs::remove_dir_all(&out).unwrap();
    }
    println!("stopped at {moments} moments, {} of them in validations", validating.len());
}
