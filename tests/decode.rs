//! Compares decoding with a cache to the plan without one, for every option, across chunk and context borders; tests invalid uses.

mod common;

use common::gpu;
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::model::config::{Norm, PositionEncoding};
use wgpt::low_level::model::session::Session;
use wgpt::low_level::model::{Model, PREDICT, params};
use wgpt::low_level::ops::matmul::Activation;
use wgpt::low_level::ops::step::Step;
use wgpt::low_level::reference::finite_diff;
use wgpt::low_level::text::TokenStore;
use wgpt::low_level::train::config::StorageDtype;
use wgpt::phases::FORWARD;
use wgpt::{Error, Generator, Gpu, ModelConfig, Options, Request, RunConfig, Sampling, TrainConfig, Trainer, block_on, presets};

fn small() -> ModelConfig {
    ModelConfig { n_layer: 2, n_head: 2, d_model: 16, d_ff: 24, seq_len: 13, vocab_size: 37, ..ModelConfig::default() }
}

/// Weights with which a model clearly prefers some tokens: norms around 1, the rest in [-1/2, 1/2).
fn weights(config: &ModelConfig) -> Vec<Vec<f32>> {
    let values = |(index, param): (usize, params::Param)| {
        let offset = if param.name.contains("ln_") && param.name.ends_with("weight") { 1.0 } else { 0.0 };
        finite_diff::noise(param.len(), index as u32 + 1).into_iter().map(|x| (offset + 0.5 * x) as f32).collect()
    };
    params::table(config).into_iter().enumerate().map(values).collect()
}

fn generator(config: &ModelConfig) -> Generator {
    block_on(gpu(), Generator::new(gpu(), config, &weights(config), &Options::default())).unwrap()
}

fn ids(count: usize, vocab: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % vocab as u32).collect()
}

/// The plan without a cache, which computes the whole context for each token.
struct Plain(Session);

impl Plain {
    fn new(config: &ModelConfig) -> Plain {
        let model = Model::inference(config, 1, gpu().traits()).unwrap();
        let session = block_on(gpu(), Session::new(gpu(), model, &Options::default())).unwrap();
        let weights = weights(config);
        block_on(gpu(), session.write_weights(|index, _| Ok(weights[index].clone()))).unwrap();
        Plain(session)
    }

    fn logits(&mut self, window: &[u32]) -> Vec<f32> {
        let model = &self.0.model;
        let mut frame = window.to_vec();
        frame.resize(model.config.seq_len, 0);
        let slot = model.inputs.slot(Step::default().with_dropout(0.0), &frame, &[], &[], &[window.len() as u32 - 1]);
        self.0.run(&slot, &[FORWARD, PREDICT], &|| false).unwrap();
        let logits = self.0.model.logits.clone().unwrap();
        let mut read = block_on(gpu(), self.0.compiled.read::<f32>(&logits)).unwrap();
        read.truncate(self.0.model.config.vocab_size);
        read
    }

    /// Greedy tokens, with the same sliding window: when the context is full, its older half is dropped.
    fn greedy(&mut self, prompt: &[u32], count: usize) -> Vec<u32> {
        let context = self.0.model.config.seq_len;
        let mut sequence = prompt.to_vec();
        let mut window = sequence.len().saturating_sub(context);
        for _ in 0..count {
            if sequence.len() - window > context {
                window = sequence.len() - context.div_ceil(2);
            }
            let logits = self.logits(&sequence[window..]);
            let mut best = 0;
            for id in 0..logits.len() {
                if logits[id] > logits[best] {
                    best = id;
                }
            }
            sequence.push(best as u32);
        }
        sequence.split_off(prompt.len())
    }
}

/// `count` tokens, requested at most `most` at a time.
fn drawn(generator: &mut Generator, prompt: &[u32], sampling: &Sampling, count: usize, most: usize) -> Vec<u32> {
    generator.prompt(prompt, sampling).unwrap();
    let mut tokens = vec![];
    while tokens.len() < count {
        let most = most.min(count - tokens.len());
        let next = generator.next_few(most).unwrap();
        assert!((1..=most).contains(&next.len()), "{} tokens", next.len());
        tokens.extend(next);
    }
    tokens
}

