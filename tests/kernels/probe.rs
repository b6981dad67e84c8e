//! probe.copy, probe.multiply_add

use wgpt::low_level::gpu::probe::{Chain, Probe};
use wgpt::low_level::reference::probe as twin;

use crate::harness::{Trial, bits, noise};

fn trial(len: usize, rounds: usize) {
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
    t.run();
}

#[test]
fn odd_sizes() {
    for (len, rounds) in [(4, 0), (4, 1), (252, 1), (256, 2), (260, 3), (772, 9)] {
        trial(len, rounds);
    }
}

#[test]
fn more_elements_than_65_535() {
    trial(65_540, 1);
}

#[test]
fn long_chains() {
    trial(12, 4000);
}
