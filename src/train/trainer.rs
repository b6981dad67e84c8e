//! The trainer: takes batches, updates weights on the device, returns losses once they are read back.

use web_time::Instant;

use super::config::{Optimizer, RunConfig, StorageDtype};
use super::keeper::{Keeper, KeptState};
use super::reports::{Rates, Reports, StepReport};
use super::steps::{Batch, Frame, Steps, is_updating, samples_per_step, tokens_per_step};
use super::taps::Taps;
use crate::error::{Error, Result};
use crate::gpu::compile::Compiled;
use crate::gpu::guest::Guest;
use crate::gpu::options::Options;
use crate::gpu::profile::Profiler;
use crate::gpu::wait;
use crate::gpu::{Gpu, Traits};
use crate::model::session::{Memory, Session, TrainProgress};
use crate::model::shared::SharedWeights;
use crate::model::{Model, NORM, UPDATE, params};
use crate::ops::adamw::Constants;
use crate::ops::gradient_norm::Rules;
use crate::ops::step::State;
use crate::text::TokenStore;

/// The parts of a trainer that run its steps.
pub(super) struct StepParts<'a> {
    pub compiled: &'a Compiled,
    pub guest: &'a mut Guest<TrainProgress>,
    pub profiler: Option<&'a mut Profiler>,
}

/// Trains one model on one device.
pub struct Trainer {
    /// The compiled model, with its buffers and the position reached.
    pub session: Session,
    pub(super) config: RunConfig,
    pub(super) reports: Reports,
    /// The last step whose report was read back, and when that step had ended.
    pub(super) ended: Option<(u64, Instant)>,
    pub(super) rates: Rates,
    pub(super) taps: Taps,
    frame: Frame,
    /// What it was created with, for another device.
    pub(super) options: Options,
    pub(super) keeper: Keeper,
}

/// Everything that a run needs to continue exactly: weights and moments by parameter, and the device's state.
pub struct Snapshot {
    /// Completed steps.
    pub step: u64,
    /// The device's counts of applied and skipped updates, its last clipping factor, and its loss scale.
    pub state: State,
    /// In the table's order: weights, then each moment.
    pub weights: Vec<Vec<f32>>,
    /// One list per optimizer moment: two of AdamW, one of SGD.
    pub moments: Vec<Vec<Vec<f32>>>,
}

/// Bytes of a snapshot that a blocking step copies to host memory, in some 10 ms: less than the steps in flight take.
const KEPT_BY_A_STEP: usize = 64 << 20;

/// Records a training model with its optimizer.
///
/// # Errors
/// [`Error::Usage`] for an invalid config, [`Error::Limit`] for what the limits in `traits` rule out.
pub fn record(config: &RunConfig, traits: &Traits) -> Result<Model> {
    let train = &config.train;
    train.validate()?;
    let moments = match train.optimizer {
        Optimizer::AdamW => 2,
        Optimizer::Sgd => 1,
    };
    let mut model = Model::training(&config.model, train.batch_size, moments, train.storage.into(), traits)?;
    let Model { plan, pools, ops, inputs, records, state, .. } = &mut model;
    plan.begin(NORM);
    let grads: Vec<_> = pools.segments.iter().map(|segment| segment.grads.clone()).collect();
    let rules = Rules { max_norm: train.grad_clip as f32, dynamic_scale: train.storage == StorageDtype::F16 };
    ops.gradient_norm.forward(plan, &inputs.step, &grads, rules, records, state);
    plan.begin(UPDATE);
    let constants =
        Constants { beta1: train.beta1 as f32, beta2: train.beta2 as f32, eps: train.eps as f32, weight_decay: train.weight_decay as f32 };
    for segment in &pools.segments {
        match train.optimizer {
            Optimizer::AdamW => ops.adamw.apply(plan, &inputs.step, state, constants, segment),
            Optimizer::Sgd => ops.sgd.apply(plan, &inputs.step, state, train.momentum as f32, train.weight_decay as f32, segment),
        }
    }
    Ok(model)
}

impl Trainer {
    /// The memory that [`Trainer::new`] will allocate, computed without allocating. Checks what the adapter allows in one buffer or
    /// binding, but not how much memory is free, which no graphics API reports.
    ///
    /// # Errors
    /// As [`record`].
    pub fn memory(gpu: &Gpu, config: &RunConfig, options: &Options) -> Result<Memory> {
        let model = record(config, gpu.traits())?;
        let mut memory = Session::memory(gpu, &model, options)?;
        let (bytes, buffers) = Keeper::needs(config.train.snapshot_every, &model);
        if buffers > 0 {
            memory.classes.push(("snapshots", bytes));
            (memory.total, memory.buffers, memory.host) = (memory.total + bytes, memory.buffers + buffers, 2 * bytes);
        }
        Ok(memory)
    }

