//! Replaying compiled plans: submits cut by measured time, a bounded number in flight, completion by callback.
//!
//! Everything goes in slices ([`super::slice`]). [`Runner::run`] submits them itself and blocks for room; a host's own encoder gets one by
//! [`Runner::open`] and [`Runner::close`], and [`Runner::settle`] tells later what the host did with it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::clock::Clock;
use super::compile::Compiled;
use super::pace::{Pace, Part};
use super::slice::{Budget, Fate, Outcome, Slice, Ticket};
use super::wait;
use crate::error::{Error, Result};

/// Submits work of compiled plans in pieces of bounded time.
///
/// How long a piece will take is predicted from its cost and the pace of the submits that have ended.
pub struct Runner {
    gpu: Gpu,
    /// The longest a submit of its own should take.
    limit: Duration,
    pace: Pace,
    in_flight: VecDeque<Flight>,
    last_done: Option<Instant>,
    last_slice: Option<Duration>,
    /// When the device was last asked whether it is there.
    asked: Option<Instant>,
    /// The slice that a host holds a ticket of.
    open: Option<Flight>,
    /// Slices whose tickets were dropped: they must never be seen to end.
    dropped: Vec<Arc<Outcome>>,
    /// Slices that a host was given: every fourth is cut short where there are no timestamps.
    slices: u64,
    clock: Option<Clock>,
    /// The most commands of a submit.
    pub(crate) most_commands: usize,
    /// What this runner has done so far.
    pub done: Done,
}

/// Counts of a [`Runner`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub submits: u64,
    /// Launches and clears.
    pub commands: u64,
    /// The time this thread took to encode and submit them.
    pub host: Duration,
}

struct Flight {
    /// None for what a host submits.
    index: Option<wgpu::SubmissionIndex>,
    parts: Vec<Part>,
    submitted: Instant,
    outcome: Arc<Outcome>,
    clock: Option<usize>,
}

/// What a host did with the last slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// There was none, or it is settled already.
    Nothing,
    /// It still has the ticket.
    Open,
    Submitted,
    Dropped,
}

/// Submits that may be in flight. Each holds at most one step, so memory, Ctrl-C and a host's frame stay bounded.
const IN_FLIGHT: usize = 2;
/// A slice that runs so long is a reason to ask whether the device is there.
const STUCK: Duration = Duration::from_secs(1);

impl Runner {
    /// Submits of at most 100 ms on GPUs and 1 s on software adapters, which have no watchdog.
    pub fn new(gpu: &Gpu) -> Runner {
        let software = gpu.traits().software;
        Runner {
            gpu: gpu.clone(),
            limit: if software { Duration::from_secs(1) } else { Duration::from_millis(100) },
            pace: Pace::new(software),
            in_flight: VecDeque::new(),
            last_done: None,
            last_slice: None,
            asked: None,
            open: None,
            dropped: vec![],
            slices: 0,
            clock: None,
            most_commands: usize::MAX,
            done: Done::default(),
        }
    }

    /// The longest time of a submit of its own.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Changes the longest time of a submit.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// When the last submit that [`Runner::poll`] took note of had ended.
    pub fn last_done(&self) -> Option<Instant> {
        self.last_done
    }

    /// What the last slice that has ended took, as far as this can tell.
    pub fn last_slice(&self) -> Option<Duration> {
        self.last_slice
    }

    /// How many times all of these commands are predicted to run in `time`.
    pub fn fitting(&self, compiled: &Compiled, ranges: &[Range<usize>], time: Duration) -> usize {
        let commands = ranges.iter().flat_map(|range| &compiled.commands[range.clone()]);
        let seconds: f64 = commands.map(|command| self.pace.seconds(Part { work: command.work, cost: command.cost })).sum();
        (time.as_secs_f64() / seconds) as usize
    }

    /// Takes from the front of `ranges` as many commands as are predicted to stay within the limit; at least one if there is any.
    pub(crate) fn take_piece(&self, compiled: &Compiled, ranges: &mut VecDeque<Range<usize>>) -> (Slice, Vec<Range<usize>>) {
        let mut slice = Slice::new(Budget { dispatches: self.most_commands, time: self.limit, ..Budget::default() }, None);
        let mut taken = vec![];
        while let Some(range) = ranges.front_mut() {
            taken.push(slice.take(compiled, &self.pace, range));
            if range.start < range.end {
                break;
            }
            ranges.pop_front();
        }
        (slice, taken)
    }

