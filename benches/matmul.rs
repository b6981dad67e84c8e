//! The matrix products alone, in every variant that this adapter runs, in GFLOP per second of wall time and of CPU time.
//!
//!     cargo bench --bench matmul            # 1024³ and the shapes of training
//!     cargo bench --bench matmul -- tile_broadcast tile_registers
//!     cargo bench --bench matmul -- tile_shared my_tile.wgsl     # a tile of your own, whole in one file, read when the bench starts
//!     cargo bench --bench matmul -- --record
//!
//! Variants take turns, so that other load slows all of them; prints the medians. On software adapters read the CPU column.

use std::time::Instant;

use cpu_time::ProcessTime;
use wgpt::low_level::gpu::Traits;
use wgpt::low_level::gpu::compile::Compiled;
use wgpt::low_level::gpu::kernel::{KernelSource, Variant};
use wgpt::low_level::gpu::plan::{Phase, Plan};
use wgpt::low_level::gpu::run::Runner;
use wgpt::low_level::gpu::tensor::{Dtype, Tensor};
use wgpt::low_level::gpu::variants::Choice;
use wgpt::low_level::ops::matmul::{Block, Matmul, SOURCE};
use wgpt::{Gpu, Options, Request, block_on};

#[path = "common/record.rs"]
mod record;

const RUN: Phase = Phase("run");
const ROUNDS: usize = 5;
/// Seconds of one turn, on software adapters and on GPUs.
const TURN: [f64; 2] = [0.4, 0.05];

/// Rows, columns, inner.
const SIZES: &[[usize; 3]] = &[[1024, 1024, 1024], [1024, 512, 128], [1024, 128, 512], [2048, 1024, 256], [512, 128, 1024], [1, 512, 128]];

/// The sizes for GPUs, which those above do not fill: a large square, then the products of nanogpt-char (64 x 256 tokens) and gpt2 (8 x
/// 1024 tokens).
const GPU_SIZES: &[[usize; 3]] = &[
    [4096, 4096, 4096],
    [16384, 1536, 384],
    [16384, 384, 1536],
    [1536, 384, 16384],
    [384, 384, 16384],
    [8192, 2304, 768],
    [8192, 768, 3072],
    [3072, 768, 8192],
    [8192, 50260, 768],
    [166, 50260, 768],
    [166, 768, 50260],
];

