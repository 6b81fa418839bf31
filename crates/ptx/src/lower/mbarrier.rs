//! `mbarrier`: arrivals and bytes counted in a 64-bit word of shared memory, by plain atomics.
//!
//! The word's layout is ours, as the manual keeps it opaque. From low to high: 14 bits of expected arrivals, 14 bits of
//! arrivals that are still to come, 22 bits of bytes that are still to come (with a bias, as they may come before they
//! are announced), and 14 bits that count phases. A state is the word before an arrival.

use super::Lowered;
use super::body::Body;
use super::memory::space;
use super::operand::Fit;
use crate::ast::{Constant, Instruction, Operand as AstOperand, OperandKind, Suffix};
use crate::ir::{Address, AtomicOp, Binary, Compare, Op, Operand, Predicate, Reg, Semantics, Space, Type, Width};

const COUNT: u64 = 0x3fff;
const PENDING: u64 = 14;
const BYTES: u64 = 28;
/// No bytes are to come.
const NO_BYTES: u64 = 1 << 21;
const PHASE: u64 = 50;
/// Pending arrivals and bytes, and what they are when the phase is over.
const OPEN: u64 = (1 << (PHASE - PENDING)) - 1;
const DONE: u64 = NO_BYTES << (BYTES - PENDING);

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
        let expect = words.clone().any(|word| word == "expect_tx");
        let space = match space(m) {
            Space::Generic => Space::Generic,
            _ => Space::Shared,
        };
        match (action, i.operands.as_slice()) {
            ("init", [to, count]) => {
                let address = self.address(to, space)?;
                let count = self.amount(Some(count))?;
                let pending = self.wide(Binary::Shl, Type::B64, count, Operand::Imm(PENDING));
                let word = self.wide(Binary::Or, Type::B64, count, pending);
                let word = self.wide(Binary::Or, Type::B64, word, Operand::Imm(NO_BYTES << BYTES));
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
                let bytes = if expect { Some(self.amount(rest.first())?) } else { None };
                let count = if expect { Operand::Imm(1) } else { self.amount(rest.first())? };
                self.arrive(state, address, count, action == "arrive_drop", bytes);
                Ok(())
            }
            ("expect_tx" | "complete_tx", [to, bytes]) => {
                let address = self.address(to, space)?;
                let bytes = self.amount(Some(bytes))?;
                self.transfer(address, bytes, action == "expect_tx");
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
            (
                "init" | "inval" | "arrive" | "arrive_drop" | "test_wait" | "try_wait" | "pending_count" | "expect_tx"
                | "complete_tx",
                _,
            ) => self.count(i, if action.ends_with("wait") { 3 } else { 2 }),
            _ => self.not_run(i),
        }
    }

    /// A number of arrivals or bytes as 64 bits; one where none is given.
    fn amount(&mut self, operand: Option<&'m AstOperand<'a>>) -> Lowered<Operand> {
        let Some(operand) = operand else { return Ok(Operand::Imm(1)) };
        if let OperandKind::Constant(Constant::Integer(count)) = operand.kind {
            return Ok(Operand::Imm(count));
        }
        let a = self.source(operand, Type::U32)?;
        let d = self.writer.register(Width::B64);
        self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a });
        Ok(Operand::Reg(d))
    }

    /// An arrival, which may announce bytes at once.
    fn arrive(&mut self, state: Option<Reg>, address: Address, count: Operand, drop: bool, bytes: Option<Operand>) {
        let mut step = self.wide(Binary::Shl, Type::B64, count, Operand::Imm(PENDING));
        if drop {
            step = self.wide(Binary::Add, Type::U64, step, count);
        }
        let announced = match bytes {
            Some(bytes) => self.wide(Binary::Shl, Type::B64, bytes, Operand::Imm(BYTES)),
            None => Operand::Imm(0),
        };
        let step = self.wide(Binary::Sub, Type::U64, announced, step);
        let old = self.advance(address, step);
        if let Some(state) = state {
            self.writer.mov(Type::B64, state, old);
        }
    }

    /// Bytes are announced, or have come.
    pub(super) fn transfer(&mut self, address: Address, bytes: Operand, announced: bool) {
        let mut step = self.wide(Binary::Shl, Type::B64, bytes, Operand::Imm(BYTES));
        if !announced {
            step = self.wide(Binary::Sub, Type::U64, Operand::Imm(0), step);
        }
        self.advance(address, step);
    }

    /// Adds to the word, and opens the next phase when nothing is to come any more. Gives the word before.
    fn advance(&mut self, address: Address, step: Operand) -> Operand {
        let old = self.writer.register(Width::B64);
        let (ty, semantics) = (Type::U64, Semantics::AcqRel);
        let op = AtomicOp::Add;
        self.writer.emit(Op::Atomic { op, ty, d: Some(old), address, a: step, b: None, semantics });
        let old = Operand::Reg(old);
        let new = self.wide(Binary::Add, Type::U64, old, step);
        let open = self.wide(Binary::Shr, Type::U64, new, Operand::Imm(PENDING));
        let open = self.wide(Binary::And, Type::B64, open, Operand::Imm(OPEN));
        let next = self.wide(Binary::And, Type::B64, new, Operand::Imm(COUNT));
        let next = self.wide(Binary::Shl, Type::B64, next, Operand::Imm(PENDING));
        let next = self.wide(Binary::Add, Type::U64, next, Operand::Imm(1 << PHASE));
        // Lanes that the guard keeps out must find the predicate false.
        let last = self.writer.register(Width::Pred);
        let guard = self.writer.guard.take();
        if guard.is_some() {
            self.writer.mov(Type::Pred, last, Operand::Imm(0));
            self.writer.guard = guard;
        }
        self.writer.emit(Op::SetP {
            compare: Compare::Eq,
            ty: Type::U64,
            ftz: false,
            p: Some(last),
            q: None,
            a: open,
            b: Operand::Imm(DONE),
            join: None,
        });
        self.writer.guard = Some(Predicate { register: last, negated: false });
        self.writer.emit(Op::Atomic { op, ty, d: None, address, a: next, b: None, semantics });
        self.writer.guard = guard;
        old
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
            self.arrive(None, address, Operand::Imm(1), false, None);
        } else {
            self.writer.emit(Op::Nothing);
        }
        Ok(())
    }
}
