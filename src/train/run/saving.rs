//! How a run is saved: its checkpoints, and what happens when they, the metrics or the folder cannot be written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use web_time::Instant;

use super::{Best, Event, Run, Setup, Validated};
use crate::error::{Error, Result, shell_path};
use crate::files;
use crate::gpu::wait::block_on;
use crate::model::params::Param;
use crate::train::checkpoint::{self, CheckpointContent, Meta, Naming, Tensors};
use crate::train::config::RunConfig;
use crate::train::folder::{RunFolder, Start};
use crate::train::keeper::KeptState;
use crate::train::metrics::METRICS;
use crate::train::saved;
use crate::train::trainer::Trainer;

/// Failures to write, kept until a write succeeds.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) metrics: bool,
    /// When writing a checkpoint last failed, and why; the time is `None` if the next attempt is due at once.
    pub(super) checkpoint: Option<(Option<Instant>, Error)>,
}

/// A checkpoint that could not be written is retried after this time, unless one is due earlier.
const RETRY: Duration = Duration::from_secs(30);

impl Run {
    /// Whether a checkpoint that could not be written is due for a retry.
    pub(super) fn retries(&self) -> bool {
        self.trouble.checkpoint.as_ref().is_some_and(|(when, _)| when.is_none_or(|when| when.elapsed() >= RETRY))
    }

    /// Recreates the folder if it was moved or removed.
    pub(super) fn stand(&mut self, observe: &mut dyn FnMut(Event)) {
        if self.setup.folder.is_there() {
            return;
        }
        let path = self.setup.folder.path().to_path_buf();
        let again = || -> Result<(RunFolder, String)> {
            let mut folder = RunFolder::claim(&path, Start::Fresh)?;
            let owner = folder.mark()?;
            write_config(&folder, &self.setup.config)?;
            folder.settle();
            Ok((folder, owner))
        };
        match again() {
            Ok((folder, owner)) => {
                (self.setup.folder, self.owner) = (folder, owner);
                // Its checkpoints are lost, the best one too, so the next one is due at once.
                self.trouble.checkpoint = Some((None, Error::file(&path, "was moved or removed")));
                self.best = Best { found: self.validated_now(), saved: None };
                let moved = self.metrics.move_to(&path.join(METRICS));
                let rest = moved.map_or_else(|e| format!("without metrics: {e}"), |()| "with its metrics".to_owned());
                let problem = format!("{} was moved or removed: it is recreated {rest}; a checkpoint follows", path.display());
                observe(Event::Trouble { problem });
            }
            Err(e) if self.trouble.checkpoint.is_none() => {
                let why = Error::file(&path, "was moved or removed");
                observe(Event::Trouble { problem: format!("{why}, and cannot be recreated ({e}): the run continues and retries") });
                self.trouble.checkpoint = Some((Some(Instant::now()), why));
            }
            Err(_) => {}
        }
    }

