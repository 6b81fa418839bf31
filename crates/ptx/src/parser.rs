//! Tokens to AST, by recursive descent with one token of lookahead.
//!
//! After an error the parser goes on behind the next `;`, so that one run reports several; it gives up after a few.

mod directive;
mod expression;
mod hash;
mod operand;
mod statement;

use crate::Position;
use crate::ast::{Function, Mnemonic, Module, Name};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::lexer::{Lexer, Token};
pub(crate) use hash::FastMap;

/// Errors after which parsing stops.
const ENOUGH: usize = 20;
/// Depth of parentheses, of nested vectors and of initial values.
const DEEPEST: u32 = 64;

/// Parses a module. The text may end at a NUL byte.
pub fn parse(text: &str) -> Result<Module<'_>, Diagnostics> {
    let mut parser = Parser::new(text);
    parser.module();
    match Diagnostics::collect(parser.found) {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(parser.module),
    }
}

type Parsed<T> = Result<T, Diagnostic>;

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// Where `token` begins.
    at: Position,
    module: Module<'a>,
    mnemonics: FastMap<&'a str, u32>,
    variables: u32,
    unit: u32,
    depth: u32,
    /// The operands being read belong to a `call`.
    in_call: bool,
    found: Vec<Diagnostic>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let token = lexer.token();
        Parser {
            at: lexer.at(),
            lexer,
            token,
            module: Module { address_size: 64, ..Module::default() },
            mnemonics: FastMap::default(),
            variables: 0,
            unit: 0,
            depth: 0,
            in_call: false,
            found: Vec::new(),
        }
    }

    fn advance(&mut self) {
        self.token = self.lexer.token();
        self.at = self.lexer.at();
    }

    fn fail<T>(&self, expected: &str) -> Parsed<T> {
        Err(match self.token {
            Token::Bad(why) => Diagnostic::error(self.at, why),
            token => Diagnostic::error(self.at, format!("{token} is out of place: expected {expected}")),
        })
    }

    fn is(&self, byte: u8) -> bool {
        self.token == Token::Punct(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.is(byte);
        if there {
            self.advance();
        }
        there
    }

    fn expect(&mut self, byte: u8, place: &str) -> Parsed<()> {
        if self.take(byte) { Ok(()) } else { self.fail(&format!("`{}` {place}", char::from(byte))) }
    }

    fn name(&mut self, what: &str) -> Parsed<Name<'a>> {
        let Token::Word(text) = self.token else { return self.fail(what) };
        let name = Name { text, at: self.at };
        self.advance();
        Ok(name)
    }

    fn number(&mut self, what: &str) -> Parsed<u64> {
        let Token::Integer(value, _) = self.token else { return self.fail(what) };
        self.advance();
        Ok(value)
    }

    fn small(&mut self, what: &str) -> Parsed<u32> {
        let at = self.at;
        let value = self.number(what)?;
        u32::try_from(value).map_err(|_| Diagnostic::error(at, format!("`{value}` is too large for {what}")))
    }

    /// Runs `parse` one level deeper; a depth that no compiler writes is an error, and not a spent stack.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return Err(Diagnostic::error(self.at, format!("nested too deep: expected at most {DEEPEST} levels")));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn mnemonic(&mut self, text: &'a str) -> Parsed<u32> {
        if let Some(&known) = self.mnemonics.get(text) {
            return Ok(known);
        }
        let mnemonic = Mnemonic::decode(text).map_err(|message| Diagnostic::error(self.at, message))?;
        let number = self.module.mnemonics.len() as u32;
        self.module.mnemonics.push(mnemonic);
        self.mnemonics.insert(text, number);
        Ok(number)
    }

    /// Records an error. False when there are enough of them.
    fn report(&mut self, diagnostic: Diagnostic) -> bool {
        self.found.push(diagnostic);
        self.found.len() < ENOUGH
    }

    /// Goes on behind the next `;`, or before a brace or a directive of module scope.
    fn recover(&mut self) {
        loop {
            match self.token {
                Token::End | Token::Punct(b'{' | b'}') => return,
                Token::Punct(b';') => return self.advance(),
                Token::Dotted("visible" | "entry" | "func" | "extern" | "weak") => return,
                _ => self.advance(),
            }
        }
    }

    fn module(&mut self) {
        if let Err(diagnostic) = self.header() {
            self.report(diagnostic);
            return;
        }
        loop {
            match self.item() {
                Ok(true) => {}
                Ok(false) => return,
                Err(diagnostic) => {
                    let at = self.at;
                    if !self.report(diagnostic) {
                        return;
                    }
                    self.recover();
                    if self.is(b'{') {
                        self.advance();
                        self.lexer.skip_braces();
                        self.advance();
                    } else if self.is(b'}') || (self.at == at && self.token != Token::End) {
                        self.advance();
                    }
                }
            }
        }
    }

    /// `.version` and `.target`, in that order at the top.
    fn header(&mut self) -> Parsed<()> {
        if self.token != Token::Dotted("version") {
            return self.fail("`.version` at the top of a PTX module");
        }
        self.advance();
        let Token::Decimal(_) = self.token else { return self.fail("a version such as `8.5`") };
        let text = self.lexer.text();
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
        self.module.version = self.module.version.max(version);
        self.advance();
        if self.token != Token::Dotted("target") {
            return self.fail("`.target` behind `.version`");
        }
        self.advance();
        loop {
            let target = self.name("a target such as `sm_80`")?;
            if let Some(number) = target.text.strip_prefix("sm_").or_else(|| target.text.strip_prefix("compute_")) {
                let digits = number.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let number: u32 = digits.parse().map_err(|_| {
                    Diagnostic::error(
                        target.at,
                        format!("`{}` is not a target: expected one such as `sm_80`", target.text),
                    )
                })?;
                self.module.target = self.module.target.max(number);
            }
            if !self.take(b',') {
                break;
            }
        }
        if self.module.target == 0 {
            return self.fail("a target such as `sm_80` before it");
        }
        Ok(())
    }

    /// One item of module scope; false at the end.
    fn item(&mut self) -> Parsed<bool> {
        match self.token {
            Token::End => return Ok(false),
            Token::Dotted("address_size") => {
                self.advance();
                let at = self.at;
                self.module.address_size = self.small("an address size")?;
                if self.module.address_size != 64 {
                    let size = self.module.address_size;
                    return Err(Diagnostic::error(
                        at,
                        format!("addresses of {size} bits are not offered: expected 64"),
                    ));
                }
            }
            Token::Dotted("version") => {
                self.unit += 1;
                self.header()?;
            }
            Token::Dotted("file") => self.file()?,
            Token::Dotted("section") => self.section()?,
            Token::Dotted("loc") => self.location()?,
            Token::Dotted("pragma") => self.pragma()?,
            Token::Dotted("alias") => {
                self.advance();
                let name = self.name("the name of an alias")?;
                self.expect(b',', "behind the name of an alias")?;
                let target = self.name("what the alias stands for")?;
                self.expect(b';', "behind an alias")?;
                self.module.aliases.push((name, target, self.unit));
            }
            Token::Punct(b';') => self.advance(),
            _ => self.declaration()?,
        }
        Ok(true)
    }

    fn declaration(&mut self) -> Parsed<()> {
        let linkage = self.linkage()?;
        match self.token {
            Token::Dotted("entry" | "func") => {
                let function: Function<'a> = self.function(linkage)?;
                self.module.functions.push(function);
                Ok(())
            }
            Token::Dotted(word) if Self::state_space(word).is_some() => {
                let mut variables = Vec::new();
                self.variables(linkage, &mut variables)?;
                self.module.variables.append(&mut variables);
                Ok(())
            }
            _ => self.fail("a kernel, a function, a variable or a directive"),
        }
    }
}
