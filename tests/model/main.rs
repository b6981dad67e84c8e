//! Proves the recorded backward for every option by finite differences of the whole model's twin (its f64 reference implementation), and
//! tests what a plan promises of memory.

#[path = "../common/mod.rs"]
mod common;
mod storage;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::gpu;
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::model::config::{Norm, PositionEncoding};
use wgpt::low_level::model::session::Session;
use wgpt::low_level::model::{Model, params};
use wgpt::low_level::ops::matmul::Activation;
use wgpt::low_level::ops::step::{State, Step};
use wgpt::low_level::reference::finite_diff;
use wgpt::low_level::reference::model::{ModelShape, loss};
use wgpt::low_level::text::{TokenStore, sorted_order};
use wgpt::low_level::train::evaluate;
use wgpt::low_level::train::evaluate::{eval_batches, evaluate_shown};
use wgpt::low_level::train::trainer::record;
use wgpt::{DataConfig, ModelConfig, Options, RunConfig, TokenizerConfig, TrainConfig, Trainer, block_on};

fn small() -> ModelConfig {
    ModelConfig { n_layer: 2, n_head: 2, d_model: 8, d_ff: 12, seq_len: 5, vocab_size: 11, ..ModelConfig::default() }
}

fn run_config(model: ModelConfig, train: TrainConfig) -> RunConfig {
    RunConfig { model, train: TrainConfig { warmup_steps: 0, ..train }, tokenizer: TokenizerConfig::default(), data: DataConfig::default() }
}

fn twin(config: &ModelConfig) -> ModelShape {
    ModelShape {
        layers: config.n_layer,
        heads: config.n_head,
        d_model: config.d_model,
        d_ff: config.d_ff(),
        vocab: config.vocab_size,
        activation_gelu: config.activation == Activation::Gelu,
        post_norm: config.norm == Norm::Post,
        sinusoidal: config.position == PositionEncoding::Sinusoidal,
        bias: config.bias,
        tied: config.tied_head,
        eps: 1e-5,
    }
}

fn ids(count: usize, vocab: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 7919) >> 7) % vocab as u32).collect()
}

/// Weights large enough that no gradient vanishes in rounding: norms around 1, the rest in [-1/2, 1/2).
fn values(param: &params::Param, index: usize) -> Vec<f32> {
    let noise = finite_diff::noise(param.len(), index as u32 + 1);
    let offset = if param.name.contains("ln_") && param.name.ends_with("weight") { 1.0 } else { 0.0 };
    noise.into_iter().map(|x| (offset + 0.5 * x) as f32).collect()
}

/// Compares loss and all gradients of one batch with the twin, for a plan recorded for an adapter with `traits`.
fn proves(name: &str, config: &ModelConfig, batch: usize, traits: &Traits) {
    let train = TrainConfig { batch_size: batch, ..TrainConfig::default() };
    let model = record(&run_config(config.clone(), train), traits).unwrap();
    let mut session = block_on(gpu(), Session::new(gpu(), model, &Options::default())).unwrap();
    let table = params::table(config);
    let weights: Vec<Vec<f32>> = table.iter().enumerate().map(|(i, p)| values(p, i)).collect();
    block_on(gpu(), session.write_weights(|index, _| Ok(weights[index].clone()))).unwrap();
    let state = [State::default()];
    block_on(gpu(), session.compiled.write(&session.model.state, bytemuck::cast_slice::<State, u32>(&state))).unwrap();
    let tokens = batch * config.seq_len;
    let (inputs, mut targets) = (ids(tokens, config.vocab_size, 1), ids(tokens, config.vocab_size, 2));
    targets[tokens - 1] = u32::MAX;
    let step = Step { target_scale: 1.0 / (tokens - 1) as f32, fresh: 1, ..Step::default() }.with_dropout(0.0);
    let slot = session.model.inputs.slot(step, &inputs, &targets, &sorted_order(&inputs), &[]);
    let phases = [wgpt::phases::PREPARE, wgpt::phases::CAST, wgpt::phases::FORWARD, wgpt::phases::HEAD, wgpt::phases::BACKWARD];
    session.run(&slot, &phases, &|| false).unwrap();
    session.guest.runner.wait_for_all().unwrap();

    let shape = twin(config);
    let flat: Vec<f64> = weights.iter().flatten().map(|&x| f64::from(x)).collect();
    let used = RefCell::new(BTreeSet::new());
    let loss_of = |flat: &[f64]| {
        let find = |wanted: &str| {
            used.borrow_mut().insert(wanted.to_owned());
            let mut first = 0;
            for param in &table {
                if param.name == wanted {
                    return flat[first..first + param.len()].to_vec();
                }
                first += param.len();
            }
            panic!("the table has no `{wanted}`")
        };
        loss(&shape, &find, &inputs, &targets, batch, config.seq_len)
    };
    let records = block_on(gpu(), session.compiled.read::<f32>(&session.model.records)).unwrap();
    let want = loss_of(&flat);
    for param in &table {
        let uses = used.borrow().contains(&param.name);
        assert!(uses, "{name}: the reference implementation, src/reference/model.rs, does not use `{}`", param.name);
    }
    assert!((f64::from(records[0]) - want).abs() < 1e-4, "{name}: loss {}, the reference implementation has {want}", records[0]);
    let gradient = finite_diff::gradient(loss_of, &flat);
    let mut first = 0;
    for param in &table {
        let got = block_on(gpu(), session.read(&session.model.pools.grads(&param.name))).unwrap();
        let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
        finite_diff::assert_close(&format!("{name}: d {}", param.name), &got, &gradient[first..first + param.len()], 2e-5, 2e-4);
        first += param.len();
    }
}

