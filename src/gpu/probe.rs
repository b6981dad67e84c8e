//! The peak rates of an adapter: bytes moved and multiply-adds computed per second, measured by two probes.

use super::Gpu;
use super::extent::Extent;
use super::kernel::{Kernel, KernelFile, KernelSource, SINGLE};
use super::options::Options;
use super::plan::{Phase, Plan};
use super::profile::{Method, Profiler, summary::Roof};
use super::tensor::{Dtype, Tensor};
use crate::error::Result;

/// `shaders/probe.wgsl`, which has one variant.
pub const SOURCE: KernelSource =
    KernelSource { file: "probe", text: include_str!("../../shaders/probe.wgsl"), shared: &[], variants: SINGLE };

/// Steps of a chain in one iteration of the shader's loop.
const STEPS: usize = 8;
/// Chains per element.
const CHAINS: usize = 3;

/// A kernel that only moves bytes and one that only computes.
pub struct Probe {
    copy: Kernel,
    multiply_add: Kernel,
}

/// v ← v · a + b, `STEPS` times per round.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Trips of the shader's loop, of 8 steps each.
    pub rounds: usize,
    /// Factor of every step.
    pub a: f32,
    /// Summand of every step.
    pub b: f32,
}

impl Probe {
    /// Parses and validates the two kernels.
    #[allow(clippy::new_without_default)] // parses shaders, which a `Default` should not do
    pub fn new() -> Probe {
        let file = KernelFile::load(&SOURCE);
        Probe { copy: file.kernel("copy"), multiply_add: file.kernel("multiply_add") }
    }

    /// y = x; lengths are multiples of 4.
    pub fn copy(&self, plan: &mut Plan, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len() && x.len().is_multiple_of(4), "probe.copy: shapes do not fit");
        self.push(plan, &self.copy, 0, Chain { rounds: 0, a: 0.0, b: 0.0 }, x, y);
    }

    /// y = the sum of three chains that begin with x, x + 1 and x + 2; lengths are multiples of 4.
    pub fn multiply_add(&self, plan: &mut Plan, chain: Chain, x: &Tensor, y: &Tensor) {
        assert!(x.len() == y.len() && x.len().is_multiple_of(4), "probe.multiply_add: shapes do not fit");
        let flops = 2 * (x.len() * CHAINS * STEPS * chain.rounds) as u64;
        self.push(plan, &self.multiply_add, flops, chain, x, y);
    }

    fn push(&self, plan: &mut Plan, kernel: &Kernel, flops: u64, Chain { rounds, a, b }: Chain, x: &Tensor, y: &Tensor) {
        let dims = [("quads", (x.len() / 4).into()), ("rounds", rounds.into()), ("a", a.into()), ("b", b.into())];
        plan.push(kernel, Extent::rows(x.len()), flops, &dims, &[("x", x), ("y", y)]);
    }
}

/// Runs both probes; blocks. The best of several runs counts, because other work on the machine can only slow them down.
///
/// # Errors
/// [`crate::error::Error::Device`] when two buffers of 128 MiB (2 MiB on software adapters) cannot be allocated.
pub fn roof(gpu: &Gpu, method: Method) -> Result<Roof> {
    // Long enough for precise timing on either kind of adapter. On a graphics card the copy is larger than any cache. A software adapter is
    // compared with its caches, which hold the tensors of the small models it can run: its main memory is not the limit.
    let (copied, computed, rounds) = if gpu.traits().software { (1 << 19, 1 << 17, 96) } else { (32 << 20, 1 << 20, 2048) };
    let (probe, mut plan) = (Probe::new(), Plan::new());
    plan.begin(Phase("probe"));
    let mut tensor = |name, len| plan.kept(name, &[len], Dtype::F32, "probe");
    let (x, y) = (tensor("x", copied), tensor("y", copied));
    let (from, to) = (tensor("from", computed), tensor("to", computed));
    probe.copy(&mut plan, &x, &y);
    probe.multiply_add(&mut plan, Chain { rounds, a: 0.5, b: 1.0 }, &from, &to);
    let compiled = super::wait::block_on(gpu, plan.compile(gpu, &Options::default()))?;
    let mut profiler = super::wait::block_on(gpu, Profiler::new(gpu, &compiled, Some(method)))?;
    let mut roof = Roof { flops: 0.0, bandwidth: 0.0 };
    for _ in 0..RUNS {
        profiler.run(&compiled, 0..compiled.len())?;
        profiler.end_step();
        for row in profiler.rows(&compiled).iter().filter(|row| row.last > 0.0) {
            if row.flops == 0 {
                roof.bandwidth = roof.bandwidth.max(row.bytes as f64 / row.last);
            } else {
                roof.flops = roof.flops.max(row.flops as f64 / row.last);
            }
        }
    }
    Ok(roof)
}

/// The first run includes compilation and the first access to memory.
const RUNS: usize = 10;
