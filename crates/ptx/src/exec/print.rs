//! The text of `printf` in a kernel: C's conversions, arguments laid out as a C structure.

/// Formats as CUDA's `vprintf` does: the text, and the number of arguments (or -1 without a format). Arguments lie at
/// `arguments`, each aligned to its size; `text` reads a string, `word` eight bytes.
pub(super) fn format(
    format: &[u8],
    arguments: u64,
    text: &dyn Fn(u64) -> Vec<u8>,
    word: &dyn Fn(u64) -> u64,
) -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let mut next = arguments;
    let mut count = 0;
    let mut take = |size: u64| {
        next = next.next_multiple_of(size);
        let v = word(next);
        next += size;
        count += 1;
        if size == 4 { v & 0xffff_ffff } else { v }
    };
    let mut i = 0;
    while i < format.len() {
        if format[i] != b'%' {
            out.push(format[i]);
            i += 1;
            continue;
        }
        let begin = i;
        i += 1;
        let mut spec = Spec::default();
        while let Some(c) = format.get(i) {
            match c {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                b'0' => spec.zeros = true,
                _ => break,
            }
            i += 1;
        }
        let number = |i: &mut usize, take: &mut dyn FnMut(u64) -> u64| -> Option<i32> {
            if format.get(*i) == Some(&b'*') {
                *i += 1;
                return Some(take(4) as u32 as i32);
            }
            let mut v: Option<i32> = None;
            while let Some(d) = format.get(*i).filter(|d| d.is_ascii_digit()) {
                v = Some(v.unwrap_or(0).saturating_mul(10).saturating_add(i32::from(d - b'0')));
                *i += 1;
            }
            v
        };
        if let Some(width) = number(&mut i, &mut take) {
            spec.left |= width < 0;
            spec.width = width.unsigned_abs().min(4096) as usize;
        }
        if format.get(i) == Some(&b'.') {
            i += 1;
            let precision = number(&mut i, &mut take).unwrap_or(0);
            spec.precision = usize::try_from(precision).ok().map(|p| p.min(4096));
        }
        let mut long = 0;
        while let Some(c) = format.get(i) {
            match c {
                b'l' => long += 1,
                b'j' | b'z' | b't' => long = 2,
                b'h' | b'L' => {}
                _ => break,
            }
            i += 1;
        }
        let Some(conversion) = format.get(i).copied() else {
            out.extend_from_slice(&format[begin..]);
            break;
        };
        i += 1;
        let size = if long > 0 { 8 } else { 4 };
        match conversion {
            b'%' => out.push(b'%'),
            b'd' | b'i' => {
                let v = take(size);
                let v = if size == 4 { i64::from(v as u32 as i32) } else { v as i64 };
                spec.integer(&mut out, v < 0, &v.unsigned_abs().to_string(), "");
            }
            b'u' => spec.unsigned(&mut out, &take(size).to_string(), ""),
            b'x' => {
                let v = take(size);
                spec.unsigned(&mut out, &format!("{v:x}"), if spec.alternate && v != 0 { "0x" } else { "" });
            }
            b'X' => {
                let v = take(size);
                spec.unsigned(&mut out, &format!("{v:X}"), if spec.alternate && v != 0 { "0X" } else { "" });
            }
            b'o' => {
                let v = take(size);
                spec.unsigned(&mut out, &format!("{v:o}"), if spec.alternate && v != 0 { "0" } else { "" });
            }
            b'p' => {
                let v = take(8);
                spec.pad(&mut out, format!("0x{v:x}").as_bytes(), 0);
            }
            b'c' => {
                let v = take(4) as u8;
                spec.pad(&mut out, &[v], 0);
            }
            b's' => {
                let address = take(8);
                let mut string = if address == 0 { b"(null)".to_vec() } else { text(address) };
                string.truncate(spec.precision.unwrap_or(usize::MAX));
                spec.pad(&mut out, &string, 0);
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                let v = f64::from_bits(take(8));
                spec.float(&mut out, v, conversion);
            }
            _ => out.extend_from_slice(&format[begin..i]),
        }
    }
    (out, count)
}

