//! Branches and the ends of functions.

use super::Lowered;
use super::body::Body;
use crate::ast::{Instruction, OperandKind, Suffix};
use crate::ir::{BlockId, Terminator, Type};

impl<'m, 'a> Body<'m, 'a> {
    fn target(&self, name: &'a str) -> Lowered<BlockId> {
        match self.frames.last().and_then(|frame| frame.label(name)) {
            Some(block) => Ok(block),
            None => self.invalid(format!("the label `{name}` is not in this function")),
        }
    }

    pub(super) fn branch(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let uniform = self.mnemonic(i)?.has(Suffix::Uni);
        let [target] = self.take(i)?;
        let OperandKind::Name(name) = target.kind else { return self.fail(target, "expected a label") };
        let block = self.target(name)?;
        self.writer.leave(Terminator::Jump(block), uniform);
        Ok(())
    }

    /// `brx.idx`.
    pub(super) fn indexed_branch(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let uniform = self.mnemonic(i)?.has(Suffix::Uni);
        let [index, table] = self.take(i)?;
        let index = self.source(index, Type::U32)?;
        let names: Vec<&'a str> = match &table.kind {
            OperandKind::Name(name) => match self.frames.last().and_then(|frame| frame.tables.get(name)) {
                Some(names) => names.iter().map(|name| name.text).collect(),
                None => {
                    return self.fail(table, format!("`{name}` is not a list of targets: expected `.branchtargets`"));
                }
            },
            _ => return self.fail(table, "expected the name of a list of targets"),
        };
        let targets: Lowered<Vec<BlockId>> = names.into_iter().map(|name| self.target(name)).collect();
        self.writer.leave(Terminator::Switch { index, targets: targets? }, uniform);
        Ok(())
    }

    pub(super) fn ret(&mut self) -> Lowered<()> {
        let end = match self.frames.last().and_then(|frame| frame.return_to) {
            Some(block) => Terminator::Jump(block),
            None => Terminator::Exit,
        };
        self.writer.leave(end, false);
        Ok(())
    }

    pub(super) fn exit(&mut self) -> Lowered<()> {
        self.writer.leave(Terminator::Exit, false);
        Ok(())
    }
}
