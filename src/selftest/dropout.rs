//! dropout.forward, which is its own backward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::dropout::Dropout;
use crate::ops::step::Step;
use crate::reference::dropout as twin;

use super::trial::{Checked, Checker, Trial, noise, relative, stored};

fn trial(c: &mut Checker, samples: usize, per_sample: usize, p: f64, first_sample: u32) -> Checked {
    for dtype in STORAGES {
        c.check(stored_trial(samples, per_sample, p, first_sample, dtype))?;
    }
    Ok(())
}

fn stored_trial(samples: usize, per_sample: usize, p: f64, first_sample: u32, dtype: Dtype) -> Trial {
    let len = samples * per_sample;
    let mut t = Trial::new(format!("dropout {samples}x{per_sample} p {p} from sample {first_sample} {dtype:?}"));
    let (stream, step) = (11, Step { seed: 77, first_sample, ..Step::default() }.with_dropout(p));
    let x = stored(&noise(len, 1), dtype);
    let tstep = t.step("step", step);
    let tx = t.activation("x", &[samples, per_sample], dtype, &x);
    let ty = t.activation_output("y", &[samples, per_sample], dtype);
    Dropout::new(dtype).forward(&mut t.plan, &tstep, stream, samples, &tx, &ty);
    let first = u64::from(first_sample) * per_sample as u64;
    let index = |i: usize| first + i as u64;
    let factor = |i: usize| twin::keep_factor(index(i), stream, step.seed, step.drop_below, f64::from(step.keep_scale));
    let y: Vec<f64> = (0..len).map(|i| x[i] * factor(i)).collect();
    if first == 0 {
        assert_eq!(y, twin::forward(&x, stream, step.seed, step.drop_below, f64::from(step.keep_scale)));
    }
    t.expect(&ty, &y, 0.0, relative(dtype, 1e-7));
    t
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    trial(c, 5, 156, 0.1, 3)?;
    trial(c, 7, 200, 0.25, u32::MAX - 6)
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for (samples, per_sample) in [(1, 4), (3, 20), (1, 252), (65, 4), (5, 156)] {
        trial(c, samples, per_sample, 0.5, 0)?;
        trial(c, samples, per_sample, 0.1, 3)?;
    }
    Ok(())
}

/// p = 0 changes nothing.
pub fn nothing_dropped(c: &mut Checker) -> Checked {
    trial(c, 3, 68, 0.0, 2)
}

/// The counter carries within a sample and between samples, and both words matter: the mask never repeats after 2³² elements.
pub fn indices_of_more_than_32_bits(c: &mut Checker) -> Checked {
    trial(c, 3, 200, 0.25, 21_474_836)?;
    trial(c, 2, 256, 0.5, (1 << 24) - 1)?;
    trial(c, 7, 200, 0.25, u32::MAX - 6)
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    trial(c, 3, 21_848, 0.2, 1)
}
