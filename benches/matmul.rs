//! The matrix products alone, every variant that this adapter runs, in GFLOP per second of wall and of CPU time.
//!
//!     cargo bench --bench matmul            # 1024³ and the shapes of training
//!     cargo bench --bench matmul -- tile_broadcast tile_registers
//!     cargo bench --bench matmul -- --record
//!
//! Variants take turns, so that a busy machine slows them alike; medians of the turns are printed. On software adapters read the CPU column.

use std::time::Instant;

use cpu_time::ProcessTime;
use wgpt::gpu::Gpu;
use wgpt::gpu::adapter::Request;
use wgpt::gpu::compile::{Compiled, Options};
use wgpt::gpu::plan::{Phase, Plan};
use wgpt::gpu::run::Runner;
use wgpt::gpu::tensor::Dtype;
use wgpt::gpu::variants::Choice;
use wgpt::gpu::wait::block_on;
use wgpt::ops::Ops;
use wgpt::ops::matmul::{Block, SOURCE};

#[path = "common/record.rs"]
mod record;

const RUN: Phase = Phase("run");
const ROUNDS: usize = 5;
/// Seconds of one turn.
const TURN: f64 = 0.4;

/// Rows, columns, inner.
const SIZES: &[[usize; 3]] = &[[1024, 1024, 1024], [1024, 512, 128], [1024, 128, 512], [2048, 1024, 256], [512, 128, 1024], [1, 512, 128]];

fn main() {
    let gpu = pollster::block_on(Gpu::request(&Request::default())).expect("an adapter");
    let mut record = record::Record::new(&gpu, "matmul");
    println!("{:<20} {:<18} {:>14} {:>18}", "rows x cols x inner", "variant", "GFLOP/s", "GFLOP/CPU-s");
    for size in SIZES {
        let plan = plan(*size);
        let name = format!("{}x{}x{}", size[0], size[1], size[2]);
        let mut contenders: Vec<_> = variants(&gpu).into_iter().map(|variant| Contender::new(&gpu, &plan, variant)).collect();
        for _ in 0..ROUNDS {
            contenders.iter_mut().for_each(|contender| contender.turn(plan.flops(RUN)));
        }
        for contender in &mut contenders {
            let (wall, cpu) = (median(&mut contender.wall), median(&mut contender.cpu));
            println!("{name:<20} {:<18} {wall:>14.2} {cpu:>18.2}", contender.variant);
            record.add(&format!("{name} {}", contender.variant), "GFLOP per CPU-second", cpu);
            record.add(&format!("{name} {}", contender.variant), "GFLOP per second", wall);
        }
    }
    record.finish();
}

/// The variants that run here, or those of them that were asked for.
fn variants(gpu: &Gpu) -> Vec<&'static str> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let able = SOURCE.variants.iter().filter(|variant| (variant.runs)(gpu.traits())).map(|variant| variant.name);
    able.filter(|name| asked.is_empty() || asked.iter().any(|other| other == name)).collect()
}

/// y = x · Wᵀ, once.
fn plan([rows, cols, inner]: [usize; 3]) -> Plan {
    let mut plan = Plan::new();
    let ops = Ops::new(32, Dtype::F32);
    let x = plan.kept("x", &[rows, inner], Dtype::F32, "inputs");
    let weight = plan.kept("weight", &[cols, inner], Dtype::F32, "weights");
    let y = plan.kept("y", &[rows, cols], Dtype::F32, "results");
    plan.begin(RUN);
    ops.matmul.forward(&mut plan, Block::whole(&x), Block::whole(&weight), None, Block::whole(&y));
    plan
}

struct Contender {
    variant: &'static str,
    compiled: Compiled,
    runner: Runner,
    /// GFLOP per second of each turn.
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Contender {
    fn new(gpu: &Gpu, plan: &Plan, variant: &'static str) -> Contender {
        let options = Options {
            variants: vec![Choice { kernel: SOURCE.file.to_owned(), class: None, variant: variant.to_owned() }],
            ..Options::default()
        };
        let compiled = block_on(gpu, plan.compile(gpu, &options)).expect("a plan");
        let mut contender = Contender { variant, compiled, runner: Runner::new(gpu), wall: vec![], cpu: vec![] };
        contender.repeat(1);
        contender
    }

    fn repeat(&mut self, count: usize) {
        let range = self.compiled.phase(RUN);
        self.runner.run(&self.compiled, (0..count).map(|_| range.clone()), |_| Ok(()), |_| (), &|_| false).expect("a run");
        self.runner.wait_for_all().expect("a run");
    }

    fn turn(&mut self, flops: u64) {
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        let mut count = 0;
        while wall.elapsed().as_secs_f64() < TURN {
            self.repeat(1);
            count += 1;
        }
        let work = flops as f64 * f64::from(count) / 1e9;
        self.wall.push(work / wall.elapsed().as_secs_f64());
        self.cpu.push(work / cpu.elapsed().as_secs_f64());
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
