//! Dropout from a counter-based generator: the mask is a pure function of (index, stream, seed), so nothing is stored for the backward,
//! which is the same function on `dy`.
//!
//! ```text
//! random = pcg3d(low, stream + high · 2³² / φ, seed).x             a u32, every value as likely; index = high · 2³² + low
//! factor = 0 if random < drop_below, else keep_scale               drop_below = p · 2³²   keep_scale = 1 / (1 − p)
//! y = x · factor[index]        dx = dy · factor[index]
//! ```
//!
//! pcg3d is from Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.

/// The stride of the stream for each 2³² of the index: 2³² / φ, whose first multiples are as far apart as possible.
const STRIDE: u32 = 0x9e37_79b9;

/// The first component of pcg3d(`index`, `stream`, `seed`); the high word of `index` is added to the stream.
pub fn random_u32(index: u64, stream: u32, seed: u32) -> u32 {
    let congruence = |v: u32| v.wrapping_mul(1664525).wrapping_add(1013904223);
    let stream = stream.wrapping_add(((index >> 32) as u32).wrapping_mul(STRIDE));
    let (mut x, mut y, mut z) = (congruence(index as u32), congruence(stream), congruence(seed));
    x = x.wrapping_add(y.wrapping_mul(z));
    y = y.wrapping_add(z.wrapping_mul(x));
    z = z.wrapping_add(x.wrapping_mul(y));
    x ^= x >> 16;
    y ^= y >> 16;
    z ^= z >> 16;
    // The paper then mixes y and z once more; x, the only one returned, is complete.
    x.wrapping_add(y.wrapping_mul(z))
}

/// The factor on element `index`: 0 with probability `drop_below` / 2³², else `keep_scale`.
pub fn keep_factor(index: u64, stream: u32, seed: u32, drop_below: u32, keep_scale: f64) -> f64 {
    if random_u32(index, stream, seed) < drop_below { 0.0 } else { keep_scale }
}

/// `x` -> `y` of the same shape; also the backward, with `dy` for `x` and `dx` for `y`.
pub fn forward(x: &[f64], stream: u32, seed: u32, drop_below: u32, keep_scale: f64) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for index in 0..x.len() {
        y[index] = x[index] * keep_factor(index as u64, stream, seed, drop_below, keep_scale);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::finite_diff::{TOLERANCE, assert_close, gradient, noise, weighted_sum};
    use super::*;

    const COUNT: u32 = 1 << 16;
    /// Five standard errors of a mean of [`COUNT`] values with variance one.
    const FIVE_SIGMA: f64 = 5.0 / 256.0;

    /// COUNT numbers of mean zero and variance one.
    fn standard(random: impl Fn(u64) -> u32) -> Vec<f64> {
        (0..u64::from(COUNT)).map(|i| (f64::from(random(i)) / 2f64.powi(32) - 0.5) * 12f64.sqrt()).collect()
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    fn correlation(a: &[f64], b: &[f64]) -> f64 {
        weighted_sum(a, b) / a.len() as f64
    }

    #[test]
    fn finite_differences_prove_that_the_backward_is_the_forward_on_dy() {
        let (stream, seed, drop_below, keep_scale) = (7, 1234, u32::MAX / 4, 4.0 / 3.0);
        let (x, dy) = (noise(33, 1), noise(33, 2));
        let want = gradient(|x| weighted_sum(&dy, &forward(x, stream, seed, drop_below, keep_scale)), &x);
        assert!(want.contains(&0.0) && want.iter().any(|dx| *dx != 0.0));
        let got = forward(&dy, stream, seed, drop_below, keep_scale);
        assert_close("dropout.forward on dy", &got, &want, TOLERANCE.0, TOLERANCE.1);
    }

    #[test]
    fn the_generator_is_the_papers() {
        // From the paper's listing, run with Python's unbounded integers reduced modulo 2³².
        assert_eq!(random_u32(0, 0, 0), 2611992518);
        assert_eq!(random_u32(1, 0, 0), 2717828630);
        assert_eq!(random_u32(0, 1, 0), 450040476);
        assert_eq!(random_u32(0, 0, 1), 2136848594);
        assert_eq!(random_u32(12345, 67, 89), 3043823672);
        assert_eq!(random_u32(u64::from(u32::MAX), u32::MAX, u32::MAX), 2784268096);
    }

    #[test]
    fn the_generator_is_uniform() {
        for (stream, seed) in [(0, 0), (1, 0), (0, 1), (17, 4242), (u32::MAX, 3)] {
            let x = standard(|i| random_u32(i, stream, seed));
            assert!(mean(&x).abs() < FIVE_SIGMA, "mean {} in stream {stream}, seed {seed}", mean(&x));
            // The square of such a number has mean 1 and variance 4/5.
            let second = correlation(&x, &x);
            assert!((second - 1.0).abs() < FIVE_SIGMA, "second moment {second} in stream {stream}, seed {seed}");
        }
    }

    #[test]
    fn neighbouring_streams_seeds_and_indices_are_uncorrelated() {
        for (stream, seed) in [(0, 0), (1, 0), (0, 1), (17, 4242), (u32::MAX, 3)] {
            let x = standard(|i| random_u32(i, stream, seed));
            let neighbours = [
                ("stream", standard(|i| random_u32(i, stream.wrapping_add(1), seed))),
                ("seed", standard(|i| random_u32(i, stream, seed.wrapping_add(1)))),
                ("index", standard(|i| random_u32(i + 1, stream, seed))),
                ("row of 64", standard(|i| random_u32(i + 64, stream, seed))),
                ("high word", standard(|i| random_u32(i + (1 << 32), stream, seed))),
                ("high word but 40", standard(|i| random_u32(i + (41 << 32), stream, seed))),
            ];
            for (what, other) in neighbours {
                let got = correlation(&x, &other);
                assert!(got.abs() < FIVE_SIGMA, "the next {what} correlates by {got} with stream {stream}, seed {seed}");
            }
        }
    }

    /// The high word of the index and the model's stream together select one of the generator's streams. No two select the same for any
    /// model of up to 4096 layers, which has 12,289 streams, within 2⁴⁸ numbers per step.
    #[test]
    fn no_high_word_meets_the_stream_of_another_dropout() {
        let apart = |words: u32| STRIDE.wrapping_mul(words).min(STRIDE.wrapping_mul(words).wrapping_neg());
        let nearest = (1..1u32 << 16).map(apart).min();
        assert!(nearest > Some(12_289), "streams meet {nearest:?} apart");
    }

    #[test]
    fn the_fraction_dropped_is_the_one_asked_for_and_the_mean_is_kept() {
        for p in [0.1, 0.5, 0.9] {
            let (drop_below, keep_scale) = ((p * 2f64.powi(32)) as u32, 1.0 / (1.0 - p));
            let factors = forward(&vec![1.0; COUNT as usize], 3, 99, drop_below, keep_scale);
            let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / f64::from(COUNT);
            assert!((dropped - p).abs() < FIVE_SIGMA, "dropped {dropped}, asked for {p}");
            // The factor's variance is p / (1 − p).
            assert!((mean(&factors) - 1.0).abs() < FIVE_SIGMA * (p * keep_scale).sqrt(), "mean factor {} at p = {p}", mean(&factors));
        }
    }

    #[test]
    fn nothing_is_dropped_below_zero() {
        let x = noise(65, 1);
        assert_eq!(forward(&x, 1, 2, 0, 1.0), x);
    }
}
