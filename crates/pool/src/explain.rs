//! Why a request has no place, for people.

use std::collections::BTreeMap;

use crate::{Amount, Gpu, GpuIndex, Inventory, NodeIndex, Placement, Reason, Request, Unplaced, topology};

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

/// What changes about a GPU as shares come and go: what is, or what would be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) free: Amount,
    pub(crate) guaranteed: Amount,
    pub(crate) reserved: Amount,
    pub(crate) reserved_guarantee: Amount,
    pub(crate) shares: u32,
    pub(crate) exclusive: bool,
}

impl State {
    pub(crate) fn of(gpu: &Gpu) -> Self {
        Self {
            free: gpu.free,
            guaranteed: gpu.guaranteed,
            reserved: gpu.reserved,
            reserved_guarantee: gpu.reserved_guarantee,
            shares: gpu.shares,
            exclusive: gpu.exclusive,
        }
    }

    /// What would be if a share were given back.
    pub(crate) fn without(mut self, gpu: &Gpu, share: &Placement) -> Self {
        let amount = if share.exclusive { gpu.capacity } else { share.amount };
        self.free = self.free.saturating_add(amount).least(gpu.capacity);
        if share.guaranteed && !share.exclusive {
            self.guaranteed = self.guaranteed.saturating_sub(share.amount);
        }
        self.shares = self.shares.saturating_sub(1);
        self.exclusive &= !share.exclusive;
        self
    }

    /// What would be if a share were taken.
    pub(crate) fn with(mut self, gpu: &Gpu, share: &Placement) -> Self {
        self.free = self.free.saturating_sub(if share.exclusive { gpu.capacity } else { share.amount });
        if share.guaranteed && !share.exclusive {
            self.guaranteed = self.guaranteed.saturating_add(share.amount);
        }
        self.shares = self.shares.saturating_add(1);
        self.exclusive |= share.exclusive;
        self
    }

    /// What would be if nothing were kept back for this any more.
    pub(crate) fn unreserved(mut self, gpu: &Gpu, kept: &Placement) -> Self {
        self.reserved = self.reserved.saturating_sub(if kept.exclusive { gpu.capacity } else { kept.amount });
        if kept.guaranteed && !kept.exclusive {
            self.reserved_guarantee = self.reserved_guarantee.saturating_sub(kept.amount);
        }
        self
    }

    /// The first reason why a GPU in this state cannot serve a request that it could otherwise serve.
    pub(crate) fn refusal(&self, gpu: &Gpu, request: &Request) -> Option<Reason> {
        let whole = request.takes_whole();
        if self.exclusive || (whole && self.shares > 0) {
            return Some(Reason::Exclusive);
        }
        // A whole GPU has what its card has; the rest of the capacity is other people's memory.
        let free = if whole { self.free.least(gpu.card) } else { self.free };
        if free.vram < request.amount.vram {
            return Some(Reason::Vram);
        }
        if free.tflops < request.amount.tflops {
            return Some(Reason::Tflops);
        }
        if request.is_guaranteed() && !gpu.card.saturating_sub(self.guaranteed).covers(request.amount) {
            return Some(Reason::Guarantee);
        }
        let surely = || {
            let left = gpu.card.saturating_sub(self.guaranteed).saturating_sub(self.reserved_guarantee);
            !request.is_guaranteed() || left.covers(request.amount)
        };
        let kept = if whole {
            self.reserved != Amount::default()
        } else {
            !(self.free.saturating_sub(self.reserved).covers(request.amount) && surely())
        };
        kept.then_some(Reason::Reserved)
    }
}

/// The first reason why a GPU cannot serve a request, or `None`. In the order of `Reason`.
pub(crate) fn refusal(inventory: &Inventory, gpu: &Gpu, request: &Request) -> Option<Reason> {
    unsuited(inventory, gpu, request).or_else(|| State::of(gpu).refusal(gpu, request))
}

/// The first reason why a GPU could not serve a request even if nobody were on it.
pub(crate) fn unsuited(inventory: &Inventory, gpu: &Gpu, request: &Request) -> Option<Reason> {
    let node = inventory.node(gpu.node)?;
    if request.count == 0 || (request.amount == Amount::default() && !request.takes_whole()) {
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
    is_excluded(request, gpu).then_some(Reason::Excluded)
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
