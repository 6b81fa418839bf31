//! Operands of instructions.

use super::{Parsed, Parser};
use crate::ast::{Operand, OperandKind};
use crate::diagnostics::Diagnostic;
use crate::lexer::Token;

impl<'a> Parser<'a> {
    /// Operands up to the `;`, which is taken.
    pub(super) fn operands(&mut self) -> Parsed<Vec<Operand<'a>>> {
        let mut operands = Vec::new();
        if self.take(b';') {
            return Ok(operands);
        }
        operands.reserve_exact(3);
        loop {
            operands.push(self.operand()?);
            if self.take(b',') {
                continue;
            }
            if self.take(b';') {
                return Ok(operands);
            }
            return self.fail("`,` or `;` behind an operand");
        }
    }

    fn operand(&mut self) -> Parsed<Operand<'a>> {
        let at = self.at;
        let first = self.simple()?;
        if !self.is(b'|') {
            return Ok(first);
        }
        self.advance();
        let second = self.simple()?;
        Ok(Operand { at, kind: OperandKind::Pair(Box::new([first, second])) })
    }

    fn simple(&mut self) -> Parsed<Operand<'a>> {
        let at = self.at;
        let kind = match self.token {
            Token::Word("_") => {
                self.advance();
                OperandKind::Sink
            }
            Token::Word(name) => {
                if let Some(member) = self.lexer.member() {
                    self.advance();
                    OperandKind::Member(name, member)
                } else {
                    self.advance();
                    if self.is(b'+') || self.is(b'-') {
                        OperandKind::Offset(name, self.offset()?)
                    } else if self.take(b'[') {
                        // `array[0]`, as tinygrad writes it: the address of the first element. Others would need its size.
                        let index = self.constant_integer()?;
                        self.expect(b']', "behind an index")?;
                        if index != 0 {
                            return Err(Diagnostic::error(
                                at,
                                format!("index {index} of `{name}`: expected 0, or `{name}+BYTES`"),
                            ));
                        }
                        OperandKind::Name(name)
                    } else {
                        OperandKind::Name(name)
                    }
                }
            }
            Token::Punct(b'!') => {
                let mut ahead = self.lexer.clone();
                match ahead.token() {
                    Token::Word(name) => {
                        self.advance();
                        self.advance();
                        OperandKind::Not(name)
                    }
                    _ => OperandKind::Constant(self.constant()?),
                }
            }
            Token::Punct(b'{') => {
                self.advance();
                OperandKind::Vector(self.list(b'}')?)
            }
            Token::Punct(b'[') => {
                self.advance();
                let base = self.nested(Self::operand)?;
                let mut more = Vec::new();
                while self.take(b',') {
                    more.push(self.nested(Self::operand)?);
                }
                self.expect(b']', "behind an address")?;
                OperandKind::Address(Box::new(base), more)
            }
            Token::Punct(b'(') => {
                // The arguments of a call; a parenthesis that opens with a number is an expression.
                let mut ahead = self.lexer.clone();
                match ahead.token() {
                    Token::Integer(..) | Token::Punct(b'(' | b'-' | b'~' | b'+') | Token::Dotted(_)
                        if !self.in_call =>
                    {
                        OperandKind::Constant(self.constant()?)
                    }
                    _ => {
                        self.advance();
                        OperandKind::Group(self.list(b')')?)
                    }
                }
            }
            Token::Integer(..)
            | Token::Decimal(_)
            | Token::Single(_)
            | Token::Double(_)
            | Token::Punct(b'-' | b'+' | b'~') => OperandKind::Constant(self.constant()?),
            _ => return self.fail("a register, a constant, an address or a vector"),
        };
        Ok(Operand { at, kind })
    }

    fn list(&mut self, close: u8) -> Parsed<Vec<Operand<'a>>> {
        let mut list = Vec::new();
        if self.take(close) {
            return Ok(list);
        }
        loop {
            list.push(self.nested(Self::operand)?);
            if !self.take(b',') {
                self.expect(close, "or `,` behind an operand")?;
                return Ok(list);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    fn load(operand: &str) -> Result<crate::ir::Module, crate::Diagnostics> {
        crate::load(&format!(
            ".version 7.5 .target sm_80 .address_size 64 .visible .entry k() {{ .local .align 4 .b8 depot[16]; .reg .b64 %rd1;
             mov.u64 %rd1, {operand}; ret; }}"
        ))
    }

    #[test]
    fn the_first_element_of_an_array_is_its_address() {
        assert!(load("depot[0]").is_ok());
        let text = load("depot[2]").map_err(|error| error.to_string());
        assert!(text.as_ref().is_err_and(|text| text.contains("index 2 of `depot`")), "{text:?}");
    }
}
