//! A trainer whose device is lost or out of memory goes on on another device, and ends with the bits of an undisturbed training.
//!
//! Devices are destroyed by `device.destroy()` at every phase of a training's life, and by the seam of builds with debug assertions at
//! every single submit (src/gpu/fault.rs), which also refuses allocations. Every error is typed; nothing panics, although the device is one
//! of a host that has no handler for errors.

#![cfg(debug_assertions)]

#[path = "../common/mod.rs"]
mod common;
mod losses;
mod memory;
mod phases;

use common::own;
use wgpt::low_level::ops::step::State;
use wgpt::low_level::train::evaluate;
use wgpt::{Corpus, Error, Gpu, Options, Result, RunConfig, StepReport, Trainer, block_on, presets};

/// The preset `toy`, with a snapshot between any two steps that have none in flight.
fn toy(steps: u64) -> (RunConfig, Corpus) {
    let mut config = presets::preset("toy").unwrap();
    (config.train.steps, config.train.snapshot_every) = (steps, 1e-9);
    let (tokenizer, corpus) = Corpus::build(&config.data, &[presets::TOY_TEXT], &config.tokenizer, None).unwrap();
    config.model = config.model.with_vocab(tokenizer.vocab_size()).unwrap();
    (config, corpus)
}

/// What a training leaves: every report, every bit of weights and moments, the device's state, and the loss of an evaluation.
#[derive(Debug, PartialEq)]
struct Outcome {
    reports: Vec<StepReport>,
    bits: Vec<Vec<u32>>,
    state: State,
    loss: f64,
}

/// A training that recovers from whatever happens to its devices.
struct Trial<'a> {
    config: &'a RunConfig,
    corpus: &'a Corpus,
    gpu: Option<Gpu>,
    trainer: Option<Trainer>,
    reports: Vec<StepReport>,
    /// Prepares each device that is opened.
    prepare: Box<dyn FnMut(&Gpu) + 'a>,
    recoveries: u64,
}

impl<'a> Trial<'a> {
    fn new(config: &'a RunConfig, corpus: &'a Corpus, prepare: impl FnMut(&Gpu) + 'a) -> Trial<'a> {
        Trial { config, corpus, gpu: None, trainer: None, reports: vec![], prepare: Box::new(prepare), recoveries: 0 }
    }

    /// Trains to the end and evaluates.
    fn outcome(mut self) -> (Outcome, u64) {
        loop {
            match self.attempt() {
                Ok(outcome) => return (outcome, self.recoveries),
                Err(Error::DeviceLost(_) | Error::OutOfMemory(_)) => {
                    self.recoveries += 1;
                    // The old device first, so that it is closed.
                    self.gpu = None;
                }
                Err(other) => panic!("not an error of the device: {other}"),
            }
        }
    }

    fn attempt(&mut self) -> Result<Outcome> {
        if self.gpu.is_none() {
            let gpu = own();
            (self.prepare)(&gpu);
            if let Some(trainer) = &mut self.trainer {
                block_on(&gpu, trainer.recover(&gpu))?;
            }
            self.gpu = Some(gpu);
        }
        let gpu = self.gpu.clone().unwrap();
        if self.trainer.is_none() {
            self.trainer = Some(block_on(&gpu, Trainer::new(&gpu, self.config, &Options::default()))?);
        }
        let trainer = self.trainer.as_mut().unwrap();
        while trainer.step_count() < self.config.train.steps {
            trainer.step(&self.corpus.train, true, &|| false)?;
            self.reports.extend(trainer.reports()?);
        }
        self.reports.extend(trainer.finish()?);
        let loss = evaluate(&mut trainer.session, &self.corpus.train, 0, &|| false)?.unwrap().loss;
        let snapshot = block_on(&gpu, trainer.snapshot())?;
        let lists = snapshot.weights.iter().chain(snapshot.moments.iter().flatten());
        let bits = lists.map(|values| values.iter().map(|value| value.to_bits()).collect()).collect();
        Ok(Outcome { reports: std::mem::take(&mut self.reports), bits, state: snapshot.state, loss })
    }
}

fn undisturbed(config: &RunConfig, corpus: &Corpus) -> Outcome {
    let (outcome, recoveries) = Trial::new(config, corpus, |_| {}).outcome();
    assert_eq!(recoveries, 0);
    assert_eq!(outcome.reports.iter().map(|report| report.step).collect::<Vec<_>>(), (1..=config.train.steps).collect::<Vec<_>>());
    outcome
}
