//! Slices: a part of a plan's commands that fits into a frame, and its state after a host has encoded it.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use web_time::Instant;

use super::compile::Compiled;
use super::pace::{Pace, WorkCost};
use super::plan::Phase;
use super::wait::Signal;

/// How much work an engine may encode in one call. By default only the number of inputs that may be in flight bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The most dispatches; 0 encodes nothing. A dispatch that was cut when its plan was compiled counts once for each part.
    pub dispatches: usize,
    /// The longest predicted device time, learned from earlier slices. At least one dispatch, or one part of a cut one, is always encoded,
    /// however long it takes: [`super::options::Options::fine`] cuts them small.
    pub time: Duration,
    /// The most steps that may end in the slice: 1 ends it at the end of the current step.
    pub steps: u64,
    /// Ends the slice before this phase of a step, for a host that has work of its own to encode there.
    pub before: Option<Phase>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { dispatches: usize::MAX, time: Duration::MAX, steps: u64::MAX, before: None }
    }
}

impl Budget {
    /// At most this many dispatches, and no other bound; 0 encodes nothing.
    pub fn dispatches(most: usize) -> Budget {
        Budget { dispatches: most, ..Budget::default() }
    }

    /// At most this predicted device time, and no other bound; at least one dispatch is encoded.
    pub fn time(most: Duration) -> Budget {
        Budget { time: most, ..Budget::default() }
    }

    /// The same, with at most this many step ends.
    pub fn steps(self, most: u64) -> Budget {
        Budget { steps: most, ..self }
    }

    /// The same, ending before this phase.
    pub fn before(self, phase: Phase) -> Budget {
        Budget { before: Some(phase), ..self }
    }
}

/// A host's handle on the commands that were encoded into its encoder.
///
/// Call [`Ticket::submitted`] after submitting the encoder. Dropping the ticket instead cancels the slice: drop the encoder too, and the
/// next call encodes the same commands again.
#[must_use = "dropping a ticket cancels its slice: call `submitted` after submitting the encoder"]
#[derive(Debug)]
pub struct Ticket {
    outcome: Arc<SliceState>,
    dispatches: usize,
    predicted: Duration,
}

/// The state of a slice, shared by its ticket, the encoder's callback and its engine.
#[derive(Debug, Default)]
pub(crate) struct SliceState {
    fate: Mutex<Fate>,
    pub done: Signal<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The ticket is neither submitted nor dropped.
    #[default]
    Open,
    Submitted(Instant),
    Dropped,
}

impl SliceState {
    pub fn fate(&self) -> Fate {
        *self.fate.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether the encoder was dropped without running. Valid only in the engine, which holds one reference, and after the ticket is gone.
    pub fn is_gone(self: &Arc<Self>) -> bool {
        // This order matters: a callback first sends `done`, then drops its reference.
        Arc::strong_count(self) == 1 && self.done.peek().is_none()
    }

    /// Whether the slice has not run yet but still can: its encoder exists, or was submitted.
    pub fn may_run(self: &Arc<Self>) -> bool {
        self.done.peek().is_none() && !self.is_gone()
    }

    fn decide(&self, fate: Fate) {
        let mut now = self.fate.lock().unwrap_or_else(|e| e.into_inner());
        if *now == Fate::Open {
            *now = fate;
        }
    }
}

impl Ticket {
    pub(crate) fn new(outcome: Arc<SliceState>, dispatches: usize, seconds: f64) -> Ticket {
        Ticket { outcome, dispatches, predicted: Duration::from_secs_f64(seconds) }
    }

    /// A ticket for no commands.
    pub(crate) fn empty() -> Ticket {
        Ticket { outcome: Arc::default(), dispatches: 0, predicted: Duration::ZERO }
    }

    /// Reports that the encoder was submitted. You may call it earlier if you then submit the encoder before any other work of this engine.
    pub fn submitted(self) {
        self.outcome.decide(Fate::Submitted(Instant::now()));
    }

    /// Number of dispatches encoded; 0 if there was nothing to do or two slices were still running.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Predicted device time of these dispatches.
    pub fn predicted(&self) -> Duration {
        self.predicted
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outcome.decide(Fate::Dropped);
    }
}

/// Commands that are collected for one submit.
#[derive(Debug, Default)]
pub struct Slice {
    seconds_left: f64,
    commands_left: usize,
    before: Option<Phase>,
    pub(crate) parts: Vec<WorkCost>,
    /// Number of commands.
    pub commands: usize,
    /// Predicted seconds.
    pub seconds: f64,
    full: bool,
    /// The pair of timestamps around the slice.
    pub(crate) clock: Option<usize>,
}

impl Slice {
    pub(crate) fn new(budget: Budget, clock: Option<usize>) -> Slice {
        // Clamped to 1 ns and 11 days: any budget beyond these is equivalent.
        let seconds_left = budget.time.as_secs_f64().clamp(1e-9, 1e6);
        Slice {
            seconds_left,
            commands_left: budget.dispatches,
            before: budget.before,
            full: budget.dispatches == 0,
            clock,
            ..Slice::default()
        }
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Ends the slice.
    pub fn close(&mut self) {
        self.full = true;
    }

    /// Whether the budget ends the slice before this phase.
    pub fn ends_before(&self, phase: Phase) -> bool {
        self.before == Some(phase)
    }

    /// Moves the commands that fit from the front of `range` into the slice; returns their range. A slice's first command always fits.
    pub(crate) fn take(&mut self, compiled: &Compiled, pace: &Pace, range: &mut Range<usize>) -> Range<usize> {
        let start = range.start;
        while !self.full && range.start < range.end {
            let command = &compiled.commands[range.start];
            let part = WorkCost { work: command.work, cost: command.cost };
            let seconds = pace.seconds(part);
            if self.commands > 0 && (self.seconds + seconds > self.seconds_left || self.commands >= self.commands_left) {
                self.full = true;
                break;
            }
            match self.parts.last_mut() {
                Some(last) if last.work == part.work => last.cost += part.cost,
                _ => self.parts.push(part),
            }
            self.seconds += seconds;
            self.commands += 1;
            range.start += 1;
        }
        start..range.start
    }
}
