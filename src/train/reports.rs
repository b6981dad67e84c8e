//! Step reports: the records read back from the device, and the learning rates that belong to them.

use std::collections::VecDeque;

use super::config::TrainConfig;
use super::schedule::learning_rate;
use crate::error::{Error, Result};
use crate::model::STEP_RECORDS;
use crate::ops::loss::RECORD;

/// The device's report of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Counted from 1: the first update is step 1.
    pub step: u64,
    /// Mean over the step's real targets, nats.
    pub loss: f32,
    /// Euclidean norm of the whole gradient, before clipping; not finite if the step was skipped.
    pub grad_norm: f32,
    /// Factor on the loss, and so on the gradients while they are computed: 1 unless activations are stored in f16.
    pub loss_scale: f32,
    /// Learning rate of this step, from the schedule.
    pub learning_rate: f64,
    /// Number of steps directly before this one whose reports were lost: the device keeps the latest [`STEP_RECORDS`], and older ones were
    /// not read back in time.
    pub missed: u64,
}

impl StepReport {
    /// Whether gradients overflowed at this loss scale: the update was not applied, and the next step has half the scale.
    pub fn skipped(&self) -> bool {
        !self.grad_norm.is_finite()
    }
}

/// Learning rates of the most recently begun steps: their reports need them, and steps that run again after a recovery.
#[derive(Default)]
pub(super) struct Rates {
    /// The step and its rate, without gaps.
    begun: VecDeque<(u64, f64)>,
    /// The rates from this step on are kept: a recovery would run them again.
    kept_from: u64,
    /// Steps before this one had begun on a lost device: they run again with the rates that they had.
    again: u64,
}

impl Rates {
    /// Returns the learning rate of a step that begins, and keeps it for the step's report.
    pub fn begin(&mut self, train: &TrainConfig, step: u64) -> f64 {
        if let Some(rate) = self.find(step).filter(|_| step < self.again) {
            return rate;
        }
        let rate = learning_rate(train, step);
        // A discarded slice had begun this step before.
        while self.begun.back().is_some_and(|(last, _)| *last >= step) {
            self.begun.pop_back();
        }
        // Twice as many rates as the device keeps records.
        if self.begun.len() > 2 * STEP_RECORDS {
            self.drop_before(step.saturating_sub(2 * STEP_RECORDS as u64));
        }
        self.begun.push_back((step, rate));
        rate
    }

    /// Returns the rate of a step that has begun, and drops those of the steps before it.
    fn of(&mut self, step: u64) -> f64 {
        self.drop_before(step);
        self.find(step).unwrap_or(f64::NAN)
    }

    fn find(&self, step: u64) -> Option<f64> {
        let (first, _) = self.begun.front()?;
        let index = usize::try_from(step.checked_sub(*first)?).ok()?;
        self.begun.get(index).map(|(_, rate)| *rate)
    }

    fn drop_before(&mut self, step: u64) {
        let from = self.kept_from.min(step);
        while self.begun.front().is_some_and(|(first, _)| *first < from) {
            self.begun.pop_front();
        }
    }

    /// Keeps the rates from `step` on, the step of a snapshot, and not those before it any longer.
    pub fn keep_from(&mut self, step: u64) {
        self.kept_from = step;
    }

    /// Steps before `step` run again with the rates that they had.
    pub fn run_again(&mut self, step: u64) {
        self.again = self.again.max(step);
    }

    /// Forgets all rates.
    pub fn clear(&mut self) {
        *self = Rates { kept_from: self.kept_from, ..Rates::default() };
    }
}

/// Reports that were read back but not returned yet.
#[derive(Default)]
pub(super) struct Reports {
    /// Number of steps whose reports were read back.
    pub known: u64,
    coming: VecDeque<Result<StepReport>>,
}

impl Reports {
    /// No reports; those of the first `known` steps are not expected any more.
    pub fn behind(known: u64) -> Reports {
        Reports { known, coming: VecDeque::new() }
    }

    /// Adds the reports of the steps up to `last`, from records that were read back after it.
    pub fn take_in(&mut self, last: u64, records: &[f32], rates: &mut Rates) {
        // The ring holds the most recent steps only.
        let from = self.known.max(last.saturating_sub(STEP_RECORDS as u64));
        let mut missed = from - self.known;
        for step in from..last {
            self.coming.push_back(report(step, records, rates.of(step), missed));
            missed = 0;
        }
        self.known = self.known.max(last);
    }

    /// The next report.
    pub fn next(&mut self) -> Result<Option<StepReport>> {
        self.coming.pop_front().transpose()
    }

    /// All reports before the first error, which the next call returns.
    pub fn good(&mut self) -> Result<Vec<StepReport>> {
        let good = self.coming.iter().take_while(|report| report.is_ok()).count();
        if good == 0 {
            return Ok(self.next()?.into_iter().collect());
        }
        self.coming.drain(..good).collect()
    }

    /// All reports. An error is returned at once; the valid reports are kept for the next call.
    pub fn all(&mut self) -> Result<Vec<StepReport>> {
        if let Some(at) = self.coming.iter().position(Result::is_err)
            && let Some(Err(error)) = self.coming.remove(at)
        {
            return Err(error);
        }
        self.coming.drain(..).collect()
    }
}

/// Builds a step's report from the records.
///
/// # Errors
/// [`Error::Diverged`] when its loss or gradient is not finite, and a smaller loss scale cannot help.
fn report(step: u64, records: &[f32], learning_rate: f64, missed: u64) -> Result<StepReport> {
    let row = (step % STEP_RECORDS as u64) as usize * RECORD;
    let (loss, grad_norm, loss_scale) = (records[row], records[row + 1], records[row + 2]);
    let may_overflow = loss_scale > 1.0;
    if !loss.is_finite() || !(grad_norm.is_finite() || may_overflow) {
        let what = if loss.is_finite() { format!("gradient norm is {grad_norm}") } else { format!("loss is {loss}") };
        return Err(Error::Diverged(format!(
            "step {}: the {what} at learning rate {learning_rate:.3e}; its update was not applied: \
             try a smaller train.learning_rate, a longer train.warmup_steps or a smaller train.grad_clip",
            step + 1
        )));
    }
    Ok(StepReport { step: step + 1, loss, grad_norm, loss_scale, learning_rate, missed })
}
