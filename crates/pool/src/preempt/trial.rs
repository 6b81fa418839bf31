//! Sets of victims: what they cost, and whether requests fit without them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use types::Qos;

use super::{Budgets, Cost, Holder, Lack};
use crate::explain::State;
use crate::site::Site;
use crate::{Inventory, NodeIndex, Placement, Request, Usage};

const MOST_COMPARED: usize = 10;

pub(super) fn pool_of(inventory: &Inventory, node: NodeIndex) -> &str {
    let first = inventory.node(node).and_then(|node| node.gpus.first()).and_then(|&gpu| inventory.gpu(gpu));
    first.map_or("", |gpu| &gpu.pool)
}

/// A set of victims: what it costs, who they are, and where the requests then are.
pub(super) type Found = (Cost, Vec<usize>, Vec<Placement>);

/// Positions of the holders on a node.
#[derive(Default)]
pub(super) struct OnNode {
    pub(super) may_go: Vec<usize>,
    pub(super) leaving: Vec<usize>,
}

/// What is the same wherever victims are looked for.
pub(super) struct Board<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) holders: &'a [Holder],
    pub(super) namespaces: &'a BTreeMap<&'a str, u32>,
    /// Members of each gang, those who leave left out.
    pub(super) gangs: &'a BTreeMap<usize, Vec<usize>>,
    pub(super) may_go: &'a [bool],
    pub(super) budgets: &'a Budgets,
    pub(super) lack: Lack<'a>,
    pub(super) now: Duration,
}

impl Board<'_> {
    pub(super) fn is_on(&self, holder: usize, node: NodeIndex) -> bool {
        self.holders.get(holder).is_some_and(|holder| holder.placements.first().is_some_and(|one| one.node == node))
    }

    /// What a victim gives back of what lacks.
    fn pays(&self, victim: usize) -> Usage {
        let of_namespace = self.holders.get(victim).filter(|holder| holder.namespace == self.lack.namespace);
        of_namespace.map(|holder| holder.uses).unwrap_or_default()
    }

    pub(super) fn without_leaving(&self, site: &Site<'_>, on_node: &OnNode) -> Vec<State> {
        let mut states = site.states();
        let leaving = on_node.leaving.iter().filter_map(|&one| self.holders.get(one));
        for placement in leaving.flat_map(|holder| &holder.placements) {
            site.without(&mut states, placement);
        }
        states
    }

    /// Where the requests fit if nobody goes but those who leave.
    pub(super) fn fit_somewhere(
        &self,
        by_node: &BTreeMap<NodeIndex, OnNode>,
        requests: &[Request],
    ) -> Option<Vec<Placement>> {
        let nobody = OnNode::default();
        let mut nodes = (0..).map(NodeIndex).zip(self.inventory.nodes());
        nodes.find_map(|(node, _)| {
            let site = Site::new(self.inventory, node, requests)?;
            site.fit(self.without_leaving(&site, by_node.get(&node).unwrap_or(&nobody)))
        })
    }
}

/// Where room is to be.
pub(super) enum Room<'a> {
    /// It is there already.
    There(Vec<Placement>),
    /// On a node: what would be on it without those who leave anyway.
    On { node: NodeIndex, site: Site<'a>, states: Vec<State> },
}

/// A place, and who could go for it.
pub(super) struct Trial<'a> {
    pub(super) board: &'a Board<'a>,
    pub(super) room: Room<'a>,
}

