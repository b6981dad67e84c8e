//! The measurements of `bench`.

use std::time::{Duration, Instant};

use super::report::{BenchRow, Rate};
use crate::cli::host_memory;
use crate::cli::profile::random_tokens;
use crate::error::{Error, Result};
use crate::generate::{Generator, Sampling};
use crate::gpu::Gpu;
use crate::gpu::options::Options;
use crate::gpu::plan::{Phase, Plan};
use crate::gpu::probe;
use crate::gpu::profile::summary::Roof;
use crate::gpu::profile::{Method, middle_mean};
use crate::gpu::tensor::Dtype;
use crate::gpu::tune;
use crate::gpu::wait::block_on;
use crate::model::ModelConfig;
use crate::model::params::{self, Init, Param};
use crate::model::session::Memory;
use crate::ops::matmul::{Block, Matmul};
use crate::random;
use crate::text::TokenStore;
use crate::train::config::{RunConfig, StorageDtype};
use crate::train::trainer::Trainer;

/// Rows, columns and inner length of the products: those of `shakespeare-char` on software adapters; on others a large square, and the
/// feed-forward layer of GPT-2 small with its weight gradient.
const PRODUCTS: [&[[usize; 3]]; 2] = [&[[512, 512, 512]], &[[4096, 4096, 4096], [8192, 3072, 768], [3072, 768, 8192]]];
/// Rounds in which the variants of a product take turns.
const ROUNDS: usize = 7;
/// Steps, prompts or tokens before the first measured one: drivers compile in them, and the runner learns how much work fits into a submit.
const WARM_UP: usize = 3;
/// The least number of runs that a rate is the mean of.
const RUNS: usize = 3;
/// The longest run between two waits, and the time that one should take, so that a fast card is not timed by its round trips.
const RUN: Duration = Duration::from_millis(200);
const LONGEST_RUN: usize = 1000;

/// Measures on one adapter, and collects rows.
pub struct Measurer<'a> {
    gpu: &'a Gpu,
    options: &'a Options,
    /// Of each measurement, at least.
    time: Duration,
    announce: &'a dyn Fn(&str),
    roof: Roof,
    rows: Vec<BenchRow>,
}

