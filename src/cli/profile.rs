//! `wgpt profile`: where the time of a training step goes on this adapter.

mod against;
mod capture;
mod measure;
mod report;
mod roofline;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::corpus::open_corpus;
use super::output::Output;
use super::settings::Settings;
use super::variants::{VariantArgs, choices, is_named};
use super::{Context, Ended, place};
use crate::error::Result;
use crate::files;
use crate::gpu::Gpu;
use crate::gpu::adapter::Request;
use crate::gpu::options::Options;
use crate::gpu::profile::summary::Roof;
use crate::gpu::profile::{Method, trace};
use crate::gpu::variants::layered;
use crate::train::config::RunConfig;
use crate::train::presets::{self, PRESETS};
pub(super) use measure::random_tokens;
use measure::{Measured, Wanted, measure};

/// Time every dispatch of training steps, by kernel and by layer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt profile --preset shakespeare-char
  wgpt profile --preset shakespeare-char --trace step.json --plot roofline.svg
  wgpt profile --preset gpt2 --set train.grad_accumulation=1 --set train.batch_size=2
  wgpt profile --preset shakespeare-char --against matmul=tile_shared       two variants in one run
  wgpt profile --preset gpt2 --variant matmul=tile_shared --roof 20.1,8.02  with another run's roof
  renderdoccmd capture --working-dir . wgpt profile --preset toy --capture

Steps are real training steps, on random tokens; only the files that --trace and --plot name are written. ui.perfetto.dev displays a trace.

