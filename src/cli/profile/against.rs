//! `wgpt profile --against KERNEL=VARIANT`: two choices of variants, timed in alternating steps of one run.

use serde_json::{Value, json};

use super::measure::{self, WARM_UP, Wanted};
use crate::cli::host_memory;
use crate::cli::output::Output;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::profile::summary::{Group, Roof, group};
use crate::gpu::profile::{Method, Profiler, middle_mean};
use crate::gpu::wait::block_on;
use crate::text::TokenStore;
use crate::train::Trainer;
use crate::train::config::RunConfig;

/// One of the two choices of variants.
struct Side {
    trainer: Trainer,
    profiler: Profiler,
    /// Seconds of each step without dispatch timing.
    plain: Vec<f64>,
}

/// What was measured of the two.
pub struct Compared {
    pub method: Method,
    /// The kernels that run in other variants on the other side, each with its group there; longest time first.
    pub kernels: Vec<(Group, Group)>,
    /// Seconds of a step without dispatch timing.
    pub step: [f64; 2],
}

impl Side {
    fn new(gpu: &Gpu, config: &RunConfig, options: &Options, data: &TokenStore, method: Option<Method>) -> Result<Side> {
        let mut trainer = block_on(gpu, Trainer::new(gpu, config, options))?;
        for _ in 0..WARM_UP {
            measure::run(&mut trainer, data)?;
        }
        let profiler = block_on(gpu, Profiler::new(gpu, &trainer.session.compiled, method))?;
        Ok(Side { trainer, profiler, plain: vec![] })
    }

    fn steps(mut self, data: &TokenStore) -> Result<Side> {
        self.plain.push(measure::run(&mut self.trainer, data)?);
        self.profiler = measure::timed(&mut self.trainer, data, self.profiler)?;
        Ok(self)
    }

    fn kernels(&mut self) -> Result<Vec<Group>> {
        self.trainer.finish()?;
        let rows = self.profiler.rows(&self.trainer.session.compiled);
        // The share of the roof is not shown, so any roof will do.
        Ok(group(&rows, &Roof { flops: 1.0, bandwidth: 1.0 }, |row| row.kernel.clone()))
    }
}

/// Times steps of both in turn, so that a busy machine slows both. Two trainers are in memory.
///
/// # Errors
/// [`Error::Usage`] if no kernel of the step runs in another variant; as [`Trainer::new`].
pub fn compare(gpu: &Gpu, config: &RunConfig, options: [&Options; 2], wanted: &Wanted) -> Result<Compared> {
    host_memory::check(gpu, &Trainer::memory(gpu, config, options[0])?)?;
    let data = measure::tokens(config);
    let mut one = Side::new(gpu, config, options[0], &data, wanted.method)?;
    let mut other = Side::new(gpu, config, options[1], &data, wanted.method)?;
    for _ in 0..wanted.steps {
        one = one.steps(&data)?;
        other = other.steps(&data)?;
    }
    let others = other.kernels()?;
    let same = |group: &Group| others.iter().find(|other| other.name == group.name && other.variants != group.variants).cloned();
    let mut kernels: Vec<(Group, Group)> =
        one.kernels()?.into_iter().filter_map(|group| same(&group).map(|other| (group, other))).collect();
    if kernels.is_empty() {
        return Err(Error::usage("--against: no kernel of this step would run in another variant (`wgpt shaders` lists them)"));
    }
    kernels.sort_by(|a, b| b.0.seconds.total_cmp(&a.0.seconds));
    Ok(Compared { method: one.profiler.method(), kernels, step: [middle_mean(&one.plain), middle_mean(&other.plain)] })
}

/// Prints the comparison.
pub fn show(compared: &Compared, out: &Output) {
    let kernel = |(one, other): &(Group, Group)| -> Value {
        json!({ "name": one.name, "calls": one.calls, "variants": [one.variants, other.variants], "seconds": [one.seconds, other.seconds] })
    };
    let kernels: Vec<Value> = compared.kernels.iter().map(kernel).collect();
    out.object(&json!({ "method": compared.method, "step_seconds": compared.step, "kernels": kernels }));
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
