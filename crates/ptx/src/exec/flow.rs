//! Control flow as code generation wants it: blocks that end at barriers, in the order in which diverged lanes run.
//!
//! Diverged lanes follow thread frontiers: of all blocks that lanes wait at, the lowest-numbered runs next. That
//! reconverges lanes early when every block comes after the blocks that lead to it and the blocks of a loop stand
//! together, which the order made here sees to. The same order lets us say statically which blocks lanes may be waiting
//! at while another block runs ([`pending`]), and so which registers must be kept for them.

use crate::bits::BitSet;
use crate::ir::operands;
use crate::ir::{BarrierKind, Block, Instruction, Kernel, Op, Operand, Predicate, Semantics, Space, Terminator};

/// How a block ends.
#[derive(Clone, Debug)]
pub(super) enum End<'k> {
    Jump(usize),
    Branch {
        p: Predicate,
        then: usize,
        otherwise: usize,
        uniform: bool,
    },
    Switch {
        index: Operand,
        targets: Vec<usize>,
    },
    /// Lanes wait for a barrier (the instruction), then go on.
    Barrier {
        at: &'k Instruction,
        next: usize,
    },
    Exit,
}

/// A block.
#[derive(Clone, Debug)]
pub(super) struct FlowBlock<'k> {
    pub(super) body: Vec<&'k Instruction>,
    pub(super) end: End<'k>,
}

/// The blocks of a kernel in the order of their priority; block 0 is the entry.
#[derive(Clone, Debug)]
pub(super) struct Flow<'k> {
    pub(super) blocks: Vec<FlowBlock<'k>>,
    /// Registers that threads at a block's beginning may still read.
    pub(super) live_in: Vec<BitSet>,
    /// Blocks in loops that wait for other threads: their back edges give way.
    pub(super) waits: Vec<bool>,
    /// Blocks of loops that touch memory: worth a second copy for warps whose lanes all run.
    pub(super) hot: Vec<bool>,
}

impl End<'_> {
    pub(super) fn targets(&self) -> Vec<usize> {
        match self {
            End::Jump(t) | End::Barrier { next: t, .. } => vec![*t],
            End::Branch { then, otherwise, .. } => vec![*then, *otherwise],
            End::Switch { targets, .. } => targets.clone(),
            End::Exit => vec![],
        }
    }

    fn retarget(&mut self, new: &[usize]) {
        match self {
            End::Jump(t) | End::Barrier { next: t, .. } => *t = new[*t],
            End::Branch { then, otherwise, .. } => {
                *then = new[*then];
                *otherwise = new[*otherwise];
            }
            End::Switch { targets, .. } => targets.iter_mut().for_each(|t| *t = new[*t]),
            End::Exit => {}
        }
    }
}

/// Whether an instruction makes a thread wait for its block.
fn waits(op: &Op) -> bool {
    matches!(op, Op::Barrier { kind, .. } if !matches!(kind, BarrierKind::Arrive))
}

/// Whether an instruction reads what other threads may write meanwhile.
fn observes(op: &Op) -> bool {
    match op {
        Op::Load { semantics, .. } => *semantics != Semantics::Weak,
        Op::Atomic { .. } => true,
        _ => false,
    }
}

fn touches_memory(op: &Op) -> bool {
    match op {
        Op::Load { address, .. } | Op::Store { address, .. } => !matches!(address.space, Space::Param | Space::Local),
        _ => false,
    }
}

