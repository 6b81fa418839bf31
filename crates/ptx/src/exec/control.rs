//! Control flow: which lanes run next, barriers, giving way, and the ends of blocks.

use super::code::{Emitter, Val, trusted};
use super::context::{Context, Reduction, status};
use super::flow::End;
use super::helpers;
use super::kinds::Kind;
use super::site::{Detail, bytes, slot};
use crate::ir::{BarrierKind, Instruction, Op, Operand, Reg, Width};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::Variable;
use std::mem::offset_of;

const NO_ARGUMENTS: &[BlockArg] = &[];

impl Emitter<'_, '_> {
    fn count(&self) -> usize {
        self.flow.blocks.len()
    }

    /// Blocks that lanes may be waiting to run at the end of block `b`, lowest first.
    fn waiting_blocks(&self, b: usize) -> Vec<usize> {
        let n = self.count();
        self.kinds.pending[b].iter().filter(|x| *x < n).collect()
    }

    /// Blocks that lanes may be parked in front of.
    fn parked_blocks(&self, b: usize) -> Vec<usize> {
        let n = self.count();
        self.kinds.pending[b].iter().filter(|x| *x >= n).map(|x| x - n).collect()
    }

    fn parked_variable(&mut self, b: usize) -> Variable {
        if let Some(known) = self.parked.get(&b) {
            return *known;
        }
        let made = self.b.declare_var(types::I32);
        self.parked.insert(b, made);
        made
    }

    /// Emits the end of a block.
    pub(super) fn end(&mut self, b: usize) {
        let flow = self.flow;
        let end = &flow.blocks[b].end;
        self.deferred = None;
        if end.targets().iter().any(|t| *t <= b) {
            self.poll(b);
        }
        match end {
            End::Jump(t) => self.go(b, *t),
            End::Branch { p, then, otherwise, .. } => match self.predicate(*p) {
                Val::Uniform(flag) => self.branch(b, flag, *then, *otherwise),
                other if !self.kinds.divergent[b] => {
                    // `bra.uni`: the active lanes agree, so one of them speaks for all.
                    let bits = self.mask_bits(&other);
                    let active = self.b.use_var(self.active);
                    let any = self.b.ins().band(bits, active);
                    self.branch(b, any, *then, *otherwise);
                }
                other => {
                    let bits = self.mask_bits(&other);
                    let active = self.b.use_var(self.active);
                    let yes = self.b.ins().band(active, bits);
                    let no = self.b.ins().band_not(active, bits);
                    self.diverge(b, &[(*then, yes), (*otherwise, no)]);
                }
            },
            End::Switch { index, targets } => self.switch(b, index, targets),
            End::Barrier { at, next } => self.barrier(b, at, *next),
            End::Exit => self.exit(b),
        }
    }

    /// A branch that all active lanes take alike.
    fn branch(&mut self, b: usize, flag: Value, then: usize, otherwise: usize) {
        let (yes, no) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(flag, yes, NO_ARGUMENTS, no, NO_ARGUMENTS);
        self.start(yes);
        self.go(b, then);
        self.start(no);
        self.go(b, otherwise);
    }

    /// All active lanes go on at `t`, unless a block before it has waiting lanes.
    fn go(&mut self, b: usize, t: usize) {
        let waiting = self.waiting_blocks(b);
        let lower: Vec<usize> = waiting.iter().copied().filter(|x| *x < t).collect();
        let meets = waiting.contains(&t);
        if lower.is_empty() && !meets {
            let copy = self.whole_blocks[t].filter(|_| self.whole);
            self.b.ins().jump(copy.unwrap_or(self.blocks[t]), NO_ARGUMENTS);
            return;
        }
        let active = self.b.use_var(self.active);
        self.add_waiting(b, t, active);
        self.dispatch(&lower, Some(t));
    }

    /// Makes lanes wait for a block.
    fn add_waiting(&mut self, b: usize, t: usize, lanes: Value) {
        let lanes = if self.kinds.pending[b].contains(t) {
            let before = self.waiting_lanes(t);
            self.b.ins().bor(before, lanes)
        } else {
            lanes
        };
        self.set_waiting(t, lanes);
    }

