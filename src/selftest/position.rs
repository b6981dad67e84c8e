//! position.sinusoidal, .learned, .learned_backward

use crate::gpu::tensor::Dtype;
use crate::ops::STORAGES;
use crate::ops::position::{MAX_POSITIONS, Position, frequencies};
use crate::reference::position as twin;

use super::trial::{Checked, Checker, Trial, dyadic, noise, plus, relative, stored};

fn sinusoidal(batch: usize, time: usize, cols: usize, dtype: Dtype) -> Trial {
    let mut t = Trial::new(format!("position.sinusoidal {batch}x{time}x{cols} {dtype:?}"));
    let x = stored(&noise(batch * time * cols, 1), dtype);
    let tx = t.activation("x", &[batch, time, cols], dtype, &x);
    let tfrequencies = t.words("frequencies", &[cols.div_ceil(2), 2], &frequencies(cols));
    Position::new(dtype).sinusoidal(&mut t.plan, &tx, &tfrequencies);
    // The range reduction is exact, so the last position has the same tolerance as the first.
    t.expect(&tx, &twin::sinusoidal(&x, batch, time, cols), 2e-6, relative(dtype, 0.0));
    t
}

/// A table with three positions more than x. All sums are exact in f32.
fn learned(batch: usize, time: usize, cols: usize, dtype: Dtype) -> Trial {
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
    t
}

const ODD: [(usize, usize, usize); 5] = [(1, 1, 4), (3, 17, 8), (1, 63, 4), (2, 43, 12), (1, 65, 132)];

/// The trials of `wgpt selftest`.
pub fn quick(c: &mut Checker) -> Checked {
    for dtype in STORAGES {
        c.check(sinusoidal(3, 17, 8, dtype))?;
        c.check(learned(2, 43, 12, dtype))?;
    }
    Ok(())
}

pub fn sinusoidal_at_odd_sizes(c: &mut Checker) -> Checked {
    for (batch, time, cols) in ODD {
        for dtype in STORAGES {
            c.check(sinusoidal(batch, time, cols, dtype))?;
        }
    }
    Ok(())
}

pub fn sinusoidal_up_to_the_last_position(c: &mut Checker) -> Checked {
    c.check(sinusoidal(1, MAX_POSITIONS, 8, Dtype::F32))
}

pub fn learned_at_odd_sizes(c: &mut Checker) -> Checked {
    for (batch, time, cols) in ODD {
        for dtype in STORAGES {
            c.check(learned(batch, time, cols, dtype))?;
        }
    }
    Ok(())
}

pub fn learned_at_more_than_65_535_positions(c: &mut Checker) -> Checked {
    c.check(learned(2, 65_539, 4, Dtype::F32))
}

pub fn learned_summed_over_more_than_65_536(c: &mut Checker) -> Checked {
    c.check(learned(65_543, 1, 4, Dtype::F32))
}
