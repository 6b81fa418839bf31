//! Constant expressions, computed while they are read (PTX manual, "Constant expressions").

use super::{Parsed, Parser};
use crate::ast::Constant;
use crate::diagnostics::Diagnostic;
use crate::lexer::Token;

/// A 64-bit integer that is unsigned or not.
#[derive(Clone, Copy)]
struct Value {
    bits: u64,
    unsigned: bool,
}

impl Value {
    fn truth(holds: bool) -> Self {
        Value { bits: u64::from(holds), unsigned: false }
    }
}

/// Operators by falling precedence, in levels.
const LEVELS: [&[&[u8]]; 10] = [
    &[b"||"],
    &[b"&&"],
    &[b"|"],
    &[b"^"],
    &[b"&"],
    &[b"==", b"!="],
    &[b"<", b"<=", b">", b">="],
    &[b"<<", b">>"],
    &[b"+", b"-"],
    &[b"*", b"/", b"%"],
];

impl Parser<'_> {
    /// A constant: a float literal, possibly negative, or an integer expression.
    pub(super) fn constant(&mut self) -> Parsed<Constant> {
        let minus = self.is(b'-');
        if minus {
            let mut ahead = self.lexer.clone();
            if !matches!(ahead.token(), Token::Decimal(_) | Token::Single(_) | Token::Double(_)) {
                return Ok(Constant::Integer(self.conditional()?.bits));
            }
            self.advance();
        }
        let constant = match self.token {
            Token::Decimal(value) => Constant::Double(if minus { -value } else { value }.to_bits()),
            Token::Single(bits) => Constant::Single(bits ^ u32::from(minus) << 31),
            Token::Double(bits) => Constant::Double(bits ^ u64::from(minus) << 63),
            _ => return Ok(Constant::Integer(self.conditional()?.bits)),
        };
        self.advance();
        Ok(constant)
    }

    pub(super) fn constant_integer(&mut self) -> Parsed<u64> {
        let at = self.at;
        match self.constant()? {
            Constant::Integer(value) => Ok(value),
            _ => Err(Diagnostic::error(at, "a float is out of place: expected an integer")),
        }
    }

    /// `+4`, `-8`, or nothing.
    pub(super) fn offset(&mut self) -> Parsed<i64> {
        let minus = self.is(b'-');
        if !minus && !self.is(b'+') {
            return Ok(0);
        }
        self.advance();
        // `+-4` is what LLVM writes for a negative offset. Sums go on to the left: `a+4+8`.
        let value = self.level(9)?.bits as i64;
        let first = if minus { value.wrapping_neg() } else { value };
        Ok(first.wrapping_add(self.nested(Self::offset)?))
    }

    fn conditional(&mut self) -> Parsed<Value> {
        let condition = self.level(0)?;
        if !self.take(b'?') {
            return Ok(condition);
        }
        let then = self.nested(Self::conditional)?;
        self.expect(b':', "in a conditional expression")?;
        let otherwise = self.nested(Self::conditional)?;
        Ok(if condition.bits != 0 { then } else { otherwise })
    }

    fn operator(&self, level: usize) -> Option<&'static [u8]> {
        LEVELS.get(level)?.iter().copied().find(|operator| match (self.token, operator) {
            (Token::Punct(byte), &&[only]) => byte == only,
            (Token::Punct2(pair), &&[a, b]) => pair == [a, b],
            _ => false,
        })
    }

    fn level(&mut self, level: usize) -> Parsed<Value> {
        if level == LEVELS.len() {
            return self.unary();
        }
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.operator(level) {
            let at = self.at;
            self.advance();
            let right = self.level(level + 1)?;
            left = apply(operator, left, right)
                .ok_or_else(|| Diagnostic::error(at, "a constant expression divides by zero"))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Value> {
        match self.token {
            Token::Integer(bits, unsigned) => {
                self.advance();
                Ok(Value { bits, unsigned: unsigned || bits > i64::MAX as u64 })
            }
            Token::Punct(operator @ (b'-' | b'+' | b'~' | b'!')) => {
                self.advance();
                let value = self.nested(Self::unary)?;
                Ok(match operator {
                    b'-' => Value { bits: value.bits.wrapping_neg(), ..value },
                    b'~' => Value { bits: !value.bits, ..value },
                    b'!' => Value::truth(value.bits == 0),
                    _ => value,
                })
            }
            Token::Punct(b'(') => {
                self.advance();
                if let Token::Dotted(cast @ ("s64" | "u64")) = self.token {
                    self.advance();
                    self.expect(b')', "behind a cast")?;
                    let value = self.nested(Self::unary)?;
                    return Ok(Value { unsigned: cast == "u64", ..value });
                }
                let value = self.nested(Self::conditional)?;
                self.expect(b')', "in a constant expression")?;
                Ok(value)
            }
            _ => self.fail("a constant"),
        }
    }
}

fn apply(operator: &[u8], left: Value, right: Value) -> Option<Value> {
    let unsigned = left.unsigned || right.unsigned;
    let (a, b) = (left.bits, right.bits);
    let (signed_a, signed_b) = (a as i64, b as i64);
    let less = if unsigned { a < b } else { signed_a < signed_b };
    let bits = match operator {
        b"||" => return Some(Value::truth(a != 0 || b != 0)),
        b"&&" => return Some(Value::truth(a != 0 && b != 0)),
        b"==" => return Some(Value::truth(a == b)),
        b"!=" => return Some(Value::truth(a != b)),
        b"<" => return Some(Value::truth(less)),
        b">=" => return Some(Value::truth(!less)),
        b">" => return Some(Value::truth(!less && a != b)),
        b"<=" => return Some(Value::truth(less || a == b)),
        b"|" => a | b,
        b"^" => a ^ b,
        b"&" => a & b,
        b"+" => a.wrapping_add(b),
        b"-" => a.wrapping_sub(b),
        b"*" => a.wrapping_mul(b),
        b"/" if unsigned => a.checked_div(b)?,
        b"/" if b != 0 => signed_a.wrapping_div(signed_b) as u64,
        b"%" if unsigned => a.checked_rem(b)?,
        b"%" if b != 0 => signed_a.wrapping_rem(signed_b) as u64,
        b"<<" => return Some(Value { bits: a.checked_shl(shift(b)).unwrap_or(0), ..left }),
        b">>" if left.unsigned => return Some(Value { bits: a.checked_shr(shift(b)).unwrap_or(0), ..left }),
        b">>" => return Some(Value { bits: (signed_a >> shift(b).min(63)) as u64, ..left }),
        _ => return None,
    };
    Some(Value { bits, unsigned })
}

fn shift(amount: u64) -> u32 {
    amount.min(64) as u32
}
