//! cross_entropy.forward, .forward_backward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::cross_entropy::{Chunk, CrossEntropy};
use crate::ops::step::{State, Step};
use crate::reference::cross_entropy as twin;
use crate::reference::dropout::random_u32;

use super::trial::{Checked, Checker, POISON, Trial, noise, relative, stored};

const LOSS_SCALE: f32 = 16.0;

/// Rows `first..first + rows` of `all`, in tensors with one row more.
fn trial(c: &mut Checker, all: usize, first: usize, rows: usize, cols: usize, logits: &[f64]) -> Checked {
    for dtype in STORAGES {
        c.check(stored_trial(all, first, rows, cols, &stored(logits, dtype), dtype))?;
    }
    Ok(())
}

fn stored_trial(all: usize, first: usize, rows: usize, cols: usize, logits: &[f64], dtype: Dtype) -> Trial {
    let cross_entropy = CrossEntropy::new(dtype);
    let mut t = Trial::new(format!("cross_entropy {rows} of {all} from {first}, V {cols} {dtype:?}"));
    let targets: Vec<u32> = (0..all as u32).map(|r| target(r, cols as u32)).collect();
    let step = Step { target_scale: 1.0 / 37.0, ..Step::default() };
    let chunk_targets = &targets[first..first + rows];
    let (losses, lse) = twin::forward(&logits[..rows * cols], chunk_targets, cols);
    let scale = f64::from(step.target_scale * LOSS_SCALE);
    let dlogits = twin::backward(&logits[..rows * cols], &lse, chunk_targets, cols, scale);

    // The padding of a row is finite, here larger than any logit, and its gradient is 0.
    let wide = cols.next_multiple_of(4);
    let top = logits.iter().fold(0.0f64, |top, x| top.max(x.abs()));
    let pad = |rows: &[f64], fill: f64| rows.chunks(cols).flat_map(|row| [row, &vec![fill; wide - cols]].concat()).collect::<Vec<_>>();
    let padded = stored(&pad(logits, (top + 1.0).ceil()), dtype);

    let tstep = t.step("step", step);
    let tstate = t.state("state", State { loss_scale: LOSS_SCALE, ..State::default() });
    let ttargets = t.words("targets", &[all], &targets);
    let tlogits = t.activation("logits", &[rows + 1, wide], dtype, &padded);
    let tdlogits = t.activation("dlogits", &[rows + 1, wide], dtype, &padded);
    let [tlosses, tlosses_too] = ["losses", "losses of both"].map(|name| t.output(name, &[all]));
    let chunk = Chunk { rows, first, vocab: cols, logits: &tlogits };
    cross_entropy.forward(&mut t.plan, chunk, &ttargets, &tlosses);
    cross_entropy.forward_backward(&mut t.plan, Chunk { logits: &tdlogits, ..chunk }, (&tstep, &tstate), &ttargets, &tlosses_too);

    // The errors of lse and of the target's logit scale with the largest logit; the sum of V exponentials rounds like a random walk of V
    // steps.
    let abs = 1e-6 * (1.0 + top) + 2e-7 * (cols as f64).sqrt();
    for losses_of in [&tlosses, &tlosses_too] {
        t.expect_part(losses_of, first, &losses, abs, 1e-6);
        t.expect_words(losses_of, 0, &vec![POISON; first]);
        t.expect_words(losses_of, first + rows, &vec![POISON; all - first - rows]);
    }
    t.expect_part(&tdlogits, 0, &pad(&dlogits, 0.0), abs * scale, relative(dtype, 2e-6));
    t.expect_part(&tdlogits, rows * wide, &padded[rows * wide..], 0.0, 0.0);
    t
}

/// Every fifth row is ignored, and every eleventh has a target just beyond the vocabulary.
fn target(row: u32, cols: u32) -> u32 {
    match row {
        _ if row % 5 == 2 => twin::IGNORED,
        _ if row % 11 == 4 => cols,
        _ => random_u32(row.into(), 1, 2) % cols,
    }
}

pub fn odd(c: &mut Checker, all: usize, first: usize, rows: usize, cols: usize) -> Checked {
    let logits: Vec<f64> = noise((rows + 1) * cols, 1).iter().map(|x| 4.0 * x).collect();
    trial(c, all, first, rows, cols, &logits)
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    let logits: Vec<f64> = noise(68 * 77, 1).iter().map(|x| 4.0 * x).collect();
    c.check(stored_trial(100, 33, 67, 77, &logits, Dtype::F32))?;
    for dtype in STORAGES.into_iter().filter(|dtype| *dtype != Dtype::F32) {
        c.check_defaults(stored_trial(100, 33, 67, 77, &stored(&logits, dtype), dtype))?;
    }
    Ok(())
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    odd(c, 1, 0, 1, 1)?;
    odd(c, 63, 0, 63, 65)?;
    odd(c, 65, 0, 65, 63)?;
    odd(c, 199, 0, 199, 77)
}

pub fn a_vocabulary_of_one(c: &mut Checker) -> Checked {
    odd(c, 67, 0, 67, 1)
}

/// Longer than the 4,096 columns from which cards take 256 invocations a row.
pub fn a_vocabulary_of_thousands(c: &mut Checker) -> Checked {
    odd(c, 7, 1, 5, 4_099)
}

pub fn chunks_of_all_rows(c: &mut Checker) -> Checked {
    odd(c, 100, 33, 67, 9)?;
    odd(c, 100, 33, 30, 130)
}

pub fn more_rows_than_65_535(c: &mut Checker) -> Checked {
    odd(c, 65_600, 3, 65_539, 3)
}

pub fn sums_of_more_than_65_536(c: &mut Checker) -> Checked {
    odd(c, 4, 1, 2, 65_543)?;
    odd(c, 2, 0, 2, 131_101)
}

/// Logits whose exponentials overflow or vanish unless the largest logit is subtracted first.
pub fn extreme_logits(c: &mut Checker) -> Checked {
    let (rows, cols) = (12, 65);
    let logit = |i: usize| match (i / cols, i % cols) {
        (row, _) if row % 4 == 0 => 80.0,
        (row, _) if row % 4 == 1 => -80.0,
        (row, col) if row % 4 == 2 => [80.0, -80.0][col % 2],
        (row, col) => {
            if col == row {
                1000.0
            } else {
                -1000.0
            }
        }
    };
    let logits: Vec<f64> = (0..(rows + 1) * cols).map(logit).collect();
    trial(c, rows, 0, rows, cols, &logits)
}
