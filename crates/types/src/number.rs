//! Decimal numbers with an exponent that the unit gives: shared by every amount that people type.
//!
//! Floating point would turn `0.3` into something else; these stay exact until the last step.

/// Why a number could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// No digits, or something else than digits and one point.
    #[error("`{text}` is not a number: expected digits and at most one point, as in `1.5`")]
    NotANumber {
        /// What was given.
        text: String,
    },
    /// The amount does not fit.
    #[error("`{text}` is too large: the largest amount is 2^64 - 1 of the smallest unit")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// Splits `"1.5 GiB"` into `("1.5", "GiB")`.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// Reads `number` and multiplies it with `scale`, rounding down: a limit is never more than was said.
pub(crate) fn scaled(number: &str, scale: u64) -> Result<u64, NumberError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(NumberError::NotANumber { text: number.to_owned() });
    }
    let too_large = || NumberError::TooLarge { text: number.to_owned() };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_large())? };
    // Beyond 18 digits a fraction is less than any smallest unit: 10^18 > 2^59 and the largest scale is 2^50.
    let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    let total = u128::from(whole) * u128::from(scale) + numerator * u128::from(scale) / denominator;
    u64::try_from(total).map_err(|_| too_large())
}