impl<'a> Measurer<'a> {
    /// Measures the roof.
    pub fn new(gpu: &'a Gpu, options: &'a Options, time: Duration, announce: &'a dyn Fn(&str)) -> Result<Measurer<'a>> {
        announce("the roof");
        let roof = probe::roof(gpu, Method::of(gpu))?;
        let row = |test: &str, per_second: f64, unit: &str| BenchRow::measured(test, "", Rate { per_second, unit: unit.to_owned() });
        let rows = vec![row("multiply-adds in registers", roof.flops, "FLOP"), row("copying memory", roof.bandwidth, "B")];
        Ok(Measurer { gpu, options, time, announce, roof, rows })
    }

    pub fn finish(self) -> Vec<BenchRow> {
        self.rows
    }

    /// y = x · Wᵀ in every variant that the adapter runs.
    pub fn products(&mut self) -> Result<()> {
        for &[rows, cols, inner] in PRODUCTS[usize::from(!self.gpu.traits().software)] {
            let test = format!("product {rows} x {cols} x {inner}");
            (self.announce)(&test);
            let plan = product([rows, cols, inner]);
            let flops = (2 * rows * cols * inner) as f64;
            for group in tune::groups(&[&plan], self.gpu) {
                let found = match group.measure(self.gpu, ROUNDS, &|_| None, &[], &mut |_| {}) {
                    Ok(found) => found,
                    Err(e) => {
                        self.refused(&test, "", e)?;
                        continue;
                    }
                };
                for candidate in found.candidates {
                    let row = match candidate.seconds {
                        Ok(seconds) => self.computing(&test, candidate.variant, flops / seconds, flops / seconds, "FLOP"),
                        Err(problem) => BenchRow::refused(&test, candidate.variant, problem),
                    };
                    self.rows.push(row);
                }
            }
        }
        Ok(())
    }

    /// Whole training steps, with activations in f32, in bf16 and in f16.
    pub fn training(&mut self, name: &str, config: &RunConfig) -> Result<()> {
        let test = format!("training {name}");
        for (storage, of) in [(StorageDtype::F32, "f32"), (StorageDtype::Bf16, "bf16"), (StorageDtype::F16, "f16")] {
            (self.announce)(&format!("{test} in {of}"));
            let mut config = config.clone();
            config.train.storage = storage;
            match self.steps(&config) {
                Ok((rate, flops, bytes)) => {
                    let tokens = (config.train.batch_size * config.model.seq_len) as f64;
                    let row = self.computing(&test, of, tokens * rate, flops * rate, "token");
                    self.rows.push(BenchRow { bytes: Some(bytes), ..row });
                }
                Err(e) => self.refused(&test, of, e)?,
            }
        }
        Ok(())
    }

    /// Steps per second, FLOPs of a step, and bytes on the device.
    fn steps(&self, config: &RunConfig) -> Result<(f64, f64, u64)> {
        let memory = Trainer::memory(self.gpu, config, self.options)?;
        host_memory::check(self.gpu, &memory)?;
        let mut trainer = block_on(self.gpu, Trainer::new(self.gpu, config, self.options))?;
        let data = random_tokens(config);
        let flops = trainer.session.compiled.works().iter().map(|work| work.flops as f64).sum();
        let rate = self.rate(&mut |steps| train(&mut trainer, &data, steps))?;
        // A step that diverged would not take the time of one that did not.
        trainer.finish()?;
        Ok((rate, flops, memory.total))
    }

    /// A prompt of half the context, and the tokens after it.
    pub fn decoding(&mut self, name: &str, config: &RunConfig) -> Result<()> {
        (self.announce)(&format!("prompts and decoding of {name}"));
        let (prompt, decoding) = (format!("prompt {name}"), format!("decoding {name}"));
        match self.generation(config) {
            Ok(([read, drawn], bytes)) => {
                for (test, per_second) in [(prompt, read), (decoding, drawn)] {
                    let row = BenchRow::measured(&test, "f32", Rate { per_second, unit: "token".to_owned() });
                    self.rows.push(BenchRow { bytes: Some(bytes), ..row });
                }
                Ok(())
            }
            Err(e) => self.refused(&decoding, "f32", e),
        }
    }

    /// Tokens of a prompt per second, tokens drawn per second, and bytes on the device.
    fn generation(&self, config: &RunConfig) -> Result<([f64; 2], u64)> {
        let bytes = Generator::memory(self.gpu, &config.model, self.options)?;
        // The weights are in this process's memory while they are written.
        host_memory::check(self.gpu, &Memory { total: 2 * bytes, ..Memory::default() })?;
        let mut generator = block_on(self.gpu, Generator::new(self.gpu, &config.model, &weights(&config.model), self.options))?;
        let half = (config.model.seq_len / 2).max(1);
        let ids: Vec<u32> = (0..half).map(|i| (i % config.model.vocab_size) as u32).collect();
        // The first token is drawn with the prompt; without it the prompt's passes might not have run.
        let mut read = |prompts: usize| {
            (0..prompts).try_for_each(|_| {
                generator.prompt(&ids, &Sampling::greedy())?;
                generator.next_tokens(1).map(drop)
            })
        };
        let prompts = self.rate(&mut read)?;
        let mut left = 0;
        let mut draw = |tokens: usize| {
            let mut missing = tokens;
            while missing > 0 {
                if left == 0 {
                    // A full context would be moved, which is work of another kind.
                    generator.prompt(&ids[..1], &Sampling::greedy())?;
                    left = (config.model.seq_len - 1).max(1);
                }
                let some = missing.min(left);
                generator.next_tokens(some)?;
                (missing, left) = (missing - some, left - some);
            }
            Ok(())
        };
        let tokens = self.rate(&mut draw)?;
        Ok(([prompts * half as f64, tokens], bytes))
    }

    /// How often per second the device does what `run` has it do that many times and waits for: the mean of the middle half of all runs.
    fn rate(&self, run: &mut dyn FnMut(usize) -> Result<()>) -> Result<f64> {
        run(WARM_UP)?;
        let begun = Instant::now();
        run(1)?;
        let count = (RUN.as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-6)).ceil().clamp(1.0, LONGEST_RUN as f64) as usize;
        let (mut seconds, begun) = (vec![], Instant::now());
        while seconds.len() < RUNS || begun.elapsed() < self.time {
            let begun = Instant::now();
            run(count)?;
            seconds.push(begun.elapsed().as_secs_f64() / count as f64);
        }
        Ok(1.0 / middle_mean(&seconds))
    }

    /// A row of work that is compared with the roof.
    fn computing(&self, test: &str, of: &str, per_second: f64, flops: f64, unit: &str) -> BenchRow {
        let row = BenchRow::measured(test, of, Rate { per_second, unit: unit.to_owned() });
        BenchRow { roof: Some(flops / self.roof.flops), ..row }
    }

    /// A row of what the adapter cannot do. A lost device ends the measurements.
    fn refused(&mut self, test: &str, of: &str, error: Error) -> Result<()> {
        match error {
            Error::DeviceLost(_) => Err(error),
            other => {
                self.rows.push(BenchRow::refused(test, of, other.to_string()));
                Ok(())
            }
        }
    }
}

/// Weights as large as initial ones. The numbers repeat, because drawing all of GPT-2's takes seconds.
fn weights(model: &ModelConfig) -> Vec<Vec<f32>> {
    const REPEATED: u64 = 65_537;
    let key = random::key(1, "bench");
    let numbers: Vec<f32> = (0..REPEATED).map(|index| (0.02 * random::normal(key, index)) as f32).collect();
    let of = |param: &Param| match param.init {
        Init::Constant(value) => vec![value; param.len()],
        Init::Normal(_) => numbers.iter().copied().cycle().take(param.len()).collect(),
    };
    params::table(model).iter().map(of).collect()
}

/// A plan of one product.
fn product([rows, cols, inner]: [usize; 3]) -> Plan {
    let mut plan = Plan::new();
    let x = plan.kept("x", &[rows, inner], Dtype::F32, "inputs");
    let weight = plan.kept("weight", &[cols, inner], Dtype::F32, "weights");
    let y = plan.kept("y", &[rows, cols], Dtype::F32, "results");
    plan.begin(Phase("product"));
    Matmul::new(Dtype::F32).forward(&mut plan, Block::whole(&x), Block::whole(&weight), None, Block::whole(&y));
    plan
}

fn train(trainer: &mut Trainer, data: &TokenStore, steps: usize) -> Result<()> {
    for _ in 0..steps {
        trainer.step(data, false, &|| false)?;
    }
    trainer.session.guest.runner.wait_for_all()
}
