//! What an inventory holds: nodes, GPUs, links between them, and what is given out of them.

use crate::Amount;

/// Position of a GPU in its inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuIndex(pub u32);

/// Position of a node in its inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, unique.
    pub name: String,
    /// Its GPUs.
    pub gpus: Vec<GpuIndex>,
    /// Direct links between them, each pair once, the lower GPU first.
    pub links: Vec<Link>,
    /// Takes new work.
    pub ready: bool,
}

/// A direct link (NVLink, xGMI) between two GPUs of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The lower GPU.
    pub a: GpuIndex,
    /// The higher GPU.
    pub b: GpuIndex,
    /// Lanes between them.
    pub count: u32,
    /// MB/s of all of them together.
    pub megabytes: u64,
}

/// A GPU. Make one with [`Gpu::new`] and set what is known: `Gpu { model, ..Gpu::new(uuid, node, index, card) }`.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    /// Identity, unique.
    pub uuid: String,
    /// Its node.
    pub node: NodeIndex,
    /// Position on the node.
    pub index: u32,
    /// Pool.
    pub pool: String,
    /// Short model name.
    pub model: String,
    /// Vendor.
    pub vendor: String,
    /// NUMA node, or `None` when unknown.
    pub numa_node: Option<u32>,
    /// The card itself. What is guaranteed ([`Request::is_guaranteed`](crate::Request::is_guaranteed)) is never more.
    pub card: Amount,
    /// What may be given out: the card, with the pool's [oversubscription](crate::Oversubscription).
    pub capacity: Amount,
    /// What is not given out yet.
    pub free: Amount,
    /// What is given out to requests that are guaranteed.
    pub guaranteed: Amount,
    /// Kept back for [nominated](crate::Inventory::reserve) requests; may be more than is free.
    pub reserved: Amount,
    /// The part of what is kept back that is for requests that are guaranteed.
    pub reserved_guarantee: Amount,
    /// vGPUs on it.
    pub shares: u32,
    /// Taken whole.
    pub exclusive: bool,
    /// Takes new work.
    pub ready: bool,
}

impl Gpu {
    /// A ready GPU of which everything is free, without oversubscription, in pool `default`, of no known model.
    #[must_use]
    pub fn new(uuid: impl Into<String>, node: NodeIndex, index: u32, card: Amount) -> Self {
        Self {
            uuid: uuid.into(),
            node,
            index,
            pool: "default".to_owned(),
            card,
            capacity: card,
            free: card,
            ready: true,
            ..Self::default()
        }
    }

    /// What is free and kept back for nobody.
    #[must_use]
    pub fn open(&self) -> Amount {
        self.free.saturating_sub(self.reserved)
    }

    /// What may still be guaranteed of the card, and is kept back for nobody.
    #[must_use]
    pub fn guaranteeable(&self) -> Amount {
        self.card.saturating_sub(self.guaranteed).saturating_sub(self.reserved_guarantee)
    }
}

/// An answer: which GPUs, and how much of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeIndex,
    /// The GPUs, ascending.
    pub gpus: Vec<GpuIndex>,
    /// Of each.
    pub amount: Amount,
    /// Each is taken whole.
    pub exclusive: bool,
    /// The amount is guaranteed by the card, not by oversubscription
    /// ([`Request::is_guaranteed`](crate::Request::is_guaranteed)).
    pub guaranteed: bool,
}

/// An inventory was told something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// Two nodes or GPUs of the same name.
    #[error("`{0}` is in the inventory already")]
    Duplicate(String),
    /// A node's GPUs belong to one pool.
    #[error("gpu `{uuid}` is of pool `{pool}`, but its node's other GPUs are of `{other}`")]
    TwoPools {
        /// The GPU.
        uuid: String,
        /// Its pool.
        pool: String,
        /// The others'.
        other: String,
    },
    /// A position that is not there.
    #[error("the inventory has no {kind} {index}")]
    Unknown {
        /// `node` or `gpu`.
        kind: &'static str,
        /// The position.
        index: u32,
    },
    /// A link needs two GPUs of one node.
    #[error("gpu {a} and gpu {b} are no two GPUs of one node, so nothing links them")]
    NoPair {
        /// One.
        a: u32,
        /// The other.
        b: u32,
    },
    /// More taken than there is: the placement is stale.
    #[error("gpu `{uuid}` has {free} free, which does not cover {asked}")]
    TooMuch {
        /// The GPU.
        uuid: String,
        /// What is free.
        free: Amount,
        /// What was to be taken.
        asked: Amount,
    },
    /// More given back than was taken.
    #[error("gpu `{uuid}` would have more free than its capacity of {capacity}")]
    NotTaken {
        /// The GPU.
        uuid: String,
        /// Its capacity.
        capacity: Amount,
    },
}
