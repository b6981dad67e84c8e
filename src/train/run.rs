//! A run in a folder: steps, validations, checkpoints and metrics, from its start or from where it stopped.

mod recovery;
mod saving;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use web_time::Instant;

use super::checkpoint::OpenCheckpoint;
use super::config::RunConfig;
use super::evaluate::evaluate_shown;
use super::folder::RunFolder;
use super::metrics::{METRICS, MetricsFile, Record};
use super::reports::StepReport;
use super::step_clock::StepClock;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::model::STEP_RECORDS;
use crate::text::{Corpus, Tokenizer};
pub use recovery::Reopening;
use saving::Trouble;

/// The inputs of a run, prepared before the device is opened.
pub struct Setup {
    /// Its vocabulary size is set.
    pub config: RunConfig,
    /// Encodes the text of the corpus; every checkpoint holds a copy.
    pub tokenizer: Tokenizer,
    /// Training and validation tokens.
    pub corpus: Corpus,
    /// Claimed by this process.
    pub folder: RunFolder,
    /// The weights that it begins with, and the step.
    pub origin: Origin,
}

/// What a run begins with.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Random weights.
    Random,
    /// The weights of a checkpoint of another run.
    Weights(Box<OpenCheckpoint>),
    /// Everything in the latest checkpoint of the run in the folder: the run continues exactly where it stopped.
    Resumed(Box<OpenCheckpoint>),
}

impl Origin {
    /// The checkpoint, if there is one.
    pub fn checkpoint(&self) -> Option<&OpenCheckpoint> {
        match self {
            Origin::Random => None,
            Origin::Weights(checkpoint) | Origin::Resumed(checkpoint) => Some(checkpoint),
        }
    }

    /// The checkpoint that the run continues from, if it is resumed.
    pub fn resumed(&self) -> Option<&OpenCheckpoint> {
        self.checkpoint().filter(|_| matches!(self, Origin::Resumed(_)))
    }
}

/// A run in progress.
pub struct Run {
    pub(crate) trainer: Trainer,
    pub(crate) setup: Setup,
    /// The id of the folder's marker.
    owner: String,
    metrics: MetricsFile,
    best: Best,
    /// The last validation, at this step or an earlier one.
    validated: Option<Validated>,
    /// The record of a step whose validation is not finished.
    held: Option<Record>,
    /// The run was stopped in the validation of the step that it resumes at, so it must repeat that validation to match an uninterrupted
    /// run.
    owed: bool,
    /// The step of the newest checkpoint.
    saved: u64,
    /// The last step that was submitted; the trainer's own count is lower after a recovery.
    at: u64,
    due: Due,
    trouble: Trouble,
    clock: StepClock,
}

/// What is still to be done after the last step.
#[derive(Clone, Copy, Default)]
struct Due {
    validation: bool,
    save: bool,
}

/// The lowest validation loss, and the lowest one that has a checkpoint.
#[derive(Default)]
struct Best {
    found: Option<Validated>,
    saved: Option<Validated>,
}

/// A validation loss and its step.
#[derive(Clone, Copy, PartialEq)]
struct Validated {
    step: u64,
    loss: f64,
}

