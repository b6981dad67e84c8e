//! Training inside an application that owns the device and draws on it: `Limits::default()`, no features, its own encoders.

mod generator;
#[path = "../host/mod.rs"]
mod host;
mod misuse;
mod recover;
mod reports;

use std::sync::OnceLock;
use std::time::Duration;

use host::Host;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use wgpt::low_level::gpu::wait;
use wgpt::low_level::text::TokenStore;
use wgpt::phases::{BACKWARD, FORWARD, NORM, UPDATE};
use wgpt::{
    Batch, Budget, DataConfig, Error, Generator, Gpu, ModelConfig, Options, RunConfig, Sampling, StepReport, TokenizerConfig, TrainConfig,
    Trainer, block_on,
};

/// The only device of this process, from a host that requested no features.
fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(host::bare_device()))
}

fn config(seed: u64) -> RunConfig {
    RunConfig {
        model: ModelConfig {
            n_layer: 2,
            n_head: 2,
            d_model: 16,
            d_ff: 24,
            seq_len: 12,
            vocab_size: 29,
            dropout: 0.1,
            ..ModelConfig::default()
        },
        train: TrainConfig { batch_size: 3, grad_accumulation: 2, warmup_steps: 0, seed, ..TrainConfig::default() },
        tokenizer: TokenizerConfig::default(),
        data: DataConfig::default(),
    }
}

fn corpus() -> TokenStore {
    TokenStore::from_ids((0..600u32).map(|i| i.wrapping_mul(2_654_435_761).rotate_left(9) % 29).collect())
}

fn fine() -> Options {
    Options { fine: true, ..Options::default() }
}

fn trainer(config: &RunConfig, options: &Options) -> Trainer {
    block_on(gpu(), Trainer::new(gpu(), config, options)).unwrap()
}

