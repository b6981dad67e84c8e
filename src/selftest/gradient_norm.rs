//! gradient_norm.partial, .finish

use crate::gpu::extent::Extent;
use crate::gpu::kernel::KernelFile;
use crate::gpu::tensor::Tensor;
use crate::ops::gradient_norm::{GradientNorm, HIGHEST_LOSS_SCALE, Rules, SOURCE, TILE};
use crate::ops::loss;
use crate::ops::step::{State, Step};
use crate::reference::gradient_norm as twin;

use super::trial::{Checked, Checker, POISON, Trial, bits, dyadic};

const BEFORE: State = State { updates: 6, skipped: 2, apply: 0, clip: 0.125, loss_scale: 8.0, good: 41 };
const RECORD: usize = 2;
const RECORDS: usize = 4;
const WIDTH: usize = loss::RECORD;

/// Step, records and state of a trial: the step's loss is already recorded, all other records are poison.
fn blocks(t: &mut Trial, loss: f64, before: State) -> [Tensor; 3] {
    let step = t.step("step", Step { record: RECORD as u32, ..Step::default() });
    let mut records = vec![POISON; RECORDS * WIDTH];
    records[RECORD * WIDTH] = bits(&[loss])[0];
    let records = t.numbers("records", &[RECORDS, WIDTH], &records);
    let state = t.state("state", before);
    t.expect_words(&records, 0, &[POISON; RECORD * WIDTH]);
    t.expect_words(&records, RECORD * WIDTH, &bits(&[loss]));
    t.expect_words(&records, (RECORD + 1) * WIDTH, &[POISON; (RECORDS - RECORD - 1) * WIDTH]);
    [step, records, state]
}

/// `scaled` is the norm of the scaled gradients.
fn expect_applied(t: &mut Trial, [_, records, state]: &[Tensor; 3], scaled: f64, max_norm: f64) {
    let scale = f64::from(BEFORE.loss_scale);
    t.expect_part(records, RECORD * WIDTH + 1, &[scaled / scale, scale, 0.0], 0.0, 1e-6);
    t.expect_words(state, 0, &[BEFORE.updates + 1, BEFORE.skipped, 1]);
    t.expect_part(state, 3, &[twin::clip_factor(scaled / scale, max_norm) / scale], 0.0, 1e-6);
    t.expect_words(state, 4, &[BEFORE.loss_scale.to_bits(), BEFORE.good]);
}

fn fixed(max_norm: f32) -> Rules {
    Rules { max_norm, dynamic_scale: false }
}

/// Segments as the pools have them, in whole vec4; every sum of squares is exact in f32.
fn trial(lens: &[usize], max_norm: f32) -> Trial {
    let mut t = Trial::new(format!("gradient_norm {lens:?} max_norm {max_norm}"));
    let blocks = blocks(&mut t, 3.25, BEFORE);
    let (mut segments, mut squares) = (vec![], 0.0);
    for (i, &len) in lens.iter().enumerate() {
        let grads = dyadic(len, i as u32 + 1, 16.0);
        squares += twin::sum_of_squares(&grads);
        segments.push(t.input(&format!("grads {i}"), &[len], &grads));
    }
    GradientNorm::new().forward(&mut t.plan, &blocks[0], &segments, fixed(max_norm), &blocks[1], &blocks[2]);
    expect_applied(&mut t, &blocks, squares.sqrt(), f64::from(max_norm));
    t
}

/// A step with this loss, and this number in its gradient.
fn not_finite(loss: f64, bad: f64, at: usize) -> Trial {
    let mut t = Trial::new(format!("gradient_norm with loss {loss} and {bad} at {at}"));
    let blocks = blocks(&mut t, loss, BEFORE);
    let mut grads = dyadic(20_004, 1, 16.0);
    grads[at] = bad;
    let tgrads = t.input("grads", &[20_004], &grads);
    GradientNorm::new().forward(&mut t.plan, &blocks[0], &[tgrads], fixed(1.0), &blocks[1], &blocks[2]);
    t.expect_words(&blocks[2], 0, &[BEFORE.updates, BEFORE.skipped + 1, 0]);
    t.expect_words(&blocks[2], 4, &[BEFORE.loss_scale.to_bits(), BEFORE.good]);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(&[260, 4, 1036], 1.0))?;
    c.check(trial(&[260, 4, 1036], 1e6))?;
    c.check(not_finite(3.25, f64::NAN, 777))?;
    the_loss_scale_follows_the_gradients(c)
}

