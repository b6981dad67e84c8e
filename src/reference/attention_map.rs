//! The probabilities of causal attention of one head on one batch row: `map[t, s] = exp(q[t] · k[s] / √D − lse[t])` for s ≤ t, else 0, with
//! the layout of `qkv` and the `lse` of [`super::attention`].

/// `qkv` (B·T, 3·C), `lse` (B, H, T) -> `map` (T, T) of head `head` in batch row `sample`.
pub fn forward(qkv: &[f64], lse: &[f64], sample: usize, head: usize, time: usize, heads: usize, head_size: usize) -> Vec<f64> {
    let channels = heads * head_size;
    let mut map = vec![0.0; time * time];
    for t in 0..time {
        for s in 0..=t {
            let mut dot = 0.0;
            for d in 0..head_size {
                let q = qkv[(sample * time + t) * 3 * channels + head * head_size + d];
                let k = qkv[(sample * time + s) * 3 * channels + channels + head * head_size + d];
                dot += q * k;
            }
            map[t * time + s] = (dot / (head_size as f64).sqrt() - lse[(sample * heads + head) * time + t]).exp();
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::super::attention;
    use super::super::finite_diff::{assert_close, noise};
    use super::*;

    /// (batch, time, heads, head_size), odd on purpose.
    const SHAPES: [(usize, usize, usize, usize); 4] = [(1, 1, 1, 1), (2, 5, 3, 3), (3, 7, 1, 5), (1, 9, 2, 1)];

    /// A random qkv of such a shape, and the y and lse of its attention.
    fn attended(batch: usize, time: usize, heads: usize, head_size: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let qkv: Vec<f64> = noise(batch * time * 3 * heads * head_size, 1).iter().map(|x| 4.0 * x).collect();
        let (y, lse) = attention::forward(&qkv, batch, time, heads, head_size, &|_, _, _, _| 1.0);
        (qkv, y, lse)
    }

    #[test]
    fn rows_sum_to_one() {
        for (batch, time, heads, head_size) in SHAPES {
            let (qkv, _, lse) = attended(batch, time, heads, head_size);
            for (sample, head) in (0..batch).flat_map(|sample| (0..heads).map(move |head| (sample, head))) {
                let map = forward(&qkv, &lse, sample, head, time, heads, head_size);
                let sums: Vec<f64> = map.chunks(time).map(|row| row.iter().sum()).collect();
                assert_close(&format!("row sums of sample {sample}, head {head}"), &sums, &vec![1.0; time], 1e-14, 0.0);
            }
        }
    }

    #[test]
    fn no_row_sees_a_later_one() {
        let (qkv, _, lse) = attended(2, 5, 3, 3);
        let map = forward(&qkv, &lse, 1, 2, 5, 3, 3);
        for t in 0..5 {
            for s in 0..5 {
                assert_eq!(map[t * 5 + s] > 0.0, s <= t, "row {t}, column {s}: {}", map[t * 5 + s]);
            }
        }
    }

    /// The map's rows times the v of the same sample and head give y; no other map does.
    #[test]
    fn the_map_times_v_is_attentions_y() {
        for (batch, time, heads, head_size) in SHAPES {
            let channels = heads * head_size;
            let (qkv, y, lse) = attended(batch, time, heads, head_size);
            let mut got = vec![0.0; y.len()];
            for (sample, head) in (0..batch).flat_map(|sample| (0..heads).map(move |head| (sample, head))) {
                let map = forward(&qkv, &lse, sample, head, time, heads, head_size);
                for t in 0..time {
                    for s in 0..time {
                        for d in 0..head_size {
                            let v = qkv[(sample * time + s) * 3 * channels + 2 * channels + head * head_size + d];
                            got[(sample * time + t) * channels + head * head_size + d] += map[t * time + s] * v;
                        }
                    }
                }
            }
            assert_close("attention_map times v", &got, &y, 1e-13, 0.0);
        }
    }
}
