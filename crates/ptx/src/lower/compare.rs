//! Comparisons and selections.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Mnemonic, Opcode, Suffix};
use crate::ir::{Compare, FloatTest, Join, Op, Operand, Predicate, Ternary, Type, Width};

/// The comparison of a mnemonic, and whether it asks for unsigned operands (`lo`, `ls`, `hi`, `hs`).
fn comparison(m: &Mnemonic<'_>) -> Option<(Compare, bool)> {
    m.any(&[
        (Suffix::Eq, (Compare::Eq, false)),
        (Suffix::Ne, (Compare::Ne, false)),
        (Suffix::Lt, (Compare::Lt, false)),
        (Suffix::Le, (Compare::Le, false)),
        (Suffix::Gt, (Compare::Gt, false)),
        (Suffix::Ge, (Compare::Ge, false)),
        (Suffix::Lo, (Compare::Lt, true)),
        (Suffix::Ls, (Compare::Le, true)),
        (Suffix::Hi, (Compare::Gt, true)),
        (Suffix::Hs, (Compare::Ge, true)),
        (Suffix::Equ, (Compare::Equ, false)),
        (Suffix::Neu, (Compare::Neu, false)),
        (Suffix::Ltu, (Compare::Ltu, false)),
        (Suffix::Leu, (Compare::Leu, false)),
        (Suffix::Gtu, (Compare::Gtu, false)),
        (Suffix::Geu, (Compare::Geu, false)),
        (Suffix::Num, (Compare::Num, false)),
        (Suffix::IsNan, (Compare::Nan, false)),
    ])
}

/// A packed type's element.
fn element(ty: Type) -> Option<Type> {
    match ty {
        Type::F16x2 => Some(Type::F16),
        Type::BF16x2 => Some(Type::BF16),
        _ => None,
    }
}

