//! `wgpt bench`: what this adapter does, in a table to paste: its roof, matrix products, training, prompts and decoding.

mod measure;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;
use super::variants::VariantArgs;
use super::{Context, Ended, profile};
use crate::error::Result;
use crate::gpu::adapter::Request;
use crate::train::RunConfig;
use crate::train::presets;
use measure::Measurer;
use report::BenchReport;

/// Measure this adapter: matrix products, training, prompts and decoding, as a table to paste
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wgpt bench                                     the presets that suit the adapter
  wgpt bench --preset gpt2 --test train          one preset, training only
  wgpt bench --json >before.json                 and later:
  wgpt bench --compare before.json               with a column of ratios

Models are the presets' shapes with random weights and tokens. `training` is whole steps, from the upload of the tokens to the update; \
`prompt` reads half a context into the key/value cache; `decoding` then draws one token after another. A rate is the mean of the middle \
half of several runs, each between two waits. The share of the roof compares FLOPs per second with the multiply-adds that the adapter \
reaches in registers, measured in the same run. What does not fit the adapter is listed with the reason.")]
pub struct BenchArgs {
    /// A preset to measure; may be repeated [default: shakespeare-char, and on a graphics card nanogpt-char and gpt2]
    #[arg(long = "preset", value_name = "NAME")]
    presets: Vec<String>,
    /// Measure only this; may be repeated
    #[arg(long = "test", value_name = "TEST")]
    tests: Vec<Test>,
    /// Seconds of each measurement, at least
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Add the rates of this earlier output of `wgpt bench --json`, and the ratios to them
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    variants: VariantArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Test {
    /// Matrix products in every variant of the kernel
    Matmul,
    /// Training steps with activations in f32, in bf16 and in f16
    Train,
    /// Prompts and decoding
    Decode,
}

fn seconds(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|seconds| (0.001..=600.0).contains(seconds));
    found.ok_or_else(|| "needs a number from 0.001 to 600".to_owned())
}

pub fn run(args: BenchArgs, context: &Context) -> Result<Ended> {
    let before = args.compare.as_deref().map(BenchReport::read).transpose()?;
    args.presets.iter().try_for_each(|name| presets::preset(name).map(drop))?;
    let gpu = context.open(&Request { timestamps: true, ..context.request.clone() })?;
    let options = args.variants.options(&gpu, &context.out)?;
    let names = if args.presets.is_empty() { suiting(gpu.traits().software) } else { args.presets };
    let configs: Vec<(String, RunConfig)> =
        names.into_iter().map(|name| config(&name).map(|config| (name, config))).collect::<Result<_>>()?;
    let wanted = |test: Test| args.tests.is_empty() || args.tests.contains(&test);
    let announce = |what: &str| context.out.notice(&format!("measures  {what}"));
    let mut measurer = Measurer::new(&gpu, &options, Duration::from_secs_f64(args.seconds), &announce)?;
    if wanted(Test::Matmul) {
        measurer.products()?;
    }
    for (name, config) in &configs {
        if wanted(Test::Train) {
            measurer.training(name, config)?;
        }
        if wanted(Test::Decode) {
            measurer.decoding(name, config)?;
        }
    }
    let bench = BenchReport::new(&gpu, measurer.finish());
    context.out.object(&bench);
    bench.table(before.as_ref()).iter().for_each(|line| context.out.line(line));
    Ok(Ended::Done)
}

/// The presets that an adapter measures within a minute or two.
fn suiting(software: bool) -> Vec<String> {
    let names: &[&str] = if software { &["shakespeare-char"] } else { &["shakespeare-char", "nanogpt-char", "gpt2"] };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A preset with a vocabulary, and one micro-batch a step: accumulation repeats the same work.
fn config(name: &str) -> Result<RunConfig> {
    let mut config = profile::config_of(&Settings { preset: Some(name.to_owned()), ..Settings::default() })?;
    config.train.grad_accumulation = 1;
    Ok(config)
}