/// Whether a loop's end depends on what other threads may write meanwhile.
fn spins(parts: &[FlowBlock<'_>], body: &BitSet) -> bool {
    let mut tainted = std::collections::HashSet::new();
    let mut changed = true;
    while changed {
        changed = false;
        for instruction in body.iter().flat_map(|b| &parts[b].body) {
            let mut hit = observes(&instruction.op);
            operands::reads(instruction, &mut |r| hit |= tainted.contains(&r));
            if hit {
                operands::results(&instruction.op, &mut |r| changed |= tainted.insert(r));
            }
        }
    }
    body.iter().any(|b| match &parts[b].end {
        End::Branch { p, .. } => {
            tainted.contains(&p.register) && parts[b].end.targets().iter().any(|t| !body.contains(*t))
        }
        _ => false,
    })
}

/// Splits blocks at barriers. Numbers of the first parts are those of the kernel's blocks.
fn split(blocks: &[Block]) -> Vec<FlowBlock<'_>> {
    let mut parts: Vec<FlowBlock<'_>> = vec![FlowBlock { body: vec![], end: End::Exit }; blocks.len()];
    for (i, block) in blocks.iter().enumerate() {
        let mut number = i;
        for instruction in &block.instructions {
            if !waits(&instruction.op) {
                parts[number].body.push(instruction);
                continue;
            }
            let wait = parts.len();
            match instruction.guard {
                None => {
                    parts[number].end = End::Barrier { at: instruction, next: wait };
                    number = wait;
                }
                Some(p) => {
                    let next = wait + 1;
                    parts[number].end = End::Branch { p, then: wait, otherwise: next, uniform: false };
                    parts.push(FlowBlock { body: vec![], end: End::Barrier { at: instruction, next } });
                    number = next;
                }
            }
            parts.push(FlowBlock { body: vec![], end: End::Exit });
        }
        parts[number].end = match &block.end {
            Terminator::Jump(t) => End::Jump(t.0 as usize),
            Terminator::Branch { then, otherwise, .. } if then == otherwise => End::Jump(then.0 as usize),
            Terminator::Branch { p, then, otherwise, uniform } => {
                End::Branch { p: *p, then: then.0 as usize, otherwise: otherwise.0 as usize, uniform: *uniform }
            }
            Terminator::Switch { index, targets } => {
                End::Switch { index: *index, targets: targets.iter().map(|t| t.0 as usize).collect() }
            }
            Terminator::Exit => End::Exit,
        };
    }
    parts
}

