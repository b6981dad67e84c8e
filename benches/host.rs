//! The host's work in a run: the time from the start to the end of the first step, stage by stage, then the work per dispatch.
//!
//!     cargo bench --bench host
//!     cargo bench --bench host -- vocab=512,ctx=64,d=128,heads=4,layers=4,batch=16
//!
//! The work per dispatch is the CPU time of the thread that encodes and submits, on the noop backend (only wgpu and this crate) and on this
//! machine's adapter; the least of many steps counts, because interruptions only add time. Drivers cache shaders on disk, which makes a
//! second start faster: to time a first start, set MESA_SHADER_CACHE_DIR to an empty folder.

use std::time::Instant;

use cpu_time::{ProcessTime, ThreadTime};
use wgpt::low_level::gpu::profile::Profiler;
use wgpt::low_level::gpu::slice::Slice;
use wgpt::low_level::train::trainer::record;
use wgpt::{Gpu, Options, Request, Trainer, block_on};

#[path = "common/shapes.rs"]
mod shapes;

const SHAPE_S: &str = "vocab=512,ctx=64,d=128,heads=4,layers=4,batch=16";

fn main() {
    let name = std::env::args().skip(1).find(|word| !word.starts_with("--")).unwrap_or(SHAPE_S.into());
    let config = shapes::config(&name).expect("a shape");
    let clock = Clock { wall: Instant::now(), cpu: ProcessTime::now() };
    let gpu = pollster::block_on(Gpu::request(&Request { timestamps: true, ..Request::default() })).expect("an adapter");
    println!("{} ({}), {name}", gpu.info().name, gpu.info().driver_info);
    clock.stage("device");
    record(&config, gpu.traits()).expect("a plan");
    clock.stage("shaders parsed, plan recorded");
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).expect("a trainer");
    clock.stage("the same again, pipelines made, weights written");
    let ids: Vec<u32> = (0..trainer.tokens_per_step() as u32).map(|i| i * 31 % config.model.vocab_size as u32).collect();
    let first = first_step(&mut trainer, &ids);
    clock.stage("first step, dispatch by dispatch");
    let second = first_step(&mut trainer, &ids);
    clock.stage("second step");
    compilation(&first, &second);
    host_work(&gpu, &mut trainer, &ids);
    let noop = noop();
    let mut trainer = block_on(&noop, Trainer::new(&noop, &config, &Options::default())).expect("a trainer");
    host_work(&noop, &mut trainer, &ids);
}

struct Clock {
    wall: Instant,
    cpu: ProcessTime,
}

impl Clock {
    /// Prints time and memory since the start.
    fn stage(&self, what: &str) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), self.cpu.elapsed().as_secs_f64());
        println!("{what:<50} {wall:>7.2} s {cpu:>7.2} CPU-s {:>6.0} MB now {:>6.0} MB at most", field("VmRSS"), field("VmHWM"));
    }
}

/// Seconds of each kernel in one profiled step.
fn first_step(trainer: &mut Trainer, ids: &[u32]) -> Vec<(String, f64)> {
    let profiler = block_on(&trainer.session.gpu.clone(), Profiler::new(&trainer.session.gpu, &trainer.session.compiled, None));
    trainer.session.profiler = Some(profiler.expect("a profiler"));
    trainer.step_on(ids, ids).expect("a step");
    let mut profiler = trainer.session.profiler.take().expect("the profiler");
    profiler.end_step();
    let mut sums: Vec<(String, f64)> = vec![];
    for row in profiler.rows(&trainer.session.compiled) {
        match sums.iter_mut().find(|(kernel, _)| *kernel == row.kernel) {
            Some((_, sum)) => *sum += row.last,
            None => sums.push((row.kernel, row.last)),
        }
    }
    sums
}

/// Prints how much longer each kernel took in the first step than in the second: the driver's compilation at first use.
fn compilation(first: &[(String, f64)], second: &[(String, f64)]) {
    let mut rows: Vec<(&str, f64)> = first.iter().zip(second).map(|((kernel, a), (_, b))| (kernel.as_str(), a - b)).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("compilation at first use, {:.2} s in all:", rows.iter().map(|row| row.1).sum::<f64>());
    rows.iter().take(12).for_each(|(kernel, seconds)| println!("    {kernel:<32} {seconds:>6.2} s"));
}

fn host_work(gpu: &Gpu, trainer: &mut Trainer, ids: &[u32]) {
    let session = &mut trainer.session;
    let commands = session.compiled.len();
    let mut best = [f64::INFINITY; 2];
    for _ in 0..STEPS {
        session.guest.runner.wait_for_all().expect("a device");
        let begun = ThreadTime::now();
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        session.compiled.encode(&mut encoder, 0..commands);
        let encoded = begun.elapsed().as_secs_f64();
        session.guest.runner.submit(encoder, Slice::default()).expect("a submit");
        best[0] = best[0].min(encoded);
        best[1] = best[1].min(begun.elapsed().as_secs_f64());
    }
    session.guest.runner.wait_for_all().expect("a device");
    let [encoded, both] = best.map(|seconds| seconds * 1e6 / commands as f64);
    println!("host work on {}: {both:.2} us for each of {commands} dispatches, {encoded:.2} of them to encode", gpu.info().backend);
    // The runner learns from step to step how much fits into one submit.
    let mut submits = vec![];
    for _ in 0..LEARNING {
        let before = trainer.session.guest.runner.done;
        trainer.step_on(ids, ids).expect("a step");
        trainer.session.guest.runner.wait_for_all().expect("a device");
        submits.push((trainer.session.guest.runner.done.submits - before.submits).to_string());
    }
    println!("submits of the next steps: {}", submits.join(" "));
}

const STEPS: usize = 20;
const LEARNING: usize = 6;

/// A device that executes nothing.
fn noop() -> Gpu {
    let mut descriptor =
        wgpu::InstanceDescriptor { backends: wgpu::Backends::NOOP, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    descriptor.backend_options.noop.enable = true;
    let adapters = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::NOOP));
    let opened = pollster::block_on(adapters[0].request_device(&wgpu::DeviceDescriptor::default()));
    let (device, queue) = opened.expect("the noop device");
    Gpu::from_wgpu(device, queue)
}
