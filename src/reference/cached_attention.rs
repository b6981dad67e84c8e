//! Causal attention of new rows over all cached rows: the rows of plain attention from `position` on.
//!
//! ```text
//! keys[position + r] = k[r]     values[position + r] = v[r]
//! y[r] = Σ_j softmax_j(q[r] · keys[j] / √D) · values[j]     j ≤ position + r
//! ```

/// `qkv` (rows, 3C); `keys` and `values` (context, C), into which the new rows are written -> `y` (rows, C).
pub fn forward(qkv: &[f64], keys: &mut [f64], values: &mut [f64], position: usize, heads: usize, head_size: usize) -> Vec<f64> {
    let channels = heads * head_size;
    let rows = qkv.len() / (3 * channels);
    let mut y = vec![0.0; rows * channels];
    for r in 0..rows {
        for c in 0..channels {
            keys[(position + r) * channels + c] = qkv[r * 3 * channels + channels + c];
            values[(position + r) * channels + c] = qkv[r * 3 * channels + 2 * channels + c];
        }
    }
    for r in 0..rows {
        for h in 0..heads {
            let score = |j: usize| {
                let mut sum = 0.0;
                for d in 0..head_size {
                    sum += qkv[r * 3 * channels + h * head_size + d] * keys[j * channels + h * head_size + d];
                }
                sum / (head_size as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=position + r).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - max).exp()).sum();
            for j in 0..=position + r {
                for d in 0..head_size {
                    let value = values[j * channels + h * head_size + d];
                    y[r * channels + h * head_size + d] += (scores[j] - max).exp() / total * value;
                }
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::attention;
    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    #[test]
    fn pieces_of_a_sequence_are_the_whole_sequence() {
        let (time, heads, head_size) = (9, 2, 3);
        let channels = heads * head_size;
        let qkv = noise(time * 3 * channels, 1);
        let (want, _) = attention::forward(&qkv, 1, time, heads, head_size, &|_, _, _, _| 1.0);
        let (mut keys, mut values, mut got) = (vec![0.0; time * channels], vec![0.0; time * channels], vec![]);
        for (first, end) in [(0, 4), (4, 5), (5, 6), (6, 9)] {
            let new = &qkv[first * 3 * channels..end * 3 * channels];
            got.extend(forward(new, &mut keys, &mut values, first, heads, head_size));
        }
        assert_close("cached_attention y", &got, &want, 1e-14, 0.0);
    }
}
