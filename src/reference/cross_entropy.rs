//! The loss of a row of logits, in nats: minus the logarithm of the probability of its target.
//!
//! ```text
//! lse[row]          = ln Σ_col exp logits[row, col]
//! losses[row]       = lse[row] − logits[row, target]
//! dlogits[row, col] = (exp(logits[row, col] − lse[row]) − (1 if col = target else 0)) · scale
//! ```
//!
//! A target that names no column is ignored: its loss and its gradient are zero. [`IGNORED`] is the intended one; any other is treated the
//! same, because data is not trusted. `scale` is the upstream gradient of each loss: 1 / (valid targets) makes it a mean.

/// The target of a row that is ignored.
pub const IGNORED: u32 = u32::MAX;

/// `logits` (rows, cols = V), `targets` (rows) -> (`losses` (rows), `lse` (rows)).
pub fn forward(logits: &[f64], targets: &[u32], cols: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = targets.len();
    let (mut losses, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    for row in 0..rows {
        let logits = &logits[row * cols..][..cols];
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for col in 0..cols {
            sum += (logits[col] - max).exp();
        }
        lse[row] = max + sum.ln();
        let target = targets[row] as usize;
        if target < cols {
            losses[row] = lse[row] - logits[target];
        }
    }
    (losses, lse)
}

/// `logits` (rows, cols = V), `lse` (rows), `targets` (rows) -> `dlogits` (rows, cols).
pub fn backward(logits: &[f64], lse: &[f64], targets: &[u32], cols: usize, scale: f64) -> Vec<f64> {
    let mut dlogits = vec![0.0; targets.len() * cols];
    for row in 0..targets.len() {
        let target = targets[row] as usize;
        if target < cols {
            for col in 0..cols {
                let one_hot = if col == target { 1.0 } else { 0.0 };
                dlogits[row * cols + col] = ((logits[row * cols + col] - lse[row]).exp() - one_hot) * scale;
            }
        }
    }
    dlogits
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise};
    use super::*;

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        let (cols, targets, scale) = (7, [6, 0, IGNORED, 3, 7], 1.0 / 3.0);
        let logits: Vec<f64> = noise(targets.len() * cols, 1).iter().map(|x| 5.0 * x).collect();
        let (_, lse) = forward(&logits, &targets, cols);
        let got = backward(&logits, &lse, &targets, cols, scale);
        let want = gradient(|logits| scale * forward(logits, &targets, cols).0.iter().sum::<f64>(), &logits);
        assert_close("cross_entropy.backward dlogits", &got, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_vocabulary() {
        let (losses, lse) = forward(&[2.0; 10], &[1, 4], 5);
        assert_close("cross_entropy.forward losses", &losses, &[5f64.ln(); 2], 1e-14, 0.0);
        assert_close("cross_entropy.forward lse", &lse, &[2.0 + 5f64.ln(); 2], 1e-14, 0.0);
    }

    #[test]
    fn a_target_that_names_no_column_costs_nothing() {
        let (losses, lse) = forward(&[1.0, 2.0, 1.0, 2.0], &[IGNORED, 2], 2);
        assert_eq!(losses, [0.0, 0.0]);
        assert_eq!(backward(&[1.0, 2.0, 1.0, 2.0], &lse, &[IGNORED, 2], 2, 1.0), [0.0; 4]);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let (losses, _) = forward(&[1e5, -1e5, 0.0], &[1], 3);
        assert_close("cross_entropy.forward losses", &losses, &[2e5], 0.0, 1e-15);
    }
}
