//! cast.forward

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::cast::Cast;
use wgpt::low_level::reference::cast as twin;

use crate::harness::{STORAGES, Trial, noise};

fn trial(x: &[f64]) {
    for dtype in STORAGES {
        let mut t = Trial::new(format!("cast {} {dtype:?}", x.len()));
        let tx = t.input("x", &[x.len()], x);
        let ty = t.activation_output("y", &[x.len()], dtype);
        Cast::new(dtype).forward(&mut t.plan, &tx, &ty);
        let want = if dtype == Dtype::Bf16 { twin::forward(x) } else { x.to_vec() };
        t.expect(&ty, &want, 0.0, 0.0);
        t.run();
    }
}

#[test]
fn odd_sizes() {
    for len in [4, 60, 68, 252, 260, 776] {
        trial(&noise(len, 1));
    }
}

#[test]
fn more_elements_than_65_535() {
    trial(&noise(65_540, 1));
}

/// Ties of both signs, of tiny and huge magnitudes.
#[test]
fn ties_go_to_the_even() {
    let ties = [1.00390625, 1.01171875, -1.00390625, -1.01171875, 257.0, 259.0, -257.0, 0.0];
    trial(&[ties, ties.map(|x| x * 2f64.powi(-100)), ties.map(|x| x * 2f64.powi(100))].concat());
}
