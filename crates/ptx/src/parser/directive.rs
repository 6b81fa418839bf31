//! Directives: functions, variables, and what only debuggers read.

use super::{Parsed, Parser};
use crate::ast::{Constant, Function, Initial, Linkage, Name, StateSpace, Suffix, Variable};
use crate::diagnostics::Diagnostic;
use crate::lexer::Token;
use crate::mnemonic::Mnemonic;

impl<'a> Parser<'a> {
    pub(super) fn linkage(&mut self) -> Parsed<Linkage> {
        let mut linkage = Linkage::Hidden;
        loop {
            linkage = match self.token {
                Token::Dotted("visible") => Linkage::Visible,
                Token::Dotted("extern") => Linkage::Extern,
                Token::Dotted("weak") => Linkage::Weak,
                Token::Dotted("common") => Linkage::Common,
                _ => return Ok(linkage),
            };
            self.advance();
        }
    }

    pub(super) fn state_space(word: &str) -> Option<StateSpace> {
        Some(match word {
            "reg" => StateSpace::Reg,
            "global" | "tex" => StateSpace::Global,
            "const" => StateSpace::Const,
            "shared" | "shared::cta" => StateSpace::Shared,
            "local" => StateSpace::Local,
            "param" => StateSpace::Param,
            _ => return None,
        })
    }

    /// `.pragma "a", "b";`
    pub(super) fn pragma(&mut self) -> Parsed<()> {
        self.advance();
        loop {
            match self.token {
                Token::Text(_) => self.advance(),
                _ => return self.fail("a string"),
            }
            if !self.take(b',') {
                return self.expect(b';', "behind a pragma");
            }
        }
    }

    /// `.file 1 "name", time, size`
    pub(super) fn file(&mut self) -> Parsed<()> {
        self.advance();
        self.number("the number of a file")?;
        match self.token {
            Token::Text(_) => self.advance(),
            _ => return self.fail("the name of a file"),
        }
        while self.take(b',') {
            self.number("the time or size of a file")?;
        }
        Ok(())
    }

    /// `.loc file line column, function_name label, inlined_at file line column`
    pub(super) fn location(&mut self) -> Parsed<()> {
        self.advance();
        for _ in 0..3 {
            self.number("file, line and column")?;
        }
        while self.take(b',') {
            match self.token {
                Token::Word("function_name") => {
                    self.advance();
                    self.name("the label of a function's name")?;
                    if self.take(b'+') {
                        self.number("an offset")?;
                    }
                }
                Token::Word("inlined_at") => {
                    self.advance();
                    for _ in 0..3 {
                        self.number("file, line and column")?;
                    }
                }
                _ => return self.fail("`function_name` or `inlined_at`"),
            }
        }
        Ok(())
    }

    /// `.section .debug_info { … }`: skipped.
    pub(super) fn section(&mut self) -> Parsed<()> {
        self.advance();
        match self.token {
            Token::Dotted(_) | Token::Word(_) => self.advance(),
            _ => return self.fail("the name of a section"),
        }
        if !self.is(b'{') {
            return self.fail("`{` behind the name of a section");
        }
        if !self.lexer.skip_braces() {
            return Err(Diagnostic::error(self.at, "a section without its end: expected `}`"));
        }
        self.advance();
        Ok(())
    }

