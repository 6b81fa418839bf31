//! Loads, stores and addresses.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use super::scope::Local;
use super::slot::Slot;
use super::types;
use crate::ast::{Instruction, Mnemonic, Operand as AstOperand, OperandKind, Suffix};
use crate::ir::{Address, Op, Operand, Reg, Semantics, Space, Type, Width};

/// The state space that a mnemonic names.
pub(super) fn space(m: &Mnemonic<'_>) -> Space {
    m.any(&[
        (Suffix::Global, Space::Global),
        (Suffix::Const, Space::Const),
        (Suffix::Shared, Space::Shared),
        (Suffix::SharedCta, Space::Shared),
        (Suffix::SharedCluster, Space::Shared),
        (Suffix::Local, Space::Local),
        (Suffix::Param, Space::Param),
        (Suffix::ParamEntry, Space::Param),
        (Suffix::ParamFunc, Space::Param),
    ])
    .unwrap_or(Space::Generic)
}

pub(super) fn semantics(m: &Mnemonic<'_>, default: Semantics) -> Semantics {
    m.any(&[
        (Suffix::Weak, Semantics::Weak),
        (Suffix::Volatile, Semantics::Volatile),
        (Suffix::Relaxed, Semantics::Relaxed),
        (Suffix::Mmio, Semantics::Relaxed),
        (Suffix::Acquire, Semantics::Acquire),
        (Suffix::Release, Semantics::Release),
        (Suffix::AcqRel, Semantics::AcqRel),
        (Suffix::Sc, Semantics::AcqRel),
    ])
    .unwrap_or(default)
}

impl<'m, 'a> Body<'m, 'a> {
    /// The address in `[base+offset]`.
    pub(super) fn address(&mut self, operand: &'m AstOperand<'a>, space: Space) -> Lowered<Address> {
        let OperandKind::Address(inner, more) = &operand.kind else {
            return self.fail(operand, "expected an address such as `[%rd1+4]`");
        };
        if !more.is_empty() {
            return self.unsupported("addresses with coordinates are not supported");
        }
        let (name, offset) = match inner.kind {
            OperandKind::Name(name) => (name, 0),
            OperandKind::Offset(name, offset) => (name, offset),
            OperandKind::Constant(crate::ast::Constant::Integer(value)) => {
                return Ok(Address { space, base: Operand::Imm(value), offset: 0 });
            }
            _ => return self.fail(inner, "expected a register, a variable or a number in an address"),
        };
        if let Some(Local::Register(register, declared)) = self.local_name(name) {
            let wide = self.writer.width(register) == Width::B64;
            let narrow = self.writer.width(register) == Width::B32;
            let short = matches!(space, Space::Shared | Space::Local | Space::Param | Space::Const);
            if types::is_float(declared) || !(wide || narrow && short) {
                let declared = types::name(declared);
                return self
                    .fail(inner, format!("`{name}` is declared `.{declared}`, which does not hold this address"));
            }
            // Parameters of an inlined function that have an address live in local memory.
            let inlined = self.frames.last().is_some_and(|frame| frame.return_to.is_some());
            let space = if space == Space::Param && inlined { Space::Local } else { space };
            return Ok(Address { space, base: Operand::Reg(register), offset });
        }
        let (own, base) = self.symbol(inner, name, 0)?;
        let fits = match space {
            Space::Generic => !matches!(base, Operand::Imm(_)),
            Space::Param => matches!(own, Space::Param | Space::Local),
            Space::Global | Space::Const => matches!(own, Space::Global | Space::Const),
            other => other == own,
        };
        if !fits {
            return self.fail(inner, format!("`{name}` does not lie in the state space of the access"));
        }
        match (base, self.framed()) {
            (Operand::Local(at), Some(pointer)) => {
                Ok(Address { space: own, base: Operand::Reg(pointer), offset: at.saturating_add(offset) })
            }
            _ => Ok(Address { space: own, base, offset }),
        }
    }

    /// The parameter of a call that an address names, and the offset in it.
    fn slot_at(&self, operand: &AstOperand<'a>, bytes: u64) -> Lowered<Option<(Slot, i64)>> {
        let OperandKind::Address(inner, _) = &operand.kind else { return Ok(None) };
        let (name, offset) = match inner.kind {
            OperandKind::Name(name) => (name, 0),
            OperandKind::Offset(name, offset) => (name, offset),
            _ => return Ok(None),
        };
        let Some(Local::Slot(slot)) = self.local_name(name) else { return Ok(None) };
        let size = match slot {
            Slot::Register(_, ty) => u64::from(types::size(ty)),
            Slot::Memory(_, size) => size,
        };
        match u64::try_from(offset) {
            Ok(start) if start.saturating_add(bytes) <= size => Ok(Some((slot, offset))),
            _ => self.fail(inner, format!("the access lies outside of `{name}`, which has {size} bytes")),
        }
    }