    fn diverge(&mut self, b: usize, targets: &[(usize, Value)]) {
        let mut candidates = self.waiting_blocks(b);
        if let Some(deferred) = self.deferred.take() {
            self.diverge_or_stand_back(b, targets, deferred);
            return;
        }
        for (t, lanes) in targets {
            self.add_waiting(b, *t, *lanes);
            if !candidates.contains(t) {
                candidates.push(*t);
            }
        }
        candidates.sort_unstable();
        let last = targets.iter().map(|t| t.0).max().unwrap_or(0);
        candidates.retain(|x| *x < last);
        self.dispatch(&candidates, Some(last));
    }

    /// As [`Emitter::diverge`], in a loop that waits for other threads: when it has done so for long (the mask says), the
    /// lanes that want another round stand back until the rest of the warp cannot go on. A lane may wait for what
    /// another lane of its own warp does only after the loop.
    fn diverge_or_stand_back(&mut self, b: usize, targets: &[(usize, Value)], deferred: Variable) {
        let deferred = self.b.use_var(deferred);
        let mut candidates = self.waiting_blocks(b);
        let mut parked = self.parked_blocks(b);
        for (t, lanes) in targets {
            let mut lanes = *lanes;
            if *t <= b {
                let back = self.b.ins().band(lanes, deferred);
                lanes = self.b.ins().band_not(lanes, deferred);
                let variable = self.parked_variable(*t);
                let back = if parked.contains(t) {
                    let before = self.b.use_var(variable);
                    self.b.ins().bor(before, back)
                } else {
                    back
                };
                self.b.def_var(variable, back);
                if !parked.contains(t) {
                    parked.push(*t);
                }
            }
            self.add_waiting(b, *t, lanes);
            if !candidates.contains(t) {
                candidates.push(*t);
            }
        }
        candidates.sort_unstable();
        self.dispatch(&candidates, None);
        parked.sort_unstable();
        self.park_here(&parked);
    }

    /// Goes on at the first of the blocks that has waiting lanes, else at the last one, which then is known to. Without
    /// a last one the code that follows is where nobody waits.
    fn dispatch(&mut self, candidates: &[usize], last: Option<usize>) {
        if let Some(table) = self.table
            && candidates.len() > 1
        {
            match last {
                Some(_) => {
                    self.b.ins().jump(table.dispatcher, NO_ARGUMENTS);
                }
                None => self.dispatch_any(table),
            }
            return;
        }
        for x in candidates {
            let lanes = self.waiting_lanes(*x);
            let (found, next) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(lanes, found, NO_ARGUMENTS, next, NO_ARGUMENTS);
            self.start(found);
            self.resume_waiting(*x);
            self.start(next);
        }
        if let Some(last) = last {
            self.resume_waiting(last);
        }
    }

    pub(super) fn resume_waiting(&mut self, x: usize) {
        let lanes = self.waiting_lanes(x);
        self.b.def_var(self.active, lanes);
        let zero = self.iconst(types::I32, 0);
        self.set_waiting(x, zero);
        self.b.ins().jump(self.blocks[x], NO_ARGUMENTS);
    }

    fn switch(&mut self, b: usize, index: &Operand, targets: &[usize]) {
        let value = self.read(index, Width::B32);
        let last = targets.len().saturating_sub(1);
        if let Val::Uniform(v) = value {
            // A chain of comparisons: tables are rare, and an index beyond the end is undefined.
            for (i, t) in targets.iter().enumerate() {
                if i == last {
                    self.go(b, *t);
                } else {
                    let hit = self.b.ins().icmp_imm_s(IntCC::Equal, v, i as i64);
                    let (yes, no) = (self.b.create_block(), self.b.create_block());
                    self.b.ins().brif(hit, yes, NO_ARGUMENTS, no, NO_ARGUMENTS);
                    self.start(yes);
                    self.go(b, *t);
                    self.start(no);
                }
            }
            return;
        }
        let vectors = self.expand(&value, Width::B32);
        let mut rest = self.b.use_var(self.active);
        let mut lanes_of: Vec<(usize, Value)> = Vec::new();
        for (i, t) in targets.iter().enumerate() {
            let lanes = if i == last {
                rest
            } else {
                let wanted = self.vector_constant32([i as u32; 4]);
                let hits: Vec<Value> = vectors.iter().map(|v| self.b.ins().icmp(IntCC::Equal, *v, wanted)).collect();
                let hits = self.pack_masks(&hits);
                let lanes = self.b.ins().band(rest, hits);
                rest = self.b.ins().band_not(rest, hits);
                lanes
            };
            match lanes_of.iter_mut().find(|(x, _)| x == t) {
                Some((_, all)) => *all = self.b.ins().bor(*all, lanes),
                None => lanes_of.push((*t, lanes)),
            }
        }
        self.diverge(b, &lanes_of);
    }

