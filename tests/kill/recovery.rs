//! The device is lost at every submit of a run: its start, steps, validations, saves and snapshots. And it has no memory for an allocation.

use std::path::Path;

use wgpt::low_level::train::folder::Start;
use wgpt::low_level::train::run::{Event, Outcome, Reopening, Run};
use wgpt::{Error, Gpu, Options, Result, RunConfig};

use crate::common::own;
use crate::small_run::{Seen, config, problems, seen, setup};

/// The small run, with a snapshot between any two steps that have none in flight.
fn snapped(recoveries: u64) -> RunConfig {
    let mut config = config();
    (config.train.snapshot_every, config.train.recoveries) = (1e-9, recoveries);
    config
}

/// Trains in `out` on this device, then on others.
fn train(config: &RunConfig, out: &Path, start: Start, gpu: Gpu) -> (Result<Outcome>, Vec<Event>) {
    let mut events = vec![];
    let mut open = || Ok(own());
    let mut again = Reopening::new(&mut open, config.train.recoveries);
    let ended = || -> Result<Outcome> {
        let mut observe = |event: Event| events.push(event);
        let mut run = Run::start(gpu, setup(config, out, start)?, &Options::default(), &mut again, &mut observe)?;
        run.train_on(&mut again, &mut observe, &|| false)
    };
    (ended(), events)
}

/// With WGPT_FAULTS=all, as in CI, every fault is tested; otherwise one of `some`.
fn every(some: usize) -> usize {
    if std::env::var("WGPT_FAULTS").is_ok_and(|which| which == "all") { 1 } else { some }
}

fn undisturbed(config: &RunConfig, out: &Path) -> Seen {
    assert_eq!(train(config, out, Start::Fresh, own()).0.unwrap(), Outcome::Finished);
    seen(out)
}

#[test]
fn a_run_that_loses_its_device_at_any_submit_ends_like_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = snapped(1);
    let whole = undisturbed(&config, &folder.path().join("whole"));
    let mut submits = 0;
    for at in (1..).step_by(every(8)) {
        let (gpu, out) = (own(), folder.path().join("lost"));
        gpu.lose_at_submits([at]);
        let (ended, events) = train(&config, &out, Start::Fresh, gpu);
        assert_eq!(ended.unwrap(), Outcome::Finished);
        let said = problems(&events);
        assert!(seen(&out) == whole, "lost at submit {at}: {:?} {:?} {said:?}", seen(&out).records, whole.records);
        let steps: Vec<u64> =
            events.iter().filter_map(|e| if let Event::Step { report, .. } = e { Some(report.step) } else { None }).collect();
        assert_eq!(steps, (1..=config.train.steps).collect::<Vec<_>>(), "lost at submit {at}");
        std::fs::remove_dir_all(&out).unwrap();
        if said.is_empty() {
            break;
        }
        let word = if said[0].contains("it begins again") { "it begins again: recovery 1 of 1" } else { "the run continues from step " };
        assert!(said.len() == 1 && said[0].contains(word) && said[0].contains("lost"), "lost at submit {at}: {said:?}");
        submits = at;
    }
    println!("{submits} submits");
    assert!(submits > 100, "{submits} submits");
}

#[test]
fn a_run_that_may_not_recover_saves_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    // Checkpoints are rare, so that snapshots are newer.
    let mut config = snapped(0);
    (config.train.checkpoint_every, config.train.eval_every) = (0, 0);
    let whole = undisturbed(&config, &folder.path().join("whole"));
    let (mut snapshots, mut ends) = (0, false);
    for at in (1..).step_by(every(12)) {
        let (gpu, out) = (own(), folder.path().join("lost"));
        gpu.lose_at_submits([at]);
        let (ended, _) = train(&config, &out, Start::Fresh, gpu);
        match ended {
            Ok(_) => ends = true,
            // The first checkpoint did not exist yet: the folder is as it was.
            Err(Error::DeviceLost(_)) if !out.join("checkpoints").exists() => {}
            Err(Error::DeviceLost(said)) => {
                let step =
                    said.split_once("; step ").and_then(|(_, rest)| rest.split_once(" is saved in ")).unwrap_or_else(|| panic!("{said}")).0;
                let latest = std::fs::read_to_string(out.join("checkpoints/latest")).unwrap();
                assert_eq!(latest.trim(), format!("step-{step}"), "{said}");
                snapshots += u32::from(step != "0");
                assert_eq!(train(&config, &out, Start::Resume, own()).0.unwrap(), Outcome::Finished);
            }
            Err(other) => panic!("lost at submit {at}: {other}"),
        }
        if out.join("checkpoints").exists() {
            let found = seen(&out);
            assert!(found.latest == whole.latest && found.records == whole.records, "lost at submit {at}: {:?}", found.records);
            std::fs::remove_dir_all(&out).unwrap();
        }
        if ends {
            break;
        }
    }
    println!("{snapshots} snapshots were saved");
    assert!(snapshots > 3, "{snapshots} snapshots were saved");
}

#[test]
fn a_run_without_memory_begins_again_or_says_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let whole = undisturbed(&snapped(1), &folder.path().join("whole"));
    for at in (1..).step_by(every(4)) {
        let gpu = own();
        gpu.refuse_allocations(at..=at);
        let (ended, events) = train(&snapped(1), &out, Start::Fresh, gpu);
        assert_eq!(ended.unwrap(), Outcome::Finished);
        assert!(seen(&out) == whole, "no memory for allocation {at}");
        std::fs::remove_dir_all(&out).unwrap();
        if problems(&events).is_empty() {
            break;
        }
        // Not even once, if it may not begin again: the error says what helps, and the folder is as it was.
        let gpu = own();
        gpu.refuse_allocations(at..=u64::MAX);
        let (ended, _) = train(&snapped(0), &out, Start::Fresh, gpu);
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::OutOfMemory(_)) && error.to_string().contains("takes less memory"), "{error}");
        assert!(!out.exists(), "allocation {at}: a refused run has left a folder");
    }
}
