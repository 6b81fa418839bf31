//! Finding a place for a claim.

use std::collections::BTreeMap;

use crd::{Allocation, Share};
use pool::{Amount, Inventory, Placement, Request};
use types::{Bytes, Tflops};

use super::amounts::{Asked, is_relative, of_card, request};
use super::{Grant, Ledger, Terms, Usage, Waiting};
use crate::admission::Wish;
use crate::allocator::claim::Claim;
use crate::allocator::eligible;

/// What a container asks of some kind of card.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its position in the wish.
    position: usize,
    asked: Asked,
    /// The request made of that.
    pub(super) request: Request,
}

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
                Ok(placements) => return Ok(self.keep(claim, &parts, &placements)),
                Err(request) => refused = refused.or(Some(request)),
            }
        }
        let nothing = || Waiting::Impossible(format!("pool `{}` has no GPUs", claim.wish.pool));
        Err(refused.map_or_else(nothing, Waiting::Room))
    }

    /// What to try for a claim, in order: the parts of it, for each kind of card where amounts depend on that.
    ///
    /// # Errors
    /// It must wait whatever is free.
    pub(super) fn options(&mut self, claim: &Claim, avoid: &[String]) -> Result<Vec<Vec<Part>>, Waiting> {
        self.refresh();
        let wish = self.with_defaults(&claim.namespace, &claim.wish);
        if wish.containers.is_empty() {
            return Err(Waiting::Impossible("no container is to have a GPU".to_owned()));
        }
        let nodes = self.eligible(claim, avoid)?;
        let strategy = wish.strategy.or_else(|| self.pools.get(&wish.pool)?.strategy);
        let wish = Wish { strategy, ..wish };
        let mut options = Vec::new();
        for (model, card) in self.kinds_for(&wish) {
            let parts = parts(&wish, model.as_deref(), card, &nodes);
            let asked: Vec<(u32, Asked)> = parts.iter().map(|part| (part.request.count, part.asked)).collect();
            self.check_quotas(&claim.namespace, &asked)?;
            options.push(parts);
        }
        Ok(options)
    }

    /// The same as requests to the crate `pool`.
    ///
    /// # Errors
    /// See `options`.
    pub fn requests(&mut self, claim: &Claim, avoid: &[String]) -> Result<Vec<Vec<Request>>, Waiting> {
        let options = self.options(claim, avoid)?;
        Ok(options.into_iter().map(|parts| parts.into_iter().map(|part| part.request).collect()).collect())
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

    /// Writes down what was taken.
    fn keep(&mut self, claim: &Claim, parts: &[Part], placements: &[Placement]) -> Allocation {
        let wish = &claim.wish;
        let mut containers: BTreeMap<String, Vec<Share>> = BTreeMap::new();
        let mut taken: BTreeMap<String, Vec<Option<Placement>>> = BTreeMap::new();
        let mut node = String::new();
        for (Part { position, asked, .. }, placement) in parts.iter().zip(placements) {
            let Some(container) = wish.containers.get(*position) else { continue };
            node = self.inventory.node(placement.node).map(|node| node.name.clone()).unwrap_or_default();
            for &index in &placement.gpus {
                let Some(gpu) = self.inventory.gpu(index) else { continue };
                let limit = Amount::new(
                    asked.tflops_limit.unwrap_or(gpu.card.tflops),
                    asked.vram_limit.unwrap_or(gpu.card.vram),
                );
                containers.entry(container.name.clone()).or_default().push(Share {
                    gpu: gpu.uuid.clone(),
                    tflops: placement.amount.tflops,
                    vram: placement.amount.vram,
                    tflops_limit: (limit.tflops > placement.amount.tflops).then_some(limit.tflops),
                    vram_limit: (limit.vram > placement.amount.vram).then_some(limit.vram),
                    qos: wish.qos,
                    guaranteed: placement.guaranteed,
                    exclusive: placement.exclusive,
                });
                let one = Placement { gpus: vec![index], ..placement.clone() };
                taken.entry(container.name.clone()).or_default().push(Some(one));
            }
        }
        let allocation = Allocation { node, containers };
        let grant = Grant {
            namespace: claim.namespace.clone(),
            name: claim.name.clone(),
            allocation: allocation.clone(),
            taken: taken.into_values().flatten().collect(),
            usage: Usage::of(&allocation),
            terms: Terms::of(&claim.pod, Some(wish)),
        };
        self.write(&claim.uid, grant);
        allocation
    }
}

/// One part for each container, the largest first: where it fits, the rest may too.
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
            Part { position, asked, request }
        })
        .collect();
    parts.sort_by_key(|Part { position, request, .. }| {
        (std::cmp::Reverse((request.count, request.amount.vram, request.amount.tflops)), *position)
    });
    parts
}

/// Takes all parts on one node, or nothing: then the part that did not fit.
fn together(inventory: &mut Inventory, parts: &[Part]) -> Result<Vec<Placement>, Box<Request>> {
    let first = match attempt(inventory, parts, None) {
        Ok(placements) => return Ok(placements),
        Err(request) => request,
    };
    if parts.len() < 2 {
        return Err(first);
    }
    // The node that suits the largest part best does not suit the rest: try the others one by one.
    let nodes: Vec<String> = inventory.nodes().iter().map(|node| node.name.clone()).collect();
    let allowed = |node: &String| {
        parts.first().is_some_and(|part| part.request.nodes.is_empty() || part.request.nodes.contains(node))
    };
    for node in nodes.iter().filter(|node| allowed(node)) {
        if let Ok(placements) = attempt(inventory, parts, Some(node)) {
            return Ok(placements);
        }
    }
    Err(first)
}

fn attempt(inventory: &mut Inventory, parts: &[Part], node: Option<&String>) -> Result<Vec<Placement>, Box<Request>> {
    let mut taken: Vec<Placement> = Vec::new();
    for part in parts {
        let mut request = part.request.clone();
        let here = taken.first().and_then(|placement| inventory.node(placement.node)).map(|node| node.name.clone());
        if let Some(here) = here.or_else(|| node.cloned()) {
            request.nodes = vec![here];
        }
        match pool::place(inventory, &request) {
            Some(placement) if inventory.take(&placement).is_ok() => taken.push(placement),
            _ => {
                for placement in taken.iter().rev() {
                    // What was just taken can be given back.
                    inventory.give_back(placement).ok();
                }
                return Err(Box::new(request));
            }
        }
    }
    Ok(taken)
}
