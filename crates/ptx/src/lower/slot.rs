//! Parameters of calls: a scalar lives in a register, anything larger in local memory.

use super::body::Body;
use super::{Lowered, layout, types};
use crate::ast::Variable;
use crate::ir::{Address, Op, Operand, Reg, Semantics, Space, Type, Unary, Width};

/// Where a parameter of a call lives.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Slot {
    /// In a register as wide as it is.
    Register(Reg, Type),
    /// In local memory: offset and size.
    Memory(i64, u64),
}

/// The largest piece of what is left of a parameter in memory, which is aligned to eight bytes.
pub(super) fn piece(left: i64) -> Type {
    match left {
        8.. => Type::B64,
        4..8 => Type::B32,
        2..4 => Type::B16,
        _ => Type::B8,
    }
}

impl<'m, 'a> Body<'m, 'a> {
    /// A place for a parameter.
    pub(super) fn slot(&mut self, variable: &Variable<'_>, addressed: bool) -> Lowered<Slot> {
        let ty = layout::element(variable)?;
        let scalar = variable.extents.is_empty() && variable.vector == 1 && types::size(ty) <= 8;
        if scalar && !addressed {
            return Ok(Slot::Register(self.writer.temporary(ty), ty));
        }
        let size = layout::size(variable)?;
        Ok(Slot::Memory(self.local(size, layout::align(variable)?)?, size))
    }

    fn at_slot(&self, offset: i64) -> Address {
        match self.framed() {
            Some(pointer) => Address { space: Space::Local, base: Operand::Reg(pointer), offset },
            None => Address { space: Space::Local, base: Operand::Local(offset), offset: 0 },
        }
    }

    /// `ld.param` from a slot.
    pub(super) fn load_slot(&mut self, slot: Slot, offset: i64, ty: Type, d: Vec<Option<Reg>>) {
        match slot {
            Slot::Memory(base, _) => {
                let address = self.at_slot(base + offset);
                self.writer.emit(Op::Load { ty, d, address, semantics: Semantics::Weak });
            }
            Slot::Register(register, _) => {
                for (element, d) in d.into_iter().enumerate() {
                    let Some(d) = d else { continue };
                    let at = offset + element as i64 * i64::from(types::size(ty));
                    self.load_part(register, at, ty, d);
                }
            }
        }
    }

    fn load_part(&mut self, register: Reg, offset: i64, ty: Type, d: Reg) {
        let width = self.writer.width(register);
        let part = types::size(ty);
        let whole = types::untyped(width);
        let mut from = register;
        if offset != 0 {
            from = self.writer.register(width);
            let amount = Operand::Imm((offset * 8) as u64);
            let ty = types::unsigned(types::size(whole));
            self.binary(crate::ir::Binary::Shr, ty, from, Operand::Reg(register), amount);
        }
        if part == types::size(whole) && self.writer.width(d) == width {
            return self.writer.mov(whole, d, Operand::Reg(from));
        }
        self.extend(ty, d, from);
    }

    /// The low bits of a register, extended to another as a load would.
    pub(super) fn extend(&mut self, ty: Type, d: Reg, from: Reg) {
        let source = match ty {
            Type::S8 | Type::S16 | Type::S32 | Type::S64 => ty,
            other => types::unsigned(types::size(other)),
        };
        let bytes = types::bits(self.writer.width(d)) / 8;
        let to = match (types::is_signed(source), bytes) {
            (true, 2) => Type::S16,
            (true, 4) => Type::S32,
            (true, _) => Type::S64,
            (false, bytes) => types::unsigned(bytes),
        };
        let a = self.narrow(Operand::Reg(from), source);
        self.writer.emit(Op::Cvt { to, from: source, modifiers: Default::default(), d, a });
    }

    /// `st.param` to a slot.
    pub(super) fn store_slot(&mut self, slot: Slot, offset: i64, ty: Type, a: Vec<Operand>) {
        match slot {
            Slot::Memory(base, _) => {
                let address = self.at_slot(base + offset);
                self.writer.emit(Op::Store { ty, address, a, semantics: Semantics::Weak });
            }
            Slot::Register(register, _) => {
                for (element, a) in a.into_iter().enumerate() {
                    let at = offset + element as i64 * i64::from(types::size(ty));
                    self.store_part(register, at, ty, a);
                }
            }
        }
    }

    fn store_part(&mut self, register: Reg, offset: i64, ty: Type, a: Operand) {
        let width = self.writer.width(register);
        let whole = types::untyped(width);
        let part = types::size(ty);
        let a = match a {
            Operand::Reg(source) if self.writer.width(source) != width => {
                let wide = self.writer.register(width);
                self.extend(types::unsigned(part), wide, source);
                Operand::Reg(wide)
            }
            other => other,
        };
        if offset == 0 && part >= types::size(whole) {
            return self.writer.mov(whole, register, a);
        }
        // A part of the register: the rest stays.
        let mask = if part >= 8 { u64::MAX } else { (1u64 << (part * 8)) - 1 } << (offset * 8);
        let ty = whole;
        let (moved, kept) = (self.writer.register(width), self.writer.register(width));
        self.binary(crate::ir::Binary::Shl, ty, moved, a, Operand::Imm((offset * 8) as u64));
        self.binary(crate::ir::Binary::And, ty, moved, Operand::Reg(moved), Operand::Imm(mask));
        self.binary(crate::ir::Binary::And, ty, kept, Operand::Reg(register), Operand::Imm(!mask));
        self.binary(crate::ir::Binary::Or, ty, register, Operand::Reg(kept), Operand::Reg(moved));
    }

    /// The value of a slot that is an argument of a runtime function.
    pub(super) fn slot_value(&mut self, slot: Slot, ty: Type) -> Operand {
        match slot {
            Slot::Register(register, _) => Operand::Reg(register),
            Slot::Memory(..) => {
                let d = self.writer.temporary(ty);
                self.load_slot(slot, 0, ty, vec![Some(d)]);
                Operand::Reg(d)
            }
        }
    }

    /// Copies one slot to another.
    pub(super) fn copy_slot(&mut self, to: Slot, from: Slot) {
        match (to, from) {
            (to, Slot::Register(register, ty)) => self.store_slot(to, 0, ty, vec![Operand::Reg(register)]),
            (Slot::Register(register, ty), from) => self.load_slot(from, 0, ty, vec![Some(register)]),
            (Slot::Memory(_, to_size), Slot::Memory(_, from_size)) => {
                let size = to_size.min(from_size) as i64;
                let mut at = 0;
                while at < size {
                    let ty = piece(size - at);
                    let d = self.writer.temporary(ty);
                    self.load_slot(from, at, ty, vec![Some(d)]);
                    self.store_slot(to, at, ty, vec![Operand::Reg(d)]);
                    at += i64::from(types::size(ty));
                }
            }
        }
    }

    /// `!p` as a register.
    pub(super) fn negate(&mut self, p: Reg) -> Reg {
        let d = self.writer.register(Width::Pred);
        let modifiers = Default::default();
        self.writer.emit(Op::Unary { op: Unary::Not, ty: Type::Pred, modifiers, d, a: Operand::Reg(p) });
        d
    }
}
