//! Encodes the position of a token: fixed sinusoids (Vaswani et al. 2017, section 3.5) or a learned table (GPT-2).
//!
//! ```text
//! PE[t, 2i] = sin(t / 10000^(2i / C))        PE[t, 2i + 1] = cos(t / 10000^(2i / C))
//! sinusoidal: y[b, t] = x[b, t] + PE[t]      dx = dy
//! learned:    y[b, t] = x[b, t] + table[t]   dx = dy        dtable[t] = Σ_b dy[b, t]
//! ```

/// The sinusoid of one `position` in one `channel` of `cols` channels.
pub fn sinusoid(position: usize, channel: usize, cols: usize) -> f64 {
    let pair = channel - channel % 2;
    let angle = position as f64 / 10000f64.powf(pair as f64 / cols as f64);
    if channel.is_multiple_of(2) { angle.sin() } else { angle.cos() }
}

/// `x` (batch, time, cols) -> `y` (batch, time, cols).
pub fn sinusoidal(x: &[f64], batch: usize, time: usize, cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; batch * time * cols];
    for b in 0..batch {
        for t in 0..time {
            for col in 0..cols {
                let at = (b * time + t) * cols + col;
                y[at] = x[at] + sinusoid(t, col, cols);
            }
        }
    }
    y
}

/// `x` (batch, time, cols), `table` (table_rows ≥ time, cols) -> `y` (batch, time, cols).
pub fn learned(x: &[f64], table: &[f64], batch: usize, time: usize, cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; batch * time * cols];
    for b in 0..batch {
        for t in 0..time {
            for col in 0..cols {
                let at = (b * time + t) * cols + col;
                y[at] = x[at] + table[t * cols + col];
            }
        }
    }
    y
}

/// `dy` (batch, time, cols) -> `dtable` (table_rows ≥ time, cols); positions from `time` on are zero.
pub fn learned_backward(dy: &[f64], batch: usize, time: usize, cols: usize, table_rows: usize) -> Vec<f64> {
    let mut dtable = vec![0.0; table_rows * cols];
    for b in 0..batch {
        for t in 0..time {
            for col in 0..cols {
                dtable[t * cols + col] += dy[(b * time + t) * cols + col];
            }
        }
    }
    dtable
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_the_twins_learned_backward() {
        let (batch, time, cols, table_rows) = (3, 5, 7, 6);
        let (x, table, dy) = (noise(batch * time * cols, 1), noise(table_rows * cols, 2), noise(batch * time * cols, 3));
        let want = gradient(|table| weighted_sum(&dy, &learned(&x, table, batch, time, cols)), &table);
        let got = learned_backward(&dy, batch, time, cols, table_rows);
        assert_close("position.learned_backward dtable", &got, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn finite_differences_prove_that_dx_is_dy() {
        let (batch, time, cols) = (2, 3, 5);
        let (x, table, dy) = (noise(batch * time * cols, 1), noise(time * cols, 2), noise(batch * time * cols, 3));
        let want = gradient(|x| weighted_sum(&dy, &learned(x, &table, batch, time, cols)), &x);
        assert_close("position.learned dx", &dy, &want, TOLERANCE.0, TOLERANCE.1);
        let want = gradient(|x| weighted_sum(&dy, &sinusoidal(x, batch, time, cols)), &x);
        assert_close("position.sinusoidal dx", &dy, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn sinusoids_follow_the_paper() {
        // C = 4: the second pair turns 10000^(2/4) = 100 times slower.
        let want = [3f64.sin(), 3f64.cos(), 0.03f64.sin(), 0.03f64.cos()];
        let got: Vec<f64> = (0..4).map(|channel| sinusoid(3, channel, 4)).collect();
        assert_close("position.sinusoid", &got, &want, 1e-15, 0.0);
        let y = sinusoidal(&[10.0; 2 * 4 * 4], 2, 4, 4);
        assert_close("position.sinusoidal b = 1, t = 3", &y[28..], &want.map(|pe| 10.0 + pe), 1e-14, 0.0);
        // An odd width ends on a sine.
        assert_eq!(sinusoid(1, 2, 3), (1.0 / 10000f64.powf(2.0 / 3.0)).sin());
    }
}
