//! Probes of what drivers are known to get wrong: small shaders (shaders/selftest) whose results are known exactly.

use super::trial::{Failure, POISON, Trial};
use super::{TestRow, Verdict};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::extent::Extent;
use crate::gpu::kernel::{KernelFile, KernelSource, SINGLE};
use crate::gpu::options::Options;
use crate::gpu::plan::{Phase, Plan};
use crate::gpu::probe::Probe;
use crate::gpu::run::Runner;
use crate::gpu::tensor::Dtype;
use crate::gpu::wait::block_on;

const DRIVER: KernelSource =
    KernelSource { file: "driver", text: include_str!("../../shaders/selftest/driver.wgsl"), shared: &[], variants: SINGLE };
const SUBGROUPS: KernelSource =
    KernelSource { file: "subgroups", text: include_str!("../../shaders/selftest/subgroups.wgsl"), shared: &[], variants: SINGLE };

/// What a probe found: `Err` holds what is wrong.
type Finding = Result<Verdict, String>;

/// A probe, with the words of its row.
type ProbeTest = (&'static str, fn(&Gpu) -> Finding);

const PROBES: &[ProbeTest] = &[
    ("loops of 100,000 trips", trips),
    ("workgroup barriers", barriers),
    ("subgroups", subgroups),
    ("writes out of bounds", writes),
    ("reads out of bounds", reads),
    ("range of f16", halves),
    ("zero-filled buffers", zeros),
];

/// Runs all probes and shows a row for each.
///
/// # Errors
/// [`Error::DeviceLost`] when the device is lost.
pub(super) fn run(gpu: &Gpu, show: &mut dyn FnMut(TestRow)) -> Result<()> {
    for (test, probe) in PROBES {
        let began = web_time::Instant::now();
        let verdict = probe(gpu).unwrap_or_else(Verdict::Failed);
        gpu.check()?;
        show(TestRow { part: "probe", test: (*test).to_owned(), of: String::new(), cases: 1, time: began.elapsed(), verdict });
    }
    Ok(())
}

#[allow(clippy::boxed_local)] // as it comes
fn plain(failure: Box<Failure>) -> String {
    failure.problem
}

/// A trial of one entry point of driver.wgsl with x and y, run with or without wgpu's checks; returns the words of y.
fn results(
    gpu: &Gpu,
    entry: &'static str,
    [count, index]: [usize; 2],
    x: &[u32],
    y: &[u32],
    groups: usize,
    checked: bool,
) -> Result<Vec<u32>, String> {
    let kernel = KernelFile::load(&DRIVER).kernel(entry);
    let mut t = Trial::new(entry);
    let (tx, ty) = (t.words("x", &[x.len()], x), t.words("y", &[y.len()], y));
    let binds_x = kernel.interfaces()[0].bindings.iter().any(|binding| binding.name == "x");
    let bindings = if binds_x { vec![("x", &tx), ("y", &ty)] } else { vec![("y", &ty)] };
    t.plan.push(&kernel, Extent::rows(64 * groups), 0, &[("count", count.into()), ("index", index.into())], &bindings);
    let mut found = t.results(gpu, &Options { checked, ..Options::default() }).map_err(plain)?;
    Ok(found.swap_remove(1))
}

/// Mesa 22.3's llvmpipe ends every loop after 65,535 trips, without an error.
fn trips(gpu: &Gpu) -> Finding {
    const TRIPS: u32 = 100_000;
    let found = results(gpu, "trips", [TRIPS as usize, 0], &[1; 64], &[POISON; 64], 1, false)?;
    if found.iter().all(|&trips| trips == TRIPS) {
        return Ok(Verdict::Passed);
    }
    let stopped = found[0];
    if found.iter().all(|&trips| trips == stopped) && (65_535..=65_536).contains(&stopped) {
        return Ok(Verdict::KnownFault(format!("a loop ends silently after {stopped} trips; kernels make fewer")));
    }
    Err(format!("a loop of {TRIPS} trips made {stopped}"))
}

fn barriers(gpu: &Gpu) -> Finding {
    const GROUPS: usize = 16;
    const ROUNDS: usize = 40;
    let x: Vec<u32> = (0..64 * GROUPS as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let found = results(gpu, "exchange", [ROUNDS, 0], &x, &[POISON; 64 * GROUPS], GROUPS, false)?;
    let mut want = x;
    for k in 0..ROUNDS {
        let before = want.clone();
        let other = |i: usize| before[i - i % 64 + (i % 64 * 7 + k + 1) % 64];
        want.iter_mut().enumerate().for_each(|(i, sum)| *sum = sum.wrapping_add(other(i)));
    }
    match (0..want.len()).find(|&i| found[i] != want[i]) {
        None => Ok(Verdict::Passed),
        Some(i) => {
            Err(format!("invocation {i} read {:#x} after a barrier, not {:#x}: another one's write was not visible", found[i], want[i]))
        }
    }
}

/// The size of a subgroup, the numbers of its invocations, and what it broadcasts and sums.
fn subgroups(gpu: &Gpu) -> Finding {
    let Some(size) = gpu.traits().subgroup else {
        return Ok(Verdict::Skipped("the device has none of one fixed size, or was opened without".to_owned()));
    };
    let mut t = Trial::new("subgroups");
    let ty = t.words("y", &[64, 4], &[POISON; 256]);
    t.plan.push(&KernelFile::load(&SUBGROUPS).kernel("look"), Extent::groups(1), 0, &[("count", 64_usize.into())], &[("y", &ty)]);
    let found = t.results(gpu, &Options::default()).map_err(plain)?.swap_remove(0);
    let rows: Vec<[u32; 4]> = found.chunks(4).map(|row| [row[0], row[1], row[2], row[3]]).collect();
    if let Some(row) = rows.iter().find(|row| row[0] != size || row[3] != size) {
        return Err(format!("the driver reports subgroups of {size}; the shader finds a size of {}, and {} that add up", row[0], row[3]));
    }
    for (lane, row) in rows.iter().enumerate() {
        let group = rows.iter().filter(|other| other[2] == row[2]);
        let mut numbers: Vec<u32> = group.map(|other| other[1]).collect();
        numbers.sort_unstable();
        if !numbers.iter().copied().eq(0..size) || rows[row[2] as usize % 64][1] != 0 {
            return Err(format!("invocation {lane} gets a broadcast of {} in a subgroup of numbers {numbers:?}", row[2]));
        }
    }
    Ok(Verdict::Passed)
}

/// Indices at and beyond the end of 24 words: in the guard zone, in the buffer's neighbourhood, and at the ends of the address space.
const BEYOND: [usize; 6] = [24, 25, 40, 1 << 16, 1 << 30, u32::MAX as usize - 63];

/// With wgpu's checks, a write out of bounds may change the binding's own elements, and nothing else.
fn writes(gpu: &Gpu) -> Finding {
    for index in BEYOND {
        let found = results(gpu, "write_beyond", [0, index], &[0; 4], &[1; 24], 1, true)?;
        if let Some(word) = found.iter().find(|&&word| word != 1 && word != 7) {
            return Err(format!("a write at index {index} of 24 left {word:#x}"));
        }
    }
    Ok(Verdict::Passed)
}

/// With wgpu's checks, a read out of bounds returns an element of the binding or zero.
fn reads(gpu: &Gpu) -> Finding {
    for index in BEYOND {
        let found = results(gpu, "read_beyond", [64, index], &[5; 24], &[POISON; 64], 1, true)?;
        if let Some(word) = found.iter().find(|&&word| word != 5 && word != 0) {
            return Err(format!("a read at index {index} of 24 returned {word:#x}"));
        }
    }
    Ok(Verdict::Passed)
}

/// Numbers and their f16: exact ones, the largest, ties, others, and numbers below the smallest normal one, 2⁻¹⁴.
const HALVES: [(f32, u16); 16] = [
    (0.0, 0x0000),
    (-0.0, 0x8000),
    (1.0, 0x3c00),
    (-2.0, 0xc000),
    (65_504.0, 0x7bff),
    (-65_504.0, 0xfbff),
    (65_519.0, 0x7bff),
    (0.1, 0x2e66),
    (2049.0, 0x6800),
    (2051.0, 0x6802),
    (6.103_515_6e-5, 0x0400),
    (6.097_555e-5, 0x03ff),
    (3.051_757_8e-5, 0x0200),
    (5.960_464_5e-8, 0x0001),
    (-5.960_464_5e-8, 0x8001),
    (0.333_251_95, 0x3555),
];

fn halves(gpu: &Gpu) -> Finding {
    let numbers: Vec<u32> = HALVES.iter().map(|(number, _)| number.to_bits()).collect();
    let words: Vec<u32> = HALVES.chunks(2).map(|two| u32::from(two[0].1) | u32::from(two[1].1) << 16).collect();
    let count = words.len();
    let packed = results(gpu, "pack", [count, 0], &numbers, &vec![POISON; count], 1, false)?;
    let unpacked = results(gpu, "unpack", [count, 0], &words, &vec![POISON; 2 * count], 1, false)?;
    let mut flushed = false;
    for (i, &(number, half)) in HALVES.iter().enumerate() {
        let found = (packed[i / 2] >> (16 * (i % 2))) as u16;
        let value = f32::from_bits(unpacked[i]);
        let (subnormal, want) = (half & 0x7c00 == 0, f16_value(half));
        // WGSL leaves to the driver in which direction it rounds.
        let near = if want.to_bits() == number.to_bits() { found == half } else { found.abs_diff(half) <= 1 };
        flushed |= subnormal && half & 0x7fff != 0 && (found & 0x7fff == 0 || value == 0.0);
        if !(near || subnormal && found & 0x7fff == 0) {
            return Err(format!("pack2x16float makes {found:#06x} of {number:e}, not {half:#06x}"));
        }
        if value.to_bits() != want.to_bits() && !(subnormal && value == 0.0) {
            return Err(format!("unpack2x16float makes {value:e} of {half:#06x}, not {want:e}"));
        }
    }
    if flushed { Ok(Verdict::KnownFault("f16 below 6.1e-5 become 0".to_owned())) } else { Ok(Verdict::Passed) }
}

/// The number of a finite f16.
fn f16_value(half: u16) -> f32 {
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff) / 1024.0);
    let magnitude = if exponent == 0 { fraction * 2f32.powi(-14) } else { (1.0 + fraction) * 2f32.powi(exponent - 15) };
    if half & 0x8000 != 0 { -magnitude } else { magnitude }
}

/// A new buffer reads as zeros, even where a freed one of the same size held something else.
fn zeros(gpu: &Gpu) -> Finding {
    const WORDS: usize = 1 << 16;
    let run = |fill: bool| -> Result<Vec<u32>> {
        let mut plan = Plan::new();
        plan.begin(Phase("probe"));
        let [x, y] = ["x", "y"].map(|name| plan.kept(name, &[WORDS], Dtype::F32, "probe"));
        Probe::new().copy(&mut plan, &x, &y);
        let compiled = block_on(gpu, plan.compile(gpu, &Options::default()))?;
        if fill {
            block_on(gpu, compiled.write(&x, &[POISON; WORDS]))?;
        }
        let mut runner = Runner::new(gpu);
        runner.run(&compiled, std::iter::once(0..compiled.len()))?;
        runner.wait_for_all()?;
        block_on(gpu, compiled.read::<u32>(&y))
    };
    let said = |e: Error| e.to_string();
    run(true).map_err(said)?;
    match run(false).map_err(said)?.iter().position(|&word| word != 0) {
        None => Ok(Verdict::Passed),
        Some(i) => Err(format!("word {i} of a new buffer is not zero")),
    }
}
