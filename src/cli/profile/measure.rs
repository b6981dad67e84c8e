//! What `profile` measures: steps without dispatch timing, steps with every dispatch timed, and the adapter's roof.

use std::time::Instant;

use serde::Serialize;

use super::capture;
use crate::cli::host_memory;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::probe;
use crate::gpu::profile::summary::{KernelGroup, Roof, group};
use crate::gpu::profile::{Method, ProfileRow, Profiler, middle_mean};
use crate::gpu::wait::block_on;
use crate::text::TokenStore;
use crate::train::Trainer;
use crate::train::config::RunConfig;

pub struct Measured {
    pub method: Method,
    pub roof: Roof,
    /// Whether the user gave the roof, so that it was not measured.
    pub roof_given: bool,
    pub rows: Vec<ProfileRow>,
    /// Seconds of a step without dispatch timing, from its submit until it has run: the mean of the middle half.
    pub step: f64,
    pub steps: u32,
    pub counts: Counts,
}

/// What to measure, and how.
pub struct Wanted {
    pub steps: u32,
    pub method: Option<Method>,
    /// Also run one step in the graphics debugger.
    pub captured: bool,
    /// Use this roof instead of measuring one.
    pub roof: Option<Roof>,
}

/// The host's work for a step.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Dispatches and clears that the plan records.
    pub dispatches: u32,
    /// Those of one layer, forward and backward together: the maximum over all layers.
    pub per_layer: u32,
    /// Those of one chunk of the head's rows.
    pub per_head_chunk: u32,
    pub head_chunks: u32,
    /// Those of neither a layer nor a chunk.
    pub outside: u32,
    /// Launches and clears submitted: a long dispatch is split into several.
    pub commands: f64,
    pub submits: f64,
    /// Buffers created during a step.
    pub allocations: u64,
    /// Microseconds to encode and submit one command: the minimum over all steps.
    pub host_microseconds: f64,
}

/// `h.0`, `head`, `embed`: the layer that a row belongs to; `prepare`, `norm`, `update`: the phase of a row outside the layers.
pub fn layer(row: &ProfileRow) -> String {
    let mut parts = row.scope.split('.');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("h", Some(index)) => format!("h.{index}"),
        ("", _) => row.phase.into(),
        (first, _) => first.into(),
    }
}

/// Steps before the first measured one: drivers compile in them, and the runner learns how much work fits into one submit.
const WARM_UP: usize = 3;

/// A trainer on random tokens, whose steps run with or without dispatch timing.
pub struct Bench {
    pub trainer: Trainer,
    data: TokenStore,
    /// In the session while a timed step runs.
    profiler: Option<Profiler>,
}

impl Bench {
    /// Creates the trainer, and warms it up.
    pub fn new(gpu: &Gpu, config: &RunConfig, options: &Options, method: Option<Method>) -> Result<Bench> {
        let trainer = block_on(gpu, Trainer::new(gpu, config, options))?;
        let mut bench = Bench { trainer, data: random_tokens(config), profiler: None };
        for _ in 0..WARM_UP {
            bench.step()?;
        }
        bench.profiler = Some(block_on(gpu, Profiler::new(gpu, &bench.trainer.session.compiled, method))?);
        Ok(bench)
    }

