//! Times every recorded work of a compiled plan while real steps run.
//!
//! With pass timestamps each command runs in a compute pass of its own, and the device writes a timestamp at its begin and end. Without
//! that feature each command is submitted alone, the host waits for it, and the time of an empty submit is subtracted; a work that reads
//! none of its outputs is then repeated, which makes short times measurable and changes no result. Either way a timed step computes the
//! same numbers as an untimed one.
//!
//! A guest application may time its own plans on its own device:
//!
//! ```no_run
//! # fn profile(gpu: wgpt::Gpu, compiled: wgpt::low_level::gpu::compile::Compiled) -> wgpt::Result<()> {
//! use wgpt::{block_on, low_level::gpu::profile::Profiler};
//!
//! let mut profiler = block_on(&gpu, Profiler::new(&gpu, &compiled, None))?;
//! for _ in 0..5 {
//!     profiler.run(&compiled, 0..compiled.len())?;
//!     profiler.end_step();
//! }
//! for row in profiler.rows(&compiled) {
//!     println!("{}: {:.1} us", row.label, row.seconds * 1e6);
//! }
//! # Ok(())
//! # }
//! ```

pub mod summary;
pub mod trace;

use std::collections::VecDeque;
use std::ops::Range;

use serde::Serialize;
use web_time::Instant;

use super::Gpu;
use super::compile::Compiled;
use super::run::Runner;
use super::slice::Slice;
use super::wait;
use crate::error::Result;

/// How times are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The device writes timestamps at the begin and end of a pass for each command.
    Timestamps,
    /// The host measures the time around a submit for each command.
    Repetition,
}

impl Method {
    /// The more precise one that the device can use.
    pub(crate) fn of(gpu: &Gpu) -> Method {
        if gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) { Method::Timestamps } else { Method::Repetition }
    }
}

/// The time of one recorded work.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileRow {
    /// `h.0.attn layer_norm.forward`.
    pub label: String,
    /// `layer_norm.forward`.
    pub kernel: String,
    /// `h.0.attn`.
    pub scope: String,
    /// The kernel variant that ran; empty for a clear.
    pub variant: &'static str,
    /// Name of the phase that it was recorded in.
    pub phase: &'static str,
    /// How often one step runs it; more than once with gradient accumulation.
    pub calls: u32,
    /// Seconds of all its calls in a step: the mean over the steps whose total lies between the quartiles. All rows use the same steps, so
    /// that they add up to a step.
    pub seconds: f64,
    /// FLOPs of all its calls in a step.
    pub flops: u64,
    /// Bytes of all its calls in a step; each call counts what it must read and write at least.
    pub bytes: u64,
    /// When its first call of the last step began, in seconds after the first call of that step.
    pub begin: f64,
    /// Seconds of its calls in the last step.
    pub last: f64,
}

/// The most commands in a timed submit: two queries each, well below the limit of 4,096 in a query set.
const COMMANDS: usize = 512;
/// A command is repeated for about this many seconds, at most `MOST_REPETITIONS` times.
const LONG_ENOUGH: f64 = 2e-3;
const MOST_REPETITIONS: u32 = 16;

/// Times the recorded works of one compiled plan.
pub struct Profiler {
    gpu: Gpu,
    runner: Runner,
    clock: Timer,
    works: Vec<Samples>,
    /// Device or host time at which the step began, seconds.
    origin: Option<f64>,
    steps: u32,
}

/// The method of measurement with its resources.
enum Timer {
    Timestamps { queries: wgpu::QuerySet, resolved: wgpu::Buffer },
    Repetition { empty: f64, begun: Instant },
}

#[derive(Debug, Clone, Default)]
struct Samples {
    calls: u32,
    /// Seconds in the current step so far.
    now: f64,
    begin: Option<f64>,
    /// Seconds of each step.
    steps: Vec<f64>,
    /// First begin and seconds of the last step.
    last: (f64, f64),
}

impl Profiler {
    /// A profiler of `compiled`; without a `method` it uses timestamps if the device has them.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for timestamps on a device without `wgpu::Features::TIMESTAMP_QUERY`.
    pub async fn new(gpu: &Gpu, compiled: &Compiled, method: Option<Method>) -> Result<Profiler> {
        let method = method.unwrap_or_else(|| Method::of(gpu));
        let mut runner = Runner::new(gpu);
        let clock = match method {
            Method::Timestamps if Method::of(gpu) == Method::Repetition => {
                let name = &gpu.info().name;
                return Err(crate::error::Error::usage(format!(
                    "the device of {name} was opened without pass timestamps: time by repetition"
                )));
            }
            Method::Timestamps => {
                runner.most_commands = COMMANDS;
                gpu.guarded("making a query set", || Timer::timestamps(gpu)).await?
            }
            Method::Repetition => {
                runner.most_commands = 1;
                Timer::Repetition { empty: empty_submit(gpu, &mut runner)?, begun: Instant::now() }
            }
        };
        let works = vec![Samples::default(); compiled.works().len()];
        Ok(Profiler { gpu: gpu.clone(), runner, clock, works, origin: None, steps: 0 })
    }

