//! partial_sums.add, .add_bias

use crate::ops::partial_sums::PartialSums;
use crate::reference::partial_sums as twin;

use super::trial::{Checked, Checker, Trial, dyadic};

/// Sums of dyadic noise are exact in f32: one term too few or too many is detected.
fn trial(ranges: usize, weights: usize, biases: usize) -> Trial {
    let mut t = Trial::new(format!("partial_sums of {ranges} ranges of {weights} + {biases}"));
    let len = weights + biases;
    let (partials, before) = (dyadic(ranges * len, 1, 64.0), dyadic(len, 2, 64.0));
    let sums = twin::add(&partials, &before);
    let tpartials = t.input("partials", &[ranges, len], &partials);
    let tdweight = t.input("dweight", &[weights], &before[..weights]);
    let tdbias = (biases > 0).then(|| t.input("dbias", &[biases], &before[weights..]));
    PartialSums::new().add(&mut t.plan, &tpartials, &tdweight, tdbias.as_ref());
    t.expect(&tdweight, &sums[..weights], 0.0, 0.0);
    if let Some(tdbias) = &tdbias {
        t.expect(tdbias, &sums[weights..], 0.0, 0.0);
    }
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(3, 260, 0))?;
    c.check(trial(3, 260, 8))
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (ranges, weights, biases) in [(1, 4, 4), (2, 252, 4), (7, 256, 256), (17, 796, 12)] {
        c.check(trial(ranges, weights, 0))?;
        c.check(trial(ranges, weights, biases))?;
    }
    Ok(())
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(2, 65_544, 65_540))
}
