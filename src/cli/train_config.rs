//! From the arguments of `train` to a run's settings, its folder and how it starts.

use std::path::{Path, PathBuf};

use super::run_folder::RUNS;
use super::train::Train;
use crate::error::{Error, Result, shell_word};
use crate::text::read_text;
use crate::train::checkpoint::{self, Which};
use crate::train::config::{RunConfig, may_change_on_resume};
use crate::train::folder::{RunFolder, Start};
use crate::train::presets::{self, PRESETS};

/// What `train` is going to do.
pub struct Plan {
    pub config: RunConfig,
    pub start: Start,
    /// The checkpoint whose weights are the first.
    pub init: Option<PathBuf>,
    /// What was done to settings that nobody named.
    pub notes: Vec<String>,
}

/// The settings of a run in `out`, which for --resume must be locked: its checkpoint is read.
///
/// # Errors
/// [`Error::Usage`] for settings that cannot be, [`Error::File`] for a run or a file that is not there.
pub fn resolve(args: &Train, out: &Path) -> Result<Plan> {
    if args.resume {
        return Ok(Plan { config: resumed(args, out)?, start: Start::Resume, init: None, notes: vec![] });
    }
    let init = args.init.as_deref().map(|run| checkpoint::find_or_take(run, Which::Best)).transpose()?;
    let base = match (&args.preset, &init) {
        (None, Some(init)) => checkpoint::read_config(init)?,
        (name, _) => presets::preset(name.as_deref().unwrap_or(PRESETS[0].0))?,
    };
    let (mut config, notes) = overlaid(&base, args)?;
    if let Some(init) = &init {
        take_tokenizer(&mut config, &checkpoint::read_config(init)?);
    }
    config.validate()?;
    let start = if args.overwrite { Start::Overwrite } else { Start::Fresh };
    Ok(Plan { config, start, init, notes })
}

/// What the arguments say key by key, over a preset or a run's own settings; and what was done to settings that nobody named.
fn overlaid(base: &RunConfig, args: &Train) -> Result<(RunConfig, Vec<String>)> {
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
    if let Some(keep) = args.keep {
        config.train.keep_checkpoints = keep;
    }
    let notes = config.train.follow_peak(&base.train);
    Ok((config, notes.into_iter().collect()))
}

/// The run's own settings with those that the arguments change. The command line that began the run says nothing new: a preset is
/// compared, what it says of things that may change is not taken over, and --init has had its effect.
fn resumed(args: &Train, out: &Path) -> Result<RunConfig> {
    let path = checkpoint::find(out, Which::Latest)?;
    let own = checkpoint::read_config(&path)?;
    if let Some(name) = &args.preset {
        let (mut named, _) = overlaid(&presets::preset(name)?, args)?;
        if named.model.vocab_size == 0 {
            named.model.vocab_size = own.model.vocab_size;
        }
        if args.init.is_some() {
            named.tokenizer = own.tokenizer.clone();
        }
        check_resumed(out, &own, &named, &format!("leave --preset {name} away, or "))?;
    }
    let (config, _) = overlaid(&own, args)?;
    config.validate()?;
    check_resumed(out, &own, &config, "")?;
    let (made, wanted) = (checkpoint::read_meta(&path)?.step, config.train.steps);
    if wanted < made {
        return Err(Error::usage(format!("train.steps = {wanted}: the run in {} has made {made} steps already", out.display())));
    }
    Ok(config)
}

/// Refuses settings that would change what the run has done so far; `advice` comes before the one to start another run.
fn check_resumed(out: &Path, own: &RunConfig, wanted: &RunConfig, advice: &str) -> Result<()> {
    let differences = own.differences(wanted)?;
    let refused = differences.iter().filter(|(key, _, _)| !may_change_on_resume(key));
    let refused: Vec<String> = refused.map(|(key, old, new)| format!("{key} = {new} (the run has {old})")).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let (list, out) = (refused.join(", "), shell_word(out));
    Err(Error::usage(format!(
        "--resume cannot change {list}: {advice}start another run in another --out, with --init {out} to keep its weights"
    )))
}

/// Weights mean nothing without the tokenizer they were trained with.
fn take_tokenizer(config: &mut RunConfig, init: &RunConfig) {
    config.tokenizer = init.tokenizer.clone();
    if config.model.vocab_size == 0 {
        config.model.vocab_size = init.model.vocab_size;
    }
}

/// The folder that --out names, or one under runs/ named after where the settings come from.
pub fn out(args: &Train) -> PathBuf {
    let stem = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let name = args.preset.clone().or_else(|| args.config.as_deref().and_then(stem)).or_else(|| args.init.as_deref().and_then(stem));
    let name = name.unwrap_or_else(|| PRESETS[0].0.to_owned());
    args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(name))
}

/// The run's folder, claimed; with --next-free the first of `out`, `out`-2, `out`-3 ... that is free and nobody else has claimed.
pub fn claim(args: &Train, out: &Path, start: Start) -> Result<RunFolder> {
    if args.next_free { RunFolder::claim_next(out) } else { RunFolder::claim(out, start) }
}
