//! Training pass by pass: micro-batches with their inputs, and the update after the last one of a step.

use super::config::RunConfig;
use super::reports::Rates;
use super::taps::Taps;
use crate::error::{Error, Result};
use crate::gpu::passes::{Pass, Passes};
use crate::gpu::plan::Phase;
use crate::gpu::slots::Readback;
use crate::model::session::TrainProgress;
use crate::model::{self, Model, NORM, STEP_RECORDS, UPDATE};
use crate::ops::step::Step;
use crate::random;
use crate::text::{Sampler, TokenStore, sort_order_into};

/// The data of a step.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// The windows that the step's number and the config's seed determine.
    Of(&'a TokenStore),
    /// A batch from the host, (B, T) each; targets that are not ids of the vocabulary are ignored.
    Given {
        /// The tokens that the model reads.
        ids: &'a [u32],
        /// The token that follows each of them.
        targets: &'a [u32],
    },
}

impl<'a> From<&'a TokenStore> for Batch<'a> {
    fn from(store: &'a TokenStore) -> Batch<'a> {
        Batch::Of(store)
    }
}

/// Host memory for one micro-batch, reused.
#[derive(Default)]
pub(super) struct Frame {
    ids: Vec<u32>,
    targets: Vec<u32>,
    order: Vec<u32>,
}

/// The steps that one call runs.
pub(super) struct Steps<'a> {
    pub config: &'a RunConfig,
    pub model: &'a Model,
    pub frame: &'a mut Frame,
    pub rates: &'a mut Rates,
    pub taps: &'a Taps,
    pub batch: Batch<'a>,
    /// No step begins once this many are done.
    pub last: u64,
    /// If a report is wanted: where a step's records are copied after its update, and the buffer that holds them.
    pub report: Option<(&'a mut Readback, &'a wgpu::Buffer)>,
    /// Whether the host's batch was used: it serves one step.
    pub used: bool,
}

impl Passes for Steps<'_> {
    type Progress = TrainProgress;

    fn next(&self, place: &TrainProgress) -> Option<Pass> {
        let done = place.step >= self.last || self.used;
        (!done).then(|| Pass { inputs: true, phases: phases(self.config, place.micro) })
    }

    fn begin(&mut self, place: &mut TrainProgress) -> Result<Option<Vec<u8>>> {
        match self.batch {
            Batch::Of(store) => self.frame.draw(self.config, store, place)?,
            Batch::Given { ids, targets } => {
                self.frame.set(self.config, ids, targets)?;
                self.used = true;
            }
        }
        if place.micro == 0 {
            place.rate = self.rates.begin(&self.config.train, place.step);
        }
        Ok(Some(self.slot(place)))
    }

    fn watches(&self, phase: Phase) -> bool {
        self.taps.watch(phase) || phase == UPDATE && self.report.is_some()
    }

    fn behind(&mut self, encoder: &mut wgpu::CommandEncoder, phase: Phase, place: &TrainProgress) {
        self.taps.encode(encoder, phase);
        if let Some((readback, records)) = self.report.as_mut().filter(|(readback, _)| phase == UPDATE && readback.idle()) {
            readback.request(encoder, records, place.step + 1);
        }
    }

    fn end(&self, place: &mut TrainProgress) {
        place.micro += 1;
        if place.micro == self.config.train.grad_accumulation {
            (place.micro, place.step) = (0, place.step + 1);
        }
    }

    fn commits(&self, phase: Phase, begun: bool) -> bool {
        is_updating(phase, begun)
    }
}