    /// Waits for all steps and writes a checkpoint, unless a step diverged. If it cannot be written, it is retried later.
    pub(super) fn save(&mut self, observe: &mut dyn FnMut(Event)) -> Result<()> {
        self.finish(observe)?;
        self.stand(observe);
        let content = content(&self.trainer, None, &self.setup, self.validated, self.best.found)?;
        let is_best = self.best.found.is_some_and(|best| best.step == content.meta.step);
        let naming = if is_best { Naming::Best } else { Naming::Latest };
        // Another process may have claimed the folder meanwhile: do not write to it.
        let saved = match &self.trouble.checkpoint {
            Some((_, why)) if !self.setup.folder.is_there() => Err(why.clone()),
            _ => content.save(&self.trainer, None, &self.setup, self.setup.folder.path(), &self.owner, naming),
        };
        self.clock.rest();
        let step = content.meta.step;
        match saved {
            Ok(path) => {
                self.saved = step;
                self.best.saved = self.best.found;
                if self.trouble.checkpoint.take().is_some() {
                    observe(Event::Trouble { problem: format!("step {step} is saved in {}", path.display()) });
                }
                observe(Event::Saved { step, path });
                Ok(())
            }
            Err(e @ Error::File { .. }) => {
                // A later checkpoint with a higher loss is better than none.
                self.best.found = self.best.saved;
                if self.trouble.checkpoint.is_none() {
                    observe(Event::Trouble { problem: format!("step {step} is not saved: {e}; the run continues and retries") });
                }
                self.trouble.checkpoint = Some((Some(Instant::now()), e));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// Saves the run in another folder: its current step, or `kept`, its snapshot. Returns the error to end the run with.
    pub(super) fn rescue(&mut self, why: Error, kept: bool) -> Error {
        let step = self.trainer.kept().filter(|_| kept).map_or(self.trainer.step_count(), |state| state.step);
        let out = self.setup.folder.path().to_path_buf();
        let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let places = [out.with_file_name(format!("{name}-rescued")), std::env::temp_dir().join(format!("wgpt-{name}-rescued"))];
        let mut failed = vec![];
        for place in places {
            match self.save_at(&place, kept) {
                Ok(place) => {
                    let place = shell_path(&place);
                    return Error::file(
                        &out,
                        format!(
                            "step {step} cannot be saved here ({why}): the run is saved in {place} instead; \
                         resume with: wgpt train --out {place} --resume"
                        ),
                    );
                }
                Err(e) => failed.push(e.to_string()),
            }
        }
        Error::file(&out, format!("step {step} cannot be saved ({why}), nor anywhere else ({})", failed.join("; ")))
    }

    /// Saves the run in the first free folder of this name.
    fn save_at(&mut self, place: &Path, kept: bool) -> Result<PathBuf> {
        let mut folder = RunFolder::claim_next(place)?;
        let owner = folder.mark()?;
        let kept = self.trainer.kept().filter(|_| kept);
        let step = kept.map_or(self.trainer.step_count(), |state| state.step);
        // The new folder's only checkpoint is its best, if it was validated.
        self.best.found = self.validated.filter(|validated| validated.step == step);
        let naming = if self.best.found.is_some() { Naming::Best } else { Naming::Latest };
        let content = content(&self.trainer, kept, &self.setup, self.validated, self.best.found)?;
        content.save(&self.trainer, kept, &self.setup, folder.path(), &owner, naming)?;
        folder.settle();
        write_config(&folder, &self.setup.config)?;
        self.metrics.move_to(&folder.path().join(METRICS))?;
        Ok(folder.path().to_path_buf())
    }

    /// Saves the snapshot as a checkpoint of the run, unless there is a newer one. Returns what the run's last message says about it.
    ///
    /// # Errors
    /// [`Error::File`] naming the folder that it was saved in instead, if any.
    pub(super) fn save_kept(&mut self) -> Result<String> {
        let folder = self.setup.folder.path();
        let Some(kept) = self.trainer.kept().filter(|state| state.step > self.saved) else {
            return Ok(format!("step {} is saved in {}", self.saved, folder.display()));
        };
        let step = kept.step;
        // What was validated after the snapshot belongs to steps that the checkpoint does not have.
        let best = self.best.found.filter(|best| best.step <= step).or(self.best.saved);
        let naming = if best.is_some_and(|best| best.step == step) { Naming::Best } else { Naming::Latest };
        let content = content(&self.trainer, Some(kept), &self.setup, self.validated, best)?;
        match content.save(&self.trainer, Some(kept), &self.setup, folder, &self.owner, naming) {
            Ok(path) => {
                self.saved = step;
                Ok(format!("step {step} is saved in {}", path.display()))
            }
            Err(why @ Error::File { .. }) => Err(self.rescue(why, true)),
            Err(why) => Err(why),
        }
    }

    /// Moves the records that the run's folder cannot hold to a temporary folder. Returns the error to end the run with.
    pub(super) fn rescue_metrics(&mut self, why: Error) -> Result<()> {
        let Error::File { path, problem } = why else { return Err(why) };
        let name = self.setup.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free = |n: u32| Some(std::env::temp_dir().join(format!("wgpt-{name}-metrics-{n}.jsonl"))).filter(|place| !place.exists());
        let place = (1..).find_map(free).unwrap_or_default();
        let step = self.saved;
        Err(match self.metrics.move_to(&place) {
            Ok(()) => Error::file(path, format!("{problem}; step {step} is saved, and all records are in {}", place.display())),
            Err(e) => Error::file(path, format!("{problem}; step {step} is saved, but some of its records are lost ({e})")),
        })
    }
}

/// The contents of a checkpoint besides config and tensors.
pub(super) struct CheckpointState {
    meta: Meta,
    tokenizer: String,
}

/// The tensors of a trainer, read back from the device while they are written.
struct OnDevice<'a>(&'a Trainer);

impl Tensors for OnDevice<'_> {
    fn moments(&self) -> usize {
        self.0.session.model.pools.moments()
    }

    fn read(&self, param: usize, moment: Option<usize>, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let (session, pools) = (&self.0.session, &self.0.session.model.pools);
        let name = &pools.table[param].name;
        let tensor = moment.map_or_else(|| pools.weights(name), |moment| pools.moment(moment, name));
        block_on(&session.gpu, session.read_pieces(&tensor, each))
    }
}

/// The tensors of a snapshot.
struct OnHost<'a>(&'a KeptState, &'a [Param]);

impl Tensors for OnHost<'_> {
    fn moments(&self) -> usize {
        self.0.moments()
    }

    fn read(&self, param: usize, moment: Option<usize>, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        each(&self.0.values(&self.1[param].name, moment))
    }
}

/// The contents of a checkpoint of the current step, or of a snapshot.
pub(super) fn content(
    trainer: &Trainer,
    kept: Option<&KeptState>,
    setup: &Setup,
    validated: Option<Validated>,
    best: Option<Validated>,
) -> Result<CheckpointState> {
    let (step, device_state) = match kept {
        Some(state) => (state.step, state.state()),
        None => block_on(&trainer.session.gpu, trainer.progress())?,
    };
    let val_loss = validated.filter(|validated| validated.step == step).map(|validated| validated.loss);
    let meta = saved::meta(trainer, step, device_state, &setup.corpus)?;
    let meta = Meta { val_loss, best_val_loss: best.map(|best| best.loss), ..meta };
    Ok(CheckpointState { meta, tokenizer: setup.tokenizer.to_json() })
}

impl CheckpointState {
    /// Writes the checkpoint, with the tensors of the trainer or of the snapshot.
    pub(super) fn save(
        &self,
        trainer: &Trainer,
        kept: Option<&KeptState>,
        setup: &Setup,
        out: &Path,
        owner: &str,
        naming: Naming,
    ) -> Result<PathBuf> {
        let (CheckpointState { meta, tokenizer }, table) = (self, &trainer.session.model.pools.table);
        let (device, host) = (OnDevice(trainer), kept.map(|state| OnHost(state, table)));
        let tensors: &dyn Tensors = host.as_ref().map_or(&device, |host| host);
        let content = CheckpointContent { config: &setup.config, tokenizer, table, tensors, meta };
        checkpoint::save(out, owner, &content, naming, setup.config.train.keep_checkpoints)
    }
}

pub(super) fn write_config(folder: &RunFolder, config: &RunConfig) -> Result<()> {
    let text = config.to_toml()?;
    files::write(&folder.path().join("config.toml"), |out| out.write_all(text.as_bytes()))
}
