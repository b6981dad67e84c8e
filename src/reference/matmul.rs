//! A linear layer; weights are (out, in), so every row of `weight` makes one column of `y`.
//!
//! ```text
//! y       = x · weightᵀ + bias        y[row, col] = Σ_inner x[row, inner] weight[col, inner] + bias[col]
//! dx      = dy · weight
//! dweight = dyᵀ · x
//! dbias   = Σ_rows dy                 (column_sum.forward)
//! ```

/// `x` (rows, inner), `weight` (cols, inner), `bias` (cols) -> `y` (rows, cols).
pub fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, rows: usize, inner: usize, cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; rows * cols];
    for row in 0..rows {
        for col in 0..cols {
            let mut sum = 0.0;
            for k in 0..inner {
                sum += x[row * inner + k] * weight[col * inner + k];
            }
            y[row * cols + col] = sum + bias.map_or(0.0, |bias| bias[col]);
        }
    }
    y
}

/// `dy` (rows, cols), `weight` (cols, inner) -> `dx` (rows, inner).
pub fn backward_input(dy: &[f64], weight: &[f64], rows: usize, inner: usize, cols: usize) -> Vec<f64> {
    let mut dx = vec![0.0; rows * inner];
    for row in 0..rows {
        for k in 0..inner {
            for col in 0..cols {
                dx[row * inner + k] += dy[row * cols + col] * weight[col * inner + k];
            }
        }
    }
    dx
}

/// `dy` (rows, cols), `x` (rows, inner) -> `dweight` (cols, inner).
pub fn backward_weight(dy: &[f64], x: &[f64], rows: usize, inner: usize, cols: usize) -> Vec<f64> {
    let mut dweight = vec![0.0; cols * inner];
    for col in 0..cols {
        for k in 0..inner {
            for row in 0..rows {
                dweight[col * inner + k] += dy[row * cols + col] * x[row * inner + k];
            }
        }
    }
    dweight
}

#[cfg(test)]
mod tests {
    use super::super::column_sum;
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        for (rows, inner, cols) in [(1, 1, 1), (3, 7, 5), (5, 1, 9)] {
            let (x, weight) = (noise(rows * inner, 1), noise(cols * inner, 2));
            let (bias, dy) = (noise(cols, 3), noise(rows * cols, 4));

            let want = gradient(|x| weighted_sum(&dy, &forward(x, &weight, Some(&bias), rows, inner, cols)), &x);
            let got = backward_input(&dy, &weight, rows, inner, cols);
            assert_close("matmul.backward_input dx", &got, &want, TOLERANCE.0, TOLERANCE.1);

            let want = gradient(|weight| weighted_sum(&dy, &forward(&x, weight, None, rows, inner, cols)), &weight);
            let got = backward_weight(&dy, &x, rows, inner, cols);
            assert_close("matmul.backward_weight dweight", &got, &want, TOLERANCE.0, TOLERANCE.1);

            let want = gradient(|bias| weighted_sum(&dy, &forward(&x, &weight, Some(bias), rows, inner, cols)), &bias);
            let got = column_sum::forward(&dy, rows, cols);
            assert_close("column_sum.forward dbias", &got, &want, TOLERANCE.0, TOLERANCE.1);
        }
    }

    #[test]
    fn weights_are_out_in() {
        let (x, weight) = ([1.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(forward(&x, &weight, Some(&[0.5, 0.0, -0.5]), 1, 2, 3), [21.5, 43.0, 64.5]);
    }
}