fn weights(trainer: &Trainer) -> Vec<Vec<u32>> {
    let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
    let all = snapshot.weights.iter().chain(snapshot.moments.iter().flatten());
    all.map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

const STEPS: u64 = 5;

/// The same steps without a host.
fn alone(config: &RunConfig) -> (Vec<StepReport>, Vec<Vec<u32>>) {
    let mut trainer = trainer(config, &Options::default());
    (0..STEPS).for_each(|_| assert!(trainer.step(&corpus(), false, &|| false).unwrap()));
    (trainer.finish().unwrap(), weights(&trainer))
}

fn encoder() -> wgpu::CommandEncoder {
    gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

fn usage<T>(result: wgpt::Result<T>, part: &str) {
    match result {
        Err(error @ Error::Usage(_)) => assert!(error.to_string().contains(part), "{error}"),
        Err(error) => panic!("not a usage error: {error}"),
        Ok(_) => panic!("no error about {part}"),
    }
}

/// One frame: a slice and a picture in one encoder, which is submitted if `keep`.
fn frame(host: &Host, trainer: &mut Trainer, budget: Budget, keep: bool) -> usize {
    let mut encoder = encoder();
    let ticket = trainer.encode(&mut encoder, &corpus(), budget).unwrap();
    host.draw(&mut encoder);
    let dispatches = ticket.dispatches();
    if keep {
        gpu().queue().submit([encoder.finish()]);
        ticket.submitted();
    }
    dispatches
}

/// Runs frames until a trainer has finished and reported this many steps.
fn frames_until(host: &Host, trainer: &mut Trainer, steps: u64, mut next: impl FnMut() -> (Budget, bool)) -> Vec<StepReport> {
    let (mut reports, mut idle) = (vec![], 0);
    while reports.len() < steps as usize {
        let (budget, keep) = next();
        let dispatches = frame(host, trainer, budget.steps(steps - trainer.step_count()), keep);
        let before = reports.len();
        while let Some(report) = trainer.poll().unwrap() {
            reports.push(report);
        }
        let progress = dispatches > 0 || reports.len() > before;
        idle = if progress { 0 } else { idle + 1 };
        assert!(idle < 20_000, "no progress in {idle} frames at step {}", trainer.step_count());
        if !progress {
            // A host sleeps until its next frame.
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    reports
}

#[test]
fn any_slicing_between_frames_gives_the_bits_of_training_alone() {
    let host = Host::new(gpu());
    for seed in 0..6 {
        let config = config(seed);
        let (expected, bits) = alone(&config);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let options = [fine(), Options { max_groups: 2, ..Options::default() }, Options::default()][seed as usize % 3].clone();
        let mut trainer = trainer(&config, &options);
        let waits = wait::waits();
        let reports = frames_until(&host, &mut trainer, STEPS, || {
            let budget = match rng.random_range(0..4) {
                0 => Budget::dispatches(rng.random_range(0..5)),
                1 => Budget::dispatches(rng.random_range(1..300)),
                2 => Budget::time(Duration::from_micros(rng.random_range(0..3000))),
                _ => Budget::default(),
            };
            (budget, rng.random_range(0..3) > 0)
        });
        assert_eq!(wait::waits(), waits, "a guest waited");
        assert_eq!(reports, expected);
        assert_eq!((trainer.step_count(), trainer.next_phase()), (STEPS, None));
        assert!(weights(&trainer) == bits, "weights or moments differ");
    }
    host.check();
}

#[test]
fn two_models_share_a_device_and_one_leaves_mid_step() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&config(1));
    let mut stays = trainer(&config(1), &fine());
    let mut leaves = Some(trainer(&config(2), &fine()));
    let mut frames = 0;
    let mut budget = || {
        frames += 1;
        if let Some(other) = &mut leaves {
            frame(&host, other, Budget::dispatches(9), true);
            other.poll().unwrap();
            if frames > 12 && other.next_phase().is_some() {
                leaves = None;
            }
        }
        (Budget::dispatches(20), true)
    };
    assert_eq!(frames_until(&host, &mut stays, STEPS, &mut budget), expected);
    assert!(leaves.is_none() && weights(&stays) == bits);
    host.check();
}

#[test]
fn a_step_stops_at_the_seam_where_a_host_writes_gradients_and_weights() {
    let host = Host::new(gpu());
    let config = RunConfig { train: TrainConfig { grad_accumulation: 1, ..config(3).train }, ..config(3) };
    let mut trainer = trainer(&config, &fine());
    assert!(!trainer.at_seam());
    while !trainer.at_seam() {
        frame(&host, &mut trainer, Budget::dispatches(17).before(NORM), true);
        trainer.poll().unwrap();
    }
    assert_eq!(trainer.next_phase(), Some(NORM));
    let [wte] = &trainer.view("wte").unwrap()[..] else { panic!("one table") };
    let [dwte] = &trainer.view("grads.wte").unwrap()[..] else { panic!("one table") };
    assert_eq!((wte.shape.as_slice(), dwte.shape.as_slice()), (&[29, 16][..], &[29, 16][..]));
    let before = host.read(wte);
    assert!(host.read(dwte).iter().any(|&value| value != 0.0));
    // The host's own pass doubles the weights and zeroes their gradient.
    host.scale(wte, 2.0);
    host.scale(dwte, 0.0);
    assert!(trainer.finish().is_ok());
    while trainer.next_phase().is_some() {
        frame(&host, &mut trainer, Budget::default().steps(1), true);
        trainer.poll().unwrap();
    }
    trainer.finish().unwrap();
    // With a zero gradient AdamW only applies weight decay.
    let decay = 1.0 - config.train.learning_rate * config.train.weight_decay;
    for (after, before) in host.read(wte).iter().zip(&before) {
        let expected = 2.0 * f64::from(*before) * decay;
        assert!((f64::from(*after) - expected).abs() <= 1e-6 * expected.abs() + 1e-9, "{after} is not {expected}");
    }
    host.check();
}

#[test]
fn what_is_looked_at_is_kept_or_copied() {
    let host = Host::new(gpu());
    let options = Options { keep: vec!["h.1.attn.qkv".into(), "h.1.attn.lse".into()], ..fine() };
    let mut trainer = trainer(&config(4), &options);
    let tapped = block_on(gpu(), trainer.tap("h.1.attn.qkv", FORWARD)).unwrap();
    let weights = block_on(gpu(), trainer.tap("wte", BACKWARD)).unwrap();
    frames_until(&host, &mut trainer, 2, || (Budget::dispatches(7), true));
    let [kept] = &trainer.view("h.1.attn.qkv").unwrap()[..] else { panic!("one tensor") };
    assert_eq!(kept.shape, [36, 48]);
    assert!(host.read(kept) == host.read(&tapped) && host.read(kept).iter().any(|&value| value != 0.0));
    // The copy was made before the update, so it differs from what the table holds now.
    assert!(host.read(&weights) != host.read(&trainer.view("wte").unwrap()[0]));
    for (name, part) in
        [("h.0.attn.qkv", "name it in Options::keep"), ("h.0.atn.qkv", "the nearest is `h.0.attn.qkv"), ("grads.x", "no tensor")]
    {
        let error = trainer.view(name).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = block_on(gpu(), trainer.tap("h.0.mlp.fc", UPDATE)).unwrap_err().to_string();
    assert!(error.contains("is not in memory at the end of phase update"), "{error}");
    let unknown = Options { keep: vec!["nonsense".into()], ..Options::default() };
    let error = Trainer::memory(gpu(), &config(4), &unknown).unwrap_err().to_string();
    assert!(error.contains("`nonsense` is to be kept"), "{error}");
    host.check();
}

#[test]
fn a_map_of_attention_is_causal_and_its_rows_sum_to_one() {
    let host = Host::new(gpu());
    let mut trainer = trainer(&config(5), &fine());
    let at = wgpt::low_level::train::AttentionAt { layer: 1, head: 1, sample: 2 };
    let map = block_on(gpu(), trainer.show_attention(Some(at))).unwrap().unwrap();
    assert_eq!(map.shape, [12, 12]);
    frames_until(&host, &mut trainer, 1, || (Budget::dispatches(11), true));
    // Read back from the texture that a fragment shader rendered it into.
    let picture = host.picture(&map);
    for (row, values) in picture.chunks(12).enumerate() {
        assert!(values[row + 1..].iter().all(|&value| value == 0.0), "row {row} looks ahead: {values:?}");
        assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5 && values.iter().all(|&value| value >= 0.0), "row {row}: {values:?}");
    }
    let bad = wgpt::low_level::train::AttentionAt { head: 2, ..at };
    let error = block_on(gpu(), trainer.show_attention(Some(bad))).unwrap_err().to_string();
    assert!(error.contains("there is no head 2"), "{error}");
    host.check();
}

#[test]
fn learning_rate_and_batches_change_between_steps() {
    let host = Host::new(gpu());
    let config = RunConfig { train: TrainConfig { grad_accumulation: 1, ..config(6).train }, ..config(6) };
    let mut trainer = trainer(&config, &fine());
    let (ids, targets) = (vec![3; 36], vec![4; 36]);
    let mut losses = vec![];
    for step in 0..60 {
        trainer.set_learning_rate(if step < 30 { 1e-9 } else { 1e-2 }).unwrap();
        while trainer.step_count() == step {
            trainer.advance(Batch::Given { ids: &ids, targets: &targets }, Budget::dispatches(40)).unwrap();
            while let Some(report) = trainer.poll().unwrap() {
                losses.push(report.loss);
            }
        }
    }
    losses.extend(trainer.finish().unwrap().iter().map(|report| report.loss));
    assert_eq!(losses.len(), 60);
    assert!(losses[29] > 2.0 && losses[59] < 0.5, "{losses:?}");
    assert!(trainer.set_learning_rate(f64::NAN).unwrap_err().to_string().contains("learning_rate"));
    let short = Batch::Given { ids: &ids[1..], targets: &targets };
    assert!(trainer.advance(short, Budget::default()).unwrap_err().to_string().contains("35 ids and 36 targets"));
    host.check();
}

#[test]
fn a_model_that_does_not_fit_is_an_error_before_anything_is_allocated() {
    let _host = Host::new(gpu());
    let created = gpu().created();
    let model =
        ModelConfig { n_layer: 2, n_head: 64, d_model: 8192, d_ff: 32768, seq_len: 64, vocab_size: 50257, ..ModelConfig::default() };
    let large = RunConfig { model, ..config(1) };
    let error = Trainer::memory(gpu(), &large, &fine()).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    assert!(block_on(gpu(), Trainer::new(gpu(), &large, &fine())).is_err());
    assert_eq!(gpu().created(), created);
    assert!(Trainer::memory(gpu(), &config(1), &fine()).unwrap().total > 0);
}

/// If the device has timestamps, slices are timed by them, and nothing else changes.
#[test]
fn timestamps_around_slices_change_no_bit() {
    let host = Host::new(gpu());
    let (expected, bits) = alone(&config(8));
    let own = pollster::block_on(host::device_with(wgpu::Features::TIMESTAMP_QUERY));
    let mut trainer = block_on(&own, Trainer::new(&own, &config(8), &fine())).unwrap();
    let mut reports = vec![];
    let (waits, begun) = (wait::waits(), std::time::Instant::now());
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    while reports.len() < STEPS as usize {
        let mut encoder = own.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let budget = Budget::time(Duration::from_micros(rng.random_range(0..2000))).steps(STEPS - trainer.step_count());
        let ticket = trainer.encode(&mut encoder, &corpus(), budget).unwrap();
        if rng.random_range(0..4) > 0 {
            own.queue().submit([encoder.finish()]);
            ticket.submitted();
        }
        reports.extend(trainer.poll().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(60), "no progress at step {}", trainer.step_count());
    }
    assert_eq!(wait::waits(), waits, "a guest waited");
    assert_eq!(reports, expected);
    let snapshot = block_on(&own, trainer.snapshot()).unwrap();
    let own_bits = snapshot.weights.iter().chain(snapshot.moments.iter().flatten()).map(|v| v.iter().map(|x| x.to_bits()).collect());
    assert!(own_bits.collect::<Vec<Vec<u32>>>() == bits, "weights or moments differ");
    host.check();
}

/// On a lost device every call returns an error that says so, without a panic, wherever the device was lost.
#[test]
fn a_lost_device_is_an_error_value() {
    let host = Host::new(gpu());
    let own = pollster::block_on(host::bare_device());
    let mut trainer = block_on(&own, Trainer::new(&own, &config(1), &fine())).unwrap();
    let weights = trainer.shared_weights();
    let mut generator = block_on(&own, Generator::sharing(&own, &weights, &fine())).unwrap();
    generator.begin(&[1, 2, 3], &Sampling::default(), 4).unwrap();
    trainer.advance(&corpus(), Budget::dispatches(5)).unwrap();
    generator.advance(Budget::default()).unwrap();
    own.device().destroy();
    let lost = |result: Result<(), Error>| match result {
        Err(Error::DeviceLost(said)) => assert!(said.contains(" was lost (it does not respond)"), "{said}"),
        other => panic!("{other:?}"),
    };
    // The first call that notices, with work in flight, reports the loss.
    lost(block_on(&own, trainer.snapshot()).map(drop));
    lost(trainer.advance(&corpus(), Budget::dispatches(5)));
    lost(trainer.poll().map(drop));
    lost(trainer.finish().map(drop));
    lost(trainer.step(&corpus(), true, &|| false).map(drop));
    lost(generator.poll().map(drop));
    lost(generator.next_tokens(1).map(drop));
    lost(generator.advance(Budget::default()));
    lost(block_on(&own, Trainer::new(&own, &config(1), &fine())).map(drop));
    drop((trainer, generator));
    host.check();
}

/// A call that only polls notices too.
#[test]
fn polling_finds_a_lost_device() {
    let host = Host::new(gpu());
    let own = pollster::block_on(host::bare_device());
    let mut trainer = block_on(&own, Trainer::new(&own, &config(1), &fine())).unwrap();
    trainer.advance(&corpus(), Budget::dispatches(5)).unwrap();
    own.device().destroy();
    let mut failed = None;
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(10));
        failed = trainer.advance(&corpus(), Budget::dispatches(5)).and_then(|()| trainer.poll()).err();
        if failed.is_some() {
            break;
        }
    }
    let error = failed.expect("a lost device goes unnoticed");
    assert!(matches!(error, Error::DeviceLost(_)) && error.to_string().contains(" was lost ("), "{error}");
    drop(trainer);
    host.check();
}
