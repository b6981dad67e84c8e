//! One engine on a device that it may share: passes over a compiled plan, encoded in slices and settled later.
//!
//! A trainer, an evaluation and a generator all run passes: each takes new inputs along or none, and runs some phases of the plan. What
//! the next pass is they say as [`Passes`]; here is when its commands go, and where the engine stands then. A host encodes slices into its
//! own encoders ([`Guest::encode`]) and answers later:
//!
//! ```text
//!           encode               Ticket::submitted
//!   settled ───────> open slice ────────────────────> settled, at the place behind the slice
//!      ^                 │ ticket dropped
//!      │                 v
//!      └────────── dropped slice, until its encoder is gone: then the place is the old one, and the commands come again
//! ```
//!
//! Nothing else of the engine is encoded while a slice is open or dropped. A blocking call ([`Guest::run`]) submits slices of its own,
//! which need no answer.

mod blocking;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::compile::Compiled;
use super::passes::{Pass, Passes, Place};
use super::plan::Phase;
use super::run::{Flight, Runner, not_submitted};
use super::slice::{Budget, Fate, Slice, Ticket};
use super::slots::{Readback, Slots};
use super::tensor::Tensor;
use super::wait;
use crate::error::{Error, Result};

/// A place with what is left of the pass under way.
#[derive(Clone)]
struct At<P> {
    place: P,
    rest: VecDeque<(Phase, Range<usize>)>,
}

/// The slice that a host was given last, until it is settled.
struct Last<P> {
    flight: Flight,
    /// Where the engine stands behind it, and how many slots of inputs went with it.
    at: At<P>,
    slots: usize,
}

/// What became of the slice that a host was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The place counts: there is no slice that the host could still submit.
    Yes,
    /// It has the ticket.
    Open,
    /// The ticket was dropped, and the encoder is still there.
    Dropped,
}

/// The state of one engine: what runs its commands, the inputs on their way, and its place.
pub struct Guest<P> {
    gpu: Gpu,
    pub runner: Runner,
    slots: Slots,
    /// Where inputs go.
    inputs: Tensor,
    at: At<P>,
    last: Option<Last<P>>,
    /// Slices that a host was given: every fourth is cut short where there are no timestamps.
    slices: u64,
}

/// How often to wait for the work that was submitted before a slice counts as not submitted.
const FENCES: usize = 3;

impl<P: Place> Guest<P> {
    /// An engine at `place`, whose passes take along so many bytes of inputs, to the start of the storage of `inputs`.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses an allocation.
    pub async fn new(gpu: &Gpu, inputs: &Tensor, bytes: u64, place: P) -> Result<Guest<P>> {
        let (slots, runner) = (Slots::new(gpu, bytes).await?, Runner::timed(gpu).await?);
        let at = At { place, rest: VecDeque::new() };
        Ok(Guest { gpu: gpu.clone(), runner, slots, inputs: inputs.clone(), at, last: None, slices: 0 })
    }

    /// Bytes and number of the buffers that [`Guest::new`] makes.
    pub fn needs(gpu: &Gpu, bytes: u64) -> (u64, u64) {
        let (clock_bytes, clocks) = Runner::needs(gpu);
        (Slots::needs(bytes) + clock_bytes, Slots::COUNT + clocks)
    }

    /// Where the engine stands, as far as commands were submitted; a slice counts as soon as its ticket says so.
    pub fn place(&self) -> &P {
        &self.now().place
    }

    fn now(&self) -> &At<P> {
        match &self.last {
            Some(last) if matches!(last.flight.outcome.fate(), Fate::Submitted(_)) => &last.at,
            _ => &self.at,
        }
    }

    /// The place, to be changed between two passes of a settled engine.
    pub fn place_mut(&mut self) -> &mut P {
        &mut self.at.place
    }

