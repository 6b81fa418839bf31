//! What the pool knows of its nodes and GPUs, and what is free.
//!
//! Besides the plain lists, the inventory keeps every GPU and node in [fields](crate::field) by how much is free, so that
//! placing looks at few candidates however large the pool is. There is a set of fields for each [class](crate::class).

use std::collections::BTreeMap;

use crate::class::{Class, Hot, Scratch, Stand};
use crate::{Amount, Gpu, GpuIndex, InventoryError, Link, Node, NodeIndex, Placement};

/// All nodes and GPUs.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    nodes: Vec<Node>,
    gpus: Vec<Gpu>,
    hot: Vec<Hot>,
    names: BTreeMap<String, Named>,
    classes: Vec<Class>,
    /// Each node's classes and how it stands in them. A node with several models has the mixed class last.
    stands: Vec<Vec<(u32, Stand)>>,
    /// GPUs of which something is kept back.
    kept: std::collections::BTreeSet<GpuIndex>,
    scratch: Scratch,
}

#[derive(Clone, Copy, Debug)]
enum Named {
    Node(NodeIndex),
    Gpu(GpuIndex),
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
        let index = NodeIndex(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.name(name, Named::Node(index))?;
        self.nodes.push(Node { name: name.to_owned(), gpus: Vec::new(), links: Vec::new(), ready: true });
        self.stands.push(Vec::new());
        Ok(index)
    }

    /// Adds a GPU to its node, with everything free. Its capacity is at least its card.
    ///
    /// # Errors
    /// A GPU of that UUID is known already, or the node is not.
    pub fn add_gpu(&mut self, mut gpu: Gpu) -> Result<GpuIndex, InventoryError> {
        let node = gpu.node;
        let Some(known) = self.node(node) else {
            return Err(InventoryError::Unknown { kind: "node", index: node.0 });
        };
        let first = known.gpus.first().and_then(|&gpu| self.gpu(gpu));
        if let Some(other) = first.filter(|other| other.pool != gpu.pool) {
            return Err(InventoryError::TwoPools { uuid: gpu.uuid, pool: gpu.pool, other: other.pool.clone() });
        }
        let index = GpuIndex(u32::try_from(self.gpus.len()).unwrap_or(u32::MAX));
        self.name(&gpu.uuid, Named::Gpu(index))?;
        gpu.capacity = gpu.capacity.most(gpu.card);
        gpu.free = gpu.capacity;
        (gpu.guaranteed, gpu.reserved, gpu.reserved_guarantee) = Default::default();
        (gpu.shares, gpu.exclusive) = (0, false);
        let class = self.class(&gpu, false);
        let hot = Hot::of(&gpu, &self.nodes[node.0 as usize], class);
        self.nodes[node.0 as usize].gpus.push(index);
        self.hot.push(hot);
        self.join(class, index, &gpu);
        if hot.usable {
            self.classes[class as usize].insert(index, &hot);
        }
        self.meet(node, class);
        let slots = &self.stands[node.0 as usize];
        let mixed = slots.last().map(|slot| slot.0).filter(|&last| self.classes[last as usize].mixed);
        if mixed.is_none() && slots.len() > 1 {
            // The node has a second model: from now on it is in the class of mixed nodes, with all that it has.
            let mixed = self.class(&gpu, true);
            let all = self.nodes[node.0 as usize].gpus.clone();
            for member in all {
                let known = self.gpus.get(member.0 as usize).unwrap_or(&gpu).clone();
                self.join(mixed, member, &known);
            }
            self.stands[node.0 as usize].push((mixed, Stand::default()));
        } else if let Some(mixed) = mixed {
            self.join(mixed, index, &gpu);
        }
        self.gpus.push(gpu);
        self.restand(node);
        Ok(index)
    }

