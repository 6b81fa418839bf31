//! So that somebody big is not starved by a stream of small ones: a place is kept for it while it fills up with free capacity.
//!
//! [`nominate`] picks the node where waiting requests fit soonest, by when the others there are known to end, or else the
//! one where least is missing. The caller [reserves](Inventory::reserve) it: from then on [`place`](crate::place) finds only
//! what is open there, and what is given back goes to who waits. Others may pass nevertheless where that delays nobody:
//! what is left beside the reserved, [`place`](crate::place) gives them; and who ends before the place is needed gets it
//! from [`backfill`].

use std::time::Duration;

use crate::site::Site;
use crate::{Inventory, NodeIndex, Placement, Request};

/// A place that is kept for who waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Nomination {
    /// What to [reserve](Inventory::reserve): one for each request, all on one node.
    pub placements: Vec<Placement>,
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

/// How soon a node has room: whether that is unknown, when it is, what is missing, and which node it is.
type Rank = (bool, Duration, u64, NodeIndex);

/// The node where requests that fit nowhere together now do so soonest, or `None`: they fit nowhere even when all is free.
/// What is reserved already stays so. Linear in the number of GPUs and of those who hold some.
#[must_use]
pub fn nominate(inventory: &Inventory, held: &[Held<'_>], requests: &[Request], now: Duration) -> Option<Nomination> {
    let mut by_node: Vec<Vec<Held<'_>>> = vec![Vec::new(); inventory.nodes().len()];
    for &one in held {
        if let Some(list) = by_node.get_mut(one.placement.node.0 as usize) {
            list.push(one);
        }
    }
    let mut best: Option<(Rank, Vec<Placement>)> = None;
    for (number, mut list) in (0..).zip(by_node) {
        let node = NodeIndex(number);
        let Some(site) = Site::new(inventory, node, requests) else { continue };
        // Who ends at an unknown time comes last, the smallest first: least is missing without it.
        list.sort_by_key(|one| (one.ends.is_none(), one.ends, one.placement.amount.vram));
        let mut states = site.states();
        let mut found = site.fit(states.clone()).map(|placements| ((false, now, 0), placements));
        let mut missing = 0;
        for one in list {
            if found.is_some() {
                break;
            }
            site.without(&mut states, one.placement);
            if one.ends.is_none() {
                let gpus = one.placement.gpus.iter().filter_map(|&gpu| inventory.gpu(gpu));
                missing += gpus.map(|gpu| u64::from(one.placement.amount.share_of(gpu.capacity))).sum::<u64>();
            }
            let rank = (one.ends.is_none(), one.ends.unwrap_or_default().max(now), missing);
            found = site.fit(states.clone()).map(|placements| (rank, placements));
        }
        if let Some(((unknown, at, missing), placements)) = found {
            let rank = (unknown, if unknown { Duration::ZERO } else { at }, missing, node);
            if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, placements));
            }
        }
    }
    best.map(|((unknown, at, _, _), placements)| Nomination { placements, at: (!unknown).then_some(at) })
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
        let site = Site::new(inventory, node, std::slice::from_ref(request))?;
        let mut states = site.states();
        for later in nominations.iter().filter(|one| one.at.is_some_and(|at| at >= ends)) {
            for kept in &later.placements {
                site.unreserved(&mut states, kept);
            }
        }
        site.fit(states)?.pop()
    })
}
