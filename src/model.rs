//! GPT: config, parameter table, forward and its mirror backward, recorded into one plan.
//!
//! The phases of a training plan are, in order: [`PREPARE`] zeroes the gradients, [`CAST`] copies weights, [`FORWARD`] runs the blocks,
//! [`EVALUATE`] or [`HEAD`] computes the loss (the latter with its gradient), [`BACKWARD`] mirrors the blocks; the trainer adds [`NORM`]
//! and [`UPDATE`].
//! An inference plan has [`FORWARD`] and [`PREDICT`]; decoding with a cache has a plan of its own ([`decode`]), tested against this one.
//! Weights are stored (out, in), as the parameter table in [`params`] lists them.

pub(crate) mod acts;
pub mod attention_maps;
pub mod backward;
pub mod config;
pub mod decode;
pub mod forward;
pub mod head;
pub mod inputs;
pub(crate) mod numbers;
pub mod params;
pub mod pools;
mod recorder;
pub mod session;
pub mod shared;
pub mod view;

pub use config::ModelConfig;
use params::Weights;
use recorder::{KeyValues, Recorder};

use crate::error::{Error, Result, bytes};
use crate::gpu::Traits;
use crate::gpu::plan::{Phase, Plan};
use crate::gpu::tensor::{Dtype, Tensor};
use crate::ops::Ops;
use crate::ops::loss::RECORD;
use crate::ops::step::State;

/// Zeroes the gradients, before the first micro-batch of a step.
pub const PREPARE: Phase = Phase("prepare");
/// Copies the weights to the element type of activations; empty if that is f32. Must run after every change of the weights.
pub const CAST: Phase = Phase("cast");
/// Runs embedding and blocks; in training and evaluation also the last norm.
pub const FORWARD: Phase = Phase("forward");
/// Computes the loss of a micro-batch without its gradient.
pub const EVALUATE: Phase = Phase("evaluate");
/// Computes the loss of a micro-batch, and its gradient with respect to the head's weights and input.
pub const HEAD: Phase = Phase("head");
/// Runs last norm, blocks and embedding backward, and adds to the gradients of their weights.
pub const BACKWARD: Phase = Phase("backward");
/// The norm of all gradients, clipping, and whether the step may be applied. Gradients are complete before this phase: several machines
/// would exchange them here.
pub const NORM: Phase = Phase("norm");
/// The optimizer's update of the weights, with the clipping factor of [`NORM`]; skipped if that rejects the step.
pub const UPDATE: Phase = Phase("update");
/// Runs the last norm and computes the logits of the picked rows; inference plans only.
pub const PREDICT: Phase = Phase("predict");

/// Rows of results that the device stores until they are read back: training steps use the first part, evaluation batches the rest.
pub const RECORDS: usize = 2048;
/// Records of training steps.
pub const STEP_RECORDS: usize = 1024;

/// A recorded model: the plan, and the tensors that the host fills and reads.
pub struct Model {
    /// Shape of the model; its `dropout` is 0 in evaluation and inference plans.
    pub config: ModelConfig,
    /// All dispatches by phase, and all tensors that they bind.
    pub plan: Plan,
    /// What the host writes before each micro-batch.
    pub inputs: inputs::Inputs,
    /// Weights, and for training their gradients and the optimizer's moments.
    pub pools: pools::Pools,
    /// (RECORDS, [`RECORD`]): loss, gradient norm and loss scale of recent steps.
    pub records: Tensor,
    /// The block of [`State`].
    pub state: Tensor,
    /// Inference plans only: (picks, V padded to a multiple of 4), the logits of the picked rows.
    pub logits: Option<Tensor>,
    /// The activations of the forward pass.
    pub(crate) acts: Option<acts::Acts>,
    pub(crate) ops: Ops,
}

impl Model {
    /// Records training on micro-batches of `batch` samples. `moments` is the number of optimizer moments; `activations` is the element
    /// type of activations and of the matrices that they are multiplied with.
    ///
    /// # Errors
    /// [`Error::Usage`] for an invalid config, [`Error::Limit`] for a tensor larger than the adapter's limits allow.
    pub fn training(config: &ModelConfig, batch: usize, moments: usize, activations: Dtype, traits: &Traits) -> Result<Model> {
        let mut model = Model::new(config, batch, Some(moments), None, activations, traits)?;
        let state = model.state.clone();
        let (recorder, plan, pools, inputs, records) = model.recording(batch, activations, traits);
        let described = Weights::describe(config);
        let weights = &described.find(|name| pools.weights(name), |name| pools.operands(name));
        let grads = &described.find(|name| pools.grads(name), |name| pools.grads(name));
        let targets = inputs.targets.as_ref().expect("a training plan has targets");
        recorder.check_head(weights)?;

        plan.begin(PREPARE);
        pools.clear_grads(plan);
        plan.begin(CAST);
        pools.cast(plan, recorder.ops);
        plan.begin(FORWARD);
        let acts = recorder.blocks(plan, weights, &inputs.ids);
        let norm = recorder.last_norm(plan, weights, acts.y());
        let hidden = norm.as_ref().map_or(acts.y(), |norm| &norm.y);
        plan.begin(EVALUATE);
        recorder.evaluate(plan, weights, hidden, targets, records);
        plan.begin(HEAD);
        let dhidden = recorder.head(plan, (weights, grads), hidden, targets, (records, &state));
        plan.begin(BACKWARD);
        let dy = recorder.last_norm_backward(plan, (weights, grads), norm.as_ref(), acts.y(), dhidden);
        recorder.backward(plan, (weights, grads), &acts, inputs, dy);
        model.acts = Some(acts);
        Ok(model)
    }

