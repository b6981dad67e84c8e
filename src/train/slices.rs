//! Training as a guest: steps in slices that a host encodes into its own frames.
//!
//! ```no_run
//! # fn frame(trainer: &mut wgpt::train::Trainer, data: &wgpt::text::TokenStore, device: &wgpu::Device, queue: &wgpu::Queue) -> wgpt::Result<()> {
//! use std::time::Duration;
//! use wgpt::gpu::slice::Budget;
//!
//! // Once a frame:
//! let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
//! let ticket = trainer.encode(&mut encoder, data, Budget::time(Duration::from_millis(4)))?;
//! // ... draw into the same encoder ...
//! queue.submit([encoder.finish()]);
//! ticket.submitted();
//! while let Some(report) = trainer.poll()? {
//!     println!("step {}: {:.3}", report.step, report.loss);
//! }
//! # Ok(())
//! # }
//! ```

use super::trainer::{APPLY, Place, StepReport, Trainer};
use crate::error::{Error, Result};
use crate::gpu::plan::Phase;
use crate::gpu::run::Settled;
use crate::gpu::slice::{Budget, Slice, Ticket};
use crate::gpu::wait;
use crate::text::TokenStore;

/// What a step is made on.
#[derive(Debug, Clone, Copy)]
pub enum Batch<'a> {
    /// The windows that belong to the step's number and the config's seed.
    Of(&'a TokenStore),
    /// A batch of the host's, (B, T) each; targets that are no ids are ignored.
    Given { ids: &'a [u32], targets: &'a [u32] },
}

impl<'a> From<&'a TokenStore> for Batch<'a> {
    fn from(store: &'a TokenStore) -> Batch<'a> {
        Batch::Of(store)
    }
}

