//! A whole training step and its kernels, timed on this machine's adapter.
//!
//!     cargo bench --bench step -- shakespeare-char 20
//!     cargo bench --bench step -- S 20
//!
//! First runs steps on random tokens and prints tokens per second of wall and of CPU time; then runs every command of the plan alone and
//! sums the times by kernel. On software adapters read the CPU column, and rely on shares rather than times.

use std::collections::BTreeMap;
use std::time::Instant;

use cpu_time::ProcessTime;
use wgpt::{Gpu, Options, Request, Trainer, block_on};

#[path = "common/shapes.rs"]
mod shapes;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let name = words.next().unwrap_or("shakespeare-char".into());
    let steps: u32 = words.next().and_then(|word| word.parse().ok()).unwrap_or(10);
    let config = shapes::config(&name).expect("a shape");
    let gpu = pollster::block_on(Gpu::request(&Request::default())).expect("an adapter");
    println!("{} ({})", gpu.info().name, gpu.info().driver_info);
    let begun = (Instant::now(), ProcessTime::now());
    let mut trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).expect("a trainer");
    let tokens = trainer.tokens_per_step() as usize;
    let ids: Vec<u32> = (0..tokens).map(|i| (i as u32).wrapping_mul(2_654_435_761) % config.model.vocab_size as u32).collect();
    let mut run = |steps: u32| {
        for _ in 0..steps {
            trainer.step_on(&ids, &ids).expect("a step");
        }
        trainer.finish().expect("reports")
    };
    let first = run(1);
    println!(
        "first step after {:.2} s, {:.2} CPU-s, loss {:.4}",
        begun.0.elapsed().as_secs_f64(),
        begun.1.elapsed().as_secs_f64(),
        first[0].loss
    );
    run(2);
    let timed = (Instant::now(), ProcessTime::now());
    let last = run(steps);
    let (wall, cpu) = (timed.0.elapsed().as_secs_f64() / f64::from(steps), timed.1.elapsed().as_secs_f64() / f64::from(steps));
    let flops = config.model.flops_per_token() as f64 * tokens as f64;
    println!("step: {:.1} ms wall, {:.1} ms CPU, loss {:.4}", wall * 1e3, cpu * 1e3, last[last.len() - 1].loss);
    println!("tokens: {:.0} per second, {:.0} per CPU-second", tokens as f64 / wall, tokens as f64 / cpu);
    println!("GFLOP: {:.2} per second, {:.2} per CPU-second", flops / wall / 1e9, flops / cpu / 1e9);
    kernels(&mut trainer);
}

/// Runs every command alone, waits, and sums by kernel.
fn kernels(trainer: &mut Trainer) {
    let session = &mut trainer.session;
    let mut sums: BTreeMap<String, (u32, f64)> = BTreeMap::new();
    for index in 0..session.compiled.len() {
        let label = session.compiled.label(index).to_owned();
        let kernel = label.rsplit(' ').next().unwrap_or(&label).to_owned();
        let begun = ProcessTime::now();
        session.guest.runner.run(&session.compiled, std::iter::once(index..index + 1)).expect("a command");
        session.guest.runner.wait_for_all().expect("a command");
        let sum = sums.entry(kernel).or_default();
        *sum = (sum.0 + 1, sum.1 + begun.elapsed().as_secs_f64());
    }
    let total: f64 = sums.values().map(|sum| sum.1).sum();
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    println!("{:<32} {:>6} {:>10} {:>7}", "kernel", "calls", "CPU ms", "share");
    for (kernel, (calls, seconds)) in rows {
        println!("{kernel:<32} {calls:>6} {:>10.2} {:>6.1}%", seconds * 1e3, 100.0 * seconds / total);
    }
}
