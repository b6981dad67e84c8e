//! One engine on a device that it may share: it encodes passes over a compiled plan in slices, and settles each slice later.
//!
//! A trainer, an evaluation and a generator all run passes: each pass may upload new inputs, and runs some phases of the plan. They
//! describe their passes as [`Passes`]; this module decides when the commands are encoded and tracks the place that the engine has reached.
//! A host encodes slices into its own encoders ([`Guest::encode`]) and says later whether it submitted them:
//!
//! ```text
//!           encode               Ticket::submitted
//!   settled ───────> open slice ────────────────────> settled, at the place after the slice
//!      ^                 │ ticket dropped
//!      │                 v
//!      └────────── dropped slice; when its encoder is gone: the old place, the same commands are encoded again
//! ```
//!
//! While a slice is open or dropped, nothing else of the engine is encoded. A blocking call ([`Guest::run`]) submits its slices itself, so
//! they need no ticket.

mod blocking;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::compile::{Compiled, not_recovered};
use super::passes::{Pass, Passes, Progress};
use super::plan::Phase;
use super::run::{Flight, Runner, not_submitted};
use super::slice::{Budget, Fate, Slice, Ticket};
use super::slots::{Readback, Slots};
use super::tensor::Tensor;
use super::wait;
use crate::error::{Error, Result};

/// A place, with the rest of the current pass.
#[derive(Clone)]
struct At<P> {
    place: P,
    rest: VecDeque<(Phase, Range<usize>)>,
}

/// The slice that was encoded last for a host, until it is settled.
struct Last<P> {
    flight: Flight,
    /// The place of the engine after it, and how many slots of inputs it contains.
    at: At<P>,
    slots: usize,
}

/// The state of the slice that was encoded last for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The place is final: there is no slice that the host could still submit.
    Yes,
    /// The host still has the ticket.
    Open,
    /// The ticket was dropped, and the encoder still exists.
    Dropped,
}

/// The state of one engine: its runner, the inputs in flight, and its place.
pub struct Guest<P> {
    gpu: Gpu,
    /// Submits slices and learns from their times how much work fits into a budget.
    pub runner: Runner,
    slots: Slots,
    /// The tensor that inputs are copied to.
    inputs: Tensor,
    at: At<P>,
    last: Option<Last<P>>,
    /// Number of slices encoded for a host. Without timestamps every fourth gets half the time, see [`Guest::encode`].
    slices: u64,
    /// Whether it has no plan to run, see [`Guest::close`].
    closed: bool,
}

/// How often [`Guest::check_ran`] waits for the submitted work before it reports a slice as not submitted.
const FENCES: usize = 3;

impl<P: Progress> Guest<P> {
    /// An engine at `place`. Each pass with inputs uploads `bytes` bytes to the start of the storage of `inputs`.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses an allocation.
    pub async fn new(gpu: &Gpu, inputs: &Tensor, bytes: u64, place: P) -> Result<Guest<P>> {
        let (slots, runner) = (Slots::new(gpu, bytes).await?, Runner::timed(gpu).await?);
        let at = At { place, rest: VecDeque::new() };
        Ok(Guest { gpu: gpu.clone(), runner, slots, inputs: inputs.clone(), at, last: None, slices: 0, closed: false })
    }

    /// Bytes and number of the buffers that [`Guest::new`] creates.
    pub fn needs(gpu: &Gpu, bytes: u64) -> (u64, u64) {
        let (clock_bytes, clocks) = Runner::needs(gpu);
        (Slots::needs(bytes) + clock_bytes, Slots::COUNT + clocks)
    }

    /// The place of the engine after all submitted commands; a slice counts as soon as [`Ticket::submitted`] was called.
    pub fn place(&self) -> &P {
        &self.now().place
    }

    fn now(&self) -> &At<P> {
        match &self.last {
            Some(last) if matches!(last.flight.outcome.fate(), Fate::Submitted(_)) => &last.at,
            _ => &self.at,
        }
    }

    /// The place, for changes between two passes of a settled engine.
    pub fn place_mut(&mut self) -> &mut P {
        &mut self.at.place
    }

