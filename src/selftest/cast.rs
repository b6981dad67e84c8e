//! cast.forward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::cast::Cast;
use crate::reference::cast as twin;

use super::trial::{Checked, Checker, Trial, noise, words_of};

fn trial(c: &mut Checker, x: &[f64]) -> Checked {
    for dtype in STORAGES {
        let mut t = Trial::new(format!("cast {} {dtype:?}", x.len()));
        let tx = t.input("x", &[x.len()], x);
        let ty = t.activation_output("y", &[x.len()], dtype);
        Cast::new(dtype).forward(&mut t.plan, &tx, &ty);
        match dtype {
            Dtype::Bf16 => t.expect(&ty, &twin::forward(x, twin::BF16), 0.0, 0.0),
            // WGSL leaves to the driver in which direction pack2x16float rounds.
            Dtype::F16 => t.expect(&ty, &twin::forward(x, twin::F16), 0.0, 2f64.powi(-10)),
            Dtype::F32 | Dtype::U32 => t.expect(&ty, x, 0.0, 0.0),
        }
        c.check(t)?;
    }
    Ok(())
}

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    trial(c, &noise(260, 1))?;
    ties_go_to_the_even(c)?;
    overflow_and_nan_are_kept(c)
}

pub fn odd_sizes(c: &mut Checker) -> Checked {
    for len in [4, 60, 68, 252, 260, 776] {
        trial(c, &noise(len, 1))?;
    }
    Ok(())
}

pub fn more_elements_than_65_535(c: &mut Checker) -> Checked {
    trial(c, &noise(65_540, 1))
}

/// Ties of both signs, of tiny and huge magnitudes.
pub fn ties_go_to_the_even(c: &mut Checker) -> Checked {
    let ties = [1.00390625, 1.01171875, -1.00390625, -1.01171875, 257.0, 259.0, -257.0, 0.0];
    trial(c, &[ties, ties.map(|x| x * 2f64.powi(-12)), ties.map(|x| x * 2f64.powi(7))].concat())?;
    let far = [ties.map(|x| x * 2f64.powi(-100)), ties.map(|x| x * 2f64.powi(100))].concat();
    let mut t = Trial::new("cast of far ties");
    let (tx, ty) = (t.input("x", &[16], &far), t.activation_output("y", &[16], Dtype::Bf16));
    Cast::new(Dtype::Bf16).forward(&mut t.plan, &tx, &ty);
    t.expect(&ty, &twin::forward(&far, twin::BF16), 0.0, 0.0);
    c.check(t)
}

/// What no driver may change into a number: overflow to an infinity, infinities, and NaNs.
pub fn overflow_and_nan_are_kept(c: &mut Checker) -> Checked {
    let f16 = [65_504.0, 65_519.0, 65_520.0, 1e5, 3e38, f64::INFINITY, f64::NAN, 1.0];
    let bf16 = [3.3895e38, 1.0, f64::from(f32::MAX), -f64::from(f32::MAX), f64::INFINITY, -1.0, f64::NAN, 1.0];
    for (dtype, x) in [(Dtype::F16, f16), (Dtype::F16, f16.map(|x| -x)), (Dtype::Bf16, bf16)] {
        let mut t = Trial::new(format!("cast of {x:?} to {dtype:?}"));
        let (tx, ty) = (t.input("x", &[8], &x), t.activation_output("y", &[8], dtype));
        Cast::new(dtype).forward(&mut t.plan, &tx, &ty);
        // 65,519 becomes the largest number in either direction of rounding that WGSL allows: what is beyond does not fit.
        t.expect_words(&ty, 0, &words_of(&x, dtype));
        c.check(t)?;
    }
    Ok(())
}
