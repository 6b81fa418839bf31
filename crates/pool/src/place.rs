//! The only place that decides where a vGPU goes.
//!
//! Scores (documented, in parts per million, see [`Amount::share_of`](crate::Amount::share_of)):
//! - `CompactFirst`: the GPU with the least free share that fits; several GPUs: the node with the least free sum.
//! - `LowLoadFirst`: the GPU with the most free share; several: the node with the most.
//! - `NodeCompactGPULowLoad`: the node with the least free sum on which enough GPUs fit, and there the emptiest GPUs.
//!
//! Ties go to the lower position. Candidates come from the inventory's ordered sets, so the search starts where the
//! request just fits and mostly ends at once.

use crate::inventory::{ClassIndex, takes_whole};
use crate::{Gpu, GpuIndex, Inventory, NodeIndex, Placement, Reason, Request, Strategy, Unplaced};

/// Finds GPUs for a request, or `None`: [`explain`] then says why. Changes nothing.
#[must_use]
pub fn place(inventory: &Inventory, request: &Request) -> Option<Placement> {
    if request.count == 0 || (request.amount == crate::Amount::default() && !takes_whole(request.isolation)) {
        return None;
    }
    let chosen = if request.count == 1 && request.strategy != Strategy::NodeCompactGPULowLoad {
        single(inventory, request).map(|gpu| vec![gpu])
    } else {
        on_one_node(inventory, request)
    };
    let mut gpus = chosen?;
    gpus.sort_unstable();
    let node = gpus.first().and_then(|&gpu| inventory.gpu(gpu)).map_or(NodeIndex(0), |gpu| gpu.node);
    Some(Placement { node, gpus, amount: request.amount, exclusive: takes_whole(request.isolation) })
}

fn classes<'a>(inventory: &'a Inventory, request: &'a Request) -> impl Iterator<Item = &'a ClassIndex> {
    let of_pool = |pool: &String| request.pool.as_ref().is_none_or(|asked| asked == pool);
    inventory
        .classes()
        .filter_map(move |((pool, model), index)| (of_pool(pool) && *model == request.model).then_some(index))
}

/// The best single GPU over all classes.
fn single(inventory: &Inventory, request: &Request) -> Option<GpuIndex> {
    let fits = |gpu: GpuIndex| inventory.gpu(gpu).is_some_and(|gpu| refusal(inventory, gpu, request).is_none());
    let low_load = request.strategy == Strategy::LowLoadFirst;
    let best = classes(inventory, request).filter_map(|class| {
        let order = if low_load { &class.gpus.most } else { &class.gpus.least };
        order.best(request.amount, fits)
    });
    best.min().map(|(_, gpu)| gpu)
}

/// Enough GPUs on the best node over all classes.
fn on_one_node(inventory: &Inventory, request: &Request) -> Option<Vec<GpuIndex>> {
    let low_load = request.strategy == Strategy::LowLoadFirst;
    let best = classes(inventory, request).filter_map(|class| {
        let nodes = class.nodes(request.count);
        let order = if low_load { &nodes.most } else { &nodes.least };
        order.best(request.amount, |node| on_node(inventory, node, request).is_some())
    });
    on_node(inventory, best.min()?.1, request)
}

fn on_node(inventory: &Inventory, node: NodeIndex, request: &Request) -> Option<Vec<GpuIndex>> {
    let count = request.count as usize;
    let mut fitting: Vec<(u32, GpuIndex, Option<u32>)> = Vec::new();
    for &index in &inventory.node(node)?.gpus {
        let Some(gpu) = inventory.gpu(index) else { continue };
        if refusal(inventory, gpu, request).is_none() {
            fitting.push((gpu.free.share_of(gpu.capacity), index, gpu.numa_node));
        }
    }
    if fitting.len() < count {
        return None;
    }
    match request.strategy {
        Strategy::CompactFirst => fitting.sort_unstable_by_key(|&(free, index, _)| (free, index)),
        _ => fitting.sort_unstable_by_key(|&(free, index, _)| (u32::MAX - free, index)),
    }
    let take = |numa: Option<u32>| -> Option<Vec<GpuIndex>> {
        let chosen: Vec<GpuIndex> = fitting
            .iter()
            .filter(|(_, _, of)| !request.one_numa_node || *of == numa)
            .map(|&(_, index, _)| index)
            .take(count)
            .collect();
        (chosen.len() == count).then_some(chosen)
    };
    if !request.one_numa_node {
        return take(None);
    }
    let mut nodes: Vec<u32> = fitting.iter().filter_map(|&(_, _, numa)| numa).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().find_map(|numa| take(Some(numa)))
}

/// The first reason why a GPU cannot serve a request, or `None`.
pub(crate) fn refusal(inventory: &Inventory, gpu: &Gpu, request: &Request) -> Option<Reason> {
    let node = inventory.node(gpu.node)?;
    let whole = takes_whole(request.isolation);
    let contains = |part: &String| gpu.model.to_lowercase().contains(&part.to_lowercase());
    // In the order of `Reason`; cheap checks that most requests leave open come first.
    if request.count == 0 || (request.amount == crate::Amount::default() && !whole) {
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
    if request.model.as_ref().is_some_and(|model| *model != gpu.model)
        || (!request.only_types.is_empty() && !request.only_types.iter().any(contains))
        || request.not_types.iter().any(contains)
    {
        return Some(Reason::OtherModel);
    }
    if (!request.indices.is_empty() && !request.indices.contains(&gpu.index))
        || (!request.only_uuids.is_empty() && !request.only_uuids.contains(&gpu.uuid))
        || request.not_uuids.contains(&gpu.uuid)
    {
        return Some(Reason::Excluded);
    }
    if gpu.exclusive || (whole && gpu.shares > 0) {
        return Some(Reason::Exclusive);
    }
    if gpu.free.vram < request.amount.vram {
        return Some(Reason::Vram);
    }
    (gpu.free.tflops < request.amount.tflops).then_some(Reason::Tflops)
}

/// Why a request has no place: looks at every GPU once and counts the first reason against it. Slower than [`place`] by
/// far, for people.
#[must_use]
pub fn explain(inventory: &Inventory, request: &Request) -> Unplaced {
    let mut unplaced = Unplaced { gpus: inventory.gpus().len(), asked: request.amount, ..Unplaced::default() };
    for gpu in inventory.gpus() {
        let reason = refusal(inventory, gpu, request).unwrap_or(Reason::TooFewOnNode);
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
    unplaced
}
