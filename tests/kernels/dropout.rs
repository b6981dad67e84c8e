//! dropout.forward, which is its own backward

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::STORAGES;
use wgpt::low_level::ops::dropout::Dropout;
use wgpt::low_level::ops::step::Step;
use wgpt::low_level::reference::dropout as twin;

use crate::harness::{Trial, noise, relative, stored};

fn trial(samples: usize, per_sample: usize, p: f64, first_sample: u32) {
    STORAGES.into_iter().for_each(|dtype| stored_trial(samples, per_sample, p, first_sample, dtype));
}

fn stored_trial(samples: usize, per_sample: usize, p: f64, first_sample: u32, dtype: Dtype) {
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
    t.run();
}

#[test]
fn odd_sizes() {
    for (samples, per_sample) in [(1, 4), (3, 20), (1, 252), (65, 4), (5, 156)] {
        trial(samples, per_sample, 0.5, 0);
        trial(samples, per_sample, 0.1, 3);
    }
}

/// p = 0 changes nothing.
#[test]
fn nothing_dropped() {
    trial(3, 68, 0.0, 2);
}

/// The counter carries within a sample and between samples, and both words matter: the mask never repeats after 2³² elements.
#[test]
fn indices_of_more_than_32_bits() {
    trial(3, 200, 0.25, 21_474_836);
    trial(2, 256, 0.5, (1 << 24) - 1);
    trial(7, 200, 0.25, u32::MAX - 6);
}

#[test]
fn more_elements_than_65_535() {
    trial(3, 21_848, 0.2, 1);
}
