//! The residual sum: adds a block's input to its output.
//!
//! ```text
//! y = a + b        da = dy        db = dy
//! ```

/// `a` and `b` of one shape -> `y` of that shape.
pub fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "residual.add: a has {} elements, b has {}", a.len(), b.len());
    let mut y = vec![0.0; a.len()];
    for i in 0..a.len() {
        y[i] = a[i] + b[i];
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    #[test]
    fn finite_differences_prove_that_both_gradients_are_dy() {
        let (a, b, dy) = (noise(11, 1), noise(11, 2), noise(11, 3));
        assert_close("residual.add da", &dy, &gradient(|a| weighted_sum(&dy, &add(a, &b)), &a), TOLERANCE.0, TOLERANCE.1);
        assert_close("residual.add db", &dy, &gradient(|b| weighted_sum(&dy, &add(&a, b)), &b), TOLERANCE.0, TOLERANCE.1);
    }
}
