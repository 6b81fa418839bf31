//! Shares of a whole.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::number::{NumberError, scaled, split_unit};

/// A share of a whole, exact to a hundredth of a percent. May be more than 100 %.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent {
    hundredths: u64,
}

/// Why text is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePercentError {
    /// The number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// What follows the number.
    #[error("`{unit}` does not belong behind a percentage: expected `%` or nothing")]
    Unit {
        /// What was given.
        unit: String,
    },
    /// A floating-point number that is none.
    #[error("`{value}` is no percentage: expected a number from 0")]
    NotFinite {
        /// What was given.
        value: String,
    },
}

impl Percent {
    /// So many whole percent.
    #[must_use]
    pub const fn new(percent: u32) -> Self {
        Self { hundredths: percent as u64 * 100 }
    }

    /// `part` of `whole`, rounded down; nothing of nothing.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::default();
        }
        let hundredths = u128::from(part) * 10_000 / u128::from(whole);
        Self { hundredths: u64::try_from(hundredths).unwrap_or(u64::MAX) }
    }

    /// This share of an amount, rounded down; the largest amount when it does not fit.
    #[must_use]
    pub fn share(self, whole: u64) -> u64 {
        u64::try_from(u128::from(whole) * u128::from(self.hundredths) / 10_000).unwrap_or(u64::MAX)
    }

    /// As a floating-point number: 50.0 is one half.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.hundredths as f64 / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02}", self.hundredths / 100, self.hundredths % 100);
        f.pad(&format!("{} %", text.trim_end_matches('0').trim_end_matches('.')))
    }
}

impl FromStr for Percent {
    type Err = ParsePercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        match unit {
            "" | "%" => Ok(Self { hundredths: scaled(number, 100)? }),
            _ if number.is_empty() => Err(NumberError::NotANumber { text: text.to_owned() }.into()),
            _ => Err(ParsePercentError::Unit { unit: unit.to_owned() }),
        }
    }
}

impl TryFrom<f64> for Percent {
    type Error = ParsePercentError;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        if value.is_finite() && value >= 0.0 {
            Ok(Self { hundredths: (value * 100.0).round() as u64 })
        } else {
            Err(ParsePercentError::NotFinite { value: value.to_string() })
        }
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        percent.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_read_shown_and_taken() {
        let half: Percent = "50%".parse().unwrap();
        assert_eq!(half, Percent::new(50));
        assert_eq!(half.share(8), 4);
        assert_eq!("12.5".parse::<Percent>().unwrap().to_string(), "12.5 %");
        assert_eq!(Percent::of(1, 3).to_string(), "33.33 %");
        assert_eq!(Percent::of(1, 0), Percent::new(0));
        assert_eq!(Percent::new(200).share(u64::MAX), u64::MAX);
        assert!("5 apples".parse::<Percent>().unwrap_err().to_string().starts_with("`apples` does not belong"));
        assert!(serde_json::from_str::<Percent>("-1.0").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_exactly(hundredths in 0u64..u64::MAX) {
            let value = Percent { hundredths };
            prop_assert_eq!(value.to_string().parse::<Percent>(), Ok(value));
        }

        #[test]
        fn a_share_of_up_to_a_hundred_is_never_more_than_the_whole(percent in 0u32..=100, whole: u64) {
            prop_assert!(Percent::new(percent).share(whole) <= whole);
        }
    }
}
