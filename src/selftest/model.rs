//! The whole model on one adapter: its gradients against finite differences of the device's own loss, and training that repeats to the bit.

use web_time::Instant;

use super::{TestRow, Verdict};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::wait::block_on;
use crate::model::config::{Norm, PositionEncoding};
use crate::model::params::{self, Param};
use crate::model::session::Session;
use crate::model::{BACKWARD, CAST, EVALUATE, FORWARD, HEAD, ModelConfig, PREPARE};
use crate::ops::step::{State, Step};
use crate::random;
use crate::reference::finite_diff::noise;
use crate::text::{DataConfig, TokenizerConfig, sorted_order};
use crate::train::config::{RunConfig, StorageDtype, TrainConfig};
use crate::train::trainer::{Trainer, record};

/// Sizes that no tile divides.
const SIZES: ModelConfig = ModelConfig {
    n_layer: 2,
    n_head: 2,
    d_model: 24,
    d_ff: 44,
    seq_len: 35,
    vocab_size: 67,
    position: PositionEncoding::Sinusoidal,
    activation: crate::ops::matmul::Activation::Gelu,
    norm: Norm::Pre,
    bias: true,
    tied_head: true,
    dropout: 0.1,
};
const BATCH: usize = 3;
const STEPS: usize = 4;

/// Displacement of a tensor, by the norm of the whole tensor. Slopes are then off by at most 1e-5, most of it the rounding of the loss (27 and
/// 15 tensors on llvmpipe).
const DISTANCE: f64 = 0.05;
/// A slope may be off by this share of the gradient's norm, and by this much.
const TOLERANCE: (f64, f64) = (1e-3, 5e-5);
/// Element types of activations of 16 bits, and by which share of its norm the gradient of the whole model may be off in them; in bf16 it is
/// off by 0.7 %, and f16 has three bits more.
const STORAGES: &[(&str, StorageDtype, f64)] = &[("bf16", StorageDtype::Bf16, 0.03), ("f16", StorageDtype::F16, 0.004)];

/// Runs all checks of the model, with kernels in the variants that `options` leaves, and shows a row for each.
///
/// # Errors
/// [`Error::DeviceLost`] when the device is lost.
pub(super) fn run(gpu: &Gpu, options: &Options, show: &mut dyn FnMut(TestRow)) -> Result<()> {
    let other = ModelConfig { position: PositionEncoding::Learned, norm: Norm::Post, bias: false, tied_head: false, ..SIZES };
    let mut row = |test: &str, of: &str, check: &mut dyn FnMut() -> Result<(usize, Option<String>)>| {
        let began = Instant::now();
        let (cases, problem) = check().unwrap_or_else(|e| (1, Some(e.to_string())));
        gpu.check()?;
        let verdict = problem.map_or(Verdict::Passed, Verdict::Failed);
        show(TestRow { part: "model", test: test.to_owned(), of: of.to_owned(), cases, time: began.elapsed(), verdict });
        Ok::<(), Error>(())
    };
    row("finite differences", "pre-norm, tied head", &mut || differences(gpu, options, &SIZES))?;
    row("finite differences", "post-norm, learned positions", &mut || differences(gpu, options, &other))?;
    for (name, storage, may) in STORAGES {
        row("gradients as in f32", name, &mut || Ok((1, as_in_f32(gpu, options, *storage, *may)?)))?;
    }
    let all = [("f32", StorageDtype::F32)].into_iter().chain(STORAGES.iter().map(|(name, storage, _)| (*name, *storage)));
    for (name, storage) in all {
        row("training twice", name, &mut || Ok((STEPS, twice(gpu, options, storage)?)))?;
    }
    Ok(())
}

fn config(model: &ModelConfig, storage: StorageDtype) -> RunConfig {
    let train = TrainConfig { batch_size: BATCH, warmup_steps: 0, storage, ..TrainConfig::default() };
    RunConfig { model: model.clone(), train, tokenizer: TokenizerConfig::default(), data: DataConfig::default() }
}

