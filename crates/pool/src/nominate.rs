//! So that somebody big is not starved by a stream of small ones: a place is kept for it while it fills up with free capacity.
//!
//! [`nominate`] picks the node where a waiting request fits soonest, by when the others there are known to end, or else the
//! one where least is missing. The caller [reserves](Inventory::reserve) it: from then on [`place`](crate::place) finds only
//! what is open there, and what is given back goes to who waits. Others may pass nevertheless where that delays nobody:
//! what is left beside the reserved, [`place`](crate::place) gives them; and who ends before the place is needed gets it
//! from [`backfill`].

use std::time::Duration;

use crate::explain::{State, unsuited};
use crate::{GpuIndex, Inventory, NodeIndex, Placement, Request, topology};

/// A place that is kept for a waiting request.
#[derive(Clone, Debug, PartialEq)]
pub struct Nomination {
    /// What to [reserve](Inventory::reserve).
    pub placement: Placement,
    /// When all of it is free at the latest; `None`: nobody knows.
    pub at: Option<Duration>,
}

/// A share that is given out, and when it is given back, if that is known.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The share.
    pub placement: &'a Placement,
    /// When it ends.
    pub ends: Option<Duration>,
}

/// The place where a request that fits nowhere now fits soonest, or `None`: it fits nowhere even when all is free. What is
/// reserved already stays so. Linear in the number of GPUs and of those who hold some.
#[must_use]
pub fn nominate(inventory: &Inventory, held: &[Held<'_>], request: &Request, now: Duration) -> Option<Nomination> {
    let mut by_node: Vec<Vec<Held<'_>>> = vec![Vec::new(); inventory.nodes().len()];
    for &one in held {
        if let Some(list) = by_node.get_mut(one.placement.node.0 as usize) {
            list.push(one);
        }
    }
    let mut best: Option<((bool, Duration, u64, NodeIndex), Placement)> = None;
    for (number, mut list) in (0..).zip(by_node) {
        let node = NodeIndex(number);
        // Who ends at an unknown time comes last, the smallest first: least is missing without it.
        list.sort_by_key(|one| (one.ends.is_none(), one.ends, one.placement.amount.vram));
        let mut states = states(inventory, node);
        let mut found = fit(inventory, node, &states, request).map(|placement| ((false, now, 0), placement));
        let mut missing = 0;
        for one in list {
            if found.is_some() {
                break;
            }
            for (index, state) in &mut states {
                if let Some(gpu) = inventory.gpu(*index).filter(|_| one.placement.gpus.contains(index)) {
                    *state = state.without(gpu, one.placement);
                    if one.ends.is_none() {
                        missing += u64::from(one.placement.amount.share_of(gpu.capacity));
                    }
                }
            }
            let rank = (one.ends.is_none(), one.ends.unwrap_or_default().max(now), missing);
            found = fit(inventory, node, &states, request).map(|placement| (rank, placement));
        }
        if let Some(((unknown, at, missing), placement)) = found {
            let rank = (unknown, if unknown { Duration::ZERO } else { at }, missing, node);
            if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, placement));
            }
        }
    }
    best.map(|((unknown, at, _, _), placement)| Nomination { placement, at: (!unknown).then_some(at) })
}

/// A place for a request that ends at a known time, on GPUs that are kept for others who will not need them before. Ask
/// [`place`](crate::place) first.
#[must_use]
pub fn backfill(
    inventory: &Inventory,
    request: &Request,
    ends: Duration,
    nominations: &[Nomination],
) -> Option<Placement> {
    let mut nodes: Vec<NodeIndex> = inventory.kept().filter_map(|gpu| inventory.gpu(gpu)).map(|gpu| gpu.node).collect();
    nodes.dedup();
    nodes.into_iter().find_map(|node| {
        let mut states = states(inventory, node);
        for later in nominations.iter().filter(|one| one.at.is_some_and(|at| at >= ends)) {
            for (index, state) in states.iter_mut().filter(|(index, _)| later.placement.gpus.contains(index)) {
                if let Some(gpu) = inventory.gpu(*index) {
                    *state = state.unreserved(gpu, &later.placement);
                }
            }
        }
        fit(inventory, node, &states, request)
    })
}

fn states(inventory: &Inventory, node: NodeIndex) -> Vec<(GpuIndex, State)> {
    let gpus = inventory.node(node).map_or(&[][..], |node| &node.gpus);
    gpus.iter().filter_map(|&index| Some((index, State::of(inventory.gpu(index)?)))).collect()
}

/// Where a request fits on a node in a state that may be.
fn fit(inventory: &Inventory, node: NodeIndex, states: &[(GpuIndex, State)], request: &Request) -> Option<Placement> {
    let mut fitting: Vec<(u32, GpuIndex)> = Vec::new();
    for (index, state) in states {
        let gpu = inventory.gpu(*index)?;
        if unsuited(inventory, gpu, request).is_none() && state.refusal(gpu, request).is_none() {
            fitting.push((state.free.saturating_sub(state.reserved).share_of(gpu.capacity), *index));
        }
    }
    fitting.sort_unstable();
    let gpus = topology::choose(inventory, node, &fitting, request)?;
    Some(Placement {
        node,
        gpus,
        amount: request.amount,
        exclusive: request.takes_whole(),
        guaranteed: request.is_guaranteed(),
    })
}
