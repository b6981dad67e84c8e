//! The norm of the whole gradient, and the factor that clips it to a bound (Pascanu et al. 2013, as PyTorch's clip_grad_norm_).
//!
//! ```text
//! norm   = √(Σ x²)        over all parameters
//! factor = min(1, max_norm / (norm + 1e-6))        1 when max_norm = 0: no clipping
//! ```

/// Σ x² over any shape.
pub fn sum_of_squares(x: &[f64]) -> f64 {
    let mut sum = 0.0;
    for i in 0..x.len() {
        sum += x[i] * x[i];
    }
    sum
}

/// The factor on every gradient, given the `norm` of all of them.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    #[test]
    fn a_clipped_gradient_has_the_norm_allowed() {
        let grads = noise(101, 1);
        let norm = sum_of_squares(&grads).sqrt();
        let factor = clip_factor(norm, 0.5);
        let clipped: Vec<f64> = grads.iter().map(|g| factor * g).collect();
        assert_close("gradient_norm after clipping", &[sum_of_squares(&clipped).sqrt()], &[0.5], 0.0, 1e-6);
    }

    #[test]
    fn a_short_gradient_and_no_bound_leave_it_alone() {
        assert_eq!(sum_of_squares(&[3.0, -4.0]), 25.0);
        assert_eq!(clip_factor(5.0, 100.0), 1.0);
        assert_eq!(clip_factor(5.0, 0.0), 1.0);
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        assert_eq!(clip_factor(4.0, 1.0), 1.0 / 4.000001);
    }
}
