//! Replaying compiled plans: submits cut by measured time, a bounded number in flight, completion by callback.
//!
//! Everything goes in slices ([`super::slice`]). [`Runner::run`] submits them itself and blocks for room; engines that a host may drive take
//! theirs from [`super::guest`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::clock::Clock;
use super::compile::Compiled;
use super::pace::{Pace, Part};
use super::receipt::Receipts;
use super::slice::{Budget, Outcome, Slice};
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
    /// Times the slices that a host submits.
    clock: Option<Clock>,
    /// Tells which of those have run.
    receipts: Option<Receipts>,
    /// Slices that took off.
    serial: u64,
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

/// A slice that is with the device, or will be once a host submits it.
pub(super) struct Flight {
    /// Slices that took off before it.
    serial: u64,
    /// None where a host says that it has submitted it.
    index: Option<wgpu::SubmissionIndex>,
    /// Whether its end is waited for, and therefore seen when it comes.
    waited: bool,
    parts: Vec<Part>,
    commands: usize,
    submitted: Instant,
    pub outcome: Arc<Outcome>,
    clock: Option<usize>,
}

impl Flight {
    fn of(slice: Slice) -> Flight {
        Flight {
            serial: 0,
            index: None,
            waited: false,
            parts: slice.parts,
            commands: slice.commands,
            submitted: Instant::now(),
            outcome: Arc::default(),
            clock: slice.clock,
        }
    }

    /// What is to be called when its commands have run, and dropped when they never will.
    fn done(&self) -> impl FnOnce() + Send + 'static {
        let outcome = self.outcome.clone();
        move || outcome.done.send(Instant::now())
    }

    /// Takes note of its submit.
    pub fn submitted_as(&mut self, index: wgpu::SubmissionIndex) {
        self.index = Some(index);
    }
}

