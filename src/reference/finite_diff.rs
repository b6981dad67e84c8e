//! Central differences, the first link of every proof: independent of the backward under test.
//!
//! ```text
//! ∂f/∂x_i ≈ (f(x + h e_i) − f(x − h e_i)) / 2h        h = ε^⅓ · max(1, |x_i|) ≈ 6e-6
//! ```
//!
//! With h = ε^⅓ the truncation error (h²) and the rounding error (ε / h) are of the same size, about 1e-10 of the scale of f.

use super::dropout;

/// Absolute and relative tolerance of a twin's backward against [`gradient`]: a thousand times the error of the differences, far below any
/// real bug.
pub const TOLERANCE: (f64, f64) = (1e-7, 1e-6);

/// The gradient of the scalar function `f` at `x`, same shape as `x`, by central differences.
pub fn gradient(f: impl Fn(&[f64]) -> f64, x: &[f64]) -> Vec<f64> {
    let mut moved = x.to_vec();
    let mut dx = vec![0.0; x.len()];
    for i in 0..x.len() {
        let h = f64::EPSILON.cbrt() * x[i].abs().max(1.0);
        let (above, below) = (x[i] + h, x[i] - h);
        moved[i] = above;
        let f_above = f(&moved);
        moved[i] = below;
        let f_below = f(&moved);
        moved[i] = x[i];
        // Divides by the actual step: x + h is rounded.
        dx[i] = (f_above - f_below) / (above - below);
    }
    dx
}

/// Panics unless `|got − want| ≤ abs + rel · |want|` for every element. A wrong length fails first, then any NaN or infinity on either
/// side, then the first element out of tolerance. The message prints `name`, the index and both values.
#[track_caller]
pub fn assert_close(name: &str, got: &[f64], want: &[f64], abs: f64, rel: f64) {
    assert_eq!(got.len(), want.len(), "{name}: got {} elements, want {}", got.len(), want.len());
    if let Some((i, what)) = difference(got, want, abs, rel) {
        panic!("{name}[{i}]: {what}");
    }
}

/// The first element with `|got − want| > abs + rel · |want|`, and what is wrong with it; a NaN or infinity on either side comes first.
pub fn difference(got: &[f64], want: &[f64], abs: f64, rel: f64) -> Option<(usize, String)> {
    let len = got.len();
    if let Some(i) = (0..len).find(|&i| !(got[i].is_finite() && want[i].is_finite())) {
        return Some((i, format!("got {:e}, want {:e}, which is not finite", got[i], want[i])));
    }
    let wrong = |i: &usize| (got[*i] - want[*i]).abs() > abs + rel * want[*i].abs();
    let i = (0..len).find(wrong)?;
    let (count, off) = ((0..len).filter(wrong).count(), (got[i] - want[i]).abs());
    Some((i, format!("got {:e}, want {:e}, off by {off:e} (abs {abs:e}, rel {rel:e}); {count} of {len} are wrong", got[i], want[i])))
}

/// `len` pseudo-random numbers in [-1, 1), the same for the same `seed` on every machine.
pub fn noise(len: usize, seed: u32) -> Vec<f64> {
    (0..len).map(|i| f64::from(dropout::random_u32(i as u64, 0, seed)) / f64::from(1u32 << 31) - 1.0).collect()
}

/// Σ w · y: the scalar loss that makes `w` the upstream gradient `dy`.
pub fn weighted_sum(w: &[f64], y: &[f64]) -> f64 {
    assert_eq!(w.len(), y.len(), "weighted_sum: {} weights for {} values", w.len(), y.len());
    w.iter().zip(y).map(|(w, y)| w * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_know_a_derivative_from_the_book() {
        let x = noise(7, 1);
        let got = gradient(|x| x.iter().map(|x| x.sin() * x.exp()).sum(), &x);
        let want: Vec<f64> = x.iter().map(|x| (x.sin() + x.cos()) * x.exp()).collect();
        assert_close("d/dx sin x · exp x", &got, &want, 1e-9, 1e-9);
    }

    #[test]
    fn differences_scale_the_step_with_large_values() {
        assert_close("d/dx x²", &gradient(|x| x[0] * x[0], &[1e9]), &[2e9], 0.0, 1e-8);
    }

    #[test]
    #[should_panic(expected = "dx[1]: got 2e0, want 3e0, off by 1e0")]
    fn a_difference_prints_name_index_and_both_values() {
        assert_close("dx", &[1.0, 2.0], &[1.0, 3.0], 1e-3, 1e-3);
    }

    #[test]
    #[should_panic(expected = "dx[2]: got NaN, want NaN, which is not finite")]
    fn nan_fails_before_a_plain_difference() {
        assert_close("dx", &[1.0, 2.0, f64::NAN], &[9.0, 9.0, f64::NAN], 1e-3, 1e-3);
    }

    #[test]
    #[should_panic(expected = "dx[0]: got 1e0, want inf, which is not finite")]
    fn an_infinite_truth_forgives_nothing() {
        assert_close("dx", &[1.0], &[f64::INFINITY], 1e-3, 1e-3);
    }

    #[test]
    #[should_panic(expected = "got 1 elements, want 2")]
    fn a_wrong_length_fails() {
        assert_close("dx", &[1.0], &[1.0, 1.0], 1e-3, 1e-3);
    }
}
