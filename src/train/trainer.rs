//! The trainer: batches in, updates on the device, losses out when they have come.

use std::collections::VecDeque;
use std::ops::Range;

use web_time::Instant;

use super::config::{Optimizer, RunConfig};
use super::looks::Looks;
use super::schedule::learning_rate;
use super::slices::Batch;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::compile::Options;
use crate::gpu::plan::Phase;
use crate::gpu::wait;
use crate::model::session::{Memory, Session};
use crate::model::{self, Model, STEP_RECORDS, params};
use crate::ops::adamw::Constants;
use crate::ops::step::{State, Step};
use crate::text::{Sampler, TokenStore, sort_order_into};

/// The optimizer's phase, behind the seam where many machines would exchange gradients.
pub const APPLY: Phase = Phase("apply");

/// Trains one model on one device.
pub struct Trainer {
    pub session: Session,
    pub(super) config: RunConfig,
    /// Where the run stands, as far as it was submitted.
    pub(super) at: Place,
    /// Where it will stand when the slice that a host has is submitted, and the slots of inputs that went with it.
    pub(super) ahead: Option<(Place, usize)>,
    /// Steps whose reports have been taken.
    pub(super) reported: u64,
    /// Reports that have come and were not taken.
    pub(super) coming: VecDeque<Result<StepReport>>,
    /// The last step whose report was taken, and when it had ended.
    ended: Option<(u64, Instant)>,
    /// The learning rates of the last steps, first the one of the step behind `reported`.
    rates: VecDeque<(u64, f64)>,
    pub(super) looks: Looks,
    frame: Frame,
}

/// A place in a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Whole steps before it.
    pub step: u64,
    /// The micro-batch under way.
    pub micro: usize,
    /// The learning rate of the step under way, which it keeps from its first micro-batch on.
    pub rate: f64,
    /// What is left of that, phase by phase.
    pub rest: VecDeque<(Phase, Range<usize>)>,
}

/// Host memory of one micro-batch, reused.
#[derive(Default)]
struct Frame {
    ids: Vec<u32>,
    targets: Vec<u32>,
    order: Vec<u32>,
}

/// What the device said of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Counted from 1: the first update is step 1.
    pub step: u64,
    /// Mean over the step's real targets, nats.
    pub loss: f32,
    /// Euclidean norm of the whole gradient, before clipping.
    pub grad_norm: f32,
    pub learning_rate: f64,
    /// Steps in front of this one whose reports were lost: the device keeps the latest [`STEP_RECORDS`], and nobody asked for so long.
    pub missed: u64,
}

/// Everything that a run needs to go on exactly: weights and moments by parameter, and the device's state.
pub struct Snapshot {
    pub step: u64,
    pub state: State,
    /// In the table's order: weights, then each moment.
    pub weights: Vec<Vec<f32>>,
    pub moments: Vec<Vec<Vec<f32>>>,
}