    /// The phase of the next command of the current pass, and whether part of the phase was encoded.
    pub fn next_phase(&self, compiled: &Compiled) -> Option<(Phase, bool)> {
        let (phase, range) = self.now().rest.iter().find(|(_, range)| !range.is_empty())?;
        Some((*phase, range.start > compiled.phase(*phase).start))
    }

    /// Whether the first `count` submitted slices have ended. If not, although a later copy was read back, that copy ran before a slice that
    /// the host had reported as submitted.
    pub fn have_ended(&self, count: u64) -> bool {
        self.runner.ended(count)
    }

    /// Number of slices that were submitted so far, for [`Guest::have_ended`].
    pub fn submitted(&self) -> u64 {
        self.runner.taken_off()
    }

    /// Whether a pass, or the unit of work that it belongs to, has begun and not ended.
    pub fn under_way(&self) -> bool {
        let at = self.now();
        !at.rest.is_empty() || at.place.under_way()
    }

    /// Refuses all work until the engine is opened: its plan is not compiled yet.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Ends [`Guest::close`].
    pub(crate) fn open(&mut self) {
        self.closed = false;
    }

    fn check_open(&self) -> Result<()> {
        if self.closed { Err(not_recovered()) } else { Ok(()) }
    }

    /// # Errors
    /// [`Error::Usage`] while a host holds a slice that it may still submit.
    pub fn check_settled(&self) -> Result<()> {
        self.check_open()?;
        let Some(last) = &self.last else { return Ok(()) };
        match last.flight.outcome.fate() {
            Fate::Submitted(_) => Ok(()),
            Fate::Open => {
                Err(Error::usage("the last slice is not settled: call `Ticket::submitted` after submitting its encoder, or drop both"))
            }
            Fate::Dropped if last.flight.outcome.is_gone() => Ok(()),
            Fate::Dropped => {
                Err(Error::usage("the ticket of the last slice was dropped, but its encoder still exists: drop the encoder too"))
            }
        }
    }

    /// Waits until all slices with a submitted ticket have run, so that later reads and writes come after them.
    ///
    /// # Errors
    /// [`Error::Usage`] while a host holds a slice that it may still submit, or never submitted one that it reported as submitted.
    pub async fn check_ran(&self) -> Result<()> {
        self.check_settled()?;
        // One wait is enough, unless another thread polled and is still running the callbacks.
        for _ in 0..FENCES {
            let told = self.last.as_ref().is_some_and(|last| last.flight.outcome.may_run());
            if !told && !self.runner.takes_a_hosts_word() {
                return Ok(());
            }
            wait::submitted_work(&self.gpu).await?;
        }
        Err(not_submitted())
    }

    /// # Errors
    /// [`Error::Usage`] when [`Ticket::submitted`] was called for a slice that never ran: its part of the work is missing.
    pub fn check_whole(&self) -> Result<()> {
        self.runner.check_abandoned()?;
        match &self.last {
            Some(last) if matches!(last.flight.outcome.fate(), Fate::Submitted(_)) && last.flight.outcome.is_gone() => {
                Err(self.runner.gone())
            }
            _ => Ok(()),
        }
    }

    /// Submits a copy of the start of `source`, to run after all earlier submits, unless one is in flight; `fetched` returns `tag` with it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost.
    pub fn fetch(&self, readback: &mut Readback, source: &wgpu::Buffer, tag: u64) -> Result<()> {
        readback.fetch(source, tag, self.submitted())
    }

    /// The result of [`Guest::fetch`], if it has arrived and is current. A copy is discarded if it ran before a slice that the host had
    /// reported as submitted.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost.
    pub fn fetched(&self, readback: &mut Readback) -> Result<Option<(u64, Vec<u8>)>> {
        let behind = readback.behind();
        Ok(readback.poll()?.filter(|_| self.have_ended(behind)))
    }

