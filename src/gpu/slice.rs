//! Slices: a part of a plan's commands that fits into a frame, and what becomes of it once a host has its commands.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use web_time::Instant;

use super::compile::Compiled;
use super::pace::{Pace, Part};
use super::plan::Phase;
use super::wait::Signal;

/// How much of its work an engine may encode at once. The default has no bound: all that may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// At most so many dispatches, 0 for none at all; one that was cut when its plan was compiled counts once a part.
    pub dispatches: usize,
    /// At most what is predicted to take so long on the device, learned from the slices before. One dispatch, or one part of a cut one,
    /// is always encoded, however long it takes: [`super::options::Options::fine`] cuts them small.
    pub time: Duration,
    /// At most the rest of the step under way and so many steps behind it, less one: 1 ends a slice where its step ends.
    pub steps: u64,
    /// Nothing of this phase of a step, nor behind it: a host that has work of its own to do at that place lets all before it go first.
    pub before: Option<Phase>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { dispatches: usize::MAX, time: Duration::MAX, steps: u64::MAX, before: None }
    }
}

impl Budget {
    pub fn dispatches(most: usize) -> Budget {
        Budget { dispatches: most, ..Budget::default() }
    }

    pub fn time(most: Duration) -> Budget {
        Budget { time: most, ..Budget::default() }
    }

    /// The same, but not beyond so many ends of steps.
    pub fn steps(self, most: u64) -> Budget {
        Budget { steps: most, ..self }
    }

    /// The same, but nothing of this phase.
    pub fn before(self, phase: Phase) -> Budget {
        Budget { before: Some(phase), ..self }
    }
}

/// What a host holds of commands that were encoded into its encoder.
///
/// Call [`Ticket::submitted`] once the encoder's commands were given to the queue. A ticket that is dropped instead takes the slice back:
/// drop the encoder too, and the next call encodes the same commands again.
#[must_use = "a ticket that is dropped takes its slice back: call `submitted` once the encoder was submitted"]
#[derive(Debug)]
pub struct Ticket {
    outcome: Arc<Outcome>,
    dispatches: usize,
    predicted: Duration,
}

/// What became of a slice, shared by its ticket, its encoder's callback and its engine.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    fate: Mutex<Fate>,
    pub done: Signal<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The ticket is there.
    #[default]
    Open,
    Submitted(Instant),
    Dropped,
}

impl Outcome {
    pub fn fate(&self) -> Fate {
        *self.fate.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether the encoder was dropped and nothing of it has run. Ask its engine only, which holds no more than one of these, once the
    /// ticket is gone.
    pub fn is_gone(self: &Arc<Self>) -> bool {
        // In this order: a callback notes the end first and is dropped then.
        Arc::strong_count(self) == 1 && self.done.peek().is_none()
    }

    /// Whether it has not run, and its encoder is still there or with the device.
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
    pub(crate) fn new(outcome: Arc<Outcome>, dispatches: usize, seconds: f64) -> Ticket {
        Ticket { outcome, dispatches, predicted: Duration::from_secs_f64(seconds) }
    }

    /// Of nothing.
    pub(crate) fn empty() -> Ticket {
        Ticket { outcome: Arc::default(), dispatches: 0, predicted: Duration::ZERO }
    }

    /// The encoder was submitted, or will be before anything else of this engine is.
    pub fn submitted(self) {
        self.outcome.decide(Fate::Submitted(Instant::now()));
    }

    /// Dispatches encoded; 0 while two slices are still running.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// What they are predicted to take on the device.
    pub fn predicted(&self) -> Duration {
        self.predicted
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outcome.decide(Fate::Dropped);
    }
}

/// Commands on their way into one submit.
#[derive(Debug, Default)]
pub struct Slice {
    seconds_left: f64,
    commands_left: usize,
    before: Option<Phase>,
    pub(crate) parts: Vec<Part>,
    /// Number of commands.
    pub commands: usize,
    /// Predicted seconds.
    pub seconds: f64,
    full: bool,
    /// The pair of timestamps around it.
    pub(crate) clock: Option<usize>,
}

impl Slice {
    pub(crate) fn new(budget: Budget, clock: Option<usize>) -> Slice {
        // A budget below a nanosecond or above a week is as good as that.
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

    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Ends the slice here.
    pub fn close(&mut self) {
        self.full = true;
    }

    /// Whether the budget ends in front of this phase.
    pub fn ends_before(&self, phase: Phase) -> bool {
        self.before == Some(phase)
    }

    /// Moves what fits from the front of `range` into the slice and says which commands those are. The first one of a slice always fits.
    pub(crate) fn take(&mut self, compiled: &Compiled, pace: &Pace, range: &mut Range<usize>) -> Range<usize> {
        let start = range.start;
        while !self.full && range.start < range.end {
            let command = &compiled.commands[range.start];
            let part = Part { work: command.work, cost: command.cost };
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
