//! Activations stored in 16 bits: what they change, what they cost, and how the loss is scaled for f16.

use wgpt::low_level::model::config::Norm;
use wgpt::low_level::model::params;
use wgpt::low_level::text::TokenStore;
use wgpt::low_level::train::config::StorageDtype;
use wgpt::low_level::train::evaluate;
use wgpt::{Error, ModelConfig, Options, RunConfig, TrainConfig, Trainer, block_on};

use super::common::gpu;
use super::{bits, corpus, ids, run_config, small, trained};

/// The loss of a first step, and all its gradients as one list.
fn first_step(config: &RunConfig, inputs: &[u32], targets: &[u32]) -> (f64, Vec<f64>) {
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), config, &Options::default())).unwrap();
    trainer.step_on(inputs, targets).unwrap();
    let loss = f64::from(trainer.finish().unwrap()[0].loss);
    let session = &trainer.session;
    let read = |p: &params::Param| block_on(gpu(), session.read(&session.model.pools.grads(&p.name))).unwrap();
    (loss, session.model.pools.table.iter().flat_map(read).map(f64::from).collect())
}

/// With bf16 activations a model computes the same up to 8 significant bits. Each number has a random relative error of up to 2⁻⁸, 0.4 %; a
/// gradient passes some twenty such roundings, whose errors add like a random walk to about 1 % of its norm: 3 % are allowed. The loss is a
/// mean whose error is first order in that of the logits, and stays well below 2⁻⁸ of their size. f16 has three bits more, and an eighth of
/// the errors.
#[test]
fn packed_activations_are_close_to_f32() {
    for norm in [Norm::Pre, Norm::Post] {
        for tied_head in [true, false] {
            let model = ModelConfig { d_model: 32, n_head: 4, d_ff: 64, seq_len: 24, vocab_size: 61, norm, tied_head, ..small() };
            let of = |storage| run_config(model.clone(), TrainConfig { batch_size: 4, storage, ..TrainConfig::default() });
            let (inputs, targets) = (ids(96, 61, 1), ids(96, 61, 2));
            let (loss, gradient) = first_step(&of(StorageDtype::F32), &inputs, &targets);
            for (storage, loss_may, gradient_may) in [(StorageDtype::Bf16, 5e-3, 0.03), (StorageDtype::F16, 6e-4, 0.004)] {
                let config = of(storage);
                let scale = f64::from(config.train.first_loss_scale(model.seq_len));
                assert_eq!(scale, if storage == StorageDtype::F16 { 128.0 } else { 1.0 });
                let (loss_16, gradient_16) = first_step(&config, &inputs, &targets);
                assert!((loss - loss_16).abs() < loss_may, "{norm:?}: loss {loss} in f32, {loss_16} in {storage:?}");
                let norm_of = |list: &[f64]| list.iter().map(|x| x * x).sum::<f64>().sqrt();
                let apart: Vec<f64> = gradient.iter().zip(&gradient_16).map(|(a, b)| a - b / scale).collect();
                let relative = norm_of(&apart) / norm_of(&gradient);
                assert!(
                    relative > 1e-5 && relative < gradient_may,
                    "{norm:?} {storage:?}: the gradients are {relative} of their norm apart"
                );
            }
        }
    }
}

/// The norm over several tiles of 16,384 gradients is that of all of them, for every element type.
#[test]
fn the_norm_is_of_every_gradient() {
    for storage in [StorageDtype::F32, StorageDtype::Bf16, StorageDtype::F16] {
        let model = ModelConfig { d_model: 80, n_head: 4, d_ff: 96, vocab_size: 1021, ..small() };
        let count = model.parameters();
        assert!(count > 2 * 65_536, "{count} parameters");
        let train = TrainConfig { batch_size: 2, storage, ..TrainConfig::default() };
        let (inputs, targets) = (ids(10, 1021, 1), ids(10, 1021, 2));
        let mut trainer = block_on(gpu(), Trainer::new(gpu(), &run_config(model, train), &Options::default())).unwrap();
        trainer.step_on(&inputs, &targets).unwrap();
        let reported = f64::from(trainer.finish().unwrap()[0].grad_norm);
        let session = &trainer.session;
        let squares = |param: &params::Param| {
            let values = block_on(gpu(), session.read(&session.model.pools.grads(&param.name))).unwrap();
            values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
        };
        let scaled = session.model.pools.table.iter().map(squares).sum::<f64>().sqrt();
        let norm = scaled / f64::from(trainer.config().train.first_loss_scale(small().seq_len));
        assert!((reported / norm - 1.0).abs() < 1e-5, "{storage:?}: the norm is {norm}, reported is {reported}");
    }
}

