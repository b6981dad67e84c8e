//! Replaying compiled plans: submits cut by measured time, a bounded number in flight, completion by callback.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

use super::Gpu;
use super::compile::Compiled;
use super::wait::{self, Signal};
use crate::error::Result;

/// Submits work of compiled plans in pieces of bounded time.
///
/// How long a piece will take is predicted from its cost and the pace of the submits that have ended.
pub struct Runner {
    gpu: Gpu,
    /// The longest a submit should take.
    limit: Duration,
    /// Seconds per unit of cost.
    pace: f64,
    in_flight: VecDeque<Flight>,
    last_done: Option<Instant>,
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
    index: wgpu::SubmissionIndex,
    cost: f64,
    submitted: Instant,
    done: Signal<Instant>,
}

/// Submits that may be in flight. Each holds at most one step, so memory, Ctrl-C and a host's frame stay bounded.
const IN_FLIGHT: usize = 2;

impl Runner {
    /// Submits of at most 100 ms on GPUs and 1 s on software adapters, which have no watchdog.
    pub fn new(gpu: &Gpu) -> Runner {
        let software = gpu.traits().software;
        let (limit, pace) = if software { (Duration::from_secs(1), 1e-9) } else { (Duration::from_millis(100), 1e-11) };
        Runner {
            gpu: gpu.clone(),
            limit,
            pace,
            in_flight: VecDeque::new(),
            last_done: None,
            most_commands: usize::MAX,
            done: Done::default(),
        }
    }

    /// Changes the longest time of a submit.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// How many times all of these commands are predicted to run in `time`.
    pub fn fitting(&self, compiled: &Compiled, ranges: &[Range<usize>], time: Duration) -> usize {
        let cost: f64 = ranges.iter().flat_map(|range| &compiled.commands[range.clone()]).map(|command| command.cost).sum();
        (time.as_secs_f64() / (cost * self.pace)) as usize
    }

    /// Takes from the front of `ranges` as many commands as are predicted to stay within the limit; at least one if there is any.
    pub fn take_piece(&self, compiled: &Compiled, ranges: &mut VecDeque<Range<usize>>) -> Piece {
        let mut piece = Piece::default();
        while let Some(range) = ranges.front_mut() {
            let start = range.start;
            for command in &compiled.commands[range.clone()] {
                let seconds = (piece.cost + command.cost) * self.pace;
                let full = seconds > self.limit.as_secs_f64() || piece.commands >= self.most_commands;
                if piece.commands > 0 && full {
                    break;
                }
                piece.cost += command.cost;
                piece.commands += 1;
                range.start += 1;
            }
            piece.ranges.push(start..range.start);
            if range.start < range.end {
                break;
            }
            ranges.pop_front();
        }
        piece
    }

    /// Submits an encoder whose commands are predicted to cost `cost`.
    pub fn submit(&mut self, encoder: wgpu::CommandEncoder, cost: f64) -> Result<()> {
        let done = Signal::new();
        let sender = done.clone();
        encoder.on_submitted_work_done(move || sender.send(Instant::now()));
        let submitted = Instant::now();
        let index = self.gpu.queue().submit([encoder.finish()]);
        self.in_flight.push_back(Flight { index, cost, submitted, done });
        self.done.submits += 1;
        self.gpu.check()
    }

    /// Takes note of submits that have ended; true if another may be submitted.
    pub fn poll(&mut self) -> bool {
        while let Some(flight) = self.in_flight.front() {
            let Some(done) = flight.done.take() else { break };
            let began = self.last_done.map_or(flight.submitted, |last| last.max(flight.submitted));
            let seconds = done.saturating_duration_since(began).as_secs_f64();
            // Slower than thought counts at once, because a submit must not overrun twice; faster is believed by and by: a first
            // dispatch is slow while the driver compiles it.
            if flight.cost > 1e5 {
                let measured = seconds / flight.cost;
                self.pace = if measured > self.pace { measured } else { self.pace + 0.25 * (measured - self.pace) };
            }
            self.last_done = Some(done);
            self.in_flight.pop_front();
        }
        self.in_flight.len() < IN_FLIGHT
    }

    /// Blocks until another submit may go.
    pub fn wait_for_room(&mut self) -> Result<()> {
        while !self.poll() {
            let index = self.in_flight[0].index.clone();
            wait::for_submit(&self.gpu, &index)?;
        }
        Ok(())
    }

    /// Blocks until nothing is in flight.
    pub fn wait_for_all(&mut self) -> Result<()> {
        if !self.in_flight.is_empty() {
            wait::for_device(&self.gpu)?;
        }
        self.poll();
        Ok(())
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
            let piece = self.take_piece(compiled, &mut ranges);
            compiled.encode_all(&mut encoder, &piece.ranges);
            if ranges.is_empty()
                && let Some(after) = after.take()
            {
                after(&mut encoder);
            }
            self.submit(encoder, piece.cost)?;
            self.done.host += begun.elapsed();
            self.done.commands += piece.commands as u64;
        }
        Ok(true)
    }
}

/// Commands that go into one submit.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    pub ranges: Vec<Range<usize>>,
    /// Their number.
    pub commands: usize,
    /// Their predicted cost.
    pub cost: f64,
}
