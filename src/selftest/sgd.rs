//! sgd.apply

use crate::ops::adamw::Segment;
use crate::ops::sgd::Sgd;
use crate::ops::step::{State, Step};
use crate::reference::sgd as twin;

use super::trial::{Checked, Checker, Trial, bits, noise};

const LEARNING_RATE: f32 = 0.05;
const WEIGHT_DECAY: f32 = 0.1;

/// Three updates; weight decay applies to elements before `decay`.
fn trial(len: usize, decay: usize, momentum: f32, clip: f32) -> Trial {
    let sgd = Sgd::new();
    let mut t = Trial::new(format!("sgd {len} decay {decay} momentum {momentum} clip {clip}"));
    let (mut params, mut m) = (noise(len, 1), noise(len, 2));
    let tparams = t.input("params", &[len], &params);
    let tm = t.input("m", &[len], &m);
    for k in 1..=3 {
        let grads = noise(len, 2 + k);
        let tgrads = t.input(&format!("grads {k}"), &[len], &grads);
        let tstep = t.step(&format!("step {k}"), Step { learning_rate: LEARNING_RATE, ..Step::default() });
        let tstate = t.state(&format!("state {k}"), State { updates: k, skipped: 5, apply: 1, clip, ..State::default() });
        let segment = Segment { params: tparams.clone(), grads: tgrads, m: tm.clone(), v: None, decay };
        sgd.apply(&mut t.plan, &tstep, &tstate, momentum, WEIGHT_DECAY, &segment);
        let (lr, weight_decay) = (f64::from(LEARNING_RATE), f64::from(WEIGHT_DECAY));
        twin::step(&mut params, &grads, &mut m, lr, f64::from(momentum), weight_decay, decay, f64::from(clip));
    }
    t.expect(&tparams, &params, 5e-7, 5e-7);
    t.expect(&tm, &m, 5e-7, 5e-7);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(257, 128, 0.9, 1.0))?;
    c.check(trial(199, 100, 0.0, 0.25))
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (len, decay) in [(1, 0), (1, 4), (63, 60), (65, 64), (255, 0), (257, 128), (775, 776)] {
        c.check(trial(len, decay, 0.9, 1.0))?;
    }
    Ok(())
}

pub fn without_momentum_clipped(c: &mut Checker) -> Checked {
    c.check(trial(199, 100, 0.0, 0.25))
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(65_539, 40_000, 0.9, 0.5))
}

/// A skipped step changes nothing, even if its gradients are not finite.
pub fn nothing_is_touched_when_state_does_not_apply(c: &mut Checker) -> Checked {
    let len = 777;
    let mut t = Trial::new("sgd skipped");
    let (params, m) = (noise(len, 1), noise(len, 2));
    let tparams = t.input("params", &[len], &params);
    let tm = t.input("m", &[len], &m);
    let tgrads = t.input("grads", &[len], &vec![f64::INFINITY; len]);
    let tstep = t.step("step", Step { learning_rate: LEARNING_RATE, ..Step::default() });
    let tstate = t.state("state", State { updates: 3, skipped: 1, apply: 0, clip: 1.0, ..State::default() });
    let segment = Segment { params: tparams.clone(), grads: tgrads, m: tm.clone(), v: None, decay: 400 };
    Sgd::new().apply(&mut t.plan, &tstep, &tstate, 0.9, WEIGHT_DECAY, &segment);
    t.expect_words(&tparams, 0, &bits(&params));
    t.expect_words(&tm, 0, &bits(&m));
    c.check(t)
}
