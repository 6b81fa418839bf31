//! Which instruction is lowered where.

use super::Lowered;
use super::body::Body;
use crate::ast::{Instruction, Opcode, Suffix};
use crate::ir::{Binary, Modifiers, Op, Rounding, Ternary, Unary};

/// The modifiers of arithmetic among the suffixes.
pub(super) fn modifiers(mnemonic: &crate::ast::Mnemonic<'_>) -> Modifiers {
    let rounding = [
        (Suffix::Rn, Rounding::Rn),
        (Suffix::Rz, Rounding::Rz),
        (Suffix::Rm, Rounding::Rm),
        (Suffix::Rp, Rounding::Rp),
        (Suffix::Rna, Rounding::Rna),
        (Suffix::Rni, Rounding::Rni),
        (Suffix::Rzi, Rounding::Rzi),
        (Suffix::Rmi, Rounding::Rmi),
        (Suffix::Rpi, Rounding::Rpi),
    ];
    Modifiers {
        rounding: mnemonic.any(&rounding).unwrap_or_default(),
        ftz: mnemonic.has(Suffix::Ftz),
        sat: mnemonic.has(Suffix::Sat) || mnemonic.has(Suffix::Satfinite),
        approx: mnemonic.has(Suffix::Approx) || mnemonic.has(Suffix::Full),
        nan: mnemonic.has(Suffix::NanWins),
        relu: mnemonic.has(Suffix::Relu),
    }
}