    /// Runs one step without dispatch timing, and waits for it. Returns its seconds.
    pub fn step(&mut self) -> Result<f64> {
        let begun = Instant::now();
        self.trainer.step(&self.data, false, &|| false)?;
        self.trainer.session.guest.runner.wait_for_all()?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Runs one step with every dispatch timed.
    pub fn timed_step(&mut self) -> Result<()> {
        self.trainer.session.profiler = self.profiler.take();
        self.step()?;
        self.profiler = self.trainer.session.profiler.take();
        self.profiler.iter_mut().for_each(Profiler::end_step);
        Ok(())
    }

    /// How dispatches are timed, and the rows of all timed steps.
    ///
    /// # Errors
    /// As [`Trainer::finish`]: if a step diverged, its times would not be those of a training run.
    pub fn finish(mut self) -> Result<(Method, Vec<ProfileRow>)> {
        self.trainer.finish()?;
        let profiler = self.profiler.expect("every timed step gives it back");
        Ok((profiler.method(), profiler.rows(&self.trainer.session.compiled)))
    }
}

pub fn measure(gpu: &Gpu, config: &RunConfig, options: &Options, wanted: &Wanted) -> Result<Measured> {
    host_memory::check(gpu, &Trainer::memory(gpu, config, options)?)?;
    let mut bench = Bench::new(gpu, config, options, wanted.method)?;
    if wanted.captured {
        capture::captured(gpu, || bench.step().map(drop))?;
    }
    let (mut plain, mut counts) = (vec![], Counts { host_microseconds: f64::INFINITY, ..Counts::default() });
    // Steps of both kinds alternate, so that a busy machine slows both.
    for _ in 0..wanted.steps {
        let (before, created) = (bench.trainer.session.guest.runner.done, gpu.created());
        plain.push(bench.step()?);
        let done = bench.trainer.session.guest.runner.done;
        counts.commands = (done.commands - before.commands) as f64;
        counts.submits = (done.submits - before.submits) as f64;
        counts.allocations = gpu.created().buffers - created.buffers;
        let host = (done.host - before.host).as_secs_f64() * 1e6 / counts.commands;
        counts.host_microseconds = counts.host_microseconds.min(host);
        bench.timed_step()?;
    }
    let (method, rows) = bench.finish()?;
    let roof = wanted.roof.map_or_else(|| probe::roof(gpu, method), Ok)?;
    let counts = counts.of(&rows);
    let (step, steps) = (middle_mean(&plain), wanted.steps);
    Ok(Measured { method, roof, roof_given: wanted.roof.is_some(), rows, step, steps, counts })
}

/// Random tokens, enough for two batches.
pub fn random_tokens(config: &RunConfig) -> TokenStore {
    let count = 2 * config.train.batch_size * (config.model.seq_len + 1);
    let id = |i: usize| ((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % config.model.vocab_size as u64;
    TokenStore::from_ids((0..count).map(|i| id(i) as u32).collect())
}

impl Counts {
    fn of(self, rows: &[ProfileRow]) -> Counts {
        let count = |wanted: &dyn Fn(&ProfileRow) -> bool| rows.iter().filter(|row| wanted(row)).map(|row| row.calls).sum::<u32>();
        let mut layers: Vec<String> = rows.iter().map(layer).filter(|name| name.starts_with("h.")).collect();
        layers.dedup();
        let per_layer = layers.iter().map(|name| count(&|row| layer(row) == *name)).max().unwrap_or(0);
        let in_layers = count(&|row| layer(row).starts_with("h."));
        // Every chunk runs its cross-entropy; the sum of the losses after them runs once.
        let of_chunk = |row: &ProfileRow| layer(row) == "head" && !row.kernel.starts_with("loss.");
        let entropies = rows.iter().filter(|row| of_chunk(row) && row.kernel.starts_with("cross_entropy."));
        let first = entropies.clone().next().map(|row| row.kernel.clone());
        let head_chunks = first.map_or(0, |first| entropies.filter(|row| row.kernel == first).map(|row| row.calls).sum::<u32>());
        let in_chunks = count(&of_chunk);
        let dispatches = count(&|_| true);
        Counts {
            dispatches,
            per_layer,
            per_head_chunk: in_chunks / head_chunks.max(1),
            head_chunks,
            outside: dispatches - in_layers - in_chunks,
            ..self
        }
    }
}

impl Measured {
    /// By kernel, longest time first.
    pub fn by_kernel(&self) -> Vec<KernelGroup> {
        let mut groups = group(&self.rows, &self.roof, |row| row.kernel.clone());
        groups.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        groups
    }

    /// By layer, in the order of the forward pass.
    pub fn by_layer(&self) -> Vec<KernelGroup> {
        group(&self.rows, &self.roof, layer)
    }
}
