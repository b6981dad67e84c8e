//! The arguments of `train`, and what follows from them: a run's settings, its folder and how it starts.

use std::path::{Path, PathBuf};

use super::run_folder::RUNS;
use super::settings::Settings;
use super::variants::VariantArgs;
use crate::error::{Error, Result, excerpt, shell_path};
use crate::text::AUTO;
use crate::train::checkpoint::{self, OpenCheckpoint, Which};
use crate::train::config::{RunConfig, may_change_on_resume};
use crate::train::folder::{RunFolder, Start};
use crate::train::presets::PRESETS;
use crate::train::run::Origin;

/// Train a model, or continue training one
#[derive(Debug, Default, clap::Args)]
#[command(after_help = help())]
pub struct Train {
    #[command(flatten)]
    pub settings: Settings,
    /// The run's folder [default: runs/NAME, after the preset, the config file, the text or the --init run that is given]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in --out exactly where it stopped; settings that would change its past steps are refused
    #[arg(long, conflicts_with_all = ["overwrite", "next_free"])]
    pub resume: bool,
    /// Replace the run in --out, which is kept until the new one has its first checkpoint
    #[arg(long, conflicts_with = "next_free")]
    pub overwrite: bool,
    /// Use the next free name if --out holds a run: runs/toy-2, runs/toy-3, ...
    #[arg(long)]
    pub next_free: bool,
    /// Start from the weights of this run, with its tokenizer and, unless --preset is given, its settings
    #[arg(long, value_name = "RUN")]
    pub init: Option<PathBuf>,
    /// Total number of updates, the same as --set train.steps=N
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Newest checkpoints to keep besides the best, the same as --set train.keep_checkpoints=N
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Train on a text even if most of it is unknown to the tokenizer
    #[arg(long)]
    pub allow_unknown: bool,
    /// Time the kernels' variants before the first step, save the fastest in the user's cache folder and use them
    #[arg(long, conflicts_with = "tuning")]
    pub tune: bool,
    /// Run `wgpt selftest` before the first step, and do not use what fails
    #[arg(long, conflicts_with = "ignore_selftest")]
    pub selftest: bool,
    #[command(flatten)]
    pub variants: VariantArgs,
}

impl Train {
    /// All settings that the arguments contain.
    fn settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        settings.set.extend(self.steps.map(|steps| format!("train.steps={steps}")));
        settings.set.extend(self.keep.map(|keep| format!("train.keep_checkpoints={keep}")));
        settings
    }
}

fn help() -> String {
    let presets: Vec<String> = PRESETS.iter().map(|(name, about)| format!("  {name:<17} {about}")).collect();
    format!(
        "Presets:\n{}\n\n\
Examples:
  wgpt train
  wgpt train --data mine.txt                    into runs/mine
  wgpt train --preset shakespeare-char --data a.txt b.txt --out runs/mine
  wgpt train --preset toy --set model.d_model=32 --set train.learning_rate=0.003 --next-free
  wgpt train --out runs/mine --resume --steps 4000
  wgpt train --init runs/mine --data other.txt --out runs/tuned --steps 200

Settings come from the preset, then --config, --data, --set and --steps; later ones override earlier ones, and a run's config.toml lists \
them all. Your own text gets a tokenizer that fits it, unless you name a preset or tokenizer.kind.

The run's folder receives checkpoints, metrics.jsonl, loss.svg and loss.png. Ctrl-C stops and saves the run; a second Ctrl-C exits at once. \
With --json, each line on stdout is a record of metrics, and the last one is the result.",
        presets.join("\n")
    )
}

/// What `train` is about to do.
pub struct TrainTask {
    pub config: RunConfig,
    pub origin: Origin,
    /// Notes on settings that changed although they were not named.
    pub notes: Vec<String>,
}

/// The settings of a run in `out`, which must be locked for --resume, and the checkpoint that it begins with, verified against its manifest
/// if `verify`.
///
/// # Errors
/// [`Error::Usage`] for invalid settings, [`Error::File`] for a missing run or file.
pub fn resolve(args: &Train, out: &Path, verify: bool) -> Result<TrainTask> {
    if args.resume {
        let saved = checkpoint::find(out, Which::Latest)?.verify(verify).open()?;
        return Ok(TrainTask { config: resumed(args, out, &saved)?, origin: Origin::Resumed(saved.into()), notes: vec![] });
    }
    let settings = args.settings();
    let (origin, (config, notes)) = match &args.init {
        Some(run) => {
            let init = checkpoint::find_or_take(run, Which::Best)?.verify(verify).open()?;
            let config = with_tokenizer_of(&init.config, &settings)?;
            (Origin::Weights(init.into()), config)
        }
        None => (Origin::Random, settings.fitting(&settings.base()?)?),
    };
    config.validate()?;
    Ok(TrainTask { config, origin, notes })
}

/// The settings, with the tokenizer of the run whose weights are used: the weights mean nothing without it.
fn with_tokenizer_of(own: &RunConfig, settings: &Settings) -> Result<(RunConfig, Vec<String>)> {
    let base = if settings.preset.is_some() { settings.base()? } else { own.clone() };
    let (mut config, notes) = settings.over(&RunConfig { tokenizer: own.tokenizer.clone(), ..base })?;
    if config.tokenizer.kind == AUTO {
        config.tokenizer.kind = own.tokenizer.kind.clone();
    }
    let wanted = RunConfig { tokenizer: config.tokenizer.clone(), ..own.clone() };
    let differing = own.differences(&wanted)?;
    if !differing.is_empty() {
        let list: Vec<String> =
            differing.iter().map(|(key, old, new)| format!("{key} = {} (the run has {})", excerpt(new), excerpt(old))).collect();
        return Err(Error::usage(format!(
            "--init uses the run's tokenizer with its weights, so it cannot be combined with {}: omit that, or train without --init",
            list.join(", ")
        )));
    }
    if config.model.vocab_size == 0 {
        config.model.vocab_size = own.model.vocab_size;
    }
    Ok((config, notes))
}

