//! Lengths of time as Go writes them (`90s`, `1h30m`, `500ms`, `0`), for annotations and fields that TensorFusion reads that way.

use std::time::Duration;

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a duration as `30s`, `5m` or `1h30m`, or `0`")]
pub(crate) struct DurationError;

/// Reads a length of time. Parts of milliseconds are cut off; negative ones are none.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(DurationError),
        };
        nanoseconds += number.parse::<f64>().map_err(|_| DurationError)? * scale;
        rest = after;
    }
    if text.is_empty() {
        return Err(DurationError);
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| DurationError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("1h30m"), Ok(5400.0));
        assert_eq!(seconds("1.5s"), Ok(1.5));
        assert_eq!(seconds("250ms"), Ok(0.25));
        assert_eq!(seconds("0"), Ok(0.0));
        for wrong in ["", "5", "-5s", "5 s", "s", "1d", "NaN", "infs", "1e99h", "1..5s"] {
            assert_eq!(parse(wrong), Err(DurationError), "{wrong}");
        }
    }
}