    fn exit(&mut self, b: usize) {
        let waiting = self.waiting_blocks(b);
        self.dispatch(&waiting, None);
        let parked = self.parked_blocks(b);
        if !parked.is_empty() {
            let mut any = self.iconst(types::I32, 0);
            for x in &parked {
                let variable = self.parked_variable(*x);
                let lanes = self.b.use_var(variable);
                any = self.b.ins().bor(any, lanes);
            }
            let (wait, done) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(any, wait, NO_ARGUMENTS, done, NO_ARGUMENTS);
            self.start(wait);
            self.park_here(&parked);
            self.start(done);
        }
        self.finish(status::DONE);
    }

    fn finish(&mut self, status: u32) {
        let status = self.iconst(types::I32, i64::from(status));
        self.b.ins().return_(&[status]);
    }

    /// Lanes come to a barrier and go on at `next` when it opens.
    fn barrier(&mut self, b: usize, at: &Instruction, next: usize) {
        let Op::Barrier { kind, id, threads } = &at.op else { return };
        let simple = matches!(kind, BarrierKind::Sync) && self.kinds.pending[b].is_empty();
        if simple && threads.is_none() {
            // The only warp of a block waits for nobody.
            let warps = self.field(types::I32, offset_of!(Context, warps));
            let alone = self.b.ins().icmp_imm_s(IntCC::Equal, warps, 1);
            let (on, wait) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(alone, on, NO_ARGUMENTS, wait, NO_ARGUMENTS);
            self.start(on);
            self.b.ins().jump(self.blocks[next], NO_ARGUMENTS);
            self.start(wait);
        }
        let active = self.b.use_var(self.active);
        if simple && threads.is_none() {
            // Nothing to tell but the barrier's number, which the status does.
            if let Val::Uniform(id) = self.read(id, Width::B32) {
                let variable = self.parked_variable(next);
                self.b.def_var(variable, active);
                let id = self.b.ins().band_imm_s(id, 15);
                let status = self.b.ins().iadd_imm_s(id, i64::from(status::AT_BARRIER));
                self.park(&[next], status);
                return;
            }
        }
        self.arrive(kind, id, threads.as_ref(), active);
        let variable = self.parked_variable(next);
        let lanes = if self.kinds.pending[b].contains(self.count() + next) {
            let before = self.b.use_var(variable);
            self.b.ins().bor(before, active)
        } else {
            active
        };
        self.b.def_var(variable, lanes);
        let waiting = self.waiting_blocks(b);
        self.dispatch(&waiting, None);
        let mut parked = self.parked_blocks(b);
        if !parked.contains(&next) {
            parked.push(next);
        }
        parked.sort_unstable();
        self.park_here(&parked);
    }

