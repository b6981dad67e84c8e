//! Replays compiled plans: submits of bounded time, a bounded number of them in flight, completion by callback.
//!
//! All commands are submitted in slices ([`super::slice`]). [`Runner::run`] submits its own and blocks until another may be in flight;
//! engines that a host may drive use [`super::guest`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::clock::Clock;
use super::compile::Compiled;
use super::pace::{Pace, WorkCost};
use super::receipt::Receipts;
use super::slice::{Budget, Slice, SliceState};
use super::wait;
use crate::error::{Error, Result};

/// Submits commands of compiled plans in slices of bounded time.
///
/// The time of a slice is predicted from its cost and the measured times of earlier submits.
pub struct Runner {
    gpu: Gpu,
    /// The longest that one of its own submits should take.
    limit: Duration,
    pace: Pace,
    in_flight: VecDeque<Flight>,
    last_done: Option<Instant>,
    last_slice: Option<Duration>,
    /// When the device was last checked for loss.
    asked: Option<Instant>,
    /// Times the slices that a host submits.
    clock: Option<Clock>,
    /// Detects which of those slices have run.
    receipts: Option<Receipts>,
    /// Number of submitted slices so far.
    serial: u64,
    /// The most commands in a submit.
    pub(crate) most_commands: usize,
    /// Totals of this runner.
    pub done: Done,
}

/// Counts of a [`Runner`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// Slices submitted, by the runner or by a host.
    pub submits: u64,
    /// Launches and clears.
    pub commands: u64,
    /// Time that this thread spent encoding and submitting.
    pub host: Duration,
}

/// A slice that was submitted, or that a host will submit.
pub(super) struct Flight {
    /// Number of slices that were submitted before it.
    serial: u64,
    /// `None` if the host submitted it, so that only its ticket says so.
    index: Option<wgpu::SubmissionIndex>,
    /// Whether the host blocks until its end, so that the end is noticed at once.
    waited: bool,
    parts: Vec<WorkCost>,
    commands: usize,
    submitted: Instant,
    pub outcome: Arc<SliceState>,
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

    /// The callback for the end of its commands; it is dropped if they never run.
    fn done(&self) -> impl FnOnce() + Send + 'static {
        let outcome = self.outcome.clone();
        move || outcome.done.send(Instant::now())
    }

    /// Records the index of its submit.
    pub fn submitted_as(&mut self, index: wgpu::SubmissionIndex) {
        self.index = Some(index);
    }
}

/// The most submits in flight. The runner's limit or a host's budget bounds each, and so memory, Ctrl-C and frame times.
const IN_FLIGHT: usize = 2;
/// Pairs of timestamps, and receipts: one per submit in flight, and one for the next.
const CLOCKS: usize = IN_FLIGHT + 1;
/// A slice that runs longer than this is a reason to check the device for loss.
const STUCK: Duration = Duration::from_secs(1);
/// While the device is idle, a blocking call waits this long for a slice that was reported as submitted.
const PATIENCE: Duration = Duration::from_secs(1);

impl Runner {
    /// Limits submits to 100 ms on GPUs, and to 1 s on software adapters, which have no watchdog.
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

    /// As [`Runner::new`], with receipts for the slices that a host submits, and with timestamps around them if the device has them.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses to allocate their buffers.
    pub(super) async fn timed(gpu: &Gpu) -> Result<Runner> {
        let make = || (Clock::new(gpu, CLOCKS), Receipts::new(gpu, CLOCKS));
        let (clock, receipts) = gpu.guarded("allocating timestamps and receipts", make).await?;
        Ok(Runner { clock, receipts: Some(receipts), ..Runner::new(gpu) })
    }

    /// Bytes and number of the buffers that [`Runner::timed`] creates.
    pub(super) fn needs(gpu: &Gpu) -> (u64, u64) {
        let (clocks, receipts) = (Clock::needs(gpu, CLOCKS), Receipts::needs(CLOCKS));
        (clocks.0 + receipts.0, clocks.1 + receipts.1)
    }

    /// The longest that one of its own submits should take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Sets [`Runner::limit`].
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// When the last submit that [`Runner::poll`] found finished had ended.
    pub fn last_done(&self) -> Option<Instant> {
        self.last_done
    }

