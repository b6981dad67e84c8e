//! Counter-based random numbers of the host: each is a pure function of its key and index, the same on every platform and in every version.

/// 2⁶⁴ / φ, odd: the step of SplitMix64's counter.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijection of u64 whose every output bit depends on every input bit: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable
/// Pseudorandom Number Generators, 2014) after one step of its counter.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GAMMA);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The `index`th number of the SplitMix64 sequence that begins with `key`.
pub(crate) fn bits(key: u64, index: u64) -> u64 {
    mix(key.wrapping_add(index.wrapping_mul(GAMMA)))
}

/// The key of a named sequence: another name or another seed gives an unrelated one.
pub(crate) fn key(seed: u64, name: &str) -> u64 {
    name.bytes().fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)))
}

/// The `index`th standard normal number of a sequence.
pub(crate) fn normal(key: u64, index: u64) -> f64 {
    // The middles of 2⁵³ equal intervals of (0, 1).
    normal_quantile(((bits(key, index) >> 11) as f64 + 0.5) / (1u64 << 53) as f64)
}

/// The value below which a standard normal number lies with probability `p`, to 16 digits: algorithm AS 241 (Wichura: The Percentage Points
/// of the Normal Distribution, Applied Statistics 37, 1988). Its logarithm is `libm`'s, because those of systems differ in the last digit.
fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(&CENTER, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-libm::log(tail)).sqrt();
    let x = if r <= 5.0 { ratio(&MIDDLE, r - 1.6) } else { ratio(&FAR, r - 5.0) };
    x.copysign(q)
}

/// The quotient of two polynomials, whose coefficients begin with the constants.
fn ratio([above, below]: &[[f64; 8]; 2], x: f64) -> f64 {
    let at = |coefficients: &[f64; 8]| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
    at(above) / at(below)
}

const CENTER: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
];
const MIDDLE: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
];
const FAR: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_104,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288e-7,
    ],
    [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Python's `statistics.NormalDist().inv_cdf`.
    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        let known = [
            (1e-300, -3.704_709_629_936_12e1),
            (1e-17, -8.493_793_224_109_6),
            (1e-5, -4.264_890_793_922_825_6),
            (0.074_999, -1.439_538_535_345_230_4),
            (0.075, -1.439_531_470_938_455_7),
            (0.3, -5.244_005_127_080_407e-1),
            (0.5, 0.0),
            (0.925, 1.439_531_470_938_456),
            (0.999_999, 4.753_424_308_817_089),
        ];
        for (p, x) in known {
            let found = normal_quantile(p);
            assert!((found - x).abs() <= 1e-15 * x.abs(), "{p}: {found}, not {x}");
        }
    }

    /// The first outputs of SplitMix64 with the state 1234567, from its reference implementation.
    #[test]
    fn the_sequence_is_splitmix64() {
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423, 4_593_380_528_125_082_431];
        assert_eq!([0, 1, 2, 3].map(|index| bits(1_234_567, index)), expected);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_distribution() {
        let count = 1 << 18;
        let key = key(1337, "wte");
        let moment = |power: i32| (0..count).map(|index| normal(key, index).powi(power)).sum::<f64>() / count as f64;
        // Five standard errors: those of the first four moments are 1, √2, √15 and √96, divided by 512.
        for (power, expected, error) in [(1, 0.0, 1.0), (2, 1.0, 2f64.sqrt()), (3, 0.0, 15f64.sqrt()), (4, 3.0, 96f64.sqrt())] {
            let found = moment(power);
            assert!((found - expected).abs() < 5.0 * error / 512.0, "moment {power} is {found}");
        }
    }

    /// These numbers are the initial weights of every run: they must never change.
    #[test]
    fn normal_numbers_are_these() {
        let key = key(1337, "h.0.attn.qkv.weight");
        let found = [0, 1, 2, 1 << 40].map(|index| normal(key, index).to_bits());
        assert_eq!(found, [4_606_319_683_404_330_117, 13_831_990_013_296_073_861, 13_831_131_801_443_620_460, 4_605_819_621_057_631_099]);
    }

    #[test]
    fn names_and_seeds_give_unrelated_sequences() {
        let keys = [key(1, "a"), key(2, "a"), key(1, "b"), key(1, "ab"), key(1, "ba"), key(1, "")];
        let count = 1 << 14;
        for (i, &a) in keys.iter().enumerate() {
            for &b in &keys[i + 1..] {
                let correlation = (0..count).map(|index| normal(a, index) * normal(b, index)).sum::<f64>() / count as f64;
                assert!(correlation.abs() < 5.0 / 128.0, "{a:x} and {b:x}: {correlation}");
            }
        }
    }
}
