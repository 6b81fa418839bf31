//! Arithmetic, logic and bit fields.

use super::Lowered;
use super::body::Body;
use super::instruction::modifiers;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, OperandKind, Suffix};
use crate::ir::{Binary, Compare, Join, Modifiers, Op, Operand, PrmtMode, Reg, Ternary, Type, Unary, Width};

impl<'m, 'a> Body<'m, 'a> {
    /// Halves of a 64-bit register that holds two f32.
    fn halves(&mut self, a: Operand) -> [Operand; 2] {
        let parts = [self.writer.register(Width::B32), self.writer.register(Width::B32)];
        self.writer.emit(Op::Unpack { d: parts.map(Some).to_vec(), part: Width::B32, a });
        parts.map(Operand::Reg)
    }

    /// `.f32x2`: the instruction once for each half.
    fn packed<const N: usize>(&mut self, i: &'m Instruction<'a>, op: impl Fn(Reg, [Operand; N]) -> Op) -> Lowered<()> {
        let Some((first, rest)) = i.operands.split_first() else { return self.count(i, N + 1) };
        if rest.len() != N {
            return self.count(i, N + 1);
        }
        let d = self.destination(first, Type::B64, Fit::Exact)?;
        let (mut low, mut high) = ([Operand::Imm(0); N], [Operand::Imm(0); N]);
        for ((operand, low), high) in rest.iter().zip(&mut low).zip(&mut high) {
            let a = self.source(operand, Type::B64)?;
            [*low, *high] = self.halves(a);
        }
        let parts = [self.writer.register(Width::B32), self.writer.register(Width::B32)];
        for (part, operands) in parts.into_iter().zip([low, high]) {
            self.writer.emit(op(part, operands));
        }
        self.writer.emit(Op::Pack { d, part: Width::B32, a: parts.map(Operand::Reg).to_vec() });
        Ok(())
    }