pub fn odd_sizes_with_and_without_clipping(c: &mut Checker) -> Checked {
    for lens in [&[4][..], &[252], &[260, 4, 1036], &[TILE - 4, TILE, TILE + 4], &[4, 3 * TILE + 28, 796]] {
        c.check(trial(lens, 0.0))?;
        c.check(trial(lens, 1.0))?;
        // Larger than the norm: the gradients stay as they are.
        c.check(trial(lens, 1e6))?;
    }
    Ok(())
}

pub fn sums_of_more_than_65_536(c: &mut Checker) -> Checked {
    c.check(trial(&[131_104, 65_540], 1.0))
}

/// No gradients of a testable size have so many partials.
pub fn more_than_65_536_partials(c: &mut Checker) -> Checked {
    for partials in [1, 63, 65, 65_543, 131_101] {
        let mut t = Trial::new(format!("gradient_norm.finish of {partials}"));
        let blocks = blocks(&mut t, 3.25, BEFORE);
        let sums: Vec<f64> = dyadic(partials, 1, 16.0).iter().map(|x| x.abs()).collect();
        let tsums = t.input("sums", &[partials], &sums);
        let dims = [("quads", 0usize.into()), ("first", 0usize.into()), ("partials", partials.into()), ("max_norm", 1.0f32.into())];
        let dims = [&dims[..], &[("dynamic", false.into())]].concat();
        let bindings = [("step", &blocks[0]), ("sums", &tsums), ("records", &blocks[1]), ("state", &blocks[2])];
        t.plan.push(&KernelFile::load(&SOURCE).kernel("finish"), Extent::groups(1), 0, &dims, &bindings);
        expect_applied(&mut t, &blocks, sums.iter().sum::<f64>().sqrt(), 1.0);
        c.check(t)?;
    }
    Ok(())
}

/// A step whose loss or gradient is not finite, or whose norm overflows, is counted as skipped and not applied.
pub fn what_is_not_finite_is_skipped(c: &mut Checker) -> Checked {
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
            c.check(not_finite(loss, bad, at))?;
        }
    }
    Ok(())
}

/// The loss scale after a step, and the good updates since it changed.
pub fn the_loss_scale_follows_the_gradients(c: &mut Checker) -> Checked {
    let highest = HIGHEST_LOSS_SCALE as f32;
    for (what, scale, good, loss, grad, next) in [
        ("a good update counts", 64.0, 7, 3.25, 0.5, (64.0, 8)),
        ("the 2,000th doubles", 64.0, 1999, 3.25, 0.5, (128.0, 0)),
        ("an overflow halves", 64.0, 1999, 3.25, f64::INFINITY, (32.0, 0)),
        ("a NaN halves", 64.0, 7, 3.25, f64::NAN, (32.0, 0)),
        ("1 is the lowest", 1.0, 7, 3.25, f64::NAN, (1.0, 0)),
        ("there is a highest", highest, 1999, 3.25, 0.5, (highest, 0)),
        ("a loss that is not finite is not the scale's fault", 64.0, 7, f64::NAN, 0.5, (64.0, 0)),
    ] {
        let mut t = Trial::new(format!("gradient_norm with loss scale {scale}: {what}"));
        let blocks = blocks(&mut t, loss, State { loss_scale: scale, good, ..BEFORE });
        let mut grads = dyadic(260, 1, 16.0);
        grads[99] = grad;
        let tgrads = t.input("grads", &[260], &grads);
        let rules = Rules { max_norm: 1.0, dynamic_scale: true };
        GradientNorm::new().forward(&mut t.plan, &blocks[0], &[tgrads], rules, &blocks[1], &blocks[2]);
        t.expect_words(&blocks[2], 4, &[f32::to_bits(next.0), next.1]);
        c.check(t)?;
    }
    Ok(())
}