    /// Says that two GPUs of one node have a direct link.
    ///
    /// # Errors
    /// They are not two GPUs of one node.
    pub fn link(&mut self, a: GpuIndex, b: GpuIndex, count: u32, megabytes: u64) -> Result<(), InventoryError> {
        let (a, b) = (a.min(b), a.max(b));
        let nodes = (self.gpu(a).map(|gpu| gpu.node), self.gpu(b).map(|gpu| gpu.node));
        let (Some(node), true) = (nodes.0, nodes.0 == nodes.1 && a != b) else {
            return Err(InventoryError::NoPair { a: a.0, b: b.0 });
        };
        let links = &mut self.nodes[node.0 as usize].links;
        links.retain(|link| (link.a, link.b) != (a, b));
        links.push(Link { a, b, count, megabytes });
        Ok(())
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

    /// The node of this name.
    #[must_use]
    pub fn find_node(&self, name: &str) -> Option<NodeIndex> {
        self.names.get(name).and_then(|named| if let Named::Node(node) = named { Some(*node) } else { None })
    }

    /// The GPU of this UUID.
    #[must_use]
    pub fn find_gpu(&self, uuid: &str) -> Option<GpuIndex> {
        self.names.get(uuid).and_then(|named| if let Named::Gpu(gpu) = named { Some(*gpu) } else { None })
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
        let gpu = self.gpus.get_mut(index.0 as usize);
        gpu.ok_or(InventoryError::Unknown { kind: "gpu", index: index.0 })?.ready = ready;
        self.refresh(&[index]);
        Ok(())
    }

    /// Says whether a node takes new work.
    ///
    /// # Errors
    /// The node is not known.
    pub fn set_node_ready(&mut self, index: NodeIndex, ready: bool) -> Result<(), InventoryError> {
        let node = self.nodes.get_mut(index.0 as usize);
        let node = node.ok_or(InventoryError::Unknown { kind: "node", index: index.0 })?;
        node.ready = ready;
        let gpus = node.gpus.clone();
        self.refresh(&gpus);
        Ok(())
    }

    /// Takes what a placement says, also of what is kept back.
    ///
    /// # Errors
    /// The placement does not fit any more; then nothing is taken.
    pub fn take(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        let mut result = Ok(());
        let mut done = 0;
        for &index in &placement.gpus {
            result = match self.gpus.get_mut(index.0 as usize) {
                Some(gpu) => take(gpu, placement),
                None => Err(InventoryError::Unknown { kind: "gpu", index: index.0 }),
            };
            if result.is_err() {
                break;
            }
            done += 1;
        }
        if result.is_err() {
            for &index in placement.gpus.iter().take(done) {
                give_back(&mut self.gpus[index.0 as usize], placement)?;
            }
            return result;
        }
        self.refresh(&placement.gpus);
        Ok(())
    }

    /// Gives back what [`take`](Self::take) took.
    ///
    /// # Errors
    /// It was not taken; what was of the GPUs before the one that the error names is given back.
    pub fn give_back(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        let mut result = Ok(());
        for &index in &placement.gpus {
            result = match self.gpus.get_mut(index.0 as usize) {
                Some(gpu) => give_back(gpu, placement),
                None => Err(InventoryError::Unknown { kind: "gpu", index: index.0 }),
            };
            if result.is_err() {
                break;
            }
        }
        self.refresh(&placement.gpus);
        result
    }

    /// Keeps what a placement says back for it: others find it no longer, and what is given back there goes to it first.
    /// It need not be free yet. A whole GPU is kept back whole.
    ///
    /// # Errors
    /// A GPU is not known; then nothing is kept back.
    pub fn reserve(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        self.keep(placement, |reserved, amount| reserved.saturating_add(amount))
    }

    /// Ends what [`reserve`](Self::reserve) began: before the placement is taken, or when it is given up.
    ///
    /// # Errors
    /// A GPU is not known; then nothing changes.
    pub fn unreserve(&mut self, placement: &Placement) -> Result<(), InventoryError> {
        self.keep(placement, |reserved, amount| reserved.saturating_sub(amount))
    }

    fn keep(&mut self, placement: &Placement, change: impl Fn(Amount, Amount) -> Amount) -> Result<(), InventoryError> {
        if let Some(unknown) = placement.gpus.iter().find(|&&index| self.gpu(index).is_none()) {
            return Err(InventoryError::Unknown { kind: "gpu", index: unknown.0 });
        }
        for &index in &placement.gpus {
            let gpu = &mut self.gpus[index.0 as usize];
            gpu.reserved = change(gpu.reserved, if placement.exclusive { gpu.capacity } else { placement.amount });
            if placement.guaranteed && !placement.exclusive {
                gpu.reserved_guarantee = change(gpu.reserved_guarantee, placement.amount);
            }
            if gpu.reserved == Amount::default() {
                self.kept.remove(&index)
            } else {
                self.kept.insert(index)
            };
        }
        self.refresh(&placement.gpus);
        Ok(())
    }

    /// GPUs of which something is kept back, in order.
    pub fn kept(&self) -> impl Iterator<Item = GpuIndex> {
        self.kept.iter().copied()
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = (u32, &Class)> {
        (0..).zip(&self.classes)
    }

    pub(crate) fn hot(&self, gpu: u32) -> &Hot {
        &self.hot[gpu as usize]
    }

    pub(crate) fn class_of(&self, hot: &Hot) -> &Class {
        &self.classes[hot.class as usize]
    }

    /// Whether a node has GPUs of several models.
    pub(crate) fn is_mixed(&self, node: u32) -> bool {
        self.stands[node as usize].len() > 1
    }

    /// The sum of the open shares of a node's GPUs.
    pub(crate) fn sum(&self, node: u32) -> u32 {
        self.stands[node as usize].last().map_or(0, |stand| stand.1.sum())
    }

    fn name(&mut self, name: &str, named: Named) -> Result<(), InventoryError> {
        if self.names.contains_key(name) {
            return Err(InventoryError::Duplicate(name.to_owned()));
        }
        self.names.insert(name.to_owned(), named);
        Ok(())
    }

    /// The class of a GPU, or of mixed nodes of its pool.
    fn class(&mut self, gpu: &Gpu, mixed: bool) -> u32 {
        let same = |class: &Class| {
            class.pool == gpu.pool
                && class.mixed == mixed
                && (mixed || (class.model == gpu.model && class.vendor == gpu.vendor))
        };
        let position = self.classes.iter().position(same).unwrap_or_else(|| {
            self.classes.push(Class::new(gpu, mixed));
            self.classes.len() - 1
        });
        u32::try_from(position).unwrap_or(u32::MAX)
    }

    /// Makes a GPU a member of a class, whose fields may have to be filled again for it.
    fn join(&mut self, class: u32, index: GpuIndex, gpu: &Gpu) {
        let this = &mut self.classes[class as usize];
        if this.admit(gpu) {
            let members = std::mem::take(&mut this.members);
            for &member in &members {
                let hot = &self.hot[member.0 as usize];
                if hot.usable && !this.mixed {
                    this.insert(member, hot);
                }
            }
            let mut nodes: Vec<u32> = members.iter().map(|member| self.hot[member.0 as usize].node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            for node in nodes {
                if let Some((_, stand)) = self.stands[node as usize].iter().find(|stand| stand.0 == class) {
                    this.insert_node(node, stand);
                }
            }
            this.members = members;
        }
        this.members.push(index);
    }

    /// Gives a node a stand in a class, before that of mixed nodes.
    fn meet(&mut self, node: NodeIndex, class: u32) {
        let stands = &mut self.stands[node.0 as usize];
        if !stands.iter().any(|stand| stand.0 == class) {
            let mixed = stands.iter().position(|stand| self.classes[stand.0 as usize].mixed);
            stands.insert(mixed.unwrap_or(stands.len()), (class, Stand::default()));
        }
    }

    /// Brings the fields up to date after these GPUs changed.
    fn refresh(&mut self, gpus: &[GpuIndex]) {
        let mut last = None;
        for &index in gpus {
            let Some(gpu) = self.gpus.get(index.0 as usize) else { continue };
            let old = self.hot[index.0 as usize];
            let new = Hot::of(gpu, &self.nodes[gpu.node.0 as usize], old.class);
            if let Some(node) = last.replace(gpu.node).filter(|&node| node != gpu.node) {
                self.restand(node);
            }
            if new == old {
                continue;
            }
            let class = &mut self.classes[new.class as usize];
            if old.usable {
                class.remove(index, &old);
            }
            if new.usable {
                class.insert(index, &new);
            }
            self.hot[index.0 as usize] = new;
        }
        if let Some(node) = last {
            self.restand(node);
        }
    }

    /// Brings a node's stands up to date.
    fn restand(&mut self, node: NodeIndex) {
        let gpus = &self.nodes[node.0 as usize].gpus;
        for (class, stand) in &mut self.stands[node.0 as usize] {
            let this = &mut self.classes[*class as usize];
            let all = gpus.iter().map(|gpu| &self.hot[gpu.0 as usize]);
            let new = Stand::of(all.filter(|hot| this.mixed || hot.class == *class), &mut self.scratch);
            if new != *stand {
                this.restand(node.0, stand, &new);
                self.scratch.corners = std::mem::replace(stand, new).corners;
            } else {
                self.scratch.corners = new.corners;
            }
        }
    }
}

fn take(gpu: &mut Gpu, placement: &Placement) -> Result<(), InventoryError> {
    let whole = placement.exclusive;
    let blocked = gpu.exclusive || (whole && gpu.shares > 0);
    let left = gpu.free.checked_sub(if whole { gpu.capacity } else { placement.amount }).filter(|_| !blocked);
    let guaranteed = if placement.guaranteed && !whole {
        gpu.guaranteed.checked_add(placement.amount).filter(|&sum| gpu.card.covers(sum))
    } else {
        Some(gpu.guaranteed)
    };
    let (Some(left), Some(guaranteed)) = (left, guaranteed) else {
        let free = if left.is_none() { gpu.free } else { gpu.card.saturating_sub(gpu.guaranteed) };
        return Err(InventoryError::TooMuch { uuid: gpu.uuid.clone(), free, asked: placement.amount });
    };
    (gpu.free, gpu.guaranteed) = (left, guaranteed);
    gpu.shares += 1;
    gpu.exclusive = whole;
    Ok(())
}

fn give_back(gpu: &mut Gpu, placement: &Placement) -> Result<(), InventoryError> {
    let amount = if placement.exclusive { gpu.capacity } else { placement.amount };
    let free = gpu.free.checked_add(amount).filter(|&free| gpu.capacity.covers(free));
    let kept = if placement.guaranteed && !placement.exclusive { placement.amount } else { Amount::default() };
    let guaranteed = gpu.guaranteed.checked_sub(kept);
    match (free, guaranteed) {
        (Some(free), Some(guaranteed)) if gpu.shares > 0 && gpu.exclusive == placement.exclusive => {
            (gpu.free, gpu.guaranteed) = (free, guaranteed);
            gpu.shares -= 1;
            gpu.exclusive = false;
            Ok(())
        }
        _ => Err(InventoryError::NotTaken { uuid: gpu.uuid.clone(), capacity: gpu.capacity }),
    }
}
