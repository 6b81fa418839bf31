//! Barriers, and what the lanes of a warp tell each other.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use crate::ast::{Instruction, Opcode, Operand as AstOperand, Suffix};
use crate::ir::{AtomicOp, BarrierKind, Op, Operand, Predicate, ShuffleMode, Type, VoteMode};

/// All lanes.
const EVERYONE: Operand = Operand::Imm(0xffff_ffff);

impl<'m, 'a> Body<'m, 'a> {
    fn mask(&mut self, operand: Option<&'m AstOperand<'a>>) -> Lowered<Operand> {
        operand.map_or(Ok(EVERYONE), |operand| self.source(operand, Type::B32))
    }

    pub(super) fn barrier(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Warp) {
            let [mask] = self.take(i)?;
            let mask = self.source(mask, Type::B32)?;
            self.writer.emit(Op::WarpBarrier { mask });
            return Ok(());
        }
        if m.has(Suffix::Cluster) {
            // A cluster of one block: all of it has to come before anyone goes on from the wait.
            self.writer.emit(if m.has(Suffix::Wait) {
                Op::Barrier { kind: BarrierKind::Sync, id: Operand::Imm(0), threads: None }
            } else {
                Op::Fence
            });
            return Ok(());
        }
        let operands = i.operands.as_slice();
        if m.has(Suffix::Red) {
            let (d, id, threads, p) = match operands {
                [d, id, p] => (d, id, None, p),
                [d, id, threads, p] => (d, id, Some(threads), p),
                _ => return self.count(i, 3),
            };
            let make: fn(crate::ir::Reg, Predicate) -> BarrierKind = match () {
                () if m.has(Suffix::Popc) => BarrierKind::RedPopc,
                () if m.has(Suffix::And) => BarrierKind::RedAnd,
                () if m.has(Suffix::Or) => BarrierKind::RedOr,
                () => return self.invalid(format!("`{}` lacks `.popc`, `.and` or `.or`", m.text)),
            };
            let d = self.destination(d, if m.has(Suffix::Popc) { Type::U32 } else { Type::Pred }, Fit::Exact)?;
            let p = self.predicate(p)?;
            return self.barrier_with(make(d, p), id, threads);
        }
        let kind = if m.has(Suffix::Arrive) { BarrierKind::Arrive } else { BarrierKind::Sync };
        match operands {
            [id] => self.barrier_with(kind, id, None),
            [id, threads] => self.barrier_with(kind, id, Some(threads)),
            _ => self.count(i, 1),
        }
    }

    fn barrier_with(
        &mut self,
        kind: BarrierKind,
        id: &'m AstOperand<'a>,
        threads: Option<&'m AstOperand<'a>>,
    ) -> Lowered<()> {
        let id = self.source(id, Type::U32)?;
        let threads = threads.map(|threads| self.source(threads, Type::U32)).transpose()?;
        self.writer.emit(Op::Barrier { kind, id, threads });
        Ok(())
    }

    pub(super) fn shuffle(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let modes = [
            (Suffix::Up, ShuffleMode::Up),
            (Suffix::Down, ShuffleMode::Down),
            (Suffix::Bfly, ShuffleMode::Bfly),
            (Suffix::Idx, ShuffleMode::Idx),
        ];
        let Some(mode) = m.any(&modes) else {
            return self.invalid(format!("`{}` lacks a mode such as `.down`", m.text));
        };
        let (first, a, b, c, mask) = match (i.operands.as_slice(), m.has(Suffix::Sync)) {
            ([first, a, b, c, mask], true) => (first, a, b, c, Some(mask)),
            ([first, a, b, c], false) => (first, a, b, c, None),
            (_, sync) => return self.count(i, if sync { 5 } else { 4 }),
        };
        let (first, p) = self.pair(first);
        let d = self.sink(first, Type::B32, Fit::Exact)?;
        let d = d.unwrap_or_else(|| self.writer.temporary(Type::B32));
        let p = p.map(|p| self.sink(p, Type::Pred, Fit::Exact)).transpose()?.flatten();
        let a = self.source(a, Type::B32)?;
        let (b, c) = (self.source(b, Type::B32)?, self.source(c, Type::B32)?);
        let mask = self.mask(mask)?;
        self.writer.emit(Op::Shuffle { mode, d, p, a, b, c, mask });
        Ok(())
    }

    pub(super) fn vote(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let modes = [
            (Suffix::All, VoteMode::All),
            (Suffix::Any, VoteMode::Any),
            (Suffix::Uni, VoteMode::Uni),
            (Suffix::Ballot, VoteMode::Ballot),
        ];
        let Some(mode) = m.any(&modes) else {
            return self.invalid(format!("`{}` lacks a mode such as `.all`", m.text));
        };
        let (d, a, mask) = match (i.operands.as_slice(), m.has(Suffix::Sync)) {
            ([d, a, mask], true) => (d, a, Some(mask)),
            ([d, a], false) => (d, a, None),
            (_, sync) => return self.count(i, if sync { 3 } else { 2 }),
        };
        let ty = if mode == VoteMode::Ballot { Type::B32 } else { Type::Pred };
        let d = self.destination(d, ty, Fit::Exact)?;
        let a = self.predicate(a)?;
        let mask = self.mask(mask)?;
        self.writer.emit(Op::Vote { mode, d, a, mask });
        Ok(())
    }

    pub(super) fn matching(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        let [first, a, mask] = self.take(i)?;
        let (first, p) = self.pair(first);
        let d = self.sink(first, Type::B32, Fit::Exact)?;
        let d = d.unwrap_or_else(|| self.writer.temporary(Type::B32));
        let p = p.map(|p| self.sink(p, Type::Pred, Fit::Exact)).transpose()?.flatten();
        let (a, mask) = (self.source(a, ty)?, self.source(mask, Type::B32)?);
        self.writer.emit(Op::Match { all: m.has(Suffix::All), ty, d, p, a, mask });
        Ok(())
    }

    pub(super) fn redux(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ops = [
            (Suffix::And, AtomicOp::And),
            (Suffix::Or, AtomicOp::Or),
            (Suffix::Xor, AtomicOp::Xor),
            (Suffix::Add, AtomicOp::Add),
            (Suffix::Min, AtomicOp::Min),
            (Suffix::Max, AtomicOp::Max),
        ];
        let Some(op) = m.any(&ops) else {
            return self.invalid(format!("`{}` lacks an operation such as `.add`", m.text));
        };
        if m.has(Suffix::Abs) || m.has(Suffix::NanWins) {
            return self.not_run(i);
        }
        let ty = self.ty(m, 0)?;
        let [d, a, mask] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let (a, mask) = (self.source(a, ty)?, self.source(mask, Type::B32)?);
        self.writer.emit(Op::Redux { op, ty, d, a, mask });
        Ok(())
    }

    pub(super) fn active_mask(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let [d] = self.take(i)?;
        let d = self.destination(d, Type::B32, Fit::Exact)?;
        self.writer.emit(Op::ActiveMask { d });
        Ok(())
    }

    pub(super) fn elect(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let [first, mask] = self.take(i)?;
        let (first, Some(p)) = self.pair(first) else { return self.fail(first, "expected two results such as `d|p`") };
        let d = self.sink(first, Type::B32, Fit::Exact)?;
        let p = self.destination(p, Type::Pred, Fit::Exact)?;
        let mask = self.source(mask, Type::B32)?;
        self.writer.emit(Op::Elect { d, p, mask });
        Ok(())
    }

    /// `mapa` and `getctarank`, where a cluster is one block.
    pub(super) fn cluster(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        if m.opcode == Opcode::Getctarank {
            let [d, _] = self.take(i)?;
            let d = self.destination(d, Type::U32, Fit::Exact)?;
            self.writer.mov(Type::B32, d, Operand::Imm(0));
            return Ok(());
        }
        let [d, a, _] = self.take(i)?;
        let d = self.destination(d, ty, Fit::Exact)?;
        let a = self.source(a, ty)?;
        self.writer.mov(ty, d, a);
        Ok(())
    }
}
