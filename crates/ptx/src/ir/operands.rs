//! What instructions read and write: the one place that knows the operands of every [`Op`].

use crate::ir::{Address, BarrierKind, Instruction, Op, Operand, Predicate, Reg};

/// Calls `f` for every register that an operation reads, without the guard.
pub(crate) fn sources(op: &Op, f: &mut dyn FnMut(Reg)) {
    fn address(a: &Address, f: &mut dyn FnMut(Reg)) {
        operand(&a.base, f);
    }
    fn operand(o: &Operand, f: &mut dyn FnMut(Reg)) {
        if let Operand::Reg(r) = o {
            f(*r);
        }
    }
    match op {
        Op::Mov { a, .. }
        | Op::Unpack { a, .. }
        | Op::Unary { a, .. }
        | Op::Cvt { a, .. }
        | Op::TestP { a, .. }
        | Op::ToGeneric { a, .. }
        | Op::FromGeneric { a, .. }
        | Op::IsSpace { a, .. }
        | Op::MovMatrix { a, .. } => operand(a, f),
        Op::Pack { a, .. } | Op::Runtime { a, .. } => a.iter().for_each(|a| operand(a, f)),
        Op::Binary { a, b, .. } | Op::CvtPack { a, b, .. } => [a, b].into_iter().for_each(|a| operand(a, f)),
        Op::Ternary { a, b, c, .. } => [a, b, c].into_iter().for_each(|a| operand(a, f)),
        Op::Bfi { a, b, position, length, .. } => [a, b, position, length].into_iter().for_each(|a| operand(a, f)),
        Op::AddCarry { a, b, carry_in, .. } => {
            [a, b].into_iter().for_each(|a| operand(a, f));
            carry_in.iter().for_each(|r| f(*r));
        }
        Op::SetP { a, b, join, .. } | Op::Set { a, b, join, .. } => {
            [a, b].into_iter().for_each(|a| operand(a, f));
            join.iter().for_each(|(_, p)| f(p.register));
        }
        Op::SelP { a, b, p, .. } => {
            [a, b].into_iter().for_each(|a| operand(a, f));
            f(p.register);
        }
        Op::Load { address: a, .. } | Op::LdMatrix { address: a, .. } => address(a, f),
        Op::Store { address: m, a, .. } | Op::StMatrix { address: m, a, .. } => {
            address(m, f);
            a.iter().for_each(|a| operand(a, f));
        }
        Op::Atomic { address: m, a, b, .. } => {
            address(m, f);
            operand(a, f);
            b.iter().for_each(|b| operand(b, f));
        }
        Op::CopyAsync { to, from, source_bytes, .. } => {
            address(to, f);
            address(from, f);
            source_bytes.iter().for_each(|b| operand(b, f));
        }
        Op::Barrier { kind, id, threads } => {
            if let BarrierKind::RedPopc(_, p) | BarrierKind::RedAnd(_, p) | BarrierKind::RedOr(_, p) = kind {
                f(p.register);
            }
            operand(id, f);
            threads.iter().for_each(|t| operand(t, f));
        }
        Op::WarpBarrier { mask } => operand(mask, f),
        Op::Shuffle { a, b, c, mask, .. } => [a, b, c, mask].into_iter().for_each(|a| operand(a, f)),
        Op::Vote { a: Predicate { register, .. }, mask, .. } => {
            f(*register);
            operand(mask, f);
        }
        Op::Match { a, mask, .. } | Op::Redux { a, mask, .. } => [a, mask].into_iter().for_each(|a| operand(a, f)),
        Op::Elect { mask, .. } => operand(mask, f),
        Op::Mma { a, b, c, .. } => a.iter().chain(b).chain(c).for_each(|a| operand(a, f)),
        Op::Special { .. } | Op::Fence | Op::ActiveMask { .. } | Op::Trap | Op::StackOverflow | Op::Nothing => {}
    }
}

/// Calls `f` for every register that an operation writes.
pub(crate) fn results(op: &Op, f: &mut dyn FnMut(Reg)) {
    match op {
        Op::Mov { d, .. }
        | Op::Pack { d, .. }
        | Op::Unary { d, .. }
        | Op::Binary { d, .. }
        | Op::Ternary { d, .. }
        | Op::Bfi { d, .. }
        | Op::Set { d, .. }
        | Op::SelP { d, .. }
        | Op::Cvt { d, .. }
        | Op::CvtPack { d, .. }
        | Op::ToGeneric { d, .. }
        | Op::FromGeneric { d, .. }
        | Op::Special { d, .. }
        | Op::Vote { d, .. }
        | Op::Redux { d, .. }
        | Op::ActiveMask { d }
        | Op::MovMatrix { d, .. } => f(*d),
        Op::Unpack { d, .. } | Op::Load { d, .. } => d.iter().flatten().for_each(|d| f(*d)),
        Op::AddCarry { d, carry_out, .. } => {
            f(*d);
            carry_out.iter().for_each(|d| f(*d));
        }
        Op::SetP { p, q, .. } => p.iter().chain(q).for_each(|d| f(*d)),
        Op::TestP { p, .. } | Op::IsSpace { p, .. } => f(*p),
        Op::Atomic { d, .. } | Op::Runtime { d, .. } => d.iter().for_each(|d| f(*d)),
        Op::Barrier { kind, .. } => {
            if let BarrierKind::RedPopc(d, _) | BarrierKind::RedAnd(d, _) | BarrierKind::RedOr(d, _) = kind {
                f(*d);
            }
        }
        Op::Shuffle { d, p, .. } | Op::Match { d, p, .. } => {
            f(*d);
            p.iter().for_each(|d| f(*d));
        }
        Op::Elect { d, p, .. } => {
            d.iter().for_each(|d| f(*d));
            f(*p);
        }
        Op::LdMatrix { d, .. } | Op::Mma { d, .. } => d.iter().for_each(|d| f(*d)),
        Op::Store { .. }
        | Op::StMatrix { .. }
        | Op::CopyAsync { .. }
        | Op::WarpBarrier { .. }
        | Op::Fence
        | Op::Trap
        | Op::StackOverflow
        | Op::Nothing => {}
    }
}

/// Every register that an instruction reads, with its guard.
pub(crate) fn reads(instruction: &Instruction, f: &mut dyn FnMut(Reg)) {
    instruction.guard.iter().for_each(|p| f(p.register));
    sources(&instruction.op, f);
}
