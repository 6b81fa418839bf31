//! Operands, checked against the type that the instruction gives them.

use super::body::Body;
use super::index::Global;
use super::scope::Local;
use super::types::{self, Class};
use super::variable::FUNCTION_ADDRESSES;
use super::{Fault, Lowered};
use crate::ast::{Constant, Instruction, Linkage, Mnemonic, Operand, OperandKind};
use crate::diagnostics::Diagnostic;
use crate::ir::{self, Predicate, Reg, Type, Width};

/// How closely a register must match the type of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// The same width.
    Exact,
    /// That width or more (`ld`, `st`, `cvt`).
    Wider,
}

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn mnemonic(&self, instruction: &Instruction<'a>) -> Lowered<&'m Mnemonic<'a>> {
        match self.index.module.mnemonics.get(instruction.mnemonic as usize) {
            Some(mnemonic) => Ok(mnemonic),
            None => self.invalid("the instruction has no mnemonic"),
        }
    }

    /// The operands, when there are as many as the instruction takes.
    pub(super) fn take<const N: usize>(&self, instruction: &'m Instruction<'a>) -> Lowered<&'m [Operand<'a>; N]> {
        let operands = instruction.operands.as_slice();
        match <&[Operand<'a>; N]>::try_from(operands) {
            Ok(operands) => Ok(operands),
            Err(_) => self.count(instruction, N),
        }
    }

    pub(super) fn count<T>(&self, instruction: &Instruction<'a>, expected: usize) -> Lowered<T> {
        let text = self.mnemonic(instruction)?.text;
        let given = instruction.operands.len();
        self.invalid(format!("`{text}` has {given} operands: expected {expected}"))
    }

    /// The type at a position among the mnemonic's types.
    pub(super) fn ty(&self, mnemonic: &Mnemonic<'_>, position: usize) -> Lowered<Type> {
        if let Some(foreign) = mnemonic.suffixes.iter().find(|suffix| suffix.foreign_type()) {
            let name = foreign.name();
            return self.unsupported(format!("`{}` with type `.{name}` is not supported", mnemonic.opcode.name()));
        }
        match mnemonic.types.get(position) {
            Some(&ty) => Ok(ty),
            None => self.invalid(format!("`{}` lacks a type", mnemonic.text)),
        }
    }

    pub(super) fn fail<T>(&self, operand: &Operand<'_>, message: impl Into<String>) -> Lowered<T> {
        Err(Fault::Invalid(Diagnostic::error(operand.at, message)))
    }

    /// The unit of the function being lowered.
    pub(super) fn unit(&self) -> u32 {
        let function = self.frames.last().and_then(|frame| self.index.at(frame.function));
        function.map_or(0, |function| function.unit)
    }

    /// What a name means inside the current function.
    pub(super) fn local_name(&self, name: &str) -> Option<Local> {
        let frame = self.frames.last()?;
        if let Some(found) = frame.find(name) {
            return Some(found);
        }
        None
    }

    fn undeclared<T>(&self, operand: &Operand<'_>, name: &str) -> Lowered<T> {
        self.fail(operand, format!("`{name}` is not declared"))
    }

    /// Checks a register's declared type against the type that an instruction asks for.
    fn check(&self, operand: &Operand<'_>, name: &str, declared: Type, wanted: Type, fit: Fit) -> Lowered<()> {
        let (have, need) = (types::size(declared).max(1), types::size(wanted).max(1));
        let widths = match fit {
            Fit::Exact => types::width(declared) == types::width(wanted),
            Fit::Wider => have >= need && types::width(declared) != Width::Pred && wanted != Type::Pred,
        };
        let kinds = match (types::class(declared), types::class(wanted)) {
            (Class::Integer, Class::Float) | (Class::Float, Class::Integer) => false,
            (Class::Predicate, other) | (other, Class::Predicate) => other == Class::Predicate,
            _ => true,
        };
        if widths && kinds {
            return Ok(());
        }
        let (declared, wanted) = (types::name(declared), types::name(wanted));
        self.fail(operand, format!("`{name}` is declared `.{declared}`, which does not fit: expected `.{wanted}`"))
    }

    /// A register by name, with its declared type.
    pub(super) fn register(&self, operand: &Operand<'a>) -> Lowered<(Reg, Type)> {
        match operand.kind {
            OperandKind::Name(name) => match self.local_name(name) {
                Some(Local::Register(register, ty)) => Ok((register, ty)),
                Some(_) => self.fail(operand, format!("`{name}` is not a register: expected one")),
                None => self.undeclared(operand, name),
            },
            OperandKind::Member(name, member) => match self.local_name(name) {
                Some(Local::Vector(first, count, ty)) => {
                    let place = match member {
                        "x" | "r" => 0,
                        "y" | "g" => 1,
                        "z" | "b" => 2,
                        "w" | "a" => 3,
                        _ => u32::MAX,
                    };
                    if place >= count {
                        return self.fail(operand, format!("`{name}` has no `.{member}`"));
                    }
                    Ok((Reg(first.0 + place), ty))
                }
                Some(_) => self.fail(operand, format!("`{name}` is not a vector")),
                None => self.undeclared(operand, name),
            },
            _ => self.fail(operand, "expected a register"),
        }
    }

    /// Where a result goes.
    pub(super) fn destination(&self, operand: &Operand<'a>, ty: Type, fit: Fit) -> Lowered<Reg> {
        let (register, declared) = self.register(operand)?;
        let name = match operand.kind {
            OperandKind::Name(name) | OperandKind::Member(name, _) => name,
            _ => "",
        };
        self.check(operand, name, declared, ty, fit)?;
        Ok(register)
    }

    /// Where a result goes; `None` for `_`.
    pub(super) fn sink(&self, operand: &Operand<'a>, ty: Type, fit: Fit) -> Lowered<Option<Reg>> {
        match operand.kind {
            OperandKind::Sink => Ok(None),
            _ => self.destination(operand, ty, fit).map(Some),
        }
    }

    /// A source value of a type.
    pub(super) fn source(&mut self, operand: &'m Operand<'a>, ty: Type) -> Lowered<ir::Operand> {
        self.value(operand, ty, Fit::Exact)
    }

    pub(super) fn value(&mut self, operand: &'m Operand<'a>, ty: Type, fit: Fit) -> Lowered<ir::Operand> {
        match &operand.kind {
            OperandKind::Constant(constant) => self.constant(operand, *constant, ty).map(ir::Operand::Imm),
            OperandKind::Name(name) => match self.local_name(name) {
                Some(Local::Register(register, declared)) => {
                    self.check(operand, name, declared, ty, fit)?;
                    Ok(ir::Operand::Reg(register))
                }
                Some(_) => self.address_of(operand, name, 0, ty),
                None if name.starts_with('%') || *name == "WARP_SZ" => self.special_value(operand, name, None, ty),
                None => self.address_of(operand, name, 0, ty),
            },
            OperandKind::Member(name, member) => match self.local_name(name) {
                Some(_) => {
                    let (register, declared) = self.register(operand)?;
                    self.check(operand, name, declared, ty, fit)?;
                    Ok(ir::Operand::Reg(register))
                }
                None => self.special_value(operand, name, Some(member), ty),
            },
            OperandKind::Offset(name, offset) => self.address_of(operand, name, *offset, ty),
            OperandKind::Not(_) if ty == Type::Pred => {
                let p = self.predicate(operand)?;
                Ok(ir::Operand::Reg(self.plain(p)))
            }
            _ => self.fail(operand, format!("expected a register or a constant of type `.{}`", types::name(ty))),
        }
    }

    /// Bits of a constant in a type.
    fn constant(&self, operand: &Operand<'_>, constant: Constant, ty: Type) -> Lowered<u64> {
        Ok(match (constant, ty) {
            (Constant::Integer(value), Type::Pred) => u64::from(value != 0),
            (Constant::Integer(_), Type::F32 | Type::F64 | Type::F16 | Type::F16x2 | Type::TF32) => {
                let wanted = types::name(ty);
                return self.fail(operand, format!("an integer is out of place: expected a `.{wanted}` constant"));
            }
            (Constant::Integer(value), _) => match types::size(ty) {
                1 => value & 0xff,
                2 => value & 0xffff,
                4 => value & 0xffff_ffff,
                _ => value,
            },
            (Constant::Single(bits), Type::F32 | Type::B32) => u64::from(bits),
            (Constant::Single(bits), Type::F64 | Type::B64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Constant::Double(bits), Type::F64 | Type::B64) => bits,
            (Constant::Double(bits), Type::F32 | Type::B32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            _ => {
                let wanted = types::name(ty);
                return self.fail(operand, format!("a floating-point constant is out of place: expected `.{wanted}`"));
            }
        })
    }

    /// The address of a variable or function.
    fn address_of(&mut self, operand: &Operand<'a>, name: &'a str, offset: i64, ty: Type) -> Lowered<ir::Operand> {
        if !matches!(types::size(ty), 4 | 8) {
            return self.fail(operand, format!("the address of `{name}` does not fit into `.{}`", types::name(ty)));
        }
        match (self.symbol(operand, name, offset)?.1, self.framed()) {
            (ir::Operand::Local(at), Some(pointer)) => Ok(self.framed_value(pointer, at, ty)),
            (address, _) => Ok(address),
        }
    }

    /// A symbol as an address: the space it lies in and its place there.
    pub(super) fn symbol(
        &self,
        operand: &Operand<'a>,
        name: &'a str,
        offset: i64,
    ) -> Lowered<(ir::Space, ir::Operand)> {
        use ir::Space;
        match self.local_name(name) {
            Some(Local::Memory(at)) => Ok((Space::Local, ir::Operand::Local(at + offset))),
            Some(Local::Shared(at)) => Ok((Space::Shared, ir::Operand::Shared(at + offset))),
            Some(Local::Parameter(at)) => Ok((Space::Param, ir::Operand::Param(at + offset))),
            Some(Local::Slot(super::slot::Slot::Memory(at, _))) => Ok((Space::Local, ir::Operand::Local(at + offset))),
            Some(Local::Slot(_)) => {
                self.unsupported(format!("the address of the parameter `{name}` is not supported here"))
            }
            Some(_) => self.fail(operand, format!("`{name}` is a register: expected the name of a variable")),
            None => match self.index.find(name, self.unit()) {
                Some(Global::Variable(position)) => {
                    let variable = self.index.variables.get(position as usize);
                    if variable.is_some_and(|variable| variable.linkage == Linkage::Extern) {
                        return self.fail(operand, format!("`{name}` is declared `.extern` and defined nowhere"));
                    }
                    let constant = variable.is_some_and(|it| it.space == crate::ast::StateSpace::Const);
                    let space = if constant { Space::Const } else { Space::Global };
                    Ok((space, ir::Operand::Global(position, offset)))
                }
                Some(Global::Shared(variable)) => match self.shared_place(variable) {
                    Some(at) => Ok((Space::Shared, ir::Operand::Shared(at + offset))),
                    None => self.fail(operand, format!("`{name}` has no place in shared memory")),
                },
                Some(Global::Function(position)) => {
                    Ok((Space::Generic, ir::Operand::Imm(FUNCTION_ADDRESSES + position as u64)))
                }
                Some(Global::Other) => self.unsupported(format!("the module-scope variable `{name}` is not supported")),
                None => self.undeclared(operand, name),
            },
        }
    }

    pub(super) fn predicate_register(&self, name: &str) -> Lowered<Predicate> {
        match self.local_name(name) {
            Some(Local::Register(register, Type::Pred)) => Ok(Predicate { register, negated: false }),
            Some(_) => self.invalid(format!("`{name}` is not a predicate: expected one")),
            None => self.invalid(format!("`{name}` is not declared")),
        }
    }

    /// A predicate, possibly negated; a constant becomes one.
    pub(super) fn predicate(&mut self, operand: &'m Operand<'a>) -> Lowered<Predicate> {
        let at = self.writer.at;
        self.writer.at = operand.at;
        let result = match operand.kind {
            OperandKind::Name(name) => self.predicate_register(name),
            OperandKind::Not(name) => self.predicate_register(name).map(|p| Predicate { negated: true, ..p }),
            OperandKind::Constant(Constant::Integer(value)) => {
                let register = self.writer.register(Width::Pred);
                self.writer.mov(Type::Pred, register, ir::Operand::Imm(u64::from(value != 0)));
                Ok(Predicate { register, negated: false })
            }
            _ => self.invalid("expected a predicate"),
        };
        self.writer.at = at;
        result
    }

    /// A predicate's register with the negation done.
    pub(super) fn plain(&mut self, p: Predicate) -> Reg {
        if p.negated { self.negate(p.register) } else { p.register }
    }

    /// `d|p`, or `d` alone.
    pub(super) fn pair(&self, operand: &'m Operand<'a>) -> (&'m Operand<'a>, Option<&'m Operand<'a>>) {
        match &operand.kind {
            OperandKind::Pair(pair) => (&pair[0], Some(&pair[1])),
            _ => (operand, None),
        }
    }

    /// The elements of `{a, b}`; any other operand is its own only element.
    pub(super) fn elements(operand: &'m Operand<'a>) -> &'m [Operand<'a>] {
        match &operand.kind {
            OperandKind::Vector(list) => list,
            _ => std::slice::from_ref(operand),
        }
    }
}