#[test]
fn every_option_has_the_right_gradient() {
    let default = Traits::default();
    proves("default", &small(), 3, &default);
    proves("learned positions", &ModelConfig { position: PositionEncoding::Learned, ..small() }, 2, &default);
    proves("relu", &ModelConfig { activation: Activation::Relu, ..small() }, 2, &default);
    proves("no biases", &ModelConfig { bias: false, ..small() }, 2, &default);
    proves("untied head", &ModelConfig { tied_head: false, ..small() }, 2, &default);
    proves("post-norm", &ModelConfig { norm: Norm::Post, ..small() }, 2, &default);
    let odd = ModelConfig { norm: Norm::Post, tied_head: false, bias: false, n_head: 1, n_layer: 1, seq_len: 1, ..small() };
    proves("one token, one head, post-norm", &odd, 2, &default);
}

/// Tables larger than one binding are split by rows without changing any result.
#[test]
fn tables_split_by_rows_have_the_right_gradient() {
    let config = ModelConfig { vocab_size: 61, tied_head: false, n_layer: 1, ..small() };
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 768, ..wgpu::Limits::default() };
    let traits = Traits { limits, ..gpu().traits().clone() };
    let parts = Model::training(&config, 1, 2, Dtype::F32, &traits).unwrap().pools.weights("wte").len();
    assert!(parts > 1, "{parts} part");
    proves("split tables", &config, 2, &traits);
    proves("split and tied", &ModelConfig { tied_head: true, ..config }, 2, &traits);
}

/// Weights with few tiles and many rows: graphics cards sum ranges of the rows, here on any adapter.
#[test]
fn gradients_summed_in_ranges_are_right() {
    let config = ModelConfig { vocab_size: 13, n_layer: 1, d_model: 8, n_head: 2, d_ff: 12, seq_len: 83, ..small() };
    let traits = Traits { software: false, ..gpu().traits().clone() };
    let batch = 25;
    let train = TrainConfig { batch_size: batch, ..TrainConfig::default() };
    let plan = record(&run_config(config.clone(), train), &traits).unwrap().plan;
    let added = |kernel: &str| plan.dispatches().filter(|dispatch| dispatch.kernel.name() == kernel).count();
    assert_eq!([added("partial_sums.add"), added("partial_sums.add_bias")], [1, 4], "the head's gradient has no bias");
    proves("ranges", &config, batch, &traits);
}

/// Logits larger than one chunk: the loss is the twin's, and so is its slope along the gradient.
#[test]
fn head_chunks_add_up() {
    // More rows than the 2,048 of a chunk, and more bytes of logits than its 32 MiB.
    let config = ModelConfig { vocab_size: 4_100, n_layer: 1, d_model: 4, n_head: 1, d_ff: 4, seq_len: 84, ..small() };
    let batch = 25;
    let text = record(&run_config(config.clone(), TrainConfig { batch_size: batch, ..TrainConfig::default() }), gpu().traits()).unwrap();
    let chunks = text.plan.to_string().lines().filter(|line| line.contains("cross_entropy.forward_backward")).count();
    assert!(chunks > 1, "{chunks} chunk");
    let train = TrainConfig { batch_size: batch, ..TrainConfig::default() };
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &run_config(config.clone(), train), &Options::default())).unwrap();
    let tokens = batch * config.seq_len;
    let (inputs, targets) = (ids(tokens, config.vocab_size, 1), ids(tokens, config.vocab_size, 2));
    let table = params::table(&config);
    let weights = block_on(gpu(), trainer.snapshot()).unwrap().weights;
    trainer.step_on(&inputs, &targets).unwrap();
    let report = trainer.finish().unwrap()[0];
    let grads: Vec<Vec<f32>> =
        table.iter().map(|p| block_on(gpu(), trainer.session.read(&trainer.session.model.pools.grads(&p.name))).unwrap()).collect();
    let loss_at = |t: f64| {
        let find = |wanted: &str| {
            let index = table.iter().position(|p| p.name == wanted).unwrap();
            weights[index].iter().zip(&grads[index]).map(|(&w, &g)| f64::from(w) + t * f64::from(g)).collect::<Vec<f64>>()
        };
        loss(&twin(&config), &find, &inputs, &targets, batch, config.seq_len)
    };
    assert!((f64::from(report.loss) - loss_at(0.0)).abs() < 1e-4, "{} {}", report.loss, loss_at(0.0));
    let squares: f64 = grads.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum();
    let slope = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3;
    assert!((slope / squares - 1.0).abs() < 1e-3, "slope {slope}, squared gradient {squares}");
}

