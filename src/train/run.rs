//! A run in a folder: steps, validations, checkpoints and metrics, from its start or from where it stopped.

use std::fs;
use std::path::{Path, PathBuf};

use web_time::Instant;

use super::checkpoint::{self, Meta, Which};
use super::config::{RunConfig, may_change_on_resume};
use super::evaluate::evaluate;
use super::metrics::{self, MetricsFile, Record};
use super::trainer::{StepReport, Trainer};
use crate::error::{Error, Result, shell_word};
use crate::gpu::Gpu;
use crate::gpu::compile::Options;
use crate::gpu::wait::block_on;
use crate::model::STEP_RECORDS;
use crate::text::{Corpus, TokenStore, Tokenizer};

/// How a run begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// In a folder without a run.
    Fresh,
    /// In place of the run that is there.
    Overwrite,
    /// Exactly where the run in the folder stopped.
    Resume,
}

/// What a run is made of before the device comes in.
pub struct Setup {
    /// With the vocabulary settled.
    pub config: RunConfig,
    pub tokenizer: Tokenizer,
    pub corpus: Corpus,
    pub out: PathBuf,
    pub start: Start,
    /// Weights to begin with instead of random ones: a checkpoint's folder.
    pub init: Option<PathBuf>,
}

/// A run in progress.
pub struct Run {
    pub trainer: Trainer,
    pub setup: Setup,
    metrics: MetricsFile,
    best: Option<f64>,
    /// Of the last validation, if it was at the present step.
    val_loss: Option<(u64, f64)>,
    /// The record of a validated step, until its validation is done.
    held: Option<Record>,
    clock: Clock,
}

/// What a caller may show.
#[derive(Debug, Clone)]
pub enum Event {
    /// Every step, in order, soon after it has run.
    Step {
        report: StepReport,
        tokens_per_second: f64,
        ms: f64,
    },
    Validation {
        step: u64,
        loss: f64,
        best: bool,
    },
    Saved {
        step: u64,
        path: PathBuf,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// Stopped by the caller and saved.
    Interrupted,
}

/// Time per step from the arrival of reports.
struct Clock {
    last: Instant,
    step: u64,
    ms: f64,
}

/// The config of a resumed run: the checkpoint's, with what `wanted` may change.
///
/// # Errors
/// [`Error::Usage`] that names every key that would change the past.
pub fn resumed_config(out: &Path, wanted: &RunConfig) -> Result<RunConfig> {
    let found = checkpoint::read_config(&checkpoint::find(out, Which::Latest)?)?;
    let differences = found.differences(wanted)?;
    let refused: Vec<String> = differences
        .iter()
        .filter(|(key, _, _)| !may_change_on_resume(key))
        .map(|(key, old, new)| format!("{key} = {new} (the run has {old})"))
        .collect();
    if !refused.is_empty() {
        let list = refused.join(", ");
        return Err(Error::usage(format!(
            "--resume cannot change {list}: start another run, with --init {} to keep its weights",
            shell_word(out)
        )));
    }
    Ok(wanted.clone())
}

/// Whether a new run may begin in `out`.
///
/// # Errors
/// [`Error::Usage`] when a run is there and `start` does not say what to do with it; [`Error::File`] when it cannot be a folder.
pub fn check_out(out: &Path, start: &Start) -> Result<()> {
    if *start == Start::Fresh && checkpoint::is_run(out) {
        return Err(Error::usage(format!(
            "{} holds a run: go on with --resume, replace it with --overwrite, or name another folder with --out",
            out.display()
        )));
    }
    if out.exists() && !out.is_dir() {
        return Err(Error::file(out, "is a file, a folder is needed for the run"));
    }
    // Said before the first step rather than when the folder is made.
    let above = out.ancestors().skip(1).find(|path| path.exists());
    match above.filter(|path| !path.is_dir()) {
        Some(file) => Err(Error::file(out, format!("cannot be made: {} is a file, a folder is needed there", file.display()))),
        None => Ok(()),
    }
}

impl Run {
    /// Makes the trainer, then the folder; nothing is written before everything else has been found in order.
    pub fn new(gpu: &Gpu, setup: Setup, options: &Options) -> Result<Run> {
        check_out(&setup.out, &setup.start)?;
        setup.corpus.check_windows(setup.config.model.seq_len)?;
        let mut trainer = block_on(gpu, Trainer::new(gpu, &setup.config, options))?;
        let (mut best, mut step) = (None, 0);
        if setup.start == Start::Resume {
            let meta = resume(gpu, &setup, &mut trainer)?;
            (best, step) = (meta.best_val_loss, meta.step);
        } else if let Some(init) = &setup.init {
            let weights = checkpoint::read_weights(init, &trainer.session.model.pools.table)?;
            block_on(gpu, trainer.session.write_weights(|index, _| Ok(weights[index].clone())))?;
        }
        let metrics = open_folder(&setup, step)?;
        let clock = Clock { last: Instant::now(), step, ms: 0.0 };
        Ok(Run { trainer, setup, metrics, best, val_loss: None, held: None, clock })
    }