/// Inputs and targets of one batch; one target is none.
fn batch(model: &ModelConfig, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let tokens = BATCH * model.seq_len;
    let id = |stream: &str, i: usize| (random::bits(random::key(seed, stream), i as u64) % model.vocab_size as u64) as u32;
    let (inputs, mut targets): (Vec<u32>, Vec<u32>) = (0..tokens).map(|i| (id("inputs", i), id("targets", i))).unzip();
    targets[tokens - 1] = u32::MAX;
    (inputs, targets)
}

/// Weights large enough that no gradient vanishes in rounding: norms around 1, the rest in [-0.3, 0.3).
fn weights(table: &[Param]) -> Vec<Vec<f32>> {
    let values = |(index, param): (usize, &Param)| {
        let offset = if param.name.contains("ln_") && param.name.ends_with("weight") { 1.0 } else { 0.0 };
        noise(param.len(), index as u32 + 1).into_iter().map(|x| (offset + 0.3 * x) as f32).collect()
    };
    table.iter().enumerate().map(values).collect()
}

/// A small model with weights, on one batch with one dropout mask.
struct Small {
    session: Session,
    table: Vec<Param>,
    weights: Vec<Vec<f32>>,
    slot: Vec<u8>,
    loss_scale: f64,
}

impl Small {
    fn new(gpu: &Gpu, options: &Options, config: &RunConfig) -> Result<Small> {
        let session = block_on(gpu, Session::new(gpu, record(config, gpu.traits())?, options))?;
        let table = params::table(&config.model);
        let weights = weights(&table);
        block_on(gpu, session.write_weights(|index, _| Ok(weights[index].clone())))?;
        let state = State { loss_scale: config.train.first_loss_scale(config.model.seq_len), ..State::default() };
        block_on(gpu, session.compiled.write(&session.model.state, bytemuck::cast_slice::<State, u32>(&[state])))?;
        let (inputs, targets) = batch(&config.model, 1);
        let scale = 1.0 / (targets.len() - 1) as f32;
        let step = Step { target_scale: scale, fresh: 1, seed: 77, ..Step::default() }.with_dropout(config.model.dropout);
        let slot = session.model.inputs.slot(step, &inputs, &targets, &sorted_order(&inputs), &[]);
        Ok(Small { session, table, weights, slot, loss_scale: state.loss_scale.into() })
    }

    /// The gradient of each parameter, without the loss scale.
    fn gradients(&mut self) -> Result<Vec<Vec<f64>>> {
        self.session.run(&self.slot, &[PREPARE, CAST, FORWARD, HEAD, BACKWARD], &|| false)?;
        self.session.guest.runner.wait_for_all()?;
        let Session { gpu, model, .. } = &self.session;
        let read = |param: &Param| {
            let values = block_on(gpu, self.session.read(&model.pools.grads(&param.name)))?;
            Ok(values.into_iter().map(|x| f64::from(x) / self.loss_scale).collect())
        };
        self.table.iter().map(read).collect()
    }

    /// The loss with one parameter moved along a direction.
    fn loss(&mut self, index: usize, direction: &[f64], distance: f64) -> Result<f64> {
        let Session { gpu, model, .. } = &self.session;
        let moved: Vec<f32> = self.weights[index].iter().zip(direction).map(|(&w, u)| (f64::from(w) + distance * u) as f32).collect();
        block_on(gpu, self.session.write(&model.pools.weights(&self.table[index].name), &moved))?;
        self.session.run(&self.slot, &[CAST, FORWARD, EVALUATE], &|| false)?;
        self.session.guest.runner.wait_for_all()?;
        let Session { gpu, model, compiled, .. } = &self.session;
        Ok(f64::from(block_on(gpu, compiled.read_part::<f32>(&model.records, 0..1))?[0]))
    }

