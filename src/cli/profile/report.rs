//! The tables of `profile`, for people and as JSON.

use serde_json::{Value, json};

use super::measure::{Counts, Measured, layer};
use crate::cli::output::{Output, count};
use crate::gpu::Gpu;
use crate::gpu::profile::Method;
use crate::gpu::profile::summary::KernelGroup;
use crate::train::config::RunConfig;

pub fn show(gpu: &Gpu, config: &RunConfig, name: &str, measured: &Measured, out: &Output) {
    let rows: Vec<Value> = measured.rows.iter().map(|row| json!({ "layer": layer(row), "row": row })).collect();
    let found = json!({
        "method": measured.method,
        "steps": measured.steps,
        "roof": { "gflops": measured.roof.flops / 1e9, "gb_per_second": measured.roof.bandwidth / 1e9, "given": measured.roof_given },
        "step_seconds": measured.step,
        "sum_seconds": sum(measured),
        "counts": measured.counts,
        "kernels": groups(&measured.by_kernel()),
        "layers": groups(&measured.by_layer()),
        "rows": rows,
    });
    out.object(&with_head(gpu, config, name, found));
    head(gpu, config, name, out);
    out.line(&format!("method    {}, the middle half of {} steps", method(measured.method), measured.steps));
    let (gflops, bandwidth) = (measured.roof.flops / 1e9, measured.roof.bandwidth / 1e9);
    let of = if measured.roof_given { "as given" } else { "measured in this run" };
    out.line(&format!("roof      {} GFLOP/s of multiply-adds, {} GB/s copied, {of}", figure(gflops), figure(bandwidth)));
    if !measured.roof_given {
        out.line(&format!(
            "          each run measures its own: to compare another run with this one, add --roof {gflops:.3},{bandwidth:.3}"
        ));
    }
    table(out, "kernel", &measured.by_kernel(), sum(measured));
    table(out, "layer", &measured.by_layer(), sum(measured));
    totals(config, measured, out);
}

/// An object of results, with the adapter and the step that they are of.
pub fn with_head(gpu: &Gpu, config: &RunConfig, name: &str, mut results: Value) -> Value {
    let head = [
        ("adapter", json!(gpu.info().name)),
        ("backend", json!(gpu.info().backend.to_string())),
        ("driver", json!(gpu.driver())),
        ("software", json!(gpu.traits().software)),
        ("preset", json!(name)),
        ("tokens_per_step", json!(tokens(config))),
    ];
    for (key, value) in head {
        results[key] = value;
    }
    results
}

/// Prints the adapter and the step.
pub fn head(gpu: &Gpu, config: &RunConfig, name: &str, out: &Output) {
    let model = &config.model;
    let (layers, d, heads) = (model.n_layer, model.d_model, model.n_head);
    out.line(&format!("adapter   {}, {} driver {}", gpu.info().name, gpu.info().backend, gpu.driver()));
    if gpu.traits().software {
        out.line("          SOFTWARE adapter: its times say little about graphics cards");
    }
    out.line(&format!("step      {name}: {layers} layers of width {d}, {heads} heads, {} tokens, all random", count(tokens(config))));
}

fn tokens(config: &RunConfig) -> u64 {
    (config.train.batch_size * config.train.grad_accumulation * config.model.seq_len) as u64
}

fn sum(measured: &Measured) -> f64 {
    measured.rows.iter().map(|row| row.seconds).sum()
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Timestamps => "pass timestamps, one pass per dispatch",
        Method::Repetition => "one submit per dispatch, timed by the host, minus the time of an empty submit",
    }
}

fn groups(groups: &[KernelGroup]) -> Vec<Value> {
    let total: f64 = groups.iter().map(|group| group.seconds).sum();
    let value = |group: &KernelGroup| {
        json!({
            "name": group.name,
            "variants": group.variants,
            "calls": group.calls,
            "seconds": group.seconds,
            "share": group.seconds / total.max(1e-12),
            "flops": group.flops,
            "bytes": group.bytes,
            "gflops": group.rate() / 1e9,
            "gb_per_second": group.bandwidth() / 1e9,
            "percent_of_roof": group.percent_of_roof(),
        })
    };
    groups.iter().map(value).collect()
}

fn table(out: &Output, what: &str, groups: &[KernelGroup], total: f64) {
    out.line("");
    let heads = ["calls", "ms", "share", "MB", "MFLOP", "GB/s", "GFLOP/s", "roof"];
    let line = |name: &str, cells: [String; 8]| {
        let [calls, ms, share, mb, mflop, bandwidth, rate, roof] = cells;
        format!("{name:<30} {calls:>5} {ms:>9} {share:>7} {mb:>9} {mflop:>9} {bandwidth:>8} {rate:>8} {roof:>7}")
    };
    out.line(&line(what, heads.map(str::to_owned)));
    for group in groups {
        let share = 100.0 * group.seconds / total.max(1e-12);
        let cells = [
            group.calls.to_string(),
            format!("{:.3}", group.seconds * 1e3),
            format!("{share:.1} %"),
            figure(group.bytes as f64 / 1e6),
            figure(group.flops as f64 / 1e6),
            figure(group.bandwidth() / 1e9),
            figure(group.rate() / 1e9),
            format!("{:.0} %", group.percent_of_roof()),
        ];
        out.line(&line(&group.name, cells));
    }
}

fn totals(config: &RunConfig, measured: &Measured, out: &Output) {
    let (step, sum) = (measured.step, sum(measured));
    let per_second = tokens(config) as f64 / step;
    out.line("");
    out.line(&format!("step        {:.2} ms measured whole, {} tokens/s", step * 1e3, count(per_second as u64)));
    out.line(&format!("dispatches  {:.2} ms in total, {:.1} % of the step", sum * 1e3, 100.0 * sum / step));
    let Counts { dispatches, per_layer, per_head_chunk, head_chunks, outside, commands, submits, allocations, host_microseconds } =
        measured.counts;
    let chunks = format!("{per_head_chunk} for each of {head_chunks} head chunk{}", if head_chunks == 1 { "" } else { "s" });
    out.line(&format!("            {dispatches} of them: {per_layer} per layer (forward and backward), {chunks}, {outside} outside"));
    out.line(&format!("host        {host_microseconds:.1} us per dispatch to encode and submit, {commands:.0} launches and clears"));
    out.line(&format!("            {submits:.0} submit{} per step, {allocations} allocations", if submits == 1.0 { "" } else { "s" }));
}

/// Formats a number with about three significant digits.
fn figure(x: f64) -> String {
    match x {
        _ if x == 0.0 => "0".into(),
        _ if x >= 99.95 => count(x.round() as u64),
        _ if x >= 9.995 => format!("{x:.1}"),
        _ if x >= 0.01 => format!("{x:.2}"),
        _ => format!("{x:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let cases = [(0.0, "0"), (0.004, "4e-3"), (0.02, "0.02"), (9.99, "9.99"), (12.34, "12.3"), (99.97, "100"), (1234.5, "1,235")];
        cases.iter().for_each(|(x, text)| assert_eq!(figure(*x), *text));
    }
}