/// A conversion's flags, width and precision.
#[derive(Clone, Copy, Default, Debug)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    /// Pads text to the width; zeros go behind the first `sign` bytes.
    fn pad(&self, out: &mut Vec<u8>, text: &[u8], sign: usize) {
        let missing = self.width.saturating_sub(text.len());
        if self.left {
            out.extend_from_slice(text);
            out.extend(std::iter::repeat_n(b' ', missing));
        } else if self.zeros && sign != usize::MAX {
            out.extend_from_slice(&text[..sign]);
            out.extend(std::iter::repeat_n(b'0', missing));
            out.extend_from_slice(&text[sign..]);
        } else {
            out.extend(std::iter::repeat_n(b' ', missing));
            out.extend_from_slice(text);
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn integer(&self, out: &mut Vec<u8>, negative: bool, digits: &str, prefix: &str) {
        self.digits(out, self.sign(negative), digits, prefix);
    }

    fn unsigned(&self, out: &mut Vec<u8>, digits: &str, prefix: &str) {
        self.digits(out, "", digits, prefix);
    }

    fn digits(&self, out: &mut Vec<u8>, sign: &str, digits: &str, prefix: &str) {
        let digits = match self.precision {
            Some(0) if digits == "0" => String::new(),
            Some(p) => format!("{}{digits}", "0".repeat(p.saturating_sub(digits.len()))),
            None => digits.to_owned(),
        };
        let head = format!("{sign}{prefix}");
        let text = format!("{head}{digits}");
        let behind = if self.precision.is_some() { usize::MAX } else { head.len() };
        let plain = Spec { zeros: self.zeros && self.precision.is_none(), ..*self };
        plain.pad(out, text.as_bytes(), behind);
    }

    fn float(&self, out: &mut Vec<u8>, v: f64, conversion: u8) {
        let upper = conversion.is_ascii_uppercase();
        let sign = self.sign(v.is_sign_negative() && !v.is_nan());
        if !v.is_finite() {
            let name = if v.is_nan() { "nan" } else { "inf" };
            let name = if upper { name.to_uppercase() } else { name.to_owned() };
            Spec { zeros: false, ..*self }.pad(out, format!("{sign}{name}").as_bytes(), usize::MAX);
            return;
        }
        let magnitude = v.abs();
        let body = match conversion.to_ascii_lowercase() {
            b'f' => self.fixed(magnitude, self.precision.unwrap_or(6)),
            b'e' => self.scientific(magnitude, self.precision.unwrap_or(6)),
            b'g' => self.general(magnitude),
            _ => self.hexadecimal(magnitude),
        };
        let body = if upper { body.to_uppercase() } else { body };
        self.pad(out, format!("{sign}{body}").as_bytes(), sign.len());
    }

    fn fixed(&self, v: f64, precision: usize) -> String {
        let dot = if self.alternate && precision == 0 { "." } else { "" };
        format!("{v:.precision$}{dot}")
    }

    fn scientific(&self, v: f64, precision: usize) -> String {
        let text = format!("{v:.precision$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let dot = if self.alternate && precision == 0 { "." } else { "" };
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}{dot}e{sign}{:02}", exponent.abs())
    }

    fn general(&self, v: f64) -> String {
        let precision = self.precision.unwrap_or(6).max(1);
        let exponent: i32 = if v == 0.0 {
            0
        } else {
            let text = format!("{v:.*e}", precision - 1);
            text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0)
        };
        let text = if exponent < -4 || exponent >= precision as i32 {
            self.scientific(v, precision - 1)
        } else {
            self.fixed(v, (precision as i32 - 1 - exponent).max(0) as usize)
        };
        if self.alternate || !text.contains('.') {
            return text;
        }
        let (mantissa, exponent) = match text.split_once('e') {
            Some((m, e)) => (m.to_owned(), format!("e{e}")),
            None => (text, String::new()),
        };
        format!("{}{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
    }

    fn hexadecimal(&self, v: f64) -> String {
        let bits = v.to_bits();
        let (mut exponent, mut fraction) = ((bits >> 52) as i32 - 1023, bits & ((1 << 52) - 1));
        let mut lead = 1u64;
        if bits >> 52 == 0 {
            lead = 0;
            exponent = if fraction == 0 { 0 } else { -1022 };
        }
        let mut digits = 13;
        if let Some(p) = self.precision.filter(|p| *p < 13) {
            let drop = 4 * (13 - p) as u32;
            let whole = lead << 52 | fraction;
            let (kept, rest, half) = (whole >> drop, whole & ((1 << drop) - 1), 1u64 << (drop - 1));
            let rounded = kept + u64::from(rest > half || rest == half && kept & 1 == 1);
            lead = rounded >> (4 * p);
            fraction = if p == 0 { 0 } else { rounded & ((1 << (4 * p)) - 1) };
            digits = p;
        }
        let mut text = if digits == 0 { String::new() } else { format!("{fraction:0digits$x}") };
        if self.precision.is_none() {
            text = text.trim_end_matches('0').to_owned();
        }
        let dot = if text.is_empty() { "" } else { "." };
        format!("0x{lead}{dot}{text}p{exponent:+}")
    }
}
