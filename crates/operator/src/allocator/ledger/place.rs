//! Finding a place for a claim.

use crd::{Allocation, Phase, Share};
use pool::{Amount, Placement, Request, Usage};
use types::{Bytes, Tflops};

use super::amounts::{is_relative, of_card, request};
use super::quota::{asked_by, usage_of};
use super::together::{Found, Part, together};
use super::{Grant, Ledger, Terms, Waiting};
use crate::admission::Wish;
use crate::allocator::claim::Claim;
use crate::allocator::eligible;

impl Ledger {
    /// Finds GPUs for a claim and takes them, also those that are kept for it. `avoid` names nodes that were tried in vain.
    ///
    /// # Errors
    /// Why it must wait. Nothing is taken then, and what was kept for it still is.
    pub fn place(&mut self, claim: &Claim, avoid: &[String]) -> Result<Allocation, Waiting> {
        self.refresh();
        let kept = self.lift(&claim.uid);
        let found = self.find(claim, avoid);
        if let (Some(kept), Err(_)) = (kept, &found) {
            self.restore(&claim.uid, kept);
        }
        found
    }

    fn find(&mut self, claim: &Claim, avoid: &[String]) -> Result<Allocation, Waiting> {
        let options = self.options(claim, avoid)?;
        let mut refused = None;
        for parts in options {
            match together(&mut self.inventory, &parts) {
                Ok(found) => return self.keep(claim, &parts, found),
                Err(request) => refused = refused.or(Some(request)),
            }
        }
        let nothing = || {
            let of = claim.wish.model.as_ref().map(|model| format!(" of model {model}")).unwrap_or_default();
            Waiting::Impossible(format!("pool `{}` has no GPUs{of}", claim.wish.pool))
        };
        Err(refused.map_or_else(nothing, Waiting::Room))
    }

    /// What to try for a claim, in order: the parts of it, for each kind of card where amounts depend on that.
    ///
    /// # Errors
    /// It must wait whatever is free.
    pub(super) fn options(&mut self, claim: &Claim, avoid: &[String]) -> Result<Vec<Vec<Part>>, Waiting> {
        let options = self.options_beyond_quota(claim, avoid)?;
        options.iter().try_for_each(|parts| self.check_total(claim, asked_by(parts)))?;
        Ok(options)
    }

    /// The same as if the namespace used nothing.
    fn options_beyond_quota(&mut self, claim: &Claim, avoid: &[String]) -> Result<Vec<Vec<Part>>, Waiting> {
        self.refresh();
        let wish = self.with_defaults(&claim.namespace, &claim.wish);
        if wish.containers.is_empty() {
            return Err(Waiting::Impossible("no container is to have a GPU".to_owned()));
        }
        let nodes = self.eligible(claim, avoid)?;
        let strategy = wish.strategy.or_else(|| self.pools.get(&wish.pool)?.strategy);
        // Cards are known by the short names of their models; people may name them as the driver does.
        let short = wish.model.as_ref().and_then(|model| self.catalogue.find(model)).map(|model| model.model.clone());
        let wish = Wish { strategy, model: short.or_else(|| wish.model.clone()), ..wish };
        let mut options = Vec::new();
        for (model, card) in self.kinds_for(&wish) {
            let parts = parts(&wish, model.as_deref(), card, &nodes);
            self.check_single(claim, &parts)?;
            options.push(parts);
        }
        Ok(options)
    }

    /// What to try for a claim as requests to the crate `pool`, and what the namespace's quotas lack for it.
    ///
    /// # Errors
    /// It must wait whatever is free, and whatever others give back.
    pub fn requests(&mut self, claim: &Claim, avoid: &[String]) -> Result<Vec<(Vec<Request>, Usage)>, Waiting> {
        let options = self.options_beyond_quota(claim, avoid)?;
        let within = |parts: Vec<Part>| {
            let lack = self.lacks_of_quota(claim, asked_by(&parts))?;
            Ok((requests_of(parts), lack))
        };
        options.into_iter().map(within).collect()
    }

    /// What a claim will use of its namespace's quota at these places.
    pub(super) fn would_use(&self, claim: &Claim, placements: &[Placement]) -> Usage {
        let gpu = placements.first().and_then(|placement| placement.gpus.first());
        let card = gpu.and_then(|&gpu| self.inventory.gpu(gpu)).map(|gpu| gpu.card).unwrap_or_default();
        asked_by(&parts(&self.with_defaults(&claim.namespace, &claim.wish), None, card, &[]))
    }

    /// Why a claim waits, in words. Looks at every GPU.
    pub fn explain(&mut self, waiting: &Waiting) -> String {
        match waiting {
            Waiting::Room(request) => {
                let pool = request.pool.clone().unwrap_or_default();
                format!("no GPU of pool `{pool}` has room: {}", pool::explain(self.inventory(), request))
            }
            Waiting::Quota(text, _) | Waiting::Impossible(text) => text.clone(),
            Waiting::NoNode => "the pod's node selector, affinity or missing tolerations leave no node".to_owned(),
            Waiting::Gang(there, needed) => format!("its gang has {there} of the {needed} members that it needs"),
        }
    }