/// Submits that may be in flight. Each holds at most one step, so memory, Ctrl-C and a host's frame stay bounded.
const IN_FLIGHT: usize = 2;
/// Pairs of timestamps, and receipts: one for each submit in flight, and one for the next.
const CLOCKS: usize = IN_FLIGHT + 1;
/// A slice that runs so long is a reason to ask whether the device is there.
const STUCK: Duration = Duration::from_secs(1);
/// How long a blocking call waits for a slice that its ticket says was submitted, while the device has nothing to do.
const PATIENCE: Duration = Duration::from_secs(1);

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
            clock: None,
            receipts: None,
            serial: 0,
            most_commands: usize::MAX,
            done: Done::default(),
        }
    }

    /// The same, with receipts for what a host submits, and with timestamps around it where the device has them.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses their buffers.
    pub(super) async fn timed(gpu: &Gpu) -> Result<Runner> {
        let make = || (Clock::new(gpu, CLOCKS), Receipts::new(gpu, CLOCKS));
        let (clock, receipts) = gpu.guarded("allocating timestamps and receipts", make).await?;
        Ok(Runner { clock, receipts: Some(receipts), ..Runner::new(gpu) })
    }

    /// Bytes and number of the buffers that [`Runner::timed`] makes.
    pub(super) fn needs(gpu: &Gpu) -> (u64, u64) {
        let (clocks, receipts) = (Clock::needs(gpu, CLOCKS), Receipts::needs(CLOCKS));
        (clocks.0 + receipts.0, clocks.1 + receipts.1)
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
        let mut flight = Flight::of(slice);
        encoder.on_submitted_work_done(flight.done());
        flight.submitted_as(self.gpu.queue().submit([encoder.finish()]));
        flight.waited = true;
        let submitted = flight.submitted;
        self.took_off(flight, submitted);
        self.gpu.check()
    }

    /// Whether slices of a host are timed by the device.
    pub(super) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Begins a slice in a host's encoder.
    pub(super) fn begin(&self, encoder: &mut wgpu::CommandEncoder, budget: Budget) -> Slice {
        let pair = self.clock.as_ref().map(Clock::next);
        if let (Some(clock), Some(pair)) = (&self.clock, pair) {
            clock.begin(encoder, pair);
        }
        Slice::new(budget, pair)
    }

    /// Moves commands from the front of `range` into the slice, as its budget allows, and says which.
    pub(super) fn take(&self, compiled: &Compiled, slice: &mut Slice, range: &mut Range<usize>) -> Range<usize> {
        slice.take(compiled, &self.pace, range)
    }

    /// Ends a slice in a host's encoder.
    pub(super) fn end(&self, encoder: &mut wgpu::CommandEncoder, slice: Slice) -> Flight {
        if let (Some(clock), Some(pair)) = (&self.clock, slice.clock) {
            clock.end(encoder, pair);
        }
        let flight = Flight::of(slice);
        match &self.receipts {
            Some(receipts) => receipts.encode(&self.gpu, encoder, flight.done()),
            None => encoder.on_submitted_work_done(flight.done()),
        }
        flight
    }

    /// Takes note that a slice was submitted.
    pub(super) fn took_off(&mut self, flight: Flight, submitted: Instant) {
        if let Some(clock) = self.clock.as_mut().filter(|_| flight.clock.is_some()) {
            clock.commit();
        }
        self.done.submits += 1;
        self.done.commands += flight.commands as u64;
        self.in_flight.push_back(Flight { submitted, serial: self.serial, ..flight });
        self.serial += 1;
    }

    /// How many slices have taken off.
    pub(super) fn taken_off(&self) -> u64 {
        self.serial
    }

    /// Whether the first so many slices that took off have ended.
    pub(super) fn ended(&self, count: u64) -> bool {
        self.in_flight.iter().all(|flight| flight.serial >= count || flight.outcome.done.peek().is_some())
    }

    /// Whether a slice is in flight that only its ticket says was submitted.
    pub(super) fn takes_a_hosts_word(&self) -> bool {
        self.in_flight.iter().any(|flight| flight.index.is_none() && flight.outcome.may_run())
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
                None => flight.waited.then_some(seen),
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

    /// Blocks until another submit may go.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost; [`Error::Usage`] when a slice was not submitted although its ticket says so.
    pub fn wait_for_room(&mut self) -> Result<()> {
        while !self.poll() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    /// Blocks until nothing is in flight.
    ///
    /// # Errors
    /// As [`Runner::wait_for_room`].
    pub fn wait_for_all(&mut self) -> Result<()> {
        self.poll();
        while !self.in_flight.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    /// Blocks until the oldest submit in flight has ended.
    fn wait_for_oldest(&mut self) -> Result<()> {
        let before = self.in_flight.len();
        let mut idle = None;
        loop {
            let own = self.in_flight[0].index.clone();
            match &own {
                Some(index) => wait::for_submit(&self.gpu, index)?,
                None => wait::for_device(&self.gpu)?,
            }
            self.check_abandoned()?;
            self.poll();
            if self.in_flight.len() < before {
                return Ok(());
            }
            // The device has nothing left to do. A thread of the host's that polls it may be calling the callbacks just now. What the
            // engine submitted itself is submitted, however long that takes.
            let idle = *idle.get_or_insert_with(Instant::now);
            if own.is_none() && idle.elapsed() > PATIENCE {
                return Err(not_submitted());
            }
            wait::a_moment();
        }
    }

    /// Blocks until what hosts say that they have submitted has run: nothing else of the engine may go before it.
    ///
    /// # Errors
    /// As [`Runner::wait_for_room`].
    pub(super) fn wait_for_hosts(&mut self) -> Result<()> {
        self.check_abandoned()?;
        while self.takes_a_hosts_word() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Usage`] when a slice that was said to be submitted never was: its encoder is gone, and nothing has run.
    pub(super) fn check_abandoned(&self) -> Result<()> {
        if self.in_flight.iter().any(|flight| flight.outcome.is_gone()) {
            return Err(self.gone());
        }
        Ok(())
    }

    /// Why a slice never ran that was said to be submitted: a device that is lost may drop what it was given.
    pub(super) fn gone(&self) -> Error {
        self.gpu.ask().err().unwrap_or_else(thrown_away)
    }

    /// Forgets the slices that never were submitted although their tickets say so.
    pub(super) fn forget_abandoned(&mut self) {
        self.in_flight.retain(|flight| !flight.outcome.is_gone());
    }

    /// Blocks until the commands of `ranges` are submitted.
    ///
    /// # Errors
    /// As [`Runner::wait_for_room`].
    pub fn run(&mut self, compiled: &Compiled, ranges: impl IntoIterator<Item = Range<usize>>) -> Result<()> {
        let mut ranges: VecDeque<Range<usize>> = ranges.into_iter().collect();
        while !ranges.is_empty() {
            self.wait_for_room()?;
            let begun = Instant::now();
            let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") });
            let (slice, taken) = self.take_piece(compiled, &mut ranges);
            compiled.encode_all(&mut encoder, &taken);
            self.submit(encoder, slice)?;
            self.done.host += begun.elapsed();
        }
        Ok(())
    }
}

fn thrown_away() -> Error {
    Error::usage(
        "an encoder was thrown away, or refused as the device's error handler was told, although its ticket was told `submitted`: \
         part of a step is missing, begin anew from a snapshot or a prompt",
    )
}

pub(super) fn not_submitted() -> Error {
    Error::usage("a ticket was told `submitted`, but its encoder was not submitted: submit it first")
}