    /// Submits an encoder that holds a slice.
    pub fn submit(&mut self, encoder: wgpu::CommandEncoder, slice: Slice) -> Result<()> {
        let outcome = watched(&encoder);
        let submitted = Instant::now();
        let index = Some(self.gpu.queue().submit([encoder.finish()]));
        self.in_flight.push_back(Flight { index, parts: slice.parts, submitted, outcome, clock: None });
        self.done.submits += 1;
        self.done.commands += slice.commands as u64;
        self.gpu.check()
    }

    /// Begins a slice for a host's encoder; `None` while as many are in flight as may be.
    ///
    /// # Errors
    /// [`Error::Usage`] while the last ticket is there still.
    pub fn open(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Result<Option<Slice>> {
        if self.open.is_some() {
            return Err(Error::usage("the last slice is not settled: say `submitted` of its ticket once it was, or drop the ticket"));
        }
        if !self.poll() {
            return Ok(None);
        }
        if self.slices == 0 {
            self.clock = Clock::new(&self.gpu, IN_FLIGHT + 1);
        }
        self.slices += 1;
        // Slices of two lengths tell the pace of the device from that of the host's looks.
        let halved = self.clock.is_none() && self.slices.is_multiple_of(4) && budget.time < Duration::MAX;
        let budget = Budget { time: if halved { budget.time / 2 } else { budget.time }, ..budget };
        let pair = self.clock.as_ref().map(Clock::next);
        if let (Some(clock), Some(pair)) = (&self.clock, pair) {
            clock.begin(encoder, pair);
        }
        Ok(Some(Slice::new(budget, pair)))
    }

    /// Moves commands from the front of `range` into the slice, as its budget allows, and encodes them.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, compiled: &Compiled, slice: &mut Slice, range: &mut Range<usize>) {
        let taken = slice.take(compiled, &self.pace, range);
        compiled.encode(encoder, taken);
    }

    /// Ends a host's slice.
    pub fn close(&mut self, encoder: &mut wgpu::CommandEncoder, slice: Slice) -> Ticket {
        if let (Some(clock), Some(pair)) = (&self.clock, slice.clock) {
            clock.end(encoder, pair);
        }
        let outcome = watched(encoder);
        let ticket = Ticket::new(outcome.clone(), &slice);
        self.done.commands += slice.commands as u64;
        self.open = Some(Flight { index: None, parts: slice.parts, submitted: Instant::now(), outcome, clock: slice.clock });
        ticket
    }

    /// Whether a slice is with a host.
    pub fn has_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a slice that [`Runner::settle`] has not seen yet was submitted, as its ticket says.
    pub fn open_was_submitted(&self) -> bool {
        self.open.as_ref().is_some_and(|flight| matches!(flight.outcome.fate(), Fate::Submitted(_)))
    }

    /// What the host did with the last slice; told once.
    ///
    /// # Errors
    /// [`Error::Usage`] when it did not do what it said.
    pub fn settle(&mut self) -> Result<Settled> {
        let stray = self.dropped.iter().any(|outcome| outcome.done.take().is_some());
        // The encoder's callback holds the other half of each.
        self.dropped.retain(|outcome| Arc::strong_count(outcome) > 1);
        if stray {
            return Err(Error::usage("a slice was submitted although its ticket was dropped: its commands may have run twice"));
        }
        let Some(flight) = &self.open else { return Ok(Settled::Nothing) };
        let fate = flight.outcome.fate();
        match (fate, self.open.take()) {
            (Fate::Submitted(submitted), Some(flight)) => {
                if let Some(clock) = self.clock.as_mut().filter(|_| flight.clock.is_some()) {
                    clock.commit();
                }
                self.in_flight.push_back(Flight { submitted, ..flight });
                self.done.submits += 1;
                Ok(Settled::Submitted)
            }
            (Fate::Dropped, Some(flight)) => {
                self.dropped.push(flight.outcome);
                Ok(Settled::Dropped)
            }
            (_, open) => {
                self.open = open;
                Ok(Settled::Open)
            }
        }
    }