    /// Records the loss on micro-batches of `batch` samples, without gradients.
    ///
    /// # Errors
    /// As [`Model::training`].
    pub fn evaluation(config: &ModelConfig, batch: usize, traits: &Traits) -> Result<Model> {
        let config = ModelConfig { dropout: 0.0, ..config.clone() };
        let mut model = Model::new(&config, batch, None, None, Dtype::F32, traits)?;
        let (recorder, plan, pools, inputs, records) = model.recording(batch, Dtype::F32, traits);
        let weights = &Weights::describe(&config).find(|name| pools.weights(name), |name| pools.operands(name));
        let targets = inputs.targets.as_ref().expect("an evaluation plan has targets");
        recorder.check_head(weights)?;
        plan.begin(FORWARD);
        let acts = recorder.blocks(plan, weights, &inputs.ids);
        let norm = recorder.last_norm(plan, weights, acts.y());
        plan.begin(EVALUATE);
        recorder.evaluate(plan, weights, norm.as_ref().map_or(acts.y(), |norm| &norm.y), targets, records);
        model.acts = Some(acts);
        Ok(model)
    }

    /// Records inference on one sequence, with the logits of `picks` of its rows.
    ///
    /// # Errors
    /// As [`Model::training`].
    pub fn inference(config: &ModelConfig, picks: usize, traits: &Traits) -> Result<Model> {
        let config = ModelConfig { dropout: 0.0, ..config.clone() };
        let mut model = Model::new(&config, 1, None, Some(picks), Dtype::F32, traits)?;
        let (recorder, plan, pools, inputs, _) = model.recording(1, Dtype::F32, traits);
        let weights = &Weights::describe(&config).find(|name| pools.weights(name), |name| pools.operands(name));
        plan.begin(FORWARD);
        let acts = recorder.blocks(plan, weights, &inputs.ids);
        plan.begin(PREDICT);
        let logits = logits(plan, &config, picks);
        recorder.predict(plan, weights, acts.y(), inputs.picks.as_ref(), &logits);
        model.logits = Some(logits);
        model.acts = Some(acts);
        Ok(model)
    }

    /// A recorder for whole sequences, with the plan and the tensors that it records into.
    fn recording<'a>(
        &'a mut self,
        batch: usize,
        dtype: Dtype,
        traits: &'a Traits,
    ) -> (Recorder<'a>, &'a mut Plan, &'a pools::Pools, &'a inputs::Inputs, &'a Tensor) {
        let Model { config, plan, inputs, pools, records, ops, .. } = self;
        let (step, frequencies) = (&inputs.step, inputs.frequencies.as_ref());
        let recorder = Recorder { ops, config, step, frequencies, context: KeyValues::Sequences, batch, dtype, traits };
        (recorder, plan, pools, inputs, records)
    }

    /// `moments` is `Some` for training, `picks` for inference.
    fn new(
        config: &ModelConfig,
        batch: usize,
        moments: Option<usize>,
        picks: Option<usize>,
        activations: Dtype,
        traits: &Traits,
    ) -> Result<Model> {
        config.validate()?;
        check_sizes(config, batch)?;
        let mut plan = Plan::new();
        let pools = pools::Pools::new(&mut plan, config, moments, activations, &traits.limits)?;
        let inputs = inputs::Inputs::new(&mut plan, config, batch, picks);
        let records = plan.kept("records", &[RECORDS, RECORD], Dtype::F32, "results");
        let state = plan.kept("state", &[State::WORDS], Dtype::U32, "results");
        let ops = Ops::new(config.head_size(), activations);
        Ok(Model { config: config.clone(), plan, inputs, pools, records, state, logits: None, acts: None, ops })
    }
}

/// The logits (rows, V, padded to whole quads) that the host reads.
fn logits(plan: &mut Plan, config: &ModelConfig, rows: usize) -> Tensor {
    plan.kept("logits", &[rows, config.vocab_size.next_multiple_of(4)], Dtype::F32, "results")
}

/// Shaders count elements in 32 bits. Larger tensors would also exceed the binding limit, but this error names the settings to change.
fn check_sizes(config: &ModelConfig, batch: usize) -> Result<()> {
    if config.vocab_size == 0 {
        return Err(Error::usage("model.vocab_size = 0: needs the number of tokens"));
    }
    if config.seq_len > crate::ops::position::MAX_POSITIONS {
        return Err(Error::usage(format!("model.seq_len = {}: needs at most {}", config.seq_len, crate::ops::position::MAX_POSITIONS)));
    }
    let rows = batch as u128 * config.seq_len as u128;
    let width = (3 * config.d_model).max(config.d_ff()) as u128;
    let elements = (rows * width).max(config.vocab_size as u128 * config.d_model as u128);
    if elements < 1 << 32 {
        return Ok(());
    }
    Err(Error::Limit {
        what: format!(
            "a batch of {batch} x {} tokens at model.d_model = {}, or its vocabulary of {},",
            config.seq_len, config.d_model, config.vocab_size
        ),
        needed: bytes(u64::try_from(elements * 4).unwrap_or(u64::MAX)),
        allowed: bytes(4 << 32),
        advice: "take a smaller train.batch_size (with more train.grad_accumulation) or a smaller model".into(),
    })
}