/// Activations take half the bytes; sums and moments, which stay f32, are small in comparison.
#[test]
fn packed_types_halve_the_activations() {
    let model = ModelConfig { d_model: 64, n_head: 4, d_ff: 0, seq_len: 64, vocab_size: 77, n_layer: 4, ..small() };
    let of = |storage| {
        let config = run_config(model.clone(), TrainConfig { batch_size: 8, storage, ..TrainConfig::default() });
        let classes = Trainer::memory(gpu(), &config, &Options::default()).unwrap().classes;
        let class = |name: &str| classes.iter().filter(|(class, _)| *class == name).map(|(_, bytes)| *bytes).sum::<u64>();
        (class("activations"), class("statistics"), class("weights"))
    };
    let (whole, half) = (of(StorageDtype::F32), of(StorageDtype::Bf16));
    assert_eq!(half, of(StorageDtype::F16));
    assert!(2 * half.0 <= whole.0, "activations take {} bytes in f32, {} in bf16", whole.0, half.0);
    assert!(20 * half.1 <= half.0 + whole.1, "statistics take {} bytes beside {}", half.1, half.0);
    assert!(half.2 > whole.2 && 2 * half.2 <= 3 * whole.2 + 4096, "weights with their copy take {} bytes, {} without", half.2, whole.2);
}

/// Evaluation reads the weights of the last update, and evaluations between steps do not change the steps.
#[test]
fn packed_copies_are_of_the_last_update() {
    [StorageDtype::Bf16, StorageDtype::F16].into_iter().for_each(copies_are_of_the_last_update);
}

fn copies_are_of_the_last_update(storage: StorageDtype) {
    let config = run_config(small(), TrainConfig { batch_size: 2, grad_accumulation: 2, storage, ..TrainConfig::default() });
    let alone = trained(&config, &Options::default(), 6);
    let mut trainer = trained(&config, &Options::default(), 3);
    let store = TokenStore::from_ids(ids(43, 11, 9));
    let early = evaluate(&mut trainer.session, &store, 0, &|| false).unwrap().unwrap();
    for _ in 0..3 {
        trainer.step(&corpus(), false, &|| false).unwrap();
    }
    trainer.finish().unwrap();
    assert_eq!(bits(&alone), bits(&trainer));
    let late = evaluate(&mut trainer.session, &store, 0, &|| false).unwrap().unwrap();
    assert!(early.loss != late.loss, "three steps have changed nothing");
    let mut resumed = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    block_on(gpu(), resumed.restore(&block_on(gpu(), trainer.snapshot()).unwrap())).unwrap();
    let again = evaluate(&mut resumed.session, &store, 0, &|| false).unwrap().unwrap();
    assert_eq!(late.loss.to_bits(), again.loss.to_bits());
}

/// A loss scale at which gradients overflow in f16 is halved until they fit; the updates of those steps are skipped, and each is reported.
/// A run that is resumed in between continues with its scale, to the same bits.
#[test]
fn an_overflow_in_f16_is_skipped_and_the_scale_falls() {
    let train = TrainConfig { batch_size: 2, storage: StorageDtype::F16, loss_scale: 1 << 30, ..TrainConfig::default() };
    let config = run_config(small(), train);
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let first = block_on(gpu(), trainer.snapshot()).unwrap().weights;
    let mut reports = vec![];
    let mut snapshots = vec![];
    for _ in 0..40 {
        trainer.step(&corpus(), false, &|| false).unwrap();
        reports.extend(trainer.finish().unwrap());
        snapshots.push(block_on(gpu(), trainer.snapshot()).unwrap());
    }
    let mut scale = 2f32.powi(30);
    for (step, report) in reports.iter().enumerate() {
        assert_eq!((report.loss_scale, report.loss.is_finite()), (scale, true), "step {step}: {report:?}");
        let before = step.checked_sub(1).map_or(&first, |before| &snapshots[before].weights);
        assert_eq!(report.skipped(), *before == snapshots[step].weights, "step {step}: {report:?}");
        scale /= if report.skipped() { 2.0 } else { 1.0 };
    }
    let skipped = reports.iter().filter(|report| report.skipped()).count();
    assert!((5..25).contains(&skipped) && reports[0].skipped() && !reports[39].skipped(), "{skipped} steps were skipped");
    let good = reports.iter().rev().take_while(|report| !report.skipped()).count();
    let state = snapshots[39].state;
    assert_eq!((state.skipped as usize, state.updates as usize, state.good as usize), (skipped, 40 - skipped, good));
    assert_eq!(state.loss_scale, scale);

    let mut resumed = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    block_on(gpu(), resumed.restore(&snapshots[5])).unwrap();
    for _ in 6..40 {
        resumed.step(&corpus(), false, &|| false).unwrap();
    }
    resumed.finish().unwrap();
    assert_eq!(bits(&resumed), bits(&trainer));
}

/// At a loss scale of 1 nothing is left to halve: the run has diverged.
#[test]
fn a_gradient_that_overflows_at_a_scale_of_1_ends_the_run() {
    let train = TrainConfig { batch_size: 2, storage: StorageDtype::F16, loss_scale: 1, ..TrainConfig::default() };
    let config = run_config(small(), train);
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let mut snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    snapshot.weights.iter_mut().flatten().for_each(|weight| *weight *= 1e4);
    block_on(gpu(), trainer.restore(&snapshot)).unwrap();
    trainer.step(&corpus(), false, &|| false).unwrap();
    let error = trainer.finish().unwrap_err();
    assert!(matches!(error, Error::Diverged(_)), "{error}");
}
