//! Positions on the bus, as text and as numbers.

/// Domain, bus, device and function of a text like `00000000:01:00.0` or `0000:01:00.0`.
pub(super) fn parse(text: &str) -> Option<[u32; 4]> {
    let (head, function) = text.trim().rsplit_once('.').unwrap_or((text.trim(), "0"));
    let mut parts = head.rsplit(':').map(|part| u32::from_str_radix(part, 16));
    let device = parts.next()?.ok()?;
    let bus = parts.next()?.ok()?;
    let domain = parts.next().unwrap_or(Ok(0)).ok()?;
    (parts.next().is_none()).then_some([domain, bus, device, u32::from_str_radix(function, 16).ok()?])
}

/// The text with a domain of `width` digits.
pub(super) fn text([domain, bus, device, function]: [u32; 4], width: usize) -> String {
    format!("{domain:0width$X}:{bus:02X}:{device:02X}.{function:X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_position_is_read() {
        for text in ["0000:1a:00.0", "00000000:1A:00.0", "1a:00.0", "1a:00"] {
            assert_eq!(parse(text), Some([0, 0x1a, 0, 0]), "{text}");
        }
        assert_eq!(parse("somewhere"), None);
        assert_eq!(text([0, 0x1a, 0, 0], 8), "00000000:1A:00.0");
    }
}
