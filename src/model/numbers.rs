//! Ranges of settings: f64 on the host, f32 in a kernel, where a subnormal number may count as 0.

use std::fmt::{self, Display};

use crate::error::{Error, Result};

/// The range of a setting, on the host and after rounding to the device's f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Above 0.
    Positive,
    /// 0 or more.
    NotNegative,
    /// From 0 to below 1.
    BelowOne,
    /// Above 0, up to 1.
    UpToOne,
}

/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

impl Number {
    /// Rejects a value out of range, also if only rounding to f32 puts it there: 1e-46 becomes 0, 0.99999999 becomes 1.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] that names the key, its value and the values allowed.
    pub fn check(self, key: &str, value: f64) -> Result<()> {
        let (holds, needed) = match self {
            Number::Positive => (value > 0.0 && value.is_finite(), "needs a number above 0"),
            Number::NotNegative => (value >= 0.0 && value.is_finite(), "needs a number of at least 0"),
            Number::BelowOne => ((0.0..1.0).contains(&value), "needs a number from 0 to below 1"),
            Number::UpToOne => (value > 0.0 && value <= 1.0, "needs a number above 0 and up to 1"),
        };
        need(holds, key, Shown(value), needed)?;
        let on_device = value as f32;
        let f32_needs = |bound: &str, limit: f32| format!("needs {bound} {limit:e}, as the device computes in 32-bit floats");
        need(
            value == 0.0 || on_device.is_normal() || on_device.is_infinite(),
            key,
            Shown(value),
            f32_needs("at least", f32::MIN_POSITIVE),
        )?;
        need(on_device.is_finite(), key, Shown(value), f32_needs("at most", f32::MAX))?;
        let most = format!("needs at most {BELOW_ONE}, as the device computes in 32-bit floats");
        need(self != Number::BelowOne || on_device < 1.0, key, Shown(value), most)
    }
}

/// A number in its usual notation: `0.002`, `1e-46`, `1e300`.
pub(crate) struct Shown(pub f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size == 0.0 || !size.is_finite() || (1e-4..1e7).contains(&size) { write!(f, "{}", self.0) } else { write!(f, "{:e}", self.0) }
    }
}

/// `Ok` if `holds`, otherwise the error `"{key} = {value}: {needed}"`, for all config values out of range.
pub(crate) fn need(holds: bool, key: &str, value: impl Display, needed: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("{key} = {value}: {needed}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_f32_cannot_hold_is_refused() {
        use Number::*;
        let cases = [
            (Positive, 1e-46, "k = 1e-46: needs at least 1.1754944e-38, as the device computes in 32-bit floats"),
            (Positive, 1e-40, "k = 1e-40: needs at least 1.1754944e-38, as the device computes in 32-bit floats"),
            (Positive, 1e39, "k = 1e39: needs at most 3.4028235e38, as the device computes in 32-bit floats"),
            (Positive, 0.0, "k = 0: needs a number above 0"),
            (Positive, f64::NAN, "k = NaN: needs a number above 0"),
            (NotNegative, 1e-46, "k = 1e-46: needs at least 1.1754944e-38, as the device computes in 32-bit floats"),
            (NotNegative, 1e300, "k = 1e300: needs at most 3.4028235e38, as the device computes in 32-bit floats"),
            (NotNegative, -1e-46, "k = -1e-46: needs a number of at least 0"),
            (BelowOne, 0.99999999, "k = 0.99999999: needs at most 0.99999994, as the device computes in 32-bit floats"),
            (BelowOne, 1.0, "k = 1: needs a number from 0 to below 1"),
            (UpToOne, 1e-46, "k = 1e-46: needs at least 1.1754944e-38, as the device computes in 32-bit floats"),
            (UpToOne, 1.5, "k = 1.5: needs a number above 0 and up to 1"),
        ];
        for (number, value, expected) in cases {
            assert_eq!(number.check("k", value).unwrap_err().to_string(), expected);
        }
        for (number, value) in [(Positive, 1e-37), (NotNegative, 0.0), (BelowOne, 0.0), (BelowOne, 0.999999), (UpToOne, 0.99999999)] {
            number.check("k", value).unwrap();
        }
    }
}