    /// Updates the state from the ticket and encoder of the last slice.
    ///
    /// # Errors
    /// [`Error::Usage`] when the host submitted a slice after dropping its ticket; the slice then counts as submitted.
    pub fn settle(&mut self) -> Result<Settled> {
        let Some(last) = self.last.take() else { return Ok(Settled::Yes) };
        let outcome = &last.flight.outcome;
        match outcome.fate() {
            Fate::Open => {
                self.last = Some(last);
                return Ok(Settled::Open);
            }
            Fate::Submitted(submitted) => self.take_over(last, submitted),
            Fate::Dropped if outcome.is_gone() => self.slots.recall(),
            Fate::Dropped => match outcome.done.peek() {
                Some(done) => {
                    self.take_over(last, done);
                    return Err(Error::usage("a slice was submitted although its ticket was dropped: it counts as submitted"));
                }
                None => {
                    self.last = Some(last);
                    return Ok(Settled::Dropped);
                }
            },
        }
        Ok(Settled::Yes)
    }

    /// Makes the place after the last slice, which was submitted, the place of the engine.
    fn take_over(&mut self, last: Last<P>, submitted: Instant) {
        self.runner.took_off(last.flight, submitted);
        self.slots.commit(last.slots);
        self.at = last.at;
    }

    /// As [`Guest::settle`], for calls that need a settled engine.
    ///
    /// # Errors
    /// [`Error::Usage`] while a host holds a slice that it may still submit, [`Error::DeviceLost`] when the device is lost.
    pub fn settled(&mut self) -> Result<()> {
        self.gpu.check()?;
        self.check_open()?;
        match self.settle()? {
            Settled::Yes => Ok(()),
            Settled::Open | Settled::Dropped => self.check_settled(),
        }
    }

    /// Polls the device without blocking and updates the state of slices that have ended.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the device is lost, [`Error::Usage`] when the host's submits do not match its tickets.
    pub fn poll(&mut self) -> Result<()> {
        wait::look(&self.gpu)?;
        self.check_open()?;
        self.settle()?;
        self.runner.poll();
        self.runner.check()
    }

    /// Abandons the current pass, and forgets slices whose encoder was dropped although [`Ticket::submitted`] was called.
    ///
    /// # Errors
    /// As [`Guest::settled`].
    pub fn give_up(&mut self) -> Result<()> {
        self.settled()?;
        self.runner.forget_abandoned();
        self.slots.recall();
        self.at.rest.clear();
        Ok(())
    }

    /// Continues from another place, after [`Guest::give_up`].
    pub fn begin_at(&mut self, place: P) {
        self.at.place = place;
    }

    /// Encodes the next commands into a host's encoder, within the budget. Never blocks: it encodes nothing while two slices are still
    /// running.
    ///
    /// # Errors
    /// [`Error::Usage`] while the last slice is not settled, and errors of the pass's data; [`Error::DeviceLost`] when the device is lost. Drop
    /// the encoder after an error.
    pub fn encode(
        &mut self,
        compiled: &Compiled,
        encoder: &mut wgpu::CommandEncoder,
        work: &mut impl Passes<Progress = P>,
        budget: Budget,
    ) -> Result<Ticket> {
        self.settled()?;
        self.runner.check()?;
        if !self.runner.poll() {
            return Ok(Ticket::empty());
        }
        self.slices += 1;
        // Slices of two lengths let `Pace` separate the speed of the device from the host's polling interval.
        let halved = !self.runner.has_clock() && self.slices.is_multiple_of(4) && budget.time < Duration::MAX;
        let time = if halved { budget.time / 2 } else { budget.time };
        let mut slice = self.runner.begin(encoder, Budget { time, ..budget });
        let mut into = Filling::new(compiled, encoder, Slots::COUNT as usize);
        let at = self.fill(work, &mut slice, &mut into)?;
        let slots = into.slots;
        if slice.is_empty() && slots == 0 {
            // There were only passes without commands, if any.
            self.at = at;
            return Ok(Ticket::empty());
        }
        let (dispatches, predicted) = (slice.commands, slice.seconds);
        let flight = self.runner.end(encoder, slice);
        let ticket = Ticket::new(flight.outcome.clone(), dispatches, predicted);
        self.last = Some(Last { flight, at, slots });
        Ok(ticket)
    }