/// Order in which a depth-first walk leaves blocks, and the edges that go back to a block still being walked.
fn walk(blocks: &[FlowBlock<'_>]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut state = vec![0u8; blocks.len()];
    let mut post = Vec::new();
    let mut back = Vec::new();
    let mut stack = vec![(0usize, blocks[0].end.targets())];
    state[0] = 1;
    while let Some((b, targets)) = stack.last_mut() {
        let b = *b;
        match targets.pop() {
            Some(t) if state[t] == 0 => {
                state[t] = 1;
                stack.push((t, blocks[t].end.targets()));
            }
            Some(t) => {
                if state[t] == 1 {
                    back.push((b, t));
                }
            }
            None => {
                state[b] = 2;
                post.push(b);
                stack.pop();
            }
        }
    }
    (post, back)
}

/// Blocks of the loops that back edges close: per loop its header and its blocks.
fn loops(blocks: &[FlowBlock<'_>], back: &[(usize, usize)], reachable: &[bool]) -> Vec<(usize, BitSet)> {
    let mut before = vec![Vec::new(); blocks.len()];
    for (i, block) in blocks.iter().enumerate().filter(|(i, _)| reachable[*i]) {
        for t in block.end.targets() {
            before[t].push(i);
        }
    }
    let mut found: Vec<(usize, BitSet)> = Vec::new();
    for &(tail, head) in back {
        let mut body = BitSet::new(blocks.len());
        body.insert(head);
        let mut work = vec![tail];
        while let Some(b) = work.pop() {
            if body.insert(b) {
                work.extend(&before[b]);
            }
        }
        // The entry inside a body means that the loop has a second entrance: keep it out of the ordering.
        if head != 0 && body.contains(0) {
            continue;
        }
        match found.iter_mut().find(|(h, _)| *h == head) {
            Some((_, known)) => {
                known.union(&body);
            }
            None => found.push((head, body)),
        }
    }
    found
}

/// The order of priority: topological but for back edges, loops in one piece, text order otherwise.
fn order(
    blocks: &[FlowBlock<'_>],
    back: &[(usize, usize)],
    reachable: &[bool],
    loops: &[(usize, BitSet)],
) -> Vec<usize> {
    let mut waiting = vec![0usize; blocks.len()];
    for (i, block) in blocks.iter().enumerate().filter(|(i, _)| reachable[*i]) {
        for t in block.end.targets() {
            if !back.contains(&(i, t)) {
                waiting[t] += 1;
            }
        }
    }
    let mut left: Vec<usize> = loops.iter().map(|(_, body)| body.iter().count()).collect();
    let mut open: Vec<usize> = Vec::new();
    let mut ready = vec![0usize];
    let mut placed = Vec::new();
    while !ready.is_empty() {
        open.retain(|l| left[*l] > 0);
        let inside = open.iter().rev().find_map(|l| {
            let body = &loops[*l].1;
            (0..ready.len()).filter(|i| body.contains(ready[*i])).min_by_key(|i| ready[*i])
        });
        let pick = inside.unwrap_or_else(|| (0..ready.len()).min_by_key(|i| ready[*i]).unwrap_or(0));
        let b = ready.swap_remove(pick);
        placed.push(b);
        // Outer loops (larger bodies) open before inner ones with the same header set.
        let mut opened: Vec<usize> = (0..loops.len()).filter(|l| loops[*l].0 == b).collect();
        opened.sort_by_key(|l| std::cmp::Reverse(left[*l]));
        open.extend(opened);
        for (l, (_, body)) in loops.iter().enumerate() {
            if body.contains(b) {
                left[l] -= 1;
            }
        }
        for t in blocks[b].end.targets() {
            if !back.contains(&(b, t)) {
                waiting[t] -= 1;
                if waiting[t] == 0 {
                    ready.push(t);
                }
            }
        }
    }
    placed
}

impl<'k> Flow<'k> {
    /// The control flow of a kernel.
    pub(super) fn new(kernel: &'k Kernel) -> Flow<'k> {
        let parts = split(&kernel.blocks);
        let (post, back) = walk(&parts);
        let mut reachable = vec![false; parts.len()];
        post.iter().for_each(|b| reachable[*b] = true);
        let loops = loops(&parts, &back, &reachable);
        let order = order(&parts, &back, &reachable, &loops);
        let mut new = vec![usize::MAX; parts.len()];
        order.iter().enumerate().for_each(|(i, b)| new[*b] = i);
        let mut waits = vec![false; order.len()];
        let mut hot = vec![false; order.len()];
        for (_, body) in &loops {
            body.iter()
                .filter(|b| parts[*b].body.iter().any(|i| touches_memory(&i.op)))
                .for_each(|b| hot[new[b]] = true);
            let waiting = spins(&parts, body);
            body.iter().filter(|_| waiting).for_each(|b| waits[new[b]] = true);
        }
        let blocks: Vec<FlowBlock<'k>> = order
            .iter()
            .map(|b| {
                let mut block = parts[*b].clone();
                block.end.retarget(&new);
                block
            })
            .collect();
        let live_in = liveness(&blocks, kernel.registers.len());
        Flow { blocks, live_in, waits, hot }
    }

    /// For every block, the blocks that other lanes may be waiting at while it runs, as a set over `0..2n`: a block
    /// that lanes are to run, or `n +` the block after a barrier that lanes are parked at. `divergent` says of which
    /// blocks the ends may split lanes.
    pub(super) fn pending(&self, divergent: &[bool]) -> Vec<BitSet> {
        let n = self.blocks.len();
        let mut pending = vec![BitSet::new(2 * n); n];
        let mut queued = vec![true; n];
        let mut work: Vec<usize> = (0..n).rev().collect();
        while let Some(b) = work.pop() {
            queued[b] = false;
            let mut after = pending[b].clone();
            let mut go = |after: &BitSet, bound: usize, pending: &mut Vec<BitSet>, work: &mut Vec<usize>| {
                for x in after.iter().filter(|x| *x <= bound) {
                    let mut rest = after.clone();
                    // What runs is the lowest, so nothing lower waits.
                    (0..=x).for_each(|i| rest.remove(i));
                    if pending[x].union(&rest) && !queued[x] {
                        queued[x] = true;
                        work.push(x);
                    }
                }
            };
            match &self.blocks[b].end {
                End::Exit => {
                    go(&after, n - 1, &mut pending, &mut work);
                    resume(&after, n, &mut |after| go(after, n - 1, &mut pending, &mut work));
                }
                End::Barrier { next, .. } => {
                    after.insert(n + next);
                    go(&after, n - 1, &mut pending, &mut work);
                    resume(&after, n, &mut |after| go(after, n - 1, &mut pending, &mut work));
                }
                end if divergent[b] => {
                    let targets = end.targets();
                    targets.iter().for_each(|t| {
                        after.insert(*t);
                    });
                    // Lanes that wait for others may stand back until the rest of their warp cannot go on.
                    let back: Vec<usize> = targets.iter().copied().filter(|t| *t <= b && self.waits[b]).collect();
                    back.iter().for_each(|t| {
                        after.insert(n + t);
                    });
                    let bound = if back.is_empty() { targets.iter().copied().max().unwrap_or(0) } else { n - 1 };
                    go(&after, bound, &mut pending, &mut work);
                    if !back.is_empty() {
                        resume(&after, n, &mut |after| go(after, n - 1, &mut pending, &mut work));
                    }
                }
                end => {
                    for t in end.targets() {
                        let mut after = after.clone();
                        after.insert(t);
                        go(&after, t, &mut pending, &mut work);
                    }
                }
            }
        }
        pending
    }

    /// The registers that must be kept for waiting lanes while a block runs.
    pub(super) fn kept(&self, pending: &[BitSet], registers: usize) -> Vec<BitSet> {
        let n = self.blocks.len();
        pending
            .iter()
            .map(|set| {
                let mut kept = BitSet::new(registers);
                set.iter().for_each(|x| {
                    kept.union(&self.live_in[x % n]);
                });
                kept
            })
            .collect()
    }
}

/// When only parked lanes are left they all go on.
fn resume(after: &BitSet, n: usize, go: &mut dyn FnMut(&BitSet)) {
    let mut released = BitSet::new(2 * n);
    after.iter().filter(|x| *x >= n).for_each(|x| {
        released.insert(x - n);
    });
    if !released.is_empty() {
        go(&released);
    }
}

/// Registers alive at the beginning of every block, as one thread sees it.
fn liveness(blocks: &[FlowBlock<'_>], registers: usize) -> Vec<BitSet> {
    let mut used = Vec::new();
    let mut set = Vec::new();
    for block in blocks {
        let (mut u, mut s) = (BitSet::new(registers), BitSet::new(registers));
        let mut visit = |instruction: &Instruction| {
            operands::reads(instruction, &mut |r| {
                if !s.contains(r.0 as usize) {
                    u.insert(r.0 as usize);
                }
            });
            if instruction.guard.is_none() {
                operands::results(&instruction.op, &mut |r| {
                    s.insert(r.0 as usize);
                });
            }
        };
        block.body.iter().for_each(|i| visit(i));
        match &block.end {
            End::Branch { p, .. } if !s.contains(p.register.0 as usize) => {
                u.insert(p.register.0 as usize);
            }
            End::Switch { index: Operand::Reg(r), .. } if !s.contains(r.0 as usize) => {
                u.insert(r.0 as usize);
            }
            End::Barrier { at, .. } => {
                operands::sources(&at.op, &mut |r| {
                    if !s.contains(r.0 as usize) {
                        u.insert(r.0 as usize);
                    }
                });
                operands::results(&at.op, &mut |r| {
                    s.insert(r.0 as usize);
                });
            }
            _ => {}
        }
        used.push(u);
        set.push(s);
    }
    let mut live = used;
    let mut changed = true;
    while changed {
        changed = false;
        for b in (0..blocks.len()).rev() {
            for t in blocks[b].end.targets() {
                let mut incoming = live[t].clone();
                set[b].iter().for_each(|r| incoming.remove(r));
                changed |= live[b].union(&incoming);
            }
        }
    }
    live
}
