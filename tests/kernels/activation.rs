//! activation.gelu, .gelu_backward, .relu, .relu_backward

use wgpt::ops::activation::{Activation, Kind};
use wgpt::reference::activation as twin;

use crate::harness::{Trial, noise};

fn trial(x: &[f64]) {
    let len = x.len();
    let activation = Activation::new();
    let mut t = Trial::new(format!("activation {len}"));
    let dy = noise(len, 2);
    let tx = t.input("x", &[len], x);
    let tdy = t.input("dy", &[len], &dy);
    for kind in [Kind::Gelu, Kind::Relu] {
        let ty = t.output(&format!("{kind:?} y"), &[len]);
        let tdx = t.output(&format!("{kind:?} dx"), &[len]);
        activation.forward(&mut t.plan, kind, &tx, &ty);
        activation.backward(&mut t.plan, kind, &tdy, &tx, &tdx);
        match kind {
            // WGSL's exp may be off by 3 + 2|u| units in the last place, and 1 + tanh u cancels where u is far below zero.
            Kind::Gelu => {
                t.expect(&ty, &twin::gelu(x), 2e-6, 5e-6);
                t.expect(&tdx, &twin::gelu_backward(&dy, x), 5e-6, 5e-6);
            }
            Kind::Relu => {
                t.expect(&ty, &twin::relu(x), 0.0, 0.0);
                t.expect(&tdx, &twin::relu_backward(&dy, x), 0.0, 0.0);
            }
        }
    }
    t.run();
}

#[test]
fn odd_sizes() {
    for len in [1, 63, 65, 255, 257, 775] {
        let x: Vec<f64> = noise(len, 1).iter().map(|x| 8.0 * x).collect();
        trial(&x);
    }
}

#[test]
fn more_elements_than_65_535() {
    trial(&noise(65_539, 1));
}

/// Where a tanh by exponentials overflows, and at the kink.
#[test]
fn far_tails_and_zero() {
    trial(&[-1e4, 1e4, -45.0, 45.0, -10.0, 10.0, 0.0, -0.0, 2f64.powi(-70), -(2f64.powi(-70)), -0.75]);
}
