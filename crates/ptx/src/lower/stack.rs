//! Completes calls of functions that may call themselves, once all text is lowered: what each call saves, how large
//! frames are, and where functions return to.
//!
//! A call saves the registers that its function reads behind the call and that the callee may write meanwhile: those of
//! the functions with which it may call itself. What is read later is found by looking at one function at a time, calls
//! being steps from their beginning to where they come back.

use super::Lowered;
use super::body::Body;
use super::routine::Site;
use super::slot::Slot;
use super::{layout, types};
use crate::bits::BitSet;
use crate::ir::operands;
use crate::ir::{
    Address, Binary, BlockId, Compare, Instruction, Op, Operand, Predicate, Reg, Semantics, Space, Special, Terminator,
    Type, Width,
};
use crate::parser::FastMap;

/// Registers of one cycle of functions, numbered densely.
struct Owned {
    numbers: FastMap<u32, usize>,
    registers: Vec<Reg>,
}

impl Owned {
    fn number(&self, register: Reg) -> Option<usize> {
        self.numbers.get(&register.0).copied()
    }
}

/// A block as one function sees it: what it reads first, what it surely writes, where it goes on.
struct Step {
    reads: BitSet,
    writes: BitSet,
    next: Vec<BlockId>,
}

/// Where registers are saved in a frame.
struct Saved {
    save: Vec<Op>,
    restore: Vec<Op>,
    /// Bytes of the frame with them.
    end: u64,
}

impl Body<'_, '_> {
    /// Joins callers and callees; gives the bytes of one frame of every routine.
    pub(super) fn join_frames(&mut self) -> Lowered<u32> {
        if self.routines.is_empty() {
            return Ok(0);
        }
        let sites = std::mem::take(&mut self.sites);
        let mut cycles: Vec<u32> = self.routines.iter().map(|routine| routine.cycle).collect();
        cycles.sort_unstable();
        cycles.dedup();
        let mut needed: FastMap<u32, Vec<Reg>> = FastMap::default();
        for cycle in cycles {
            self.needed(cycle, &sites, &mut needed);
        }
        // Frames end behind what the function saves.
        let mut frames: Vec<u64> = self.routines.iter().map(|routine| layout::align_up(routine.locals, 16)).collect();
        let mut saves = Vec::with_capacity(sites.len());
        for site in &sites {
            let locals = site.caller.and_then(|caller| self.routines.get(caller)).map_or(0, |caller| caller.locals);
            let registers = needed.remove(&site.leave.0).unwrap_or_default();
            let saved = self.place(&registers, locals);
            if let Some(frame) = site.caller.and_then(|caller| frames.get_mut(caller)) {
                *frame = (*frame).max(saved.end);
            }
            saves.push(saved);
        }
        for (site, saved) in sites.iter().zip(saves) {
            self.complete(site, saved, frames.get(site.callee).copied().unwrap_or(0));
        }
        for (number, routine) in self.routines.iter().enumerate() {
            let targets: Vec<BlockId> =
                sites.iter().filter(|site| site.callee == number).map(|site| site.back).collect();
            if let Some((_, end)) = self.writer.draft_mut(routine.exit) {
                *end = Some(match targets.as_slice() {
                    [only] => Terminator::Jump(*only),
                    _ => Terminator::Switch { index: Operand::Reg(routine.site), targets },
                });
            }
        }
        let all = frames.iter().sum::<u64>();
        match u32::try_from(all) {
            Ok(bytes) if u64::from(bytes) + self.local_bytes <= super::body::LARGEST_LOCAL => Ok(bytes),
            _ => self.unsupported("functions that call themselves need too much local memory"),
        }
    }

    fn owned(&self, cycle: u32) -> Owned {
        let mut owned = Owned { numbers: FastMap::default(), registers: Vec::new() };
        let ranges = self.routines.iter().filter(|routine| routine.cycle == cycle).flat_map(|it| it.registers.clone());
        for register in ranges.flatten().chain(self.carry.map(|carry| carry.0)) {
            owned.numbers.insert(register, owned.registers.len());
            owned.registers.push(Reg(register));
        }
        owned
    }

