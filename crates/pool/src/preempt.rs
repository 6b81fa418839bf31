//! Who has to go so that somebody more important finds a place.
//!
//! Only holders of a lower QoS class are ever evicted, never an equal; none within its eviction protection; and no more in a
//! window of time than the budgets of the pool and of the holder's namespace allow. All that goes must lie on the node where
//! the request then fits.
//!
//! Among the sets of victims with which a request fits, the first counts by, in this order:
//! 1. the QoS class of the most important victim, lower is better;
//! 2. the number of victims;
//! 3. what is evicted, the sum of its [shares](Amount::share_of) of its GPUs: less is better;
//! 4. how long the victims have run: less lost work is better;
//! 5. the node's position, then the victims' positions.
//!
//! On a node with up to ten holders that may go, all sets are compared. On a node with more, all go at first, and then each,
//! most important first, stays if the request fits nevertheless; so no victim of the set could stay.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use types::Qos;

use crate::explain::{State, unsuited};
use crate::{Amount, GpuIndex, Inventory, NodeIndex, Placement, Request, place, topology};

/// Somebody who holds GPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// Name, for people.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Class.
    pub qos: Qos,
    /// What it holds, all on one node.
    pub placements: Vec<Placement>,
    /// When it came, on the caller's clock.
    pub since: Duration,
    /// How long from then nobody may evict it.
    pub protection: Duration,
}

/// How many may be evicted within a window of time. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionLimits {
    /// The window.
    pub window: Duration,
    /// Of each pool.
    pub pool: Option<u32>,
    /// Of each namespace.
    pub namespace: Option<u32>,
}

/// What was evicted lately, against the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    limits: EvictionLimits,
    /// When, of which pool, of which namespace.
    evicted: VecDeque<(Duration, String, String)>,
}

impl Budgets {
    /// Budgets of which nothing is used.
    #[must_use]
    pub fn new(limits: EvictionLimits) -> Self {
        Self { limits, evicted: VecDeque::new() }
    }

    /// Notes an eviction. Times do not go backwards.
    pub fn note(&mut self, pool: &str, namespace: &str, now: Duration) {
        while self.evicted.front().is_some_and(|(at, _, _)| *at + self.limits.window <= now) {
            self.evicted.pop_front();
        }
        self.evicted.push_back((now, pool.to_owned(), namespace.to_owned()));
    }

    fn left(&self, limit: Option<u32>, now: Duration, same: impl Fn(&(Duration, String, String)) -> bool) -> u32 {
        let recent = self.evicted.iter().filter(|one| one.0 + self.limits.window > now && same(one)).count();
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(u32::try_from(recent).unwrap_or(u32::MAX)))
    }

    /// How many more of a pool may be evicted now.
    #[must_use]
    pub fn left_of_pool(&self, pool: &str, now: Duration) -> u32 {
        self.left(self.limits.pool, now, |one| one.1 == pool)
    }

    /// How many more of a namespace may be evicted now.
    #[must_use]
    pub fn left_of_namespace(&self, namespace: &str, now: Duration) -> u32 {
        self.left(self.limits.namespace, now, |one| one.2 == namespace)
    }
}

/// What a set of victims costs; the least is chosen. See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// The class of the most important victim.
    pub worst: Qos,
    /// Victims.
    pub victims: usize,
    /// Their shares of their GPUs together, in parts per million of a GPU.
    pub shares: u64,
    /// How long they have run, together.
    pub lost: Duration,
}

/// Who has to go, and where the request then fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// Where the request fits once the victims are gone: [reserve](Inventory::reserve) it until then.
    pub placement: Placement,
    /// Positions among the holders, ascending.
    pub victims: Vec<usize>,
    /// What that costs.
    pub cost: Cost,
    /// One sentence for people: who goes from where, and why them.
    pub explanation: String,
}

/// Nobody can be evicted for a request, and why: every holder counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "of {holders} who hold GPUs, {not_lower} are not of a lower QoS class, {protected} are protected from eviction, \
     {over_budget} are beyond the budget of evictions, and evicting the other {not_enough} makes no node fit"
)]
pub struct Unpreempted {
    /// All holders.
    pub holders: usize,
    /// Of an equal or a higher class.
    pub not_lower: usize,
    /// Within their protection.
    pub protected: usize,
    /// Of a pool or namespace whose budget is spent.
    pub over_budget: usize,
    /// Could go, but the request would not fit.
    pub not_enough: usize,
}