    /// Duration of the last finished slice; without timestamps an estimate.
    pub fn last_slice(&self) -> Option<Duration> {
        self.last_slice
    }

    /// How often these commands can run in `time`, as predicted.
    pub fn fitting(&self, compiled: &Compiled, ranges: &[Range<usize>], time: Duration) -> usize {
        let commands = ranges.iter().flat_map(|range| &compiled.commands[range.clone()]);
        let seconds: f64 = commands.map(|command| self.pace.seconds(WorkCost { work: command.work, cost: command.cost })).sum();
        (time.as_secs_f64() / seconds) as usize
    }

    /// Takes commands from the front of `ranges` as long as they are predicted to stay within the limit, but at least one.
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
        flight.submitted_as(self.gpu.submit(encoder));
        flight.waited = true;
        let submitted = flight.submitted;
        self.took_off(flight, submitted);
        self.gpu.check()
    }

    /// Whether the device times the slices of a host.
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

    /// Moves as many commands as the budget allows from the front of `range` into the slice; returns their range.
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

    /// Adds a submitted slice to those in flight.
    pub(super) fn took_off(&mut self, flight: Flight, submitted: Instant) {
        if let Some(clock) = self.clock.as_mut().filter(|_| flight.clock.is_some()) {
            clock.commit();
        }
        self.done.submits += 1;
        self.done.commands += flight.commands as u64;
        self.in_flight.push_back(Flight { submitted, serial: self.serial, ..flight });
        self.serial += 1;
    }

    /// Number of submitted slices so far.
    pub(super) fn taken_off(&self) -> u64 {
        self.serial
    }

    /// Whether the first `count` submitted slices have ended.
    pub(super) fn ended(&self, count: u64) -> bool {
        self.in_flight.iter().all(|flight| flight.serial >= count || flight.outcome.done.peek().is_some())
    }

    /// Whether a slice is in flight whose submit is known only from its ticket.
    pub(super) fn takes_a_hosts_word(&self) -> bool {
        self.in_flight.iter().any(|flight| flight.index.is_none() && flight.outcome.may_run())
    }

    /// Removes finished submits from those in flight and learns from their times; true if another may be submitted.
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

    /// Reports what a host must know: that the device is lost, or that a slice was never submitted.
    ///
    /// # Errors
    /// [`Error::Device`] and [`Error::Usage`].
    pub fn check(&mut self) -> Result<()> {
        self.gpu.check()?;
        self.check_abandoned()?;
        // A borrowed device reports its loss only to the host's callback, so check it when a slice takes very long.
        let stuck =
            self.in_flight.front().is_some_and(|flight| flight.submitted.max(self.asked.unwrap_or(flight.submitted)).elapsed() > STUCK);
        if stuck {
            self.asked = Some(Instant::now());
            self.gpu.ask()?;
        }
        Ok(())
    }

    /// Blocks until another submit may be in flight.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost; [`Error::Usage`] when a slice was not submitted although its ticket says so.
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
            // The device is idle, but another thread of the host may be running the callbacks at this moment. What the engine submitted
            // itself will end, however long it takes.
            let idle = *idle.get_or_insert_with(Instant::now);
            if own.is_none() && idle.elapsed() > PATIENCE {
                return Err(not_submitted());
            }
            wait::a_moment();
        }
    }

    /// Blocks until all slices that a host reported as submitted have run: nothing else of the engine may run before them.
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
    /// [`Error::Usage`] when a slice was reported as submitted, but its encoder was dropped or rejected.
    pub(super) fn check_abandoned(&self) -> Result<()> {
        if self.in_flight.iter().any(|flight| flight.outcome.is_gone()) {
            return Err(self.gone());
        }
        Ok(())
    }

    /// Why a slice that was reported as submitted never ran: a lost device may drop submitted commands.
    pub(super) fn gone(&self) -> Error {
        self.gpu.ask().err().unwrap_or_else(thrown_away)
    }

    /// Forgets the slices that never ran although their tickets say that they were submitted.
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
        "an encoder was dropped, or the device rejected it and told its error handler, although `Ticket::submitted` was called: \
         part of a step is missing, restore a snapshot or begin a new prompt",
    )
}

pub(super) fn not_submitted() -> Error {
    Error::usage("`Ticket::submitted` was called, but its encoder was not submitted: submit it first")
}
