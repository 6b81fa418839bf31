//! Who has to go so that somebody more important finds a place.
//!
//! Only holders of a lower QoS class are ever evicted, never an equal; none within its eviction protection; and no more in a
//! window of time than the budgets of the pool and of the holder's namespace allow. What they hold on the node where the
//! request then fits makes the room; who is leaving already makes room there too, and costs nothing.
//!
//! Of a gang, no more may go than it can spare, or all of it, wherever its members are.
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

use crate::explain::State;
use crate::site::Site;
use crate::{Amount, Inventory, NodeIndex, Placement, Request, place};

/// Somebody who holds GPUs.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// It is going anyway: its room counts as free, and it as no victim.
    pub leaving: bool,
    /// The gang that it is of.
    pub gang: Option<Membership>,
}

/// A holder's part in a gang. The same for all its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which gang.
    pub gang: usize,
    /// Members beyond its minimum, of those that are not leaving.
    pub spare: usize,
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
    /// Where the requests fit once the victims are gone, one for each: [reserve](Inventory::reserve) them until then.
    pub placements: Vec<Placement>,
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
    /// Could go or are leaving, but the request would not fit.
    pub not_enough: usize,
}

/// Finds who has to go so that requests find a place together on one node. Changes nothing, so it is its own dry run. Linear
/// in the number of holders. The class that counts is that of the first request.
///
/// # Errors
/// Nobody may go, or it would not help.
pub fn preempt(
    inventory: &Inventory,
    holders: &[Holder],
    requests: &[Request],
    budgets: &Budgets,
    now: Duration,
) -> Result<Preemption, Unpreempted> {
    if let [request] = requests
        && let Some(placement) = place(inventory, request)
    {
        let cost = Cost { worst: Qos::Low, victims: 0, shares: 0, lost: Duration::ZERO };
        let explanation = "it fits without evicting anybody".to_owned();
        return Ok(Preemption { placements: vec![placement], victims: Vec::new(), cost, explanation });
    }
    let qos = requests.first().map(|request| request.qos).unwrap_or_default();
    let mut why = Unpreempted { holders: holders.len(), ..Unpreempted::default() };
    let mut by_node: BTreeMap<NodeIndex, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    let mut left: BTreeMap<&str, u32> = BTreeMap::new();
    let mut may_go = vec![false; holders.len()];
    let mut gangs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (position, holder) in holders.iter().enumerate() {
        let Some(node) = holder.placements.first().map(|placement| placement.node) else { continue };
        if holder.leaving {
            why.not_enough += 1;
            by_node.entry(node).or_default().1.push(position);
            continue;
        }
        if let Some(membership) = holder.gang {
            gangs.entry(membership.gang).or_default().push(position);
        }
        let pool = pool_of(inventory, node);
        let of_namespace =
            left.entry(&holder.namespace).or_insert_with(|| budgets.left_of_namespace(&holder.namespace, now));
        if holder.qos >= qos {
            why.not_lower += 1;
        } else if now < holder.since.saturating_add(holder.protection) {
            why.protected += 1;
        } else if *of_namespace == 0 || budgets.left_of_pool(pool, now) == 0 {
            why.over_budget += 1;
        } else {
            why.not_enough += 1;
            may_go[position] = true;
            by_node.entry(node).or_default().0.push(position);
        }
    }
    let mut best: Option<(Cost, Vec<usize>, Vec<Placement>)> = None;
    for (node, (candidates, leaving)) in by_node {
        let Some(site) = Site::new(inventory, node, requests) else { continue };
        let allowed = budgets.left_of_pool(pool_of(inventory, node), now) as usize;
        let mut states = site.states();
        for placement in leaving.iter().filter_map(|&one| holders.get(one)).flat_map(|holder| &holder.placements) {
            site.without(&mut states, placement);
        }
        let (namespaces, gangs, may_go) = (&left, &gangs, &may_go);
        let trial = Trial { inventory, holders, site, states, namespaces, gangs, may_go, allowed, now };
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
    let (cost, victims, placements) = best.ok_or(why)?;
    let explanation = explain(inventory, holders, requests, &victims, &placements);
    Ok(Preemption { placements, victims, cost, explanation })
}

fn explain(
    inventory: &Inventory,
    holders: &[Holder],
    requests: &[Request],
    victims: &[usize],
    placements: &[Placement],
) -> String {
    let node = placements.first().and_then(|placement| inventory.node(placement.node)).map_or("", |node| &node.name);
    if victims.is_empty() {
        return format!("it fits on node {node} once those are gone that leave it");
    }
    let names: Vec<String> = victims
        .iter()
        .filter_map(|&victim| holders.get(victim))
        .map(|holder| format!("{}/{} ({})", holder.namespace, holder.name, holder.qos))
        .collect();
    let asked: Vec<String> =
        requests.iter().map(|request| format!("{} GPUs with {}", request.count, request.amount)).collect();
    format!(
        "evicting {} from node {node} makes room for {}: of all sets that do, none has a less important \
         most important member, then fewer members, then holds less, then has run for less time",
        names.join(", "),
        asked.join(" and "),
    )
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
    site: Site<'a>,
    /// Without those who leave anyway.
    states: Vec<State>,
    namespaces: &'a BTreeMap<&'a str, u32>,
    /// Members of each gang, those who leave left out.
    gangs: &'a BTreeMap<usize, Vec<usize>>,
    may_go: &'a [bool],
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

    /// The victims with the rest of every gang that cannot spare so many. `None` where such a gang may not go as a whole.
    fn whole(&self, mut victims: Vec<usize>) -> Option<Vec<usize>> {
        let mut lost: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for membership in victims.iter().filter_map(|&victim| self.holders.get(victim)?.gang) {
            lost.entry(membership.gang).or_insert((0, membership.spare)).0 += 1;
        }
        for (gang, _) in lost.into_iter().filter(|(_, (lost, spare))| lost > spare) {
            let members = self.gangs.get(&gang)?;
            if !members.iter().all(|&member| self.may_go.get(member) == Some(&true)) {
                return None;
            }
            victims.extend(members);
        }
        victims.sort_unstable();
        victims.dedup();
        Some(victims)
    }

    /// Where the requests fit on the node without these victims.
    fn fit(&self, victims: &[usize]) -> Option<Vec<Placement>> {
        let mut states = self.states.clone();
        for holder in victims.iter().filter_map(|&victim| self.holders.get(victim)) {
            for placement in &holder.placements {
                self.site.without(&mut states, placement);
            }
        }
        self.site.fit(states)
    }

    /// The cheapest set, if it is cheaper than `bound`.
    fn compare_all(&self, candidates: &[usize], bound: Option<Cost>) -> Option<(Cost, Vec<usize>, Vec<Placement>)> {
        self.fit(candidates)?;
        let least = candidates.iter().filter_map(|&one| self.holders.get(one)).map(|holder| holder.qos).min();
        let mut best: Option<(Cost, Vec<usize>, Vec<Placement>)> = None;
        for set in 0u32..1 << candidates.len() {
            let bound = best.as_ref().map(|best| best.0).or(bound);
            // With fewer victims the class may still be worse, so only more of the lowest class are out at once.
            if bound.is_some_and(|bound| Some(bound.worst) <= least && set.count_ones() as usize > bound.victims) {
                continue;
            }
            let members = candidates.iter().enumerate().filter(|(position, _)| set >> position & 1 == 1);
            let Some(victims) = self.whole(members.map(|(_, &victim)| victim).collect()) else { continue };
            let cost = self.cost(&victims);
            if bound.is_some_and(|bound| cost >= bound) || !self.affordable(&victims) {
                continue;
            }
            if let Some(placements) = self.fit(&victims) {
                best = Some((cost, victims, placements));
            }
        }
        best
    }

    /// All go, and who can stay does.
    fn reprieve(&self, candidates: Vec<usize>) -> Option<(Cost, Vec<usize>, Vec<Placement>)> {
        let mut victims = self.removable(candidates);
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
        let victims = self.whole(victims)?;
        let placements = self.fit(&victims)?;
        self.affordable(&victims).then(|| (self.cost(&victims), victims, placements))
    }

    /// Those that can go together: of a gang that may not go as a whole, as many as it can spare.
    fn removable(&self, candidates: Vec<usize>) -> Vec<usize> {
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        let mut going = Vec::new();
        for candidate in candidates {
            if let Some(membership) = self.holders.get(candidate).and_then(|holder| holder.gang) {
                let members = self.gangs.get(&membership.gang).map(Vec::as_slice).unwrap_or_default();
                let may_all = members.iter().all(|&member| self.may_go.get(member) == Some(&true));
                let taken = taken.entry(membership.gang).or_default();
                if !may_all && *taken >= membership.spare {
                    continue;
                }
                *taken += 1;
            }
            going.push(candidate);
        }
        going
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
