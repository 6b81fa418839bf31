//! Places that are kept for pods that wait: nobody else gets them, and what is given back there goes to them first.
//!
//! They are remembered by the names of GPUs, so that they outlive an inventory that is made anew.

use std::collections::{BTreeMap, BTreeSet};

use pool::{Amount, Held, Placement, Usage};
use types::Qos;

use super::{Grant, Ledger, Waiting};
use super::{quota, together};
use crate::allocator::claim::Claim;
use crate::allocator::replan::avoided_for;

/// A place that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The class of who it is kept for.
    pub qos: Qos,
    /// The node.
    pub node: String,
    pub(super) namespace: String,
    /// What of the namespace's quota is kept with it.
    pub(super) usage: Usage,
    pool: String,
    parts: Vec<Part>,
    /// What is reserved in the inventory for it.
    reserved: Vec<Placement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Part {
    gpus: Vec<String>,
    amount: Amount,
    exclusive: bool,
    guaranteed: bool,
}

impl Ledger {
    /// Keeps a place for a claim, instead of what was kept for it before.
    pub fn keep_for(&mut self, claim: &Claim, placements: &[Placement]) {
        self.end_kept(&claim.uid);
        let name = |gpu: &pool::GpuIndex| self.inventory.gpu(*gpu).map(|gpu| gpu.uuid.clone());
        let node = placements.first().and_then(|placement| self.inventory.node(placement.node));
        let kept = Kept {
            qos: claim.wish.qos,
            node: node.map(|node| node.name.clone()).unwrap_or_default(),
            namespace: claim.namespace.clone(),
            usage: self.would_use(claim, placements),
            pool: claim.wish.pool.clone(),
            parts: placements
                .iter()
                .map(|one| Part {
                    gpus: one.gpus.iter().filter_map(name).collect(),
                    amount: one.amount,
                    exclusive: one.exclusive,
                    guaranteed: one.guaranteed,
                })
                .collect(),
            reserved: Vec::new(),
        };
        self.restore(&claim.uid, kept);
    }

    /// What is kept for a pod.
    #[must_use]
    pub fn kept_for(&self, uid: &str) -> Option<&Kept> {
        self.kept.get(uid)
    }

    /// Keeps nothing for a pod any more. Whether anything was.
    pub fn end_kept(&mut self, uid: &str) -> bool {
        self.lift(uid).is_some()
    }

    /// Keeps nothing any more in a pool for those of a lower class than this. Whether anything was.
    pub fn end_kept_below(&mut self, pool: &str, qos: Qos) -> bool {
        let lesser = |kept: &Kept| kept.qos < qos && kept.pool == pool;
        let uids: Vec<String> = self.kept.iter().filter(|(_, kept)| lesser(kept)).map(|(uid, _)| uid.clone()).collect();
        uids.iter().fold(false, |any, uid| self.end_kept(uid) | any)
    }

    /// Takes away for a moment what is kept for a pod, so that it can be taken.
    pub(in crate::allocator) fn lift(&mut self, uid: &str) -> Option<Kept> {
        let mut kept = self.kept.remove(uid)?;
        for placement in kept.reserved.drain(..) {
            self.stale |= self.inventory.unreserve(&placement).is_err();
        }
        Some(kept)
    }

    /// Puts back what was lifted.
    pub(in crate::allocator) fn restore(&mut self, uid: &str, mut kept: Kept) {
        self.reserve(&mut kept);
        self.kept.insert(uid.to_owned(), kept);
    }

    /// Reserves what is kept, in an inventory that knows nothing of it. Of cards that are gone nothing is kept.
    fn reserve(&mut self, kept: &mut Kept) {
        kept.reserved.clear();
        for part in &kept.parts {
            let gpus: Vec<pool::GpuIndex> = part.gpus.iter().filter_map(|gpu| self.inventory.find_gpu(gpu)).collect();
            let Some(node) = gpus.first().and_then(|&gpu| self.inventory.gpu(gpu)).map(|gpu| gpu.node) else {
                continue;
            };
            let (amount, exclusive, guaranteed) = (part.amount, part.exclusive, part.guaranteed);
            let placement = Placement { node, gpus, amount, exclusive, guaranteed };
            if self.inventory.reserve(&placement).is_ok() {
                kept.reserved.push(placement);
            }
        }
    }

