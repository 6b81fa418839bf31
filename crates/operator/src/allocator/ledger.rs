//! What there is, what is given out, and where the next goes. Pure: no IO, no clock.
//!
//! GPUs, nodes, pools and quotas are told as they are seen; grants are told as they stand in pods. The inventory of the crate
//! `pool` is made from those, and made anew when cards come or go in a way that it cannot follow.

mod amounts;
mod keep;
mod place;
mod quota;
mod terms;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use crd::{Allocation, GPUResourceQuotaSpec};
use k8s_openapi::api::core::v1::NodeSelector;
use pool::{Amount, Catalogue, GpuIndex, Inventory, Isolation, Placement, Strategy, Usage};
use types::{Percent, Qos};

pub use keep::Kept;
pub use terms::Terms;

use super::eligible::{NodeFacts, selects};
use crate::admission::Wish;

/// The pool of GPUs that no pool claims, and of a cluster without pools.
pub const DEFAULT_POOL: &str = "default";

/// A GPU as its object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// Its node.
    pub node: String,
    /// Position there.
    pub index: u32,
    /// The pool that its label names.
    pub pool: Option<String>,
    /// Short name of its model.
    pub model: String,
    /// Vendor.
    pub vendor: String,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// What it has.
    pub amount: Amount,
    /// It takes work.
    pub ready: bool,
    /// Links to others: UUID, lanes, MB/s.
    pub links: Vec<(String, u32, u64)>,
}

/// What the allocator needs of a GPUPool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolPolicy {
    /// Compute that may be given out, of what there is.
    pub oversell: Option<Percent>,
    /// Placement of pods that name none.
    pub strategy: Option<Strategy>,
    /// Its nodes; `None` for all.
    pub nodes: Option<NodeSelector>,
}

/// Why a claim waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    /// No GPU has room for this part of it.
    Room(Box<pool::Request>),
    /// A quota says no; true when it may fit later.
    Quota(String, bool),
    /// It cannot be as it stands.
    Impossible(String),
    /// Its rules leave no node.
    NoNode,
    /// Its gang is not complete: so many are there, so many needed.
    Gang(usize, usize),
}

#[derive(Clone, Debug)]
struct Grant {
    namespace: String,
    name: String,
    allocation: Allocation,
    /// One for each share, `None` where the GPU is not there or too full.
    taken: Vec<Option<Placement>>,
    usage: Usage,
    terms: Terms,
}

/// See the module's text.
#[derive(Debug)]
pub struct Ledger {
    catalogue: Catalogue,
    cards: BTreeMap<String, Card>,
    nodes: BTreeMap<String, NodeFacts>,
    pools: BTreeMap<String, PoolPolicy>,
    quotas: BTreeMap<String, BTreeMap<String, GPUResourceQuotaSpec>>,
    used: BTreeMap<String, Usage>,
    grants: BTreeMap<String, Grant>,
    /// Pods that have something, by class.
    classes: BTreeMap<Qos, u32>,
    /// Places that are kept for pods that wait, by UID.
    kept: BTreeMap<String, Kept>,
    inventory: Inventory,
    stale: bool,
    /// Kinds of cards in each pool, for amounts in percent.
    kinds: BTreeMap<String, BTreeSet<(String, u64, u64)>>,
    /// GPUs with more given out than there is, which cannot be until somebody lies or a card shrinks.
    overfull: BTreeSet<String>,
}

impl Default for Ledger {
    /// One that knows of nothing but the models that everybody knows.
    fn default() -> Self {
        Self {
            catalogue: Catalogue::builtin(),
            cards: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            quotas: BTreeMap::new(),
            used: BTreeMap::new(),
            grants: BTreeMap::new(),
            classes: BTreeMap::new(),
            kept: BTreeMap::new(),
            inventory: Inventory::new(),
            stale: false,
            kinds: BTreeMap::new(),
            overfull: BTreeSet::new(),
        }
    }
}

impl Ledger {
    /// Tells what models there are. Whether anything changed.
    pub fn set_catalogue(&mut self, catalogue: Catalogue) -> bool {
        let changed = self.catalogue != catalogue;
        self.catalogue = catalogue;
        changed
    }

