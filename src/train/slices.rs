//! Training inside a host application: steps in slices that the host encodes into its own frames.
//!
//! ```no_run
//! # use wgpt::low_level::text::TokenStore;
//! # fn frame(trainer: &mut wgpt::Trainer, data: &TokenStore, device: &wgpu::Device, queue: &wgpu::Queue) -> wgpt::Result<()> {
//! use std::time::Duration;
//! use wgpt::Budget;
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

use super::reports::StepReport;
use super::steps::{Batch, check_batch};
use super::trainer::Trainer;
use crate::error::Result;
use crate::gpu::plan::Phase;
use crate::gpu::slice::{Budget, Ticket};
use crate::model::NORM;
use crate::model::session::Session;

/// Bytes of a snapshot that a call in a host's frame copies to host memory, in less than a millisecond.
const KEPT_BY_A_SLICE: usize = 4 << 20;

impl Trainer {
    /// Encodes the next commands that fit the budget into a host's encoder: the rest of the current step, then the next steps. `batch` is
    /// read where a step begins. Never blocks: while two slices are still running, it encodes nothing.
    ///
    /// Every slicing gives the same bits. Submit the encoders to the queue of [`crate::gpu::Gpu`] in the order of their tickets.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) while the last slice is not settled, or for a batch that does not fit;
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) when the device is lost. Discard the encoder then.
    pub fn encode<'a>(&mut self, encoder: &mut wgpu::CommandEncoder, batch: impl Into<Batch<'a>>, budget: Budget) -> Result<Ticket> {
        let (batch, last) = self.last_of(batch.into(), budget)?;
        let (session, mut steps) = self.steps(batch, last, false);
        session.guest.encode(session.compiled, encoder, &mut steps, budget)
    }

    /// As [`Trainer::encode`], but into an encoder of its own, which it submits at once. Never blocks.
    ///
    /// # Errors
    /// As [`Trainer::encode`].
    pub fn advance<'a>(&mut self, batch: impl Into<Batch<'a>>, budget: Budget) -> Result<()> {
        let (batch, last) = self.last_of(batch.into(), budget)?;
        let (session, mut steps) = self.steps(batch, last, false);
        session.guest.advance(session.compiled, &mut steps, budget)
    }

    /// Checks the batch, and returns it with the number of the last step that a slice may contain a part of.
    fn last_of<'a>(&mut self, batch: Batch<'a>, budget: Budget) -> Result<(Batch<'a>, u64)> {
        self.session.guest.settled()?;
        if let Batch::Given { ids, targets } = batch {
            check_batch(&self.config, ids, targets)?;
        }
        let last = self.step_count().saturating_add(budget.steps);
        self.keep_some(KEPT_BY_A_SLICE)?;
        // A snapshot is due: this slice ends where it can be taken.
        let last = if self.keeper.is_due() { last.min(self.step_count() + 1) } else { last };
        Ok((batch, last))
    }

    /// Returns the next report that was read back, one for each step in order. Never blocks; call it once a frame.
    ///
    /// # Errors
    /// As [`Trainer::reports`], and [`Error::DeviceLost`](crate::Error::DeviceLost) when the device is lost.
    pub fn poll(&mut self) -> Result<Option<StepReport>> {
        self.session.guest.poll()?;
        self.collect()?;
        let step = self.step_count();
        if step > self.reports.known {
            let Session { guest, readback, compiled, model, .. } = &mut self.session;
            guest.fetch(readback, compiled.place(&model.records).0, step)?;
        }
        self.reports.next()
    }

    /// The phase of the current step's next command; `None` between two steps, when weights, data and learning rate may change.
    pub fn next_phase(&self) -> Option<Phase> {
        let guest = &self.session.guest;
        let next = guest.next_phase(&self.session.compiled).map(|(phase, _)| phase);
        next.or_else(|| guest.under_way().then_some(crate::model::FORWARD))
    }

    /// Changes the schedule's peak learning rate from the next step on: the current step keeps its rate, in all its micro-batches and in
    /// its report. A minimum rate above the new peak is lowered to it.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for a rate that is not a number above 0.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        let mut train = self.config.train.clone();
        train.learning_rate = rate;
        train.min_learning_rate = train.min_learning_rate.min(rate);
        train.validate()?;
        self.config.train = train;
        Ok(())
    }

    /// Blocks until a step that slices have begun is fully submitted.
    pub(super) fn end_slices(&mut self, batch: Batch) -> Result<()> {
        self.session.guest.settled()?;
        if self.session.guest.under_way() {
            self.blocking(batch, false, &|| false)?;
        }
        Ok(())
    }

    /// Blocks until the step that slices have begun, if any, has finished on the device.
    ///
    /// # Errors
    /// As [`Trainer::encode`].
    pub fn end_step<'a>(&mut self, batch: impl Into<Batch<'a>>) -> Result<()> {
        self.end_slices(batch.into())?;
        self.session.guest.runner.wait_for_all()
    }

    /// Whether the gradient norm comes next: the gradients are complete and may be exchanged or changed; the weights are those of the
    /// previous step.
    pub fn at_seam(&self) -> bool {
        self.session.guest.next_phase(&self.session.compiled) == Some((NORM, false))
    }
}
