//! `device.destroy()` at every phase of a step, of an evaluation, of a save and of a start.

use std::time::Duration;

use wgpt::Budget;
use wgpt::phases::{BACKWARD, FORWARD, HEAD, NORM, UPDATE};

use super::*;

fn lost(result: Result<()>) {
    match result {
        Err(Error::DeviceLost(said)) => assert!(said.contains("lost") || said.contains("destroyed"), "{said}"),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("a lost device goes unnoticed"),
    }
}

/// Calls `advance` and `poll` as a host's frames do, until one of them returns an error.
fn frames_until_lost(trainer: &mut Trainer, corpus: &Corpus, reports: &mut Vec<StepReport>) -> Error {
    for _ in 0..500 {
        let polled = trainer.advance(&corpus.train, Budget::dispatches(5)).and_then(|()| trainer.poll());
        match polled {
            Ok(report) => reports.extend(report),
            Err(error) => return error,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a lost device goes unnoticed");
}

/// Trains to the end after a loss; `reports` are those that were returned before.
fn ends_as(config: &RunConfig, corpus: &Corpus, trainer: Trainer, reports: Vec<StepReport>, expected: &Outcome, what: &str) {
    let mut trial = Trial::new(config, corpus, |_| {});
    (trial.trainer, trial.reports) = (Some(trainer), reports);
    let (found, _) = trial.outcome();
    assert!(found == *expected, "a loss {what} changed the training");
}

#[test]
fn of_a_start() {
    let (config, _) = toy(3);
    let gpu = own();
    gpu.device().destroy();
    lost(block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).map(drop));
    // A trainer of its own cannot recover on a lost device either.
    let alive = own();
    let mut trainer = block_on(&alive, Trainer::new(&alive, &config, &Options::default())).unwrap();
    lost(block_on(&gpu, trainer.recover(&gpu)));
}

#[test]
fn of_a_step() {
    let (config, corpus) = toy(6);
    let expected = undisturbed(&config, &corpus);
    let phases = [None, Some(FORWARD), Some(HEAD), Some(BACKWARD), Some(NORM), Some(UPDATE)];
    for (phase, in_flight) in phases.iter().flat_map(|phase| [(*phase, false), (*phase, true)]) {
        let gpu = own();
        let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).unwrap();
        let mut reports = vec![];
        for _ in 0..3 {
            trainer.step(&corpus.train, true, &|| false).unwrap();
            reports.extend(trainer.reports().unwrap());
        }
        // A part of the fourth step, up to this phase.
        while trainer.next_phase() != phase {
            trainer.advance(&corpus.train, Budget::dispatches(1).steps(1)).unwrap();
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            reports.extend(trainer.poll().unwrap());
        }
        if in_flight {
            trainer.advance(&corpus.train, Budget::dispatches(3).steps(1)).unwrap();
        }
        gpu.device().destroy();
        let error = frames_until_lost(&mut trainer, &corpus, &mut reports);
        assert!(matches!(error, Error::DeviceLost(_)), "{error}");
        ends_as(&config, &corpus, trainer, reports, &expected, &format!("before {phase:?} of a step"));
    }
}

#[test]
fn of_an_evaluation_a_save_and_a_read_back() {
    let (config, corpus) = toy(4);
    let expected = undisturbed(&config, &corpus);
    type Call = fn(&Gpu, &mut Trainer, &Corpus) -> Result<()>;
    let calls: [(&str, Call); 7] = [
        ("at an evaluation", |_, trainer, corpus| evaluate(&mut trainer.session, &corpus.train, 0, &|| false).map(drop)),
        ("at a snapshot", |gpu, trainer, _| block_on(gpu, trainer.snapshot()).map(drop)),
        ("at a snapshot that is kept", |gpu, trainer, _| block_on(gpu, trainer.keep())),
        ("at the end of a training", |_, trainer, _| trainer.finish().map(drop)),
        ("at a step", |_, trainer, corpus| trainer.step(&corpus.train, true, &|| false).map(drop)),
        ("at the end of a step", |_, trainer, corpus| trainer.end_step(&corpus.train)),
        ("at a tap", |gpu, trainer, _| block_on(gpu, trainer.tap("wte", UPDATE)).map(drop)),
    ];
    for (what, call) in calls {
        for steps in [0, 2] {
            let gpu = own();
            let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).unwrap();
            let mut reports = vec![];
            for _ in 0..steps {
                trainer.step(&corpus.train, true, &|| false).unwrap();
                reports.extend(trainer.reports().unwrap());
            }
            gpu.device().destroy();
            // With nothing in flight some calls have nothing to ask the device for.
            if let Err(error) = call(&gpu, &mut trainer, &corpus) {
                assert!(matches!(error, Error::DeviceLost(_)), "{what}: {error}");
            }
            let error = frames_until_lost(&mut trainer, &corpus, &mut reports);
            assert!(matches!(error, Error::DeviceLost(_)), "{what}: {error}");
            ends_as(&config, &corpus, trainer, reports, &expected, what);
        }
    }
}

/// A host's own changes since the last snapshot: a learning rate is kept, weights after `keep` too.
#[test]
fn rates_and_weights_of_a_host_are_kept() {
    let (mut config, corpus) = toy(6);
    let train = |config: &RunConfig, loses: bool| {
        let gpu = own();
        let mut trainer = block_on(&gpu, Trainer::new(&gpu, config, &Options::default())).unwrap();
        let doubled = |_: usize, param: &wgpt::low_level::model::params::Param| Ok(param.initial(5).iter().map(|w| 2.0 * w).collect());
        block_on(&gpu, trainer.session.write_weights(doubled)).unwrap();
        block_on(&gpu, trainer.keep()).unwrap();
        let mut reports = vec![];
        for step in 0..4 {
            trainer.step(&corpus.train, true, &|| false).unwrap();
            trainer.set_learning_rate(1e-3 / f64::from(1 + step)).unwrap();
        }
        reports.extend(trainer.finish().unwrap());
        if loses {
            gpu.device().destroy();
            frames_until_lost(&mut trainer, &corpus, &mut reports);
        }
        let mut trial = Trial::new(config, &corpus, |_| {});
        (trial.gpu, trial.trainer, trial.reports) = ((!loses).then_some(gpu), Some(trainer), reports);
        trial.outcome().0
    };
    for every in [0.0, 1e-9, 1e9] {
        config.train.snapshot_every = every;
        assert!(train(&config, true) == train(&config, false), "with a snapshot every {every} s");
    }
}