impl<'m, 'a> Body<'m, 'a> {
    /// Comparison and operand type of `set` and `setp`, checked against each other.
    fn comparison(&self, m: &Mnemonic<'_>, ty: Type) -> Lowered<(Compare, Type)> {
        let Some((compare, unsigned)) = comparison(m) else {
            return self.invalid(format!("`{}` lacks a comparison such as `.lt`", m.text));
        };
        let ordered = !matches!(compare, Compare::Eq | Compare::Ne);
        let of_floats =
            !matches!(compare, Compare::Eq | Compare::Ne | Compare::Lt | Compare::Le | Compare::Gt | Compare::Ge);
        let bits = matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::B128 | Type::Pred);
        if (of_floats && !types::is_float(ty)) || (ordered && bits && !unsigned) || (unsigned && types::is_float(ty)) {
            return self.invalid(format!("`{}` compares in a way that its type does not have", m.text));
        }
        if unsigned { Ok((compare, types::unsigned(types::size(ty)))) } else { Ok((compare, ty)) }
    }

    fn join(&mut self, m: &Mnemonic<'_>, i: &'m Instruction<'a>) -> Lowered<Option<(Join, Predicate)>> {
        let joins = [(Suffix::And, Join::And), (Suffix::Or, Join::Or), (Suffix::Xor, Join::Xor)];
        match (m.any(&joins), i.operands.get(3)) {
            (None, None) => Ok(None),
            (Some(join), Some(operand)) => Ok(Some((join, self.predicate(operand)?))),
            (None, Some(_)) => self.count(i, 3),
            (Some(_), None) => self.count(i, 4),
        }
    }

    pub(super) fn set_predicate(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let declared = self.ty(m, 0)?;
        let (compare, ty) = self.comparison(m, declared)?;
        let [first, a, b] = i
            .operands
            .get(..3)
            .map_or_else(|| self.count(i, 3), |first| <&[_; 3]>::try_from(first).or_else(|_| self.count(i, 3)))?;
        let (p, q) = self.pair(first);
        let p = self.sink(p, Type::Pred, Fit::Exact)?;
        let q = q.map(|q| self.sink(q, Type::Pred, Fit::Exact)).transpose()?.flatten();
        let (a, b) = (self.source(a, declared)?, self.source(b, declared)?);
        let join = self.join(m, i)?;
        let ftz = m.has(Suffix::Ftz);
        let Some(element) = element(ty) else {
            self.writer.emit(Op::SetP { compare, ty, ftz, p, q, a, b, join });
            return Ok(());
        };
        // Of packed halves, `p` is the low comparison and `q` the high one.
        let (a, b) = (self.split(a), self.split(b));
        for ((a, b), p) in a.into_iter().zip(b).zip([p, q]) {
            self.writer.emit(Op::SetP { compare, ty: element, ftz, p, q: None, a, b, join });
        }
        Ok(())
    }

    /// Low and high half of a 32-bit value.
    pub(super) fn split(&mut self, a: Operand) -> [Operand; 2] {
        if let Operand::Imm(bits) = a {
            return [Operand::Imm(bits & 0xffff), Operand::Imm(bits >> 16 & 0xffff)];
        }
        let parts = [self.writer.register(Width::B16), self.writer.register(Width::B16)];
        self.writer.emit(Op::Unpack { d: parts.map(Some).to_vec(), part: Width::B16, a });
        parts.map(Operand::Reg)
    }

    pub(super) fn set(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (result, declared) = (self.ty(m, 0)?, self.ty(m, 1)?);
        let (compare, ty) = self.comparison(m, declared)?;
        let (Some(d), Some(a), Some(b)) = (i.operands.first(), i.operands.get(1), i.operands.get(2)) else {
            return self.count(i, 3);
        };
        let d = self.destination(d, result, Fit::Exact)?;
        let (a, b) = (self.source(a, declared)?, self.source(b, declared)?);
        let join = self.join(m, i)?;
        let ftz = m.has(Suffix::Ftz);
        let Some(part) = element(ty) else {
            self.writer.emit(Op::Set { compare, result, ty, ftz, d, a, b, join });
            return Ok(());
        };
        let result = element(result).unwrap_or(if types::size(result) == 4 { Type::U16 } else { result });
        let (a, b) = (self.split(a), self.split(b));
        let parts = [self.writer.register(Width::B16), self.writer.register(Width::B16)];
        for ((a, b), d) in a.into_iter().zip(b).zip(parts) {
            self.writer.emit(Op::Set { compare, result, ty: part, ftz, d, a, b, join });
        }
        self.writer.emit(Op::Pack { d, part: Width::B16, a: parts.map(Operand::Reg).to_vec() });
        Ok(())
    }

    pub(super) fn select(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let ty = self.ty(self.mnemonic(i)?, 0)?;
        let [d, a, b, p] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let p = self.predicate(p)?;
        self.writer.emit(Op::SelP { ty, d, a, b, p });
        Ok(())
    }

    pub(super) fn select_by_sign(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (ty, sign) = (self.ty(m, 0)?, self.ty(m, 1)?);
        let [d, a, b, c] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, sign)?);
        let op = Ternary::Slct { float: sign == Type::F32 };
        self.writer.emit(Op::Ternary { op, ty, modifiers: super::instruction::modifiers(m), d, a, b, c });
        Ok(())
    }

    pub(super) fn test(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        debug_assert_eq!(m.opcode, Opcode::Testp);
        let tests = [
            (Suffix::Finite, FloatTest::Finite),
            (Suffix::Infinite, FloatTest::Infinite),
            (Suffix::Number, FloatTest::Number),
            (Suffix::NotANumber, FloatTest::NotANumber),
            (Suffix::Normal, FloatTest::Normal),
            (Suffix::Subnormal, FloatTest::Subnormal),
        ];
        let Some(test) = m.any(&tests) else {
            return self.invalid(format!("`{}` lacks a test such as `.finite`", m.text));
        };
        let ty = self.ty(m, 0)?;
        let [p, a] = self.take(i)?;
        let p = self.destination(p, Type::Pred, Fit::Exact)?;
        let a = self.source(a, ty)?;
        self.writer.emit(Op::TestP { test, ty, p, a });
        Ok(())
    }
}