#[test]
fn greedy_tokens_are_those_without_a_cache() {
    let learned = ModelConfig { position: PositionEncoding::Learned, ..small() };
    let cases = [
        ("default", small()),
        ("learned positions", learned.clone()),
        ("post-norm", ModelConfig { norm: Norm::Post, ..small() }),
        ("post-norm, learned, relu", ModelConfig { norm: Norm::Post, activation: Activation::Relu, ..learned.clone() }),
        ("no biases, untied", ModelConfig { bias: false, tied_head: false, ..learned.clone() }),
        ("a context of one", ModelConfig { seq_len: 1, ..learned }),
    ];
    for (name, config) in cases {
        let (mut plain, mut cached) = (Plain::new(&config), generator(&config));
        for length in [1, 5, 12, 13, 14, 40] {
            let prompt = ids(length, config.vocab_size);
            let want = plain.greedy(&prompt, 30);
            assert_eq!(drawn(&mut cached, &prompt, &Sampling::greedy(), 30, 64), want, "{name}, prompt of {length}");
            assert!(cached.slides() > 0, "{name}: 30 tokens do not fit a context of {}", config.seq_len);
        }
    }
}

/// Prompts longer than one prefill, and more tokens than the ring holds.
#[test]
fn long_prompts_and_many_tokens() {
    let config = ModelConfig { seq_len: 150, position: PositionEncoding::Learned, ..small() };
    let (mut plain, mut cached) = (Plain::new(&config), generator(&config));
    assert!(cached.decoder.chunk() < 65, "{}", cached.decoder.chunk());
    for (length, count) in [(1, 149), (63, 3), (64, 3), (65, 3), (131, 40)] {
        let prompt = ids(length, config.vocab_size);
        let want = plain.greedy(&prompt, count);
        assert_eq!(drawn(&mut cached, &prompt, &Sampling::greedy(), count, 1000), want, "prompt of {length}");
    }
    let prompt = ids(131, config.vocab_size);
    let (got, want) = (cached.logits(&prompt).unwrap(), plain.logits(&prompt));
    let wide = |logits: &[f32]| logits.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    finite_diff::assert_close("logits", &wide(&got), &wide(&want), 1e-4, 1e-4);
}

/// Records a plan with tables split in parts, and decodes with a vocabulary that is no multiple of 4.
#[test]
fn split_tables() {
    let config = ModelConfig { vocab_size: 101, position: PositionEncoding::Learned, ..small() };
    let mut cached = generator(&config);
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 4096, ..wgpu::Limits::default() };
    let plan = wgpt::low_level::model::decode::DecodeModel::new(&config, &Traits { limits, ..gpu().traits().clone() }).unwrap();
    assert!(plan.pools.weights("wte").len() > 1);
    let want = Plain::new(&config).greedy(&[1, 2, 3], 9);
    assert_eq!(drawn(&mut cached, &[1, 2, 3], &Sampling::greedy(), 9, 64), want);
}

/// The same seed gives the same tokens in requests of any size, another seed gives others; only allowed ids are drawn.
#[test]
fn drawn_tokens_depend_on_the_seed_alone() {
    let mut cached = generator(&small());
    block_on(gpu(), cached.forbid(&[3, 17])).unwrap();
    let sampling = Sampling { temperature: 5.0, ..Sampling::default() };
    let first = drawn(&mut cached, &[1], &sampling, 80, 64);
    assert_eq!(first, drawn(&mut cached, &[1], &sampling, 80, 1));
    assert_eq!(first, drawn(&mut cached, &[1], &sampling, 80, 7));
    assert_ne!(first, drawn(&mut cached, &[1], &Sampling { seed: 2, ..sampling.clone() }, 80, 64));
    assert!(!first.contains(&3) && !first.contains(&17));
    let greedy = drawn(&mut cached, &[1], &Sampling::greedy(), 40, 64);
    assert_eq!(greedy, drawn(&mut cached, &[1], &Sampling { top_k: 1, ..sampling.clone() }, 40, 64));
    assert_eq!(greedy, drawn(&mut cached, &[1], &Sampling { top_p: 1e-6, ..sampling }, 40, 64));
    let logits = cached.logits(&[1]).unwrap();
    assert_eq!((logits[3], logits[17]), (f32::NEG_INFINITY, f32::NEG_INFINITY));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut cached = generator(&small());
    let said = |result: wgpt::Result<()>| match result {
        Err(Error::Usage(said)) => said.to_string(),
        other => panic!("{other:?}"),
    };
    let greedy = Sampling::greedy();
    assert!(said(cached.next_tokens(1).map(drop)).contains("no prompt"));
    assert!(said(cached.prompt(&[], &greedy)).contains("empty"));
    assert!(said(cached.prompt(&[1, 37], &greedy)).contains("37 is out of range: the vocabulary has ids 0 to 36"));
    assert!(said(cached.prompt(&[1], &Sampling { temperature: -1.0, ..greedy.clone() })).contains("temperature = -1"));
    assert!(said(cached.prompt(&[1], &Sampling { temperature: f64::NAN, ..greedy.clone() })).contains("temperature = NaN"));
    assert!(said(cached.prompt(&[1], &Sampling { top_p: 0.0, ..greedy.clone() })).contains("top_p = 0"));
    assert!(said(block_on(gpu(), cached.forbid(&[99]))).contains("99 is out of range"));
    assert!(said(block_on(gpu(), cached.forbid(&ids_below(37)))).contains("at least one must be left"));
    let odd = ModelConfig { d_model: 10, ..small() };
    assert!(said(wgpt::low_level::model::decode::DecodeModel::new(&odd, gpu().traits()).map(drop)).contains("d_model"));
}

