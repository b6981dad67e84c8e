//! `wgpt tune`: the fastest variant of each kernel on this adapter, measured at a model's own shapes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::corpus::open_corpus;
use super::output::{self, Output};
use super::settings::Settings;
use super::variants::{key, path};
use super::{Context, Ended};
use crate::error::{Error, Result, excerpt};
use crate::gpu::Gpu;
use crate::gpu::tune::file::Tuning;
use crate::gpu::tune::{self, TuneRow};
use crate::model::decode::DecodeModel;
use crate::ops::cursor::Cursor;
use crate::ops::step::{State, Step};
use crate::train::config::RunConfig;
use crate::train::trainer;

/// Time every kernel's variants at a model's shapes and write the fastest to a file that later runs read
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt tune                              the default preset's shapes
  wgpt tune --preset nanogpt-char --set train.batch_size=8
  wgpt tune --preset toy --out toy.toml  for: wgpt train --preset toy --tuning toy.toml
  wgpt tune --kernel matmul --kernel attention.forward

The file is valid for one adapter, driver and version of the shaders; with any other, a command prints a notice and ignores the file. By \
default it is in the user's cache folder ($WGPT_CACHE, $XDG_CACHE_HOME/wgpt or ~/.cache/wgpt), where train, generate, predict and eval find \
it. Tuning again adds shapes to it.

