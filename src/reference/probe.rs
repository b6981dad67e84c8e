//! Chains of multiply-adds, and a copy, to measure an adapter. No model uses them, so there is no backward.
//!
//! ```text
//! copy            y[i] = x[i]
//! multiply_add    y[i] = Σ_c v_c    v_c = x[i] + c at first (c = 0, 1, 2), then 8 · rounds times v_c ← v_c · a + b
//! ```

/// `x` -> `y` of its shape.
pub fn copy(x: &[f64]) -> Vec<f64> {
    x.to_vec()
}

/// `x` -> `y` of its shape.
pub fn multiply_add(x: &[f64], rounds: usize, a: f64, b: f64) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for i in 0..x.len() {
        for c in 0..3 {
            let mut v = x[i] + f64::from(c);
            for _ in 0..8 * rounds {
                v = v * a + b;
            }
            y[i] += v;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_follow_the_closed_form() {
        // v_n = aⁿ (v - p) + p about the fixed point p = b / (1 - a).
        let (a, b, rounds) = (0.75f64, 0.5f64, 2);
        let point = b / (1.0 - a);
        let closed = |x: f64| (0..3).map(|c| a.powi(16) * (x + f64::from(c) - point) + point).sum::<f64>();
        for (x, y) in [-1.5, 0.0, 4.0].into_iter().zip(multiply_add(&[-1.5, 0.0, 4.0], rounds, a, b)) {
            assert!((y - closed(x)).abs() < 1e-12, "{x}: {y}, want {}", closed(x));
        }
        assert_eq!(multiply_add(&[2.0], 0, a, b), [9.0]);
    }
}
