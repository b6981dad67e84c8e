//! Partial sums over ranges, added to what a gradient holds.
//!
//! ```text
//! y[i] = before[i] + Σ_r partials[r, i]
//! ```

/// `partials` (ranges, len) and `before` (len) -> y (len).
pub fn add(partials: &[f64], before: &[f64]) -> Vec<f64> {
    let mut y = before.to_vec();
    for range in partials.chunks(before.len()) {
        for (y, part) in y.iter_mut().zip(range) {
            *y += part;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::finite_diff::{difference, noise};
    use crate::reference::matmul::backward_weight;

    /// A weight's gradient over all rows is the sum of those over ranges of them, whatever their lengths.
    #[test]
    fn gradients_over_ranges_add_up() {
        let (rows, inner, cols) = (13, 3, 5);
        let (dy, x, before) = (noise(rows * cols, 1), noise(rows * inner, 2), noise(cols * inner, 3));
        let over =
            |from: usize, to: usize| backward_weight(&dy[from * cols..to * cols], &x[from * inner..to * inner], to - from, inner, cols);
        let whole: Vec<f64> = before.iter().zip(over(0, rows)).map(|(a, b)| a + b).collect();
        let partials = [over(0, 6), over(6, 12), over(12, 13)].concat();
        assert_eq!(difference(&add(&partials, &before), &whole, 1e-12, 1e-12), None);
    }
}
