//! `mbarrier`: arrivals counted in a 64-bit word of shared memory, by plain atomics.
//!
//! The word's layout is ours, as the manual keeps it opaque: from low to high 20 bits of expected arrivals, 20 bits of
//! arrivals that are still to come, and 24 bits that count phases. A state is the word before an arrival.

use super::Lowered;
use super::body::Body;
use super::memory::space;
use super::operand::Fit;
use crate::ast::{Constant, Instruction, Operand as AstOperand, OperandKind, Suffix};
use crate::ir::{Address, AtomicOp, Binary, Compare, Join, Op, Operand, Reg, Semantics, Space, Type, Width};

const COUNT: u64 = 0xf_ffff;
const PENDING: u64 = 20;
const PHASE: u64 = 40;

impl<'m, 'a> Body<'m, 'a> {
    fn wide(&mut self, op: Binary, ty: Type, a: Operand, b: Operand) -> Operand {
        let d = self.writer.register(Width::B64);
        self.binary(op, ty, d, a, b);
        Operand::Reg(d)
    }

    pub(super) fn mbarrier(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let mut words = m.text.split('.').skip(1);
        let action = words.next().unwrap_or("");
        if words.clone().any(|word| matches!(word, "expect_tx" | "complete_tx" | "noComplete")) {
            return self.not_run(i);
        }
        let space = match space(m) {
            Space::Generic => Space::Generic,
            _ => Space::Shared,
        };
        match (action, i.operands.as_slice()) {
            ("init", [to, count]) => {
                let address = self.address(to, space)?;
                let count = self.arrivals(Some(count))?;
                let pending = self.wide(Binary::Shl, Type::B64, count, Operand::Imm(PENDING));
                let word = self.wide(Binary::Or, Type::B64, count, pending);
                let semantics = Semantics::Relaxed;
                self.writer.emit(Op::Store { ty: Type::B64, address, a: vec![word], semantics });
                Ok(())
            }
            ("inval", [_]) => {
                self.writer.emit(Op::Nothing);
                Ok(())
            }
            ("arrive" | "arrive_drop", [state, to, rest @ ..]) if rest.len() <= 1 => {
                let state = self.sink(state, Type::B64, Fit::Exact)?;
                let address = self.address(to, space)?;
                let count = self.arrivals(rest.first())?;
                self.arrive(state, address, count, action == "arrive_drop");
                Ok(())
            }
            ("test_wait" | "try_wait", [p, from, state, rest @ ..]) if rest.len() <= 1 => {
                let p = self.destination(p, Type::Pred, Fit::Exact)?;
                let address = self.address(from, space)?;
                let parity = words.any(|word| word == "parity");
                let state = self.source(state, if parity { Type::B32 } else { Type::B64 })?;
                self.wait(p, address, state, parity);
                Ok(())
            }
            ("pending_count", [d, state]) => {
                let d = self.destination(d, Type::B32, Fit::Exact)?;
                let state = self.source(state, Type::B64)?;
                let pending = self.wide(Binary::Shr, Type::U64, state, Operand::Imm(PENDING));
                let pending = self.wide(Binary::And, Type::B64, pending, Operand::Imm(COUNT));
                let modifiers = Default::default();
                self.writer.emit(Op::Cvt { to: Type::U32, from: Type::U64, modifiers, d, a: pending });
                Ok(())
            }
            ("init" | "inval" | "arrive" | "arrive_drop" | "test_wait" | "try_wait" | "pending_count", _) => {
                self.count(i, if action.ends_with("wait") { 3 } else { 2 })
            }
            _ => self.not_run(i),
        }
    }