/// Records a training model with its optimizer.
///
/// # Errors
/// [`Error::Usage`] for an invalid config, [`Error::Limit`] for what `limits` rule out.
pub fn record(config: &RunConfig, limits: &wgpu::Limits) -> Result<Model> {
    let train = &config.train;
    train.validate()?;
    let moments = match train.optimizer {
        Optimizer::AdamW => 2,
        Optimizer::Sgd => 1,
    };
    let mut model = Model::training(&config.model, train.batch_size, moments, train.storage.into(), limits)?;
    let Model { plan, pools, ops, inputs, records, state, .. } = &mut model;
    plan.begin(APPLY);
    let grads: Vec<_> = pools.segments.iter().map(|segment| segment.grads.clone()).collect();
    ops.gradient_norm.forward(plan, &inputs.step, &grads, train.grad_clip as f32, records, state);
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
    /// What [`Trainer::new`] will allocate, without allocating.
    ///
    /// # Errors
    /// As [`record`].
    pub fn memory(gpu: &Gpu, config: &RunConfig, options: &Options) -> Result<Memory> {
        Session::memory(gpu, &record(config, gpu.limits())?, options)
    }

    /// A trainer with freshly initialized weights; `config.model.vocab_size` must be settled.
    ///
    /// # Errors
    /// As [`record`], and [`Error::Device`] when the driver refuses an allocation or a shader.
    pub async fn new(gpu: &Gpu, config: &RunConfig, options: &Options) -> Result<Trainer> {
        let session = Session::new(gpu, record(config, gpu.limits())?, options).await?;
        let trainer = Trainer {
            session,
            config: config.clone(),
            at: Place::default(),
            ahead: None,
            reported: 0,
            coming: VecDeque::new(),
            ended: None,
            rates: VecDeque::new(),
            looks: Looks::default(),
            frame: Frame::default(),
        };
        let seed = config.train.seed;
        trainer.session.write_weights(|index, param| Ok(param.initial(seed, index))).await?;
        trainer.zero_moments().await?;
        Ok(trainer)
    }

    async fn zero_moments(&self) -> Result<()> {
        let pools = &self.session.model.pools;
        for moment in 0..pools.moments() {
            for param in &pools.table {
                self.session.write(&pools.moment(moment, &param.name), &vec![0.0; param.len()]).await?;
            }
        }
        self.session.compiled.write(&self.session.model.state, bytemuck::cast_slice::<State, u32>(&[State::default()])).await
    }

    /// The buffers of the weights, by storage, for [`crate::generate::Generator::sharing`].
    pub fn weight_buffers(&self) -> Vec<(String, wgpu::Buffer)> {
        let plan = &self.session.model.plan;
        let weights = plan.storages().iter().filter(|storage| storage.name.starts_with("weights."));
        weights.filter_map(|storage| Some((storage.name.to_string(), self.session.compiled.buffer_named(&storage.name)?.clone()))).collect()
    }

    /// Whole steps submitted so far.
    pub fn step_count(&self) -> u64 {
        self.place().step
    }

    /// Where the run stands, a slice included whose ticket says that it was submitted.
    pub(super) fn place(&self) -> &Place {
        match &self.ahead {
            Some((ahead, _)) if self.session.runner.open_was_submitted() => ahead,
            _ => &self.at,
        }
    }

    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Samples of one step.
    pub fn samples_per_step(&self) -> u64 {
        (self.config.train.batch_size * self.config.train.grad_accumulation) as u64
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        self.samples_per_step() * self.config.model.seq_len as u64
    }

    /// Blocks until one more step is submitted (not until it has run); with `report`, its records come back soon after.
    /// False if `stop` said so in between: then the weights are those of the last whole step.
    ///
    /// # Errors
    /// [`Error::Usage`] for data shorter than one window, [`Error::Device`] when the device is lost.
    pub fn step(&mut self, data: &TokenStore, report: bool, stop: &dyn Fn() -> bool) -> Result<bool> {
        self.end_slices(data.into())?;
        // What has come makes room for the next request.
        self.collect()?;
        let accumulation = self.config.train.grad_accumulation;
        let rate = self.begin_step(self.at.step);
        for micro in 0..accumulation {
            self.fill_frame(data, self.at.step, micro)?;
            let report = (report && micro + 1 == accumulation).then_some(self.at.step + 1);
            if !self.micro_batch(micro, rate, report, stop)? {
                return Ok(false);
            }
        }
        self.at.step += 1;
        Ok(true)
    }

    /// One step on a batch of the caller's: `ids` and `targets` (B, T); targets that are no ids are ignored.
    ///
    /// # Errors
    /// [`Error::Usage`] when the lengths are not those of one batch, or the config accumulates several.
    pub fn step_on(&mut self, ids: &[u32], targets: &[u32]) -> Result<()> {
        self.end_slices(Batch::Given { ids, targets })?;
        self.set_frame(ids, targets)?;
        let rate = self.begin_step(self.at.step);
        self.micro_batch(0, rate, None, &|| false)?;
        self.at.step += 1;
        Ok(())
    }

    /// Runs the frame through the device: forward and backward, and the update behind the step's last micro-batch.
    fn micro_batch(&mut self, micro: usize, rate: f64, report: Option<u64>, stop: &dyn Fn() -> bool) -> Result<bool> {
        let slot = self.slot(self.at.step, micro, rate);
        self.session.run(&slot, &self.phases(micro), APPLY, report, stop)
    }

    /// The phases of a micro-batch, in order.
    pub(super) fn phases(&self, micro: usize) -> Vec<Phase> {
        let mut phases = vec![model::FORWARD, model::HEAD, model::BACKWARD];
        if micro == 0 {
            phases.splice(0..0, [model::PREPARE, model::CAST]);
        }
        if micro + 1 == self.config.train.grad_accumulation {
            phases.push(APPLY);
        }
        phases
    }

    /// The learning rate of a step that begins, kept for its report.
    pub(super) fn begin_step(&mut self, step: u64) -> f64 {
        let rate = learning_rate(&self.config.train, step);
        // A slice that was taken back had begun this step before.
        while self.rates.back().is_some_and(|(last, _)| *last >= step) {
            self.rates.pop_back();
        }
        // More than the device has records of.
        if self.rates.len() > 2 * STEP_RECORDS {
            self.rates.pop_front();
        }
        self.rates.push_back((step, rate));
        rate
    }

    /// What the device is told of the frame.
    pub(super) fn slot(&self, step: u64, micro: usize, rate: f64) -> Vec<u8> {
        let train = &self.config.train;
        // Windows of training are full: ignored targets come with a caller's own batch only, which is the whole step.
        let ignored = self.frame.targets.iter().filter(|&&t| t as usize >= self.config.model.vocab_size).count() as u64;
        let real = (self.tokens_per_step() - if train.grad_accumulation == 1 { ignored } else { 0 }).max(1);
        let block = Step {
            learning_rate: rate as f32,
            target_scale: 1.0 / real as f32,
            seed: mix(train.seed, step),
            first_sample: (micro * train.batch_size) as u32,
            record: (step % STEP_RECORDS as u64) as u32,
            fresh: (micro == 0) as u32,
            ..Step::default()
        };
        let block = block.with_dropout(self.config.model.dropout);
        self.session.model.inputs.slot(block, &self.frame.ids, &self.frame.targets, &self.frame.order, &[])
    }

    /// # Errors
    /// [`Error::Usage`] for a caller's batch that is not a whole step, or an id that the model has no row for.
    pub(super) fn check_batch(&self, ids: &[u32], targets: &[u32]) -> Result<()> {
        let tokens = self.tokens_per_step() as usize;
        if self.config.train.grad_accumulation != 1 || ids.len() != tokens || targets.len() != tokens {
            let found = format!("{} ids and {} targets", ids.len(), targets.len());
            return Err(Error::usage(format!("{found}: one batch of {tokens} is needed, with train.grad_accumulation = 1")));
        }
        let vocab = self.config.model.vocab_size;
        if let Some(place) = ids.iter().position(|&id| id as usize >= vocab) {
            let (id, last) = (ids[place], vocab - 1);
            return Err(Error::usage(format!("ids[{place}] = {id} is out of range: the vocabulary has ids 0 to {last}")));
        }
        Ok(())
    }

    /// Takes a caller's batch as the frame.
    pub(super) fn set_frame(&mut self, ids: &[u32], targets: &[u32]) -> Result<()> {
        self.check_batch(ids, targets)?;
        let tokens = ids.len();
        self.frame = Frame { ids: ids.to_vec(), targets: targets.to_vec(), order: vec![0; tokens] };
        sort_order_into(&self.frame.ids, &mut self.frame.order)
    }

    /// Draws the frame of a step's micro-batch.
    pub(super) fn fill_frame(&mut self, data: &TokenStore, step: u64, micro: usize) -> Result<()> {
        let sampler = Sampler::new(self.config.train.seed, self.config.model.seq_len, data.len())?;
        let first = step * self.samples_per_step() + (micro * self.config.train.batch_size) as u64;
        let (batch, time) = (self.config.train.batch_size, self.config.model.seq_len);
        let Frame { ids, targets, order } = &mut self.frame;
        ids.resize(batch * time, 0);
        targets.resize(batch * time, 0);
        order.resize(batch * time, 0);
        for (index, (inputs, targets)) in ids.chunks_mut(time).zip(targets.chunks_mut(time)).enumerate() {
            sampler.fill(data, first + index as u64, inputs, targets)?;
        }
        sort_order_into(ids, order)
    }

    /// Takes the reports that have come: one for each step since the last, up to the step whose report was asked for. Where steps went by
    /// whose records the device no longer had, the next report counts them ([`StepReport::missed`]).
    ///
    /// # Errors
    /// [`Error::Diverged`] names the first step with a loss or gradient that is not finite; the device has not applied it. Reports of steps
    /// before it are handed out first, the error by the next call.
    pub fn reports(&mut self) -> Result<Vec<StepReport>> {
        self.collect()?;
        let mut reports = vec![];
        while let Some(report) = self.coming.pop_front() {
            match report {
                Ok(report) => reports.push(report),
                Err(error) if reports.is_empty() => return Err(error),
                Err(error) => {
                    self.coming.push_front(Err(error));
                    break;
                }
            }
        }
        Ok(reports)
    }

    /// The last step whose report has come, and when it had ended on the device: as exact as the device was polled, whenever the report is
    /// taken.
    pub fn ended(&self) -> Option<(u64, Instant)> {
        self.ended
    }

    /// Keeps the reports that have come.
    pub(super) fn collect(&mut self) -> Result<()> {
        if let Some((last, bytes)) = self.session.readback.poll()? {
            self.ended = self.session.readback.came().map(|when| (last, when));
            self.keep_reports(last, &bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
        }
        Ok(())
    }

    /// Keeps the reports of the steps up to `last`, from the records that were read behind it.
    fn keep_reports(&mut self, last: u64, records: &[f32]) {
        // The ring holds the most recent steps only.
        let from = self.reported.max(last.saturating_sub(STEP_RECORDS as u64));
        let mut missed = from - self.reported.min(from);
        for step in from..last {
            while self.rates.front().is_some_and(|(first, _)| *first < step) {
                self.rates.pop_front();
            }
            let rate = self.rates.front().map_or(0.0, |(_, rate)| *rate);
            self.coming.push_back(report(step, records, rate, missed));
            missed = 0;
        }
        self.reported = self.reported.max(last);
    }

    /// Blocks until all submitted steps have run, and takes all their reports.
    ///
    /// # Errors
    /// As [`Trainer::reports`], but an error comes at once: [`Trainer::reports`] then gives what is whole. [`Error::Usage`] while a host has
    /// a slice that is neither submitted nor dropped.
    pub fn finish(&mut self) -> Result<Vec<StepReport>> {
        self.settled()?;
        self.session.runner.wait_for_all()?;
        self.collect()?;
        if self.reported < self.at.step {
            self.ended = self.session.runner.last_done().map(|when| (self.at.step, when));
            let records = wait::block_on(&self.session.gpu, self.session.compiled.read::<f32>(&self.session.model.records))?;
            self.keep_reports(self.at.step, &records);
        }
        if let Some(at) = self.coming.iter().position(Result::is_err)
            && let Some(Err(error)) = self.coming.remove(at)
        {
            return Err(error);
        }
        self.coming.drain(..).collect()
    }

    /// Reads everything that a checkpoint holds. Steps in flight are part of it; of a step that slices have begun nothing is.
    ///
    /// # Errors
    /// [`Error::Usage`] while slices have made a part of an update, or a host has a slice: it might submit that at any time.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        if self.session.runner.has_open() && !self.session.runner.open_was_submitted() {
            return Err(Error::usage("a host has a slice of this trainer: submit it or drop its ticket before a snapshot is taken"));
        }
        let at = self.place();
        if at.rest.front().is_some_and(|(phase, range)| *phase == APPLY && range.start > self.session.compiled.phase(APPLY).start) {
            return Err(Error::usage("the weights are half updated: take the snapshot when the step under way has ended"));
        }
        let (session, pools) = (&self.session, &self.session.model.pools);
        let words = session.compiled.read::<u32>(&session.model.state).await?;
        let mut snapshot =
            Snapshot { step: at.step, state: bytemuck::cast_slice(&words)[0], weights: vec![], moments: vec![vec![]; pools.moments()] };
        for param in &pools.table {
            snapshot.weights.push(session.read(&pools.weights(&param.name)).await?);
            for (index, moment) in snapshot.moments.iter_mut().enumerate() {
                moment.push(session.read(&pools.moment(index, &param.name)).await?);
            }
        }
        Ok(snapshot)
    }

    /// Goes on from a snapshot of the same model. Reports that were not taken are dropped.
    ///
    /// # Errors
    /// [`Error::Usage`] for a snapshot of another model or optimizer, before anything is written, and while a host has a slice.
    pub async fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.settled()?;
        let pools = &self.session.model.pools;
        params::check(&pools.table, "weights", &snapshot.weights)?;
        let (found, needed) = (snapshot.moments.len(), pools.moments());
        if found != needed {
            return Err(Error::usage(format!("the snapshot has {found} moments of each weight, this optimizer has {needed}")));
        }
        for (index, moment) in snapshot.moments.iter().enumerate() {
            params::check(&pools.table, &format!("moment {}", index + 1), moment)?;
        }
        self.session.write_weights(|index, _| Ok(snapshot.weights[index].clone())).await?;
        for (index, moment) in snapshot.moments.iter().enumerate() {
            for (param, values) in pools.table.iter().zip(moment) {
                self.session.write(&pools.moment(index, &param.name), values).await?;
            }
        }
        self.session.compiled.write(&self.session.model.state, bytemuck::cast_slice::<State, u32>(&[snapshot.state])).await?;
        self.at = Place { step: snapshot.step, ..Place::default() };
        self.session.under_way = false;
        self.session.readback.forget();
        self.coming.clear();
        self.rates.clear();
        self.reported = snapshot.step;
        self.ended = None;
        Ok(())
    }
}

/// What the records say of a step.
///
/// # Errors
/// [`Error::Diverged`] when its loss or gradient is not finite.
fn report(step: u64, records: &[f32], learning_rate: f64, missed: u64) -> Result<StepReport> {
    let row = (step % STEP_RECORDS as u64) as usize * 2;
    let (loss, grad_norm) = (records[row], records[row + 1]);
    if !(loss.is_finite() && grad_norm.is_finite()) {
        let what = if loss.is_finite() { format!("gradient norm is {grad_norm}") } else { format!("loss is {loss}") };
        return Err(Error::Diverged(format!(
            "step {}: the {what} at learning rate {learning_rate:.3e}; its update was not applied: \
             try a smaller train.learning_rate, a longer train.warmup_steps or a smaller train.grad_clip",
            step + 1
        )));
    }
    Ok(StepReport { step: step + 1, loss, grad_norm, learning_rate, missed })
}

/// A step's dropout seed: both words of both numbers count (the finalizer of splitmix64, Steele et al. 2014).
fn mix(seed: u64, step: u64) -> u32 {
    let mut z = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}
