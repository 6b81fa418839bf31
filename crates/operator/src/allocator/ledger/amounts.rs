//! What a container asks, in amounts of one kind of card.

use pool::{Amount, Request};
use types::{Bytes, Percent, Tflops};

use crate::admission::{ContainerWish, Wish};

/// What a container asks of each card, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) request: Amount,
    pub(super) tflops_limit: Option<Tflops>,
    pub(super) vram_limit: Option<Bytes>,
}

/// Whether a container asks in percent, so that amounts depend on the card.
pub(super) fn is_relative(container: &ContainerWish) -> bool {
    (container.compute_percent.is_some() && container.tflops_request.is_none())
        || (container.vram_percent.is_some() && container.vram_request.is_none())
}

/// Amounts of a card. What is not asked for is not kept for it, and not limited.
pub(super) fn of_card(container: &ContainerWish, card: Amount) -> Asked {
    let compute = |percent: Percent| Tflops::from_milli(percent.share(card.tflops.milli()));
    let most = container.compute_percent_limit.map(compute);
    let compute = container.compute_percent.map(compute);
    let memory = container.vram_percent.map(|percent| Bytes::new(percent.share(card.vram.get())));
    let tflops = container.tflops_request.or(compute);
    let vram = container.vram_request.or(memory);
    Asked {
        request: Amount::new(tflops.unwrap_or_default(), vram.unwrap_or_default()),
        tflops_limit: container.tflops_limit.or(most).or(tflops),
        vram_limit: container.vram_limit.or(vram),
    }
}

/// The request of a container to the pool.
pub(super) fn request(wish: &Wish, container: &ContainerWish, asked: &Asked) -> Request {
    Request {
        amount: asked.request,
        count: container.gpus,
        pool: Some(wish.pool.clone()),
        model: wish.model.clone(),
        vendor: wish.vendor.clone(),
        indices: wish.indices.clone(),
        only_uuids: wish.only_uuids.iter().map(|uuid| uuid.to_lowercase()).collect(),
        not_uuids: wish.not_uuids.iter().map(|uuid| uuid.to_lowercase()).collect(),
        only_types: wish.only_types.clone(),
        not_types: wish.not_types.clone(),
        one_numa_node: wish.one_numa_node,
        qos: wish.qos,
        isolation: wish.isolation,
        strategy: wish.strategy.unwrap_or_default(),
        near: wish.near || container.gpus > 1,
        ..Request::default()
    }
}
