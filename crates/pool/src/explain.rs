//! Why a request has no place, for people.

use std::collections::BTreeMap;

use crate::{Amount, Gpu, GpuIndex, Inventory, NodeIndex, Reason, Request, Unplaced, topology};

/// Why a request has no place: looks at every GPU once and counts the first reason against it, so the counts add up to the
/// GPUs there are. Slower than [`place`](crate::place) by far.
#[must_use]
pub fn explain(inventory: &Inventory, request: &Request) -> Unplaced {
    let mut unplaced = Unplaced { gpus: inventory.gpus().len(), asked: request.amount, ..Unplaced::default() };
    let mut fitting: BTreeMap<NodeIndex, Vec<(u32, GpuIndex)>> = BTreeMap::new();
    for (index, gpu) in (0..).zip(inventory.gpus()) {
        let Some(reason) = refusal(inventory, gpu, request) else {
            fitting.entry(gpu.node).or_default().push((0, GpuIndex(index)));
            continue;
        };
        *unplaced.reasons.entry(reason).or_default() += 1;
        match reason {
            Reason::Vram if unplaced.best_vram.as_ref().is_none_or(|(best, _)| gpu.free.vram > *best) => {
                unplaced.best_vram = Some((gpu.free.vram, gpu.uuid.clone()));
            }
            Reason::Tflops if unplaced.best_tflops.as_ref().is_none_or(|(best, _)| gpu.free.tflops > *best) => {
                unplaced.best_tflops = Some((gpu.free.tflops, gpu.uuid.clone()));
            }
            _ => {}
        }
    }
    for (node, gpus) in fitting {
        let far = gpus.len() >= request.count as usize && topology::choose(inventory, node, &gpus, request).is_none();
        *unplaced.reasons.entry(if far { Reason::TooFar } else { Reason::TooFewOnNode }).or_default() += gpus.len();
    }
    unplaced
}

/// The first reason why a GPU cannot serve a request, or `None`.
pub(crate) fn refusal(inventory: &Inventory, gpu: &Gpu, request: &Request) -> Option<Reason> {
    let node = inventory.node(gpu.node)?;
    let whole = request.takes_whole();
    // In the order of `Reason`; cheap checks that most requests leave open come first.
    if request.count == 0 || (request.amount == Amount::default() && !whole) {
        return Some(Reason::NothingAsked);
    }
    if request.pool.as_ref().is_some_and(|pool| *pool != gpu.pool) {
        return Some(Reason::OtherPool);
    }
    if !request.nodes.is_empty() && !request.nodes.contains(&node.name) {
        return Some(Reason::OtherNode);
    }
    if !gpu.ready || !node.ready {
        return Some(Reason::NotReady);
    }
    if request.vendor.as_ref().is_some_and(|vendor| *vendor != gpu.vendor) {
        return Some(Reason::OtherVendor);
    }
    if !is_of_model(request, &gpu.model) {
        return Some(Reason::OtherModel);
    }
    if is_excluded(request, gpu) {
        return Some(Reason::Excluded);
    }
    if gpu.exclusive || (whole && gpu.shares > 0) {
        return Some(Reason::Exclusive);
    }
    // A whole GPU has what its card has; the rest of the capacity is other people's memory.
    let free = if whole { gpu.free.least(gpu.card) } else { gpu.free };
    if free.vram < request.amount.vram {
        return Some(Reason::Vram);
    }
    if free.tflops < request.amount.tflops {
        return Some(Reason::Tflops);
    }
    if request.is_guaranteed() && !gpu.guaranteeable().covers(request.amount) {
        return Some(Reason::Guarantee);
    }
    let kept = if whole { gpu.reserved != Amount::default() } else { !gpu.open().covers(request.amount) };
    kept.then_some(Reason::Reserved)
}

/// Whether a model is one of those asked for.
pub(crate) fn is_of_model(request: &Request, model: &str) -> bool {
    let contains = |part: &String| model.to_lowercase().contains(&part.to_lowercase());
    request.model.as_ref().is_none_or(|asked| asked == model)
        && (request.only_types.is_empty() || request.only_types.iter().any(contains))
        && !request.not_types.iter().any(contains)
}

/// Whether a GPU is excluded by index or UUID.
pub(crate) fn is_excluded(request: &Request, gpu: &Gpu) -> bool {
    (!request.indices.is_empty() && !request.indices.contains(&gpu.index))
        || (!request.only_uuids.is_empty() && !request.only_uuids.contains(&gpu.uuid))
        || request.not_uuids.contains(&gpu.uuid)
}