    /// An access to a kernel parameter by name lies inside the parameters.
    fn inside_parameters(&self, operand: &AstOperand<'a>, address: &Address, bytes: u64) -> Lowered<()> {
        let (Space::Param, Operand::Param(base)) = (address.space, address.base) else { return Ok(()) };
        let start = base.checked_add(address.offset).and_then(|start| u64::try_from(start).ok());
        if start.is_some_and(|start| start.saturating_add(bytes) <= u64::from(self.param_bytes)) {
            return Ok(());
        }
        self.fail(operand, format!("the access lies outside of the parameters, which have {} bytes", self.param_bytes))
    }

    /// Checks how many elements an access has.
    fn vector(&self, m: &Mnemonic<'_>, operand: &AstOperand<'a>, count: usize) -> Lowered<()> {
        let wanted = m.any(&[(Suffix::V2, 2), (Suffix::V4, 4), (Suffix::V8, 8)]).unwrap_or(1);
        let braces = matches!(operand.kind, OperandKind::Vector(_));
        if count == wanted && braces == (wanted > 1) {
            return Ok(());
        }
        self.fail(operand, format!("{count} elements in braces: `{}` takes {wanted}", m.text))
    }

    pub(super) fn load(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        // A third operand is a cache policy.
        let (first, from) = match i.operands.as_slice() {
            [first, from] | [first, from, _] => (first, from),
            _ => return self.count(i, 2),
        };
        let elements = Self::elements(first);
        self.vector(m, first, elements.len())?;
        let d: Lowered<Vec<Option<Reg>>> = elements.iter().map(|element| self.sink(element, ty, Fit::Wider)).collect();
        let d = d?;
        let bytes = u64::from(types::size(ty)) * d.len() as u64;
        let space = space(m);
        if space == Space::Param
            && let Some((slot, offset)) = self.slot_at(from, bytes)?
        {
            self.load_slot(slot, offset, ty, d);
            return Ok(());
        }
        let address = self.address(from, space)?;
        self.inside_parameters(from, &address, bytes)?;
        self.writer.emit(Op::Load { ty, d, address, semantics: semantics(m, Semantics::Weak) });
        Ok(())
    }

    pub(super) fn store(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Async) || m.has(Suffix::Bulk) {
            return self.not_run(i);
        }
        let ty = self.ty(m, 0)?;
        let (to, value) = match i.operands.as_slice() {
            [to, value] | [to, value, _] => (to, value),
            _ => return self.count(i, 2),
        };
        let elements = Self::elements(value);
        self.vector(m, value, elements.len())?;
        let a: Lowered<Vec<Operand>> = elements.iter().map(|element| self.value(element, ty, Fit::Wider)).collect();
        let a = a?;
        let space = space(m);
        if space == Space::Param {
            let bytes = u64::from(types::size(ty)) * a.len() as u64;
            return match self.slot_at(to, bytes)? {
                Some((slot, offset)) => {
                    self.store_slot(slot, offset, ty, a);
                    Ok(())
                }
                None => self.invalid("a kernel cannot store to its parameters"),
            };
        }
        if space == Space::Const {
            return self.invalid("constant memory cannot be stored to");
        }
        let address = self.address(to, space)?;
        self.writer.emit(Op::Store { ty, address, a, semantics: semantics(m, Semantics::Weak) });
        Ok(())
    }

    /// `cvta` and `cvta.to`.
    pub(super) fn convert_address(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        if types::size(ty) != 8 {
            return self.unsupported("addresses of 32 bits are not supported in `cvta`");
        }
        let [d, a] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let a = self.source(a, ty)?;
        let inlined = self.frames.last().is_some_and(|frame| frame.return_to.is_some());
        match space(m) {
            Space::Generic => return self.invalid(format!("`{}` lacks a state space", m.text)),
            // These addresses are generic addresses as they are.
            Space::Global | Space::Const => self.writer.mov(Type::B64, d, a),
            own => {
                let space =
                    if own == Space::Param && inlined && !m.has(Suffix::ParamEntry) { Space::Local } else { own };
                self.writer.emit(if m.has(Suffix::To) {
                    Op::FromGeneric { space, d, a }
                } else {
                    Op::ToGeneric { space, d, a }
                });
            }
        }
        Ok(())
    }

    pub(super) fn is_space(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let [p, a] = self.take(i)?;
        let p = self.destination(p, Type::Pred, Fit::Exact)?;
        let a = self.source(a, Type::U64)?;
        self.writer.emit(Op::IsSpace { space: space(m), p, a });
        Ok(())
    }
}
