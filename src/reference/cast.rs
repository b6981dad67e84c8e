//! Rounds numbers to bfloat16, the upper half of an f32.
//!
//! ```text
//! y = x, to the nearest of the numbers with 8 significant bits, ties to even
//! ```
//!
//! Its slope is 0 except at the steps; training treats it as 1 (Bengio et al. 2013, the straight-through estimator), so there is no
//! backward to prove.

/// `x` -> `y`, elementwise.
pub fn forward(x: &[f64]) -> Vec<f64> {
    let nearest = |x: f64| {
        // The distance of neighbours around x: 2^(e - 7), with 2^e the largest power of two not above |x|.
        let exponent = x.abs().log2().floor().max(-126.0);
        let step = (exponent - 7.0).exp2();
        if x == 0.0 { x } else { (x / step).round_ties_even() * step }
    };
    x.iter().copied().map(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_eight_bits_stay_and_others_go_to_the_nearest() {
        let kept = [0.0, 1.0, -1.0, 255.0, 1.0078125, 0.15625];
        assert_eq!(forward(&kept), kept);
        // Between 1 and 1.0078125 = 1 + 2^-7: below, above, and the tie, which goes to the even 1.
        assert_eq!(forward(&[1.003, 1.005, 1.00390625]), [1.0, 1.0078125, 1.0]);
        // The next tie goes up to the even 1 + 2^-6; and 257 is a tie between 256 and 258.
        assert_eq!(forward(&[1.01171875, 257.0, -259.0]), [1.015625, 256.0, -260.0]);
    }
}
