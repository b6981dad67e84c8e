//! `wgpt train`: a run from its settings to its loss curve.

use std::path::{Path, PathBuf};

use super::data_report::Unknown;
use super::train_config::{Plan, claim, out, resolve};
use super::train_report::{self as report, Before};
use super::variants::VariantArgs;
use super::{Context, Ended, host_memory, interrupt, progress::Progress, tune};
use crate::error::{Error, Result, shell_path};
use crate::gpu::compile::Options;
use crate::text::{Corpus, Tokenizer};
use crate::train::checkpoint::{self, Checkpoint, Which};
use crate::train::config::RunConfig;
use crate::train::folder::{RunFolder, Start};
use crate::train::presets::{self, PRESETS};
use crate::train::run::{Outcome, Run, Setup};
use crate::train::trainer::Trainer;

/// Train a model, or go on with one
#[derive(Debug, Default, clap::Args)]
#[command(after_help = help())]
pub struct Train {
    /// Ready-made settings; see the list below
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A TOML file with some or all settings, as in a run's config.toml
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Texts (or .tokens files) to train on instead of the text within the program
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<String>,
    /// The run's folder [default: runs/ and the name of the preset, the config file, the text or the --init run that is given]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on exactly where the run in --out stopped; of the settings only what differs may be refused
    #[arg(long, conflicts_with_all = ["overwrite", "next_free"])]
    pub resume: bool,
    /// Replace the run in --out, which stays until the new one has its first checkpoint
    #[arg(long, conflicts_with = "next_free")]
    pub overwrite: bool,
    /// Take the next free name if --out holds a run: runs/toy-2, runs/toy-3, ...
    #[arg(long)]
    pub next_free: bool,
    /// Start from the weights of this run, with its tokenizer; its settings are the base unless --preset names others
    #[arg(long, value_name = "RUN")]
    pub init: Option<PathBuf>,
    /// Updates in all, the same as --set train.steps=N
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Checkpoints to keep beside the best, the same as --set train.keep_checkpoints=N
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Train on a text of which the tokenizer does not know the larger part
    #[arg(long)]
    pub allow_unknown: bool,
    /// Any setting by its name; may be given many times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Time the kernels' variants before the first step, keep the fastest in the user's cache folder and take them
    #[arg(long, conflicts_with = "tuning")]
    pub tune: bool,
    #[command(flatten)]
    pub variants: VariantArgs,
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

Settings come from the preset, then --config, --data, --set and --steps, each over the one before;
a run's config.toml lists them all. One's own text gets a tokenizer that fits it, unless a preset or
tokenizer.kind is named. The run's folder gets checkpoints, metrics.jsonl, loss.svg and
loss.png. Ctrl-C stops the run and saves it, a second one ends at once. With --json, each line on
stdout is a record of metrics, the last one the result.",
        presets.join("\n")
    )
}