    pub(super) fn function(&mut self, linkage: Linkage) -> Parsed<Function<'a>> {
        let entry = self.token == Token::Dotted("entry");
        self.advance();
        self.attribute()?;
        let returns = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let name = self.name("the name of a function")?;
        let params = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let mut function = Function {
            name,
            entry,
            linkage,
            unit: self.unit,
            returns,
            params,
            max_threads: 0,
            required_block: [0; 3],
            required_cluster: [0; 3],
            body: None,
        };
        loop {
            match self.token {
                Token::Dotted("maxntid") => {
                    let [x, y, z] = self.extents()?;
                    function.max_threads = x.saturating_mul(y).saturating_mul(z);
                }
                Token::Dotted("reqntid") => function.required_block = self.extents()?,
                Token::Dotted("reqnctapercluster") => function.required_cluster = self.extents()?,
                Token::Dotted("minnctapersm" | "maxnctapersm" | "maxnreg" | "maxclusterrank") => {
                    self.extents()?;
                }
                Token::Dotted("explicitcluster" | "blocksareclusters" | "noreturn") => self.advance(),
                Token::Dotted("abi_preserve" | "abi_preserve_control") => {
                    self.extents()?;
                }
                Token::Dotted("pragma") => self.pragma()?,
                Token::Dotted("attribute") => {
                    self.attribute()?;
                }
                Token::Punct(b';') => {
                    self.advance();
                    return Ok(function);
                }
                Token::Punct(b'{') => {
                    self.advance();
                    function.body = Some(self.body()?);
                    return Ok(function);
                }
                _ => return self.fail("`{`, `;` or a directive such as `.maxntid`"),
            }
        }
    }

    /// A directive with one to three numbers.
    fn extents(&mut self) -> Parsed<[u32; 3]> {
        self.advance();
        let mut extents = [self.small("a number")?, 1, 1];
        for extent in extents.iter_mut().skip(1) {
            if !self.take(b',') {
                break;
            }
            *extent = self.small("a number")?;
        }
        Ok(extents)
    }

    /// `.attribute(.managed)`, `.attribute(.unified(1, 2))`: whether `.managed` is among them.
    fn attribute(&mut self) -> Parsed<bool> {
        let mut managed = false;
        if self.token != Token::Dotted("attribute") {
            return Ok(managed);
        }
        self.advance();
        self.expect(b'(', "behind `.attribute`")?;
        let mut depth = 1;
        while depth > 0 {
            match self.token {
                Token::Punct(b'(') => depth += 1,
                Token::Punct(b')') => depth -= 1,
                Token::Dotted(word) => managed |= word == "managed",
                Token::Integer(..) | Token::Punct(b',') | Token::Word(_) => {}
                _ => return self.fail("`)` behind an attribute"),
            }
            self.advance();
        }
        Ok(managed)
    }

    fn parameters(&mut self) -> Parsed<Vec<Variable<'a>>> {
        self.advance();
        let mut parameters = Vec::new();
        if self.take(b')') {
            return Ok(parameters);
        }
        loop {
            match self.token {
                Token::Dotted("param" | "reg") => self.variable(Linkage::Hidden, &mut parameters)?,
                _ => return self.fail("a parameter: `.param` or `.reg`"),
            }
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b')', "behind the parameters")?;
        Ok(parameters)
    }

    /// Declarations up to the `;`.
    pub(super) fn variables(&mut self, linkage: Linkage, into: &mut Vec<Variable<'a>>) -> Parsed<()> {
        self.variable(linkage, into)?;
        while self.take(b',') {
            let Some(model) = into.last().cloned() else { return self.fail("a variable") };
            self.declarator(model, into)?;
        }
        self.expect(b';', "behind a declaration")
    }

    /// One declaration: space, alignment, type and a name with what belongs to it.
    fn variable(&mut self, linkage: Linkage, into: &mut Vec<Variable<'a>>) -> Parsed<()> {
        let mut variable = Variable {
            name: Name { text: "", at: self.at },
            id: 0,
            unit: self.unit,
            space: StateSpace::Reg,
            linkage,
            align: None,
            ty: Suffix::Other,
            vector: 1,
            extents: Vec::new(),
            range: None,
            initial: None,
            managed: false,
        };
        if let Token::Dotted(word) = self.token
            && let Some(space) = Self::state_space(word)
        {
            variable.space = space;
        }
        self.advance();
        if self.take(b'[') {
            // `.const[3]`: banks, from old compilers.
            self.number("the number of a bank")?;
            self.expect(b']', "behind the number of a bank")?;
        }
        while let Token::Dotted(word) = self.token {
            match word {
                "align" => {
                    self.advance();
                    let at = self.at;
                    let align = self.number("an alignment")?;
                    if !align.is_power_of_two() || align > 1 << 16 {
                        let message = format!("`{align}` is not an alignment: expected a power of two up to 65536");
                        return Err(Diagnostic::error(at, message));
                    }
                    if variable.ty == Suffix::Other {
                        variable.align = Some(align);
                    }
                    continue;
                }
                "attribute" => {
                    variable.managed |= self.attribute()?;
                    continue;
                }
                "ptr" => {
                    self.advance();
                    self.pointee()?;
                    continue;
                }
                "v2" => variable.vector = 2,
                "v4" => variable.vector = 4,
                "v8" => variable.vector = 8,
                _ => match Mnemonic::ty(word) {
                    Some(ty) => variable.ty = ty,
                    None => return self.fail("a type, `.align`, `.v2` or `.v4`"),
                },
            }
            self.advance();
        }
        if variable.ty == Suffix::Other {
            return self.fail("the type of a variable");
        }
        self.declarator(variable, into)
    }

    /// What follows `.ptr`: the space and alignment of what it points to.
    fn pointee(&mut self) -> Parsed<()> {
        while let Token::Dotted(word) = self.token {
            match word {
                "global" | "const" | "local" | "shared" | "generic" => self.advance(),
                "align" => {
                    self.advance();
                    self.number("an alignment")?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn declarator(&mut self, mut variable: Variable<'a>, into: &mut Vec<Variable<'a>>) -> Parsed<()> {
        variable.name = self.name("the name of a variable")?;
        variable.id = self.variables;
        variable.extents.clear();
        variable.range = None;
        variable.initial = None;
        self.variables += 1;
        if self.take(b'<') {
            variable.range = Some(self.small("the number of registers")?);
            self.expect(b'>', "behind the number of registers")?;
        }
        while self.take(b'[') {
            let extent = if self.is(b']') { None } else { Some(self.constant_integer()?) };
            self.expect(b']', "behind the extent of an array")?;
            variable.extents.push(extent);
        }
        if self.take(b'=') {
            variable.initial = Some(self.initial()?);
        }
        into.push(variable);
        Ok(())
    }

    fn initial(&mut self) -> Parsed<Initial<'a>> {
        if self.take(b'{') {
            let mut list = Vec::new();
            while !self.take(b'}') {
                list.push(self.nested(Self::initial)?);
                if !self.take(b',') {
                    self.expect(b'}', "or `,` in an initial value")?;
                    break;
                }
            }
            return Ok(Initial::List(list));
        }
        match self.token {
            Token::Word("generic") => {
                self.advance();
                self.expect(b'(', "behind `generic`")?;
                let name = self.name("the name of a variable")?;
                self.expect(b')', "behind the name")?;
                let offset = self.offset()?;
                Ok(Initial::Symbol { name, offset, mask: None })
            }
            Token::Word(_) => {
                let name = self.name("the name of a variable")?;
                let offset = self.offset()?;
                Ok(Initial::Symbol { name, offset, mask: None })
            }
            _ => match self.constant()? {
                Constant::Integer(mask) if self.is(b'(') => {
                    self.advance();
                    let inner = self.nested(Self::initial)?;
                    self.expect(b')', "behind the name")?;
                    match inner {
                        Initial::Symbol { name, offset, .. } => Ok(Initial::Symbol { name, offset, mask: Some(mask) }),
                        _ => self.fail("the name of a variable in a mask"),
                    }
                }
                constant => Ok(Initial::Constant(constant)),
            },
        }
    }
}