impl Steps<'_> {
    /// The bytes of one upload slot: the step block and the frame's inputs.
    fn slot(&self, place: &TrainProgress) -> Vec<u8> {
        let (train, frame) = (&self.config.train, &*self.frame);
        // Training windows have no ignored targets. Only a caller's batch may have some, and it is the whole step.
        let ignored = frame.targets.iter().filter(|&&t| t as usize >= self.config.model.vocab_size).count() as u64;
        let real = (tokens_per_step(self.config) - if train.grad_accumulation == 1 { ignored } else { 0 }).max(1);
        let block = Step {
            learning_rate: place.rate as f32,
            target_scale: 1.0 / real as f32,
            seed: random::bits(train.seed, place.step) as u32,
            first_sample: (place.micro * train.batch_size) as u32,
            record: (place.step % STEP_RECORDS as u64) as u32,
            fresh: (place.micro == 0) as u32,
            ..Step::default()
        };
        let block = block.with_dropout(self.config.model.dropout);
        self.model.inputs.slot(block, &frame.ids, &frame.targets, &frame.order, &[])
    }
}

/// Whether weights and state belong to different steps if `phase` comes next (`begun`: a part of it has run). The norm phase already counts
/// the update that follows it.
pub(super) fn is_updating(phase: Phase, begun: bool) -> bool {
    phase == NORM && begun || phase == UPDATE
}

/// The phases of a micro-batch, in order.
fn phases(config: &RunConfig, micro: usize) -> Vec<Phase> {
    let mut phases = vec![model::FORWARD, model::HEAD, model::BACKWARD];
    if micro == 0 {
        phases.splice(0..0, [model::PREPARE, model::CAST]);
    }
    if micro + 1 == config.train.grad_accumulation {
        phases.extend([NORM, UPDATE]);
    }
    phases
}

/// Samples of one step.
pub(super) fn samples_per_step(config: &RunConfig) -> u64 {
    (config.train.batch_size * config.train.grad_accumulation) as u64
}

/// Tokens of one step.
pub(super) fn tokens_per_step(config: &RunConfig) -> u64 {
    samples_per_step(config) * config.model.seq_len as u64
}

/// # Errors
/// [`Error::Usage`] for a caller's batch that is not a whole step, or an id outside the vocabulary.
pub(super) fn check_batch(config: &RunConfig, ids: &[u32], targets: &[u32]) -> Result<()> {
    let tokens = tokens_per_step(config) as usize;
    if config.train.grad_accumulation != 1 || ids.len() != tokens || targets.len() != tokens {
        let found = format!("{} ids and {} targets", ids.len(), targets.len());
        return Err(Error::usage(format!("{found}: one batch of {tokens} is needed, with train.grad_accumulation = 1")));
    }
    let vocab = config.model.vocab_size;
    if let Some(place) = ids.iter().position(|&id| id as usize >= vocab) {
        let (id, last) = (ids[place], vocab - 1);
        return Err(Error::usage(format!("ids[{place}] = {id} is out of range: the vocabulary has ids 0 to {last}")));
    }
    Ok(())
}

impl Frame {
    /// Copies a caller's batch.
    fn set(&mut self, config: &RunConfig, ids: &[u32], targets: &[u32]) -> Result<()> {
        check_batch(config, ids, targets)?;
        *self = Frame { ids: ids.to_vec(), targets: targets.to_vec(), order: vec![0; ids.len()] };
        sort_order_into(&self.ids, &mut self.order)
    }

    /// Fills in a step's micro-batch from the data.
    fn draw(&mut self, config: &RunConfig, data: &TokenStore, place: &TrainProgress) -> Result<()> {
        let (batch, time) = (config.train.batch_size, config.model.seq_len);
        let sampler = Sampler::new(config.train.seed, time, data.len())?;
        let first = place.step * samples_per_step(config) + (place.micro * batch) as u64;
        let Frame { ids, targets, order } = self;
        ids.resize(batch * time, 0);
        targets.resize(batch * time, 0);
        order.resize(batch * time, 0);
        for (index, (inputs, targets)) in ids.chunks_mut(time).zip(targets.chunks_mut(time)).enumerate() {
            sampler.fill(data, first + index as u64, inputs, targets)?;
        }
        sort_order_into(ids, order)
    }
}