    /// Trains to the end of the config's steps, or until `stop` says so.
    pub fn train(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Outcome> {
        let train = self.setup.config.train.clone();
        while self.trainer.step_count() < train.steps {
            let next = self.trainer.step_count() + 1;
            let save_due = next == train.steps || (train.checkpoint_every > 0 && next.is_multiple_of(train.checkpoint_every));
            // Where a step takes a second or more, every one is shown; and none may be pushed out of the device's ring of records.
            let report = next.is_multiple_of(train.log_every)
                || next.is_multiple_of(STEP_RECORDS as u64 / 4)
                || self.clock.last.elapsed().as_secs() >= 1;
            if !self.trainer.step(&self.setup.corpus.train, report, stop)? {
                return self.interrupted(observe);
            }
            let reports = self.trainer.reports()?;
            self.take(reports, observe)?;
            let mut best = false;
            if self.validates(next) {
                match self.validate(observe, stop)? {
                    Some(is_best) => best = is_best,
                    None => return self.interrupted(observe),
                }
            }
            if save_due || best {
                self.save(best, observe)?;
            }
        }
        let reports = self.trainer.finish()?;
        self.take(reports, observe)?;
        Ok(Outcome::Finished)
    }

    fn interrupted(&mut self, observe: &mut dyn FnMut(Event)) -> Result<Outcome> {
        self.save(false, observe)?;
        Ok(Outcome::Interrupted)
    }

    /// Writes and shows what has come; the record of a validated step waits for its validation.
    fn take(&mut self, reports: Vec<StepReport>, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let Some(last) = reports.last().map(|report| report.step) else { return Ok(()) };
        self.clock.tick(last);
        let ms = self.clock.ms;
        let tokens_per_second = self.trainer.tokens_per_step() as f64 * 1e3 / ms.max(1e-6);
        for report in reports {
            let row = record(&report, tokens_per_second, ms);
            if self.validates(report.step) {
                self.held = Some(row);
            } else if report.step.is_multiple_of(self.setup.config.train.log_every) || report.step == self.setup.config.train.steps {
                self.metrics.append(&row)?;
            }
            observe(Event::Step { report, tokens_per_second, ms });
        }
        Ok(())
    }

    /// Writes the record that waited for its validation.
    fn append_held(&mut self, val_loss: Option<f64>) -> Result<()> {
        self.held.take().map_or(Ok(()), |row| self.metrics.append(&Record { val_loss, ..row }))
    }

    fn validates(&self, step: u64) -> bool {
        let train = &self.setup.config.train;
        let due = step == train.steps || (train.eval_every > 0 && step.is_multiple_of(train.eval_every));
        due && !self.setup.corpus.val.is_empty()
    }

    /// The validation loss at this step; true if it is the best so far, None if `stop` said so.
    fn validate(&mut self, observe: &mut dyn FnMut(Event), stop: &dyn Fn() -> bool) -> Result<Option<bool>> {
        let reports = self.trainer.finish()?;
        self.take(reports, observe)?;
        let step = self.trainer.step_count();
        let batches = self.setup.config.train.eval_batches;
        let Some(found) = evaluate(&mut self.trainer.session, &self.setup.corpus.val, batches, stop)? else {
            self.append_held(None)?;
            return Ok(None);
        };
        self.clock.rest();
        if !found.loss.is_finite() {
            return Err(Error::Diverged(format!("step {step}: the validation loss is {}: try a smaller train.learning_rate", found.loss)));
        }
        let best = self.best.is_none_or(|best| found.loss < best);
        if best {
            self.best = Some(found.loss);
        }
        self.val_loss = Some((step, found.loss));
        self.append_held(Some(found.loss))?;
        observe(Event::Validation { step, loss: found.loss, best });
        Ok(Some(best))
    }

    /// Waits for all steps and writes a checkpoint, unless one of them went wrong.
    fn save(&mut self, best: bool, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let reports = self.trainer.finish()?;
        self.take(reports, observe)?;
        let gpu = self.trainer.session.gpu.clone();
        let snapshot = block_on(&gpu, self.trainer.snapshot())?;
        let step = snapshot.step;
        let meta = Meta {
            version: checkpoint::VERSION,
            step,
            samples: step * self.trainer.samples_per_step(),
            data_fingerprint: fingerprint(&self.setup.corpus.train)?,
            device_state: snapshot.state,
            adapter: gpu.info().name.clone(),
            driver: format!("{} {}", gpu.info().driver, gpu.info().driver_info).trim().to_owned(),
            variants: self.trainer.session.compiled.variants.clone(),
            val_loss: self.val_loss.filter(|(at, _)| *at == step).map(|(_, loss)| loss),
            best_val_loss: self.best,
        };
        let table = &self.trainer.session.model.pools.table;
        let path = checkpoint::save(&self.setup.out, &self.setup.config, &self.setup.tokenizer.to_json(), table, &snapshot, &meta, best)?;
        self.clock.rest();
        observe(Event::Saved { step, path });
        Ok(())
    }

    /// The lowest validation loss so far.
    pub fn best_val_loss(&self) -> Option<f64> {
        self.best
    }
}

impl Clock {
    fn tick(&mut self, step: u64) {
        let now = Instant::now();
        if step > self.step {
            self.ms = now.duration_since(self.last).as_secs_f64() * 1e3 / (step - self.step) as f64;
        }
        (self.last, self.step) = (now, step);
    }