    /// How times are measured.
    pub fn method(&self) -> Method {
        match self.clock {
            Timer::Timestamps { .. } => Method::Timestamps,
            Timer::Repetition { .. } => Method::Repetition,
        }
    }

    /// Steps timed so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Runs and times a range of commands; blocks until they have run.
    ///
    /// # Errors
    /// [`crate::error::Error::DeviceLost`] when the device is lost.
    pub fn run(&mut self, compiled: &Compiled, range: Range<usize>) -> Result<()> {
        let mut ranges: VecDeque<Range<usize>> = [range].into_iter().filter(|range| !range.is_empty()).collect();
        while !ranges.is_empty() {
            let (slice, taken) = self.runner.take_piece(compiled, &mut ranges);
            let commands: Vec<usize> = taken.into_iter().flatten().collect();
            match self.method() {
                Method::Timestamps => self.by_timestamps(compiled, &commands, slice)?,
                Method::Repetition => self.by_repetition(compiled, commands[0])?,
            }
        }
        Ok(())
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("profile") })
    }

    fn by_timestamps(&mut self, compiled: &Compiled, commands: &[usize], slice: Slice) -> Result<()> {
        let mut encoder = self.encoder();
        let Timer::Timestamps { queries, resolved } = &self.clock else { return Ok(()) };
        for (slot, &command) in commands.iter().enumerate() {
            let slot = 2 * slot as u32;
            let writes = wgpu::ComputePassTimestampWrites {
                query_set: queries,
                beginning_of_pass_write_index: Some(slot),
                end_of_pass_write_index: Some(slot + 1),
            };
            compiled.encode_timed(&mut encoder, command, 1, Some(writes));
        }
        encoder.resolve_query_set(queries, 0..2 * commands.len() as u32, resolved, 0);
        let (resolved, bytes) = (resolved.clone(), 16 * commands.len() as u64);
        self.runner.submit(encoder, slice)?;
        self.runner.wait_for_all()?;
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&wait::block_on(&self.gpu, compiled.transfer.read(&self.gpu, &resolved, 0, bytes))?);
        let period = f64::from(self.gpu.queue().get_timestamp_period()) * 1e-9;
        for (&command, pair) in commands.iter().zip(ticks.chunks_exact(2)) {
            self.note(compiled, command, pair[0] as f64 * period, pair[1].saturating_sub(pair[0]) as f64 * period);
        }
        Ok(())
    }

    fn by_repetition(&mut self, compiled: &Compiled, command: usize) -> Result<()> {
        let Timer::Repetition { empty, begun } = self.clock else { return Ok(()) };
        let work = compiled.work_of(command);
        let before = self.works[work].steps.last().map_or(LONG_ENOUGH, |seconds| seconds / f64::from(self.works[work].calls.max(1)));
        let wanted = (LONG_ENOUGH / before.max(1e-7)).ceil() as u32;
        let times = if compiled.works()[work].repeatable { wanted.clamp(1, MOST_REPETITIONS) } else { 1 };
        let start = Instant::now();
        let mut encoder = self.encoder();
        compiled.encode_timed(&mut encoder, command, times, None);
        self.runner.submit(encoder, Slice::default())?;
        self.runner.wait_for_all()?;
        let seconds = (start.elapsed().as_secs_f64() - empty).max(0.0) / f64::from(times);
        self.note(compiled, command, start.duration_since(begun).as_secs_f64(), seconds);
        Ok(())
    }

    fn note(&mut self, compiled: &Compiled, command: usize, begin: f64, seconds: f64) {
        let begin = begin - *self.origin.get_or_insert(begin);
        let samples = &mut self.works[compiled.work_of(command)];
        samples.now += seconds;
        samples.begin.get_or_insert(begin);
        // A dispatch cut into several commands is one call.
        let first = command == 0 || compiled.work_of(command - 1) != compiled.work_of(command);
        samples.calls += u32::from(self.steps == 0 && first);
    }

    /// Ends a step: everything that ran since the last call is one sample.
    pub fn end_step(&mut self) {
        for samples in &mut self.works {
            samples.steps.push(samples.now);
            samples.last = (samples.begin.unwrap_or_default(), samples.now);
            (samples.now, samples.begin) = (0.0, None);
        }
        self.origin = None;
        self.steps += 1;
    }

    /// A row for each recorded work that ran, in order.
    pub fn rows(&self, compiled: &Compiled) -> Vec<ProfileRow> {
        let totals: Vec<f64> = (0..self.steps as usize).map(|step| self.works.iter().map(|samples| samples.steps[step]).sum()).collect();
        let taken = middle_half(&totals);
        let mean = |steps: &[f64]| taken.iter().map(|&step| steps[step]).sum::<f64>() / taken.len().max(1) as f64;
        let ran = compiled.works().iter().zip(&self.works).filter(|(_, samples)| samples.calls > 0);
        let row = |(work, samples): (&super::commands::WorkInfo, &Samples)| ProfileRow {
            label: work.label.clone(),
            kernel: work.kernel.clone(),
            scope: work.scope.to_string(),
            variant: work.variant,
            phase: work.phase.0,
            calls: samples.calls,
            seconds: mean(&samples.steps),
            flops: work.flops * u64::from(samples.calls),
            bytes: work.bytes * u64::from(samples.calls),
            begin: samples.last.0,
            last: samples.last.1,
        };
        ran.map(row).collect()
    }
}

