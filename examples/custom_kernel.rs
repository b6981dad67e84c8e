//! A custom kernel: its WGSL, its reference implementation, a plan that records it, and its time.
//!
//!     cargo run --release --example custom_kernel

use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::kernel::{KernelFile, KernelSource, SINGLE};
use wgpt::low_level::gpu::plan::{Phase, Plan};
use wgpt::low_level::gpu::profile::Profiler;
use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::{Gpu, Options, Request, block_on};

/// Squared ReLU, y = max(0, x)² (So et al. 2021, Primer). An operation of the engine has this text in a file of `shaders/`.
const SOURCE: KernelSource = KernelSource { file: "squared_relu", text: TEXT, shared: &[], variants: SINGLE };

const TEXT: &str = "
struct Dims {
    first_group: u32, // the host cuts a large grid into several launches
    rows: u32,
}
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>; //       (rows)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows)

const ROWS_PER_GROUP: u32 = 64u;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * ROWS_PER_GROUP + lane;
    if i < dims.rows {
        let positive = max(x[i], 0.0);
        y[i] = positive * positive;
    }
}
";

/// The reference implementation, in f64.
fn squared_relu(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x).max(0.0).powi(2)).collect()
}

const PHASE: Phase = Phase("example");
const ROWS: usize = 1_000_003;

fn main() -> wgpt::Result<()> {
    // Record the plan. Bindings are given by name; naga reflects their names, element types and access from the WGSL.
    let kernel = KernelFile::load(&SOURCE).kernel("forward");
    let mut plan = Plan::new();
    let [x, y] = ["x", "y"].map(|name| plan.kept(name, &[ROWS], Dtype::F32, "example"));
    plan.begin(PHASE);
    plan.push(&kernel, Extent::rows(ROWS), 2 * ROWS as u64, &[("rows", ROWS.into())], &[("x", &x), ("y", &y)]);

    let gpu = pollster::block_on(Gpu::request(&Request { timestamps: true, ..Request::default() }))?;
    let compiled = block_on(&gpu, plan.compile(&gpu, &Options::default()))?;
    let input: Vec<f32> = (0..ROWS).map(|i| (i as f32 * 0.37).sin()).collect();
    block_on(&gpu, compiled.write(&x, &input))?;

    let mut profiler = block_on(&gpu, Profiler::new(&gpu, &compiled, None))?;
    for _ in 0..20 {
        profiler.run(&compiled, compiled.phase(PHASE))?;
        profiler.end_step();
    }
    let output: Vec<f32> = block_on(&gpu, compiled.read(&y))?;
    let off = output.iter().zip(squared_relu(&input)).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max);
    println!("{}: off by {off:.1e} at most", gpu.info().name);
    for row in profiler.rows(&compiled) {
        println!("{}  {:.1} us  {:.2} GB/s", row.label, row.seconds * 1e6, row.bytes as f64 / row.seconds / 1e9);
    }
    assert!(off < 1e-6, "the kernel disagrees with its reference implementation");
    Ok(())
}
