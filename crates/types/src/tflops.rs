//! Compute rates.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::number::{NumberError, scaled, split_unit};

/// FP16 TFLOPS, exact to a thousandth.
///
/// Reads `10`, `0.5` and `500m` (thousandths, as in Kubernetes). In JSON it is a number; text is accepted too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tflops {
    milli: u64,
}

/// Why text is no compute rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTflopsError {
    /// The number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The unit.
    #[error("`{unit}` is not a unit of TFLOPS: expected nothing, or `m` for thousandths")]
    Unit {
        /// What was given.
        unit: String,
    },
}

impl Tflops {
    /// Nothing.
    pub const ZERO: Self = Self { milli: 0 };

    /// So many whole TFLOPS, or the largest rate there is.
    #[must_use]
    pub const fn new(tflops: u64) -> Self {
        Self { milli: tflops.saturating_mul(1000) }
    }

    /// So many thousandths.
    #[must_use]
    pub const fn from_milli(milli: u64) -> Self {
        Self { milli }
    }

    /// The nearest thousandth; negative numbers and NaN are nothing.
    #[must_use]
    pub fn from_f64(tflops: f64) -> Self {
        Self { milli: (tflops * 1000.0).round() as u64 }
    }

    /// Thousandths.
    #[must_use]
    pub const fn milli(self) -> u64 {
        self.milli
    }

    /// As a floating-point number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.milli as f64 / 1000.0
    }

    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.milli.checked_add(other.milli).map(Self::from_milli)
    }

    /// The difference, or `None` when `other` is more.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.milli.checked_sub(other.milli).map(Self::from_milli)
    }

    /// The difference, or nothing when `other` is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self::from_milli(self.milli.saturating_sub(other.milli))
    }
}

impl fmt::Display for Tflops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.milli / 1000, self.milli % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Tflops {
    type Err = ParseTflopsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "" => 1000,
            "m" => 1,
            _ if number.is_empty() => return Err(NumberError::NotANumber { text: text.to_owned() }.into()),
            _ => return Err(ParseTflopsError::Unit { unit: unit.to_owned() }),
        };
        Ok(Self::from_milli(scaled(number, scale)?))
    }
}

impl Serialize for Tflops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_u64(self.milli);
        }
        if self.milli.is_multiple_of(1000) {
            serializer.serialize_u64(self.milli / 1000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Tflops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self::from_milli);
        }
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Tflops;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of TFLOPS, or text such as `10` or `500m`")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tflops, E> {
                value.checked_mul(1000).map(Tflops::from_milli).ok_or_else(|| E::custom("too many TFLOPS"))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tflops, E> {
                if value.is_finite() && value >= 0.0 {
                    Ok(Tflops::from_f64(value))
                } else {
                    Err(E::custom(format!("`{value}` is no number of TFLOPS")))
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tflops, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thousandths_and_fractions_are_read() {
        assert_eq!("10".parse(), Ok(Tflops::new(10)));
        assert_eq!("500m".parse(), Ok(Tflops::from_milli(500)));
        assert_eq!("0.5".parse(), Ok(Tflops::from_milli(500)));
        assert_eq!("82.6".parse(), Ok(Tflops::from_milli(82_600)));
    }

    #[test]
    fn errors_name_the_value_and_what_is_expected() {
        let message = |text: &str| text.parse::<Tflops>().unwrap_err().to_string();
        assert_eq!(message("5T"), "`T` is not a unit of TFLOPS: expected nothing, or `m` for thousandths");
        assert!(message("fast").starts_with("`fast` is not a number"));
    }

    #[test]
    fn json_takes_numbers_and_text() {
        assert_eq!(serde_json::from_str::<Tflops>("10").unwrap(), Tflops::new(10));
        assert_eq!(serde_json::from_str::<Tflops>("0.5").unwrap(), Tflops::from_milli(500));
        assert_eq!(serde_json::from_str::<Tflops>("\"500m\"").unwrap(), Tflops::from_milli(500));
        assert!(serde_json::from_str::<Tflops>("-1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_exactly(milli in 0u64..u64::MAX) {
            let value = Tflops::from_milli(milli);
            prop_assert_eq!(value.to_string().parse::<Tflops>(), Ok(value));
        }

        #[test]
        fn json_comes_back_exactly(milli in 0u64..1 << 50) {
            let value = Tflops::from_milli(milli);
            prop_assert_eq!(serde_json::from_str::<Tflops>(&serde_json::to_string(&value).unwrap()).unwrap(), value);
        }

        #[test]
        fn text_without_digits_is_an_error_and_nothing_panics(text in ".{0,24}") {
            if text.parse::<Tflops>().is_ok() {
                prop_assert!(text.contains(|letter: char| letter.is_ascii_digit()), "{}", text);
            }
        }
    }
}