    /// A trainer with newly initialized weights; `config.model.vocab_size` must be set.
    ///
    /// # Errors
    /// As [`record`], and [`Error::Device`] when the driver refuses an allocation or a shader.
    pub async fn new(gpu: &Gpu, config: &RunConfig, options: &Options) -> Result<Trainer> {
        let session = Session::new(gpu, record(config, gpu.traits())?, options).await?;
        let keeper = Keeper::new(config.train.snapshot_every, &session).await?;
        let mut trainer = Trainer {
            session,
            options: options.clone(),
            keeper,
            config: config.clone(),
            reports: Reports::default(),
            rates: Rates::default(),
            ended: None,
            taps: Taps::default(),
            frame: Frame::default(),
        };
        trainer.rates.keep_from(0);
        trainer.write_initial().await?;
        Ok(trainer)
    }

    /// Writes the state before the first step.
    pub(super) async fn write_initial(&self) -> Result<()> {
        let seed = self.config.train.seed;
        self.session.write_weights(|_, param| Ok(param.initial(seed))).await?;
        self.reset_moments_and_state().await
    }

    async fn reset_moments_and_state(&self) -> Result<()> {
        let pools = &self.session.model.pools;
        for moment in 0..pools.moments() {
            for param in &pools.table {
                self.session.write(&pools.moment(moment, &param.name), &vec![0.0; param.len()]).await?;
            }
        }
        let loss_scale = self.config.train.first_loss_scale(self.config.model.seq_len);
        let state = State { loss_scale, ..State::default() };
        self.session.compiled.write(&self.session.model.state, bytemuck::cast_slice::<State, u32>(&[state])).await
    }

    /// The weights in their buffers, for [`crate::generate::Generator::sharing`].
    pub fn shared_weights(&self) -> SharedWeights {
        let Session { gpu, model, compiled, .. } = &self.session;
        SharedWeights::new(gpu, &model.config, &model.pools, compiled)
    }

    /// Whole steps submitted so far.
    pub fn step_count(&self) -> u64 {
        self.session.guest.place().step
    }

    /// The settings that it trains with.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Samples of one step.
    pub fn samples_per_step(&self) -> u64 {
        samples_per_step(&self.config)
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        tokens_per_step(&self.config)
    }

    /// Blocks until one more step is submitted (not until it has run); with `report`, its record is read back soon after. Returns false if
    /// `stop` returned true in between: the weights are then those of the last whole step.
    ///
    /// # Errors
    /// [`Error::Usage`] for data shorter than one window, [`Error::DeviceLost`] when the device is lost.
    pub fn step(&mut self, data: &TokenStore, report: bool, stop: &dyn Fn() -> bool) -> Result<bool> {
        self.end_slices(data.into())?;
        // Taking a readback that has arrived makes room for the next request.
        self.collect()?;
        self.keep_some(KEPT_BY_A_STEP)?;
        self.blocking(data.into(), report, stop)
    }

    /// Runs one step on the caller's batch: `ids` and `targets` (B, T); targets that are not ids of the vocabulary are ignored.
    ///
    /// # Errors
    /// [`Error::Usage`] when the lengths are not those of one batch, an id is out of range, or the config accumulates over several batches.
    pub fn step_on(&mut self, ids: &[u32], targets: &[u32]) -> Result<()> {
        let batch = Batch::Given { ids, targets };
        self.end_slices(batch)?;
        self.keep_some(KEPT_BY_A_STEP)?;
        self.blocking(batch, false, &|| false).map(drop)
    }

    /// Blocks until the current step, or one more, is submitted.
    pub(super) fn blocking(&mut self, batch: Batch, report: bool, stop: &dyn Fn() -> bool) -> Result<bool> {
        let step = self.step_count();
        let (session, mut steps) = self.steps(batch, step + 1, report);
        let whole = session.guest.run(session.compiled, &mut steps, session.profiler, stop)?;
        if !whole {
            *self.session.guest.place_mut() = TrainProgress { step, ..TrainProgress::default() };
        }
        Ok(whole)
    }