Compiling the variants takes most of the time; --kernel selects some kernels only. With a software driver, which takes seconds per \
variant, a variant is skipped if it was 3 times slower than the fastest in a related kernel, such as matmul.forward for \
matmul.forward_bias. To time all variants of a kernel, select it alone with --kernel.")]
pub struct Tune {
    #[command(flatten)]
    settings: Settings,
    /// Only this kernel, or all kernels of this file; may be repeated (`wgpt shaders` lists them)
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// The file to write [default: in the user's cache folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Measurements per variant; the median counts
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Measurements of each variant.
pub const ROUNDS: u32 = 7;

/// Progress is printed if measuring takes longer than this.
const QUIET: Duration = Duration::from_secs(2);

pub fn run(args: Tune, context: &Context) -> Result<Ended> {
    let (mut config, _) = args.settings.fitting(&args.settings.base()?)?;
    config.validate()?;
    let (tokenizer, _) = open_corpus(&config, None)?;
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    let gpu = context.gpu()?;
    check_kernels(&args.kernels, &gpu, &config)?;
    let file = file(args.out, &gpu)?;
    context.out.notice(&format!("adapter   {}, {} driver {}", gpu.info().name, gpu.info().backend, gpu.info().driver_info));
    let rows = tune_to(&file, &gpu, &config, (&args.kernels, args.rounds), &context.out, &mut |line| context.out.line(line))?;
    context.out.object(&json!({ "file": output::path(&file), "key": key(&gpu), "rows": rows.iter().map(row).collect::<Vec<_>>() }));
    Ok(Ended::Done)
}

/// The file to write, in a folder that must exist: the named one, or one in the cache.
pub fn file(named: Option<PathBuf>, gpu: &Gpu) -> Result<PathBuf> {
    if let Some(file) = named {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() || file.is_dir() {
            return Err(Error::file(&file, "cannot be written: name a file in a folder that exists"));
        }
        // An empty file may be replaced.
        if file.metadata().is_ok_and(|found| found.len() > 0)
            && let Err(Error::File { path, problem }) = Tuning::read(&file)
        {
            return Err(Error::file(path, format!("{problem}; it is not replaced: name another file with --out, or move it away")));
        }
        return Ok(file);
    }
    let file = path(&key(gpu)).ok_or_else(|| Error::usage("there is no cache folder (neither WGPT_CACHE nor HOME is set): name a file"))?;
    if let Some(folder) = file.parent() {
        crate::files::disk::make_folders(folder).map_err(|e| Error::file(folder, format!("cannot be made: {e}")))?;
    }
    Ok(file)
}

/// Checks the names before any folder is created.
fn check_kernels(kernels: &[String], gpu: &Gpu, config: &RunConfig) -> Result<()> {
    if kernels.is_empty() {
        return Ok(());
    }
    let (training, decoder) = (trainer::record(config, gpu.traits())?, DecodeModel::new(&config.model, gpu.traits())?);
    let groups = tune::groups(&[&training.plan, &decoder.plan], gpu);
    let Some(unknown) = kernels.iter().find(|wanted| !groups.iter().any(|group| group.is_of(wanted))) else { return Ok(()) };
    let mut names: Vec<&str> = groups.iter().map(tune::ShapeGroup::kernel).collect();
    names.dedup();
    let problem = "no kernel of this name in this model has several variants on this adapter";
    Err(Error::usage(format!("--kernel {}: {problem}; these kernels do: {}", excerpt(unknown), names.join(", "))))
}

/// Times the variants of the named kernels, or of all, that training and decoding by `config` may use, `rounds` times each. Shows a table
/// line by line, reports progress on `out` if it takes long, and writes `file`. Ctrl-C ends the program as usual: there is nothing to save.
pub fn tune_to(
    file: &Path,
    gpu: &Gpu,
    config: &RunConfig,
    (kernels, rounds): (&[String], u32),
    out: &Output,
    show: &mut dyn FnMut(&str),
) -> Result<Vec<TuneRow>> {
    let (training, decoder) = (trainer::record(config, gpu.traits())?, DecodeModel::new(&config.model, gpu.traits())?);
    let mut groups = tune::groups(&[&training.plan, &decoder.plan], gpu);
    groups.retain(|group| kernels.is_empty() || kernels.iter().any(|wanted| group.is_of(wanted)));
    let (mut rows, began) = (vec![], Instant::now());
    let mut shown = began;
    show(&format!("{:<30} {:<20} {:>5}  time of a dispatch by variant (* is chosen)", "kernel", "class", "calls"));
    for group in &groups {
        let place = format!("{} of {}, {} {}", rows.len() + 1, groups.len(), group.kernel(), group.class);
        let mut next = |variant: &str| {
            if shown.elapsed() > QUIET {
                out.notice(&format!("tune      {place}: {variant}, {} so far", output::duration(began.elapsed())));
                shown = Instant::now();
            }
        };
        let row = group.measure(gpu, rounds as usize, &|binding| known(binding, config), &rows, &mut next)?;
        show(&line(&row));
        shown = Instant::now();
        rows.push(row);
    }
    Tuning::new(key(gpu), rows.iter().map(TuneRow::choice).collect()).write(file)?;
    show(&summary(&rows, file));
    Ok(rows)
}

/// The contents of the blocks that every step reads; other bindings may hold noise. Decoding is in the middle of its context.
fn known(binding: &str, config: &RunConfig) -> Option<Vec<u32>> {
    let targets = (config.train.batch_size * config.model.seq_len) as f32;
    let step = Step { learning_rate: 1e-3, target_scale: 1.0 / targets, fresh: 1, ..Step::default() };
    match binding {
        "step" => Some(bytemuck::cast_slice(&[step.with_dropout(config.model.dropout)]).to_vec()),
        "state" => Some(bytemuck::cast_slice(&[State { updates: 1, apply: 1, clip: 1.0, ..State::default() }]).to_vec()),
        "cursor" => {
            let position = config.model.seq_len as u32 / 2;
            Some(bytemuck::cast_slice(&[Cursor { position, rows: position, top_p: 1.0, sharpness: 1.0, ..Cursor::default() }]).to_vec())
        }
        _ => None,
    }
}

fn line(row: &TuneRow) -> String {
    let mut order: Vec<usize> = (0..row.candidates.len()).collect();
    let seconds = |index: usize| row.candidates[index].seconds.clone().unwrap_or(f64::INFINITY);
    order.sort_by(|&a, &b| seconds(a).total_cmp(&seconds(b)));
    let candidate = |&index: &usize| {
        let (mark, candidate) = (if index == row.chosen { "*" } else { "" }, &row.candidates[index]);
        match &candidate.seconds {
            Ok(seconds) => format!("{mark}{} {}", candidate.variant, time(*seconds)),
            Err(problem) => format!("{} is excluded: {problem}", candidate.variant),
        }
    };
    let candidates: Vec<String> = order.iter().map(candidate).collect();
    format!("{:<30} {:<20} {:>5}  {}", row.kernel, row.class.to_string(), row.calls, candidates.join(", "))
}

fn summary(rows: &[TuneRow], file: &Path) -> String {
    let total = |which: usize| rows.iter().map(|row| row.calls as f64 * row.seconds()[which]).sum::<f64>();
    let changed = rows.iter().filter(|row| row.chosen != row.default).count();
    format!(
        "{changed} of {} use a variant other than their default; the times of all dispatches add up to {} instead of {}\nwritten to {}",
        rows.len(),
        time(total(1)),
        time(total(0)),
        file.display()
    )
}

/// `812 µs`, `1.25 ms`, `2.3 s`.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-4 => format!("{:.1} µs", s * 1e6),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

fn row(row: &TuneRow) -> serde_json::Value {
    let candidate = |candidate: &tune::Candidate| json!({ "variant": candidate.variant, "seconds": candidate.seconds.as_ref().ok(), "problem": candidate.seconds.as_ref().err() });
    json!({
        "kernel": row.kernel, "class": row.class, "calls": row.calls,
        "candidates": row.candidates.iter().map(candidate).collect::<Vec<_>>(),
        "default": row.candidates[row.default].variant, "chosen": row.candidates[row.chosen].variant,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        let cases = [(1.23e-5, "12.3 µs"), (8.12e-4, "812 µs"), (1.254e-3, "1.25 ms"), (0.25, "250 ms"), (2.345, "2.3 s")];
        cases.iter().for_each(|(seconds, text)| assert_eq!(time(*seconds), *text));
    }
}
