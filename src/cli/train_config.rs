//! From the arguments of `train` to a run's settings, its folder and how it starts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::run_folder::RUNS;
use super::train::Train;
use crate::error::{Error, Result, excerpt, shell_path};
use crate::text::{AUTO, TokenizerConfig, absolute, read_text};
use crate::train::checkpoint::{self, Checkpoint, Which};
use crate::train::config::{RunConfig, may_change_on_resume};
use crate::train::folder::{RunFolder, Start};
use crate::train::presets::{self, PRESETS, TOY_FILE};

/// What `train` is going to do.
pub struct Plan {
    pub config: RunConfig,
    pub start: Start,
    /// The checkpoint whose weights are the first.
    pub init: Option<Checkpoint>,
    /// What was done to settings that nobody named.
    pub notes: Vec<String>,
}

/// The settings of a run in `out`, which for --resume must be locked: its checkpoint is read, and compared with its manifest if `verify`.
///
/// # Errors
/// [`Error::Usage`] for settings that cannot be, [`Error::File`] for a run or a file that is not there.
pub fn resolve(args: &Train, out: &Path, verify: bool) -> Result<Plan> {
    if args.resume {
        return Ok(Plan { config: resumed(args, out, verify)?, start: Start::Resume, init: None, notes: vec![] });
    }
    let init = args.init.as_deref().map(|run| Ok(checkpoint::find_or_take(run, Which::Best)?.verify(verify))).transpose()?;
    let base = match (&args.preset, &init) {
        (None, Some(init)) => checkpoint::read_config(init)?,
        (name, _) => presets::preset(name.as_deref().unwrap_or(PRESETS[0].0))?,
    };
    let (config, notes) = match &init {
        Some(init) => with_tokenizer_of(init, base, args)?,
        None => with_fitting_tokenizer(&base, args)?,
    };
    config.validate()?;
    let start = if args.overwrite { Start::Overwrite } else { Start::Fresh };
    Ok(Plan { config, start, init, notes })
}

/// What the arguments say key by key, over a preset or a run's own settings; and what was done to settings that nobody named. Files are
/// named by absolute paths, so that the run finds them from any folder.
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
    let named = config.data.files.iter_mut().filter(|file| *file != TOY_FILE && !file.is_empty());
    named.for_each(|file| *file = absolute(file));
    if !config.tokenizer.path.is_empty() {
        config.tokenizer.path = absolute(&config.tokenizer.path);
    }
    let notes = config.train.follow_peak(&base.train);
    Ok((config, notes.into_iter().collect()))
}

/// The settings with [tokenizer] as the arguments want it. One's own text gets a tokenizer that fits it, unless a preset or a kind is
/// named; and what a preset says of one kind of tokenizer means nothing for another kind, or for one from a file.
fn with_fitting_tokenizer(base: &RunConfig, args: &Train) -> Result<(RunConfig, Vec<String>)> {
    let anew = |kind: &str| {
        let tokenizer = TokenizerConfig { kind: kind.to_owned(), ..TokenizerConfig::default() };
        overlaid(&RunConfig { tokenizer, ..base.clone() }, args)
    };
    let (config, notes) = overlaid(base, args)?;
    let (fitting, _) = anew(AUTO)?;
    let own_text = presets::embedded(&config.data.files).is_none();
    let kind_is_free = fitting.tokenizer.kind == AUTO && args.preset.is_none();
    let tokenizer = if config.tokenizer.path != base.tokenizer.path || (own_text && kind_is_free) {
        fitting.tokenizer
    } else if config.tokenizer.kind != base.tokenizer.kind {
        anew(&config.tokenizer.kind)?.0.tokenizer
    } else {
        config.tokenizer
    };
    Ok((RunConfig { tokenizer, ..config }, notes))
}

/// The settings with the tokenizer of the run whose weights are taken over: they mean nothing without it.
fn with_tokenizer_of(init: &Checkpoint, base: RunConfig, args: &Train) -> Result<(RunConfig, Vec<String>)> {
    let own = checkpoint::read_config(init)?;
    let (mut config, notes) = overlaid(&RunConfig { tokenizer: own.tokenizer.clone(), ..base }, args)?;
    if config.tokenizer.kind == AUTO {
        config.tokenizer.kind = own.tokenizer.kind.clone();
    }
    let wanted = RunConfig { tokenizer: config.tokenizer.clone(), ..own.clone() };
    let differing = own.differences(&wanted)?;
    if !differing.is_empty() {
        let list: Vec<String> =
            differing.iter().map(|(key, old, new)| format!("{key} = {} (it has {})", excerpt(new), excerpt(old))).collect();
        return Err(Error::usage(format!(
            "--init takes the run's tokenizer with its weights, so it cannot have {}: leave that away, or train without --init",
            list.join(", ")
        )));
    }
    if config.model.vocab_size == 0 {
        config.model.vocab_size = own.model.vocab_size;
    }
    Ok((config, notes))
}

