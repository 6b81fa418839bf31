//! Registers that live in memory.
//!
//! In a kernel with functions that call themselves, whatever is kept over the calls is alive in every block of them, at
//! eight vectors and more a register. As values of the compiler these would join at every block, and it would spend
//! seconds to find out that none of them fits a machine register. So varying registers that outlive a block have a home
//! on the machine's stack there, which the compiler is told.

use super::code::{Emitter, Target, vector_count, vector_type};
use super::flow::Flow;
use super::kinds::{Kind, Kinds};
use super::site::bytes;
use crate::ir::{Reg, Width};
use cranelift_codegen::ir::{InstBuilder, StackSlot, Value, types};

/// The most memory that homes take; further registers have none.
const MOST: u32 = 256 << 10;

/// Where registers live.
#[derive(Debug, Default)]
pub(super) struct Homes {
    offsets: Vec<Option<u32>>,
    pub(super) bytes: u32,
}

impl Homes {
    /// Gives homes to the registers of a kernel that are better off with one.
    pub(super) fn new(target: Target<'_>, flow: &Flow<'_>, kinds: &Kinds) -> Homes {
        let kernel = target.kernel;
        let mut homes = Homes::default();
        if kernel.stack_frames == 0 {
            return homes;
        }
        homes.offsets = vec![None; kernel.registers.len()];
        for r in flow.live_in.iter().flat_map(|live| live.iter()) {
            if kinds.kind[r] == Kind::Varying && homes.offsets[r].is_none() && homes.bytes < MOST {
                homes.offsets[r] = Some(homes.bytes);
                homes.bytes += (32 * bytes(kernel.registers[r]) as u32).max(128);
            }
        }
        homes
    }

    fn offset(&self, r: Reg) -> Option<i32> {
        self.offsets.get(r.0 as usize).copied().flatten().map(|offset| offset as i32)
    }
}

impl Emitter<'_, '_> {
    pub(super) fn has_home(&self, r: Reg) -> bool {
        self.homes.offset(r).is_some()
    }

    /// Types of the pieces in which a varying register is held.
    fn pieces(&self, r: Reg) -> (types::Type, usize) {
        match self.width(r) {
            Width::Pred if !self.spread[r.0 as usize] => (types::I32, 1),
            width => (vector_type(width), vector_count(width)),
        }
    }

    fn home(&self) -> Option<StackSlot> {
        self.home_slot
    }

    /// What lies in a register's home, or `None` if it has none.
    pub(super) fn load_home(&mut self, r: Reg) -> Option<Vec<Value>> {
        let (offset, slot) = (self.homes.offset(r)?, self.home()?);
        let (ty, count) = self.pieces(r);
        Some((0..count).map(|i| self.b.ins().stack_load(types::I64, ty, slot, offset + 16 * i as i32)).collect())
    }

    /// Zeros for registers that may be read before they are written: not what the stack had there.
    pub(super) fn clear_homes(&mut self) {
        let flow = self.flow;
        for r in flow.live_in.first().into_iter().flat_map(|live| live.iter()).map(|r| Reg(r as u32)) {
            let (ty, count) = self.pieces(r);
            let zeros = self.vector_constant(types::I32X4, vec![0; 16]);
            let zero = if ty == types::I32 { self.iconst(types::I32, 0) } else { self.cast(ty, zeros) };
            self.store_home(r, &vec![zero; count]);
        }
    }

    /// Stores into a register's home; false if it has none.
    pub(super) fn store_home(&mut self, r: Reg, values: &[Value]) -> bool {
        let (Some(offset), Some(slot)) = (self.homes.offset(r), self.home()) else { return false };
        for (i, value) in values.iter().enumerate() {
            self.b.ins().stack_store(types::I64, *value, slot, offset + 16 * i as i32);
        }
        true
    }
}