/// The run's own settings, changed by the arguments. Repeating the command line that began the run changes nothing: a preset is only
/// compared, its values for settings that may change are not applied, and --init is ignored.
fn resumed(args: &Train, out: &Path, saved: &OpenCheckpoint) -> Result<RunConfig> {
    let (own, settings) = (&saved.config, args.settings());
    // First without the preset: leaving it out would not help against these.
    let (mut config, _) = settings.over(own)?;
    as_the_run_has(&mut config, own);
    config.validate()?;
    check_resumed(out, own, &config, "")?;
    if let Some(name) = &settings.preset {
        let (mut named, _) = settings.fitting(&settings.base()?)?;
        as_the_run_has(&mut named, own);
        if args.init.is_some() {
            named.tokenizer = own.tokenizer.clone();
        }
        // The preset may also be what named the folder.
        let instead = if args.out.is_some() { String::new() } else { format!(" and add --out {}", shell_path(out)) };
        check_resumed(out, own, &named, &format!("omit --preset {name}{instead}, or "))?;
    }
    let (made, wanted) = (saved.meta.step, config.train.steps);
    if wanted < made {
        return Err(Error::usage(format!("train.steps = {wanted}: the run in {} has made {made} steps already", out.display())));
    }
    Ok(config)
}

/// Replaces settings that mean "what fits" by what the run has.
fn as_the_run_has(config: &mut RunConfig, own: &RunConfig) {
    if config.model.vocab_size == 0 {
        config.model.vocab_size = own.model.vocab_size;
    }
    if config.tokenizer.kind == AUTO {
        config.tokenizer = own.tokenizer.clone();
    }
}

/// Refuses settings that would change the steps made so far. `advice` precedes the advice to start another run.
fn check_resumed(out: &Path, own: &RunConfig, wanted: &RunConfig, advice: &str) -> Result<()> {
    let differences = own.differences(wanted)?;
    let refused: Vec<_> = differences.iter().filter(|(key, _, _)| !may_change_on_resume(key)).collect();
    // Weights mean nothing in another shape or with another tokenizer.
    let weights_fit = refused.iter().all(|(key, _, _)| key.starts_with("train.") || key.starts_with("data.") || key == "model.dropout");
    let refused: Vec<String> =
        refused.iter().map(|(key, old, new)| format!("{key} = {} (the run has {})", excerpt(new), excerpt(old))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let list = refused.join(", ");
    let weights = if weights_fit { format!(", with --init {} to keep its weights", shell_path(out)) } else { String::new() };
    Err(Error::usage(format!("--resume cannot change {list}: {advice}start a new run in another --out{weights}")))
}

/// The folder that --out names, or one under runs/ that is named after the first of these that is given: the preset, the config file, the
/// first text, the run whose weights are used. --resume uses the same folder.
pub fn out(args: &Train) -> PathBuf {
    // A folder's name may have a dot, as in `runs/mine-0.5`.
    let init = || args.init.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = args.settings().name().or_else(init).unwrap_or_else(|| PRESETS[0].0.to_owned());
    args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(name))
}

/// Claims the run's folder; with --next-free the first of `out`, `out`-2, `out`-3 ... that is free and not claimed by another process.
pub fn claim(args: &Train, out: &Path) -> Result<RunFolder> {
    let start = if args.overwrite { Start::Overwrite } else { Start::Fresh };
    if args.next_free { RunFolder::claim_next(out) } else { RunFolder::claim(out, start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_what_is_its_own() {
        let named = |args: Train| out(&args).to_string_lossy().into_owned();
        let of = |settings: Settings| Train { settings, ..Train::default() };
        let text = || Settings { data: vec!["a.txt".into()], ..Settings::default() };
        let data = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<Vec<String>>();
        let settings = Settings::default;
        assert_eq!(named(of(settings())), "runs/shakespeare-word");
        assert_eq!(named(of(Settings { data: data(&["texts/my poems.txt", "b.txt"]), ..settings() })), "runs/my poems");
        assert_eq!(named(of(Settings { data: data(&["a.tokens"]), set: data(&["train.steps=x"]), ..settings() })), "runs/a");
        assert_eq!(named(of(Settings { set: data(&["data.files=b.txt,a.txt", "model.n_layer=1"]), ..settings() })), "runs/b");
        // A bundled text, and a file name that gives no folder name.
        assert_eq!(named(of(Settings { data: data(&["embedded:toy"]), ..settings() })), "runs/shakespeare-word");
        assert_eq!(named(of(Settings { data: data(&[".."]), ..settings() })), "runs/shakespeare-word");
        // Explicit names come first; the run whose weights are used comes last.
        assert_eq!(named(of(Settings { preset: Some("toy".into()), ..text() })), "runs/toy");
        assert_eq!(named(of(Settings { config: Some("my/small.toml".into()), ..text() })), "runs/small");
        assert_eq!(named(Train { init: Some("runs/mine-0.5".into()), ..of(text()) }), "runs/a");
        assert_eq!(named(Train { init: Some("runs/mine-0.5".into()), ..of(settings()) }), "runs/mine-0.5");
        assert_eq!(named(Train { out: Some("here".into()), ..of(Settings { preset: Some("toy".into()), ..text() }) }), "here");
    }
}