    pub(super) fn one(&mut self, i: &'m Instruction<'a>, op: Unary) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        let [d, a] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let a = self.source(a, ty)?;
        self.writer.emit(Op::Unary { op, ty, modifiers: modifiers(m), d, a });
        Ok(())
    }

    /// Counts have 32 bits whatever they count.
    pub(super) fn count_bits(&mut self, i: &'m Instruction<'a>, op: Unary) -> Lowered<()> {
        let ty = self.ty(self.mnemonic(i)?, 0)?;
        let [d, a] = self.take(i)?;
        let d = self.destination(d, Type::U32, Fit::Exact)?;
        let a = self.source(a, ty)?;
        self.writer.emit(Op::Unary { op, ty, modifiers: Modifiers::default(), d, a });
        Ok(())
    }

    pub(super) fn two(&mut self, i: &'m Instruction<'a>, op: Binary) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let modifiers = modifiers(m);
        if m.has(Suffix::F32x2) {
            return self.packed(i, |d, [a, b]| Op::Binary { op, ty: Type::F32, modifiers, d, a, b });
        }
        let ty = self.ty(m, 0)?;
        let [d, a, b] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.mixed(a, m, ty)?, self.source(b, ty)?);
        self.writer.emit(Op::Binary { op, ty, modifiers, d, a, b });
        Ok(())
    }

    /// The first source of `add.f32.f16`, which is narrower than the result.
    fn mixed(&mut self, a: &'m crate::ast::Operand<'a>, m: &crate::ast::Mnemonic<'_>, ty: Type) -> Lowered<Operand> {
        match m.types.get(1) {
            Some(&from) if ty == Type::F32 && matches!(from, Type::F16 | Type::BF16) => {
                let a = self.source(a, from)?;
                let d = self.writer.temporary(ty);
                self.writer.emit(Op::Cvt { to: ty, from, modifiers: Modifiers::default(), d, a });
                Ok(Operand::Reg(d))
            }
            _ => self.source(a, ty),
        }
    }

    pub(super) fn three(&mut self, i: &'m Instruction<'a>, op: Ternary) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let modifiers = modifiers(m);
        if m.has(Suffix::F32x2) {
            return self.packed(i, |d, [a, b, c]| Op::Ternary { op, ty: Type::F32, modifiers, d, a, b, c });
        }
        let ty = self.ty(m, 0)?;
        let [d, a, b, c] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b, c) = (self.mixed(a, m, ty)?, self.mixed(b, m, ty)?, self.source(c, ty)?);
        self.writer.emit(Op::Ternary { op, ty, modifiers, d, a, b, c });
        Ok(())
    }

    pub(super) fn fma(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        if self.mnemonic(i)?.has(Suffix::Oob) {
            return self.not_run(i);
        }
        self.three(i, Ternary::Fma)
    }

    pub(super) fn multiply(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Wide) {
            let ty = self.ty(m, 0)?;
            let [d, a, b] = self.take(i)?;
            let d = self.destination(d, types::doubled(ty), Fit::Exact)?;
            let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
            self.binary(Binary::MulWide, ty, d, a, b);
            return Ok(());
        }
        let half = m.has(Suffix::Hi) || m.has(Suffix::Lo);
        if !half && !m.has(Suffix::F32x2) && !types::is_float(self.ty(m, 0)?) && types::size(self.ty(m, 0)?) != 0 {
            return self.invalid(format!("`{}` of integers lacks `.lo`, `.hi` or `.wide`", m.text));
        }
        self.two(i, if m.has(Suffix::Hi) { Binary::MulHi } else { Binary::Mul })
    }

    /// `min` and `max`, of two or three.
    pub(super) fn extreme(&mut self, i: &'m Instruction<'a>, greatest: bool) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if i.operands.len() == 4 {
            return self.three(i, if greatest { Ternary::Max3 } else { Ternary::Min3 });
        }
        let op = if greatest { Binary::Max } else { Binary::Min };
        if !m.has(Suffix::Xorsign) {
            return self.two(i, op);
        }
        // `.xorsign.abs`: the extreme of the magnitudes, with the product's sign.
        let ty = self.ty(m, 0)?;
        let [d, a, b] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let bits = types::untyped(types::width(ty));
        let sign = match ty {
            Type::F32 => 1 << 31,
            Type::F16x2 | Type::BF16x2 => 0x8000_8000,
            Type::F16 | Type::BF16 => 0x8000,
            _ => return self.invalid(format!("`{}` does not take `.xorsign`", types::name(ty))),
        };
        let signs = self.writer.temporary(ty);
        self.binary(Binary::Xor, bits, signs, a, b);
        self.binary(Binary::And, bits, signs, Operand::Reg(signs), Operand::Imm(sign));
        let (x, y) = (self.writer.temporary(ty), self.writer.temporary(ty));
        for (d, a) in [(x, a), (y, b)] {
            self.binary(Binary::And, bits, d, a, Operand::Imm(!sign & (u64::MAX >> (64 - 8 * types::size(ty)))));
        }
        let (a, b) = (Operand::Reg(x), Operand::Reg(y));
        self.writer.emit(Op::Binary { op, ty, modifiers: modifiers(m), d: x, a, b });
        self.binary(Binary::Or, bits, d, Operand::Reg(x), Operand::Reg(signs));
        Ok(())
    }

    pub(super) fn shift(&mut self, i: &'m Instruction<'a>, op: Binary) -> Lowered<()> {
        let ty = self.ty(self.mnemonic(i)?, 0)?;
        let [d, a, b] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, Type::U32)?);
        self.binary(op, ty, d, a, b);
        Ok(())
    }

    pub(super) fn funnel(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let wrap = m.has(Suffix::Wrap);
        let op = if m.has(Suffix::Left) { Ternary::ShfLeft { wrap } } else { Ternary::ShfRight { wrap } };
        self.three_words(i, op, Type::B32, [Type::B32, Type::B32, Type::U32])
    }

    /// Three sources with types of their own.
    fn three_words(&mut self, i: &'m Instruction<'a>, op: Ternary, ty: Type, sources: [Type; 3]) -> Lowered<()> {
        let [d, a, b, c] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let [x, y, z] = sources;
        let (a, b, c) = (self.source(a, x)?, self.source(b, y)?, self.source(c, z)?);
        self.writer.emit(Op::Ternary { op, ty, modifiers: Modifiers::default(), d, a, b, c });
        Ok(())
    }

    pub(super) fn bit_field_extract(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let ty = self.ty(self.mnemonic(i)?, 0)?;
        self.three_words(i, Ternary::Bfe, ty, [ty, Type::U32, Type::U32])
    }

    pub(super) fn bit_field_insert(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let ty = self.ty(self.mnemonic(i)?, 0)?;
        let [d, a, b, position, length] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (position, length) = (self.source(position, Type::U32)?, self.source(length, Type::U32)?);
        self.writer.emit(Op::Bfi { ty, d, a, b, position, length });
        Ok(())
    }

    /// `bmsk`: ones from a position on.
    pub(super) fn bit_mask(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let wrap = self.mnemonic(i)?.has(Suffix::Wrap);
        let [d, position, length] = self.take(i)?;
        let d = self.destination(d, Type::B32, Fit::Exact)?;
        let (mut position, mut length) = (self.source(position, Type::U32)?, self.source(length, Type::U32)?);
        if wrap {
            (position, length) = (self.below_32(position), self.below_32(length));
        }
        let ones = self.writer.register(Width::B32);
        self.binary(Binary::Shl, Type::B32, ones, Operand::Imm(1), length);
        self.binary(Binary::Sub, Type::U32, ones, Operand::Reg(ones), Operand::Imm(1));
        self.binary(Binary::Shl, Type::B32, d, Operand::Reg(ones), position);
        Ok(())
    }

    fn below_32(&mut self, a: Operand) -> Operand {
        let d = self.writer.register(Width::B32);
        self.binary(Binary::And, Type::B32, d, a, Operand::Imm(31));
        Operand::Reg(d)
    }

    /// `szext`: extends from a width that is given.
    pub(super) fn sign_extend(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        let [d, a, b] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, mut c) = (self.source(a, ty)?, self.source(b, Type::U32)?);
        if m.has(Suffix::Wrap) {
            c = self.below_32(c);
        } else {
            let least = self.writer.register(Width::B32);
            self.binary(Binary::Min, Type::U32, least, c, Operand::Imm(32));
            c = Operand::Reg(least);
        }
        let modifiers = Modifiers::default();
        self.writer.emit(Op::Ternary { op: Ternary::Bfe, ty, modifiers, d, a, b: Operand::Imm(0), c });
        Ok(())
    }

    pub(super) fn nth_bit(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        self.three_words(i, Ternary::Fns, Type::B32, [Type::B32, Type::B32, Type::S32])
    }

    pub(super) fn permute(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let modes = [
            (Suffix::F4e, PrmtMode::F4e),
            (Suffix::B4e, PrmtMode::B4e),
            (Suffix::Rc8, PrmtMode::Rc8),
            (Suffix::Ecl, PrmtMode::Ecl),
            (Suffix::Ecr, PrmtMode::Ecr),
            (Suffix::Rc16, PrmtMode::Rc16),
        ];
        let mode = self.mnemonic(i)?.any(&modes).unwrap_or(PrmtMode::Index);
        self.three_words(i, Ternary::Prmt(mode), Type::B32, [Type::B32, Type::B32, Type::B32])
    }

    pub(super) fn lop3(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let joins = [(Suffix::And, Join::And), (Suffix::Or, Join::Or), (Suffix::Xor, Join::Xor)];
        let join = self.mnemonic(i)?.any(&joins);
        let (first, [a, b, c, table], with) = match (i.operands.as_slice(), join) {
            ([first, a, b, c, table], None) => (first, [a, b, c, table], None),
            ([first, a, b, c, table, with], Some(_)) => (first, [a, b, c, table], Some(with)),
            (_, join) => return self.count(i, if join.is_some() { 6 } else { 5 }),
        };
        let (first, p) = self.pair(first);
        let d = self.sink(first, Type::B32, Fit::Exact)?;
        let (a, b, c) = (self.source(a, Type::B32)?, self.source(b, Type::B32)?, self.source(c, Type::B32)?);
        let OperandKind::Constant(crate::ast::Constant::Integer(table @ 0..=255)) = table.kind else {
            return self.fail(table, "expected a truth table: a constant from 0 to 255");
        };
        let result = d.unwrap_or_else(|| self.writer.register(Width::B32));
        let join = match (join, with) {
            (Some(join), Some(with)) => Some((join, self.predicate(with)?)),
            _ => None,
        };
        let op = Ternary::Lop3(table as u8);
        self.writer.emit(Op::Ternary { op, ty: Type::B32, modifiers: Modifiers::default(), d: result, a, b, c });
        if let Some(p) = p {
            let p = self.sink(p, Type::Pred, Fit::Exact)?;
            let (a, b) = (Operand::Reg(result), Operand::Imm(0));
            self.writer.emit(Op::SetP { compare: Compare::Ne, ty: Type::B32, ftz: false, p, q: None, a, b, join });
        }
        Ok(())
    }

    pub(super) fn dot(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (a, b) = (self.ty(m, 0)?, self.ty(m, 1)?);
        let (signed_a, signed_b) = (types::is_signed(a), types::is_signed(b));
        let ty = if signed_a || signed_b { Type::S32 } else { Type::U32 };
        let op = if m.opcode == crate::ast::Opcode::Dp4a {
            Ternary::Dp4a { signed_a, signed_b }
        } else {
            Ternary::Dp2a { signed_a, signed_b, high: m.has(Suffix::Hi) }
        };
        self.three_words(i, op, ty, [Type::B32, Type::B32, ty])
    }
}