/// Finds who has to go for a request. Changes nothing, so it is its own dry run. Linear in the number of holders.
///
/// # Errors
/// Nobody may go, or it would not help.
pub fn preempt(
    inventory: &Inventory,
    holders: &[Holder],
    request: &Request,
    budgets: &Budgets,
    now: Duration,
) -> Result<Preemption, Unpreempted> {
    if let Some(placement) = place(inventory, request) {
        let cost = Cost { worst: Qos::Low, victims: 0, shares: 0, lost: Duration::ZERO };
        let explanation = "it fits without evicting anybody".to_owned();
        return Ok(Preemption { placement, victims: Vec::new(), cost, explanation });
    }
    let mut why = Unpreempted { holders: holders.len(), ..Unpreempted::default() };
    let mut by_node: BTreeMap<NodeIndex, Vec<usize>> = BTreeMap::new();
    let mut left: BTreeMap<&str, u32> = BTreeMap::new();
    for (position, holder) in holders.iter().enumerate() {
        let Some(node) = holder.placements.first().map(|placement| placement.node) else { continue };
        let pool = pool_of(inventory, node);
        let of_namespace =
            left.entry(&holder.namespace).or_insert_with(|| budgets.left_of_namespace(&holder.namespace, now));
        if holder.qos >= request.qos {
            why.not_lower += 1;
        } else if now < holder.since.saturating_add(holder.protection) {
            why.protected += 1;
        } else if *of_namespace == 0 || budgets.left_of_pool(pool, now) == 0 {
            why.over_budget += 1;
        } else {
            why.not_enough += 1;
            by_node.entry(node).or_default().push(position);
        }
    }
    let mut best: Option<(Cost, Vec<usize>, Placement)> = None;
    for (node, candidates) in by_node {
        let allowed = budgets.left_of_pool(pool_of(inventory, node), now) as usize;
        let trial = Trial { inventory, holders, request, node, namespaces: &left, allowed, now };
        let bound = best.as_ref().map(|best| best.0);
        let found = if candidates.len() <= MOST_COMPARED {
            trial.compare_all(&candidates, bound)
        } else {
            trial.reprieve(candidates)
        };
        if let Some(found) = found.filter(|found| bound.is_none_or(|bound| found.0 < bound)) {
            best = Some(found);
        }
    }
    let (cost, victims, placement) = best.ok_or(why)?;
    let names: Vec<String> = victims
        .iter()
        .filter_map(|&victim| holders.get(victim))
        .map(|holder| format!("{}/{} ({})", holder.namespace, holder.name, holder.qos))
        .collect();
    let node = inventory.node(placement.node).map_or("", |node| &node.name);
    let explanation = format!(
        "evicting {} from node {node} makes room for {} GPUs with {}: of all sets that do, none has a less important \
         most important member, then fewer members, then holds less, then has run for less time",
        names.join(", "),
        request.count,
        request.amount
    );
    Ok(Preemption { placement, victims, cost, explanation })
}

const MOST_COMPARED: usize = 10;

fn pool_of(inventory: &Inventory, node: NodeIndex) -> &str {
    let first = inventory.node(node).and_then(|node| node.gpus.first()).and_then(|&gpu| inventory.gpu(gpu));
    first.map_or("", |gpu| &gpu.pool)
}

/// One node, and what would be on it.
struct Trial<'a> {
    inventory: &'a Inventory,
    holders: &'a [Holder],
    request: &'a Request,
    node: NodeIndex,
    namespaces: &'a BTreeMap<&'a str, u32>,
    allowed: usize,
    now: Duration,
}