/// The number of dispatches of a step, on any device: per layer (forward and backward), per chunk of the head, and the rest.
#[test]
fn dispatches_are_few() {
    for norm in [Norm::Pre, Norm::Post] {
        let config = ModelConfig { norm, vocab_size: 4_100, n_layer: 3, seq_len: 84, ..small() };
        // Cards take two dispatches for the gradient of a weight with few tiles.
        let traits = Traits { software: true, ..gpu().traits().clone() };
        let model = record(&run_config(config, TrainConfig { batch_size: 25, ..TrainConfig::default() }), &traits).unwrap();
        let labels: Vec<String> =
            model.plan.works().iter().filter(|work| work.phase != wgpt::low_level::model::EVALUATE).map(|work| work.label()).collect();
        let count = |holds: &dyn Fn(&str) -> bool| labels.iter().filter(|label| holds(label)).count();
        let layers: Vec<usize> = (0..3).map(|l| count(&|label| label.starts_with(&format!("h.{l}")))).collect();
        let chunks = count(&|label| label.ends_with("cross_entropy.forward_backward"));
        let head = count(&|label| label.starts_with("head ") && !label.ends_with("loss.sum"));
        let rest = labels.len() - layers.iter().sum::<usize>() - head;
        assert!(layers.iter().all(|&n| n > 12 && n <= 24), "{layers:?} dispatches in the layers, each needs 13 to 24");
        assert!(chunks > 1 && head == 4 * chunks, "{head} dispatches in {chunks} chunks of the head, each needs 4");
        assert!(rest <= 16, "{rest} dispatches besides, at most 16 are expected: {labels:#?}");
    }
}

/// A report contains the time at which its step ended on the device, not the time at which it was fetched.
#[test]
fn a_step_ends_when_the_device_says_so() {
    let config = run_config(small(), TrainConfig { batch_size: 2, ..TrainConfig::default() });
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let begun = Instant::now();
    trainer.step(&corpus(), true, &|| false).unwrap();
    trainer.session.guest.runner.wait_for_all().unwrap();
    let known = Instant::now();
    trainer.step(&corpus(), false, &|| false).unwrap();
    trainer.session.guest.runner.wait_for_all().unwrap();
    let second = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(trainer.reports().unwrap().len(), 1);
    assert!(matches!(trainer.ended(), Some((1, when)) if begun < when && when < known));
    // No report was requested for the second step.
    assert_eq!(trainer.finish().unwrap().len(), 1);
    assert!(matches!(trainer.ended(), Some((2, when)) if known < when && when < second));
}

#[test]
fn an_evaluation_says_how_far_it_is() {
    let config = run_config(small(), TrainConfig { batch_size: 2, ..TrainConfig::default() });
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let store = corpus();
    let mut shown = vec![];
    evaluate_shown(&mut trainer.session, &store, 0, &|| false, &mut |done, all| shown.push((done, all))).unwrap().unwrap();
    let all = eval_batches(&store, config.model.seq_len, 0, 2).unwrap();
    assert!(all > 1);
    assert_eq!(shown, (0..all).map(|done| (done, all)).collect::<Vec<_>>());
}

fn corpus() -> TokenStore {
    TokenStore::from_ids(ids(997, 11, 5))
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    snapshot.weights.iter().flatten().chain(snapshot.moments.iter().flatten().flatten()).map(|x| x.to_bits()).collect()
}

fn trained(config: &RunConfig, options: &Options, steps: usize) -> Trainer {
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), config, options)).unwrap();
    for _ in 0..steps {
        trainer.step(&corpus(), false, &|| false).unwrap();
    }
    trainer.finish().unwrap();
    trainer
}

/// Small slices and shader checks do not change a bit of twelve steps with dropout.
#[test]
fn slices_and_checks_do_not_change_a_bit() {
    let config = run_config(ModelConfig { dropout: 0.2, ..small() }, TrainConfig { batch_size: 3, ..TrainConfig::default() });
    let plain = bits(&trained(&config, &Options::default(), 12));
    assert_eq!(plain, bits(&trained(&config, &Options::default(), 12)), "two runs differ");
    assert_eq!(plain, bits(&trained(&config, &Options { max_groups: 1, ..Options::default() }, 12)), "slices differ");
    assert_eq!(plain, bits(&trained(&config, &Options { checked: true, ..Options::default() }, 12)), "checks differ");
}