    /// Leaves out what was not a step.
    fn rest(&mut self) {
        self.last = Instant::now();
    }
}

fn record(report: &StepReport, tokens_per_second: f64, ms: f64) -> Record {
    let (loss, grad_norm) = (Some(f64::from(report.loss)), f64::from(report.grad_norm));
    Record { step: report.step, loss, val_loss: None, lr: report.learning_rate, grad_norm, tokens_per_second, ms }
}

/// Restores the latest checkpoint, after checking that the data is what the run saw.
fn resume(gpu: &Gpu, setup: &Setup, trainer: &mut Trainer) -> Result<Meta> {
    let path = checkpoint::find(&setup.out, Which::Latest)?;
    let meta = checkpoint::read_meta(&path)?;
    if meta.data_fingerprint != fingerprint(&setup.corpus.train)? {
        return Err(Error::file(&path, "was trained on other data than data.files hold now: restore the files, or begin anew with --init"));
    }
    let pools = &trainer.session.model.pools;
    let weights = checkpoint::read_weights(&path, &pools.table)?;
    let moments = checkpoint::read_moments(&path, &pools.table, pools.moments())?;
    let snapshot = super::trainer::Snapshot { step: meta.step, state: meta.device_state, weights, moments };
    block_on(gpu, trainer.restore(&snapshot))?;
    Ok(meta)
}

/// Makes or cleans the run's folder, and opens its metrics behind `step`.
fn open_folder(setup: &Setup, step: u64) -> Result<MetricsFile> {
    let out = &setup.out;
    fs::create_dir_all(out).map_err(|e| Error::file(out, format!("cannot be made: {e}")))?;
    let metrics = out.join("metrics.jsonl");
    if setup.start == Start::Resume {
        metrics::cut_back(&metrics, step)?;
    } else {
        for name in ["metrics.jsonl", "loss.svg", "loss.png"] {
            let _ = fs::remove_file(out.join(name));
        }
        let checkpoints = out.join("checkpoints");
        if checkpoints.exists() {
            fs::remove_dir_all(&checkpoints).map_err(|e| Error::file(&checkpoints, format!("cannot be removed: {e}")))?;
        }
    }
    let config = out.join("config.toml");
    fs::write(&config, setup.config.to_toml()?).map_err(|e| Error::file(&config, format!("cannot be written: {e}")))?;
    MetricsFile::open(&metrics)
}

/// Identifies a store by its length and up to 64 Ki of its tokens, evenly spread (FNV-1a).
fn fingerprint(store: &TokenStore) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |word: u64| {
        for byte in word.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    add(store.len() as u64);
    let mut id = [0];
    for place in (0..store.len()).step_by((store.len() / 65_536).max(1)) {
        store.read(place, &mut id)?;
        add(u64::from(id[0]));
    }
    Ok(hash)
}
