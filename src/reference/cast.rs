//! Rounds numbers to a shorter binary format: bfloat16, the upper half of an f32, or IEEE half precision.
//!
//! ```text
//! y = x, to the nearest of the numbers of the format, ties to even; an infinity beyond its largest
//! ```
//!
//! Its slope is 0 except at the steps; training treats it as 1 (Bengio et al. 2013, the straight-through estimator), so there is no
//! backward to prove.

/// A binary floating-point format.
#[derive(Debug, Clone, Copy)]
pub struct Binary {
    /// Significant bits of a normal number.
    digits: i32,
    /// Exponents of the smallest and of the largest normal numbers.
    exponents: (i32, i32),
}

/// bfloat16.
pub const BF16: Binary = Binary { digits: 8, exponents: (-126, 127) };
/// IEEE 754 half precision.
pub const F16: Binary = Binary { digits: 11, exponents: (-14, 15) };

/// `x` -> `y`, elementwise.
pub fn forward(x: &[f64], Binary { digits, exponents: (lowest, highest) }: Binary) -> Vec<f64> {
    let beyond = 2f64.powi(highest + 1);
    let nearest = |x: f64| {
        // The distance of neighbours around x: 2^(e + 1 - digits), with 2^e the largest power of two not above |x|.
        let exponent = x.abs().log2().floor().max(f64::from(lowest));
        let step = (exponent + 1.0 - f64::from(digits)).exp2();
        let y = if x == 0.0 { x } else { (x / step).round_ties_even() * step };
        if y.abs() < beyond { y } else { f64::INFINITY.copysign(x) }
    };
    x.iter().copied().map(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_eight_bits_stay_and_others_go_to_the_nearest() {
        let kept = [0.0, 1.0, -1.0, 255.0, 1.0078125, 0.15625];
        assert_eq!(forward(&kept, BF16), kept);
        // Between 1 and 1.0078125 = 1 + 2^-7: below, above, and the tie, which goes to the even 1.
        assert_eq!(forward(&[1.003, 1.005, 1.00390625], BF16), [1.0, 1.0078125, 1.0]);
        // The next tie goes up to the even 1 + 2^-6; and 257 is a tie between 256 and 258.
        assert_eq!(forward(&[1.01171875, 257.0, -259.0], BF16), [1.015625, 256.0, -260.0]);
    }

    #[test]
    fn half_precision_has_eleven_bits_from_2_to_the_minus_24_to_65_504() {
        let kept = [1.0009765625, 2048.0, -65_504.0, 2f64.powi(-24), 3.0 * 2f64.powi(-24)];
        assert_eq!(forward(&kept, F16), kept);
        assert_eq!(forward(&[2049.0, 2051.0, 2f64.powi(-25), 1.5 * 2f64.powi(-24)], F16), [2048.0, 2052.0, 0.0, 2f64.powi(-23)]);
        assert_eq!(forward(&[65_519.0, 65_520.0, -1e9], F16), [65_504.0, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(forward(&[3.4e38], BF16), [f64::INFINITY]);
    }
}