    /// Takes note of submits that have ended; true if another may be submitted.
    pub fn poll(&mut self) -> bool {
        while let Some(flight) = self.in_flight.front() {
            let timed = flight.clock.and_then(|pair| self.clock.as_ref().map(|clock| (clock, pair)));
            let Some(done) = flight.outcome.done.peek() else { break };
            let began = self.last_done.map_or(flight.submitted, |last| last.max(flight.submitted));
            let seen = done.saturating_duration_since(began).as_secs_f64();
            let seconds = match timed {
                Some((clock, pair)) => {
                    let Some(seconds) = clock.take(pair) else { break };
                    Some(seconds).filter(|seconds| seconds.is_finite())
                }
                // What this runner submits itself it also waits for.
                None => flight.index.is_some().then_some(seen),
            };
            match seconds {
                Some(seconds) => self.pace.learn(&flight.parts, seconds),
                None => self.pace.learn_seen(&flight.parts, seen),
            }
            self.last_slice = Some(Duration::from_secs_f64(seconds.unwrap_or(seen).max(0.0)));
            self.last_done = Some(done);
            self.in_flight.pop_front();
        }
        self.in_flight.len() < IN_FLIGHT
    }

    /// What a host has to be told: a device that no longer answers, or a slice that never was submitted.
    ///
    /// # Errors
    /// [`Error::Device`] and [`Error::Usage`].
    pub fn check(&mut self) -> Result<()> {
        self.gpu.check()?;
        self.check_abandoned()?;
        // A lent device does not tell that it was lost, its host's callback does. Work that takes very long is reason to ask.
        let stuck =
            self.in_flight.front().is_some_and(|flight| flight.submitted.max(self.asked.unwrap_or(flight.submitted)).elapsed() > STUCK);
        if stuck {
            self.asked = Some(Instant::now());
            self.gpu.ask()?;
        }
        Ok(())
    }

    /// Whether a slice that was said to be submitted never was: its encoder is gone, and nothing has run.
    fn abandoned(&self) -> bool {
        self.in_flight.iter().any(|flight| Arc::strong_count(&flight.outcome) == 1 && flight.outcome.done.peek().is_none())
    }

    /// Blocks until another submit may go.
    pub fn wait_for_room(&mut self) -> Result<()> {
        while !self.poll() {
            match self.in_flight[0].index.clone() {
                Some(index) => wait::for_submit(&self.gpu, &index)?,
                None => wait::for_device(&self.gpu)?,
            }
            self.check_abandoned()?;
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Usage`] when a slice never was submitted although its ticket says so.
    fn check_abandoned(&self) -> Result<()> {
        if self.abandoned() {
            return Err(Error::usage("an encoder was thrown away although its ticket was told `submitted`: part of a step is missing"));
        }
        Ok(())
    }

    /// Blocks until nothing is in flight.
    pub fn wait_for_all(&mut self) -> Result<()> {
        if !self.in_flight.is_empty() {
            wait::for_device(&self.gpu)?;
        }
        self.poll();
        self.check_abandoned()
    }

    /// Blocks while the commands of `ranges` are submitted; `before` encodes what the first submit needs, `after` what follows the last.
    /// Before each submit `stop` is asked with the index of the next command; false if it said so: a rest was not submitted.
    pub fn run(
        &mut self,
        compiled: &Compiled,
        ranges: impl IntoIterator<Item = Range<usize>>,
        before: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>,
        after: impl FnOnce(&mut wgpu::CommandEncoder),
        stop: &dyn Fn(usize) -> bool,
    ) -> Result<bool> {
        let mut ranges: VecDeque<Range<usize>> = ranges.into_iter().collect();
        let (mut before, mut after) = (Some(before), Some(after));
        while before.is_some() || !ranges.is_empty() {
            self.wait_for_room()?;
            if stop(ranges.front().map_or(compiled.len(), |range| range.start)) {
                return Ok(false);
            }
            let begun = Instant::now();
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") });
            if let Some(before) = before.take() {
                before(&mut encoder)?;
            }
            let (slice, taken) = self.take_piece(compiled, &mut ranges);
            compiled.encode_all(&mut encoder, &taken);
            if ranges.is_empty()
                && let Some(after) = after.take()
            {
                after(&mut encoder);
            }
            self.submit(encoder, slice)?;
            self.done.host += begun.elapsed();
        }
        Ok(true)
    }
}

/// Has the end of what an encoder holds told to an outcome.
fn watched(encoder: &wgpu::CommandEncoder) -> Arc<Outcome> {
    let outcome = Arc::<Outcome>::default();
    let told = outcome.clone();
    encoder.on_submitted_work_done(move || told.done.send(Instant::now()));
    outcome
}
