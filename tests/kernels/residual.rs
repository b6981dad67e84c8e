//! residual.add

use wgpt::ops::residual::Residual;
use wgpt::reference::residual as twin;

use crate::harness::{Trial, noise};

fn trial(len: usize) {
    let mut t = Trial::new(format!("residual {len}"));
    let (a, b) = (noise(len, 1), noise(len, 2));
    let ta = t.input("a", &[len], &a);
    let tb = t.input("b", &[len], &b);
    let ty = t.output("y", &[len]);
    Residual::new().add(&mut t.plan, &ta, &tb, &ty);
    // One rounding.
    t.expect(&ty, &twin::add(&a, &b), 0.0, 6e-8);
    t.run();
}

#[test]
fn odd_sizes() {
    for len in [1, 63, 65, 255, 257, 775] {
        trial(len);
    }
}

#[test]
fn more_elements_than_65_535() {
    trial(65_539);
}