    /// After the inventory was made anew.
    pub(super) fn reserve_again(&mut self) {
        let mut all = std::mem::take(&mut self.kept);
        for kept in all.values_mut() {
            self.reserve(kept);
        }
        self.kept = all;
    }

    /// What a pod was given becomes what is kept for it.
    pub fn keep_instead(&mut self, claim: &Claim) {
        let Some(grant) = self.grants.get(&claim.uid) else { return };
        let placements: Vec<Placement> = grant.taken.iter().flatten().cloned().collect();
        self.release(&claim.uid);
        self.refresh();
        self.keep_for(claim, &placements);
    }

    /// Keeps the place that will have room for a claim soonest, as far as that can be known. Whether there is any.
    ///
    /// # Errors
    /// The claim cannot be served at all.
    pub fn nominate(&mut self, claim: &Claim, avoid: &[String]) -> Result<bool, Waiting> {
        self.end_kept(&claim.uid);
        let ways = ways(&self.options(claim, avoid)?);
        let held = held(&self.grants);
        let now = std::time::Duration::ZERO;
        let found = ways.iter().find_map(|requests| pool::nominate(&self.inventory, &held, requests, now));
        let Some(found) = found else { return Ok(false) };
        self.keep_for(claim, &found.placements);
        Ok(true)
    }

    /// The same for `needed` members of a gang, in order, beside each other. Whether there are places for so many; else nothing
    /// is kept for any of them.
    pub fn nominate_gang(&mut self, members: &[&Claim], needed: usize, avoid: &BTreeMap<String, Vec<String>>) -> bool {
        for claim in members {
            self.end_kept(&claim.uid);
        }
        let used = self.used.clone();
        let mut all = Vec::with_capacity(members.len());
        for claim in members {
            // Whom the quota refuses beside those before it has no way at all.
            let options = self.options(claim, avoided_for(claim, avoid)).unwrap_or_default();
            if let Some(parts) = options.first() {
                let used = self.used.entry(claim.namespace.clone()).or_default();
                *used = used.plus(quota::asked_by(parts));
            }
            all.push(ways(&options));
        }
        self.used = used;
        let held = held(&self.grants);
        let now = std::time::Duration::ZERO;
        let Some(found) = pool::nominate_gang(&mut self.inventory, &held, &all, needed, now) else { return false };
        for (position, nomination) in found {
            if let Some(claim) = members.get(position) {
                self.keep_for(claim, &nomination.placements);
            }
        }
        true
    }

    /// How much of what is kept for these pods others still have, in parts per million of a GPU.
    #[must_use]
    pub fn lacks(&self, uids: &[String]) -> u64 {
        let kept = uids.iter().filter_map(|uid| self.kept.get(uid)).flat_map(|kept| &kept.reserved);
        let gpus: BTreeSet<pool::GpuIndex> = kept.flat_map(|placement| placement.gpus.iter().copied()).collect();
        let gpus = gpus.into_iter().filter_map(|gpu| self.inventory.gpu(gpu));
        gpus.map(|gpu| u64::from(gpu.reserved.saturating_sub(gpu.free).share_of(gpu.capacity))).sum()
    }
}

/// In which ways a claim can be served, as requests.
fn ways(options: &[Vec<together::Part>]) -> Vec<Vec<pool::Request>> {
    options.iter().map(|parts| parts.iter().map(|part| part.request.clone()).collect()).collect()
}

/// Everything that is given out, and when it comes back.
fn held(grants: &BTreeMap<String, Grant>) -> Vec<Held<'_>> {
    let mut held = Vec::new();
    for grant in grants.values() {
        let ends = grant.terms.leaves;
        held.extend(grant.taken.iter().flatten().map(|placement| Held { placement, ends }));
    }
    held
}
