//! position.sinusoidal, .learned, .learned_backward

use wgpt::low_level::gpu::tensor::Dtype;
use wgpt::low_level::ops::STORAGES;
use wgpt::low_level::ops::position::{MAX_POSITIONS, Position, frequencies};
use wgpt::low_level::reference::position as twin;

use crate::harness::{Trial, dyadic, noise, plus, relative, stored};

fn sinusoidal(batch: usize, time: usize, cols: usize, dtype: Dtype) {
    let mut t = Trial::new(format!("position.sinusoidal {batch}x{time}x{cols} {dtype:?}"));
    let x = stored(&noise(batch * time * cols, 1), dtype);
    let tx = t.activation("x", &[batch, time, cols], dtype, &x);
    let tfrequencies = t.words("frequencies", &[cols.div_ceil(2), 2], &frequencies(cols));
    Position::new(dtype).sinusoidal(&mut t.plan, &tx, &tfrequencies);
    // The range reduction is exact, so the last position has the same tolerance as the first.
    t.expect(&tx, &twin::sinusoidal(&x, batch, time, cols), 2e-6, relative(dtype, 0.0));
    t.run();
}

/// A table with three positions more than x. All sums are exact in f32.
fn learned(batch: usize, time: usize, cols: usize, dtype: Dtype) {
    let position = Position::new(dtype);
    let mut t = Trial::new(format!("position.learned {batch}x{time}x{cols} {dtype:?}"));
    let (len, table_len) = (batch * time * cols, (time + 3) * cols);
    let (x, table, dx, start) = (dyadic(len, 1, 256.0), dyadic(table_len, 2, 256.0), dyadic(len, 3, 256.0), dyadic(table_len, 4, 256.0));
    let tx = t.activation("x", &[batch, time, cols], dtype, &x);
    let ttable = t.input("table", &[time + 3, cols], &table);
    let tdx = t.activation("dx", &[batch, time, cols], dtype, &dx);
    let tdtable = t.input("dtable", &[time + 3, cols], &start);
    position.learned(&mut t.plan, &tx, &ttable);
    position.learned_backward(&mut t.plan, &tdx, &tdtable);
    t.expect(&tx, &stored(&twin::learned(&x, &table, batch, time, cols), dtype), 0.0, 0.0);
    t.expect(&tdtable, &plus(&start, &twin::learned_backward(&dx, batch, time, cols, time + 3)), 0.0, 0.0);
    t.run();
}

const ODD: [(usize, usize, usize); 5] = [(1, 1, 4), (3, 17, 8), (1, 63, 4), (2, 43, 12), (1, 65, 132)];

#[test]
fn sinusoidal_at_odd_sizes() {
    for (batch, time, cols) in ODD {
        STORAGES.into_iter().for_each(|dtype| sinusoidal(batch, time, cols, dtype));
    }
}

#[test]
fn sinusoidal_up_to_the_last_position() {
    sinusoidal(1, MAX_POSITIONS, 8, Dtype::F32);
}

#[test]
fn learned_at_odd_sizes() {
    for (batch, time, cols) in ODD {
        STORAGES.into_iter().for_each(|dtype| learned(batch, time, cols, dtype));
    }
}

#[test]
fn learned_at_more_than_65_535_positions() {
    learned(2, 65_539, 4, Dtype::F32);
}

#[test]
fn learned_summed_over_more_than_65_536() {
    learned(65_543, 1, 4, Dtype::F32);
}
