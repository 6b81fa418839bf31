//! Bodies of functions.

use super::{Parsed, Parser};
use crate::ast::{Guard, Instruction, Name, Opcode, Statement};
use crate::diagnostics::Diagnostic;
use crate::lexer::Token;

impl<'a> Parser<'a> {
    /// Statements up to the `}` that closes the function.
    pub(super) fn body(&mut self) -> Parsed<Vec<Statement<'a>>> {
        let opened = self.at;
        let mut body = Vec::new();
        let mut depth = 0usize;
        loop {
            match self.token {
                Token::Punct(b'}') => {
                    self.advance();
                    if depth == 0 {
                        return Ok(body);
                    }
                    depth -= 1;
                    body.push(Statement::Close);
                }
                Token::Punct(b'{') => {
                    self.advance();
                    depth += 1;
                    body.push(Statement::Open);
                }
                Token::Punct(b';') => self.advance(),
                Token::End => {
                    return Err(Diagnostic::error(
                        self.at,
                        format!("the body opened at {opened} has no end: expected `}}`"),
                    ));
                }
                _ => {
                    if let Err(diagnostic) = self.statement(&mut body) {
                        if self.found.len() + 1 >= super::ENOUGH {
                            return Err(diagnostic);
                        }
                        self.report(diagnostic);
                        self.recover();
                        if matches!(self.token, Token::Dotted("visible" | "entry" | "func" | "extern" | "weak")) {
                            return Ok(body);
                        }
                    }
                }
            }
        }
    }

    fn statement(&mut self, body: &mut Vec<Statement<'a>>) -> Parsed<()> {
        match self.token {
            Token::Word(word) => {
                let at = self.at;
                let text = self.lexer.extend();
                if text.len() == word.len() && self.lexer.colon() {
                    self.advance();
                    self.advance();
                    return self.label(Name { text: word, at }, body);
                }
                self.instruction(None, text, body)
            }
            Token::Punct(b'@') => {
                self.advance();
                let negated = self.take(b'!');
                let guard = Guard { name: self.name("a predicate")?, negated };
                let Token::Word(_) = self.token else { return self.fail("an instruction behind its guard") };
                let text = self.lexer.extend();
                self.instruction(Some(guard), text, body)
            }
            Token::Dotted("loc") => self.location(),
            Token::Dotted("file") => self.file(),
            Token::Dotted("section") => self.section(),
            Token::Dotted("pragma") => self.pragma(),
            Token::Dotted(_) => {
                let linkage = self.linkage()?;
                match self.token {
                    Token::Dotted(word) if Self::state_space(word).is_some() => {}
                    _ => return self.fail("a statement"),
                }
                let mut variables = Vec::new();
                self.variables(linkage, &mut variables)?;
                body.extend(variables.into_iter().map(|variable| Statement::Variable(Box::new(variable))));
                Ok(())
            }
            _ => self.fail("an instruction, a label, a declaration or `}`"),
        }
    }

    fn instruction(&mut self, guard: Option<Guard<'a>>, text: &'a str, body: &mut Vec<Statement<'a>>) -> Parsed<()> {
        let at = self.at;
        let mnemonic = self.mnemonic(text)?;
        self.in_call = self.module.mnemonics.get(mnemonic as usize).is_some_and(|it| it.opcode == Opcode::Call);
        self.advance();
        let operands = self.operands()?;
        body.push(Statement::Instruction(Instruction { at, guard, mnemonic, operands }));
        Ok(())
    }

    /// A label, or what a label names: `.branchtargets`, `.calltargets`, `.callprototype`.
    fn label(&mut self, name: Name<'a>, body: &mut Vec<Statement<'a>>) -> Parsed<()> {
        match self.token {
            Token::Dotted("branchtargets" | "calltargets") => {
                self.advance();
                let mut targets = vec![self.name("a target")?];
                while self.take(b',') {
                    targets.push(self.name("a target")?);
                }
                self.expect(b';', "or `,` behind a target")?;
                body.push(Statement::Targets(name, targets));
            }
            Token::Dotted("callprototype") => {
                // Parameters carry their types at the call as well, so that the text adds nothing.
                while !self.take(b';') {
                    if matches!(self.token, Token::End | Token::Punct(b'{' | b'}')) {
                        return self.fail("`;` behind a prototype");
                    }
                    self.advance();
                }
                body.push(Statement::Prototype(name));
            }
            _ => body.push(Statement::Label(name)),
        }
        Ok(())
    }
}