impl<'m, 'a> Body<'m, 'a> {
    /// Lowers an instruction.
    pub(super) fn instruction(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        match m.opcode {
            Opcode::Add => self.sum(i, false),
            Opcode::Sub => self.sum(i, true),
            Opcode::Addc => self.carried(i, false),
            Opcode::Subc => self.carried(i, true),
            Opcode::Mul => self.multiply(i),
            Opcode::Mad => self.multiply_add(i, false),
            Opcode::Madc => self.multiply_add(i, true),
            Opcode::Fma => self.fma(i),
            Opcode::Mul24 => self.two(i, if m.has(Suffix::Hi) { Binary::Mul24Hi } else { Binary::Mul24 }),
            Opcode::Mad24 => self.three(i, if m.has(Suffix::Hi) { Ternary::Mad24Hi } else { Ternary::Mad24 }),
            Opcode::Sad => self.three(i, Ternary::Sad),
            Opcode::Div => self.two(i, Binary::Div),
            Opcode::Rem => self.two(i, Binary::Rem),
            Opcode::Min => self.extreme(i, false),
            Opcode::Max => self.extreme(i, true),
            Opcode::Abs => self.one(i, Unary::Abs),
            Opcode::Neg => self.one(i, Unary::Neg),
            Opcode::Not => self.one(i, Unary::Not),
            Opcode::Cnot => self.one(i, Unary::Cnot),
            Opcode::Brev => self.one(i, Unary::Brev),
            Opcode::Popc => self.count_bits(i, Unary::Popc),
            Opcode::Clz => self.count_bits(i, Unary::Clz),
            Opcode::Bfind if m.has(Suffix::ShiftAmount) => self.count_bits(i, Unary::BfindShift),
            Opcode::Bfind => self.count_bits(i, Unary::Bfind),
            Opcode::Rcp => self.one(i, Unary::Rcp),
            Opcode::Sqrt => self.one(i, Unary::Sqrt),
            Opcode::Rsqrt => self.one(i, Unary::Rsqrt),
            Opcode::Sin => self.one(i, Unary::Sin),
            Opcode::Cos => self.one(i, Unary::Cos),
            Opcode::Lg2 => self.one(i, Unary::Lg2),
            Opcode::Ex2 => self.one(i, Unary::Ex2),
            Opcode::Tanh => self.one(i, Unary::Tanh),
            Opcode::Copysign => self.two(i, Binary::CopySign),
            Opcode::And => self.two(i, Binary::And),
            Opcode::Or => self.two(i, Binary::Or),
            Opcode::Xor => self.two(i, Binary::Xor),
            Opcode::Shl => self.shift(i, Binary::Shl),
            Opcode::Shr => self.shift(i, Binary::Shr),
            Opcode::Shf => self.funnel(i),
            Opcode::Bfe => self.bit_field_extract(i),
            Opcode::Bfi => self.bit_field_insert(i),
            Opcode::Bmsk => self.bit_mask(i),
            Opcode::Szext => self.sign_extend(i),
            Opcode::Fns => self.nth_bit(i),
            Opcode::Prmt => self.permute(i),
            Opcode::Lop3 => self.lop3(i),
            Opcode::Dp4a | Opcode::Dp2a => self.dot(i),
            Opcode::Testp => self.test(i),
            Opcode::Set => self.set(i),
            Opcode::Setp => self.set_predicate(i),
            Opcode::Selp => self.select(i),
            Opcode::Slct => self.select_by_sign(i),
            Opcode::Mov => self.mov(i),
            Opcode::Cvt => self.convert(i),
            Opcode::Cvta => self.convert_address(i),
            Opcode::Isspacep => self.is_space(i),
            Opcode::Ld | Opcode::Ldu => self.load(i),
            Opcode::St => self.store(i),
            Opcode::Atom | Opcode::Red => self.atomic(i),
            Opcode::Bar | Opcode::Barrier => self.barrier(i),
            Opcode::Membar | Opcode::Fence => {
                self.writer.emit(Op::Fence);
                Ok(())
            }
            Opcode::Shfl => self.shuffle(i),
            Opcode::Vote => self.vote(i),
            Opcode::Match => self.matching(i),
            Opcode::Redux => self.redux(i),
            Opcode::Activemask => self.active_mask(i),
            Opcode::Elect => self.elect(i),
            Opcode::Bra => self.branch(i),
            Opcode::Brx => self.indexed_branch(i),
            Opcode::Call => self.call(i),
            Opcode::Ret => self.ret(),
            Opcode::Exit => self.exit(),
            Opcode::Trap | Opcode::Brkpt => {
                self.writer.emit(Op::Trap);
                Ok(())
            }
            Opcode::Cp => self.copy_async(i),
            Opcode::Mbarrier => self.mbarrier(i),
            Opcode::Clusterlaunchcontrol => self.cancel_launch(i),
            Opcode::Wmma => self.wmma(i),
            Opcode::Mapa | Opcode::Getctarank => self.cluster(i),
            Opcode::Ldmatrix => self.load_matrix(i),
            Opcode::Stmatrix => self.store_matrix(i),
            Opcode::Movmatrix => self.transpose_matrix(i),
            Opcode::Mma => self.multiply_matrix(i),
            // Hints: they never change a result.
            Opcode::Prefetch
            | Opcode::Prefetchu
            | Opcode::ApplyPriority
            | Opcode::Discard
            | Opcode::Nanosleep
            | Opcode::Pmevent
            | Opcode::Griddepcontrol
            | Opcode::Setmaxnreg => {
                self.writer.emit(Op::Nothing);
                Ok(())
            }
            // A policy says how to cache; nothing here looks at it.
            Opcode::CreatePolicy => {
                let Some(first) = i.operands.first() else { return self.count(i, 1) };
                let d = self.destination(first, crate::ir::Type::B64, super::operand::Fit::Exact)?;
                self.writer.mov(crate::ir::Type::B64, d, crate::ir::Operand::Imm(0));
                Ok(())
            }
            Opcode::Vadd | Opcode::Vsub | Opcode::Vabsdiff | Opcode::Vmin | Opcode::Vmax => self.video(i),
            Opcode::Vadd2
            | Opcode::Vsub2
            | Opcode::Vavrg2
            | Opcode::Vabsdiff2
            | Opcode::Vmin2
            | Opcode::Vmax2
            | Opcode::Vset2
            | Opcode::Vadd4
            | Opcode::Vsub4
            | Opcode::Vavrg4
            | Opcode::Vabsdiff4
            | Opcode::Vmin4
            | Opcode::Vmax4
            | Opcode::Vset4 => self.video(i),
            _ => self.not_run(i),
        }
    }

    /// The instruction is known and not run here.
    pub(super) fn not_run<T>(&self, i: &Instruction<'a>) -> Lowered<T> {
        let text = self.mnemonic(i)?.text;
        self.unsupported(format!("`{text}` is not supported by the software GPU"))
    }
}