    /// Tells the runner that lanes have come to a barrier.
    pub(super) fn arrive(&mut self, kind: &BarrierKind, id: &Operand, threads: Option<&Operand>, lanes: Value) {
        self.put_mask(lanes);
        for (i, operand) in [Some(id), threads].into_iter().enumerate() {
            let value = match operand {
                Some(operand) => self.read(operand, Width::B32),
                None => Val::Uniform(self.iconst(types::I32, 0)),
            };
            let vectors = self.expand(&value, Width::B32);
            self.put_vectors(&vectors, i);
        }
        let (reduction, p) = match kind {
            BarrierKind::Sync | BarrierKind::Arrive => (Reduction::None, None),
            BarrierKind::RedPopc(_, p) => (Reduction::Popc, Some(*p)),
            BarrierKind::RedAnd(_, p) => (Reduction::And, Some(*p)),
            BarrierKind::RedOr(_, p) => (Reduction::Or, Some(*p)),
        };
        if let Some(p) = p {
            let value = self.predicate(p);
            let bits = self.mask_bits(&value);
            self.put(bits, slot(2));
        }
        let helper = match (kind, reduction) {
            (BarrierKind::Arrive, _) => helpers::barrier_arrive,
            (_, Reduction::None) => helpers::barrier_wait,
            (_, Reduction::Popc) => helpers::barrier_popc,
            (_, Reduction::And) => helpers::barrier_and,
            (_, Reduction::Or) => helpers::barrier_or,
        };
        self.call(helper, Detail::None);
    }

    /// As [`Emitter::park`], having told of the arrivals.
    fn park_here(&mut self, parked: &[usize]) {
        let status = self.iconst(types::I32, i64::from(status::PARKED));
        self.park(parked, status);
    }

    /// Returns to the runner with lanes parked in front of blocks; on return they all go on.
    fn park(&mut self, parked: &[usize], status: Value) {
        let mut saved = crate::bits::BitSet::new(self.target.kernel.registers.len());
        for x in parked {
            saved.union(&self.flow.live_in[*x]);
        }
        let masks: Vec<Variable> = parked.iter().map(|x| self.parked_variable(*x)).collect();
        self.suspend(&saved.iter().map(|r| Reg(r as u32)).collect::<Vec<_>>(), &masks, status);
        // The results of a reduction, for the lanes that asked for it.
        let flow = self.flow;
        for block in &flow.blocks {
            let End::Barrier { at, next } = &block.end else { continue };
            if !parked.contains(next) {
                continue;
            }
            let Op::Barrier { kind, .. } = &at.op else { continue };
            let (BarrierKind::RedPopc(d, _) | BarrierKind::RedAnd(d, _) | BarrierKind::RedOr(d, _)) = kind else {
                continue;
            };
            let value =
                self.b.ins().load(types::I32, trusted(), self.context, offset_of!(Context, barrier_result) as i32);
            let value = match kind {
                BarrierKind::RedPopc(..) => value,
                _ => self.b.ins().ireduce(types::I8, value),
            };
            if self.kinds.kept[*next].contains(d.0 as usize) {
                let variable = self.parked_variable(*next);
                self.blend = Some(self.b.use_var(variable));
            }
            self.write(*d, Val::Uniform(value));
            self.blend = None;
        }
        let zero = self.iconst(types::I32, 0);
        if let [only] = parked {
            let lanes = self.b.use_var(masks[0]);
            self.b.def_var(self.active, lanes);
            self.b.def_var(masks[0], zero);
            self.b.ins().jump(self.blocks[*only], NO_ARGUMENTS);
            return;
        }
        for (x, mask) in parked.iter().zip(masks) {
            let lanes = self.b.use_var(mask);
            self.set_waiting(*x, lanes);
            self.b.def_var(mask, zero);
        }
        let Some((last, rest)) = parked.split_last() else { return };
        self.dispatch(rest, Some(*last));
    }

