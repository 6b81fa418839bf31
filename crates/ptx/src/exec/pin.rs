//! Keeping results close to where they were computed.
//!
//! The compiler places pure operations as late as it can, and loads where they stand. In an unrolled loop that leaves all
//! products for the end, with everything that was loaded for them waiting in registers there are not enough of. So before
//! an access to memory the fresh results become parameters of a block at which a second, never taken edge arrives with
//! other values: the compiler has to have them ready there, and drops what they were made of.

use super::code::{Emitter, trusted};
use super::context::Context;
use super::kinds::Kind;
use crate::ir::{Op, Reg, Type, Width};
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value, types};
use cranelift_frontend::Variable;
use std::mem::offset_of;

/// Results that became parameters.
pub(super) struct Pins {
    block: Block,
    variables: Vec<Variable>,
}

/// Whether it pays to have the result ready early.
fn is_worth_pinning(op: &Op) -> bool {
    matches!(op, Op::Binary { ty, .. } | Op::Ternary { ty, .. } if matches!(ty, Type::F32 | Type::F64))
}

impl Emitter<'_, '_> {
    /// Notes what an operation computed.
    pub(super) fn note_results(&mut self, op: &Op, results: &[Reg]) {
        if !is_worth_pinning(op) {
            return;
        }
        for r in results {
            if self.kind(*r) == Kind::Varying && self.width(*r) != Width::Pred && !self.fresh.contains(r) {
                self.fresh.push(*r);
            }
        }
    }

    /// Goes on only if the condition holds, else at `slow`; with the fresh results ready.
    pub(super) fn require_with_pins(&mut self, condition: Value, slow: Block) -> Option<Pins> {
        let fresh = std::mem::take(&mut self.fresh);
        let live: Vec<Reg> = fresh.into_iter().filter(|r| self.is_live(*r) && !self.has_home(*r)).collect();
        let variables: Vec<Variable> = live.into_iter().flat_map(|r| self.variables(r)).collect();
        let next = self.b.create_block();
        let mut arguments: Vec<BlockArg> = Vec::new();
        let mut parameters = Vec::new();
        for variable in &variables {
            let value = self.b.use_var(*variable);
            arguments.push(value.into());
            let ty = self.b.func.dfg.value_type(value);
            parameters.push(self.b.append_block_param(next, ty));
        }
        self.b.ins().brif(condition, next, &arguments, slow, &[] as &[BlockArg]);
        self.start(next);
        if variables.is_empty() {
            return None;
        }
        for (variable, parameter) in variables.iter().zip(parameters) {
            self.b.def_var(*variable, parameter);
        }
        Some(Pins { block: next, variables })
    }

    /// The edge that is never taken, at the beginning of the block that was called `slow`.
    pub(super) fn release_pins(&mut self, pins: Option<Pins>) {
        let Some(Pins { block, variables }) = pins else { return };
        let offset = offset_of!(Context, zeros) as i32;
        let mut arguments: Vec<BlockArg> = Vec::new();
        for variable in variables {
            let value = self.b.use_var(variable);
            let ty = self.b.func.dfg.value_type(value);
            let zeros = self.b.ins().load(ty, trusted(), self.context, offset);
            arguments.push(self.b.ins().bor(value, zeros).into());
        }
        let never = self.b.ins().load(types::I32, trusted(), self.context, offset);
        let on = self.b.create_block();
        self.b.ins().brif(never, block, &arguments, on, &[] as &[BlockArg]);
        self.start(on);
    }

    /// Whether a register is read after the instruction that is being emitted.
    fn is_live(&self, r: Reg) -> bool {
        self.last_reads.get(&r).is_some_and(|last| *last > self.instruction)
    }
}
