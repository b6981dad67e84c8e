//! Trains and generates on commands from stdin, so that a driver can time wgpt beside other trainers on one machine.
//!
//!     cargo run --release --example race -- S
//!     cargo run --release --example race -- vocab=512,ctx=64,d=128,heads=4,layers=4,batch=16
//!
//! It prints `READY <parameters>`, then answers lines: `step K` runs K training steps on one fixed batch and prints
//! `OK <seconds> <loss of the first> <loss of the last>`; `gen N` generates N tokens greedily from token 1 and prints
//! `OK <seconds> <first tokens>`; `quit` or the end of input ends it. The model is a pre-norm GPT with learned positions (256 rows), biases
//! and an untied head; AdamW with a constant learning rate of 1e-3, no clipping, no dropout.

use std::error::Error;
use std::io::BufRead;
use std::time::Instant;

use wgpt::low_level::model::params;
use wgpt::{Generator, Gpu, ModelConfig, Options, Request, RunConfig, Sampling, Trainer, block_on};

#[path = "../benches/common/shapes.rs"]
mod shapes;

/// Rows of the position table: the longest context of generation.
const POSITIONS: usize = 256;

struct Race {
    gpu: Gpu,
    trainer: Trainer,
    ids: Vec<u32>,
    targets: Vec<u32>,
    /// Created on first use, and again after training.
    generator: Option<Generator>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let shape = std::env::args().nth(1).ok_or("which shape? S, M, L or vocab=..,ctx=..,d=..,heads=..,layers=..,batch=..")?;
    let mut race = Race::new(&shapes::config(&shape)?)?;
    println!("READY {}", race.generator_config().parameters());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let begun = Instant::now();
        match command {
            "step" => {
                let [first, last] = race.train(count.parse()?)?;
                println!("OK {} {first} {last}", begun.elapsed().as_secs_f64());
            }
            "gen" => {
                let tokens = race.generate(count.parse()?)?;
                let head: Vec<String> = tokens.iter().take(8).map(u32::to_string).collect();
                println!("OK {} {}", begun.elapsed().as_secs_f64(), head.join(" "));
            }
            _ => break,
        }
    }
    Ok(())
}

impl Race {
    fn new(config: &RunConfig) -> Result<Race, Box<dyn Error>> {
        let gpu = pollster::block_on(Gpu::request(&Request::default()))?;
        eprintln!("{} ({})", gpu.info().name, gpu.info().driver_info);
        let trainer = block_on(&gpu, Trainer::new(&gpu, config, &Options { threads: 2, ..Options::default() }))?;
        let (ids, targets) = batch(&config.model, config.train.batch_size);
        Ok(Race { gpu, trainer, ids, targets, generator: None })
    }

    /// Runs `count` steps; returns the losses of the first and the last.
    fn train(&mut self, count: usize) -> Result<[f32; 2], Box<dyn Error>> {
        self.generator = None;
        for _ in 0..count {
            self.trainer.step_on(&self.ids, &self.targets)?;
        }
        let reports = self.trainer.finish()?;
        let (first, last) = (reports.first().ok_or("step needs a count above 0")?, &reports[reports.len() - 1]);
        Ok([first.loss, last.loss])
    }

    fn generate(&mut self, count: usize) -> Result<Vec<u32>, Box<dyn Error>> {
        if self.generator.is_none() {
            let config = self.generator_config();
            let weights = self.weights(&config)?;
            self.generator = Some(block_on(&self.gpu, Generator::new(&self.gpu, &config, &weights, &Options::default()))?);
        }
        let generator = self.generator.as_mut().ok_or("there is a generator")?;
        generator.prompt(&[1], &Sampling::greedy())?;
        Ok(generator.next_tokens(count)?)
    }

    /// The config of the trained model, with enough positions for generation.
    fn generator_config(&self) -> ModelConfig {
        let model = &self.trainer.config().model;
        ModelConfig { seq_len: model.seq_len.max(POSITIONS), ..model.clone() }
    }

    /// The trainer's weights; positions beyond its context keep their initial values.
    fn weights(&self, config: &ModelConfig) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let snapshot = block_on(&self.gpu, self.trainer.snapshot())?;
        let seed = self.trainer.config().train.seed;
        let mut weights = snapshot.weights;
        for (index, param) in params::table(config).iter().enumerate() {
            let trained = weights[index].len();
            weights[index].extend(&param.initial(seed)[trained..]);
        }
        Ok(weights)
    }
}

/// The fixed batch of the race: tokens of a linear congruential generator; row b holds those from b · (T + 1) on.
fn batch(model: &ModelConfig, rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut state = 42u32;
    let mut token = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % model.vocab_size as u32
    };
    let (mut ids, mut targets) = (vec![], vec![]);
    for _ in 0..rows {
        let row: Vec<u32> = (0..=model.seq_len).map(|_| token()).collect();
        ids.extend(&row[..model.seq_len]);
        targets.extend(&row[1..]);
    }
    (ids, targets)
}
