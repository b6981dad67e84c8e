//! probe.copy, probe.multiply_add

use crate::gpu::probe::{Chain, Probe};
use crate::reference::probe as twin;

use super::trial::{Checked, Checker, Trial, bits, noise};

fn trial(len: usize, rounds: usize) -> Trial {
    let mut t = Trial::new(format!("probe {len} rounds {rounds}"));
    let x = noise(len, 1);
    let tx = t.input("x", &[len], &x);
    let ty = t.output("y", &[len]);
    let tz = t.output("z", &[len]);
    let probe = Probe::new();
    probe.copy(&mut t.plan, &tx, &ty);
    probe.multiply_add(&mut t.plan, Chain { rounds, a: 0.9375, b: 0.25 }, &tx, &tz);
    t.expect_words(&ty, 0, &bits(&x));
    // Each step rounds once or twice and reduces the previous error by 1/16, which bounds it by 16 roundings of at most 16 · 2⁻²⁴ per
    // chain.
    t.expect(&tz, &twin::multiply_add(&x, rounds, 0.9375, 0.25), 1e-5, 1e-6);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(260, 3))
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (len, rounds) in [(4, 0), (4, 1), (252, 1), (256, 2), (260, 3), (772, 9)] {
        c.check(trial(len, rounds))?;
    }
    Ok(())
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(65_540, 1))
}

pub fn long_chains(c: &mut Checker) -> Checked {
    c.check(trial(12, 4000))
}
