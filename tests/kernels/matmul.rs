//! matmul.forward, .forward_bias, .backward_input, .backward_input_add, .backward_weight

use wgpt::ops::Ops;
use wgpt::ops::matmul::Block;
use wgpt::reference::matmul as twin;

use crate::harness::{Trial, noise};

/// y (rows, cols) from inner.
fn trial(rows: usize, inner: usize, cols: usize) {
    let ops = Ops::new(8);
    let mut t = Trial::new(format!("matmul {rows}x{inner}x{cols}"));
    let (x, weight, bias, dy) = (noise(rows * inner, 1), noise(cols * inner, 2), noise(cols, 3), noise(rows * cols, 4));
    let (dx_start, dweight_start) = (noise(rows * inner, 5), noise(cols * inner, 6));
    let tx = t.input("x", &[rows, inner], &x);
    let tweight = t.input("weight", &[cols, inner], &weight);
    let tbias = t.input("bias", &[cols], &bias);
    let tdy = t.input("dy", &[rows, cols], &dy);
    let ty = t.output("y", &[rows, cols]);
    let ty_bias = t.output("y_bias", &[rows, cols]);
    let tdx = t.output("dx", &[rows, inner]);
    let tdx_added = t.input("dx_added", &[rows, inner], &dx_start);
    let tdweight = t.input("dweight", &[cols, inner], &dweight_start);
    let whole = Block::whole;
    ops.matmul.forward(&mut t.plan, whole(&tx), whole(&tweight), None, whole(&ty));
    ops.matmul.forward(&mut t.plan, whole(&tx), whole(&tweight), Some(&tbias), whole(&ty_bias));
    ops.matmul.backward_input(&mut t.plan, whole(&tdy), whole(&tweight), whole(&tdx), false);
    ops.matmul.backward_input(&mut t.plan, whole(&tdy), whole(&tweight), whole(&tdx_added), true);
    ops.matmul.backward_weight(&mut t.plan, whole(&tdy), whole(&tx), whole(&tdweight));

    let plus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
    // Rounding of a sum of n products grows with √n where signs are random.
    let tolerance = |n: usize| 2e-6 * (n as f64).sqrt() + 1e-6;
    let dx = twin::backward_input(&dy, &weight, rows, inner, cols);
    let dweight = twin::backward_weight(&dy, &x, rows, inner, cols);
    t.expect(&ty, &twin::forward(&x, &weight, None, rows, inner, cols), tolerance(inner), 1e-5);
    t.expect(&ty_bias, &twin::forward(&x, &weight, Some(&bias), rows, inner, cols), tolerance(inner), 1e-5);
    t.expect(&tdx, &dx, tolerance(cols), 1e-5);
    t.expect(&tdx_added, &plus(&dx_start, &dx), tolerance(cols), 1e-5);
    t.expect(&tdweight, &plus(&dweight_start, &dweight), tolerance(rows), 1e-5);
    t.run();
}

#[test]
fn odd_sizes() {
    for (rows, inner, cols) in [(1, 1, 1), (63, 17, 65), (1, 33, 200), (129, 64, 7), (65, 15, 130), (5, 200, 1)] {
        trial(rows, inner, cols);
    }
}

#[test]
fn sums_of_more_than_65_536() {
    trial(2, 65_543, 3);
    trial(3, 2, 65_543);
    trial(65_543, 3, 2);
}

/// Blocks of larger matrices: rows and columns of a chunk of logits.
#[test]
fn blocks() {
    let ops = Ops::new(8);
    let mut t = Trial::new("matmul blocks");
    let (x, weight) = (noise(9 * 11, 1), noise(6 * 11, 2));
    let mut y = noise(5 * 10, 3);
    let tx = t.input("x", &[9, 11], &x);
    let tweight = t.input("weight", &[6, 11], &weight);
    let ty = t.input("y", &[5, 10], &y);
    ops.matmul.forward(&mut t.plan, Block::rows(&tx, 4, 5), Block::whole(&tweight), None, Block::whole(&ty).columns(3, 6));
    let part = twin::forward(&x[4 * 11..], &weight, None, 5, 11, 6);
    for r in 0..5 {
        y[r * 10 + 3..r * 10 + 9].copy_from_slice(&part[r * 6..r * 6 + 6]);
    }
    t.expect(&ty, &y, 1e-5, 1e-5);
    t.run();
}
