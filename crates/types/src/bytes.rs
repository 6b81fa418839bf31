//! Amounts of memory.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::number::{NumberError, scaled, split_unit};

/// An amount of memory in bytes.
///
/// Reads `4GiB`, `4Gi`, `512Mi`, `1.5GiB`, `4G` (decimal, as in Kubernetes) and plain bytes; fractions of a byte are
/// dropped. In JSON it is a number of bytes; a string with a unit is accepted too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Bytes(u64);

/// Why text is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// The number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The unit.
    #[error(
        "`{unit}` is not a unit of memory: expected KiB, MiB, GiB, TiB (or Ki, Mi, Gi, Ti), kB, MB, GB, TB or nothing"
    )]
    Unit {
        /// What was given.
        unit: String,
    },
}

const BINARY: [(&str, u64); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl Bytes {
    /// No memory.
    pub const ZERO: Self = Self(0);

    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many MiB, or the largest amount there is.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// So many GiB, or the largest amount there is.
    #[must_use]
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when `other` is more.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, or `None` when it does not fit.
    #[must_use]
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// The difference, or nothing when `other` is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Bytes {
    /// One digit after the point at most, in the largest unit that fits: `3.1 GiB`, `512 MiB`, `17 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((unit, shift)) = BINARY.iter().find(|(_, shift)| self.0 >= 1 << shift) else {
            return f.pad(&format!("{} B", self.0));
        };
        let scale = 1u128 << shift;
        // Tenths, rounded to the nearest.
        let tenths = (u128::from(self.0) * 10 + scale / 2) / scale;
        let text = match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} {unit}"),
            (whole, tenth) => format!("{whole}.{tenth} {unit}"),
        };
        f.pad(&text)
    }
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "" | "B" => 1,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            "Pi" | "PiB" => 1 << 50,
            "k" | "K" | "kB" | "KB" => 1_000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "T" | "TB" => 1_000_000_000_000,
            "P" | "PB" => 1_000_000_000_000_000,
            _ if number.is_empty() => return Err(NumberError::NotANumber { text: text.to_owned() }.into()),
            _ => return Err(ParseBytesError::Unit { unit: unit.to_owned() }),
        };
        Ok(Self(scaled(number, scale)?))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or text such as `4GiB`")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
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

    fn bytes(text: &str) -> u64 {
        text.parse::<Bytes>().unwrap().get()
    }

    #[test]
    fn units_are_read_as_kubernetes_and_people_write_them() {
        assert_eq!(bytes("4GiB"), 4 << 30);
        assert_eq!(bytes("4Gi"), 4 << 30);
        assert_eq!(bytes("512Mi"), 512 << 20);
        assert_eq!(bytes("1.5GiB"), 3 << 29);
        assert_eq!(bytes("1048576"), 1 << 20);
        assert_eq!(bytes("4G"), 4_000_000_000);
        assert_eq!(bytes(" 3 GiB "), 3 << 30);
        assert_eq!(bytes(".5Ki"), 512);
        assert_eq!(bytes("0"), 0);
        assert_eq!(bytes("0.3k"), 300);
        assert_eq!(bytes("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn errors_name_the_value_and_what_is_expected() {
        let message = |text: &str| text.parse::<Bytes>().unwrap_err().to_string();
        assert!(message("4XB").starts_with("`XB` is not a unit of memory: expected KiB"));
        assert!(message("lots").starts_with("`lots` is not a number: expected digits"));
        assert!(message("").starts_with("`` is not a number"));
        assert!(message("1.2.3GiB").starts_with("`1.2.3` is not a number"));
        assert!(message("-1GiB").starts_with("`-1GiB` is not a number"));
        assert!(message("99999999999TiB").starts_with("`99999999999` is too large"));
    }

    #[test]
    fn amounts_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(Bytes::new(17).to_string(), "17 B");
        assert_eq!(Bytes::from_gib(4).to_string(), "4 GiB");
        assert_eq!(Bytes::new(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(Bytes::from_mib(512).to_string(), "512 MiB");
        assert_eq!(Bytes::new(u64::MAX).to_string(), "16384 PiB");
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Bytes::new(u64::MAX).checked_add(Bytes::new(1)), None);
        assert_eq!(Bytes::new(1).checked_sub(Bytes::new(2)), None);
        assert_eq!(Bytes::new(u64::MAX).checked_mul(2), None);
        assert_eq!(Bytes::new(1).saturating_sub(Bytes::new(2)), Bytes::ZERO);
        assert_eq!(Bytes::from_gib(1).checked_sub(Bytes::from_mib(512)), Some(Bytes::from_mib(512)));
    }

    #[test]
    fn json_takes_numbers_and_text() {
        assert_eq!(serde_json::from_str::<Bytes>("\"4GiB\"").unwrap(), Bytes::from_gib(4));
        assert_eq!(serde_json::from_str::<Bytes>("1024").unwrap(), Bytes::new(1024));
        assert_eq!(serde_json::to_string(&Bytes::from_mib(1)).unwrap(), "1048576");
        assert!(serde_json::from_str::<Bytes>("-1").is_err());
    }

    proptest! {
        #[test]
        fn plain_numbers_come_back(value: u64) {
            prop_assert_eq!(bytes(&value.to_string()), value);
        }

        #[test]
        fn what_is_shown_can_be_read_and_is_close(value: u64) {
            let shown = Bytes::new(value).to_string();
            // The largest amount is shown rounded up to 16384 PiB, which no longer fits.
            if let Ok(back) = shown.parse::<Bytes>() {
                prop_assert!(back.get().abs_diff(value) <= value / 20 + 1, "{} {}", shown, value);
            } else {
                prop_assert!(value > u64::MAX / 10 * 9);
            }
        }

        #[test]
        fn whole_units_come_back_exactly(count in 0u64..1 << 34, unit in 0usize..3) {
            let (name, scale) = [("KiB", 10), ("MiB", 20), ("GiB", 30)][unit];
            prop_assert_eq!(bytes(&format!("{count}{name}")), count << scale);
        }

        #[test]
        fn text_without_digits_is_an_error_and_nothing_panics(text in ".{0,24}") {
            if text.parse::<Bytes>().is_ok() {
                prop_assert!(text.contains(|letter: char| letter.is_ascii_digit()), "{}", text);
            }
        }
    }
}
