//! Blocks of a kernel while it is being built.

use super::types;
use crate::Position;
use crate::ir::{Block, BlockId, Instruction, Op, Operand, Predicate, Reg, Terminator, Type, Width};

/// A block that may not have its end yet.
#[derive(Debug, Default)]
struct Draft {
    instructions: Vec<Instruction>,
    end: Option<Terminator>,
}

/// Instructions, blocks and registers of a kernel, written front to back.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) registers: Vec<Width>,
    drafts: Vec<Draft>,
    /// Blocks in the order of the text.
    order: Vec<BlockId>,
    current: BlockId,
    /// Guard and place of the instruction being lowered.
    pub(super) guard: Option<Predicate>,
    pub(super) at: Position,
    /// Instructions written, over all blocks.
    pub(super) written: usize,
}

impl Writer {
    pub(super) fn new() -> Self {
        Writer {
            registers: Vec::new(),
            drafts: vec![Draft::default()],
            order: vec![BlockId(0)],
            current: BlockId(0),
            guard: None,
            at: Position::default(),
            written: 0,
        }
    }

    /// A new register.
    pub(super) fn register(&mut self, width: Width) -> Reg {
        self.registers.push(width);
        Reg(self.registers.len() as u32 - 1)
    }

    /// A new register for a type.
    pub(super) fn temporary(&mut self, ty: Type) -> Reg {
        self.register(types::width(ty))
    }

    pub(super) fn width(&self, register: Reg) -> Width {
        self.registers.get(register.0 as usize).copied().unwrap_or(Width::B32)
    }

    /// Appends an instruction under the guard.
    pub(super) fn emit(&mut self, op: Op) {
        let instruction = Instruction { guard: self.guard, op, at: self.at };
        self.written += 1;
        if let Some(draft) = self.drafts.get_mut(self.current.0 as usize)
            && draft.end.is_none()
        {
            draft.instructions.push(instruction);
        }
    }

    pub(super) fn mov(&mut self, ty: Type, d: Reg, a: Operand) {
        self.emit(Op::Mov { ty, d, a });
    }

    /// A block that is not in the text yet.
    pub(super) fn block(&mut self) -> BlockId {
        self.drafts.push(Draft::default());
        BlockId(self.drafts.len() as u32 - 1)
    }

    /// Goes on with a block: the one before runs into it.
    pub(super) fn place(&mut self, block: BlockId) {
        self.end(Terminator::Jump(block));
        self.order.push(block);
        self.current = block;
    }

    /// Ends the block, unless it has ended.
    pub(super) fn end(&mut self, terminator: Terminator) {
        if let Some(draft) = self.drafts.get_mut(self.current.0 as usize)
            && draft.end.is_none()
        {
            draft.end = Some(terminator);
        }
    }

    /// Ends the block with a jump under the guard: without it the text goes on in a new block.
    pub(super) fn leave(&mut self, terminator: Terminator, uniform: bool) {
        let next = self.block();
        match (self.guard.take(), terminator) {
            (None, terminator) => self.end(terminator),
            (Some(p), Terminator::Jump(then)) => self.end(Terminator::Branch { p, then, otherwise: next, uniform }),
            (Some(p), terminator) => {
                let taken = self.block();
                self.end(Terminator::Branch { p, then: taken, otherwise: next, uniform });
                self.place(taken);
                self.end(terminator);
            }
        }
        self.place(next);
    }

    /// How many instructions the current block has.
    pub(super) fn mark(&self) -> (BlockId, usize) {
        (self.current, self.drafts.get(self.current.0 as usize).map_or(0, |draft| draft.instructions.len()))
    }

    /// Instructions behind a mark, when the block is still the same.
    pub(super) fn since(&mut self, mark: (BlockId, usize)) -> Option<&mut Vec<Instruction>> {
        if mark.0 != self.current {
            return None;
        }
        self.drafts.get_mut(self.current.0 as usize).map(|draft| &mut draft.instructions)
    }

    /// How many blocks the text has so far.
    pub(super) fn placed(&self) -> usize {
        self.order.len()
    }

    /// A block by its place in the text.
    pub(super) fn at_place(&self, place: usize) -> BlockId {
        self.order.get(place).copied().unwrap_or(BlockId(0))
    }

    /// What a block has so far: its instructions and its end.
    pub(super) fn draft(&self, block: BlockId) -> (&[Instruction], Option<&Terminator>) {
        self.drafts.get(block.0 as usize).map_or((&[], None), |draft| (&draft.instructions, draft.end.as_ref()))
    }

    /// As [`Writer::draft`], to change it.
    pub(super) fn draft_mut(&mut self, block: BlockId) -> Option<(&mut Vec<Instruction>, &mut Option<Terminator>)> {
        self.drafts.get_mut(block.0 as usize).map(|draft| (&mut draft.instructions, &mut draft.end))
    }

    /// The finished blocks, in the order of the text, numbered by it.
    pub(super) fn finish(mut self) -> (Vec<Width>, Vec<Block>) {
        self.end(Terminator::Exit);
        let mut numbers = vec![BlockId(0); self.drafts.len()];
        for (number, block) in self.order.iter().enumerate() {
            if let Some(slot) = numbers.get_mut(block.0 as usize) {
                *slot = BlockId(number as u32);
            }
        }
        let renumber = |block: &mut BlockId| {
            if let Some(&number) = numbers.get(block.0 as usize) {
                *block = number;
            }
        };
        let mut blocks = Vec::with_capacity(self.order.len());
        for block in &self.order {
            let Some(draft) = self.drafts.get_mut(block.0 as usize) else { continue };
            let mut end = draft.end.take().unwrap_or(Terminator::Exit);
            super::simplify::targets(&mut end, renumber);
            blocks.push(Block { instructions: std::mem::take(&mut draft.instructions), end });
        }
        (self.registers, blocks)
    }
}