pub fn run(mut args: Train, context: &Context) -> Result<Ended> {
    if let Some(name) = &args.preset {
        // Before anything is said of the folder that has its name.
        presets::preset(name)?;
    }
    let out = out(&args);
    // What --resume reads must not change meanwhile; whatever else is refused must leave no folder behind.
    let locked = args.resume.then(|| RunFolder::claim(&out, Start::Resume)).transpose()?;
    let Plan { mut config, start, init, notes } = resolve(&args, &out, context.verify)?;
    let folder = match locked {
        Some(folder) => folder,
        None => claim(&args, &out, start)?,
    };
    let saved = match start {
        Start::Resume => Some(checkpoint::find(folder.path(), Which::Latest)?.verify(context.verify)),
        Start::Fresh | Start::Overwrite => init.clone(),
    };
    let (tokenizer, corpus) = corpus(&config, saved.as_ref())?;
    config.tokenizer = corpus.tokenizer.clone();
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    corpus.check_windows(config.model.seq_len)?;
    let unknown = Unknown::of(&config, &corpus, &tokenizer, init.is_some())?;
    unknown.check(args.allow_unknown || start == Start::Resume)?;
    let gpu = context.gpu()?;
    if args.tune {
        host_memory::check(&gpu, &Trainer::memory(&gpu, &config, &Options::default())?)?;
        let file = tune::file(None, &gpu)?;
        tune::tune_to(&file, &gpu, &config, (&[], tune::ROUNDS), &context.out, &mut |line| context.out.notice(line))?;
        args.variants.take(&file);
    }
    let recorded = match (start, &saved) {
        (Start::Resume, Some(saved)) => checkpoint::read_meta(saved)?.variants,
        _ => vec![],
    };
    let options = match start {
        Start::Resume => args.variants.resumed(&recorded, &gpu, &context.out)?,
        Start::Fresh | Start::Overwrite => args.variants.options(&gpu, &context.out)?,
    };
    let memory = Trainer::memory(&gpu, &config, &options)?;
    host_memory::check(&gpu, &memory)?;
    let bigram = report::bigram(&config, &corpus)?;
    let data = (&corpus, &tokenizer, &unknown);
    let before = Before { config: &config, gpu: &gpu, memory: &memory, data, bigram, out: folder.path() };
    before.show(&context.out);
    notes.iter().for_each(|note| context.out.notice(&format!("note: {note}")));

    let mut run = Run::new(&gpu, Setup { config, tokenizer, corpus, folder, start, init, verify: context.verify }, &options)?;
    context.save_pipelines();
    let first = run.trainer.step_count();
    if run.setup.start == Start::Resume {
        context.out.notice(&report::resumed(&run, &gpu)?);
        if args.init.is_some() {
            context.out.notice("note      --init has had its effect when the run began");
        }
        if let Some(warning) = report::other_variants(&recorded, &run.trainer.session.compiled.variants, args.variants.any()) {
            context.out.notice(&warning);
        }
    }
    interrupt::listen(context.out.quiet(), interrupt::SAVING)?;
    let mut progress = Progress::new(&context.out, &run);
    let outcome = run.train(&mut |event| progress.show(event), &|| interrupt::requested() || context.out.ended());
    let trained = progress.finish();
    // Even of a run that failed the curve tells something; what it failed of is the error to show.
    let folder = &run.setup.folder;
    let curve = if folder.is_there() { report::draw(folder.path(), &run.setup.config, bigram) } else { Ok(None) };
    let outcome = outcome.map_err(|e| after_divergence(e, run.setup.folder.path(), run.setup.start))?;
    let best_val_loss = run.best_val_loss();
    let curve = curve.unwrap_or_else(|e| {
        context.out.notice(&format!("WARNING   no loss curve: {e}"));
        None
    });
    let step = run.trainer.step_count();
    // The device's memory is needed for the predictions below.
    let Run { setup, .. } = run;
    let after =
        report::After { setup: &setup, gpu: &gpu, options: &options, step, made: step - first, trained, best_val_loss, bigram, curve };
    match outcome {
        Outcome::Interrupted => {
            after.stopped(&context.out);
            Ok(Ended::Interrupted)
        }
        Outcome::Finished => {
            after.finished(context)?;
            Ok(Ended::Done)
        }
    }
}

/// How to begin again, where the run's own folder is in the way.
fn after_divergence(error: Error, out: &Path, start: Start) -> Error {
    match (error, start) {
        (Error::Diverged(problem), Start::Resume) => {
            let out = shell_path(out);
            Error::Diverged(format!("{problem}; a run keeps its settings: start another in another --out, with --init {out}"))
        }
        (Error::Diverged(problem), _) => Error::Diverged(format!("{problem}; with --overwrite, another try takes this one's place")),
        (other, _) => other,
    }
}

/// The run's text as tokens: a resumed run's own tokenizer, or the one whose weights are taken over, or a new one.
pub fn corpus(config: &RunConfig, saved: Option<&Checkpoint>) -> Result<(Tokenizer, Corpus)> {
    open_corpus(config, saved.map(checkpoint::read_tokenizer).transpose()?)
}

/// The text that a config names, within the program or in files, as tokens.
pub fn open_corpus(config: &RunConfig, existing: Option<Tokenizer>) -> Result<(Tokenizer, Corpus)> {
    match presets::embedded(&config.data.files) {
        Some(text) => Corpus::build(&config.data, &[text], &config.tokenizer, existing),
        None => match config.data.files.iter().find(|file| file.as_str() == presets::TOY_FILE) {
            Some(file) => Err(Error::usage(format!("data.files has `{file}` beside other files: it can only stand alone"))),
            None => Corpus::open(&config.data, &config.tokenizer, existing),
        },
    }
}