    /// The nodes that the claim's pod may run on; empty for any.
    fn eligible(&self, claim: &Claim, avoid: &[String]) -> Result<Vec<String>, Waiting> {
        let has_gpus = |name: &str| self.inventory.find_node(name).is_some();
        let tainted = || self.nodes.iter().any(|(name, facts)| !facts.taints.is_empty() && has_gpus(name));
        if avoid.is_empty() && !eligible::has_rules(&claim.pod) && !tainted() {
            return Ok(Vec::new());
        }
        let may = |(name, facts): &(&String, &super::NodeFacts)| eligible::may_run(&claim.pod, name, facts);
        let all: Vec<String> = self.nodes.iter().filter(may).map(|(name, _)| name.clone()).collect();
        let other = |name: &&String| !avoid.contains(name) && self.nodes.get(*name).is_some_and(|facts| facts.ready);
        let rest: Vec<String> = all.iter().filter(other).cloned().collect();
        let chosen = if rest.is_empty() { all } else { rest };
        if chosen.is_empty() { Err(Waiting::NoNode) } else { Ok(chosen) }
    }

    /// The kinds of cards to try: one of no name where amounts do not depend on the card.
    fn kinds_for(&self, wish: &Wish) -> Vec<(Option<String>, Amount)> {
        let kinds = self.kinds.get(&wish.pool).into_iter().flatten();
        let amount = |tflops: u64, vram: u64| Amount::new(Tflops::from_milli(tflops), Bytes::new(vram));
        if wish.containers.iter().any(is_relative) {
            let fits = |model: &String| wish.model.as_ref().is_none_or(|asked| asked == model);
            return kinds
                .filter(|kind| fits(&kind.0))
                .map(|(model, tflops, vram)| (Some(model.clone()), amount(*tflops, *vram)))
                .collect();
        }
        vec![(None, Amount::default())]
    }

    /// Writes down what was found.
    fn keep(&mut self, claim: &Claim, parts: &[Part], found: Found) -> Result<Allocation, Waiting> {
        let wish = &claim.wish;
        let mut allocation = Allocation::default();
        for (Part { position, asked, phase, .. }, placement) in parts.iter().zip(&found.placements) {
            let Some(container) = wish.containers.get(*position) else { continue };
            let node = self.inventory.node(placement.node).map(|node| node.name.clone());
            allocation.node = node.unwrap_or_default();
            if !phase.is_main() {
                allocation.phases.insert(container.name.clone(), *phase);
            }
            for gpu in placement.gpus.iter().filter_map(|&index| self.inventory.gpu(index)) {
                let limit = Amount::new(
                    asked.tflops_limit.unwrap_or(gpu.card.tflops),
                    asked.vram_limit.unwrap_or(gpu.card.vram),
                );
                allocation.containers.entry(container.name.clone()).or_default().push(Share {
                    gpu: gpu.uuid.clone(),
                    tflops: placement.amount.tflops,
                    vram: placement.amount.vram,
                    tflops_limit: (limit.tflops > placement.amount.tflops).then_some(limit.tflops),
                    vram_limit: (limit.vram > placement.amount.vram).then_some(limit.vram),
                    qos: wish.qos,
                    guaranteed: placement.guaranteed,
                    exclusive: placement.exclusive,
                });
            }
        }
        let usage = usage_of(&allocation);
        let mut taken: Vec<Option<Placement>> = found.taken.into_iter().map(Some).collect();
        if parts.iter().any(|part| part.phase == Phase::Init) {
            // What init containers share is only known now.
            for placement in taken.drain(..).flatten() {
                self.stale |= self.inventory.give_back(&placement).is_err();
            }
            self.check_total(claim, usage)?;
            taken = self.take(&allocation);
        }
        let (namespace, name) = (claim.namespace.clone(), claim.name.clone());
        let terms = Terms::of(&claim.pod, Some(wish));
        self.write(&claim.uid, Grant { namespace, name, allocation: allocation.clone(), taken, usage, terms });
        Ok(allocation)
    }
}

/// What to ask the crate `pool` where init containers cannot be told from others: without those that need no more than the
/// largest of the others has.
fn requests_of(parts: Vec<Part>) -> Vec<Request> {
    let others: Vec<Request> =
        parts.iter().filter(|part| part.phase == Phase::Main).map(|part| part.request.clone()).collect();
    let covered = |part: &Part| {
        let does = |other: &Request| other.count >= part.request.count && other.amount.covers(part.request.amount);
        part.phase == Phase::Init && others.iter().any(does)
    };
    parts.into_iter().filter(|part| !covered(part)).map(|part| part.request).collect()
}

/// One part for each container. Those that end early come last, and of the rest the largest first: where it fits, the others
/// may too.
fn parts(wish: &Wish, model: Option<&str>, card: Amount, nodes: &[String]) -> Vec<Part> {
    let mut parts: Vec<Part> = wish
        .containers
        .iter()
        .enumerate()
        .map(|(position, container)| {
            let asked = of_card(container, card);
            let mut request = request(wish, container, &asked);
            if let Some(model) = model {
                request.model = Some(model.to_owned());
            }
            request.nodes = nodes.to_vec();
            Part { position, asked, phase: container.phase, request }
        })
        .collect();
    parts.sort_by_key(|Part { position, phase, request, .. }| {
        let size = (request.count, request.amount.vram, request.amount.tflops);
        (*phase == Phase::Init, std::cmp::Reverse(size), *position)
    });
    parts
}
