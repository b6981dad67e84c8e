//! From the arguments of `train` to a run's settings, its folder and how it starts.

use std::path::{Path, PathBuf};

use super::run_folder::RUNS;
use super::train::Train;
use crate::error::{Error, Result};
use crate::text::read_text;
use crate::train::checkpoint::{self, Which};
use crate::train::config::RunConfig;
use crate::train::presets::{self, PRESETS};
use crate::train::run::{Start, resumed_config};

/// What `train` is going to do.
pub struct Plan {
    pub config: RunConfig,
    pub out: PathBuf,
    pub start: Start,
    /// The checkpoint whose weights are the first.
    pub init: Option<PathBuf>,
    /// What was done to settings that nobody named.
    pub notes: Vec<String>,
}

/// # Errors
/// [`Error::Usage`] for settings that cannot be, [`Error::File`] for a run or a file that is not there.
pub fn resolve(args: &Train) -> Result<Plan> {
    let out = out(args);
    let init = args.init.as_deref().map(|run| checkpoint::find_or_take(run, Which::Best)).transpose()?;
    let start = if args.resume {
        Start::Resume
    } else if args.overwrite {
        Start::Overwrite
    } else {
        Start::Fresh
    };
    let base = base(args, &out, init.as_deref())?;
    let mut config = base.clone();
    if let Some(path) = &args.config {
        config.overlay(&read_text(path)?, path)?;
    }
    if !args.data.is_empty() {
        config.data.files = args.data.clone();
    }
    for assignment in &args.set {
        config.set(assignment)?;
    }
    if let Some(steps) = args.steps {
        config.train.steps = steps;
    }
    if let Some(init) = &init {
        take_tokenizer(&mut config, &checkpoint::read_config(init)?);
    }
    let notes = if args.resume { None } else { config.train.follow_peak(&base.train) }.into_iter().collect();
    config.validate()?;
    if args.resume {
        config = resumed_config(&out, &config)?;
        check_steps(&out, &config)?;
    }
    Ok(Plan { config, out, start, init, notes })
}

/// What the other settings are laid over: the run's own, those of the run to start from, or a preset's.
fn base(args: &Train, out: &Path, init: Option<&Path>) -> Result<RunConfig> {
    match (&args.preset, init) {
        _ if args.resume => {
            if args.preset.is_some() && args.out.is_some() {
                return Err(Error::usage("--resume takes the settings of the run in --out: leave --preset away"));
            }
            if let Some(name) = &args.preset {
                presets::preset(name)?;
            }
            checkpoint::read_config(&checkpoint::find(out, Which::Latest)?)
        }
        (None, Some(init)) => checkpoint::read_config(init),
        (name, _) => presets::preset(name.as_deref().unwrap_or(PRESETS[0].0)),
    }
}

/// Weights mean nothing without the tokenizer they were trained with.
fn take_tokenizer(config: &mut RunConfig, init: &RunConfig) {
    config.tokenizer = init.tokenizer.clone();
    if config.model.vocab_size == 0 {
        config.model.vocab_size = init.model.vocab_size;
    }
}

fn check_steps(out: &Path, config: &RunConfig) -> Result<()> {
    let made = checkpoint::read_meta(&checkpoint::find(out, Which::Latest)?)?.step;
    let wanted = config.train.steps;
    if wanted < made {
        return Err(Error::usage(format!("train.steps = {wanted}: the run in {} has made {made} steps already", out.display())));
    }
    Ok(())
}

/// The folder that --out names, or one under runs/ named after where the settings come from; with --next-free, one that is free.
fn out(args: &Train) -> PathBuf {
    let stem = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let name = args.preset.clone().or_else(|| args.config.as_deref().and_then(stem)).or_else(|| args.init.as_deref().and_then(stem));
    let name = name.unwrap_or_else(|| PRESETS[0].0.to_owned());
    let out = args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(name));
    if !args.next_free {
        return out;
    }
    let numbered = (2..).map(|n| {
        let mut name = out.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-{n}"));
        out.with_file_name(name)
    });
    let free = |path: &PathBuf| std::fs::read_dir(path).map_or(!path.exists(), |mut entries| entries.next().is_none());
    std::iter::once(out.clone()).chain(numbered).find(free).unwrap_or(out)
}
