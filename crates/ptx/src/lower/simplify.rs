//! Blocks that nothing reaches go away, and blocks that only one jump reaches join the one that jumps.

use crate::ir::{Block, BlockId, Terminator};

/// Applies a function to every target of a terminator.
pub(super) fn targets(end: &mut Terminator, mut change: impl FnMut(&mut BlockId)) {
    match end {
        Terminator::Jump(target) => change(target),
        Terminator::Branch { then, otherwise, .. } => {
            change(then);
            change(otherwise);
        }
        Terminator::Switch { targets, .. } => targets.iter_mut().for_each(change),
        Terminator::Exit => {}
    }
}

fn each(end: &Terminator, mut see: impl FnMut(BlockId)) {
    match end {
        Terminator::Jump(target) => see(*target),
        Terminator::Branch { then, otherwise, .. } => {
            see(*then);
            see(*otherwise);
        }
        Terminator::Switch { targets, .. } => targets.iter().copied().for_each(see),
        Terminator::Exit => {}
    }
}

/// Simplifies blocks; their order stays.
pub(super) fn simplify(mut blocks: Vec<Block>) -> Vec<Block> {
    thread(&mut blocks);
    let mut reached = reach(&blocks);
    join(&mut blocks, &mut reached);
    let mut numbers = vec![BlockId(0); blocks.len()];
    let mut kept = 0u32;
    for (number, reached) in numbers.iter_mut().zip(&reached) {
        *number = BlockId(kept);
        kept += u32::from(*reached > 0);
    }
    blocks
        .into_iter()
        .zip(reached)
        .filter(|(_, reached)| *reached > 0)
        .map(|(mut block, _)| {
            targets(&mut block.end, |target| {
                if let Some(&number) = numbers.get(target.0 as usize) {
                    *target = number;
                }
            });
            block
        })
        .collect()
}

/// Sends jumps to empty blocks on to where those jump, and makes branches with one target jumps.
fn thread(blocks: &mut [Block]) {
    let onward: Vec<Option<BlockId>> = blocks
        .iter()
        .map(|block| match block.end {
            Terminator::Jump(target) if block.instructions.is_empty() => Some(target),
            _ => None,
        })
        .collect();
    let follow = |target: &mut BlockId| {
        // A loop of empty blocks never ends; any of its blocks will do.
        for _ in 0..onward.len() {
            match onward.get(target.0 as usize) {
                Some(Some(next)) if next != target => *target = *next,
                _ => return,
            }
        }
    };
    for block in blocks.iter_mut() {
        targets(&mut block.end, follow);
        if let Terminator::Branch { then, otherwise, .. } = block.end
            && then == otherwise
        {
            block.end = Terminator::Jump(then);
        }
    }
}

/// How many jumps reach each block; the entry counts as reached once more.
fn reach(blocks: &[Block]) -> Vec<u32> {
    let mut reached = vec![0u32; blocks.len()];
    let mut open = vec![BlockId(0)];
    if let Some(entry) = reached.first_mut() {
        *entry = 1;
    }
    while let Some(block) = open.pop() {
        let Some(block) = blocks.get(block.0 as usize) else { continue };
        each(&block.end, |target| {
            if let Some(count) = reached.get_mut(target.0 as usize) {
                *count += 1;
                if *count == 1 {
                    open.push(target);
                }
            }
        });
    }
    reached
}

/// Joins a block with the later block that it alone jumps to.
fn join(blocks: &mut [Block], reached: &mut [u32]) {
    for first in 0..blocks.len() {
        if reached.get(first) == Some(&0) {
            continue;
        }
        while let Some(Block { end: Terminator::Jump(next), .. }) = blocks.get(first) {
            let next = next.0 as usize;
            // Only straight ahead, over blocks that are gone: the text's order is what the executor schedules by.
            let adjacent = next > first
                && reached.get(next) == Some(&1)
                && reached.get(first + 1..next).is_some_and(|between| between.iter().all(|count| *count == 0));
            if !adjacent {
                break;
            }
            let (before, after) = blocks.split_at_mut(next);
            let (Some(into), Some(from)) = (before.get_mut(first), after.first_mut()) else { break };
            into.instructions.append(&mut from.instructions);
            into.end = std::mem::replace(&mut from.end, Terminator::Exit);
            if let Some(count) = reached.get_mut(next) {
                *count = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(end: Terminator) -> Block {
        let at = crate::Position::default();
        let instruction = crate::ir::Instruction { guard: None, op: crate::ir::Op::Fence, at };
        Block { instructions: vec![instruction], end }
    }

    #[test]
    fn straight_chains_become_one_block_and_dead_blocks_go() {
        let jump = |target| block(Terminator::Jump(BlockId(target)));
        let blocks = simplify(vec![jump(2), jump(0), jump(3), block(Terminator::Exit)]);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].instructions.len(), 3);
        assert_eq!(blocks[0].end, Terminator::Exit);
    }

    #[test]
    fn a_loop_of_empty_blocks_stays_a_loop() {
        let empty = |target| Block { instructions: Vec::new(), end: Terminator::Jump(BlockId(target)) };
        let blocks = simplify(vec![empty(1), empty(2), empty(1)]);
        assert!(
            blocks
                .iter()
                .all(|block| matches!(block.end, Terminator::Jump(target) if (target.0 as usize) < blocks.len()))
        );
        assert!(!blocks.is_empty());
    }
}
