//! `cp.async.bulk` between global and shared memory, done at once by a loop of the thread that asks for it; and
//! `clusterlaunchcontrol`, which never finds a block to take over.

use super::Lowered;
use super::body::Body;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Operand as AstOperand, Suffix};
use crate::ir::{Address, Binary, Compare, Op, Operand, Predicate, Reg, Semantics, Space, Terminator, Type, Width};

/// A copy: where from, where to, and the bytes whose bits in a mask are clear (16 bits, over and over).
#[derive(Clone, Copy)]
struct Copy {
    to: Address,
    from: Address,
    mask: Option<Operand>,
}

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn copy_bulk(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let has = |wanted: &str| m.text.split('.').any(|word| word == wanted);
        if has("commit_group") || has("wait_group") || (has("prefetch") && !has("tensor")) {
            self.writer.emit(Op::Nothing);
            return Ok(());
        }
        let (into_shared, from_global) = match m.suffixes.get(2..4) {
            Some([Suffix::SharedCluster | Suffix::SharedCta, Suffix::Global]) => (true, true),
            Some([Suffix::SharedCluster, Suffix::SharedCta]) => (true, false),
            Some([Suffix::Global, Suffix::SharedCta]) => (false, false),
            _ => return self.not_run(i),
        };
        if has("tensor") || into_shared != has("mbarrier::complete_tx::bytes") {
            return self.not_run(i);
        }
        let [to, from, size, rest @ ..] = i.operands.as_slice() else { return self.count(i, 4) };
        let (to_space, from_space) = if into_shared {
            (Space::Shared, if from_global { Space::Global } else { Space::Shared })
        } else {
            (Space::Global, Space::Shared)
        };
        let end = self.writer.block();
        self.enter_guard(end);
        let (to, from) = (self.address(to, to_space)?, self.address(from, from_space)?);
        let size = self.source(size, Type::U32)?;
        let (mut first, mut last, mut mask) = (Operand::Imm(0), size, None);
        let mut rest = rest.iter();
        if has("ignore_oob") {
            // Bytes at either end that lie outside of the source.
            let (Some(left), Some(right)) = (rest.next(), rest.next()) else { return self.count(i, 6) };
            first = self.source(left, Type::U32)?;
            let right = self.source(right, Type::U32)?;
            last = self.word_of(Binary::Sub, size, right);
        }
        let barrier = if into_shared { rest.next() } else { None };
        if has("cp_mask") {
            let Some(operand) = rest.next_back() else { return self.count(i, 4) };
            let bits = self.source(operand, Type::B16)?;
            let d = self.writer.register(Width::B32);
            self.writer.emit(Op::Cvt { to: Type::U32, from: Type::U16, modifiers: Default::default(), d, a: bits });
            mask = Some(Operand::Reg(d));
        }
        let copy = Copy { to: self.based(to), from: self.based(from), mask };
        let at = self.writer.register(Width::B32);
        self.writer.mov(Type::B32, at, first);
        if mask.is_none() && !has("ignore_oob") {
            self.copy_loop(copy, at, last, 16);
        }
        if has("ignore_oob") {
            let rounded = self.word_of(Binary::Add, first, Operand::Imm(15));
            let rounded = self.word_of(Binary::And, rounded, Operand::Imm(0xffff_fff0));
            let head = self.word_of(Binary::Min, rounded, last);
            self.copy_loop(copy, at, head, 1);
            let whole = self.word_of(Binary::And, last, Operand::Imm(0xffff_fff0));
            self.copy_loop(copy, at, whole, 16);
        }
        self.copy_loop(copy, at, last, 1);
        if let Some(barrier) = barrier {
            let address = self.address(barrier, Space::Shared)?;
            let bytes = self.writer.register(Width::B64);
            self.writer.emit(Op::Cvt {
                to: Type::U64,
                from: Type::U32,
                modifiers: Default::default(),
                d: bytes,
                a: size,
            });
            self.transfer(address, Operand::Reg(bytes), false);
        }
        self.writer.place(end);
        Ok(())
    }

    fn word_of(&mut self, op: Binary, a: Operand, b: Operand) -> Operand {
        let d = self.writer.register(Width::B32);
        self.binary(op, Type::U32, d, a, b);
        Operand::Reg(d)
    }

    /// The same address with a register as its base.
    fn based(&mut self, address: Address) -> Address {
        if matches!(address.base, Operand::Reg(_)) {
            return address;
        }
        let d = self.writer.register(Width::B64);
        self.writer.mov(Type::B64, d, address.base);
        Address { base: Operand::Reg(d), ..address }
    }

    /// `address` moved by a 32-bit offset.
    fn moved(&mut self, address: Address, by: Reg) -> Address {
        let Operand::Reg(base) = address.base else { return address };
        let width = self.writer.width(base);
        let mut offset = Operand::Reg(by);
        if width == Width::B64 {
            let d = self.writer.register(width);
            self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a: offset });
            offset = Operand::Reg(d);
        }
        let d = self.writer.register(width);
        self.binary(Binary::Add, types::unsigned(types::bits(width) / 8), d, address.base, offset);
        Address { base: Operand::Reg(d), ..address }
    }

    /// Copies `step` bytes at a time while `at` + `step` does not go beyond `end`.
    fn copy_loop(&mut self, copy: Copy, at: Reg, end: Operand, step: u64) {
        let (head, body, next) = (self.writer.block(), self.writer.block(), self.writer.block());
        self.writer.place(head);
        let ahead = self.writer.register(Width::B32);
        self.binary(Binary::Add, Type::U32, ahead, Operand::Reg(at), Operand::Imm(step));
        let more = self.compare(Compare::Le, Operand::Reg(ahead), end);
        self.writer.end(Terminator::Branch { p: more, then: body, otherwise: next, uniform: false });
        self.writer.place(body);
        let (from, to) = (self.moved(copy.from, at), self.moved(copy.to, at));
        let (ty, count) = if step == 16 { (Type::B64, 2) } else { (Type::U8, 1) };
        let width = if step == 16 { Width::B64 } else { Width::B32 };
        let registers: Vec<Reg> = (0..count).map(|_| self.writer.register(width)).collect();
        if let Some(mask) = copy.mask {
            let bit = self.word_of(Binary::And, Operand::Reg(at), Operand::Imm(15));
            let bits = self.word_of(Binary::Shr, mask, bit);
            let bits = self.word_of(Binary::And, bits, Operand::Imm(1));
            self.writer.guard = Some(self.compare(Compare::Ne, bits, Operand::Imm(0)));
        }
        let semantics = Semantics::Weak;
        let d = registers.iter().map(|&register| Some(register)).collect();
        self.writer.emit(Op::Load { ty, d, address: from, semantics });
        let a = registers.into_iter().map(Operand::Reg).collect();
        self.writer.emit(Op::Store { ty, address: to, a, semantics });
        self.writer.guard = None;
        self.writer.mov(Type::B32, at, Operand::Reg(ahead));
        self.writer.end(Terminator::Jump(head));
        self.writer.place(next);
    }

    fn compare(&mut self, compare: Compare, a: Operand, b: Operand) -> Predicate {
        let register = self.writer.register(Width::Pred);
        let (p, ty) = (Some(register), Type::U32);
        self.writer.emit(Op::SetP { compare, ty, ftz: false, p, q: None, a, b, join: None });
        Predicate { register, negated: false }
    }

    /// `clusterlaunchcontrol`: every block of the grid is launched by itself, so that there is none to take over.
    pub(super) fn cancel_launch(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let has = |wanted: &str| m.text.split('.').any(|word| word == wanted);
        let zero = |body: &mut Self, d: &'m AstOperand<'a>, ty: Type| -> Lowered<()> {
            let d = body.destination(d, ty, Fit::Exact)?;
            body.writer.mov(ty, d, Operand::Imm(0));
            Ok(())
        };
        match i.operands.as_slice() {
            [answer, barrier] if has("try_cancel") => {
                let address = self.address(answer, Space::Shared)?;
                let a = vec![Operand::Imm(0), Operand::Imm(0)];
                self.writer.emit(Op::Store { ty: Type::B64, address, a, semantics: Semantics::Weak });
                let barrier = self.address(barrier, Space::Shared)?;
                self.transfer(barrier, Operand::Imm(16), false);
                Ok(())
            }
            [d, _] if has("is_canceled") => zero(self, d, Type::Pred),
            [d, _] if m.text.contains("get_first_ctaid::") => zero(self, d, Type::B32),
            [d, _] if has("get_first_ctaid") => {
                Self::elements(d).iter().try_for_each(|element| zero(self, element, Type::B32))
            }
            _ => self.not_run(i),
        }
    }
}
