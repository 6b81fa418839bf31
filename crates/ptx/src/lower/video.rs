//! Video instructions: SIMD inside a 32-bit word, lane by lane.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Opcode, Suffix};
use crate::ir::{Binary, Compare, Modifiers, Op, Operand, Ternary, Type, Unary, Width};

/// What happens in a lane, and how many lanes there are.
fn lanes(opcode: Opcode) -> Option<(Opcode, u64)> {
    Some(match opcode {
        Opcode::Vadd2 => (Opcode::Vadd, 2),
        Opcode::Vsub2 => (Opcode::Vsub, 2),
        Opcode::Vavrg2 | Opcode::Vavrg4 => (Opcode::Vavrg2, if opcode == Opcode::Vavrg2 { 2 } else { 4 }),
        Opcode::Vabsdiff2 => (Opcode::Vabsdiff, 2),
        Opcode::Vmin2 => (Opcode::Vmin, 2),
        Opcode::Vmax2 => (Opcode::Vmax, 2),
        Opcode::Vset2 => (Opcode::Vset, 2),
        Opcode::Vadd4 => (Opcode::Vadd, 4),
        Opcode::Vsub4 => (Opcode::Vsub, 4),
        Opcode::Vabsdiff4 => (Opcode::Vabsdiff, 4),
        Opcode::Vmin4 => (Opcode::Vmin, 4),
        Opcode::Vmax4 => (Opcode::Vmax, 4),
        Opcode::Vset4 => (Opcode::Vset, 4),
        _ => return None,
    })
}

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn video(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let Some((action, count)) = lanes(m.opcode) else { return self.not_run(i) };
        // `vset` has no type of its own for the result.
        let (td, ta, tb) = match *m.types.as_slice() {
            [d, a, b] => (d, a, b),
            [a, b] if action == Opcode::Vset => (Type::U32, a, b),
            _ => return self.invalid(format!("`{}` has {} types: expected 3", m.text, m.types.len())),
        };
        let [d, a, b, c] = self.take(i)?;
        let d = self.destination(d, td, Fit::Exact)?;
        let (a, b, c) = (self.source(a, ta)?, self.source(b, tb)?, self.source(c, td)?);
        let compare = m.any(&[
            (Suffix::Eq, Compare::Eq),
            (Suffix::Ne, Compare::Ne),
            (Suffix::Lt, Compare::Lt),
            (Suffix::Le, Compare::Le),
            (Suffix::Gt, Compare::Gt),
            (Suffix::Ge, Compare::Ge),
        ]);
        let add = m.has(Suffix::Add);
        let bits = 32 / count;
        let mut sum = if add { c } else { Operand::Imm(0) };
        for lane in 0..count {
            let x = self.lane(ta, a, lane * bits, bits);
            let y = self.lane(tb, b, lane * bits, bits);
            let mut result = match action {
                Opcode::Vadd => self.word(Binary::Add, Type::S32, x, y),
                Opcode::Vsub => self.word(Binary::Sub, Type::S32, x, y),
                Opcode::Vmin => self.word(Binary::Min, Type::S32, x, y),
                Opcode::Vmax => self.word(Binary::Max, Type::S32, x, y),
                Opcode::Vabsdiff => {
                    let difference = self.word(Binary::Sub, Type::S32, x, y);
                    let d = self.writer.register(Width::B32);
                    let modifiers = Modifiers::default();
                    self.writer.emit(Op::Unary { op: Unary::Abs, ty: Type::S32, modifiers, d, a: difference });
                    Operand::Reg(d)
                }
                Opcode::Vavrg2 => {
                    // Rounded away from zero: half of the sum, plus one where the sum is not negative.
                    let both = self.word(Binary::Add, Type::S32, x, y);
                    let negative = self.word(Binary::Shr, Type::U32, both, Operand::Imm(31));
                    let one = self.word(Binary::Sub, Type::S32, Operand::Imm(1), negative);
                    let both = self.word(Binary::Add, Type::S32, both, one);
                    self.word(Binary::Shr, Type::S32, both, Operand::Imm(1))
                }
                _ => {
                    let Some(compare) = compare else {
                        return self.invalid(format!("`{}` lacks a comparison such as `.lt`", m.text));
                    };
                    let p = self.writer.register(Width::Pred);
                    let (p_, q, join, ty) = (Some(p), None, None, Type::S32);
                    self.writer.emit(Op::SetP { compare, ty, ftz: false, p: p_, q, a: x, b: y, join });
                    let d = self.writer.register(Width::B32);
                    let p = crate::ir::Predicate { register: p, negated: false };
                    let (a, b) = (Operand::Imm(1), Operand::Imm(0));
                    self.writer.emit(Op::SelP { ty: Type::B32, d, a, b, p });
                    Operand::Reg(d)
                }
            };
            if m.has(Suffix::Sat) {
                let (low, high) = if types::is_signed(td) {
                    (u64::from((-1i32 << (bits - 1)) as u32), (1 << (bits - 1)) - 1)
                } else {
                    (0, (1 << bits) - 1)
                };
                result = self.word(Binary::Max, Type::S32, result, Operand::Imm(low));
                result = self.word(Binary::Min, Type::S32, result, Operand::Imm(high));
            }
            sum = if add {
                self.word(Binary::Add, Type::U32, sum, result)
            } else {
                let part = self.word(Binary::And, Type::B32, result, Operand::Imm((1 << bits) - 1));
                let part = self.word(Binary::Shl, Type::B32, part, Operand::Imm(lane * bits));
                self.word(Binary::Or, Type::B32, sum, part)
            };
        }
        self.writer.mov(Type::B32, d, sum);
        Ok(())
    }

    fn word(&mut self, op: Binary, ty: Type, a: Operand, b: Operand) -> Operand {
        let d = self.writer.register(Width::B32);
        self.binary(op, ty, d, a, b);
        Operand::Reg(d)
    }

    /// A lane of a word, extended to 32 bits.
    fn lane(&mut self, ty: Type, a: Operand, position: u64, bits: u64) -> Operand {
        let d = self.writer.register(Width::B32);
        let (op, modifiers) = (Ternary::Bfe, Modifiers::default());
        let (b, c) = (Operand::Imm(position), Operand::Imm(bits));
        self.writer.emit(Op::Ternary { op, ty, modifiers, d, a, b, c });
        Operand::Reg(d)
    }
}