The roof is what the adapter can do at most, measured in the same run: bytes copied and multiply-adds in registers, per second. The column \
`roof` is the shortest time that the roof allows for a kernel, divided by the time taken. Bytes are what each call must read and write at \
least; a kernel whose data stays in caches can exceed 100 %. The roofs that two runs measure differ by some percent: to compare their tables, \
pass the first run's roof to the second run with --roof.")]
pub struct Profile {
    #[command(flatten)]
    settings: Settings,
    /// Steps to time
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Timing method [default: timestamps if the adapter has them]
    #[arg(long, value_name = "HOW")]
    method: Option<How>,
    /// Write the last timed step as a Chrome trace
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
    /// Draw the roofline with a point for each kernel
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    plot: Option<PathBuf>,
    /// Compare kernels with this roof instead of measuring one: GFLOP/s and GB/s
    #[arg(long, value_name = "GFLOPS,GBS", value_parser = roof)]
    roof: Option<Roof>,
    /// Replace the files that --trace and --plot name
    #[arg(long)]
    overwrite: bool,
    /// Capture one step in the graphics debugger that this program was started from
    #[arg(long)]
    capture: bool,
    /// Compare with this variant of a kernel, in alternating steps; may be repeated
    #[arg(long, value_name = "KERNEL=VARIANT", conflicts_with_all = ["trace", "plot", "roof", "overwrite", "capture"])]
    against: Vec<String>,
    #[command(flatten)]
    variants: VariantArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum How {
    Timestamps,
    Repetition,
}

fn roof(text: &str) -> Result<Roof, String> {
    let number = |part: &str| part.trim().parse::<f64>().ok().map(|x| x * 1e9).filter(|x| *x > 0.0 && x.is_finite());
    let parts = text.split_once(',').and_then(|(flops, bandwidth)| Some((number(flops)?, number(bandwidth)?)));
    let (flops, bandwidth) = parts.ok_or("needs two numbers above 0, as in 20.1,8.02: GFLOP/s of multiply-adds and GB/s copied")?;
    Ok(Roof { flops, bandwidth })
}

pub fn run(args: Profile, context: &Context) -> Result<Ended> {
    let config = config_of(&args.settings)?;
    if args.capture {
        capture::attached()?;
    }
    for (path, other) in [(&args.trace, "another file with --trace"), (&args.plot, "another file with --plot")] {
        if let Some(path) = path {
            place::check(path, other, args.overwrite)?;
        }
    }
    if let (Some(trace), Some(plot)) = (&args.trace, &args.plot) {
        place::apart(plot, trace, "named by --trace too")?;
    }
    args.plot.as_deref().map(roofline::Format::of).transpose()?;
    let request = Request { timestamps: true, ..context.request.clone() };
    let gpu = context.open(&request)?;
    let options = args.variants.options(&gpu, &context.out)?;
    let method = args.method.map(|how| match how {
        How::Timestamps => Method::Timestamps,
        How::Repetition => Method::Repetition,
    });
    let wanted = Wanted { steps: args.steps, method, captured: args.capture, roof: args.roof };
    let name = args.settings.name().unwrap_or_else(|| PRESETS[0].0.to_owned());
    if !args.against.is_empty() {
        let against = choices("--against", &args.against, &gpu)?;
        let avoid = options.avoid.iter().filter(|choice| !is_named(choice, &against)).cloned().collect();
        let other = Options { variants: layered(&options.variants, &against), avoid, ..options.clone() };
        let compared = against::compare(&gpu, &config, [&options, &other], &wanted)?;
        context.out.object(&report::with_head(&gpu, &config, &name, against::json(&compared)));
        report::head(&gpu, &config, &name, &context.out);
        against::show(&compared, &context.out);
        return Ok(Ended::Done);
    }
    let measured = measure(&gpu, &config, &options, &wanted)?;
    report::show(&gpu, &config, &name, &measured, &context.out);
    write_files(&args, &gpu, &measured, &context.out)?;
    Ok(Ended::Done)
}

/// Size of GPT-2's vocabulary.
const GPT2_TOKENS: usize = 50_257;

/// Settings as for `train`. If they leave the vocabulary to a tokenizer, its size is that of the given text, or a typical one.
pub(super) fn config_of(settings: &Settings) -> Result<RunConfig> {
    let (mut config, _) = settings.fitting(&settings.base()?)?;
    // Steps on random tokens need no tokenizer, only the size of the vocabulary, so `gpt2` need not name one here.
    let tokenizer = &mut config.tokenizer;
    if config.model.vocab_size > 0 && tokenizer.kind == "bpe" && tokenizer.path.is_empty() && tokenizer.max_vocab == 0 {
        tokenizer.max_vocab = GPT2_TOKENS;
    }
    config.validate()?;
    // Steps are measured, not what a run does between them.
    config.train.snapshot_every = 0.0;
    if config.model.vocab_size == 0 {
        config.model.vocab_size = match (config.tokenizer.kind.as_str(), config.tokenizer.max_vocab) {
            _ if presets::embedded(&config.data.files).is_none() => open_corpus(&config, None)?.0.vocab_size(),
            ("character", _) => 77,
            (_, 0) => 7,
            (_, most) => most,
        };
    }
    Ok(config)
}

fn write_files(args: &Profile, gpu: &Gpu, measured: &Measured, out: &Output) -> Result<()> {
    let write = |path: &Path, text: String| files::write(path, |out| out.write_all(text.as_bytes()));
    if let Some(path) = &args.trace {
        write(path, trace::chrome(&measured.rows, &measured.roof, &gpu.info().name, measure::layer))?;
        out.notice(&format!("trace     {}: open it in ui.perfetto.dev", path.display()));
    }
    if let Some(path) = &args.plot {
        let kernels = measured.by_kernel();
        let title = format!("{} ({})", gpu.info().name, gpu.driver());
        roofline::save(&kernels, &measured.roof, &title, path)?;
        out.notice(&format!("roofline  {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_needs_no_tokenizer() {
        let settings = |set: &str| Settings { preset: Some("gpt2".into()), set: vec![set.into()], ..Settings::default() };
        assert_eq!(config_of(&settings("train.batch_size=2")).unwrap().model.vocab_size, GPT2_TOKENS);
        assert!(config_of(&settings("tokenizer.kind=sentence")).unwrap_err().to_string().contains("tokenizer.kind is `sentence`"));
        assert!(config_of(&settings("model.vocab_size=0")).unwrap_err().to_string().contains("tokenizer.max_vocab is 0"));
    }
}
