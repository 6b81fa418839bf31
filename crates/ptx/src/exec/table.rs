//! Which lanes wait to run which block.
//!
//! Mostly a value of the compiler per block, so that what cannot be costs nothing. In a kernel with functions that call
//! themselves lanes may wait nearly everywhere all the time: there the masks lie in a table on the machine's stack, with
//! a bit for every block that has lanes, and one place of the code finds the first.

use super::code::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self as clif, Block, BlockArg, InstBuilder, StackSlot, StackSlotData, StackSlotKind, TrapCode, Value, types,
};

/// The table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    slot: StackSlot,
    blocks: usize,
    /// Where lanes go on that wait at the first block.
    pub(super) dispatcher: Block,
}

impl Table {
    pub(super) fn new(b: &mut cranelift_frontend::FunctionBuilder<'_>, blocks: usize) -> Table {
        let bytes = 8 * blocks.div_ceil(64) + 4 * blocks.next_multiple_of(4);
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes.next_multiple_of(16) as u32, 4);
        Table { slot: b.create_sized_stack_slot(slot), blocks, dispatcher: b.create_block() }
    }

    fn words(self) -> usize {
        self.blocks.div_ceil(64)
    }

    fn mask_offset(self, x: usize) -> i32 {
        (8 * self.words() + 4 * x) as i32
    }
}

impl Emitter<'_, '_> {
    /// Lanes that wait at a block.
    pub(super) fn waiting_lanes(&mut self, x: usize) -> Value {
        match self.table {
            Some(table) => self.b.ins().stack_load(types::I64, types::I32, table.slot, table.mask_offset(x)),
            None => self.b.use_var(self.waiting[x]),
        }
    }

    /// Makes exactly these lanes wait at a block.
    pub(super) fn set_waiting(&mut self, x: usize, lanes: Value) {
        let Some(table) = self.table else { return self.b.def_var(self.waiting[x], lanes) };
        self.b.ins().stack_store(types::I64, lanes, table.slot, table.mask_offset(x));
        let place = 8 * (x / 64) as i32;
        let word = self.b.ins().stack_load(types::I64, types::I64, table.slot, place);
        let others = self.b.ins().band_imm_s(word, !(1i64 << (x % 64)));
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, lanes, 0);
        let some = self.b.ins().uextend(types::I64, some);
        let some = self.b.ins().ishl_imm_s(some, (x % 64) as i64);
        let word = self.b.ins().bor(others, some);
        self.b.ins().stack_store(types::I64, word, table.slot, place);
    }

    /// No lane waits anywhere.
    pub(super) fn clear_waiting(&mut self) {
        match self.table {
            Some(table) => {
                let zero = self.vector_constant(types::I32X4, vec![0; 16]);
                let bytes = 8 * table.words() + 4 * table.blocks;
                for at in (0..bytes).step_by(16) {
                    self.b.ins().stack_store(types::I64, zero, table.slot, at as i32);
                }
            }
            None => {
                let zero = self.iconst(types::I32, 0);
                for variable in self.waiting.clone() {
                    self.b.def_var(variable, zero);
                }
            }
        }
    }

    /// Goes on where the dispatcher finds lanes, if any wait; else behind.
    pub(super) fn dispatch_any(&mut self, table: Table) {
        let mut any = self.b.ins().stack_load(types::I64, types::I64, table.slot, 0);
        for word in 1..table.words() {
            let word = self.b.ins().stack_load(types::I64, types::I64, table.slot, 8 * word as i32);
            any = self.b.ins().bor(any, word);
        }
        let next = self.b.create_block();
        self.b.ins().brif(any, table.dispatcher, &[] as &[BlockArg], next, &[] as &[BlockArg]);
        self.start(next);
    }

    /// Emits the dispatcher.
    pub(super) fn emit_dispatcher(&mut self) {
        let Some(table) = self.table else { return };
        self.start(table.dispatcher);
        let lost = self.b.create_block();
        for word in 0..table.words() {
            let ready = self.b.ins().stack_load(types::I64, types::I64, table.slot, 8 * word as i32);
            let (found, next) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(ready, found, &[] as &[BlockArg], next, &[] as &[BlockArg]);
            self.start(found);
            let first = self.b.ins().ctz(ready);
            let first = self.b.ins().ireduce(types::I32, first);
            let blocks = 64 * word..table.blocks.min(64 * (word + 1));
            let places: Vec<Block> = blocks.clone().map(|_| self.b.create_block()).collect();
            let calls: Vec<_> = places.iter().map(|block| self.b.func.dfg.block_call(*block, &[])).collect();
            let default = self.b.func.dfg.block_call(lost, &[]);
            let targets = self.b.create_jump_table(clif::JumpTableData::new(default, &calls));
            self.b.ins().br_table(first, targets);
            for (x, place) in blocks.zip(places) {
                self.start(place);
                self.resume_waiting(x);
            }
            self.start(next);
        }
        self.b.ins().jump(lost, &[] as &[BlockArg]);
        self.start(lost);
        self.b.ins().trap(TrapCode::unwrap_user(1));
    }
}
