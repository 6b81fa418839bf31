//! Compute capabilities: what generation of device a program is shown.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A compute capability such as 12.0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability {
    /// The number before the point.
    pub major: u16,
    /// The digit behind the point.
    pub minor: u16,
}

/// Why text is no compute capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a compute capability: expected a number from 5.0 to 20.9, such as `8.0` or `12.0`")]
pub struct ParseCapabilityError {
    /// What was given.
    text: String,
}

impl Capability {
    /// Ten times the number, as CUDA writes it: 120 for 12.0.
    #[must_use]
    pub fn tenfold(self) -> u32 {
        u32::from(self.major) * 10 + u32::from(self.minor)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Capability {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(major) || !digits(minor) || minor.len() > 1 {
                return None;
            }
            let major = major.parse().ok().filter(|major| (5..=20).contains(major))?;
            Some(Self { major, minor: minor.parse().ok()? })
        };
        read().ok_or_else(|| ParseCapabilityError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Capability {
    type Error = ParseCapabilityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_and_shown() {
        let capability: Capability = "12.0".parse().unwrap();
        assert_eq!((capability.tenfold(), capability.to_string().as_str()), (120, "12.0"));
        assert_eq!("13".parse::<Capability>().unwrap().tenfold(), 130);
        for wrong in ["", "sm_80", "8.", ".0", "4.9", "21.0", "8.0.1", "8.12", "-8.0", "+8.0", "120.0"] {
            assert!(wrong.parse::<Capability>().is_err(), "{wrong}");
        }
    }
}
