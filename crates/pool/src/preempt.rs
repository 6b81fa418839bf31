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
//! With up to ten holders on a node that may go, all sets are compared. With more, all go at first, and then each, most important
//! first, stays if the request fits nevertheless; so no victim of the set could stay.
//!
//! Where the quota of the request's namespace refuses it, what the victims of that namespace give back must cover what
//! [lacks](Lack), whichever nodes they are on; those that make the room may be of any namespace.

mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use types::Qos;

use crate::site::Site;
use crate::{Amount, Inventory, NodeIndex, Placement, Request, Usage, place};
use trial::{Board, Found, OnNode, Room, Trial, pool_of};

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
    /// What it uses of its namespace's quota.
    pub uses: Usage,
}

/// What a namespace's quota lacks for a request: all of it must be given back there.
#[derive(Clone, Copy, Debug)]
pub struct Lack<'a> {
    /// The namespace of the request.
    pub namespace: &'a str,
    /// By how much the request goes beyond the quota, each part for itself.
    pub usage: Usage,
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
     {over_budget} are beyond the budget of evictions, and evicting the other {not_enough} makes no node fit{}",
    if *.within_quota { " within the namespace's quota" } else { "" }
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
    /// The namespace's quota refuses the request too.
    pub within_quota: bool,
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
    let lack = Lack { namespace: "", usage: Usage::default() };
    preempt_within_quota(inventory, holders, requests, lack, budgets, now)
}

/// The same where the quota of the requests' namespace lacks something for them.
///
/// # Errors
/// Nobody may go, or it would not help.
pub fn preempt_within_quota(
    inventory: &Inventory,
    holders: &[Holder],
    requests: &[Request],
    lack: Lack<'_>,
    budgets: &Budgets,
    now: Duration,
) -> Result<Preemption, Unpreempted> {
    // What those who leave give back is lacking no more.
    let leaving = holders.iter().filter(|holder| holder.leaving && holder.namespace == lack.namespace);
    let lack = Lack { usage: leaving.fold(lack.usage, |lack, holder| lack.less(holder.uses)), ..lack };
    let nothing_lacks = lack.usage == Usage::default();
    let fits = match requests {
        [request] => place(inventory, request).map(|placement| vec![placement]),
        _ => None,
    };
    if let Some(placements) = fits.as_ref().filter(|_| nothing_lacks) {
        let cost = Cost { worst: Qos::Low, victims: 0, shares: 0, lost: Duration::ZERO };
        let explanation = "it fits without evicting anybody".to_owned();
        return Ok(Preemption { placements: placements.clone(), victims: Vec::new(), cost, explanation });
    }
    let qos = requests.first().map(|request| request.qos).unwrap_or_default();
    let mut why = Unpreempted { holders: holders.len(), within_quota: !nothing_lacks, ..Unpreempted::default() };
    let mut by_node: BTreeMap<NodeIndex, OnNode> = BTreeMap::new();
    let mut left: BTreeMap<&str, u32> = BTreeMap::new();
    let mut may_go = vec![false; holders.len()];
    let mut gangs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    // Those who give back what lacks, wherever they are.
    let mut payers: Vec<usize> = Vec::new();
    for (position, holder) in holders.iter().enumerate() {
        let Some(node) = holder.placements.first().map(|placement| placement.node) else { continue };
        if holder.leaving {
            why.not_enough += 1;
            by_node.entry(node).or_default().leaving.push(position);
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
            by_node.entry(node).or_default().may_go.push(position);
            if !nothing_lacks && holder.namespace == lack.namespace {
                payers.push(position);
            }
        }
    }
    let board = Board { inventory, holders, namespaces: &left, gangs: &gangs, may_go: &may_go, budgets, lack, now };
    let fits = fits.or_else(|| if nothing_lacks { None } else { board.fit_somewhere(&by_node, requests) });
    let mut best: Option<Found> = None;
    if let Some(placements) = fits {
        best = Trial { board: &board, room: Room::There(placements) }.cheapest(payers, None);
    } else {
        for (node, on_node) in by_node {
            let Some(site) = Site::new(inventory, node, requests) else { continue };
            let states = board.without_leaving(&site, &on_node);
            let mut candidates = on_node.may_go;
            candidates.extend(payers.iter().filter(|&&payer| !board.is_on(payer, node)));
            candidates.sort_unstable();
            let trial = Trial { board: &board, room: Room::On { node, site, states } };
            let bound = best.as_ref().map(|best| best.0);
            best = trial.cheapest(candidates, bound).or(best);
        }
    }
    let (cost, victims, placements) = best.ok_or(why)?;
    let explanation = explain(&board, requests, &victims, &placements);
    Ok(Preemption { placements, victims, cost, explanation })
}

fn explain(board: &Board<'_>, requests: &[Request], victims: &[usize], placements: &[Placement]) -> String {
    let first = placements.first().and_then(|placement| board.inventory.node(placement.node));
    let node = first.map_or("", |node| &node.name);
    if victims.is_empty() {
        return format!("it fits on node {node} once those are gone that leave it");
    }
    let names: Vec<String> = victims
        .iter()
        .filter_map(|&victim| board.holders.get(victim))
        .map(|holder| format!("{}/{} ({})", holder.namespace, holder.name, holder.qos))
        .collect();
    let asked: Vec<String> =
        requests.iter().map(|request| format!("{} GPUs with {}", request.count, request.amount)).collect();
    let (names, asked) = (names.join(", "), asked.join(" and "));
    let makes = if board.lack.usage == Usage::default() {
        format!("evicting {names} from node {node} makes room for {asked}")
    } else {
        let namespace = board.lack.namespace;
        format!("evicting {names} makes room for {asked} on node {node} and in the quota of namespace {namespace}")
    };
    format!(
        "{makes}: of all sets that do, none has a less important most important member, then fewer members, then holds \
         less, then has run for less time"
    )
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
