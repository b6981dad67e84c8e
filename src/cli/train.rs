//! `wgpt train`: a run from its settings to its loss curve.

use std::path::Path;

use super::corpus::open_corpus;
use super::data_report::Unknown;
use super::train_config::{Train, TrainTask, claim, out, resolve};
use super::train_report::{self as report, Before};
use super::{Context, Ended, host_memory, interrupt, progress::ProgressLine, selftest, tune};
use crate::error::{Error, Result, shell_path};
use crate::gpu::options::Options;
use crate::train::folder::{RunFolder, Start};
use crate::train::presets;
use crate::train::run::{Event, Origin, Outcome, Reopening, Run, Setup};
use crate::train::trainer::Trainer;

pub fn run(mut args: Train, context: &Context) -> Result<Ended> {
    if let Some(name) = &args.settings.preset {
        // Checked before any message about the folder that is named after it.
        presets::preset(name)?;
    }
    let out = out(&args);
    // --resume locks the folder before it reads the checkpoint. Otherwise the settings are checked first: a refusal leaves no folder.
    let locked = args.resume.then(|| RunFolder::claim(&out, Start::Resume)).transpose()?;
    let TrainTask { mut config, origin, notes } = resolve(&args, &out, context.verify)?;
    let folder = match locked {
        Some(folder) => folder,
        None => claim(&args, &out)?,
    };
    let (tokenizer, corpus) = open_corpus(&config, origin.checkpoint().map(|saved| saved.tokenizer.clone()))?;
    config.tokenizer = corpus.tokenizer.clone();
    config.model = config.model.with_vocab(tokenizer.vocab_size())?;
    corpus.check_windows(config.model.seq_len)?;
    let unknown = Unknown::of(&config, &corpus, &tokenizer, matches!(origin, Origin::Weights(_)))?;
    unknown.check(args.allow_unknown || args.resume)?;
    let gpu = context.gpu()?;
    if args.selftest {
        selftest::first(&gpu, &context.out)?;
    }
    args.variants.check_selftest(&gpu)?;
    if args.tune {
        host_memory::check(&gpu, &Trainer::memory(&gpu, &config, &Options::default())?)?;
        let file = tune::file(None, &gpu)?;
        tune::tune_to(&file, &gpu, &config, (&[], tune::ROUNDS), &context.out, &mut |line| context.out.notice(line))?;
        args.variants.take(&file);
    }
    let options = match origin.resumed() {
        Some(saved) => args.variants.resumed(&saved.meta.variants, &gpu, &context.out)?,
        None => args.variants.options(&gpu, &context.out)?,
    };
    let memory = Trainer::memory(&gpu, &config, &options)?;
    host_memory::check(&gpu, &memory)?;
    let bigram = report::bigram(&config, &corpus)?;
    let data = (&corpus, &tokenizer, &unknown);
    let before = Before { config: &config, gpu: &gpu, memory: &memory, data, bigram, out: folder.path() };
    before.show(&context.out);
    notes.iter().for_each(|note| context.out.notice(&format!("note: {note}")));

    let (recoveries, mut open) = (config.train.recoveries, || context.gpu_again());
    let mut again = Reopening::new(&mut open, recoveries);
    let mut warn = |event| {
        if let Event::Trouble { problem } = event {
            context.out.notice(&format!("WARNING   {problem}"));
        }
    };
    // The run has the only handle of its device, so that it can close a lost one.
    let mut run = Run::start(gpu, Setup { config, tokenizer, corpus, folder, origin }, &options, &mut again, &mut warn)?;
    context.save_pipelines();
    let first = run.trainer.step_count();
    if let Some(saved) = run.setup.origin.resumed() {
        context.out.notice(&report::resumed(saved, &run.setup.config.train, &run.trainer.session.gpu));
        if args.init.is_some() {
            context.out.notice("note      --init is ignored: it took effect when the run began");
        }
        if let Some(warning) = report::other_variants(&saved.meta.variants, &run.trainer.session.compiled.variants, args.variants.any()) {
            context.out.notice(&warning);
        }
    }
    interrupt::listen(context.out.quiet(), interrupt::SAVING)?;
    let mut progress = ProgressLine::new(&context.out, &run);
    let outcome = run.train_on(&mut again, &mut |event| progress.show(event), &|| interrupt::requested() || context.out.ended());
    let trained = progress.finish();
    // The curve is of interest even if the run failed; the error to show is the run's.
    let folder = &run.setup.folder;
    let curve = if folder.is_there() { report::draw(folder.path(), &run.setup.config, bigram) } else { Ok(None) };
    let outcome = outcome.map_err(|e| with_advice(e, run.setup.folder.path(), args.resume))?;
    let best_val_loss = run.best_val_loss();
    let curve = curve.unwrap_or_else(|e| {
        context.out.notice(&format!("WARNING   no loss curve: {e}"));
        None
    });
    let (step, gpu) = (run.reached(), run.trainer.session.gpu.clone());
    // Frees the device's memory for the predictions below.
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

/// Adds how to start again when the run's own folder is in the way, and how to continue a run whose adapter has too little memory now.
fn with_advice(error: Error, out: &Path, resumed: bool) -> Error {
    match (error, resumed) {
        (Error::Diverged(problem), true) => {
            let out = shell_path(out);
            Error::Diverged(format!("{problem}; a resumed run keeps its settings: start a new run in another --out, with --init {out}"))
        }
        (Error::Diverged(problem), false) => Error::Diverged(format!("{problem}; --overwrite replaces this run by another attempt")),
        (Error::OutOfMemory(problem), _) => Error::OutOfMemory(format!("{problem}; --resume continues it")),
        (other, _) => other,
    }
}
