//! What the pool knows of its nodes and GPUs, and what is free.
//!
//! Besides the plain lists, the inventory keeps every GPU and node in ordered sets by how much is free, so that placing
//! looks at few candidates however large the pool is. Sets are per *class* (pool and model), because nearly every request
//! names at least one of the two.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Amount, Isolation};

/// Position of a GPU in its inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuIndex(pub u32);

/// Position of a node in its inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, unique.
    pub name: String,
    /// Its GPUs.
    pub gpus: Vec<GpuIndex>,
    /// Takes new work.
    pub ready: bool,
}

/// A GPU.
#[derive(Clone, Debug)]
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
    /// What may be given out: the card, times the pool's oversubscription.
    pub capacity: Amount,
    /// What is not given out yet.
    pub free: Amount,
    /// vGPUs on it.
    pub shares: u32,
    /// Taken whole.
    pub exclusive: bool,
    /// Takes new work.
    pub ready: bool,
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
}

/// An inventory was told something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// Two nodes or GPUs of the same name.
    #[error("`{0}` is in the inventory already")]
    Duplicate(String),
    /// A position that is not there.
    #[error("the inventory has no {kind} {index}")]
    Unknown {
        /// `node` or `gpu`.
        kind: &'static str,
        /// The position.
        index: u32,
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

/// A pool and a model: GPUs that answer the same requests.
pub(crate) type Class = (String, String);

/// GPUs and nodes of one class, by how much is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassIndex {
    pub(crate) gpus: BTreeSet<(u32, GpuIndex)>,
    /// Free share, summed over the node's GPUs of this class.
    pub(crate) nodes: BTreeSet<(u32, NodeIndex)>,
    node_free: BTreeMap<NodeIndex, u32>,
    /// At least the capacity of every GPU of the class, in both parts.
    largest: Amount,
}

impl ClassIndex {
    /// A GPU whose free share is below this cannot cover `amount`.
    pub(crate) fn least(&self, amount: Amount) -> u32 {
        amount.share_of(self.largest)
    }
}

/// All nodes and GPUs.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    nodes: Vec<Node>,
    gpus: Vec<Gpu>,
    names: BTreeSet<String>,
    classes: BTreeMap<Class, ClassIndex>,
}

