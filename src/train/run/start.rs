//! How a run begins: a new one with its first checkpoint, or one that continues from a checkpoint.

use super::saving::{CheckpointState, Trouble, content, write_config};
use super::{Best, Due, Event, Origin, Reopening, Run, Setup, Validated};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::wait::block_on;
use crate::text::Corpus;
use crate::train::checkpoint::{self, Meta, Naming, OpenCheckpoint};
use crate::train::metrics::{self, METRICS, MetricsFile};
use crate::train::step_clock::StepClock;
use crate::train::trainer::{Snapshot, Trainer};

impl Run {
    /// Creates the trainer, then the run's first checkpoint. So saving is known to work before the first step, and files of an earlier run
    /// in the folder are only removed after that.
    ///
    /// # Errors
    /// Errors of the data, the device and the files; the folder is then left as it was.
    pub fn new(gpu: &Gpu, setup: Setup, options: &Options) -> Result<Run> {
        Run::start(gpu.clone(), setup, options, &mut Reopening::never(), &mut |_| {})
    }

    /// As [`Run::new`]; if the device is lost or has no memory, begins again on another one. `gpu` should be the caller's only handle of the
    /// device, so that it can be closed.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn start(mut gpu: Gpu, setup: Setup, options: &Options, again: &mut Reopening, observe: &mut dyn FnMut(Event)) -> Result<Run> {
        setup.corpus.check_windows(setup.config.model.seq_len)?;
        let trainer = loop {
            match prepared(&gpu, &setup, options) {
                Ok(trainer) => break trainer,
                Err(error) => {
                    drop(gpu);
                    gpu = again.open(error.clone())?;
                    observe(Event::Trouble { problem: format!("{error}; it begins again: {}", again.count()) });
                }
            }
        };
        drop(gpu);
        match &setup.origin {
            Origin::Random | Origin::Weights(_) => Run::begin(trainer, setup, again, observe),
            Origin::Resumed(from) => {
                let meta = from.meta.clone();
                Run::go_on(trainer, setup, &meta)
            }
        }
    }

    fn begin(mut trainer: Trainer, mut setup: Setup, again: &mut Reopening, observe: &mut dyn FnMut(Event)) -> Result<Run> {
        let owner = setup.folder.mark()?;
        loop {
            let save = |content: CheckpointState| content.save(&trainer, None, &setup, setup.folder.path(), &owner, Naming::First);
            match content(&trainer, None, &setup, None, None).and_then(save) {
                Ok(_) => break,
                Err(error) => {
                    again.recover(&mut trainer, error.clone())?;
                    observe(Event::Trouble { problem: format!("{error}; it begins again: {}", again.count()) });
                }
            }
        }
        setup.folder.settle();
        setup.folder.remove_left()?;
        let metrics = open_files(&setup)?;
        Ok(Run::with(trainer, setup, owner, metrics))
    }

    fn go_on(trainer: Trainer, mut setup: Setup, meta: &Meta) -> Result<Run> {
        let path = setup.folder.path().join(METRICS);
        metrics::cut_back(&path, meta.step)?;
        let held = if path.exists() { metrics::read(&path)?.into_iter().next_back().filter(|row| row.step == meta.step) } else { None };
        let owner = setup.folder.mark()?;
        setup.folder.settle();
        let metrics = open_files(&setup)?;
        let mut run = Run::with(trainer, setup, owner, metrics);
        // The step does not matter: it was an earlier one, or it has a checkpoint.
        let best = meta.best_val_loss.map(|loss| Validated { step: 0, loss });
        run.best = Best { found: best, saved: best };
        run.saved = meta.step;
        run.owed = meta.step > 0 && meta.val_loss.is_none() && run.validates(meta.step);
        run.held = held.filter(|_| run.owed);
        run.due = Due { validation: run.owed, save: run.owed };
        Ok(run)
    }

    fn with(trainer: Trainer, setup: Setup, owner: String, metrics: MetricsFile) -> Run {
        let at = trainer.step_count();
        let clock = StepClock::new(at);
        Run {
            trainer,
            setup,
            owner,
            metrics,
            best: Best::default(),
            validated: None,
            held: None,
            owed: false,
            saved: 0,
            at,
            due: Due::default(),
            trouble: Trouble::default(),
            clock,
        }
    }
}

/// A trainer in the state that the run begins with.
fn prepared(gpu: &Gpu, setup: &Setup, options: &Options) -> Result<Trainer> {
    let mut trainer = block_on(gpu, Trainer::new(gpu, &setup.config, options))?;
    match &setup.origin {
        Origin::Random => {}
        Origin::Weights(from) => {
            let weights = checkpoint::read_weights(&from.files, &trainer.session.model.pools.table)?;
            block_on(gpu, trainer.session.write_weights(|index, _| Ok(weights[index].clone())))?;
            block_on(gpu, trainer.keep())?;
        }
        Origin::Resumed(from) => restore(gpu, from, &setup.corpus, &mut trainer)?,
    }
    Ok(trainer)
}

/// Restores a checkpoint, after checking that the data is what the run was trained on.
fn restore(gpu: &Gpu, from: &OpenCheckpoint, corpus: &Corpus, trainer: &mut Trainer) -> Result<()> {
    let OpenCheckpoint { files, meta, .. } = from;
    checkpoint::check_data(files, meta, corpus)?;
    let pools = &trainer.session.model.pools;
    let weights = checkpoint::read_weights(files, &pools.table)?;
    let moments = checkpoint::read_moments(files, &pools.table, pools.moments())?;
    let snapshot = Snapshot { step: meta.step, state: meta.device_state, weights, moments };
    block_on(gpu, trainer.restore(&snapshot))
}

/// Writes the config beside the checkpoints, and opens the metrics file.
fn open_files(setup: &Setup) -> Result<MetricsFile> {
    write_config(&setup.folder, &setup.config)?;
    MetricsFile::open(&setup.folder.path().join(METRICS))
}
