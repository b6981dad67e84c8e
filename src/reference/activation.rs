//! The non-linearity of the feed-forward block: GELU in its tanh form (Hendrycks and Gimpel 2016, as GPT-2 has it) or ReLU.
//!
//! ```text
//! u       = √(2/π) · (x + 0.044715 x³)
//! gelu(x) = ½ x (1 + tanh u)
//! gelu′   = ½ (1 + tanh u) + ½ x (1 − tanh² u) · √(2/π) · (1 + 3 · 0.044715 x²)
//! relu(x) = max(x, 0)        relu′ = 1 where x > 0, else 0
//! ```

/// √(2/π).
const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const CUBE: f64 = 0.044715;

/// `x` -> gelu(x), elementwise.
pub fn gelu(x: &[f64]) -> Vec<f64> {
    x.iter()
        .map(|x| {
            let u = SQRT_2_OVER_PI * (x + CUBE * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        })
        .collect()
}

/// `dy` and `x` of one shape -> `dx` of that shape.
pub fn gelu_backward(dy: &[f64], x: &[f64]) -> Vec<f64> {
    assert_eq!(dy.len(), x.len(), "activation.gelu_backward: dy has {} elements, x has {}", dy.len(), x.len());
    let mut dx = vec![0.0; x.len()];
    for i in 0..x.len() {
        let x = x[i];
        let tanh = (SQRT_2_OVER_PI * (x + CUBE * x.powi(3))).tanh();
        let du = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBE * x.powi(2));
        dx[i] = dy[i] * (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh.powi(2)) * du);
    }
    dx
}

/// `x` -> max(x, 0), elementwise.
pub fn relu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| if *x > 0.0 { *x } else { 0.0 }).collect()
}

/// `dy` and `x` of one shape -> `dx` of that shape; the slope at 0 is 0.
pub fn relu_backward(dy: &[f64], x: &[f64]) -> Vec<f64> {
    assert_eq!(dy.len(), x.len(), "activation.relu_backward: dy has {} elements, x has {}", dy.len(), x.len());
    let mut dx = vec![0.0; x.len()];
    for i in 0..x.len() {
        dx[i] = if x[i] > 0.0 { dy[i] } else { 0.0 };
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        let x: Vec<f64> = noise(33, 1).iter().map(|x| 6.0 * x).collect();
        let dy = noise(33, 2);
        let want = gradient(|x| weighted_sum(&dy, &gelu(x)), &x);
        assert_close("activation.gelu_backward dx", &gelu_backward(&dy, &x), &want, TOLERANCE.0, TOLERANCE.1);
        // Differences cannot detect the kink: no x lies within a step of it.
        assert!(x.iter().all(|x| x.abs() > 1e-3));
        let want = gradient(|x| weighted_sum(&dy, &relu(x)), &x);
        assert_close("activation.relu_backward dx", &relu_backward(&dy, &x), &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn gelu_has_the_published_values() {
        // PyTorch documents gelu(x, approximate="tanh") by this formula; the expected values were computed from it with 60 digits.
        let got = gelu(&[-3.0, -1.0, 0.0, 1.0, 3.0]);
        let want = [-0.003637392081773019, -0.1588080093917233, 0.0, 0.8411919906082767, 2.996362607918227];
        assert_close("activation.gelu", &got, &want, 1e-15, 1e-13);
    }

    #[test]
    fn far_tails_stay_finite() {
        let far = [-1e4, 1e4];
        assert_close("activation.gelu", &gelu(&far), &[0.0, 1e4], 0.0, 0.0);
        assert_close("activation.gelu_backward", &gelu_backward(&[1.0, 1.0], &far), &[0.0, 1.0], 0.0, 0.0);
    }

    #[test]
    fn relu_has_no_slope_at_zero() {
        assert_eq!(relu(&[-1.0, 0.0, 2.0]), [0.0, 0.0, 2.0]);
        assert_eq!(relu_backward(&[5.0, 5.0, 5.0], &[-1.0, 0.0, 2.0]), [0.0, 0.0, 5.0]);
    }
}