    /// As [`Guest::encode`], into an encoder of its own that is submitted at once. Never blocks: it encodes nothing while a slice that the
    /// host submitted is still running.
    ///
    /// # Errors
    /// As [`Guest::encode`].
    pub fn advance(&mut self, compiled: &Compiled, work: &mut impl Passes<Progress = P>, budget: Budget) -> Result<()> {
        self.settled()?;
        self.runner.check()?;
        if self.runner.takes_a_hosts_word() {
            return Ok(());
        }
        let mut encoder = self.encoder();
        let ticket = self.encode(compiled, &mut encoder, work, budget)?;
        if let Some(last) = &mut self.last {
            last.flight.submitted_as(self.gpu.submit(encoder));
        }
        ticket.submitted();
        self.settled()
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") })
    }

    /// Encodes until the slice is full, there is no next pass, or no slot is free for its inputs; returns the place after that.
    fn fill(&mut self, work: &mut impl Passes<Progress = P>, slice: &mut Slice, into: &mut Filling<'_>) -> Result<At<P>> {
        let mut at = self.at.clone();
        while !slice.is_full() {
            if at.rest.is_empty() {
                match self.begin(work, &mut at, Some(slice), into) {
                    Ok(true) => {}
                    Err(error) if slice.is_empty() => return Err(error),
                    // The commands encoded so far are valid; the next slice reports the error again.
                    Ok(false) | Err(_) => break,
                }
            }
            let Some((phase, range)) = at.rest.front_mut() else { break };
            let phase = *phase;
            if slice.ends_before(phase) {
                break;
            }
            into.taken.push(self.runner.take(into.compiled, slice, range));
            if range.start == range.end {
                at.rest.pop_front();
                if work.watches(phase) {
                    into.encode();
                    work.behind(into.encoder, phase, &at.place);
                }
                if at.rest.is_empty() {
                    work.end(&mut at.place);
                }
            }
        }
        into.encode();
        Ok(at)
    }

    /// Begins the next pass; false if there is none, no slot is free for its inputs, or the slice must end before it.
    fn begin(
        &mut self,
        work: &mut impl Passes<Progress = P>,
        at: &mut At<P>,
        slice: Option<&Slice>,
        into: &mut Filling<'_>,
    ) -> Result<bool> {
        let Some(Pass { inputs, phases }) = work.next(&at.place) else { return Ok(false) };
        let rest: VecDeque<_> = phases.into_iter().map(|phase| (phase, into.compiled.phase(phase))).collect();
        // Phases without commands belong to the next phase that has some, so look ahead to that one.
        let first = rest.iter().take_while(|(_, range)| range.is_empty()).count();
        let ends = slice.is_some_and(|slice| rest.iter().take(first + 1).any(|(phase, _)| slice.ends_before(*phase)));
        if ends || inputs && (into.slots == into.most_slots || !self.slots.ready(into.slots)?) {
            return Ok(false);
        }
        let begun = Instant::now();
        let data = work.begin(&mut at.place)?;
        into.drawing += begun.elapsed();
        if let Some(data) = data {
            into.encode();
            self.slots.fill(into.slots, &data)?;
            self.slots.encode(into.slots, into.encoder, into.compiled.place(&self.inputs).0);
            into.slots += 1;
        }
        at.rest = rest;
        Ok(true)
    }
}

/// The encoder of a slice, and what was added to it.
struct Filling<'a> {
    compiled: &'a Compiled,
    encoder: &'a mut wgpu::CommandEncoder,
    /// Commands of the slice that are not encoded yet; they are collected so that they share one compute pass.
    taken: Vec<Range<usize>>,
    /// Number of slots of inputs in the slice, and the limit.
    slots: usize,
    most_slots: usize,
    /// The time spent on drawing inputs.
    drawing: Duration,
}

impl<'a> Filling<'a> {
    fn new(compiled: &'a Compiled, encoder: &'a mut wgpu::CommandEncoder, most_slots: usize) -> Filling<'a> {
        Filling { compiled, encoder, taken: vec![], slots: 0, most_slots, drawing: Duration::ZERO }
    }

    fn encode(&mut self) {
        self.compiled.encode_all(self.encoder, &self.taken);
        self.taken.clear();
    }
}