    /// Saves registers and masks, returns with a status, and loads them again where the warp is resumed; emission goes
    /// on there.
    fn suspend(&mut self, registers: &[Reg], masks: &[Variable], status: Value) {
        let flags = MemFlagsData::new().with_notrap();
        let frame = self.field(types::I64, offset_of!(Context, frame));
        let mut offset = 0;
        let mut places = Vec::new();
        for mask in masks {
            places.push((*mask, types::I32, offset));
            offset += 4;
        }
        offset = (offset + 15) & !15;
        let mut homes = Vec::new();
        for r in registers {
            if let Some(values) = self.load_home(*r) {
                let types: Vec<_> = values.iter().map(|value| self.b.func.dfg.value_type(*value)).collect();
                for (i, value) in values.into_iter().enumerate() {
                    self.b.ins().store(flags, value, frame, (offset + 16 * i) as i32);
                }
                let bytes = 16 * types.len();
                homes.push((*r, types, offset));
                offset += bytes;
                continue;
            }
            let varying = self.kind(*r) == Kind::Varying;
            for variable in self.variables(*r) {
                let value = self.b.use_var(variable);
                let ty = self.b.func.dfg.value_type(value);
                places.push((variable, ty, offset));
                offset += if varying { 16 } else { bytes(self.width(*r)).max(8) };
            }
            offset = (offset + 15) & !15;
        }
        self.frame_bytes = self.frame_bytes.max(offset);
        for (variable, _, offset) in &places {
            let value = self.b.use_var(*variable);
            self.b.ins().store(flags, value, frame, *offset as i32);
        }
        let resume = self.b.create_block();
        self.resumes.push(resume);
        let number = self.iconst(types::I32, self.resumes.len() as i64);
        self.b.ins().store(trusted(), number, self.context, offset_of!(Context, resume) as i32);
        self.b.ins().return_(&[status]);
        self.start(resume);
        self.clear_waiting();
        let frame = self.field(types::I64, offset_of!(Context, frame));
        for (variable, ty, offset) in places {
            let value = self.b.ins().load(ty, flags, frame, offset as i32);
            self.b.def_var(variable, value);
        }
        for (r, types, offset) in homes {
            let load = |(i, ty)| self.b.ins().load(ty, flags, frame, (offset + 16 * i) as i32);
            let values: Vec<Value> = types.into_iter().enumerate().map(load).collect();
            self.store_home(r, &values);
        }
    }

    /// At a back edge: now and then asks whether the launch is cancelled; in loops that wait for other threads, gives
    /// way to other warps.
    fn poll(&mut self, b: usize) {
        let offset = offset_of!(Context, fuel) as i32;
        let fuel = self.b.ins().load(types::I32, trusted(), self.context, offset);
        let fuel = self.b.ins().iadd_imm_s(fuel, -1);
        self.b.ins().store(trusted(), fuel, self.context, offset);
        let empty = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, fuel, 0);
        let (ask, on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(ask);
        let stands_back = self.flow.waits[b] && self.kinds.divergent[b];
        let deferred = self.b.declare_var(types::I32);
        if stands_back {
            let zero = self.iconst(types::I32, 0);
            self.b.def_var(deferred, zero);
            self.deferred = Some(deferred);
        }
        self.b.ins().brif(empty, ask, NO_ARGUMENTS, on, NO_ARGUMENTS);
        self.start(ask);
        self.call(helpers::poll, Detail::None);
        if self.flow.waits[b] {
            let mut saved = crate::bits::BitSet::new(self.target.kernel.registers.len());
            let flow = self.flow;
            flow.blocks[b].end.targets().iter().for_each(|t| {
                saved.union(&flow.live_in[*t]);
            });
            saved.union(&self.kinds.kept[b]);
            if let End::Branch { p, .. } = &flow.blocks[b].end {
                saved.insert(p.register.0 as usize);
            }
            if let End::Switch { index: Operand::Reg(r), .. } = &flow.blocks[b].end {
                saved.insert(r.0 as usize);
            }
            let mut masks = vec![self.active];
            let waiting = self.waiting_blocks(b);
            let mut kept = Vec::new();
            for x in waiting {
                let lanes = self.waiting_lanes(x);
                let variable = self.b.declare_var(types::I32);
                self.b.def_var(variable, lanes);
                kept.push((x, variable));
            }
            masks.extend(kept.iter().map(|(_, variable)| *variable));
            for x in self.parked_blocks(b) {
                masks.push(self.parked_variable(x));
            }
            let status = self.iconst(types::I32, i64::from(status::YIELDED));
            self.suspend(&saved.iter().map(|r| Reg(r as u32)).collect::<Vec<_>>(), &masks, status);
            for (x, variable) in kept {
                let lanes = self.b.use_var(variable);
                self.set_waiting(x, lanes);
            }
        }
        if stands_back {
            let all = self.iconst(types::I32, -1);
            self.b.def_var(deferred, all);
        }
        self.b.ins().jump(on, NO_ARGUMENTS);
        self.start(on);
    }
}
