//! All containers of a pod on one node, each with a vGPU of its own.
//!
//! Ordinary init containers have ended when the main ones start, so on each GPU their vGPUs lie where those of the main
//! containers will: what a pod takes of a GPU is what its sidecars have there, and the more of what the main containers have
//! together and what the largest init container has. As in Kubernetes, sidecars (init containers that always restart) run
//! beside both.

use std::collections::BTreeMap;

use crd::{Allocation, Phase, Share};
use pool::{Amount, GpuIndex, Inventory, Placement, Request};

use super::amounts::Asked;

/// What a container asks of some kind of card.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its position in the wish.
    pub(super) position: usize,
    pub(super) asked: Asked,
    pub(super) phase: Phase,
    /// The request made of that.
    pub(super) request: Request,
}

/// Where the parts are.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// For each part.
    pub(super) placements: Vec<Placement>,
    /// What was taken of the inventory for them.
    pub(super) taken: Vec<Placement>,
}

/// Takes all parts on one node, or nothing: then the part that did not fit.
pub(super) fn together(inventory: &mut Inventory, parts: &[Part]) -> Result<Found, Box<Request>> {
    let first = match attempt(inventory, parts, None) {
        Ok(found) => return Ok(found),
        Err(request) => request,
    };
    if parts.len() < 2 {
        return Err(first);
    }
    // The node that suits the first part best does not suit the rest: try the others one by one.
    let nodes: Vec<String> = inventory.nodes().iter().map(|node| node.name.clone()).collect();
    let allowed = |node: &String| {
        parts.first().is_some_and(|part| part.request.nodes.is_empty() || part.request.nodes.contains(node))
    };
    for node in nodes.iter().filter(|node| allowed(node)) {
        if let Ok(found) = attempt(inventory, parts, Some(node)) {
            return Ok(found);
        }
    }
    Err(first)
}

fn attempt(inventory: &mut Inventory, parts: &[Part], node: Option<&String>) -> Result<Found, Box<Request>> {
    let mut found = Found::default();
    for part in parts {
        let mut request = part.request.clone();
        let here = found.placements.first().and_then(|one| inventory.node(one.node)).map(|node| node.name.clone());
        if let Some(here) = here.or_else(|| node.cloned()) {
            request.nodes = vec![here];
        }
        let early = part.phase == Phase::Init && !found.placements.is_empty();
        let done = (early && reuse(inventory, parts, &request, &mut found)) || take(inventory, &request, &mut found);
        if !done {
            for placement in found.taken.iter().rev() {
                // What was just taken can be given back.
                inventory.give_back(placement).ok();
            }
            return Err(Box::new(request));
        }
    }
    Ok(found)
}

fn take(inventory: &mut Inventory, request: &Request, found: &mut Found) -> bool {
    let Some(placement) = pool::place(inventory, request) else { return false };
    let taken = inventory.take(&placement).is_ok();
    if taken {
        found.placements.push(placement.clone());
        found.taken.push(placement);
    }
    taken
}

/// Places an init container on GPUs of the pod, as far as it can with what the others have there and what is free beside.
fn reuse(inventory: &mut Inventory, parts: &[Part], request: &Request, found: &mut Found) -> bool {
    let mut gpus: Vec<GpuIndex> = found.placements.iter().flat_map(|one| one.gpus.iter().copied()).collect();
    gpus.sort_unstable();
    gpus.dedup();
    let whole = request.takes_whole();
    let mut candidates: Vec<(u32, GpuIndex, Amount)> = Vec::new();
    for index in gpus {
        let Some(gpu) = inventory.gpu(index) else { continue };
        // Who has the whole card needs no more of it.
        let more = if whole { Amount::default() } else { request.amount.saturating_sub(had(parts, found, index)) };
        let guaranteed = !request.is_guaranteed() || gpu.guaranteeable().covers(more);
        if more == Amount::default() || (gpu.open().covers(more) && guaranteed) {
            candidates.push((more.share_of(gpu.capacity), index, more));
        }
    }
    candidates.sort_unstable_by_key(|(share, index, _)| (*share, *index));
    candidates.truncate(request.count as usize);
    let Some(node) = found.placements.first().map(|one| one.node) else { return false };
    if candidates.len() < request.count as usize || (request.one_numa_node && request.count > 1) {
        return false;
    }
    let mut taken = Vec::new();
    for (_, index, more) in &candidates {
        let (gpus, amount, guaranteed) = (vec![*index], *more, request.is_guaranteed());
        let placement = Placement { node, gpus, amount, exclusive: false, guaranteed };
        if *more == Amount::default() {
            continue;
        }
        if inventory.take(&placement).is_err() {
            for placement in &taken {
                inventory.give_back(placement).ok();
            }
            return false;
        }
        taken.push(placement);
    }
    let mut gpus: Vec<GpuIndex> = candidates.iter().map(|candidate| candidate.1).collect();
    gpus.sort_unstable();
    let (amount, guaranteed) = (request.amount, request.is_guaranteed());
    found.placements.push(Placement { node, gpus, amount, exclusive: whole, guaranteed });
    found.taken.append(&mut taken);
    true
}

