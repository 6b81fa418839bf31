//! `cp.async`: done at once, so that waiting for it is nothing.

use super::Lowered;
use super::body::Body;
use crate::ast::{Instruction, OperandKind, Suffix};
use crate::ir::{Op, Operand, Space, Type, Width};

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn copy_async(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Async) && m.has(Suffix::Bulk) {
            return self.copy_bulk(i);
        }
        if m.has(Suffix::Async) && m.has(Suffix::Mbarrier) && !m.has(Suffix::Other) {
            return self.arrive_after_copies(i);
        }
        if !m.has(Suffix::Async) || m.has(Suffix::Mbarrier) || m.has(Suffix::Other) {
            return self.not_run(i);
        }
        if m.has(Suffix::CommitGroup) || m.has(Suffix::WaitGroup) || m.has(Suffix::WaitAll) {
            self.writer.emit(Op::Nothing);
            return Ok(());
        }
        let (to, from, size, rest) = match i.operands.as_slice() {
            [to, from, size, rest @ ..] if rest.len() <= 2 => (to, from, size, rest),
            _ => return self.count(i, 3),
        };
        let to = self.address(to, Space::Shared)?;
        let from = self.address(from, Space::Global)?;
        let OperandKind::Constant(crate::ast::Constant::Integer(bytes @ (4 | 8 | 16))) = size.kind else {
            return self.fail(size, "expected a size of 4, 8 or 16 bytes");
        };
        // A cache policy comes last; what comes before it says how much of the source there is.
        let hinted = m.has(Suffix::CachePolicy) && m.text.contains("cache_hint");
        let source = rest.get(..rest.len().saturating_sub(usize::from(hinted))).and_then(|rest| rest.first());
        let source_bytes = match source {
            None => None,
            Some(operand) if self.is_predicate(operand) => {
                let p = self.predicate(operand)?;
                let d = self.writer.register(Width::B32);
                let (a, b) = (Operand::Imm(0), Operand::Imm(bytes));
                self.writer.emit(Op::SelP { ty: Type::B32, d, a, b, p });
                Some(Operand::Reg(d))
            }
            Some(operand) => Some(self.source(operand, Type::U32)?),
        };
        self.writer.emit(Op::CopyAsync { to, from, bytes: bytes as u32, source_bytes });
        Ok(())
    }

    fn is_predicate(&self, operand: &crate::ast::Operand<'a>) -> bool {
        match operand.kind {
            OperandKind::Not(_) => true,
            OperandKind::Name(_) => self.register(operand).is_ok_and(|(_, ty)| ty == Type::Pred),
            _ => false,
        }
    }
}
