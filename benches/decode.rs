//! Generated tokens per CPU-second, with the key/value cache and without, in one run on this machine's adapter.
//!
//!     cargo bench --bench decode
//!     cargo bench --bench decode -- vocab=512,ctx=256,d=128,heads=4,layers=4 128
//!     cargo bench --bench decode -- vocab=512,ctx=512,d=128,heads=4,layers=4 64 448
//!
//! Arguments: a shape, the number of tokens to generate greedily, and the number of ids in the prompt. The weights are untrained. The plan
//! without a cache runs the whole context for every token; it takes turns with the cached one, and the medians are compared. The time per
//! kernel of one token is printed first. On software adapters read the CPU column, and set LP_NUM_THREADS=1.

use std::collections::BTreeMap;
use std::time::Instant;

use cpu_time::ProcessTime;
use wgpt::low_level::gpu::run::Runner;
use wgpt::low_level::model::config::PositionEncoding;
use wgpt::low_level::model::decode::{DecodeModel, SAMPLE, TOKEN};
use wgpt::low_level::model::session::Session;
use wgpt::low_level::model::{Model, PREDICT, params};
use wgpt::low_level::ops::step::Step;
use wgpt::phases::FORWARD;
use wgpt::{Generator, Gpu, ModelConfig, Options, Request, Sampling, block_on};

/// Rounds in which the two plans take turns.
const ROUNDS: usize = 5;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let word = |index: usize, default: &str| words.get(index).cloned().unwrap_or(default.to_owned());
    let config = config(&word(0, "vocab=512,ctx=256,d=128,heads=4,layers=4"));
    let count: usize = word(1, "128").parse().expect("a number of tokens");
    let prompt: usize = word(2, "1").parse().expect("a length of the prompt");
    let gpu = pollster::block_on(Gpu::request(&Request::default())).expect("an adapter");
    println!("{} ({}), {count} tokens after {prompt}", gpu.info().name, gpu.info().driver_info);
    let weights: Vec<Vec<f32>> = params::table(&config).iter().map(|p| p.initial(1)).collect();
    let prompt: Vec<u32> = (1..=prompt as u32).map(|i| i % config.vocab_size as u32).collect();

    let begun = ProcessTime::now();
    let mut cached = block_on(&gpu, Generator::new(&gpu, &config, &weights, &Options::default())).expect("a generator");
    let mut plain = plain(&gpu, &config, &weights);
    generate(&mut cached, &prompt, count);
    recompute(&mut plain, &prompt);
    println!("ready after {:.2} CPU-s", begun.elapsed().as_secs_f64());
    kernels(&gpu, &config);

    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        cached.prompt(&prompt, &Sampling::greedy()).expect("a prompt");
        let first = cached.next_tokens(1).expect("a token").len();
        let timed = (Instant::now(), ProcessTime::now());
        let mut left = count - first;
        while left > 0 {
            left -= cached.next_few(left).expect("tokens").len();
        }
        let tokens = (count - first) as f64;
        with.push((tokens / timed.0.elapsed().as_secs_f64(), tokens / timed.1.elapsed().as_secs_f64()));
        let timed = (Instant::now(), ProcessTime::now());
        recompute(&mut plain, &prompt);
        without.push((1.0 / timed.0.elapsed().as_secs_f64(), 1.0 / timed.1.elapsed().as_secs_f64()));
    }
    let (with, without) = (median(with), median(without));
    println!("{:<16} {:>12} {:>12}", "tokens per", "second", "CPU-second");
    println!("{:<16} {:>12.1} {:>12.1}", "with cache", with.0, with.1);
    println!("{:<16} {:>12.1} {:>12.1}", "without", without.0, without.1);
    println!("{:<16} {:>12.1} {:>12.1}", "ratio", with.0 / without.0, with.1 / without.1);
}

/// Prints the time of one token by kernel: runs each of its commands alone, many times in a row, with an empty cache.
fn kernels(gpu: &Gpu, config: &ModelConfig) {
    let decoder = DecodeModel::new(config, gpu.traits()).expect("a plan");
    let compiled = block_on(gpu, decoder.plan.compile(gpu, &Options::default())).expect("a compiled plan");
    println!("{} dispatches a token", compiled.phase(TOKEN).len() + compiled.phase(SAMPLE).len());
    let mut runner = Runner::new(gpu);
    let mut sums: BTreeMap<String, (u32, [f64; 2])> = BTreeMap::new();
    for index in compiled.phase(TOKEN).chain(compiled.phase(SAMPLE)) {
        let kernel = compiled.label(index).rsplit(' ').next().unwrap_or_default().to_owned();
        let mut times = |count: usize| {
            let begun = (Instant::now(), ProcessTime::now());
            runner.run(&compiled, (0..count).map(|_| index..index + 1)).expect("a command");
            runner.wait_for_all().expect("a command");
            [begun.0.elapsed().as_secs_f64(), begun.1.elapsed().as_secs_f64()]
        };
        times(10);
        let (few, many) = (times(10), times(210));
        let (calls, seconds) = sums.entry(kernel).or_default();
        *calls += 1;
        for clock in 0..2 {
            seconds[clock] += (many[clock] - few[clock]) / 200.0;
        }
    }
    println!("{:<28} {:>6} {:>16} {:>16}", "kernel", "calls", "us a token", "CPU us a token");
    for (kernel, (calls, [wall, cpu])) in sums {
        println!("{kernel:<28} {calls:>6} {:>16.1} {:>16.1}", wall * 1e6, cpu * 1e6);
    }
}

fn config(name: &str) -> ModelConfig {
    let value = |key: &str| -> usize {
        let pair = name.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        pair.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} has no {key}="))
    };
    ModelConfig {
        n_layer: value("layers"),
        n_head: value("heads"),
        d_model: value("d"),
        seq_len: value("ctx"),
        vocab_size: value("vocab"),
        position: PositionEncoding::Learned,
        tied_head: false,
        ..ModelConfig::default()
    }
}

fn generate(generator: &mut Generator, prompt: &[u32], count: usize) {
    generator.prompt(prompt, &Sampling::greedy()).expect("a prompt");
    let mut left = count;
    while left > 0 {
        left -= generator.next_few(left).expect("tokens").len();
    }
}

fn plain(gpu: &Gpu, config: &ModelConfig, weights: &[Vec<f32>]) -> Session {
    let model = Model::inference(config, 1, gpu.traits()).expect("a plan");
    let session = block_on(gpu, Session::new(gpu, model, &Options::default())).expect("a session");
    block_on(gpu, session.write_weights(|index, _| Ok(weights[index].clone()))).expect("weights");
    session
}

/// One token without a cache: runs the whole context and reads the logits back.
fn recompute(session: &mut Session, prompt: &[u32]) {
    let context = session.model.config.seq_len;
    let mut frame = prompt[prompt.len().saturating_sub(context)..].to_vec();
    let pick = [frame.len() as u32 - 1];
    frame.resize(context, 0);
    let slot = session.model.inputs.slot(Step::default().with_dropout(0.0), &frame, &[], &[], &pick);
    session.run(&slot, &[FORWARD, PREDICT], &|| false).expect("a step");
    let logits = session.model.logits.clone().expect("logits");
    let logits = block_on(&session.gpu, session.compiled.read::<f32>(&logits)).expect("logits");
    assert!(logits.iter().all(|logit| logit.is_finite()));
}

/// The row with the median CPU rate.
fn median(mut rows: Vec<(f64, f64)>) -> (f64, f64) {
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    rows[rows.len() / 2]
}