    /// The models that there are.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Tells of a GPU, or that it is gone. Whether anything changed.
    pub fn set_card(&mut self, name: &str, card: Option<Card>) -> bool {
        let before = self.cards.get(name);
        if before == card.as_ref() {
            return false;
        }
        let only_readiness = match (before, &card) {
            (Some(before), Some(after)) => Card { ready: after.ready, ..before.clone() } == *after,
            _ => false,
        };
        match card {
            Some(card) => {
                let fresh = !self.cards.contains_key(name);
                let ready = card.ready;
                self.cards.insert(name.to_owned(), card);
                if only_readiness && !self.stale {
                    let ready = ready && !self.overfull.contains(name);
                    self.stale |=
                        self.inventory.find_gpu(name).is_none_or(|gpu| self.inventory.set_ready(gpu, ready).is_err());
                } else if fresh && !self.stale {
                    self.stale |= self.owed(name) || !self.add(name);
                } else {
                    self.stale = true;
                }
            }
            None => {
                self.cards.remove(name);
                self.stale = true;
            }
        }
        true
    }

    /// Tells of a node, or that it is gone. Whether anything changed.
    pub fn set_node(&mut self, name: &str, facts: Option<NodeFacts>) -> bool {
        let before = self.nodes.get(name);
        if before == facts.as_ref() {
            return false;
        }
        let relabelled = before.map(|facts| &facts.labels) != facts.as_ref().map(|facts| &facts.labels);
        self.stale |= relabelled && self.pools.values().any(|pool| pool.nodes.is_some());
        let ready = facts.as_ref().is_none_or(|facts| facts.ready);
        match facts {
            Some(facts) => self.nodes.insert(name.to_owned(), facts),
            None => self.nodes.remove(name),
        };
        if let Some(node) = self.inventory.find_node(name) {
            self.stale |= self.inventory.set_node_ready(node, ready).is_err();
        }
        true
    }

    /// Tells of a pool, or that it is gone. Whether anything changed.
    pub fn set_pool(&mut self, name: &str, policy: Option<PoolPolicy>) -> bool {
        if self.pools.get(name) == policy.as_ref() {
            return false;
        }
        match policy {
            Some(policy) => self.pools.insert(name.to_owned(), policy),
            None => self.pools.remove(name),
        };
        self.stale = true;
        true
    }

    /// Tells of a quota, or that it is gone. Whether anything changed.
    pub fn set_quota(&mut self, namespace: &str, name: &str, spec: Option<GPUResourceQuotaSpec>) -> bool {
        let of_namespace = self.quotas.entry(namespace.to_owned()).or_default();
        let changed = of_namespace.get(name) != spec.as_ref();
        match spec {
            Some(spec) => of_namespace.insert(name.to_owned(), spec),
            None => of_namespace.remove(name),
        };
        changed
    }

    /// Tells what a pod has, as it stands in the pod. Whether that is new.
    pub fn grant(&mut self, uid: &str, namespace: &str, name: &str, allocation: Allocation, terms: Terms) -> bool {
        if let Some(grant) = self.grants.get_mut(uid).filter(|grant| grant.allocation == allocation) {
            grant.terms = Terms { leaves: terms.leaves.or(grant.terms.leaves), ..terms };
            return false;
        }
        self.release(uid);
        self.refresh();
        let usage = quota::usage_of(&allocation);
        let taken = self.take(&allocation);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.write(uid, Grant { namespace, name, allocation, taken, usage, terms });
        true
    }

    /// Notes what was taken.
    fn write(&mut self, uid: &str, grant: Grant) {
        let used = self.used.entry(grant.namespace.clone()).or_default();
        *used = used.plus(grant.usage);
        self.count(grant.qos(), true);
        self.grants.insert(uid.to_owned(), grant);
    }

    /// Takes back what a pod has. Whether it had anything: the second time it has not.
    pub fn release(&mut self, uid: &str) -> bool {
        let Some(grant) = self.grants.remove(uid) else { return false };
        self.count(grant.qos(), false);
        if let Some(used) = self.used.get_mut(&grant.namespace) {
            *used = used.less(grant.usage);
            if *used == Usage::default() {
                self.used.remove(&grant.namespace);
            }
        }
        if self.stale {
            return true;
        }
        for taken in &grant.taken {
            let back = taken.as_ref().map(|placement| self.inventory.give_back(placement));
            self.stale |= !matches!(back, Some(Ok(())));
        }
        true
    }

