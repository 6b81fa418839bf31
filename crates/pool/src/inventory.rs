//! What the pool knows of its nodes and GPUs, and what is free.
//!
//! Besides the plain lists, the inventory keeps every GPU and node in ordered sets by how much is free, so that placing
//! looks at few candidates however large the pool is. Sets are per *class*: a pool, with one model or all.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Amount, Isolation, grid::Grid};

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

/// GPUs that answer the same requests: a pool, and a model or (`None`) all of them.
pub(crate) type Class = (String, Option<String>);

/// Requests for more GPUs than this share one set of nodes.
const COUNTS: usize = 8;

/// GPUs and nodes of one class, by how much is free. `least` is in the order of the free share, `most` in the opposite.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassIndex {
    pub(crate) gpus: Order<GpuIndex>,
    /// Nodes by the sum of their free shares; the amount is what the k-th best GPU has free, for k from 1, each part for
    /// itself: a node needs so much, though it may still not do.
    nodes: [Order<NodeIndex>; COUNTS],
    stands: BTreeMap<NodeIndex, Stand>,
}

/// Both orders of the same things.
#[derive(Clone, Debug)]
pub(crate) struct Order<T> {
    pub(crate) least: Grid<T>,
    pub(crate) most: Grid<T>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { least: Grid::default(), most: Grid::default() }
    }
}

impl<T: Ord + Copy> Order<T> {
    fn insert(&mut self, free: Amount, share: u32, item: T) {
        self.least.insert(free, share, item);
        self.most.insert(free, u32::MAX - share, item);
    }

    fn remove(&mut self, free: Amount, share: u32, item: T) {
        self.least.remove(free, share, item);
        self.most.remove(free, u32::MAX - share, item);
    }
}

/// How a node stands in the sets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stand {
    share: u32,
    best: Vec<Amount>,
}

impl ClassIndex {
    /// The nodes that may have `count` fitting GPUs.
    pub(crate) fn nodes(&self, count: u32) -> &Order<NodeIndex> {
        let last = COUNTS - 1;
        let position = usize::try_from(count).map_or(last, |count| count.saturating_sub(1).min(last));
        self.nodes.get(position).unwrap_or(&self.nodes[0])
    }

    fn restand(&mut self, node: NodeIndex, stand: Stand) {
        let before = self.stands.remove(&node).unwrap_or_default();
        for (position, order) in self.nodes.iter_mut().enumerate() {
            if let Some(&best) = before.best.get(position) {
                order.remove(best, before.share, node);
            }
            if let Some(&best) = stand.best.get(position) {
                order.insert(best, stand.share, node);
            }
        }
        self.stands.insert(node, stand);
    }
}

/// How a node stands with these GPUs.
fn stand<'a>(gpus: impl Iterator<Item = &'a Gpu>) -> Stand {
    let (mut share, mut vram, mut tflops) = (0, Vec::new(), Vec::new());
    for gpu in gpus.filter(|gpu| gpu.ready && !gpu.exclusive) {
        share += gpu.free.share_of(gpu.capacity);
        vram.push(gpu.free.vram);
        tflops.push(gpu.free.tflops);
    }
    vram.sort_unstable_by(|a, b| b.cmp(a));
    tflops.sort_unstable_by(|a, b| b.cmp(a));
    Stand { share, best: tflops.into_iter().zip(vram).map(|(tflops, vram)| Amount::new(tflops, vram)).collect() }
}

/// All nodes and GPUs.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    nodes: Vec<Node>,
    gpus: Vec<Gpu>,
    names: BTreeSet<String>,
    /// Positions in `indices`.
    classes: BTreeMap<Class, usize>,
    indices: Vec<ClassIndex>,
    /// Each GPU's two classes: all models, and its own.
    class_of: Vec<[usize; 2]>,
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
        let first = self.nodes.get(node.0 as usize).and_then(|node| node.gpus.first()).and_then(|&gpu| self.gpu(gpu));
        if let Some(other) = first.filter(|other| other.pool != gpu.pool) {
            return Err(InventoryError::TwoPools { uuid: gpu.uuid, pool: gpu.pool, other: other.pool.clone() });
        }
        self.name(&gpu.uuid)?;
        gpu.free = gpu.capacity;
        gpu.shares = 0;
        gpu.exclusive = false;
        let index = GpuIndex(u32::try_from(self.gpus.len()).unwrap_or(u32::MAX));
        let classes = [self.class(&gpu.pool, None), self.class(&gpu.pool, Some(&gpu.model))];
        self.class_of.push(classes);
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
                let back =
                    Placement { gpus: placement.gpus.iter().copied().take(position).collect(), ..placement.clone() };
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

    /// Every class with its index.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&Class, &ClassIndex)> {
        self.classes.iter().filter_map(|(class, &position)| Some((class, self.indices.get(position)?)))
    }

    fn class(&mut self, pool: &str, model: Option<&str>) -> usize {
        let next = self.indices.len();
        let position = *self.classes.entry((pool.to_owned(), model.map(str::to_owned))).or_insert(next);
        if position == next {
            self.indices.push(ClassIndex::default());
        }
        position
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

    /// Puts a GPU into the ordered sets, with its node's new standing, or takes it out.
    fn index(&mut self, index: GpuIndex, into: bool) {
        let Some(gpu) = self.gpus.get(index.0 as usize) else { return };
        let share = gpu.free.share_of(gpu.capacity);
        let usable = gpu.ready && !gpu.exclusive;
        let classes = self.class_of.get(index.0 as usize).copied().unwrap_or_default();
        let Some(node) = self.nodes.get(gpu.node.0 as usize) else { return };
        for position in classes {
            let Some(class) = self.indices.get_mut(position) else { continue };
            if !into {
                class.gpus.remove(gpu.free, share, index);
                continue;
            }
            if usable {
                class.gpus.insert(gpu.free, share, index);
            }
            let of_class = node
                .gpus
                .iter()
                .filter(|gpu| self.class_of.get(gpu.0 as usize).is_some_and(|classes| classes.contains(&position)));
            class.restand(gpu.node, stand(of_class.filter_map(|gpu| self.gpus.get(gpu.0 as usize))));
        }
    }
}

/// Whether a request for this isolation takes a GPU whole.
pub(crate) fn takes_whole(isolation: Isolation) -> bool {
    isolation == Isolation::Shared
}
