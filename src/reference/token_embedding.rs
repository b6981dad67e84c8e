//! Embedding and position of consecutive rows, the first at `position`.
//!
//! ```text
//! y[r] = scale · table[ids[r]] + place[position + r]        place: a learned table, or the sinusoids
//! ```

use super::{embedding, position as places};

/// `ids` (rows), `table` (V, cols), `positions` (context, cols) -> `y` (rows, cols).
pub fn learned(ids: &[u32], table: &[f64], positions: &[f64], position: usize, cols: usize, scale: f64) -> Vec<f64> {
    let mut y = embedding::forward(ids, table, cols, scale);
    for row in 0..ids.len() {
        for col in 0..cols {
            y[row * cols + col] += positions[(position + row) * cols + col];
        }
    }
    y
}

/// The same with the sinusoids of [`super::position`].
pub fn sinusoidal(ids: &[u32], table: &[f64], position: usize, cols: usize, scale: f64) -> Vec<f64> {
    let mut y = embedding::forward(ids, table, cols, scale);
    for row in 0..ids.len() {
        for col in 0..cols {
            y[row * cols + col] += places::sinusoid(position + row, col, cols);
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    #[test]
    fn pieces_of_a_sequence_are_the_whole_sequence() {
        let (ids, cols) = ([2u32, 0, 4, 1, 2], 4);
        let (table, positions) = (noise(5 * cols, 1), noise(7 * cols, 2));
        let x = embedding::forward(&ids, &table, cols, 1.5);
        let whole = [learned(&ids[..2], &table, &positions, 0, cols, 1.5), learned(&ids[2..], &table, &positions, 2, cols, 1.5)].concat();
        assert_close("token_embedding.learned", &whole, &places::learned(&x, &positions, 1, 5, cols), 1e-15, 0.0);
        let whole = [sinusoidal(&ids[..2], &table, 0, cols, 1.5), sinusoidal(&ids[2..], &table, 2, cols, 1.5)].concat();
        assert_close("token_embedding.sinusoidal", &whole, &places::sinusoidal(&x, 1, 5, cols), 1e-15, 0.0);
    }
}