/// The run's own settings with those that the arguments change. The command line that began the run says nothing new: a preset is
/// compared, what it says of things that may change is not taken over, and --init has had its effect.
fn resumed(args: &Train, out: &Path, verify: bool) -> Result<RunConfig> {
    let path = checkpoint::find(out, Which::Latest)?.verify(verify);
    let own = checkpoint::read_config(&path)?;
    if let Some(name) = &args.preset {
        let (mut named, _) = with_fitting_tokenizer(&presets::preset(name)?, args)?;
        if named.model.vocab_size == 0 {
            named.model.vocab_size = own.model.vocab_size;
        }
        if args.init.is_some() || named.tokenizer.kind == AUTO {
            named.tokenizer = own.tokenizer.clone();
        }
        check_resumed(out, &own, &named, &format!("leave --preset {name} away, or "))?;
    }
    let (mut config, _) = overlaid(&own, args)?;
    if config.tokenizer.kind == AUTO {
        config.tokenizer = own.tokenizer.clone();
    }
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
    let refused: Vec<String> = refused.map(|(key, old, new)| format!("{key} = {} (the run has {})", excerpt(new), excerpt(old))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let (list, out) = (refused.join(", "), shell_path(out));
    Err(Error::usage(format!(
        "--resume cannot change {list}: {advice}start another run in another --out, with --init {out} to keep its weights"
    )))
}

/// The folder that --out names, or one under runs/ with the first of these names that is given: the preset's, the config file's, the
/// first text's, that of the run whose weights are the first. A resumed run is looked for in the same place.
pub fn out(args: &Train) -> PathBuf {
    let owned = |name: &OsStr| name.to_string_lossy().into_owned();
    let config = || args.config.as_deref().and_then(Path::file_stem).map(owned);
    let text = || own_text(args).as_deref().and_then(|file| Path::new(file).file_stem()).map(owned);
    // A folder's name may have a dot, as in `runs/mine-0.5`.
    let init = || args.init.as_deref().and_then(Path::file_name).map(owned);
    let name = args.preset.clone().or_else(config).or_else(text).or_else(init);
    let name = name.unwrap_or_else(|| PRESETS[0].0.to_owned());
    args.out.clone().unwrap_or_else(|| Path::new(RUNS).join(name))
}

/// The first file that the arguments name as data, if it is not within the program.
fn own_text(args: &Train) -> Option<String> {
    let mut config = RunConfig::default();
    config.data.files.clone_from(&args.data);
    // What cannot be set is refused where the settings are made.
    args.set.iter().for_each(|assignment| drop(config.set(assignment)));
    let files = config.data.files;
    if presets::embedded(&files).is_some() { None } else { files.into_iter().next() }
}

/// The run's folder, claimed; with --next-free the first of `out`, `out`-2, `out`-3 ... that is free and nobody else has claimed.
pub fn claim(args: &Train, out: &Path, start: Start) -> Result<RunFolder> {
    if args.next_free { RunFolder::claim_next(out) } else { RunFolder::claim(out, start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_what_is_its_own() {
        let named = |args: Train| out(&args).to_string_lossy().into_owned();
        let data = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<Vec<String>>();
        let train = Train::default;
        assert_eq!(named(train()), "runs/shakespeare-word");
        assert_eq!(named(Train { data: data(&["texts/my poems.txt", "b.txt"]), ..train() }), "runs/my poems");
        assert_eq!(named(Train { data: data(&["a.tokens"]), set: data(&["train.steps=x"]), ..train() }), "runs/a");
        assert_eq!(named(Train { set: data(&["data.files=b.txt,a.txt", "model.n_layer=1"]), ..train() }), "runs/b");
        // No text of one's own, and a name that none can be made of.
        assert_eq!(named(Train { data: data(&["embedded:toy"]), ..train() }), "runs/shakespeare-word");
        assert_eq!(named(Train { data: data(&[".."]), ..train() }), "runs/shakespeare-word");
        // What is named on purpose comes first; weights that are taken over come last.
        let text = || Train { data: data(&["a.txt"]), ..train() };
        assert_eq!(named(Train { preset: Some("toy".into()), ..text() }), "runs/toy");
        assert_eq!(named(Train { config: Some("my/small.toml".into()), ..text() }), "runs/small");
        assert_eq!(named(Train { init: Some("runs/mine-0.5".into()), ..text() }), "runs/a");
        assert_eq!(named(Train { init: Some("runs/mine-0.5".into()), ..train() }), "runs/mine-0.5");
        assert_eq!(named(Train { out: Some("here".into()), preset: Some("toy".into()), ..text() }), "here");
    }
}
