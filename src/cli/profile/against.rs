//! `wgpt profile --against KERNEL=VARIANT`: two choices of variants, timed in alternating steps of one run.

use serde_json::{Value, json};

use super::measure::{Bench, Wanted};
use crate::cli::host_memory;
use crate::cli::output::Output;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::profile::summary::{KernelGroup, Roof, group};
use crate::gpu::profile::{Method, ProfileRow, middle_mean};
use crate::model::session::Memory;
use crate::train::Trainer;
use crate::train::config::RunConfig;

/// What was measured of the two.
pub struct Compared {
    pub method: Method,
    /// The kernels that run in other variants on the other side, each with its group there; longest time first.
    pub kernels: Vec<(KernelGroup, KernelGroup)>,
    /// Seconds of a step without dispatch timing.
    pub step: [f64; 2],
}

/// Times steps of both in turn, so that a busy machine slows both. Two trainers are in memory.
///
/// # Errors
/// [`Error::Usage`] if no kernel of the step runs in another variant, or the machine cannot hold both; as [`Trainer::new`].
pub fn compare(gpu: &Gpu, config: &RunConfig, options: [&Options; 2], wanted: &Wanted) -> Result<Compared> {
    host_memory::check(gpu, &both(Trainer::memory(gpu, config, options[0])?, &Trainer::memory(gpu, config, options[1])?))?;
    let mut one = Bench::new(gpu, config, options[0], wanted.method)?;
    let mut other = Bench::new(gpu, config, options[1], wanted.method)?;
    let variants = |bench: &Bench| bench.trainer.session.compiled.works().iter().map(|work| work.variant).collect::<Vec<_>>();
    if variants(&one) == variants(&other) {
        return Err(Error::usage("--against: no kernel of this step would run in another variant (`wgpt shaders` lists them)"));
    }
    let mut plain = [vec![], vec![]];
    for _ in 0..wanted.steps {
        for (bench, plain) in [&mut one, &mut other].into_iter().zip(&mut plain) {
            plain.push(bench.step()?);
            bench.timed_step()?;
        }
    }
    let (method, rows) = one.finish()?;
    let others = by_kernel(&other.finish()?.1);
    let differs = |group: &KernelGroup| others.iter().find(|other| other.name == group.name && other.variants != group.variants).cloned();
    let mut kernels: Vec<(KernelGroup, KernelGroup)> =
        by_kernel(&rows).into_iter().filter_map(|group| differs(&group).map(|other| (group, other))).collect();
    kernels.sort_by(|a, b| b.0.seconds.total_cmp(&a.0.seconds));
    Ok(Compared { method, kernels, step: plain.map(|seconds| middle_mean(&seconds)) })
}

/// What two models need together.
fn both(one: Memory, other: &Memory) -> Memory {
    let (total, bind_groups) = (one.total + other.total, one.bind_groups + other.bind_groups);
    let classes = one.classes.iter().zip(&other.classes).map(|((class, a), (_, b))| (*class, a + b)).collect();
    Memory { classes, total, buffers: one.buffers + other.buffers, bind_groups, host: one.host + other.host }
}

/// The share of the roof is not shown, so any roof will do.
fn by_kernel(rows: &[ProfileRow]) -> Vec<KernelGroup> {
    group(rows, &Roof { flops: 1.0, bandwidth: 1.0 }, |row| row.kernel.clone())
}

/// The comparison as JSON.
pub fn json(compared: &Compared) -> Value {
    let kernel = |(one, other): &(KernelGroup, KernelGroup)| -> Value {
        json!({ "name": one.name, "calls": one.calls, "variants": [one.variants, other.variants], "seconds": [one.seconds, other.seconds] })
    };
    let kernels: Vec<Value> = compared.kernels.iter().map(kernel).collect();
    json!({ "method": compared.method, "step_seconds": compared.step, "kernels": kernels })
}

/// Prints the comparison as a table.
pub fn show(compared: &Compared, out: &Output) {
    out.line("");
    out.line(&line("kernel", ["variant", "ms", "against", "ms"], "ratio"));
    for (one, other) in &compared.kernels {
        let [a, b] = [one, other].map(|group| group.variants.join(","));
        out.line(&line(&one.name, [&a, &ms(one.seconds), &b, &ms(other.seconds)], &ratio(one.seconds, other.seconds)));
    }
    let [one, other] = compared.step;
    out.line(&line("a whole step", ["", &ms(one), "", &ms(other)], &ratio(one, other)));
}

fn line(name: &str, [one, one_ms, other, other_ms]: [&str; 4], ratio: &str) -> String {
    format!("{name:<30}  {one:<20} {one_ms:>9}  {other:<20} {other_ms:>9}  {ratio:>6}")
}

fn ms(seconds: f64) -> String {
    format!("{:.3}", seconds * 1e3)
}

/// Time of the other over that of the one: above 1 the other is slower.
fn ratio(one: f64, other: f64) -> String {
    format!("{:.2}", other / one.max(1e-12))
}