impl Inventory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node.
    ///
    /// # Errors
    /// A node or GPU of that name is known already.
    pub fn add_node(&mut self, name: &str) -> Result<NodeIndex, InventoryError> {
        self.name(name)?;
        let index = NodeIndex(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { name: name.to_owned(), gpus: Vec::new(), ready: true });
        Ok(index)
    }

    /// Adds a GPU to its node, with everything free.
    ///
    /// # Errors
    /// A GPU of that UUID is known already, or the node is not.
    pub fn add_gpu(&mut self, mut gpu: Gpu) -> Result<GpuIndex, InventoryError> {
        let node = gpu.node;
        if self.nodes.get(node.0 as usize).is_none() {
            return Err(InventoryError::Unknown { kind: "node", index: node.0 });
        }
        self.name(&gpu.uuid)?;
        gpu.free = gpu.capacity;
        gpu.shares = 0;
        gpu.exclusive = false;
        let index = GpuIndex(u32::try_from(self.gpus.len()).unwrap_or(u32::MAX));
        self.gpus.push(gpu);
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            node.gpus.push(index);
        }
        self.index(index, true);
        Ok(index)
    }

    fn name(&mut self, name: &str) -> Result<(), InventoryError> {
        if self.names.insert(name.to_owned()) { Ok(()) } else { Err(InventoryError::Duplicate(name.to_owned())) }
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0 as usize)
    }

    /// A GPU.
    #[must_use]
    pub fn gpu(&self, index: GpuIndex) -> Option<&Gpu> {
        self.gpus.get(index.0 as usize)
    }

    /// All GPUs in order.
    #[must_use]
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// All nodes in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Says whether a GPU takes new work.
    ///
    /// # Errors
    /// The GPU is not known.
    pub fn set_ready(&mut self, index: GpuIndex, ready: bool) -> Result<(), InventoryError> {
        self.change(index, |gpu| {
            gpu.ready = ready;
            Ok(())
        })
    }

    /// Takes what a placement says.
    ///
    /// # Errors
    /// The placement does not fit any more; then nothing is taken.
    pub fn take(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        for (position, &index) in placement.gpus.iter().enumerate() {
            let taken = self.change(index, |gpu| {
                let whole = placement.exclusive;
                let left = if gpu.exclusive || (whole && gpu.shares > 0) {
                    None
                } else {
                    gpu.free.checked_sub(if whole { gpu.capacity } else { placement.amount })
                };
                let Some(left) = left else {
                    return Err(InventoryError::TooMuch {
                        uuid: gpu.uuid.clone(),
                        free: gpu.free,
                        asked: placement.amount,
                    });
                };
                gpu.free = left;
                gpu.shares += 1;
                gpu.exclusive = whole;
                Ok(())
            });
            if let Err(error) = taken {
                let back = Placement { gpus: placement.gpus.iter().copied().take(position).collect(), ..placement.clone() };
                self.give_back(&back)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back what [`take`](Self::take) took.
    ///
    /// # Errors
    /// It was not taken.
    pub fn give_back(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        for &index in &placement.gpus {
            self.change(index, |gpu| {
                let amount = if placement.exclusive { gpu.capacity } else { placement.amount };
                let free = gpu.free.checked_add(amount).filter(|&free| gpu.capacity.covers(free));
                match free {
                    Some(free) if gpu.shares > 0 && gpu.exclusive == placement.exclusive => {
                        gpu.free = free;
                        gpu.shares -= 1;
                        gpu.exclusive = false;
                        Ok(())
                    }
                    _ => Err(InventoryError::NotTaken { uuid: gpu.uuid.clone(), capacity: gpu.capacity }),
                }
            })?;
        }
        Ok(())
    }

    /// The index of every class that a request may use.
    pub(crate) fn classes(&self) -> &BTreeMap<Class, ClassIndex> {
        &self.classes
    }

    fn change(
        &mut self,
        index: GpuIndex,
        change: impl FnOnce(&mut Gpu) -> Result<(), InventoryError>,
    ) -> Result<(), InventoryError> {
        if self.gpu(index).is_none() {
            return Err(InventoryError::Unknown { kind: "gpu", index: index.0 });
        }
        self.index(index, false);
        let result = self.gpus.get_mut(index.0 as usize).map_or(Ok(()), change);
        self.index(index, true);
        result
    }

    /// Puts a GPU into the ordered sets, or takes it out.
    fn index(&mut self, index: GpuIndex, into: bool) {
        let Some(gpu) = self.gpus.get(index.0 as usize) else { return };
        let (free, node) = (gpu.free.share_of(gpu.capacity), gpu.node);
        let usable = gpu.ready && !gpu.exclusive;
        if !self.classes.contains_key(&(gpu.pool.clone(), gpu.model.clone())) {
            self.classes.insert((gpu.pool.clone(), gpu.model.clone()), ClassIndex::default());
        }
        let Some(class) = self.classes.get_mut(&(gpu.pool.clone(), gpu.model.clone())) else { return };
        class.largest.tflops = class.largest.tflops.max(gpu.capacity.tflops);
        class.largest.vram = class.largest.vram.max(gpu.capacity.vram);
        if usable {
            if into {
                class.gpus.insert((free, index));
            } else {
                class.gpus.remove(&(free, index));
            }
            let sum = class.node_free.entry(node).or_default();
            class.nodes.remove(&(*sum, node));
            *sum = if into { *sum + free } else { *sum - free };
            class.nodes.insert((*sum, node));
        }
    }
}

/// Whether a request for this isolation takes a GPU whole.
pub(crate) fn takes_whole(isolation: Isolation) -> bool {
    isolation == Isolation::Shared
}
