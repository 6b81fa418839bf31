//! So that somebody big is not starved by a stream of small ones: a place is kept for it while it fills up with free capacity.
//!
//! [`nominate`] picks the node where waiting requests fit soonest, by when the others there are known to end, or else the
//! one where least is missing. The caller [reserves](Inventory::reserve) it: from then on [`place`](crate::place) finds only
//! what is open there, and what is given back goes to who waits. Others may pass nevertheless where that delays nobody:
//! what is left beside the reserved, [`place`](crate::place) gives them; and who ends before the place is needed gets it
//! from [`backfill`].

use std::time::Duration;

use crate::site::Site;
use crate::{Inventory, NodeIndex, Placement, Request, place};

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
            let at_once = (unknown, at, missing) == (false, now, 0);
            if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, placements));
            }
            // No node that comes later has room sooner.
            if at_once {
                break;
            }
        }
    }
    best.map(|((unknown, at, _, _), placements)| Nomination { placements, at: (!unknown).then_some(at) })
}

/// The same for a gang: a place for each of its first members that can have one beside those before it, until there are `minimum`,
/// with its position. `None` where there are not so many even when all is free: then nothing is to be kept for it, or it
/// would keep others from what it can never use. For each member the ways in which it may be served, best first. The
/// inventory is as before afterwards.
///
/// One gang at a time is to have this: of two that each have half of what they need, neither ever has all.
#[must_use]
pub fn nominate_gang(
    inventory: &mut Inventory,
    held: &[Held<'_>],
    members: &[Vec<Vec<Request>>],
    minimum: usize,
    now: Duration,
) -> Option<Vec<(usize, Nomination)>> {
    let soonest = |inventory: &Inventory, requests: &[Request]| nominate(inventory, held, requests, now);
    if let Some(found) = beside_each_other(inventory, members, minimum, soonest) {
        return Some(found);
    }
    // Where those of before have the soonest places, the rest may have none. As if the gang were placed when all is free:
    let mut empty = inventory.clone();
    for one in held {
        empty.give_back(one.placement).ok()?;
    }
    let known = held.iter().map(|one| one.ends).collect::<Option<Vec<Duration>>>();
    let at = known.map(|ends| ends.into_iter().fold(now, Duration::max));
    beside_each_other(&mut empty, members, minimum, |inventory, requests| match requests {
        [request] => place(inventory, request).map(|placement| Nomination { placements: vec![placement], at }),
        _ => nominate(inventory, &[], requests, now).map(|found| Nomination { at, ..found }),
    })
}

/// What is found for members one after the other, each kept for it while the others look.
fn beside_each_other(
    inventory: &mut Inventory,
    members: &[Vec<Vec<Request>>],
    minimum: usize,
    find: impl Fn(&Inventory, &[Request]) -> Option<Nomination>,
) -> Option<Vec<(usize, Nomination)>> {
    let mut found: Vec<(usize, Nomination)> = Vec::new();
    for (position, ways) in members.iter().enumerate() {
        if found.len() >= minimum {
            break;
        }
        let Some(nomination) = ways.iter().find_map(|requests| find(inventory, requests)) else { continue };
        let kept = nomination.placements.iter().map(|placement| inventory.reserve(placement));
        let kept: Result<Vec<()>, _> = kept.collect();
        debug_assert!(kept.is_ok(), "what was found is known: {kept:?}");
        found.push((position, nomination));
    }
    for placement in found.iter().flat_map(|(_, nomination)| &nomination.placements) {
        let given = inventory.unreserve(placement);
        debug_assert!(given.is_ok(), "what was kept is kept no more: {given:?}");
    }
    (found.len() >= minimum).then_some(found)
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