    /// What a pod has.
    #[must_use]
    pub fn granted_to(&self, uid: &str) -> Option<&Allocation> {
        self.grants.get(uid).map(|grant| &grant.allocation)
    }

    /// Whether a pod has anything.
    #[must_use]
    pub fn has(&self, uid: &str) -> bool {
        self.grants.contains_key(uid)
    }

    /// Everything given out: pod UID, namespace, name, allocation.
    pub fn granted(&self) -> impl Iterator<Item = (&str, &str, &str, &Allocation)> {
        self.grants
            .iter()
            .map(|(uid, grant)| (uid.as_str(), grant.namespace.as_str(), grant.name.as_str(), &grant.allocation))
    }

    /// Namespaces that use something.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.used.keys().map(String::as_str)
    }

    /// What a namespace uses.
    #[must_use]
    pub fn used(&self, namespace: &str) -> Usage {
        self.used.get(namespace).copied().unwrap_or_default()
    }

    /// The most compute that a pod of isolation `hard` may use of one of its cards, in percent of the card, rounded up; `None`
    /// where it names no limit in TFLOPS. As TensorFusion does it, between 1 and 100.
    #[must_use]
    pub fn hard_percent(&self, wish: &Wish, allocation: &Allocation) -> Option<u64> {
        let limited =
            wish.containers.iter().filter(|one| wish.isolation == Isolation::Hard && one.tflops_limit.is_some());
        let shares = limited.filter_map(|container| allocation.containers.get(&container.name)).flatten();
        let percent = |share: &crd::Share| {
            let card = self.cards.get(&share.gpu)?.amount.tflops.milli();
            let limit = share.tflops_limit.unwrap_or(share.tflops).milli();
            Some(limit.saturating_mul(100).div_ceil(card.max(1)).clamp(1, 100))
        };
        shares.filter_map(percent).max()
    }

    /// A GPU.
    #[must_use]
    pub fn card(&self, name: &str) -> Option<&Card> {
        self.cards.get(name)
    }

    /// Whether nobody has anything of a GPU, and nothing of it is kept for anybody.
    #[must_use]
    pub fn is_idle(&self, name: &str) -> bool {
        let gpu = self.inventory.find_gpu(name).and_then(|gpu| self.inventory.gpu(gpu));
        // What could not be taken of an overfull card is known to the grants alone.
        gpu.is_none_or(|gpu| gpu.shares == 0 && gpu.reserved == Amount::default()) && !self.owed(name)
    }

    /// All GPUs.
    pub fn cards(&self) -> impl Iterator<Item = (&str, &Card)> {
        self.cards.iter().map(|(name, card)| (name.as_str(), card))
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeFacts> {
        self.nodes.get(name)
    }

    /// Names of the pools that are known.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &PoolPolicy)> {
        self.pools.iter().map(|(name, policy)| (name.as_str(), policy))
    }

    /// GPUs with more given out than they have.
    #[must_use]
    pub fn overfull(&self) -> &BTreeSet<String> {
        &self.overfull
    }

    /// The inventory as it is now.
    pub fn inventory(&mut self) -> &Inventory {
        self.refresh();
        &self.inventory
    }

    /// Makes sure that the inventory is as it is to be.
    pub(in crate::allocator) fn refreshed(&mut self) {
        self.refresh();
    }

    /// The pool that a card belongs to: what its label says, else the first pool that selects its node, else the default.
    #[must_use]
    pub fn pool_of(&self, card: &Card) -> String {
        if let Some(pool) = &card.pool {
            return pool.clone();
        }
        let labels = self.nodes.get(&card.node).map(|facts| facts.labels.clone()).unwrap_or_default();
        let chosen = self.pools.iter().find(|(_, policy)| {
            policy.nodes.as_ref().is_some_and(|nodes| selects(&nodes.node_selector_terms, &card.node, &labels))
        });
        let open = || self.pools.iter().find(|(_, policy)| policy.nodes.is_none());
        chosen.or_else(open).map_or_else(|| DEFAULT_POOL.to_owned(), |(name, _)| name.clone())
    }

    /// Whether some pod has a share of a card.
    fn owed(&self, gpu: &str) -> bool {
        self.grants.values().any(|grant| grant.allocation.shares().any(|share| share.gpu == gpu))
    }

    /// Makes the inventory anew where it could not follow.
    fn refresh(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        self.inventory = Inventory::new();
        self.kinds.clear();
        self.overfull.clear();
        let names: Vec<String> = {
            let mut all: Vec<(&String, &Card)> = self.cards.iter().collect();
            all.sort_by(|a, b| (&a.1.node, a.1.index, a.0).cmp(&(&b.1.node, b.1.index, b.0)));
            all.into_iter().map(|(name, _)| name.clone()).collect()
        };
        for name in &names {
            self.add(name);
        }
        let uids: Vec<String> = self.grants.keys().cloned().collect();
        for uid in uids {
            let Some(allocation) = self.grants.get(&uid).map(|grant| grant.allocation.clone()) else { continue };
            let taken = self.take(&allocation);
            if let Some(grant) = self.grants.get_mut(&uid) {
                grant.taken = taken;
            }
        }
        self.reserve_again();
    }

    /// Puts a card into the inventory. False where that did not work, which a new inventory would not mend either.
    fn add(&mut self, name: &str) -> bool {
        let Some(card) = self.cards.get(name).cloned() else { return true };
        let node = match self.inventory.find_node(&card.node) {
            Some(node) => node,
            None => {
                let Ok(node) = self.inventory.add_node(&card.node) else { return true };
                let ready = self.nodes.get(&card.node).is_none_or(|facts| facts.ready);
                if self.inventory.set_node_ready(node, ready).is_err() {
                    return true;
                }
                node
            }
        };
        let pool = self.pool_of(&card);
        let oversell = self.pools.get(&pool).and_then(|policy| policy.oversell);
        let tflops = oversell.map_or(card.amount.tflops, |ratio| {
            types::Tflops::from_milli(ratio.share(card.amount.tflops.milli())).max(card.amount.tflops)
        });
        let gpu = pool::Gpu {
            pool: pool.clone(),
            model: card.model.clone(),
            vendor: card.vendor.clone(),
            numa_node: card.numa_node,
            capacity: Amount::new(tflops, card.amount.vram),
            ready: card.ready,
            ..pool::Gpu::new(name, node, card.index, card.amount)
        };
        let Ok(index) = self.inventory.add_gpu(gpu) else { return true };
        let kind = (card.model.clone(), card.amount.tflops.milli(), card.amount.vram.get());
        self.kinds.entry(pool).or_default().insert(kind);
        for (peer, lanes, megabytes) in &card.links {
            if let Some(peer) = self.inventory.find_gpu(peer) {
                // A link to a card elsewhere is a mistake of its agent's, and no reason to do without the card.
                self.inventory.link(index, peer, *lanes, *megabytes).ok();
            }
        }
        true
    }

    /// Takes everything of an allocation that can be taken.
    fn take(&mut self, allocation: &Allocation) -> Vec<Option<Placement>> {
        together::taken_by(allocation).iter().map(|share| self.take_share(share)).collect()
    }

    fn take_share(&mut self, share: &crd::Share) -> Option<Placement> {
        let gpu = self.inventory.find_gpu(&share.gpu)?;
        let node = self.inventory.gpu(gpu)?.node;
        let amount = Amount::new(share.tflops, share.vram);
        let placement =
            Placement { node, gpus: vec![gpu], amount, exclusive: share.exclusive, guaranteed: share.guaranteed };
        if self.inventory.take(&placement).is_ok() {
            return Some(placement);
        }
        let unguaranteed = Placement { guaranteed: false, ..placement };
        if self.inventory.take(&unguaranteed).is_ok() {
            return Some(unguaranteed);
        }
        self.overfill(gpu, &share.gpu);
        None
    }

    /// A card that is overfull takes nothing new.
    fn overfill(&mut self, gpu: GpuIndex, name: &str) {
        self.overfull.insert(name.to_owned());
        self.stale |= self.inventory.set_ready(gpu, false).is_err();
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
