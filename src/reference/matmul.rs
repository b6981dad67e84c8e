//! A linear layer; weights are (out, in), so every row of `weight` computes one column of `y`. Also the operations fused into its output:
//! an activation, or dropout and the residual sum.
//!
//! ```text
//! y       = x · weightᵀ + bias        y[row, col] = Σ_inner x[row, inner] weight[col, inner] + bias[col]
//! dx      = dy · weight
//! dweight = dyᵀ · x
//! dbias   = Σ_rows dy
//!
//! forward_activate   y as above, activated = f(y)       dy = dactivated · f′(y)
//! forward_residual   y = residual + factor · (the same) dresidual = dy, and the product's dy is factor · dy
//! ```

use super::activation;

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

/// `dy` (rows, cols) -> `dbias` (cols).
pub fn backward_bias(dy: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let mut dbias = vec![0.0; cols];
    for row in 0..rows {
        for col in 0..cols {
            dbias[col] += dy[row * cols + col];
        }
    }
    dbias
}

/// As [`forward`] -> (`y`, `activated`), both (rows, cols); ReLU if `relu`, else GELU.
pub fn forward_activate(
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
    rows: usize,
    inner: usize,
    cols: usize,
    relu: bool,
) -> (Vec<f64>, Vec<f64>) {
    let y = forward(x, weight, bias, rows, inner, cols);
    let activated = if relu { activation::relu(&y) } else { activation::gelu(&y) };
    (y, activated)
}

/// `dy` (rows, cols), `weight` (cols, inner), `before` (rows, inner), where this layer's input is the activation of `before` -> `dbefore`
/// (rows, inner).
pub fn backward_input_activate(dy: &[f64], weight: &[f64], before: &[f64], rows: usize, inner: usize, cols: usize, relu: bool) -> Vec<f64> {
    let dx = backward_input(dy, weight, rows, inner, cols);
    if relu { activation::relu_backward(&dx, before) } else { activation::gelu_backward(&dx, before) }
}

/// As [`forward`], with `residual` (rows, cols) and dropout's `factor`(element) -> `y` (rows, cols).
pub fn forward_residual(
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
    residual: &[f64],
    factor: &dyn Fn(usize) -> f64,
    rows: usize,
    inner: usize,
    cols: usize,
) -> Vec<f64> {
    let mut y = forward(x, weight, bias, rows, inner, cols);
    for i in 0..y.len() {
        y[i] = residual[i] + factor(i) * y[i];
    }
    y
}

#[cfg(test)]
mod tests {
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
            let got = backward_bias(&dy, rows, cols);
            assert_close("matmul.backward_weight_bias dbias", &got, &want, TOLERANCE.0, TOLERANCE.1);
        }
    }

    /// The gradient with respect to `before`, the output of the feed-forward's first product: y = f(before) · weightᵀ.
    #[test]
    fn finite_differences_prove_the_activations_backward() {
        let (rows, inner, cols) = (3, 7, 5);
        let before: Vec<f64> = noise(rows * inner, 1).iter().map(|x| 3.0 * x).collect();
        let (weight, dy) = (noise(cols * inner, 2), noise(rows * cols, 3));
        for relu in [false, true] {
            let activated = |before: &[f64]| if relu { activation::relu(before) } else { activation::gelu(before) };
            let want = gradient(|before| weighted_sum(&dy, &forward(&activated(before), &weight, None, rows, inner, cols)), &before);
            let got = backward_input_activate(&dy, &weight, &before, rows, inner, cols, relu);
            assert_close("matmul.backward_input_activate", &got, &want, TOLERANCE.0, TOLERANCE.1);
        }
    }

    /// The backward of dropout is dropout, and that of the residual is dy; the linear layer's own backward follows.
    #[test]
    fn finite_differences_prove_the_residuals_backward() {
        let (rows, inner, cols) = (3, 4, 5);
        let (x, weight, residual, dy) = (noise(rows * inner, 1), noise(cols * inner, 2), noise(rows * cols, 3), noise(rows * cols, 4));
        let factor = |i: usize| if i.is_multiple_of(3) { 0.0 } else { 1.5 };
        let y = |x: &[f64], residual: &[f64]| forward_residual(x, &weight, None, residual, &factor, rows, inner, cols);
        let want = gradient(|residual| weighted_sum(&dy, &y(&x, residual)), &residual);
        assert_close("matmul.forward_residual dresidual", &dy, &want, TOLERANCE.0, TOLERANCE.1);
        let dropped: Vec<f64> = (0..dy.len()).map(|i| dy[i] * factor(i)).collect();
        let want = gradient(|x| weighted_sum(&dy, &y(x, &residual)), &x);
        let got = backward_input(&dropped, &weight, rows, inner, cols);
        assert_close("matmul.forward_residual dx", &got, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn weights_are_out_in() {
        let (x, weight) = ([1.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(forward(&x, &weight, Some(&[0.5, 0.0, -0.5]), 1, 2, 3), [21.5, 43.0, 64.5]);
    }
}
