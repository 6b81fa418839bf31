//! Operations among the lanes of a warp.

use super::{Context, Site, lanes_of, mask_of, operation, read};
use crate::exec::site::{bytes, slot, width_of};
use crate::ir::{AtomicOp, Op, ShuffleMode, Type, VoteMode, Width};

unsafe fn word(data: *const u8, i: usize, lane: usize) -> u32 {
    // SAFETY: the slot holds 32 words.
    unsafe { data.add(slot(i) + 4 * lane).cast::<u32>().read() }
}

unsafe fn set_word(data: *mut u8, i: usize, lane: usize, v: u32) {
    // SAFETY: the slot holds 32 words.
    unsafe { data.add(slot(i) + 4 * lane).cast::<u32>().write(v) };
}

/// Where a lane of `shfl.sync` reads, and whether that is inside its segment.
pub(in crate::exec) fn shuffle_source(mode: ShuffleMode, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (l, b) = (lane, b & 31);
    let (limit, segment) = (c & 31, c >> 8 & 31);
    let highest = l & segment | limit & !segment;
    let (j, inside) = match mode {
        ShuffleMode::Up => (l.wrapping_sub(b), l as i32 - b as i32 >= highest as i32),
        ShuffleMode::Down => (l + b, l + b <= highest),
        ShuffleMode::Bfly => (l ^ b, l ^ b <= highest),
        ShuffleMode::Idx => {
            let j = l & segment | b & !segment;
            (j, j <= highest)
        }
    };
    (if inside { j & 31 } else { l }, inside)
}

/// `shfl.sync`.
pub(super) unsafe extern "C" fn shuffle(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::Shuffle { mode, .. } = op else { return };
    // SAFETY: generated code has put the mask there.
    let active = unsafe { mask_of(data) };
    let mut holds = 0u32;
    for lane in lanes_of(active) {
        // SAFETY: operands are in slots 1 and 2.
        let (b, c) = unsafe { (word(data, 1, lane) & 31, word(data, 2, lane)) };
        let (from, inside) = shuffle_source(*mode, lane as u32, b, c);
        holds |= u32::from(inside) << lane;
        // SAFETY: the values are in slot 0, the result's slot is 4.
        unsafe { set_word(data, 4, lane, word(data, 0, from as usize)) };
    }
    // SAFETY: the predicate's slot is 5.
    unsafe { set_word(data, 5, 0, holds) };
}

/// Calls `f` with each group of active lanes that name the same members: the group, and the lowest lane.
unsafe fn groups(data: *const u8, members_slot: usize, active: u32, mut f: impl FnMut(u32)) {
    let mut left = active;
    while left != 0 {
        let lane = left.trailing_zeros() as usize;
        // SAFETY: the slot holds 32 masks.
        let members = unsafe { word(data, members_slot, lane) };
        let group = (members & left) | 1 << lane;
        f(group);
        left &= !group;
    }
}

/// `vote.sync` of lanes that may name different members.
pub(super) unsafe extern "C" fn vote(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::Vote { mode, .. } = op else { return };
    // SAFETY: generated code has put the mask there, the predicate in slot 0.
    let (active, holds) = unsafe { (mask_of(data), word(data, 0, 0)) };
    let mut result = 0u32;
    let mut each = |group: u32| {
        let yes = holds & group;
        let hit = match mode {
            VoteMode::All => yes == group,
            VoteMode::Any => yes != 0,
            VoteMode::Uni => yes == 0 || yes == group,
            VoteMode::Ballot => {
                // SAFETY: the result's slot is 2.
                lanes_of(group).for_each(|lane| unsafe { set_word(data, 2, lane, yes) });
                false
            }
        };
        if hit {
            result |= group;
        }
    };
    // SAFETY: members are in slot 1.
    unsafe { groups(data, 1, active, &mut each) };
    if *mode != VoteMode::Ballot {
        // SAFETY: as above.
        unsafe { set_word(data, 2, 0, result) };
    }
}

