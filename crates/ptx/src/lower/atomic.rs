//! `atom` and `red`.

use super::Lowered;
use super::body::Body;
use super::memory::{semantics, space};
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Opcode, Suffix};
use crate::ir::{Address, AtomicOp, Op, Semantics};

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn atomic(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Other) || m.has(Suffix::Async) || m.has(Suffix::Bulk) {
            return self.not_run(i);
        }
        let ops = [
            (Suffix::And, AtomicOp::And),
            (Suffix::Or, AtomicOp::Or),
            (Suffix::Xor, AtomicOp::Xor),
            (Suffix::Exch, AtomicOp::Exch),
            (Suffix::Add, AtomicOp::Add),
            (Suffix::Inc, AtomicOp::Inc),
            (Suffix::Dec, AtomicOp::Dec),
            (Suffix::Min, AtomicOp::Min),
            (Suffix::Max, AtomicOp::Max),
            (Suffix::Cas, AtomicOp::Cas),
        ];
        let Some(op) = m.any(&ops) else {
            return self.invalid(format!("`{}` lacks an operation such as `.add`", m.text));
        };
        let ty = self.ty(m, 0)?;
        let (first, rest) = match (m.opcode, i.operands.split_first()) {
            (Opcode::Atom, Some((first, rest))) => (Some(first), rest),
            _ => (None, i.operands.as_slice()),
        };
        let cas = op == AtomicOp::Cas;
        // What follows the values is a cache policy.
        let (to, a, b) = match rest {
            [to, a, b] | [to, a, b, _] if cas => (to, a, Some(b)),
            [to, a] | [to, a, _] if !cas => (to, a, None),
            _ => return self.count(i, usize::from(first.is_some()) + if cas { 3 } else { 2 }),
        };
        let address = self.address(to, space(m))?;
        let semantics = semantics(m, Semantics::Relaxed);
        let values = Self::elements(a);
        let results = first.map(Self::elements);
        if results.is_some_and(|results| results.len() != values.len()) {
            return self.fail(a, "expected as many values as results");
        }
        let b = b.map(|b| self.source(b, ty)).transpose()?;
        for (place, value) in values.iter().enumerate() {
            let d = match results.and_then(|results| results.get(place)) {
                Some(result) => self.sink(result, ty, Fit::Exact)?,
                None => None,
            };
            let a = self.source(value, ty)?;
            let offset = address.offset + place as i64 * i64::from(types::size(ty));
            self.writer.emit(Op::Atomic { op, ty, d, address: Address { offset, ..address }, a, b, semantics });
        }
        Ok(())
    }
}