    /// The phase of the next command of the pass under way, and whether the phase has begun.
    pub fn next_phase(&self, compiled: &Compiled) -> Option<(Phase, bool)> {
        let (phase, range) = self.now().rest.iter().find(|(_, range)| !range.is_empty())?;
        Some((*phase, range.start > compiled.phase(*phase).start))
    }

    /// Whether a pass, or the work that it is a part of, has begun and not ended.
    pub fn under_way(&self) -> bool {
        let at = self.now();
        !at.rest.is_empty() || at.place.under_way()
    }

    /// # Errors
    /// [`Error::Usage`] while a host has a slice that it may still submit.
    pub fn check_settled(&self) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        match last.flight.outcome.fate() {
            Fate::Submitted(_) => Ok(()),
            Fate::Open => {
                Err(Error::usage("the last slice is not settled: call `Ticket::submitted` after submitting its encoder, or drop both"))
            }
            Fate::Dropped if last.flight.outcome.is_gone() => Ok(()),
            Fate::Dropped => Err(Error::usage("the ticket of the last slice was dropped and its encoder is still there: drop that too")),
        }
    }

    /// Waits until the slices have run that a host says it has submitted, so that what is read or written next comes behind them.
    ///
    /// # Errors
    /// [`Error::Usage`] while a host has a slice that it may still submit, or did not submit one that it said it has.
    pub async fn check_ran(&self) -> Result<()> {
        self.check_settled()?;
        // Once is enough, but for a thread that has just taken the callbacks of another's poll.
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
    /// [`Error::Usage`] when a slice never was submitted although its ticket says so: what it would have done is missing.
    pub fn check_whole(&self) -> Result<()> {
        self.runner.check_abandoned()?;
        match &self.last {
            Some(last) if matches!(last.flight.outcome.fate(), Fate::Submitted(_)) && last.flight.outcome.is_gone() => {
                Err(self.runner.gone())
            }
            _ => Ok(()),
        }
    }

    /// Has the start of `source` copied behind everything that was submitted so far, unless a copy is on its way; `tag` comes back with it.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn fetch(&self, readback: &mut Readback, source: &wgpu::Buffer, tag: u64) -> Result<()> {
        readback.fetch(source, tag, self.runner.taken_off())
    }

    /// What [`Guest::fetch`] has brought back, if it has come and is what it should be: a copy that was made before a slice which a host
    /// said it had submitted is dropped.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn fetched(&self, readback: &mut Readback) -> Result<Option<(u64, Vec<u8>)>> {
        let behind = readback.behind();
        Ok(readback.poll()?.filter(|_| self.runner.ended(behind)))
    }

    /// Takes note of what the host did with its last slice.
    ///
    /// # Errors
    /// [`Error::Usage`] when it submitted a slice whose ticket it has dropped; the slice counts as submitted.
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

    /// The last slice was submitted: its place is that of the engine.
    fn take_over(&mut self, last: Last<P>, submitted: Instant) {
        self.runner.took_off(last.flight, submitted);
        self.slots.commit(last.slots);
        self.at = last.at;
    }

    /// Settles, for what cannot go on with a slice that a host has.
    ///
    /// # Errors
    /// [`Error::Usage`] while a host has a slice that it may still submit, [`Error::Device`] when the device is lost.
    pub fn settled(&mut self) -> Result<()> {
        self.gpu.check()?;
        match self.settle()? {
            Settled::Yes => Ok(()),
            Settled::Open | Settled::Dropped => self.check_settled(),
        }
    }

    /// Takes note of slices that have ended, without blocking.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost, [`Error::Usage`] when the host did not do what its tickets say.
    pub fn poll(&mut self) -> Result<()> {
        wait::look(&self.gpu)?;
        self.settle()?;
        self.runner.poll();
        self.runner.check()
    }

    /// Gives up the pass under way, and slices that a host has thrown away although it said that they were submitted.
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

    /// Goes on from another place, after [`Guest::give_up`].
    pub fn begin_at(&mut self, place: P) {
        self.at.place = place;
    }

    /// Encodes the next commands, as the budget allows, into a host's encoder. Never blocks: while two slices are still running nothing is
    /// encoded.
    ///
    /// # Errors
    /// [`Error::Usage`] while the last slice is not settled, and those of the work's data; [`Error::Device`] when the device is lost. Throw
    /// the encoder away then.
    pub fn encode(
        &mut self,
        compiled: &Compiled,
        encoder: &mut wgpu::CommandEncoder,
        work: &mut impl Passes<Place = P>,
        budget: Budget,
    ) -> Result<Ticket> {
        self.settled()?;
        self.runner.check()?;
        if !self.runner.poll() {
            return Ok(Ticket::empty());
        }
        self.slices += 1;
        // Slices of two lengths tell the pace of the device from that of the host's looks.
        let halved = !self.runner.has_clock() && self.slices.is_multiple_of(4) && budget.time < Duration::MAX;
        let time = if halved { budget.time / 2 } else { budget.time };
        let mut slice = self.runner.begin(encoder, Budget { time, ..budget });
        let mut into = Filling::new(compiled, encoder, Slots::COUNT as usize);
        let at = self.fill(work, &mut slice, &mut into)?;
        let slots = into.slots;
        if slice.is_empty() && slots == 0 {
            // Passes of no commands, if any.
            self.at = at;
            return Ok(Ticket::empty());
        }
        let (dispatches, predicted) = (slice.commands, slice.seconds);
        let flight = self.runner.end(encoder, slice);
        let ticket = Ticket::new(flight.outcome.clone(), dispatches, predicted);
        self.last = Some(Last { flight, at, slots });
        Ok(ticket)
    }

    /// The same into an encoder of its own, which is submitted at once. Never blocks: while a slice that a host has submitted is still
    /// running nothing is encoded.
    ///
    /// # Errors
    /// As [`Guest::encode`].
    pub fn advance(&mut self, compiled: &Compiled, work: &mut impl Passes<Place = P>, budget: Budget) -> Result<()> {
        self.settled()?;
        self.runner.check()?;
        if self.runner.takes_a_hosts_word() {
            return Ok(());
        }
        let mut encoder = self.encoder();
        let ticket = self.encode(compiled, &mut encoder, work, budget)?;
        if let Some(last) = &mut self.last {
            last.flight.submitted_as(self.gpu.queue().submit([encoder.finish()]));
        }
        ticket.submitted();
        self.settled()
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpt") })
    }

    /// Encodes until the slice is full, the work has no next pass, or no slot is free for its inputs; the place behind that.
    fn fill(&mut self, work: &mut impl Passes<Place = P>, slice: &mut Slice, into: &mut Filling<'_>) -> Result<At<P>> {
        let mut at = self.at.clone();
        while !slice.is_full() {
            if at.rest.is_empty() {
                match self.begin(work, &mut at, Some(slice), into) {
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

    /// Begins the next pass; false if there is none, no slot is free for its inputs, or the slice ends in front of it.
    fn begin(&mut self, work: &mut impl Passes<Place = P>, at: &mut At<P>, slice: Option<&Slice>, into: &mut Filling<'_>) -> Result<bool> {
        let Some(Pass { inputs, phases }) = work.next(&at.place) else { return Ok(false) };
        let rest: VecDeque<_> = phases.into_iter().map(|phase| (phase, into.compiled.phase(phase))).collect();
        // A phase without commands is passed over with the next one that has some.
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

/// The encoder that a slice goes into.
struct Filling<'a> {
    compiled: &'a Compiled,
    encoder: &'a mut wgpu::CommandEncoder,
    /// Commands of the slice that are not encoded yet: as many as can be go into one pass of the encoder.
    taken: Vec<Range<usize>>,
    /// Slots of inputs that it takes along, and the most that it may.
    slots: usize,
    most_slots: usize,
    /// The time that the inputs took.
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
