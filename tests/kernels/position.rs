//! position.sinusoidal, .learned, .learned_backward

use wgpt::ops::position::{MAX_POSITIONS, Position, frequencies};
use wgpt::reference::position as twin;

use crate::harness::{Trial, dyadic, noise, plus};

fn sinusoidal(batch: usize, time: usize, cols: usize) {
    let mut t = Trial::new(format!("position.sinusoidal {batch}x{time}x{cols}"));
    let x = noise(batch * time * cols, 1);
    let tx = t.input("x", &[batch, time, cols], &x);
    let tfrequencies = t.words("frequencies", &[cols.div_ceil(2), 2], &frequencies(cols));
    Position::new().sinusoidal(&mut t.plan, &tx, &tfrequencies);
    // The reduction is exact, so a far position is as good as the first.
    t.expect(&tx, &twin::sinusoidal(&x, batch, time, cols), 2e-6, 0.0);
    t.run();
}

/// A table of three positions more than x has. All sums are exact in f32.
fn learned(batch: usize, time: usize, cols: usize) {
    let position = Position::new();
    let mut t = Trial::new(format!("position.learned {batch}x{time}x{cols}"));
    let (len, table_len) = (batch * time * cols, (time + 3) * cols);
    let (x, table, dx, start) = (dyadic(len, 1, 256.0), dyadic(table_len, 2, 256.0), dyadic(len, 3, 256.0), dyadic(table_len, 4, 256.0));
    let tx = t.input("x", &[batch, time, cols], &x);
    let ttable = t.input("table", &[time + 3, cols], &table);
    let tdx = t.input("dx", &[batch, time, cols], &dx);
    let tdtable = t.input("dtable", &[time + 3, cols], &start);
    position.learned(&mut t.plan, &tx, &ttable);
    position.learned_backward(&mut t.plan, &tdx, &tdtable);
    t.expect(&tx, &twin::learned(&x, &table, batch, time, cols), 0.0, 0.0);
    t.expect(&tdtable, &plus(&start, &twin::learned_backward(&dx, batch, time, cols, time + 3)), 0.0, 0.0);
    t.run();
}

const ODD: [(usize, usize, usize); 5] = [(1, 1, 1), (3, 17, 5), (1, 255, 1), (2, 43, 3), (1, 65, 130)];

#[test]
fn sinusoidal_at_odd_sizes() {
    for (batch, time, cols) in ODD {
        sinusoidal(batch, time, cols);
    }
}

#[test]
fn sinusoidal_up_to_the_last_position() {
    sinusoidal(1, MAX_POSITIONS, 6);
}

#[test]
fn learned_at_odd_sizes() {
    for (batch, time, cols) in ODD {
        learned(batch, time, cols);
    }
}

#[test]
fn learned_at_more_than_65_535_positions() {
    learned(2, 65_539, 1);
}

#[test]
fn learned_summed_over_more_than_65_536() {
    learned(65_543, 1, 3);
}