impl Trial<'_> {
    fn cost(&self, victims: &[usize]) -> Cost {
        let mut cost = Cost { worst: Qos::Low, victims: victims.len(), shares: 0, lost: Duration::ZERO };
        for holder in victims.iter().filter_map(|&victim| self.board.holders.get(victim)) {
            cost.worst = cost.worst.max(holder.qos);
            cost.lost = cost.lost.saturating_add(self.board.now.saturating_sub(holder.since));
            for placement in &holder.placements {
                for gpu in placement.gpus.iter().filter_map(|&gpu| self.board.inventory.gpu(gpu)) {
                    let amount = if placement.exclusive { gpu.capacity } else { placement.amount };
                    cost.shares += u64::from(amount.share_of(gpu.capacity));
                }
            }
        }
        cost
    }

    /// Whether the budgets allow these victims together.
    fn affordable(&self, victims: &[usize]) -> bool {
        let (mut of_namespace, mut of_pool) = (BTreeMap::<&str, u32>::new(), BTreeMap::<&str, u32>::new());
        for holder in victims.iter().filter_map(|&victim| self.board.holders.get(victim)) {
            *of_namespace.entry(&holder.namespace).or_default() += 1;
            if let Some(placement) = holder.placements.first() {
                *of_pool.entry(pool_of(self.board.inventory, placement.node)).or_default() += 1;
            }
        }
        let allowed = |namespace: &str| self.board.namespaces.get(namespace).copied().unwrap_or(u32::MAX);
        of_namespace.iter().all(|(namespace, count)| *count <= allowed(namespace))
            && of_pool.iter().all(|(pool, count)| *count <= self.board.budgets.left_of_pool(pool, self.board.now))
    }

    /// The victims with the rest of every gang that cannot spare so many. `None` where such a gang may not go as a whole.
    fn whole(&self, mut victims: Vec<usize>) -> Option<Vec<usize>> {
        let mut lost: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for membership in victims.iter().filter_map(|&victim| self.board.holders.get(victim)?.gang) {
            lost.entry(membership.gang).or_insert((0, membership.spare)).0 += 1;
        }
        for (gang, _) in lost.into_iter().filter(|(_, (lost, spare))| lost > spare) {
            let members = self.board.gangs.get(&gang)?;
            if !members.iter().all(|&member| self.board.may_go.get(member) == Some(&true)) {
                return None;
            }
            victims.extend(members);
        }
        victims.sort_unstable();
        victims.dedup();
        Some(victims)
    }

    /// Whether the victims give back all that lacks.
    fn pay(&self, victims: &[usize]) -> bool {
        let lack = self.board.lack.usage;
        lack == Usage::default() || self.paid(victims).covers(lack)
    }

    fn paid(&self, victims: &[usize]) -> Usage {
        victims.iter().fold(Usage::default(), |paid, &victim| paid.plus(self.board.pays(victim)))
    }

    /// Where the requests fit without these victims.
    fn fit(&self, victims: &[usize]) -> Option<Vec<Placement>> {
        match &self.room {
            Room::There(placements) => Some(placements.clone()),
            Room::On { site, states, .. } => {
                let mut states = states.clone();
                for holder in victims.iter().filter_map(|&victim| self.board.holders.get(victim)) {
                    for placement in &holder.placements {
                        site.without(&mut states, placement);
                    }
                }
                site.fit(states)
            }
        }
    }

    /// The cheapest set that is found, if it is cheaper than `bound`.
    pub(super) fn cheapest(&self, candidates: Vec<usize>, bound: Option<Cost>) -> Option<Found> {
        if !self.pay(&candidates) {
            return None;
        }
        let found = if candidates.len() <= MOST_COMPARED {
            self.compare_all(&candidates, bound)
        } else {
            self.reprieve(candidates)
        };
        found.filter(|found| bound.is_none_or(|bound| found.0 < bound))
    }

    fn compare_all(&self, candidates: &[usize], bound: Option<Cost>) -> Option<Found> {
        self.fit(candidates)?;
        let least = candidates.iter().filter_map(|&one| self.board.holders.get(one)).map(|holder| holder.qos).min();
        let mut best: Option<Found> = None;
        for set in 0u32..1 << candidates.len() {
            let bound = best.as_ref().map(|best| best.0).or(bound);
            // With fewer victims the class may still be worse, so only more of the lowest class are out at once.
            if bound.is_some_and(|bound| Some(bound.worst) <= least && set.count_ones() as usize > bound.victims) {
                continue;
            }
            let members = candidates.iter().enumerate().filter(|(position, _)| set >> position & 1 == 1);
            let Some(victims) = self.whole(members.map(|(_, &victim)| victim).collect()) else { continue };
            let cost = self.cost(&victims);
            if bound.is_some_and(|bound| cost >= bound) || !self.affordable(&victims) || !self.pay(&victims) {
                continue;
            }
            if let Some(placements) = self.fit(&victims) {
                best = Some((cost, victims, placements));
            }
        }
        best
    }

    /// All go, and who can stay does.
    fn reprieve(&self, candidates: Vec<usize>) -> Option<Found> {
        let going = self.removable(candidates);
        let mut paid = self.paid(&going);
        let lack = self.board.lack.usage;
        if !paid.covers(lack) {
            return None;
        }
        self.fit(&going)?;
        // Who goes elsewhere makes no room here.
        let here = |&victim: &usize| match &self.room {
            Room::There(_) => false,
            Room::On { node, .. } => self.board.is_on(victim, *node),
        };
        let (mut near, mut far): (Vec<usize>, Vec<usize>) = going.into_iter().partition(here);
        let mut order: Vec<usize> = near.iter().chain(&far).copied().collect();
        order.sort_by_key(|&victim| {
            let holder = self.board.holders.get(victim);
            (std::cmp::Reverse(holder.map(|holder| holder.qos)), holder.map(|holder| holder.since), victim)
        });
        let mut stay: BTreeSet<usize> = BTreeSet::new();
        for one in order {
            let less = paid.less(self.board.pays(one));
            if !less.covers(lack) {
                continue;
            }
            if here(&one) {
                let fewer: Vec<usize> = near.iter().copied().filter(|&victim| victim != one).collect();
                if self.fit(&fewer).is_none() {
                    continue;
                }
                near = fewer;
            } else {
                stay.insert(one);
            }
            paid = less;
        }
        far.retain(|victim| !stay.contains(victim));
        near.extend(far);
        let victims = self.whole(near)?;
        let placements = self.fit(&victims)?;
        self.affordable(&victims).then(|| (self.cost(&victims), victims, placements))
    }

    /// Those that can go together: of a gang that may not go as a whole, as many as it can spare.
    fn removable(&self, candidates: Vec<usize>) -> Vec<usize> {
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        let mut going = Vec::new();
        for candidate in candidates {
            if let Some(membership) = self.board.holders.get(candidate).and_then(|holder| holder.gang) {
                let members = self.board.gangs.get(&membership.gang).map(Vec::as_slice).unwrap_or_default();
                let may_all = members.iter().all(|&member| self.board.may_go.get(member) == Some(&true));
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