fn ids_below(end: u32) -> Vec<u32> {
    (0..end).collect()
}

/// Damaged weights are reported as such, by sampling and by logits.
#[test]
fn logits_that_are_not_finite() {
    let config = small();
    let mut broken = weights(&config);
    broken[0][5 * 16] = f32::NAN;
    let mut cached = block_on(gpu(), Generator::new(gpu(), &config, &broken, &Options::default())).unwrap();
    cached.prompt(&[1], &Sampling::greedy()).unwrap();
    let said = |error: Error| matches!(&error, Error::Diverged(said) if said.contains("the logit of token 5 is not a finite number"));
    assert!(said(cached.next_tokens(5).unwrap_err()));
    assert!(said(cached.logits(&[1]).unwrap_err()));
}

/// A generator that borrows a trainer's weights, of either element type, agrees with one on its snapshot.
#[test]
fn weights_in_place_are_those_of_a_snapshot() {
    for storage in [StorageDtype::F32, StorageDtype::Bf16, StorageDtype::F16] {
        for tied_head in [true, false] {
            // No table is a whole number of slices, in f32 or in bf16.
            let model = ModelConfig { d_model: 24, tied_head, position: PositionEncoding::Learned, dropout: 0.1, ..small() };
            let train = TrainConfig { batch_size: 2, warmup_steps: 0, learning_rate: 0.02, storage, ..TrainConfig::default() };
            let config = RunConfig { model: model.clone(), train, ..presets::preset("toy").unwrap() };
            let store = TokenStore::from_ids(ids(400, model.vocab_size));
            let mut trainer = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap();
            (0..20).for_each(|_| assert!(trainer.step(&store, false, &|| false).unwrap()));
            trainer.finish().unwrap();
            let snapshot = block_on(gpu(), trainer.snapshot()).unwrap();
            let mut copied = block_on(gpu(), Generator::new(gpu(), &model, &snapshot.weights, &Options::default())).unwrap();
            let weights = trainer.shared_weights();
            let mut shared = block_on(gpu(), Generator::sharing(gpu(), &weights, &Options::default())).unwrap();
            assert_eq!(shared.logits(&[1, 2, 3]).unwrap(), copied.logits(&[1, 2, 3]).unwrap(), "{storage:?}, tied {tied_head}");
            let tokens = |generator: &mut Generator| drawn(generator, &[1, 2, 3], &Sampling::default(), 40, 40);
            assert_eq!(tokens(&mut shared), tokens(&mut copied), "{storage:?}, tied {tied_head}");
        }
    }
}

#[test]
fn weights_of_another_device_are_refused() {
    let config = RunConfig { model: small(), ..presets::preset("toy").unwrap() };
    let weights = block_on(gpu(), Trainer::new(gpu(), &config, &Options::default())).unwrap().shared_weights();
    let other = block_on(gpu(), Gpu::request(&Request::default())).unwrap();
    let refused = block_on(&other, Generator::sharing(&other, &weights, &Options::default())).err().unwrap().to_string();
    assert!(refused.contains("on another device"), "{refused}");
}
