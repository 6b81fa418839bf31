//! Sums and products that pass a carry on. The carry flag is a predicate register of the kernel.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Suffix};
use crate::ir::{Binary, Op, Operand, Reg, Ternary, Width};

impl<'m, 'a> Body<'m, 'a> {
    fn flag(&mut self) -> Reg {
        if let Some(flag) = self.carry {
            return flag;
        }
        let flag = self.writer.register(Width::Pred);
        self.carry = Some(flag);
        flag
    }

    /// `add` and `sub`, which may set the flag.
    pub(super) fn sum(&mut self, i: &'m Instruction<'a>, subtract: bool) -> Lowered<()> {
        if !self.mnemonic(i)?.has(Suffix::Cc) {
            return self.two(i, if subtract { Binary::Sub } else { Binary::Add });
        }
        self.sum_with(i, subtract, false)
    }

    /// `addc` and `subc`, which read the flag.
    pub(super) fn carried(&mut self, i: &'m Instruction<'a>, subtract: bool) -> Lowered<()> {
        self.sum_with(i, subtract, true)
    }

    fn sum_with(&mut self, i: &'m Instruction<'a>, subtract: bool, read: bool) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        let [d, a, b] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let flag = self.flag();
        let (carry_in, carry_out) = (read.then_some(flag), m.has(Suffix::Cc).then_some(flag));
        self.writer.emit(Op::AddCarry { ty, subtract, d, a, b, carry_in, carry_out });
        Ok(())
    }

    /// `mad` and `madc`.
    pub(super) fn multiply_add(&mut self, i: &'m Instruction<'a>, read: bool) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        if m.has(Suffix::Wide) {
            let [d, a, b, c] = self.take(i)?;
            let wide = types::doubled(ty);
            let d = self.destination(d, wide, Fit::Exact)?;
            let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, wide)?);
            self.writer.emit(Op::Ternary { op: Ternary::MadWide, ty, modifiers: Default::default(), d, a, b, c });
            return Ok(());
        }
        if !read && !m.has(Suffix::Cc) {
            // Of floats, `mad` is `fma` on every GPU since sm_20.
            let op = match (types::is_float(ty), m.has(Suffix::Hi)) {
                (true, _) => Ternary::Fma,
                (false, true) => Ternary::MadHi,
                (false, false) => Ternary::Mad,
            };
            return self.three(i, op);
        }
        let [d, a, b, c] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let product = self.writer.temporary(ty);
        self.binary(if m.has(Suffix::Hi) { Binary::MulHi } else { Binary::Mul }, ty, product, a, b);
        let flag = self.flag();
        let (carry_in, carry_out) = (read.then_some(flag), m.has(Suffix::Cc).then_some(flag));
        // The sum of the whole numbers, so that the flag is the unsigned carry whatever the type says.
        let (ty, a) = (types::unsigned(types::size(ty)), Operand::Reg(product));
        self.writer.emit(Op::AddCarry { ty, subtract: false, d, a, b: c, carry_in, carry_out });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::{Op, Type};

    #[test]
    fn a_carry_chain_passes_one_predicate_on() {
        let text = ".version 8.0 .target sm_80 .entry k() { .reg .b32 %r<9>; add.cc.u32 %r1, %r2, %r3;
            addc.cc.s32 %r4, %r5, %r6; madc.hi.u32 %r7, %r1, %r2, %r3; ret; }";
        let module = crate::load(text).unwrap();
        let flags: Vec<_> = module.kernels[0].blocks[0]
            .instructions
            .iter()
            .filter_map(|instruction| match instruction.op {
                Op::AddCarry { ty, carry_in, carry_out, .. } => Some((ty, carry_in, carry_out)),
                _ => None,
            })
            .collect();
        let flag = flags[0].2;
        assert!(flag.is_some());
        assert_eq!(flags, [(Type::U32, None, flag), (Type::S32, flag, flag), (Type::U32, flag, None)]);
    }
}
