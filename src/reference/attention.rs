//! Causal multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2). A row of `qkv` is [q | k | v], each of C = H · D
//! columns, head h in columns h · D to (h + 1) · D. Per batch row and head, with s ≤ t:
//!
//! ```text
//! score[t, s] = q[t] · k[s] / √D
//! lse[t]      = ln Σ_s exp score[t, s]
//! p[t, s]     = exp(score[t, s] − lse[t])              softmax, by rows
//! a[t, s]     = p[t, s] · keep[t, s]                   dropout factor, 1 when there is none
//! y[t]        = Σ_s a[t, s] v[s]
//!
//! dv[s]       = Σ_t a[t, s] dy[t]
//! dp[t, s]    = keep[t, s] · dy[t] · v[s]
//! dscore[t, s] = Σ_r p[t, r] (δ_rs − p[t, s]) dp[t, r]  the Jacobian of softmax, δ the identity
//! dq[t]       = Σ_s dscore[t, s] k[s] / √D
//! dk[s]       = Σ_t dscore[t, s] q[t] / √D
//! ```

/// The columns of the q, k and v of head `h` begin at these offsets in a row of `qkv`.
fn head_columns(h: usize, heads: usize, head_size: usize) -> (usize, usize, usize) {
    let channels = heads * head_size;
    (h * head_size, channels + h * head_size, 2 * channels + h * head_size)
}

/// `score` of query `t` and key `s`, rows of `qkv`.
fn score(qkv: &[f64], b: usize, h: usize, t: usize, s: usize, time: usize, heads: usize, head_size: usize) -> f64 {
    let (q, k, _) = head_columns(h, heads, head_size);
    let width = 3 * heads * head_size;
    let mut sum = 0.0;
    for d in 0..head_size {
        sum += qkv[(b * time + t) * width + q + d] * qkv[(b * time + s) * width + k + d];
    }
    sum / (head_size as f64).sqrt()
}