/// Events of a run, for display.
#[derive(Debug, Clone)]
pub enum Event {
    /// Sent for every step, in order, soon after it has run.
    Step {
        /// Loss, gradient norm and learning rate of the step.
        report: StepReport,
        /// Mean over the steps that were reported together, from the end of the step before them to their own end.
        tokens_per_second: f64,
        /// Milliseconds of a step, as the same mean.
        ms: f64,
    },
    /// A line of `metrics.jsonl`.
    Recorded {
        /// A JSON object, without a line break.
        line: String,
    },
    /// Progress of a validation: batches submitted, and batches in total.
    Validating {
        /// Completed steps.
        step: u64,
        /// Batches submitted.
        done: usize,
        /// Batches in total.
        all: usize,
    },
    /// A validation ended with a finite loss.
    Validation {
        /// Completed steps.
        step: u64,
        /// Mean over the validation targets, in nats.
        loss: f64,
        /// Whether it is the lowest of the run so far.
        best: bool,
    },
    /// A checkpoint was written in the run's folder; not sent for the first one, which [`Run::new`] writes.
    Saved {
        /// Completed steps.
        step: u64,
        /// The checkpoint's folder.
        path: PathBuf,
    },
    /// Something could not be written, or can be written again; the run continues.
    Trouble {
        /// A message for the user that names the file or the step.
        problem: String,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The config's last step is done.
    Finished,
    /// Stopped by the caller and saved.
    Interrupted,
}

impl Run {
    /// Trains until the config's last step, or until `stop` returns true.
    ///
    /// # Errors
    /// [`Error::Diverged`] and errors of the device. A file that cannot be written causes an [`Event::Trouble`], and an error at the end if
    /// the run had to be saved in another folder.
    pub fn train(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Outcome> {
        self.train_on(&mut Reopening::never(), observe, stop)
    }

    /// As [`Run::train`]; if the device is lost or has no memory, it continues on another one from its last snapshot. Records and
    /// checkpoints are those of an undisturbed run.
    ///
    /// # Errors
    /// As [`Run::train`]; an error of the device says which step is saved, and where.
    pub fn train_on(&mut self, again: &mut Reopening, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Outcome> {
        loop {
            match self.attempt(observe, stop) {
                Err(error) if recovery::is_of_device(&error) => self.recover(error, again, observe)?,
                ended => return ended,
            }
        }
    }

    fn attempt(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Outcome> {
        let ended = self.steps(observe, stop);
        if ended.is_err()
            && let Err(why) = self.metrics.flush().or_else(|why| self.rescue_metrics(why))
        {
            // The error that ended the run takes precedence.
            observe(Event::Trouble { problem: why.to_string() });
        }
        let outcome = ended?;
        let unsaved = self.saved < self.trainer.step_count() || self.trouble.checkpoint.is_some();
        if outcome == Outcome::Interrupted && unsaved {
            self.save(observe)?;
        }
        if let Some((_, why)) = self.trouble.checkpoint.take() {
            return Err(self.rescue(why, false));
        }
        self.metrics.flush().or_else(|why| self.rescue_metrics(why))?;
        Ok(outcome)
    }

    fn steps(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Outcome> {
        if !self.catch_up(observe, stop)? {
            return Ok(Outcome::Interrupted);
        }
        let train = self.setup.config.train.clone();
        self.clock.rest();
        loop {
            if self.due.validation {
                let Some(best) = self.validate(observe, stop)? else { return Ok(Outcome::Interrupted) };
                self.due = Due { validation: false, save: self.due.save || best };
            }
            if self.due.save || self.retries() {
                self.save(observe)?;
                self.due.save = false;
            }
            if self.at >= train.steps {
                break;
            }
            let next = self.at + 1;
            let save_due = next == train.steps || (train.checkpoint_every > 0 && next.is_multiple_of(train.checkpoint_every));
            if !self.step(next, stop)? {
                return Ok(Outcome::Interrupted);
            }
            (self.at, self.due) = (next, Due { validation: self.validates(next), save: save_due });
            let reports = self.trainer.reports()?;
            self.take(reports, observe)?;
        }
        self.finish(observe)?;
        Ok(Outcome::Finished)
    }

    /// Submits a step; false if `stop` returned true.
    fn step(&mut self, next: u64, stop: &dyn Fn() -> bool) -> Result<bool> {
        let report = reported(next, self.setup.config.train.log_every, self.clock.elapsed());
        self.trainer.step(&self.setup.corpus.train, report, stop)
    }

    /// Runs the steps again that a lost device had run since the snapshot. Only those have reports that had none before.
    fn catch_up(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<bool> {
        while self.trainer.step_count() < self.at {
            if !self.step(self.trainer.step_count() + 1, stop)? {
                return Ok(false);
            }
            let reports = self.trainer.reports()?;
            self.take(reports, observe)?;
        }
        Ok(true)
    }

    /// Waits for all steps and takes their reports; if a step diverged, the reports of the steps before it.
    fn finish(&mut self, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let ended = self.trainer.finish();
        let reports = match &ended {
            Ok(reports) => reports.clone(),
            // Errors of later steps say nothing more.
            Err(Error::Diverged(_)) => self.trainer.reports().unwrap_or_default(),
            Err(_) => vec![],
        };
        self.take(reports, observe)?;
        ended.map(drop)
    }

    /// Writes and shows the reports; the record of a validated step is held until its validation is done.
    fn take(&mut self, reports: Vec<StepReport>, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let Some(last) = reports.last().map(|report| report.step) else { return Ok(()) };
        let ended = self.trainer.ended().filter(|(step, _)| *step == last);
        self.clock.tick(last, ended.map_or_else(Instant::now, |(_, when)| when));
        let ms = self.clock.ms();
        for report in reports {
            let row = Record::of(&report, self.setup.config.train.storage, self.trainer.tokens_per_step(), ms);
            let tokens_per_second = row.tokens_per_second;
            if self.validates(report.step) {
                self.held = Some(row);
            } else if self.setup.config.train.logs(report.step) || report.skipped() {
                self.record(&row, observe)?;
            }
            observe(Event::Step { report, tokens_per_second, ms });
        }
        Ok(())
    }

    /// Writes a record, or keeps it until it can be written.
    fn record(&mut self, row: &Record, observe: &mut dyn FnMut(Event)) -> Result<()> {
        observe(Event::Recorded { line: serde_json::to_string(row).map_err(|e| Error::file(METRICS, e))? });
        self.stand(observe);
        if !self.setup.folder.is_there() {
            // Whatever is at its path now belongs to someone else.
            return self.metrics.keep(row);
        }
        // The step of a repeated validation already has a record.
        let written = if self.owed { self.metrics.amend(row) } else { self.metrics.append(row) };
        let shown = self.setup.folder.path().join(METRICS);
        match written {
            Ok(()) if std::mem::take(&mut self.trouble.metrics) => {
                observe(Event::Trouble { problem: format!("{} can be written again and has all records", shown.display()) });
            }
            Err(e) if !std::mem::replace(&mut self.trouble.metrics, true) => {
                observe(Event::Trouble {
                    problem: format!("{e}: the run continues and keeps its records in memory until they can be written"),
                });
            }
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    /// Writes the record that was held for its validation.
    fn record_held(&mut self, val_loss: Option<f64>, observe: &mut dyn FnMut(Event)) -> Result<()> {
        self.held.take().map_or(Ok(()), |row| self.record(&Record { val_loss, ..row }, observe))
    }

    /// The validation at the current step, if there was one.
    fn validated_now(&self) -> Option<Validated> {
        self.validated.filter(|validated| validated.step == self.trainer.step_count())
    }

    fn validates(&self, step: u64) -> bool {
        let train = &self.setup.config.train;
        let due = step == train.steps || (train.eval_every > 0 && step.is_multiple_of(train.eval_every));
        due && !self.setup.corpus.val.is_empty()
    }

    /// Measures the validation loss at this step. Returns whether it is the best so far, or `None` if `stop` returned true.
    fn validate(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Option<bool>> {
        self.finish(observe)?;
        let step = self.trainer.step_count();
        let batches = self.setup.config.train.eval_batches;
        let show = &mut |done, all| observe(Event::Validating { step, done, all });
        let Some(found) = evaluate_shown(&mut self.trainer.session, &self.setup.corpus.val, batches, stop, show)? else {
            if !self.owed {
                self.record_held(None, observe)?;
            }
            return Ok(None);
        };
        self.clock.rest();
        if !found.loss.is_finite() {
            self.record_held(None, observe)?;
            return Err(Error::Diverged(format!("step {step}: the validation loss is {}: try a smaller train.learning_rate", found.loss)));
        }
        let validated = Validated { step, loss: found.loss };
        let best = self.best.found.is_none_or(|best| found.loss < best.loss);
        if best {
            self.best.found = Some(validated);
        }
        self.validated = Some(validated);
        if self.owed && self.held.is_none() {
            // The run does not log this step, or lost its record: write what is known.
            self.held = Some(Record { step, ..Record::default() });
        }
        self.record_held(Some(found.loss), observe)?;
        self.owed = false;
        observe(Event::Validation { step, loss: found.loss, best });
        Ok(Some(best))
    }

    /// The step that the run has reached: of the trainer, or of a checkpoint that is newer after a recovery.
    pub fn reached(&self) -> u64 {
        self.trainer.step_count().max(self.saved)
    }

    /// The lowest validation loss so far.
    pub fn best_val_loss(&self) -> Option<f64> {
        self.best.found.map(|best| best.loss)
    }
}

/// Whether to request a step's report: for each step to be logged, when the last reported step ended a second or more ago, and as often as
/// the device's ring of records requires. A record that is overwritten is lost, and with it the step at which a run diverged.
fn reported(step: u64, log_every: u64, since: Duration) -> bool {
    step.is_multiple_of(log_every) || step.is_multiple_of(STEP_RECORDS as u64 / 4) || since >= Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_record_is_lost_however_rarely_steps_are_logged() {
        for log_every in [1, 7, 1000, 100_000, i64::MAX as u64] {
            let asked: Vec<u64> = (1..=10_000).filter(|step| reported(*step, log_every, Duration::ZERO)).collect();
            // A report may arrive two steps late, and a request is skipped while an earlier one is in flight.
            assert!(asked.windows(3).all(|steps| steps[2] - steps[0] + 2 <= STEP_RECORDS as u64), "{log_every}: {asked:?}");
            assert!(asked[1] <= STEP_RECORDS as u64, "{log_every}: {asked:?}");
        }
        assert!(reported(3, 100, Duration::from_secs(1)) && !reported(3, 100, Duration::from_millis(999)));
    }
}
