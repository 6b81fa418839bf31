//! Names inside a function: scopes, registers, labels.

use super::slot::Slot;
use crate::ast::{Name, Statement};
use crate::ir::{BlockId, Reg, Type};
use crate::parser::FastMap;

/// What a name inside a function means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Local {
    /// A register and its declared type.
    Register(Reg, Type),
    /// Registers that make a vector: the first, how many, and the type of each.
    Vector(Reg, u32, Type),
    /// A variable in local memory: its offset.
    Memory(i64),
    /// A shared variable: its offset.
    Shared(i64),
    /// A kernel parameter: its offset in the buffer.
    Parameter(i64),
    /// A parameter of a call or of a called function.
    Slot(Slot),
}

/// Registers declared together: `%r<12>`.
#[derive(Clone, Copy, Debug)]
struct Range<'a> {
    prefix: &'a str,
    first: Reg,
    count: u32,
    ty: Type,
}

/// Names between a pair of braces.
#[derive(Debug, Default)]
struct Scope<'a> {
    number: u32,
    ranges: Vec<Range<'a>>,
    names: FastMap<&'a str, Local>,
    /// Top of local memory where the scope opened.
    local_top: u64,
    /// Something in the scope lives on in local memory.
    keeps_local: bool,
}

/// A function being lowered: a kernel, or a call of a function that is inlined.
#[derive(Debug)]
pub(super) struct Frame<'m, 'a> {
    /// Position of the function in the module.
    pub(super) function: usize,
    /// Where `ret` goes; `None` in a kernel.
    pub(super) return_to: Option<BlockId>,
    scopes: Vec<Scope<'a>>,
    opened: u32,
    labels: FastMap<(u32, &'a str), BlockId>,
    pub(super) tables: FastMap<&'a str, &'m [Name<'a>]>,
    pub(super) prototypes: Vec<&'a str>,
}

impl<'m, 'a> Frame<'m, 'a> {
    pub(super) fn new(function: usize, return_to: Option<BlockId>) -> Self {
        Frame {
            function,
            return_to,
            scopes: vec![Scope::default()],
            opened: 0,
            labels: FastMap::default(),
            tables: FastMap::default(),
            prototypes: Vec::new(),
        }
    }

    /// Finds labels and tables; gives a label that is there twice.
    pub(super) fn collect(
        &mut self,
        body: &'m [Statement<'a>],
        mut block: impl FnMut() -> BlockId,
    ) -> Option<Name<'a>> {
        let mut open = vec![0u32];
        let mut opened = 0;
        let mut twice = None;
        for statement in body {
            let scope = open.last().copied().unwrap_or(0);
            match statement {
                Statement::Open => {
                    opened += 1;
                    open.push(opened);
                }
                Statement::Close => {
                    open.pop();
                }
                Statement::Label(name) => {
                    let earlier = self.labels.insert((scope, name.text), block());
                    twice = twice.or(earlier.map(|_| *name));
                }
                Statement::Targets(name, targets) => {
                    self.tables.insert(name.text, targets);
                }
                Statement::Prototype(name) => self.prototypes.push(name.text),
                _ => {}
            }
        }
        twice
    }

    pub(super) fn open(&mut self, local_top: u64) {
        self.opened += 1;
        self.scopes.push(Scope { number: self.opened, local_top, ..Scope::default() });
    }

    /// Closes a scope; gives the top of local memory to go back to.
    pub(super) fn close(&mut self) -> Option<u64> {
        if self.scopes.len() <= 1 {
            return None;
        }
        let scope = self.scopes.pop()?;
        if scope.keeps_local {
            self.keep_local();
            return None;
        }
        Some(scope.local_top)
    }

    /// Local memory given out in this scope stays.
    pub(super) fn keep_local(&mut self) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.keeps_local = true;
        }
    }

    /// Gives a name its meaning; false when the scope has it already.
    pub(super) fn declare(&mut self, name: &'a str, meaning: Local) -> bool {
        let Some(scope) = self.scopes.last_mut() else { return false };
        scope.names.insert(name, meaning).is_none()
    }

    /// Declares `prefix0` to `prefix(count-1)`.
    pub(super) fn declare_range(&mut self, prefix: &'a str, first: Reg, count: u32, ty: Type) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.ranges.push(Range { prefix, first, count, ty });
        }
    }

    /// The meaning of a name.
    pub(super) fn find(&self, name: &str) -> Option<Local> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        self.scopes.iter().rev().find_map(|scope| {
            if digits > 0
                && let Some(found) = scope.ranges.iter().rev().find_map(|range| range.find(name))
            {
                return Some(found);
            }
            if scope.names.is_empty() { None } else { scope.names.get(name).copied() }
        })
    }

    /// The block of a label that can be seen from here.
    pub(super) fn label(&self, name: &'a str) -> Option<BlockId> {
        self.scopes.iter().rev().find_map(|scope| self.labels.get(&(scope.number, name)).copied())
    }

    /// The block of a label of the current scope.
    pub(super) fn own_label(&self, name: &'a str) -> Option<BlockId> {
        self.scopes.last().and_then(|scope| self.labels.get(&(scope.number, name)).copied())
    }
}

impl Range<'_> {
    fn find(&self, name: &str) -> Option<Local> {
        let digits = name.strip_prefix(self.prefix)?;
        if digits.is_empty() || digits.len() > 9 || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        let mut number = 0u32;
        for byte in digits.bytes() {
            if !byte.is_ascii_digit() {
                return None;
            }
            number = number * 10 + u32::from(byte - b'0');
        }
        (number < self.count).then_some(Local::Register(Reg(self.first.0 + number), self.ty))
    }
}
