//! loss.sum

use crate::ops::loss::{self, Loss};
use crate::ops::step::Step;

use super::trial::{Checked, Checker, POISON, Trial, bits, dyadic};

const RECORD: usize = 1;
const WIDTH: usize = loss::RECORD;

/// The twin is scale · Σ losses, plus `before` if there is one; the sum itself is exact in f32.
fn trial(rows: usize, before: Option<f64>) -> Trial {
    let mut t = Trial::new(format!("loss {rows} rows after {before:?}"));
    let losses = dyadic(rows, 1, 64.0);
    let step = Step { target_scale: 1.0 / rows as f32, record: RECORD as u32, fresh: u32::from(before.is_none()), ..Step::default() };
    let mut records = vec![POISON; 3 * WIDTH];
    if let Some(before) = before {
        records[RECORD * WIDTH] = bits(&[before])[0];
    }
    let tstep = t.step("step", step);
    let tlosses = t.input("losses", &[rows], &losses);
    let trecords = t.numbers("records", &[3, WIDTH], &records);
    Loss::new().sum(&mut t.plan, &tstep, &tlosses, &trecords);
    let want = before.unwrap_or(0.0) + losses.iter().sum::<f64>() * f64::from(step.target_scale);
    t.expect_part(&trecords, RECORD * WIDTH, &[want], 1e-7, 2e-7);
    t.expect_words(&trecords, 0, &[POISON; RECORD * WIDTH]);
    t.expect_words(&trecords, RECORD * WIDTH + 1, &[POISON; 2 * WIDTH - 1]);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(199, None))?;
    c.check(trial(199, Some(0.75)))
}

pub fn odd_sizes_fresh_and_not(c: &mut Checker) -> Checked {
    for rows in [1, 63, 65, 199] {
        c.check(trial(rows, None))?;
        c.check(trial(rows, Some(0.75)))?;
    }
    Ok(())
}

pub fn sums_of_more_than_65_536(c: &mut Checker) -> Checked {
    c.check(trial(65_543, None))?;
    c.check(trial(131_101, Some(2.5)))
}