impl Trial<'_> {
    fn cost(&self, victims: &[usize]) -> Cost {
        let mut cost = Cost { worst: Qos::Low, victims: victims.len(), shares: 0, lost: Duration::ZERO };
        for holder in victims.iter().filter_map(|&victim| self.holders.get(victim)) {
            cost.worst = cost.worst.max(holder.qos);
            cost.lost = cost.lost.saturating_add(self.now.saturating_sub(holder.since));
            for placement in &holder.placements {
                for gpu in placement.gpus.iter().filter_map(|&gpu| self.inventory.gpu(gpu)) {
                    let amount = if placement.exclusive { gpu.capacity } else { placement.amount };
                    cost.shares += u64::from(amount.share_of(gpu.capacity));
                }
            }
        }
        cost
    }

    /// Whether the budgets allow these victims together.
    fn affordable(&self, victims: &[usize]) -> bool {
        let mut of_namespace: BTreeMap<&str, u32> = BTreeMap::new();
        for holder in victims.iter().filter_map(|&victim| self.holders.get(victim)) {
            *of_namespace.entry(&holder.namespace).or_default() += 1;
        }
        victims.len() <= self.allowed
            && of_namespace
                .iter()
                .all(|(namespace, count)| self.namespaces.get(namespace).is_none_or(|allowed| count <= allowed))
    }

    /// Where the request fits on the node without these victims.
    fn fit(&self, victims: &[usize]) -> Option<Placement> {
        let mut fitting: Vec<(u32, GpuIndex)> = Vec::new();
        for &index in &self.inventory.node(self.node)?.gpus {
            let Some(gpu) = self.inventory.gpu(index) else { continue };
            let mut state = State::of(gpu);
            let gone = victims.iter().filter_map(|&victim| self.holders.get(victim));
            for placement in gone.flat_map(|holder| &holder.placements).filter(|one| one.gpus.contains(&index)) {
                state = state.without(gpu, placement);
            }
            if unsuited(self.inventory, gpu, self.request).is_none() && state.refusal(gpu, self.request).is_none() {
                fitting.push((state.free.saturating_sub(state.reserved).share_of(gpu.capacity), index));
            }
        }
        fitting.sort_unstable();
        let gpus = topology::choose(self.inventory, self.node, &fitting, self.request)?;
        Some(Placement {
            node: self.node,
            gpus,
            amount: self.request.amount,
            exclusive: self.request.takes_whole(),
            guaranteed: self.request.is_guaranteed(),
        })
    }

    /// The cheapest set, if it is cheaper than `bound`.
    fn compare_all(&self, candidates: &[usize], bound: Option<Cost>) -> Option<(Cost, Vec<usize>, Placement)> {
        self.fit(candidates)?;
        let mut best: Option<(Cost, Vec<usize>, Placement)> = None;
        for set in 1u32..1 << candidates.len() {
            let bound = best.as_ref().map(|best| best.0).or(bound);
            // With fewer victims the class may still be worse, so only more of the lowest class are out at once.
            if bound.is_some_and(|bound| bound.worst == Qos::Low && set.count_ones() as usize > bound.victims) {
                continue;
            }
            let members = candidates.iter().enumerate().filter(|(position, _)| set >> position & 1 == 1);
            let victims: Vec<usize> = members.map(|(_, &victim)| victim).collect();
            let cost = self.cost(&victims);
            if bound.is_some_and(|bound| cost >= bound) || !self.affordable(&victims) {
                continue;
            }
            if let Some(placement) = self.fit(&victims) {
                best = Some((cost, victims, placement));
            }
        }
        best
    }

    /// All go, and who can stay does.
    fn reprieve(&self, mut victims: Vec<usize>) -> Option<(Cost, Vec<usize>, Placement)> {
        self.fit(&victims)?;
        let mut order = victims.clone();
        order.sort_by_key(|&victim| {
            let holder = self.holders.get(victim);
            (std::cmp::Reverse(holder.map(|holder| holder.qos)), holder.map(|holder| holder.since), victim)
        });
        for one in order {
            let fewer: Vec<usize> = victims.iter().copied().filter(|&victim| victim != one).collect();
            if self.fit(&fewer).is_some() {
                victims = fewer;
            }
        }
        let placement = self.fit(&victims)?;
        self.affordable(&victims).then(|| (self.cost(&victims), victims, placement))
    }
}

/// What is held, as [`Amount`]s of all its GPUs: for a bill or a table.
impl Holder {
    /// The sum over all GPUs.
    #[must_use]
    pub fn total(&self) -> Amount {
        let each = self.placements.iter().map(|one| (one.amount, one.gpus.len()));
        each.fold(Amount::default(), |sum, (amount, gpus)| (0..gpus).fold(sum, |sum, _| sum.saturating_add(amount)))
    }
}