/// The samples and dropout masks of a step do not depend on its micro-batches; only the order of sums does.
#[test]
fn micro_batches_see_the_same_step() {
    let of = |batch_size, grad_accumulation| {
        let train = TrainConfig { batch_size, grad_accumulation, ..TrainConfig::default() };
        let mut trainer =
            block_on(gpu(), Trainer::new(gpu(), &run_config(ModelConfig { dropout: 0.3, ..small() }, train), &Options::default())).unwrap();
        trainer.step(&corpus(), false, &|| false).unwrap();
        let report = trainer.finish().unwrap()[0];
        (f64::from(report.loss), f64::from(report.grad_norm))
    };
    let (whole, parts) = (of(6, 1), of(2, 3));
    assert!((whole.0 - parts.0).abs() < 1e-5 && (whole.1 - parts.1).abs() < 1e-4, "{whole:?} {parts:?}");
}

/// A snapshot restored into another trainer continues exactly as the first.
#[test]
fn restore_goes_on_exactly() {
    let config = run_config(ModelConfig { dropout: 0.1, ..small() }, TrainConfig { batch_size: 2, ..TrainConfig::default() });
    let half = trained(&config, &Options::default(), 7);
    let snapshot = block_on(gpu(), half.snapshot()).unwrap();
    let mut resumed = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    block_on(gpu(), resumed.restore(&snapshot)).unwrap();
    for _ in 0..5 {
        resumed.step(&corpus(), false, &|| false).unwrap();
    }
    resumed.finish().unwrap();
    assert_eq!(bits(&resumed), bits(&trained(&config, &Options::default(), 12)));
}

/// A loss that is not finite is an error, and its update is not applied.
#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let config = run_config(small(), TrainConfig { batch_size: 2, ..TrainConfig::default() });
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let wte = trainer.session.model.pools.weights("wte");
    let mut poisoned = block_on(gpu(), trainer.session.read(&wte)).unwrap();
    poisoned.fill(f32::NAN);
    block_on(gpu(), trainer.session.write(&wte, &poisoned)).unwrap();
    let before = bits(&trainer);
    trainer.step(&corpus(), false, &|| false).unwrap();
    let error = trainer.finish().unwrap_err().to_string();
    assert!(error.contains("step 1: the loss is NaN"), "{error}");
    assert_eq!(before, bits(&trainer));
}

/// A stop between submits keeps the weights of the last complete step.
#[test]
fn a_stop_leaves_the_last_whole_step() {
    let config = run_config(small(), TrainConfig { batch_size: 2, grad_accumulation: 4, ..TrainConfig::default() });
    let mut trainer = trained(&config, &Options::default(), 3);
    let before = bits(&trainer);
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    assert!(!trainer.step(&corpus(), false, &stop).unwrap());
    trainer.session.guest.runner.wait_for_all().unwrap();
    assert_eq!((before, 3), (bits(&trainer), trainer.step_count()));
    trainer.step(&corpus(), false, &|| false).unwrap();
    trainer.finish().unwrap();
    assert_eq!(bits(&trainer), bits(&trained(&config, &Options::default(), 4)));
}

/// The evaluation of a training session agrees with the twin's mean over all tokens.
#[test]
fn evaluation_covers_every_token() {
    let config = run_config(ModelConfig { dropout: 0.5, ..small() }, TrainConfig { batch_size: 3, ..TrainConfig::default() });
    let mut trainer = trained(&config, &Options::default(), 2);
    let store = TokenStore::from_ids(ids(43, 11, 9));
    let found = evaluate(&mut trainer.session, &store, 0, &|| false).unwrap().unwrap();
    let weights = block_on(gpu(), trainer.snapshot()).unwrap().weights;
    let table = params::table(&config.model);
    let find = |wanted: &str| {
        let index = table.iter().position(|p| p.name == wanted).unwrap();
        weights[index].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>()
    };
    let all = ids(43, 11, 9);
    let (mut sum, mut tokens) = (0.0, 0);
    for first in (0..42).step_by(5) {
        let count = 5.min(42 - first);
        let part = loss(&twin(&config.model), &find, &all[first..first + count], &all[first + 1..first + count + 1], 1, count);
        sum += part * count as f64;
        tokens += count as u64;
    }
    assert_eq!(found.tokens, tokens);
    assert!((found.loss - sum / tokens as f64).abs() < 1e-5, "{} {}", found.loss, sum / tokens as f64);
}
