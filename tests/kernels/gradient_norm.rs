//! gradient_norm.partial, .finish

use wgpt::low_level::gpu::extent::Extent;
use wgpt::low_level::gpu::kernel::KernelFile;
use wgpt::low_level::gpu::tensor::Tensor;
use wgpt::low_level::ops::gradient_norm::{GradientNorm, SOURCE, TILE};
use wgpt::low_level::ops::step::{State, Step};
use wgpt::low_level::reference::gradient_norm as twin;

use crate::harness::{POISON, Trial, bits, dyadic};

const BEFORE: State = State { updates: 6, skipped: 2, apply: 0, clip: 0.125 };
const RECORD: usize = 2;
const RECORDS: usize = 4;

/// Step, records and state of a trial: the step's loss is already recorded, all other records are poison.
fn blocks(t: &mut Trial, loss: f64) -> [Tensor; 3] {
    let step = t.step("step", Step { record: RECORD as u32, ..Step::default() });
    let mut records = vec![POISON; RECORDS * 2];
    records[RECORD * 2] = bits(&[loss])[0];
    let records = t.numbers("records", &[RECORDS, 2], &records);
    let state = t.state("state", BEFORE);
    t.expect_words(&records, 0, &[POISON; RECORD * 2]);
    t.expect_words(&records, RECORD * 2, &bits(&[loss]));
    t.expect_words(&records, RECORD * 2 + 2, &[POISON; (RECORDS - RECORD - 1) * 2]);
    [step, records, state]
}

fn expect_applied(t: &mut Trial, [_, records, state]: &[Tensor; 3], norm: f64, max_norm: f64) {
    t.expect_part(records, RECORD * 2 + 1, &[norm], 0.0, 1e-6);
    t.expect_words(state, 0, &[BEFORE.updates + 1, BEFORE.skipped, 1]);
    t.expect_part(state, 3, &[twin::clip_factor(norm, max_norm)], 0.0, 1e-6);
}

/// Segments as the pools have them, in whole vec4; every sum of squares is exact in f32.
fn trial(lens: &[usize], max_norm: f32) {
    let mut t = Trial::new(format!("gradient_norm {lens:?} max_norm {max_norm}"));
    let blocks = blocks(&mut t, 3.25);
    let (mut segments, mut squares) = (vec![], 0.0);
    for (i, &len) in lens.iter().enumerate() {
        let grads = dyadic(len, i as u32 + 1, 16.0);
        squares += twin::sum_of_squares(&grads);
        segments.push(t.input(&format!("grads {i}"), &[len], &grads));
    }
    GradientNorm::new().forward(&mut t.plan, &blocks[0], &segments, max_norm, &blocks[1], &blocks[2]);
    expect_applied(&mut t, &blocks, squares.sqrt(), f64::from(max_norm));
    t.run();
}

#[test]
fn odd_sizes_with_and_without_clipping() {
    for lens in [&[4][..], &[252], &[260, 4, 1036], &[TILE - 4, TILE, TILE + 4], &[4, 3 * TILE + 28, 796]] {
        trial(lens, 0.0);
        trial(lens, 1.0);
        // Larger than the norm: the gradients stay as they are.
        trial(lens, 1e6);
    }
}

#[test]
fn sums_of_more_than_65_536() {
    trial(&[131_104, 65_540], 1.0);
}

/// No gradients of a testable size have so many partials.
#[test]
fn more_than_65_536_partials() {
    for partials in [1, 63, 65, 65_543, 131_101] {
        let mut t = Trial::new(format!("gradient_norm.finish of {partials}"));
        let blocks = blocks(&mut t, 3.25);
        let sums: Vec<f64> = dyadic(partials, 1, 16.0).iter().map(|x| x.abs()).collect();
        let tsums = t.input("sums", &[partials], &sums);
        let dims = [("quads", 0usize.into()), ("first", 0usize.into()), ("partials", partials.into()), ("max_norm", 1.0f32.into())];
        let bindings = [("step", &blocks[0]), ("sums", &tsums), ("records", &blocks[1]), ("state", &blocks[2])];
        t.plan.push(&KernelFile::load(&SOURCE).kernel("finish"), Extent::groups(1), 0, &dims, &bindings);
        expect_applied(&mut t, &blocks, sums.iter().sum::<f64>().sqrt(), 1.0);
        t.run();
    }
}

/// A step whose loss or gradient is not finite, or whose norm overflows, is counted as skipped and not applied.
#[test]
fn what_is_not_finite_is_skipped() {
    for (loss, bad) in [
        (3.25, f64::NAN),
        (3.25, f64::INFINITY),
        (3.25, f64::NEG_INFINITY),
        (3.25, 1e30),
        (f64::INFINITY, 0.5),
        (f64::NEG_INFINITY, 0.5),
        (f64::NAN, 0.5),
    ] {
        for at in [0, 777, 20_003] {
            let mut t = Trial::new(format!("gradient_norm with loss {loss} and {bad} at {at}"));
            let blocks = blocks(&mut t, loss);
            let mut grads = dyadic(20_004, 1, 16.0);
            grads[at] = bad;
            let tgrads = t.input("grads", &[20_004], &grads);
            GradientNorm::new().forward(&mut t.plan, &blocks[0], &[tgrads], 1.0, &blocks[1], &blocks[2]);
            t.expect_words(&blocks[2], 0, &[BEFORE.updates, BEFORE.skipped + 1, 0]);
            t.run();
        }
    }
}
