//! column_sum.partial, .finish

use wgpt::ops::column_sum::ColumnSum;
use wgpt::reference::column_sum as twin;

use crate::harness::{Trial, dyadic, plus};

/// Both stages, and the second alone with x for its partials. All sums are exact in f32.
fn trial(rows: usize, cols: usize) {
    let column_sum = ColumnSum::new();
    let mut t = Trial::new(format!("column_sum {rows}x{cols}"));
    let (x, start) = (dyadic(rows * cols, 1, 256.0), dyadic(cols, 2, 256.0));
    let tx = t.input("x", &[rows, cols], &x);
    let ty = t.input("y", &[cols], &start);
    let tfinished = t.input("finished", &[cols], &start);
    column_sum.forward(&mut t.plan, &tx, &ty);
    column_sum.finish(&mut t.plan, &tx, &tfinished);
    let want = plus(&start, &twin::forward(&x, rows, cols));
    t.expect(&ty, &want, 0.0, 0.0);
    t.expect(&tfinished, &want, 0.0, 0.0);
    t.run();
}

#[test]
fn odd_sizes() {
    for (rows, cols) in [(1, 1), (63, 65), (65, 63), (64, 64), (199, 130), (5, 199)] {
        trial(rows, cols);
    }
}

#[test]
fn sums_of_more_than_65_536() {
    trial(65_543, 3);
    trial(131_101, 1);
}

#[test]
fn more_columns_than_65_535() {
    trial(3, 65_543);
}
