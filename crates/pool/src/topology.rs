//! Which of a node's fitting GPUs are taken together.
//!
//! Two GPUs are as far apart as their [`Tier`] says, a set as its worst pair. Which node it is, is not a matter of topology
//! unless a request sets a bound that a node cannot keep.
//!
//! A request that wants its GPUs [`near`](Request::near) gets the set that comes first by, in this order:
//! 1. the worst tier of a pair, lower is better;
//! 2. the bandwidth of all links inside the set, more is better;
//! 3. the bandwidth of all links from the set to the node's other fitting GPUs, less is better: what is left over should
//!    still be well connected. For a single GPU this alone counts;
//! 4. the strategy's own order.
//!
//! Any other request gets the first by the strategy's order that keeps its bounds. Up to 2,000 sets are all tried; beyond
//! that, a set is grown from each GPU, one GPU at a time, by the same order.

use serde::{Deserialize, Serialize};

use crate::{GpuIndex, Inventory, NodeIndex, Request};

/// How far apart two GPUs of a node are. Numbers are TensorFusion's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// 0: a direct link.
    Linked,
    /// 1: the same NUMA node.
    SameNuma,
    /// 2: two NUMA nodes.
    CrossNuma,
    /// 3: not known.
    Unknown,
}

const MOST_SETS: u64 = 2_000;

/// What a set is worth; less is better.
type Score = (Tier, u64, u64, u64);

/// Whether a request can fail on a node that has enough fitting GPUs.
pub(crate) fn is_bound(request: &Request) -> bool {
    request.count > 1 && (request.one_numa_node || request.farthest.is_some())
}

/// Chooses among fitting GPUs, which come in the strategy's order. The answer is ascending.
pub(crate) fn choose(
    inventory: &Inventory,
    node: NodeIndex,
    fitting: &[(u32, GpuIndex)],
    request: &Request,
) -> Option<Vec<GpuIndex>> {
    let count = request.count as usize;
    if fitting.len() < count {
        return None;
    }
    let mut chosen: Vec<GpuIndex> = if request.near || is_bound(request) {
        let sets = Sets::new(inventory, node, fitting, request);
        let best = if sets.number(count) <= MOST_SETS { sets.try_all(count) } else { sets.grow_each(count) };
        best?.into_iter().filter_map(|position| fitting.get(position)).map(|&(_, gpu)| gpu).collect()
    } else {
        fitting.iter().take(count).map(|&(_, gpu)| gpu).collect()
    };
    chosen.sort_unstable();
    Some(chosen)
}

struct Sets<'a> {
    request: &'a Request,
    /// For each pair of positions, how far apart they are and what their links carry.
    pairs: Vec<Vec<(Tier, u64)>>,
    numa: Vec<Option<u32>>,
}

impl<'a> Sets<'a> {
    fn new(inventory: &Inventory, node: NodeIndex, fitting: &[(u32, GpuIndex)], request: &'a Request) -> Self {
        let numa: Vec<Option<u32>> =
            fitting.iter().map(|&(_, gpu)| inventory.gpu(gpu).and_then(|gpu| gpu.numa_node)).collect();
        let mut pairs: Vec<Vec<(Tier, u64)>> = numa
            .iter()
            .map(|one| {
                numa.iter()
                    .map(|other| match (one, other) {
                        (Some(one), Some(other)) if one == other => (Tier::SameNuma, 0),
                        (Some(_), Some(_)) => (Tier::CrossNuma, 0),
                        _ => (Tier::Unknown, 0),
                    })
                    .collect()
            })
            .collect();
        let at = |gpu: GpuIndex| fitting.iter().position(|&(_, other)| other == gpu);
        for link in inventory.node(node).map_or(&[][..], |node| &node.links) {
            if let (Some(a), Some(b)) = (at(link.a), at(link.b)) {
                pairs[a][b] = (Tier::Linked, link.megabytes);
                pairs[b][a] = (Tier::Linked, link.megabytes);
            }
        }
        Self { request, pairs, numa }
    }

    /// How many sets there are, or more than [`MOST_SETS`].
    fn number(&self, count: usize) -> u64 {
        let (all, mut sets) = (self.pairs.len() as u64, 1u64);
        for position in 0..count.min(self.pairs.len() - count) as u64 {
            sets = sets * (all - position) / (position + 1);
            if sets > MOST_SETS {
                break;
            }
        }
        sets
    }

    /// What a set of ascending positions is worth, or `None` when it breaks a bound.
    fn score(&self, set: &[usize]) -> Option<Score> {
        let (mut worst, mut inside) = (Tier::Linked, 0u64);
        for (number, &one) in set.iter().enumerate() {
            for &other in set.iter().skip(number + 1) {
                let (tier, megabytes) = self.pairs[one][other];
                worst = worst.max(tier);
                inside = inside.saturating_add(megabytes);
            }
        }
        let first = self.numa[*set.first()?];
        let one_numa = || first.is_some() && set.iter().all(|&position| self.numa[position] == first);
        if set.len() > 1
            && (self.request.farthest.is_some_and(|farthest| worst > farthest)
                || (self.request.one_numa_node && !one_numa()))
        {
            return None;
        }
        let order = set.iter().map(|&position| position as u64).sum();
        if !self.request.near {
            return Some((Tier::Linked, 0, 0, order));
        }
        let all: u64 = set.iter().flat_map(|&one| &self.pairs[one]).map(|&(_, megabytes)| megabytes).sum();
        Some((worst, u64::MAX - inside, all.saturating_sub(inside.saturating_mul(2)), order))
    }

    fn try_all(&self, count: usize) -> Option<Vec<usize>> {
        let all = self.pairs.len();
        let mut set: Vec<usize> = (0..count).collect();
        let mut best: Option<(Score, Vec<usize>)> = None;
        loop {
            if let Some(score) = self.score(&set)
                && best.as_ref().is_none_or(|(found, _)| score < *found)
            {
                best = Some((score, set.clone()));
            }
            // The next set: the last position that can move does, and those after it follow closely.
            let Some(moving) = (0..count).rev().find(|&at| set[at] < all - count + at) else { break };
            set[moving] += 1;
            for at in moving + 1..count {
                set[at] = set[at - 1] + 1;
            }
        }
        best.map(|(_, set)| set)
    }

    fn grow_each(&self, count: usize) -> Option<Vec<usize>> {
        let mut best: Option<(Score, Vec<usize>)> = None;
        for seed in 0..self.pairs.len() {
            let mut set = vec![seed];
            while set.len() < count {
                let next = (0..self.pairs.len()).filter(|position| !set.contains(position)).filter_map(|position| {
                    let mut larger = set.clone();
                    larger.push(position);
                    larger.sort_unstable();
                    self.score(&larger).map(|score| (score, larger))
                });
                let Some((_, larger)) = next.min() else { break };
                set = larger;
            }
            if set.len() == count
                && let Some(score) = self.score(&set)
                && best.as_ref().is_none_or(|(found, _)| score < *found)
            {
                best = Some((score, set));
            }
        }
        best.map(|(_, set)| set)
    }
}