fn main() {
    // Includes cooperative matrices, if the adapter has them.
    let gpu = pollster::block_on(Gpu::request(&Request { experimental: true, ..Request::default() })).expect("an adapter");
    let mut record = record::Record::new(&gpu, "matmul");
    println!("{:<20} {:<18} {:>14} {:>18}", "rows x cols x inner", "variant", "GFLOP/s", "GFLOP/CPU-s");
    let source = source();
    let sizes = if gpu.traits().software { SIZES } else { GPU_SIZES };
    for size in sizes {
        let (plan, tensors) = plan(source, *size);
        let name = format!("{}x{}x{}", size[0], size[1], size[2]);
        let operands = [noise(tensors[0].len(), 1), noise(tensors[1].len(), 2)];
        let mut contenders: Vec<Contender> = vec![];
        for variant in variants(source, &gpu) {
            contenders.push(Contender::new(&gpu, &plan, variant, contenders.first()));
            if contenders.len() == 1 {
                tensors.iter().zip(&operands).for_each(|(tensor, data)| contenders[0].upload(&gpu, tensor, data));
            }
            let contender = contenders.last_mut().expect("the one just made");
            contender.repeat(1);
            contender.check(&gpu, &tensors, &operands);
            contender.find_batch(&gpu);
        }
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

/// The command line: names of variants, and files.
fn asked() -> Vec<String> {
    std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect()
}

/// The matrix products, with the tiles in the given files added to their own variants, so that trying a tile needs no rebuild.
fn source() -> &'static KernelSource {
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let of_file = |path: &String| {
        let text = leaked(std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}")));
        let name = std::path::Path::new(path).file_stem().expect("the name of a file").to_string_lossy().into_owned();
        let runs: fn(&Traits) -> bool =
            if text.contains("enable wgpu_cooperative_matrix") { |traits| traits.cooperative.is_some() } else { |_| true };
        Variant { name: leaked(name), text, storages: &[], runs, suits: |_, _| false }
    };
    let files: Vec<Variant> = asked().iter().filter(|arg| arg.ends_with(".wgsl")).map(of_file).collect();
    let variants = files.into_iter().chain(SOURCE.variants.iter().copied()).collect::<Vec<_>>();
    Box::leak(Box::new(KernelSource { variants: variants.leak(), ..SOURCE }))
}

/// The variants that run here; if some were named, only those.
fn variants(source: &'static KernelSource, gpu: &Gpu) -> Vec<&'static str> {
    let asked = asked();
    let is_asked = |name: &str| asked.iter().any(|other| other == name || other.ends_with(&format!("{name}.wgsl")));
    let able = source.variants.iter().filter(|variant| (variant.runs)(gpu.traits())).map(|variant| variant.name);
    able.filter(|name| asked.is_empty() || is_asked(name)).collect()
}

/// y = x · Wᵀ, once.
fn plan(source: &'static KernelSource, [rows, cols, inner]: [usize; 3]) -> (Plan, [Tensor; 3]) {
    let mut plan = Plan::new();
    let matmul = Matmul::with_source(source, Dtype::F32);
    let x = plan.kept("x", &[rows, inner], Dtype::F32, "inputs");
    let weight = plan.kept("weight", &[cols, inner], Dtype::F32, "weights");
    let y = plan.kept("y", &[rows, cols], Dtype::F32, "results");
    plan.begin(RUN);
    matmul.forward(&mut plan, Block::whole(&x), Block::whole(&weight), None, Block::whole(&y));
    (plan, [x, weight, y])
}

/// Numbers in [-1, 1), multiples of 1/256. Not zeros, because a device may multiply those faster than a model's numbers.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let bits = |i: u32| (i ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 23;
    (0..len as u32).map(|i| bits(i) as f32 / 256.0 - 1.0).collect()
}

struct Contender {
    variant: &'static str,
    compiled: Compiled,
    runner: Runner,
    /// Runs between two waits, so that the round trips do not dominate on a GPU.
    batch: usize,
    turn: f64,
    /// GFLOP per second of each turn.
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Contender {
    /// A contender that borrows the tensors of `first`, if there is one.
    fn new(gpu: &Gpu, plan: &Plan, variant: &'static str, first: Option<&Contender>) -> Contender {
        let lent = |first: &Contender| -> Vec<(String, wgpu::Buffer)> {
            let named = |name: &&str| (name.to_string(), first.compiled.buffer_named(name).expect("a buffer").clone());
            ["x", "weight", "y"].iter().map(named).collect()
        };
        let options = Options {
            variants: vec![Choice { kernel: SOURCE.file.to_owned(), class: None, variant: variant.to_owned() }],
            existing: first.map(lent).unwrap_or_default(),
            ..Options::default()
        };
        let compiled = block_on(gpu, plan.compile(gpu, &options)).expect("a plan");
        let turn = TURN[usize::from(!gpu.traits().software)];
        Contender { variant, compiled, runner: Runner::new(gpu), batch: 1, turn, wall: vec![], cpu: vec![] }
    }

    fn upload(&self, gpu: &Gpu, tensor: &Tensor, data: &[f32]) {
        block_on(gpu, self.compiled.write(tensor, data)).expect("an upload");
    }

    /// Compares some of y with sums in f64: a wrong tile can be fast. Skips results that are too large to read back within a second.
    fn check(&self, gpu: &Gpu, [_, _, y]: &[Tensor; 3], [x, weight]: &[Vec<f32>; 2]) {
        if y.bytes() > 1 << 28 {
            return;
        }
        let found = block_on(gpu, self.compiled.read::<f32>(y)).expect("a download");
        let (rows, cols) = (y.rows(), y.cols());
        let inner = x.len() / rows;
        for index in 0..64 {
            let (r, c) = (index * 7919 % rows, index * 104_729 % cols);
            let pairs = x[r * inner..][..inner].iter().zip(&weight[c * inner..][..inner]);
            let truth: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let (found, allowed) = (f64::from(found[r * cols + c]), 1e-3 * (inner as f64).sqrt());
            assert!((found - truth).abs() <= allowed, "{}: y[{r}, {c}] of {y:?} is {found}, and {truth} in f64", self.variant);
        }
    }

    fn find_batch(&mut self, gpu: &Gpu) {
        if !gpu.traits().software {
            let begun = Instant::now();
            self.repeat(20);
            self.batch = (0.02 / (begun.elapsed().as_secs_f64() / 20.0)).clamp(1.0, 2000.0) as usize;
        }
    }

    fn repeat(&mut self, count: usize) {
        let range = self.compiled.phase(RUN);
        self.runner.run(&self.compiled, (0..count).map(|_| range.clone())).expect("a run");
        self.runner.wait_for_all().expect("a run");
    }

    fn turn(&mut self, flops: u64) {
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        let mut count = 0usize;
        while wall.elapsed().as_secs_f64() < self.turn {
            self.repeat(self.batch);
            count += self.batch;
        }
        let work = flops as f64 * count as f64 / 1e9;
        self.wall.push(work / wall.elapsed().as_secs_f64());
        self.cpu.push(work / cpu.elapsed().as_secs_f64());
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