    /// The steps up to number `last`, and the parts that run them.
    pub(super) fn steps<'a>(&'a mut self, batch: Batch<'a>, last: u64, report: bool) -> (StepParts<'a>, Steps<'a>) {
        let Trainer { session, config, rates, taps, frame, .. } = self;
        let Session { model, compiled, guest, readback, profiler, .. } = session;
        let compiled = &*compiled;
        let report = report.then(|| (readback, compiled.place(&model.records).0));
        let steps = Steps { config, model, frame, rates, taps, batch, last, report, used: false };
        (StepParts { compiled, guest, profiler: profiler.as_mut() }, steps)
    }

    /// Returns the reports that were read back since the last call, one for each step, up to the step whose report was requested. If the
    /// device no longer had the records of some steps, the next report counts these ([`StepReport::missed`]).
    ///
    /// # Errors
    /// [`Error::Diverged`] names the first step with a loss or gradient that is not finite, unless its loss scale was too large
    /// ([`StepReport::skipped`]); the device has not applied it. The reports of the steps before it are returned first, the error by the
    /// next call.
    pub fn reports(&mut self) -> Result<Vec<StepReport>> {
        self.collect()?;
        self.reports.good()
    }

    /// The last step whose report was read back, and when it had ended on the device. The time's precision depends on how often the device
    /// is polled, not on when the report is taken.
    pub fn ended(&self) -> Option<(u64, Instant)> {
        self.ended
    }

    /// Takes in the reports that were read back.
    pub(super) fn collect(&mut self) -> Result<()> {
        let Session { guest, readback, .. } = &mut self.session;
        if let Some((last, bytes)) = guest.fetched(readback)? {
            self.ended = readback.came().map(|when| (last, when));
            self.reports.take_in(last, &bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), &mut self.rates);
        }
        Ok(())
    }

    /// Blocks until all submitted steps have run, and returns all their reports.
    ///
    /// # Errors
    /// As [`Trainer::reports`], but an error is returned at once; [`Trainer::reports`] then returns the valid reports. [`Error::Usage`]
    /// while a host holds a slice that is neither submitted nor dropped.
    pub fn finish(&mut self) -> Result<Vec<StepReport>> {
        self.session.guest.settled()?;
        self.session.guest.runner.wait_for_all()?;
        self.collect()?;
        let step = self.step_count();
        if self.reports.known < step {
            self.ended = self.session.guest.runner.last_done().map(|when| (step, when));
            let records = wait::block_on(&self.session.gpu, self.session.compiled.read::<f32>(&self.session.model.records))?;
            self.reports.take_in(step, &records, &mut self.rates);
        }
        self.reports.all()
    }

    /// Reads back everything that a checkpoint holds. It includes steps in flight, and nothing of a step that slices have begun.
    ///
    /// # Errors
    /// [`Error::Usage`] while slices have run a part of an update, or while a host holds a slice, which it might submit at any time.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let (step, state) = self.progress().await?;
        let (session, pools) = (&self.session, &self.session.model.pools);
        let mut snapshot = Snapshot { step, state, weights: vec![], moments: vec![vec![]; pools.moments()] };
        for param in &pools.table {
            snapshot.weights.push(session.read(&pools.weights(&param.name)).await?);
            for (index, moment) in snapshot.moments.iter_mut().enumerate() {
                moment.push(session.read(&pools.moment(index, &param.name)).await?);
            }
        }
        Ok(snapshot)
    }

    /// The number of steps made and the device's state, at a point where weights and moments match: a checkpoint stores them beside these.
    ///
    /// # Errors
    /// As [`snapshot`](Trainer::snapshot).
    pub async fn progress(&self) -> Result<(u64, State)> {
        self.session.guest.check_ran().await?;
        self.session.guest.check_whole()?;
        if self.session.guest.next_phase(&self.session.compiled).is_some_and(|(phase, begun)| is_updating(phase, begun)) {
            return Err(Error::usage("the weights are half updated: take the snapshot after the current step has ended"));
        }
        let words = self.session.compiled.read::<u32>(&self.session.model.state).await?;
        Ok((self.step_count(), bytemuck::cast_slice(&words)[0]))
    }

    /// Restores a snapshot of the same model. Reports that were not taken are dropped.
    ///
    /// # Errors
    /// [`Error::Usage`] for a snapshot of another model or optimizer, before anything is written, and while a host holds a slice.
    pub async fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.session.guest.check_ran().await?;
        let pools = &self.session.model.pools;
        params::check(&pools.table, "weights", &snapshot.weights)?;
        let (found, needed) = (snapshot.moments.len(), pools.moments());
        if found != needed {
            return Err(Error::usage(format!("the snapshot has {found} moments of each weight, this optimizer has {needed}")));
        }
        for (index, moment) in snapshot.moments.iter().enumerate() {
            params::check(&pools.table, &format!("moment {}", index + 1), moment)?;
        }
        self.session.guest.give_up()?;
        let state = KeptState::of(snapshot, &self.session.model);
        self.write_state(&state).await?;
        self.session.guest.begin_at(TrainProgress { step: snapshot.step, ..TrainProgress::default() });
        self.session.readback.forget();
        self.keeper.replace(state);
        self.rates.keep_from(snapshot.step);
        self.rates.clear();
        self.reports = Reports::behind(snapshot.step);
        self.ended = None;
        Ok(())
    }
}