impl Trainer {
    /// Encodes the next commands of training, as the budget allows, into a host's encoder: the rest of the step under way, then the next
    /// steps; `batch` is asked where a step begins. Never blocks: while two slices are still running nothing is encoded.
    ///
    /// Any slicing gives the same bits. The encoder must be submitted to the queue of [`crate::gpu::Gpu`], in the order of the tickets.
    ///
    /// # Errors
    /// [`Error::Usage`] while the last ticket is there still, or for a batch that does not fit; [`Error::Device`] when the device is
    /// lost. Throw the encoder away then.
    pub fn encode<'a>(&mut self, encoder: &mut wgpu::CommandEncoder, batch: impl Into<Batch<'a>>, budget: Budget) -> Result<Ticket> {
        self.encode_to(encoder, batch.into(), budget)
    }

    /// The same into an encoder of its own, which is submitted at once. Never blocks.
    ///
    /// # Errors
    /// As [`Trainer::encode`].
    pub fn advance<'a>(&mut self, batch: impl Into<Batch<'a>>, budget: Budget) -> Result<()> {
        self.advance_to(batch.into(), budget)
    }

    /// The next report that has come, one for each step in order. Call it once a frame: it looks, without waiting, whether slices have
    /// ended.
    ///
    /// # Errors
    /// As [`Trainer::reports`], and [`Error::Device`] when the device is lost.
    pub fn poll(&mut self) -> Result<Option<StepReport>> {
        wait::look(&self.session.gpu)?;
        self.settle()?;
        self.session.runner.poll();
        self.session.runner.check()?;
        self.collect()?;
        self.ask_for_reports()?;
        self.coming.pop_front().transpose()
    }

    /// Submits the copy that brings the records of ended steps back, if there are any and no other is on its way.
    fn ask_for_reports(&mut self) -> Result<()> {
        let session = &mut self.session;
        if !session.readback.idle() || self.at.step <= self.reported {
            return Ok(());
        }
        let mut encoder = session.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("reports") });
        session.readback.request(&mut encoder, session.compiled.place(&session.model.records).0, self.at.step);
        session.gpu.queue().submit([encoder.finish()]);
        session.gpu.check()
    }

    /// The phase of the next command of the step under way; `None` between two steps, when weights, data and learning rate may change.
    pub fn next_phase(&self) -> Option<Phase> {
        let at = self.place();
        let next = at.rest.iter().find(|(_, range)| !range.is_empty());
        next.map(|(phase, _)| *phase).or_else(|| (at.micro > 0).then_some(crate::model::FORWARD))
    }

    /// Changes the peak learning rate of the schedule, as of the next step that begins: the one under way keeps its own, through all of its
    /// micro-batches and in its report. The lowest rate follows if it would be above.
    ///
    /// # Errors
    /// [`Error::Usage`] for a rate that is no number above 0.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        let mut train = self.config.train.clone();
        train.learning_rate = rate;
        train.min_learning_rate = train.min_learning_rate.min(rate);
        train.validate()?;
        self.config.train = train;
        Ok(())
    }

    fn encode_to(&mut self, encoder: &mut wgpu::CommandEncoder, batch: Batch, budget: Budget) -> Result<Ticket> {
        self.settle()?;
        self.session.runner.check()?;
        if let Batch::Given { ids, targets } = batch {
            self.check_batch(ids, targets)?;
        }
        let Some(mut slice) = self.session.runner.open(encoder, budget)? else { return Ok(Ticket::empty()) };
        let (mut at, mut slots) = (self.at.clone(), 0);
        let at_most = at.step.saturating_add(budget.steps);
        self.fill_slice(encoder, batch, &mut slice, (&mut at, &mut slots), at_most)?;
        if slice.is_empty() {
            return Ok(Ticket::empty());
        }
        self.ahead = Some((at, slots));
        Ok(self.session.runner.close(encoder, slice))
    }

    fn advance_to(&mut self, batch: Batch, budget: Budget) -> Result<()> {
        let device = self.session.gpu.device().clone();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") });
        let ticket = self.encode_to(&mut encoder, batch, budget)?;
        if ticket.dispatches() > 0 {
            self.session.gpu.queue().submit([encoder.finish()]);
        }
        ticket.submitted();
        self.settle()?;
        self.session.gpu.check()
    }

    /// Encodes until the slice is full, no slot of inputs is free, or step `last` has ended.
    fn fill_slice(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        batch: Batch,
        slice: &mut Slice,
        (at, slots): (&mut Place, &mut usize),
        last: u64,
    ) -> Result<()> {
        while !slice.is_full() {
            if at.rest.is_empty() {
                // A batch of the host's is for one step.
                let used = matches!(batch, Batch::Given { .. }) && *slots > 0;
                let done = used || at.step >= last || slice.ends_before(self.phases(at.micro)[0]);
                let begun = if done { Ok(false) } else { self.begin(encoder, batch, at, slots) };
                match begun {
                    Ok(true) => {}
                    Err(error) if slice.is_empty() => return Err(error),
                    // What is encoded already is good; the error comes again with the next slice.
                    Ok(false) | Err(_) => break,
                }
            }
            let Some((phase, range)) = at.rest.front_mut() else { break };
            let phase = *phase;
            if slice.ends_before(phase) {
                break;
            }
            let session = &self.session;
            session.runner.encode(encoder, &session.compiled, slice, range);
            if range.start == range.end {
                at.rest.pop_front();
                self.looks.encode(encoder, phase);
                if at.rest.is_empty() {
                    self.end(at);
                }
            }
        }
        Ok(())
    }

    /// Begins the next micro-batch; false if no slot is free for its inputs.
    fn begin(&mut self, encoder: &mut wgpu::CommandEncoder, batch: Batch, at: &mut Place, slots: &mut usize) -> Result<bool> {
        if !self.session.slots.ready(*slots)? {
            return Ok(false);
        }
        match batch {
            Batch::Of(store) => self.fill_frame(store, at.step, at.micro)?,
            Batch::Given { ids, targets } => self.set_frame(ids, targets)?,
        }
        if at.micro == 0 {
            at.rate = self.begin_step(at.step);
        }
        let slot = self.slot(at.step, at.micro, at.rate);
        self.session.slots.fill(*slots, &slot)?;
        let session = &self.session;
        session.slots.encode(*slots, encoder, session.compiled.place(&session.model.inputs.step).0);
        *slots += 1;
        at.rest = self.phases(at.micro).into_iter().map(|phase| (phase, session.compiled.phase(phase))).collect();
        Ok(true)
    }

    /// Ends a micro-batch, and a step with its last one.
    fn end(&self, at: &mut Place) {
        at.micro += 1;
        if at.micro == self.config.train.grad_accumulation {
            (at.micro, at.step) = (0, at.step + 1);
        }
    }

    /// Takes note of what the host did with the last slice.
    pub(super) fn settle(&mut self) -> Result<Settled> {
        let settled = self.session.runner.settle()?;
        match (settled, &self.ahead) {
            (Settled::Submitted, Some(_)) => {
                let Some((at, slots)) = self.ahead.take() else { return Ok(settled) };
                self.session.slots.commit(slots);
                self.session.under_way = at.micro > 0 || !at.rest.is_empty();
                self.at = at;
            }
            (Settled::Dropped, _) => {
                self.session.slots.recall();
                self.ahead = None;
            }
            _ => {}
        }
        Ok(settled)
    }

    /// # Errors
    /// [`Error::Usage`] while a host has a slice.
    pub(super) fn settled(&mut self) -> Result<()> {
        self.session.gpu.check()?;
        match self.settle()? {
            Settled::Open => Err(Error::usage("a host has a slice of this trainer: submit it or drop its ticket first")),
            _ => Ok(()),
        }
    }

    /// Blocks until a step that slices have begun is submitted whole.
    pub(super) fn end_slices(&mut self, batch: Batch) -> Result<()> {
        self.settled()?;
        while self.session.under_way {
            self.session.runner.wait_for_room()?;
            // Slots come back with the slices that took them along.
            if self.at.rest.is_empty() && !self.session.slots.ready(0)? {
                wait::for_device(&self.session.gpu)?;
            }
            self.advance_to(batch, Budget::time(self.session.runner.limit()).steps(1))?;
        }
        Ok(())
    }

    /// Blocks until the step that slices have begun, if any, has ended on the device.
    ///
    /// # Errors
    /// As [`Trainer::encode`].
    pub fn end_step<'a>(&mut self, batch: impl Into<Batch<'a>>) -> Result<()> {
        self.end_slices(batch.into())?;
        self.session.runner.wait_for_all()
    }

    /// Whether the update of the step under way comes next: gradients are whole, weights are those of the step before.
    pub fn at_seam(&self) -> bool {
        self.place().rest.iter().find(|(_, range)| !range.is_empty()) == Some(&(APPLY, self.session.compiled.phase(APPLY)))
    }
}
