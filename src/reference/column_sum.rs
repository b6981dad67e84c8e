//! The sum of every column, which is the gradient of a bias.
//!
//! ```text
//! y[col] = Σ_row x[row, col]
//! ```
//!
//! It has no backward of its own: it is part of matmul's, and finite differences prove it there and here.

/// `x` (rows, cols) -> `y` (cols).
pub fn forward(x: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; cols];
    for row in 0..rows {
        for col in 0..cols {
            y[col] += x[row * cols + col];
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_that_it_is_the_gradient_of_a_bias() {
        let (rows, cols) = (7, 5);
        let (x, bias, dy) = (noise(rows * cols, 1), noise(cols, 2), noise(rows * cols, 3));
        let add_bias = |bias: &[f64]| -> Vec<f64> { (0..rows * cols).map(|i| x[i] + bias[i % cols]).collect() };
        let want = gradient(|bias| weighted_sum(&dy, &add_bias(bias)), &bias);
        assert_close("column_sum.forward", &forward(&dy, rows, cols), &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn no_rows_sum_to_zero() {
        assert_eq!(forward(&[], 0, 3), [0.0; 3]);
    }
}