/// What an init container finds on a GPU: what the main containers have there, or an init container before it had.
fn had(parts: &[Part], found: &Found, gpu: GpuIndex) -> Amount {
    let on_gpu = |phase: Phase| {
        let placed = parts.iter().zip(&found.placements);
        placed.filter(move |(part, one)| part.phase == phase && one.gpus.contains(&gpu)).map(|(_, one)| one.amount)
    };
    let main = on_gpu(Phase::Main).fold(Amount::default(), Amount::saturating_add);
    on_gpu(Phase::Init).fold(main, Amount::most)
}

/// What a pod takes of the inventory: shares of its GPUs, those of init containers only as far as they are more.
pub(super) fn taken_by(allocation: &Allocation) -> Vec<Share> {
    let early = |container: &str| allocation.phase(container) == Phase::Init;
    let of = |is_early: bool| {
        let containers = allocation.containers.iter().filter(move |(name, _)| early(name) == is_early);
        containers.flat_map(|(_, shares)| shares)
    };
    let mut taken: Vec<Share> = of(false).cloned().collect();
    // Who has the whole card needs no more of it.
    let partly = |share: &Share| if share.exclusive { Amount::default() } else { requested(share) };
    let mut more = more_for_init(allocation, partly);
    for share in of(true) {
        if share.exclusive {
            if !taken.iter().any(|one| one.gpu == share.gpu && one.exclusive) {
                taken.push(share.clone());
            }
        } else if let Some(amount) = more.remove(share.gpu.as_str()) {
            taken.push(Share { tflops: amount.tflops, vram: amount.vram, ..share.clone() });
        }
    }
    taken
}

/// What is guaranteed.
pub(super) fn requested(share: &Share) -> Amount {
    Amount::new(share.tflops, share.vram)
}

/// The sum over a pod's GPUs of what it has there at most at one time.
pub(super) fn total(allocation: &Allocation, amount: impl Fn(&Share) -> Amount + Copy) -> Amount {
    let lasting = allocation.containers.iter().filter(|(name, _)| allocation.phase(name) != Phase::Init);
    let lasting = lasting.flat_map(|(_, shares)| shares).map(amount).fold(Amount::default(), Amount::saturating_add);
    more_for_init(allocation, amount).into_values().fold(lasting, Amount::saturating_add)
}

/// For each GPU, what a pod's init containers need beyond what its main ones have.
fn more_for_init(allocation: &Allocation, amount: impl Fn(&Share) -> Amount) -> BTreeMap<&str, Amount> {
    let mut main: BTreeMap<&str, Amount> = BTreeMap::new();
    let mut most: BTreeMap<&str, Amount> = BTreeMap::new();
    for (container, shares) in &allocation.containers {
        for share in shares {
            match allocation.phase(container) {
                Phase::Main => {
                    let sum = main.entry(&share.gpu).or_default();
                    *sum = sum.saturating_add(amount(share));
                }
                Phase::Init => {
                    let of_gpu = most.entry(&share.gpu).or_default();
                    *of_gpu = of_gpu.most(amount(share));
                }
                Phase::Sidecar => {}
            }
        }
    }
    most.into_iter()
        .map(|(gpu, most)| (gpu, most.saturating_sub(main.get(gpu).copied().unwrap_or_default())))
        .filter(|(_, more)| *more != Amount::default())
        .collect()
}