/// `qkv` (B·T, 3·C), `keep`(b, h, t, s) the factor on each probability -> (`y` (B·T, C), `lse` (B, H, T)).
pub fn forward(
    qkv: &[f64],
    batch: usize,
    time: usize,
    heads: usize,
    head_size: usize,
    keep: &dyn Fn(usize, usize, usize, usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let channels = heads * head_size;
    let (mut y, mut lse) = (vec![0.0; batch * time * channels], vec![0.0; batch * heads * time]);
    for b in 0..batch {
        for h in 0..heads {
            let (_, _, v) = head_columns(h, heads, head_size);
            for t in 0..time {
                let scores: Vec<f64> = (0..=t).map(|s| score(qkv, b, h, t, s, time, heads, head_size)).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let row_lse = max + scores.iter().map(|score| (score - max).exp()).sum::<f64>().ln();
                lse[(b * heads + h) * time + t] = row_lse;
                for s in 0..=t {
                    let a = (scores[s] - row_lse).exp() * keep(b, h, t, s);
                    for d in 0..head_size {
                        y[(b * time + t) * channels + h * head_size + d] += a * qkv[(b * time + s) * 3 * channels + v + d];
                    }
                }
            }
        }
    }
    (y, lse)
}

/// `dy` and `y` (B·T, C), `qkv` (B·T, 3·C), `lse` (B, H, T), `keep` as in [`forward`] -> `dqkv` (B·T, 3·C).
///
/// The kernel computes Σ_r p dp as `y` · `dy`; the twin sums over the Jacobian and only checks the shape of `y`, so the two share no
/// shortcut.
pub fn backward(
    dy: &[f64],
    qkv: &[f64],
    y: &[f64],
    lse: &[f64],
    batch: usize,
    time: usize,
    heads: usize,
    head_size: usize,
    keep: &dyn Fn(usize, usize, usize, usize) -> f64,
) -> Vec<f64> {
    assert_eq!(y.len(), dy.len(), "attention.backward: y has {} elements, dy has {}", y.len(), dy.len());
    let (channels, scale) = (heads * head_size, 1.0 / (head_size as f64).sqrt());
    let mut dqkv = vec![0.0; qkv.len()];
    for b in 0..batch {
        for h in 0..heads {
            let (q, k, v) = head_columns(h, heads, head_size);
            let row = |t: usize| (b * time + t) * 3 * channels;
            let dy_row = |t: usize| (b * time + t) * channels + h * head_size;
            for t in 0..time {
                let (mut p, mut dp) = (vec![0.0; t + 1], vec![0.0; t + 1]);
                for s in 0..=t {
                    p[s] = (score(qkv, b, h, t, s, time, heads, head_size) - lse[(b * heads + h) * time + t]).exp();
                    for d in 0..head_size {
                        dp[s] += keep(b, h, t, s) * dy[dy_row(t) + d] * qkv[row(s) + v + d];
                        dqkv[row(s) + v + d] += p[s] * keep(b, h, t, s) * dy[dy_row(t) + d];
                    }
                }
                for s in 0..=t {
                    let mut dscore = 0.0;
                    for r in 0..=t {
                        let identity = if r == s { 1.0 } else { 0.0 };
                        dscore += p[r] * (identity - p[s]) * dp[r];
                    }
                    for d in 0..head_size {
                        dqkv[row(t) + q + d] += dscore * qkv[row(s) + k + d] * scale;
                        dqkv[row(s) + k + d] += dscore * qkv[row(t) + q + d] * scale;
                    }
                }
            }
        }
    }
    dqkv
}

#[cfg(test)]
mod tests {
    use super::super::dropout;
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    /// (batch, time, heads, head_size), odd on purpose.
    const SHAPES: [(usize, usize, usize, usize); 4] = [(1, 1, 1, 1), (2, 5, 3, 3), (3, 7, 1, 5), (1, 9, 2, 1)];

    fn no_dropout(_b: usize, _h: usize, _t: usize, _s: usize) -> f64 {
        1.0
    }

    fn prove(batch: usize, time: usize, heads: usize, head_size: usize, keep: &dyn Fn(usize, usize, usize, usize) -> f64) {
        let channels = heads * head_size;
        let qkv: Vec<f64> = noise(batch * time * 3 * channels, 1).iter().map(|x| 2.0 * x).collect();
        let dy = noise(batch * time * channels, 2);
        let (y, lse) = forward(&qkv, batch, time, heads, head_size, keep);
        let got = backward(&dy, &qkv, &y, &lse, batch, time, heads, head_size, keep);
        let want = gradient(|qkv| weighted_sum(&dy, &forward(qkv, batch, time, heads, head_size, keep).0), &qkv);
        let name = format!("attention.backward dqkv, B {batch}, T {time}, H {heads}, D {head_size}");
        assert_close(&name, &got, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn finite_differences_prove_the_twins_backward() {
        for (batch, time, heads, head_size) in SHAPES {
            prove(batch, time, heads, head_size, &no_dropout);
        }
    }

    #[test]
    fn finite_differences_prove_the_twins_backward_with_dropout() {
        for (batch, time, heads, head_size) in SHAPES {
            let keep = |b: usize, h: usize, t: usize, s: usize| {
                let index = ((b * heads + h) * time + t) * time + s;
                dropout::keep_factor(index as u64, 5, 77, u32::MAX / 3, 1.5)
            };
            prove(batch, time, heads, head_size, &keep);
        }
    }

    #[test]
    fn forward_is_the_softmax_average_written_out_by_hand() {
        // One head with one channel: T = 2, q = k = v = (1, 2), so the second row has scores 2 and 4.
        let (y, lse) = forward(&[1.0, 1.0, 1.0, 2.0, 2.0, 2.0], 1, 2, 1, 1, &no_dropout);
        let (low, high) = (2f64.exp(), 4f64.exp());
        assert_close("attention.forward y", &y, &[1.0, (low + 2.0 * high) / (low + high)], 1e-14, 0.0);
        assert_close("attention.forward lse", &lse, &[1.0, (low + high).ln()], 1e-14, 0.0);
    }

    #[test]
    fn no_row_sees_a_later_one_another_head_or_another_batch_row() {
        let (batch, time, heads, head_size) = (2, 5, 3, 2);
        let channels = heads * head_size;
        let qkv = noise(batch * time * 3 * channels, 1);
        let (before, _) = forward(&qkv, batch, time, heads, head_size, &no_dropout);
        // The q, k and v of the first channel of head 1 change in batch row 1 at t = 3.
        let (b, h, t) = (1, 1, 3);
        let mut moved = qkv;
        for part in 0..3 {
            moved[(b * time + t) * 3 * channels + part * channels + h * head_size] += 1.0;
        }
        let (after, _) = forward(&moved, batch, time, heads, head_size, &no_dropout);
        for at in 0..before.len() {
            let (row, head) = (at / channels, at % channels / head_size);
            let may_change = row >= b * time + t && head == h;
            assert_eq!(before[at] != after[at], may_change, "row {row}, head {head}: {} -> {}", before[at], after[at]);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let qkv: Vec<f64> = noise(4 * 3 * 3, 1).iter().map(|x| 1e3 * x).collect();
        let (y, lse) = forward(&qkv, 1, 4, 1, 3, &no_dropout);
        assert!(y.iter().chain(&lse).all(|value| value.is_finite()), "y {y:?}, lse {lse:?}");
    }
}