    /// Finds the registers that calls among the functions of a cycle save, by the blocks that leave.
    fn needed(&self, cycle: u32, sites: &[Site], needed: &mut FastMap<u32, Vec<Reg>>) {
        let owned = self.owned(cycle);
        let members = self.routines.iter().filter(|routine| routine.cycle == cycle);
        let blocks: Vec<BlockId> =
            members.flat_map(|routine| routine.blocks.clone()).map(|place| self.writer.at_place(place)).collect();
        let places: FastMap<u32, usize> = blocks.iter().enumerate().map(|(place, block)| (block.0, place)).collect();
        let leaving: FastMap<u32, &Site> = sites.iter().map(|site| (site.leave.0, site)).collect();
        let steps: Vec<Step> =
            blocks.iter().map(|block| self.step(*block, leaving.get(&block.0).copied(), &owned)).collect();
        let mut live: Vec<BitSet> = steps.iter().map(|step| step.reads.clone()).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (place, step) in steps.iter().enumerate().rev() {
                for next in step.next.iter().filter_map(|next| places.get(&next.0)) {
                    let Some(mut incoming) = live.get(*next).cloned() else { continue };
                    step.writes.iter().for_each(|register| incoming.remove(register));
                    changed |= live.get_mut(place).is_some_and(|live| live.union(&incoming));
                }
            }
        }
        for site in sites {
            let among = site.caller.and_then(|caller| self.routines.get(caller)).is_some_and(|it| it.cycle == cycle)
                && self.routines.get(site.callee).is_some_and(|it| it.cycle == cycle);
            let Some(live) = places.get(&site.restore.0).and_then(|place| live.get(*place)).filter(|_| among) else {
                continue;
            };
            // What comes out of the callee's frame is new.
            let mut registers = live.clone();
            for instruction in self.writer.draft(site.back).0 {
                operands::results(&instruction.op, &mut |register| {
                    if let Some(number) = owned.number(register) {
                        registers.remove(number);
                    }
                });
            }
            let registers = registers.iter().filter_map(|number| owned.registers.get(number).copied()).collect();
            needed.insert(site.leave.0, registers);
        }
    }

    fn step(&self, block: BlockId, leaves: Option<&Site>, owned: &Owned) -> Step {
        let count = owned.registers.len();
        let (mut reads, mut writes) = (BitSet::new(count), BitSet::new(count));
        let mut read = |register: Reg, writes: &BitSet| {
            if let Some(number) = owned.number(register)
                && !writes.contains(number)
            {
                reads.insert(number);
            }
        };
        let (instructions, end) = self.writer.draft(block);
        for instruction in instructions {
            operands::reads(instruction, &mut |register| read(register, &writes));
            // What a leaving block writes is the callee's.
            if instruction.guard.is_none() && leaves.is_none() {
                operands::results(&instruction.op, &mut |register| {
                    if let Some(number) = owned.number(register) {
                        writes.insert(number);
                    }
                });
            }
        }
        let mut next = Vec::new();
        if let Some(site) = leaves {
            next.push(site.restore);
        } else if let Some(routine) = self.routines.iter().find(|routine| routine.exit == block) {
            read(routine.site, &writes);
            for place in &routine.returns {
                if let Slot::Register(register, _) = place {
                    read(*register, &writes);
                }
            }
        } else {
            match end {
                Some(Terminator::Jump(target)) => next.push(*target),
                Some(Terminator::Branch { p, then, otherwise, .. }) => {
                    read(p.register, &writes);
                    next.extend([*then, *otherwise]);
                }
                Some(Terminator::Switch { index, targets }) => {
                    if let Operand::Reg(register) = index {
                        read(*register, &writes);
                    }
                    next.extend(targets);
                }
                Some(Terminator::Exit) | None => {}
            }
        }
        Step { reads, writes, next }
    }

    /// Gives registers places in a frame behind its local variables; the widest first.
    fn place(&mut self, registers: &[Reg], locals: u64) -> Saved {
        let mut saved = Saved { save: Vec::new(), restore: Vec::new(), end: layout::align_up(locals, 16) };
        let Some(pointer) = self.stack_pointer else { return saved };
        let mut back = Vec::new();
        for (ty, widths) in [
            (Type::B128, [Width::B128; 2]),
            (Type::B64, [Width::B64; 2]),
            (Type::B32, [Width::B32, Width::Pred]),
            (Type::B16, [Width::B16; 2]),
        ] {
            let mut held = Vec::new();
            for register in registers.iter().copied() {
                let width = self.writer.width(register);
                if !widths.contains(&width) {
                    continue;
                }
                if width != Width::Pred {
                    held.push(register);
                    continue;
                }
                let word = self.writer.register(Width::B32);
                let p = Predicate { register, negated: false };
                let (a, b) = (Operand::Imm(1), Operand::Imm(0));
                saved.save.push(Op::SelP { ty: Type::B32, d: word, a, b, p });
                let (a, b) = (Operand::Reg(word), Operand::Imm(0));
                let (compare, p) = (Compare::Ne, Some(register));
                back.push(Op::SetP { compare, ty: Type::B32, ftz: false, p, q: None, a, b, join: None });
                held.push(word);
            }
            let size = u64::from(types::size(ty));
            let mut rest = held.as_slice();
            while !rest.is_empty() {
                // As much at once as one access may carry.
                let most = rest.len().min(if ty == Type::B128 { 1 } else { (32 / size) as usize });
                let (chunk, later) = rest.split_at(1 << most.ilog2());
                rest = later;
                let bytes = size * chunk.len() as u64;
                let offset = layout::align_up(saved.end, bytes.min(16));
                saved.end = offset + bytes;
                let address = Address { space: Space::Local, base: Operand::Reg(pointer), offset: offset as i64 };
                let a = chunk.iter().map(|register| Operand::Reg(*register)).collect();
                saved.save.push(Op::Store { ty, address, a, semantics: Semantics::Weak });
                let d = chunk.iter().map(|register| Some(*register)).collect();
                saved.restore.push(Op::Load { ty, d, address, semantics: Semantics::Weak });
            }
        }
        saved.restore.append(&mut back);
        saved.end = layout::align_up(saved.end, 16);
        saved
    }

    /// Writes saving, restoring and the moves of the stack pointer into the blocks of a call.
    fn complete(&mut self, site: &Site, saved: Saved, callee_frame: u64) {
        let Some(pointer) = self.stack_pointer else { return };
        let at = self.writer.draft(site.leave).0.last().map_or_else(Default::default, |last| last.at);
        let plain = |op: Op| Instruction { guard: None, op, at };
        let sum = |op: Binary, d: Reg, a: Reg, bytes: u64| {
            let (a, b) = (Operand::Reg(a), Operand::Imm(bytes));
            Op::Binary { op, ty: Type::U32, modifiers: Default::default(), d, a, b }
        };
        let mut leave: Vec<Instruction> = saved.save.into_iter().map(plain).collect();
        leave.push(plain(match site.caller {
            Some(_) => sum(Binary::Add, pointer, pointer, saved.end),
            None => Op::Mov { ty: Type::U32, d: pointer, a: Operand::Imm(self.stack_base()) },
        }));
        let [end, size] = [(); 2].map(|()| self.writer.register(Width::B32));
        let overflow = self.writer.register(Width::Pred);
        leave.push(plain(sum(Binary::Add, end, pointer, callee_frame)));
        leave.push(plain(Op::Special { d: size, which: Special::LocalSize }));
        let (a, b, p) = (Operand::Reg(end), Operand::Reg(size), Some(overflow));
        leave.push(plain(Op::SetP { compare: Compare::Gt, ty: Type::U32, ftz: false, p, q: None, a, b, join: None }));
        let guard = Some(Predicate { register: overflow, negated: false });
        leave.push(Instruction { guard, op: Op::StackOverflow, at });
        if let Some((instructions, _)) = self.writer.draft_mut(site.leave) {
            leave.append(instructions);
            *instructions = leave;
        }
        if site.caller.is_some()
            && let Some((instructions, _)) = self.writer.draft_mut(site.back)
        {
            instructions.push(plain(sum(Binary::Sub, pointer, pointer, saved.end)));
        }
        if let Some((instructions, _)) = self.writer.draft_mut(site.restore) {
            let mut restore: Vec<Instruction> = saved.restore.into_iter().map(plain).collect();
            restore.append(instructions);
            *instructions = restore;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::{Kernel, Op, Space, Terminator};

    fn lowered(text: &str) -> Kernel {
        let module = crate::load(&format!(".version 8.0 .target sm_80 .address_size 64 {text}")).unwrap();
        assert!(module.unsupported.is_empty(), "{:?}", module.unsupported);
        module.kernels[0].clone()
    }

    fn ops(kernel: &Kernel) -> impl Iterator<Item = &Op> {
        kernel.blocks.iter().flat_map(|block| &block.instructions).map(|instruction| &instruction.op)
    }

    /// Registers stored into and loaded from frames.
    fn moved(kernel: &Kernel) -> [Vec<usize>; 2] {
        let saved = ops(kernel).filter_map(|op| match op {
            Op::Store { a, address, .. } if address.space == Space::Local => Some(a.len()),
            _ => None,
        });
        let restored = ops(kernel).filter_map(|op| match op {
            Op::Load { d, address, .. } if address.space == Space::Local => Some(d.len()),
            _ => None,
        });
        [saved.collect(), restored.collect()]
    }

    const SUM: &str = ".func (.reg .u32 %sum) sum (.reg .u32 %n) { .reg .u32 %r<9>; .reg .pred %p;
        setp.eq.u32 %p, %n, 0; mov.u32 %sum, 0; @%p ret; sub.u32 %r1, %n, 1; mul.lo.u32 %r5, %r1, %r1;
        call (%r2), sum, (%r1); add.u32 %sum, %r2, %n; ret; }";

    #[test]
    fn a_call_saves_what_is_read_behind_it_and_nothing_else() {
        let kernel = lowered(&format!(
            "{SUM} .entry k() {{ .reg .u32 %a<9>; mov.u32 %a1, %tid.x; call (%a2), sum, (%a1); add.u32 %a3, %a2, %a1; }}"
        ));
        // The argument and the place to return to; not `%r5`, and nothing of the kernel's.
        assert_eq!(moved(&kernel), [vec![2], vec![2]]);
        assert_eq!(kernel.stack_frames, 16);
        assert_eq!(ops(&kernel).filter(|op| matches!(op, Op::StackOverflow)).count(), 2);
        let switches = kernel.blocks.iter().filter(|block| matches!(block.end, Terminator::Switch { .. })).count();
        assert_eq!(switches, 1);
    }

    #[test]
    fn functions_that_cannot_call_themselves_stay_inlined() {
        let kernel = lowered(
            ".func f (.reg .u32 %n) { .local .u32 x; st.local.u32 [x], %n; ret; } .func g (.reg .u32 %n) { call f, (%n); ret; }
            .entry k() { .reg .u32 %a; mov.u32 %a, %tid.x; call f, (%a); call g, (%a); }",
        );
        assert_eq!(kernel.stack_frames, 0);
        assert_eq!(kernel.blocks.len(), 1);
    }

    #[test]
    fn functions_of_two_cycles_have_frames_of_their_own() {
        let kernel = lowered(&format!(
            "{SUM} .func (.reg .u32 %t) tower (.reg .u32 %n) {{ .reg .u32 %r<9>; .reg .pred %p; .local .u32 x[6];
            st.local.u32 [x+4], %n; setp.eq.u32 %p, %n, 0; mov.u32 %t, 1; @%p ret; sub.u32 %r1, %n, 1;
            call (%r2), tower, (%r1); call (%r3), sum, (%r2); ld.local.u32 %r4, [x+4]; add.u32 %t, %r3, %r4; ret; }}
            .entry k() {{ .reg .u32 %a<9>; mov.u32 %a1, %tid.x; call (%a2), tower, (%a1); }}"
        ));
        // 24 bytes of `x` and what `tower` saves for itself; a call of `sum` needs nothing saved.
        assert_eq!(kernel.stack_frames, 48 + 16);
        let [saved, restored] = moved(&kernel);
        assert_eq!((saved.len(), restored.len()), (3, 3));
    }
}