impl Timer {
    fn timestamps(gpu: &Gpu) -> Timer {
        let count = 2 * COMMANDS as u32;
        let descriptor = wgpu::QuerySetDescriptor { label: Some("profile"), ty: wgpu::QueryType::Timestamp, count };
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.create_buffer("timestamps", u64::from(count) * 8, usage);
        Timer::Timestamps { queries: gpu.device().create_query_set(&descriptor), resolved }
    }
}

/// Seconds of an empty submit, with the wait for it.
fn empty_submit(gpu: &Gpu, runner: &mut Runner) -> Result<f64> {
    let mut samples = vec![];
    for _ in 0..21 {
        let begun = Instant::now();
        let encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("empty") });
        runner.submit(encoder, Slice::default())?;
        runner.wait_for_all()?;
        samples.push(begun.elapsed().as_secs_f64());
    }
    Ok(middle_mean(&samples))
}

/// Indices of the samples between the quartiles. A burst of other work is left out, and unlike medians the means still add up.
fn middle_half(samples: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| samples[a].total_cmp(&samples[b]));
    let quarter = order.len() / 4;
    order[quarter..order.len() - quarter].to_vec()
}

/// The mean of the middle half of some samples; 0 for none.
pub fn middle_mean(samples: &[f64]) -> f64 {
    let taken = middle_half(samples);
    taken.iter().map(|&index| samples[index]).sum::<f64>() / taken.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::extent::Extent;
    use crate::gpu::kernel::{KernelFile, KernelSource, SINGLE};
    use crate::gpu::plan::{Phase, Plan};
    use crate::gpu::tensor::Dtype;

    const SUMS: KernelSource = KernelSource {
        file: "sums",
        text: "struct Dims { first_group: u32, rows: u32 }\n\
               @group(0) @binding(0) var<uniform> dims: Dims;\n\
               @group(0) @binding(1) var<storage, read> weight: array<f32>;\n\
               @group(0) @binding(2) var<storage, read> bias: array<f32>;\n\
               @group(0) @binding(3) var<storage, read_write> y: array<f32>;\n\
               @group(0) @binding(4) var<storage, read_write> sum: array<f32>;\n\
               const WORKGROUP: u32 = 64u;\n\
               const ROWS_PER_GROUP: u32 = 64u;\n\
               @compute @workgroup_size(WORKGROUP)\n\
               fn add(@builtin(global_invocation_id) id: vec3<u32>) {\n\
                   let i = dims.first_group * WORKGROUP + id.x;\n\
                   if i < dims.rows { y[i] = weight[i] + bias[i]; sum[i] += y_of(i); }\n\
               }\n\
               fn y_of(i: u32) -> f32 { return weight[i]; }\n",
        shared: &[],
        variants: SINGLE,
    };

    /// As in the copy that measures the roof: 4 bytes per element read and 4 per element written.
    #[test]
    fn bytes_are_what_must_be_moved() {
        let kernel = KernelFile::load(&SUMS).kernel("add");
        let moved = |with_bias: bool| {
            let mut plan = Plan::new();
            plan.begin(Phase("test"));
            let [weight, bias, y, sum] = ["weight", "bias", "y", "sum"].map(|name| plan.kept(name, &[1000], Dtype::F32, "test"));
            let bias = if with_bias { &bias } else { &weight };
            let bindings = [("weight", &weight), ("bias", bias), ("y", &y), ("sum", &sum)];
            plan.push(&kernel, Extent::rows(1000), 0, &[("rows", 1000usize.into())], &bindings);
            let bytes: u64 = plan.dispatches().map(|dispatch| dispatch.bytes()).sum();
            bytes / 1000
        };
        // Weight and sum are read, y and sum are written; a bias only if it is bound.
        assert_eq!((moved(false), moved(true)), (16, 20));
    }

    #[test]
    fn bursts_fall_out_of_means() {
        assert_eq!(middle_half(&[5.0, 1.0, 90.0, 3.0, 4.0]), [3, 4, 0]);
        assert_eq!(middle_mean(&[5.0, 1.0, 90.0, 3.0, 4.0]), 4.0);
        assert_eq!((middle_mean(&[]), middle_mean(&[2.0, 4.0])), (0.0, 3.0));
    }
}
