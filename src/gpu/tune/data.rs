//! The data that candidates are timed on, and the comparison of their results.

use half::f16;

use crate::gpu::tensor::Dtype;

/// As many words of numbers in [-1, 1), or of small ids. The pattern has a prime length, so that no two rows are equal.
pub fn noise(dtype: Dtype, words: usize, seed: u32) -> Vec<u32> {
    const LENGTH: u32 = 65_537;
    let number = |i: u32| {
        let hash = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        ((hash ^ (hash >> 16)) as f32 / 2f32.powi(31) - 1.0).to_bits()
    };
    let word = |i: u32| match dtype {
        Dtype::F32 => number(i),
        Dtype::Bf16 => number(2 * i) >> 16 | number(2 * i + 1) & 0xffff_0000,
        Dtype::F16 => {
            let half = |i: u32| u32::from(f16::from_f32(f32::from_bits(number(i))).to_bits());
            half(2 * i) | half(2 * i + 1) << 16
        }
        // Valid in any vocabulary.
        Dtype::U32 => i % 2,
    };
    let pattern: Vec<u32> = (0..LENGTH).map(word).collect();
    pattern.iter().copied().cycle().take(words).collect()
}

/// The first place where a result differs from another by more than the rounding of sums in another order, with both values.
///
/// Numbers may differ by a fraction of the largest one, because sums of products cancel: 1e-3 in f32, which also leaves room for factors in
/// half precision, 2⁻⁹ in f16, and 2⁻⁶ in bf16. A NaN equals only a NaN; integers must be equal.
pub fn difference(dtype: Dtype, found: &[u32], wanted: &[u32]) -> Option<String> {
    let (found, wanted, share) = match dtype {
        Dtype::U32 => {
            let place = (0..wanted.len()).find(|&i| found[i] != wanted[i])?;
            return Some(format!("word {place} is {}, not {}", found[place], wanted[place]));
        }
        Dtype::F32 => (floats(found), floats(wanted), 1e-3),
        Dtype::Bf16 => (upper_halves(found), upper_halves(wanted), 1.0 / 64.0),
        Dtype::F16 => (halves(found), halves(wanted), 1.0 / 512.0),
    };
    let largest = wanted.iter().copied().filter(|x| x.is_finite()).fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= share * largest;
    let place = (0..wanted.len()).find(|&i| !same(found[i], wanted[i]))?;
    Some(format!("element {place} is {}, not {}", found[place], wanted[place]))
}

fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&word| f32::from_bits(word)).collect()
}

fn upper_halves(words: &[u32]) -> Vec<f32> {
    words.iter().flat_map(|word| [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]).collect()
}

fn halves(words: &[u32]) -> Vec<f32> {
    words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).map(|bits| f16::from_bits(bits).to_f32()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_spread_and_fills_every_word() {
        let numbers = floats(&noise(Dtype::F32, 100_000, 3));
        assert_eq!(numbers.len(), 100_000);
        assert!(numbers.iter().all(|x| (-1.0..=1.0).contains(x)));
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let square = numbers.iter().map(|&x| f64::from(x * x)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
        assert!(upper_halves(&noise(Dtype::Bf16, 1000, 3)).iter().all(|x| (-1.0..=1.0).contains(x)));
        let half = halves(&noise(Dtype::F16, 1000, 3));
        assert!(half.iter().all(|x| (-1.0..=1.0).contains(x)) && half[0] != half[1]);
        assert_ne!(noise(Dtype::F32, 10, 1), noise(Dtype::F32, 10, 2));
    }

    #[test]
    fn rounding_agrees_and_mistakes_do_not() {
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let wanted = bits(&[100.0, 0.001, f32::NAN, f32::INFINITY]);
        let differs = |found: &[f32]| difference(Dtype::F32, &bits(found), &wanted);
        assert_eq!(differs(&[100.05, -0.05, f32::NAN, f32::INFINITY]), None);
        assert_eq!(differs(&[100.0, 0.2, f32::NAN, f32::INFINITY]).unwrap(), "element 1 is 0.2, not 0.001");
        assert!(differs(&[100.0, f32::NAN, f32::NAN, f32::INFINITY]).is_some());
        assert!(differs(&[100.0, 0.001, 0.0, f32::INFINITY]).is_some());
        assert!(differs(&[100.0, 0.001, f32::NAN, 1e38]).is_some());
        assert_eq!(difference(Dtype::U32, &[1, 2, 4], &[1, 2, 3]).unwrap(), "word 2 is 4, not 3");
        let half = |a: f32, b: f32| a.to_bits() >> 16 | b.to_bits() & 0xffff_0000;
        assert_eq!(difference(Dtype::Bf16, &[half(1.0, 2.0)], &[half(1.0, 2.03125)]), None);
        assert_eq!(difference(Dtype::Bf16, &[half(1.0, 2.0)], &[half(1.0, 3.0)]).unwrap(), "element 1 is 2, not 3");
        let half = |a: f32, b: f32| u32::from(f16::from_f32(a).to_bits()) | u32::from(f16::from_f32(b).to_bits()) << 16;
        assert_eq!(difference(Dtype::F16, &[half(1.0, 2.0)], &[half(1.0, 2.002)]), None);
        assert_eq!(difference(Dtype::F16, &[half(1.0, 2.0)], &[half(1.0, 3.0)]).unwrap(), "element 1 is 2, not 3");
    }
}