    /// Puts a parameter back.
    fn restore(&self, index: usize) -> Result<()> {
        let Session { gpu, model, .. } = &self.session;
        block_on(gpu, self.session.write(&model.pools.weights(&self.table[index].name), &self.weights[index]))
    }
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Compares the slope of the loss along one direction of each parameter with the gradient. The direction is the gradient's own and noise of
/// the same length, so that neither a factor nor another direction passes.
fn differences(gpu: &Gpu, options: &Options, model: &ModelConfig) -> Result<(usize, Option<String>)> {
    let mut small = Small::new(gpu, options, &config(model, StorageDtype::F32))?;
    let gradients = small.gradients()?;
    for (index, gradient) in gradients.iter().enumerate() {
        let (other, size) = (noise(gradient.len(), 99 + index as u32), length(gradient));
        let scale = [1.0 / size.max(1e-30), 1.0 / length(&other)];
        let direction: Vec<f64> = gradient.iter().zip(&other).map(|(g, r)| g * scale[0] + r * scale[1]).collect();
        let want: f64 = gradient.iter().zip(&direction).map(|(g, u)| g * u).sum();
        let mut at = |distance: f64| small.loss(index, &direction, distance * DISTANCE);
        // Four points: the error is of fourth order in the distance.
        let found = (8.0 * (at(1.0)? - at(-1.0)?) - (at(2.0)? - at(-2.0)?)) / (12.0 * DISTANCE);
        small.restore(index)?;
        if (found - want).abs() > TOLERANCE.0 * size + TOLERANCE.1 || !found.is_finite() || !want.is_finite() {
            let name = &small.table[index].name;
            return Ok((gradients.len(), Some(format!("the loss has slope {found:.5} along `{name}`, its gradient says {want:.5}"))));
        }
    }
    Ok((gradients.len(), None))
}

/// Compares the gradients in an element type of 16 bits with those in f32, which may be off by this share of their norm.
fn as_in_f32(gpu: &Gpu, options: &Options, storage: StorageDtype, may: f64) -> Result<Option<String>> {
    let gradients = |storage| Ok::<_, Error>(Small::new(gpu, options, &config(&SIZES, storage))?.gradients()?.concat());
    let (want, found) = (gradients(StorageDtype::F32)?, gradients(storage)?);
    let off: Vec<f64> = want.iter().zip(&found).map(|(want, found)| found - want).collect();
    let share = length(&off) / length(&want);
    let right = share <= may; // not if it is NaN
    Ok((!right).then(|| format!("the gradient is off by {:.2} % of that in f32; rounding explains {} %", 100.0 * share, 100.0 * may)))
}

/// Trains twice for some steps and compares every weight and moment.
fn twice(gpu: &Gpu, options: &Options, storage: StorageDtype) -> Result<Option<String>> {
    let config = config(&SIZES, storage);
    let run = || {
        let mut trainer = block_on(gpu, Trainer::new(gpu, &config, options))?;
        for step in 0..STEPS {
            let (ids, targets) = batch(&config.model, step as u64);
            trainer.step_on(&ids, &targets)?;
        }
        trainer.finish()?;
        block_on(gpu, trainer.snapshot())
    };
    let (first, second) = (run()?, run()?);
    let table = params::table(&config.model);
    let values = |snapshot: &crate::train::Snapshot| {
        let moments = snapshot.moments.iter().flatten().cloned();
        snapshot.weights.iter().cloned().chain(moments).collect::<Vec<Vec<f32>>>()
    };
    for (index, (a, b)) in values(&first).iter().zip(&values(&second)).enumerate() {
        if let Some(i) = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits()) {
            let what = if index < table.len() { "weight" } else { "moment" };
            let name = &table[index % table.len()].name;
            return Ok(Some(format!("after {STEPS} equal steps {what} {i} of `{name}` is {:e} and {:e}", a[i], b[i])));
        }
    }
    Ok(None)
}