/// `match.any` and `match.all`.
pub(super) unsafe extern "C" fn matching(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::Match { all, ty, .. } = op else { return };
    let width = bytes(width_of(*ty));
    // SAFETY: generated code has put the mask there.
    let active = unsafe { mask_of(data) };
    // SAFETY: values are in slot 0.
    let value = |lane: usize| unsafe { read(data.add(slot(0) + width * lane), width) };
    let mut holds = 0u32;
    let mut each = |group: u32| {
        let first = group.trailing_zeros() as usize;
        for lane in lanes_of(group) {
            let same = lanes_of(group).filter(|l| value(*l) == value(lane)).fold(0u32, |m, l| m | 1 << l);
            let result = if !*all {
                same
            } else if same == group && value(first) == value(lane) {
                holds |= 1 << lane;
                group
            } else {
                0
            };
            // SAFETY: the result's slot is 2.
            unsafe { set_word(data, 2, lane, result) };
        }
    };
    // SAFETY: members are in slot 1.
    unsafe { groups(data, 1, active, &mut each) };
    // SAFETY: the predicate's slot is 3.
    unsafe { set_word(data, 3, 0, holds) };
}

/// `redux.sync`.
pub(super) unsafe extern "C" fn redux(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::Redux { op, ty, .. } = op else { return };
    // SAFETY: generated code has put the mask there.
    let active = unsafe { mask_of(data) };
    let mut each = |group: u32| {
        // SAFETY: values are in slot 0.
        let values = lanes_of(group).map(|lane| unsafe { word(data, 0, lane) });
        let result = values.reduce(|x, y| match (op, ty) {
            (AtomicOp::Add, _) => x.wrapping_add(y),
            (AtomicOp::And, _) => x & y,
            (AtomicOp::Or, _) => x | y,
            (AtomicOp::Xor, _) => x ^ y,
            (AtomicOp::Min, Type::S32) => (x as i32).min(y as i32) as u32,
            (AtomicOp::Max, Type::S32) => (x as i32).max(y as i32) as u32,
            (AtomicOp::Min, Type::F32) => f32::from_bits(x).min(f32::from_bits(y)).to_bits(),
            (AtomicOp::Max, Type::F32) => f32::from_bits(x).max(f32::from_bits(y)).to_bits(),
            (AtomicOp::Min, _) => x.min(y),
            _ => x.max(y),
        });
        // Every lane of the group gets it; the first slot serves uniform results.
        let result = result.unwrap_or(0);
        // SAFETY: the result's slot is 2.
        lanes_of(group).for_each(|lane| unsafe { set_word(data, 2, lane, result) });
        if group == active {
            // SAFETY: as above.
            unsafe { set_word(data, 2, 0, result) };
        }
    };
    // SAFETY: members are in slot 1.
    unsafe { groups(data, 1, active, &mut each) };
}

/// `elect.sync`: the lowest member leads.
pub(super) unsafe extern "C" fn elect(_: *mut Context, site: *const Site, data: *mut u8) {
    let (_, _, results) = operation(site);
    // SAFETY: generated code has put the mask there.
    let active = unsafe { mask_of(data) };
    let mut leaders = 0u32;
    let both = results.len() == 2 && results[0] != Width::Pred;
    let mut each = |group: u32| {
        let leader = group.trailing_zeros();
        leaders |= 1 << leader;
        if both {
            // SAFETY: the lane's slot is 1.
            lanes_of(group).for_each(|lane| unsafe { set_word(data, 1, lane, leader) });
            if group == active {
                // SAFETY: as above.
                unsafe { set_word(data, 1, 0, leader) };
            }
        }
    };
    // SAFETY: members are in slot 0.
    unsafe { groups(data, 0, active, &mut each) };
    // SAFETY: the predicate's slot follows the lane's.
    unsafe { set_word(data, if both { 2 } else { 1 }, 0, leaders) };
}
