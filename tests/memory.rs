//! Memory use is predicted exactly, and steps allocate nothing. The counters are global to the process, so this crate has one test.

mod common;

use common::gpu;
use wgpt::low_level::text::TokenStore;
use wgpt::low_level::train::evaluate;
use wgpt::{DataConfig, ModelConfig, Options, RunConfig, TokenizerConfig, TrainConfig, Trainer, block_on, presets};

#[test]
fn the_plan_predicts_every_buffer_and_steps_create_nothing() {
    let config = RunConfig {
        model: ModelConfig { n_layer: 2, vocab_size: 101, ..ModelConfig::default() },
        train: TrainConfig { batch_size: 4, grad_accumulation: 2, ..TrainConfig::default() },
        tokenizer: TokenizerConfig::default(),
        data: DataConfig::default(),
    };
    let data = TokenStore::from_ids((0..5000).map(|i| i * 31 % 101).collect());
    let predicted = Trainer::memory(gpu(), &config, &Options::default()).unwrap();
    let before = gpu().created();
    let counted = || gpu().device().get_internal_counters().hal;
    // wgpu creates a buffer of its own, which it drops after the first submit.
    gpu().queue().submit([]);
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let buffers_before = counted().buffers.read();
    let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let after = gpu().created();
    assert_eq!(after.bytes - before.bytes, predicted.total, "bytes created and predicted");
    assert_eq!(after.buffers - before.buffers, predicted.buffers, "buffers created and predicted");
    assert_eq!(predicted.classes.iter().map(|(_, bytes)| bytes).sum::<u64>(), predicted.total, "classes add up");
    gpu().device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(counted().buffers.read() - buffers_before, predicted.buffers as isize, "buffers that wgpu counts");

    let step = |trainer: &mut Trainer| {
        trainer.step(&data, true, &|| false).unwrap();
        trainer.reports().unwrap();
    };
    (0..10).for_each(|_| step(&mut trainer));
    let start = counted();
    for _ in 10..100 {
        step(&mut trainer);
        let now = counted();
        assert_eq!(now.buffers.read(), start.buffers.read(), "buffers");
        assert_eq!(now.bind_groups.read(), start.bind_groups.read(), "bind groups");
        assert_eq!(now.compute_pipelines.read(), start.compute_pipelines.read(), "pipelines");
    }
    trainer.finish().unwrap();
    evaluate(&mut trainer.session, &data, 0, &|| false).unwrap();
    assert_eq!(gpu().created(), after, "buffers created by a hundred steps and an evaluation");
    saving_creates_nothing();
    engines_of_one_kind_compile_once(&config);
}

/// Weights and moments are read back whole, or in pieces of the size that [`wgpt::low_level::model::session::Memory`] counts for saving.
fn saving_creates_nothing() {
    let model = ModelConfig { n_layer: 1, n_head: 1, d_model: 4, seq_len: 2, vocab_size: 65_601, ..ModelConfig::default() };
    let config = RunConfig { model, train: TrainConfig { batch_size: 1, ..TrainConfig::default() }, ..presets::preset("toy").unwrap() };
    let memory = Trainer::memory(gpu(), &config, &Options::default()).unwrap();
    let (_, saving) = *memory.classes.iter().find(|(class, _)| *class == "saving").unwrap();
    let trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
    let (created, counted) = (gpu().created(), || gpu().device().get_internal_counters().hal.buffers.read());
    let buffers = counted();
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    let pools = &trainer.session.model.pools;
    let mut largest = 0;
    for (param, whole) in pools.table.iter().zip(&snapshot.weights) {
        let mut read = vec![];
        let keep = &mut |piece: &[f32]| {
            largest = largest.max(size_of_val(piece));
            read.extend_from_slice(piece);
            assert_eq!(counted(), buffers, "buffers that wgpu counts while `{}` comes back", param.name);
            Ok(())
        };
        block_on(gpu(), trainer.session.read_pieces(&pools.weights(&param.name), keep)).unwrap();
        assert!(read == *whole, "`{}` in pieces is another than whole", param.name);
    }
    assert_eq!(largest as u64 * 2, saving, "one piece down and one up");
    assert_eq!(gpu().created(), created, "buffers created by saving");
}

/// Engines on one device share its compiled pipelines; those with wgpu's checks are compiled separately.
fn engines_of_one_kind_compile_once(config: &RunConfig) {
    let pipelines = || gpu().device().get_internal_counters().hal.compute_pipelines.read();
    let before = pipelines();
    let make = |checked: bool| block_on(gpu(), Trainer::new(gpu(), config, &Options { checked, ..Options::default() })).unwrap();
    let twins = (make(false), make(false));
    assert_eq!(pipelines(), before, "they were compiled again");
    drop(twins);
    make(false);
    assert_eq!(pipelines(), before, "they were thrown away");
    make(true);
    assert!(pipelines() > before, "checked kernels are others");
}
