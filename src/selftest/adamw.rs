//! adamw.apply

use crate::ops::adamw::{AdamW, Constants, Segment};
use crate::ops::step::{State, Step};
use crate::reference::adamw as twin;

use super::trial::{Checked, Checker, Trial, bits, noise};

const CONSTANTS: Constants = Constants { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
const LEARNING_RATE: f32 = 2e-3;

/// Three updates after `updates` earlier ones, which left random moments; weight decay applies to elements before `decay`.
fn trial(len: usize, decay: usize, updates: u32, clip: f32) -> Trial {
    let adamw = AdamW::new();
    let mut t = Trial::new(format!("adamw {len} decay {decay} updates {updates} clip {clip}"));
    let (mut params, mut m) = (noise(len, 1), noise(len, 2));
    let mut v: Vec<f64> = noise(len, 3).iter().map(|x| f64::from((x * x) as f32)).collect();
    if updates == 0 {
        (m, v) = (vec![0.0; len], vec![0.0; len]);
    }
    let tparams = t.input("params", &[len], &params);
    let tm = t.input("m", &[len], &m);
    let tv = t.input("v", &[len], &v);
    for k in 1..=3 {
        let grads = noise(len, 3 + k);
        let tgrads = t.input(&format!("grads {k}"), &[len], &grads);
        let tstep = t.step(&format!("step {k}"), Step { learning_rate: LEARNING_RATE, ..Step::default() });
        let tstate = t.state(&format!("state {k}"), State { updates: updates + k, skipped: 5, apply: 1, clip, ..State::default() });
        let segment = Segment { params: tparams.clone(), grads: tgrads, m: tm.clone(), v: Some(tv.clone()), decay };
        adamw.apply(&mut t.plan, &tstep, &tstate, CONSTANTS, &segment);
        let (beta1, beta2, eps) = (f64::from(CONSTANTS.beta1), f64::from(CONSTANTS.beta2), f64::from(CONSTANTS.eps));
        let (lr, weight_decay) = (f64::from(LEARNING_RATE), f64::from(CONSTANTS.weight_decay));
        twin::step(&mut params, &grads, &mut m, &mut v, updates + k, lr, beta1, beta2, eps, weight_decay, decay, f64::from(clip));
    }
    // In f32, 1 − β₂ᵗ has a relative error of 1e-5 at small t, and an update reaches thirty learning rates where the second moment is
    // small.
    t.expect(&tparams, &params, 3e-6, 1e-6);
    t.expect(&tm, &m, 1e-6, 1e-6);
    t.expect(&tv, &v, 1e-7, 1e-6);
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    c.check(trial(257, 128, 0, 1.0))?;
    c.check(trial(199, 100, 1000, 0.25))
}

pub fn odd_sizes_from_the_first_update_on(c: &mut Checker) -> Checked {
    for (len, decay) in [(1, 0), (1, 4), (63, 60), (65, 64), (255, 0), (257, 128), (775, 776)] {
        c.check(trial(len, decay, 0, 1.0))?;
    }
    Ok(())
}

pub fn later_updates_clipped(c: &mut Checker) -> Checked {
    c.check(trial(199, 100, 1, 0.25))?;
    c.check(trial(199, 100, 1000, 0.25))?;
    // Far beyond where βᵗ underflows.
    c.check(trial(63, 0, 4_000_000_000, 0.5))
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    c.check(trial(65_539, 40_000, 9, 0.5))
}

/// A skipped step changes nothing, even if its gradients are not finite.
pub fn nothing_is_touched_when_state_does_not_apply(c: &mut Checker) -> Checked {
    let len = 777;
    let mut t = Trial::new("adamw skipped");
    let (params, m, v) = (noise(len, 1), noise(len, 2), vec![0.5; len]);
    let tparams = t.input("params", &[len], &params);
    let tm = t.input("m", &[len], &m);
    let tv = t.input("v", &[len], &v);
    let tgrads = t.input("grads", &[len], &vec![f64::INFINITY; len]);
    let tstep = t.step("step", Step { learning_rate: LEARNING_RATE, ..Step::default() });
    let tstate = t.state("state", State { updates: 3, skipped: 1, apply: 0, clip: 1.0, ..State::default() });
    let segment = Segment { params: tparams.clone(), grads: tgrads, m: tm.clone(), v: Some(tv.clone()), decay: 400 };
    AdamW::new().apply(&mut t.plan, &tstep, &tstate, CONSTANTS, &segment);
    t.expect_words(&tparams, 0, &bits(&params));
    t.expect_words(&tm, 0, &bits(&m));
    t.expect_words(&tv, 0, &bits(&v));
    c.check(t)
}
