//! Layer normalization over the last axis (Ba, Kiros and Hinton 2016); the variance is the biased one, divided by C.
//!
//! ```text
//! mean = Σ x / C          rstd = 1 / √(Σ (x − mean)² / C + ε)
//! x̂ = (x − mean) · rstd   y = x̂ · weight + bias
//!
//! dx̂ = dy · weight        dx = rstd · (dx̂ − Σ dx̂ / C − x̂ · Σ (dx̂ · x̂) / C)
//! dweight = Σ_rows dy · x̂      dbias = Σ_rows dy
//! ```

/// `x` (rows, cols), `weight` (cols), `bias` (cols) -> (`y` (rows, cols), `mean` (rows), `rstd` (rows)).
pub fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, rows: usize, cols: usize, eps: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut mean, mut rstd) = (vec![0.0; rows * cols], vec![0.0; rows], vec![0.0; rows]);
    for row in 0..rows {
        for col in 0..cols {
            mean[row] += x[row * cols + col] / cols as f64;
        }
        let mut variance = 0.0;
        for col in 0..cols {
            variance += (x[row * cols + col] - mean[row]).powi(2) / cols as f64;
        }
        rstd[row] = 1.0 / (variance + eps).sqrt();
        for col in 0..cols {
            let x_hat = (x[row * cols + col] - mean[row]) * rstd[row];
            y[row * cols + col] = x_hat * weight[col] + bias.map_or(0.0, |bias| bias[col]);
        }
    }
    (y, mean, rstd)
}

/// `dy` and `x` (rows, cols), `weight` (cols), `mean` and `rstd` (rows) -> (`dx` (rows, cols), `dweight` (cols), `dbias` (cols)).
pub fn backward(
    dy: &[f64],
    x: &[f64],
    weight: &[f64],
    mean: &[f64],
    rstd: &[f64],
    rows: usize,
    cols: usize,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; rows * cols], vec![0.0; cols], vec![0.0; cols]);
    for row in 0..rows {
        let x_hat = |col: usize| (x[row * cols + col] - mean[row]) * rstd[row];
        let dx_hat = |col: usize| dy[row * cols + col] * weight[col];
        let (mut mean_dx_hat, mut mean_dx_hat_x_hat) = (0.0, 0.0);
        for col in 0..cols {
            mean_dx_hat += dx_hat(col) / cols as f64;
            mean_dx_hat_x_hat += dx_hat(col) * x_hat(col) / cols as f64;
        }
        for col in 0..cols {
            dx[row * cols + col] = rstd[row] * (dx_hat(col) - mean_dx_hat - x_hat(col) * mean_dx_hat_x_hat);
            dweight[col] += dy[row * cols + col] * x_hat(col);
            dbias[col] += dy[row * cols + col];
        }
    }
    (dx, dweight, dbias)
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    const EPS: f64 = 1e-5;

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        for (rows, cols) in [(1, 3), (5, 7), (3, 17)] {
            let (x, weight) = (noise(rows * cols, 1), noise(cols, 2));
            let (bias, dy) = (noise(cols, 3), noise(rows * cols, 4));
            let (_, mean, rstd) = forward(&x, &weight, Some(&bias), rows, cols, EPS);
            let (dx, dweight, dbias) = backward(&dy, &x, &weight, &mean, &rstd, rows, cols);

            let want = gradient(|x| weighted_sum(&dy, &forward(x, &weight, None, rows, cols, EPS).0), &x);
            assert_close("layer_norm.backward dx", &dx, &want, TOLERANCE.0, TOLERANCE.1);
            let want = gradient(|weight| weighted_sum(&dy, &forward(&x, weight, None, rows, cols, EPS).0), &weight);
            assert_close("layer_norm.backward dweight", &dweight, &want, TOLERANCE.0, TOLERANCE.1);
            let want = gradient(|bias| weighted_sum(&dy, &forward(&x, &weight, Some(bias), rows, cols, EPS).0), &bias);
            assert_close("layer_norm.backward dbias", &dbias, &want, TOLERANCE.0, TOLERANCE.1);
        }
    }

    #[test]
    fn a_row_comes_out_with_mean_zero_and_variance_one() {
        let (rows, cols) = (3, 9);
        let x: Vec<f64> = noise(rows * cols, 1).iter().map(|x| 1000.0 + 50.0 * x).collect();
        let (y, mean, rstd) = forward(&x, &[1.0; 9], None, rows, cols, 0.0);
        for row in 0..rows {
            let y = &y[row * cols..][..cols];
            let moments = [y.iter().sum::<f64>() / cols as f64, y.iter().map(|y| y * y).sum::<f64>() / cols as f64];
            assert_close("layer_norm.forward moments of y", &moments, &[0.0, 1.0], 1e-10, 0.0);
            let back: Vec<f64> = y.iter().map(|y| y / rstd[row] + mean[row]).collect();
            assert_close("layer_norm.forward x from y", &back, &x[row * cols..][..cols], 0.0, 1e-12);
        }
    }

    #[test]
    fn a_constant_row_gives_the_bias() {
        let (y, _, rstd) = forward(&[4.0, 4.0], &[3.0, 3.0], Some(&[0.25, -1.0]), 1, 2, 1e-4);
        assert_close("layer_norm.forward y", &y, &[0.25, -1.0], 0.0, 0.0);
        assert_close("layer_norm.forward rstd", &rstd, &[100.0], 0.0, 1e-12);
    }
}