    /// A number of arrivals as 64 bits; one where none is given.
    fn arrivals(&mut self, operand: Option<&'m AstOperand<'a>>) -> Lowered<Operand> {
        let Some(operand) = operand else { return Ok(Operand::Imm(1)) };
        if let OperandKind::Constant(Constant::Integer(count)) = operand.kind {
            return Ok(Operand::Imm(count & COUNT));
        }
        let a = self.source(operand, Type::U32)?;
        let d = self.writer.register(Width::B64);
        self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a });
        Ok(Operand::Reg(d))
    }

    fn arrive(&mut self, state: Option<Reg>, address: Address, count: Operand, drop: bool) {
        let mut step = self.wide(Binary::Shl, Type::B64, count, Operand::Imm(PENDING));
        if drop {
            step = self.wide(Binary::Add, Type::U64, step, count);
        }
        let step = self.wide(Binary::Sub, Type::U64, Operand::Imm(0), step);
        let old = self.writer.register(Width::B64);
        let (ty, semantics) = (Type::U64, Semantics::AcqRel);
        let op = AtomicOp::Add;
        self.writer.emit(Op::Atomic { op, ty, d: Some(old), address, a: step, b: None, semantics });
        // Who takes the last arrival away opens the next phase.
        let old = Operand::Reg(old);
        let pending = self.wide(Binary::Shr, Type::U64, old, Operand::Imm(PENDING));
        let pending = self.wide(Binary::And, Type::B64, pending, Operand::Imm(COUNT));
        let mut expected = self.wide(Binary::And, Type::B64, old, Operand::Imm(COUNT));
        if drop {
            expected = self.wide(Binary::Sub, Type::U64, expected, count);
        }
        let next = self.wide(Binary::Shl, Type::B64, expected, Operand::Imm(PENDING));
        let next = self.wide(Binary::Add, Type::U64, next, Operand::Imm(1 << PHASE));
        let last = self.writer.register(Width::Pred);
        let guard = self.writer.guard;
        self.writer.emit(Op::SetP {
            compare: Compare::Eq,
            ty: Type::U64,
            ftz: false,
            p: Some(last),
            q: None,
            a: pending,
            b: count,
            join: guard.map(|guard| (Join::And, guard)),
        });
        if guard.is_some() {
            // Lanes that the guard keeps out have not written the predicate.
            let own = self.writer.register(Width::Pred);
            self.writer.guard = None;
            self.writer.mov(Type::Pred, own, Operand::Imm(0));
            self.writer.guard = guard;
            self.writer.mov(Type::Pred, own, Operand::Reg(last));
            self.writer.guard = Some(crate::ir::Predicate { register: own, negated: false });
        } else {
            self.writer.guard = Some(crate::ir::Predicate { register: last, negated: false });
        }
        self.writer.emit(Op::Atomic { op, ty, d: None, address, a: next, b: None, semantics });
        self.writer.guard = guard;
        if let Some(state) = state {
            self.writer.mov(Type::B64, state, old);
        }
    }

    fn wait(&mut self, p: Reg, address: Address, state: Operand, parity: bool) {
        let word = self.writer.register(Width::B64);
        self.writer.emit(Op::Load { ty: Type::U64, d: vec![Some(word)], address, semantics: Semantics::Acquire });
        let mut now = self.wide(Binary::Shr, Type::U64, Operand::Reg(word), Operand::Imm(PHASE));
        let state = if parity {
            now = self.wide(Binary::And, Type::B64, now, Operand::Imm(1));
            let d = self.writer.register(Width::B64);
            self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a: state });
            self.wide(Binary::And, Type::B64, Operand::Reg(d), Operand::Imm(1))
        } else {
            self.wide(Binary::Shr, Type::U64, state, Operand::Imm(PHASE))
        };
        self.writer.emit(Op::SetP {
            compare: Compare::Ne,
            ty: Type::U64,
            ftz: false,
            p: Some(p),
            q: None,
            a: now,
            b: state,
            join: None,
        });
    }

    /// `cp.async.mbarrier.arrive`: the copies are done, so that it is an arrival; without `.noinc` it is made up for.
    pub(super) fn arrive_after_copies(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let [to] = self.take(i)?;
        let address = self.address(to, if space(m) == Space::Generic { Space::Generic } else { Space::Shared })?;
        if m.has(Suffix::NoIncrement) {
            self.arrive(None, address, Operand::Imm(1), false);
        } else {
            self.writer.emit(Op::Nothing);
        }
        Ok(())
    }
}
