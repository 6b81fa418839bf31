//! GPUs that answer the same requests, and the nodes that have them, ready to be searched.

use crate::field::Field;
use crate::{Amount, Gpu, GpuIndex, Node};

/// Nodes are kept by what their k-th best GPU has free, for these k: a node needs so much, though it may still not do.
pub(crate) const COUNTS: [usize; 4] = [1, 2, 4, 8];

/// What placing looks at of a GPU, in one cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hot {
    /// Free, and kept back for nobody.
    pub(crate) open: Amount,
    /// What may still be guaranteed.
    pub(crate) room: Amount,
    /// The open share of the capacity, in parts per million.
    pub(crate) share: u32,
    pub(crate) class: u32,
    pub(crate) node: u32,
    /// Takes new work.
    pub(crate) usable: bool,
    /// Nobody is on it, and it is kept back for nobody.
    pub(crate) idle: bool,
}

impl Hot {
    pub(crate) fn of(gpu: &Gpu, node: &Node, class: u32) -> Self {
        let open = gpu.open();
        Self {
            open,
            room: gpu.guaranteeable(),
            share: open.share_of(gpu.capacity),
            class,
            node: gpu.node.0,
            usable: gpu.ready && node.ready && !gpu.exclusive,
            idle: gpu.shares == 0 && gpu.reserved == Amount::default(),
        }
    }

    /// What a guaranteed request may have.
    pub(crate) fn sure(&self) -> Amount {
        self.open.least(self.room)
    }
}

/// See the module's text. A class is all GPUs of one pool, model and vendor; besides, a pool that has nodes with several
/// models has one class of those nodes.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) pool: String,
    pub(crate) model: String,
    pub(crate) vendor: String,
    /// The class of a pool's nodes with several models: it has nodes only.
    pub(crate) mixed: bool,
    /// No GPU has less capacity in either part.
    pub(crate) smallest: Amount,
    largest: Amount,
    /// Some GPU gives out more than its card: then what is guaranteed is kept apart.
    oversubscribed: bool,
    pub(crate) members: Vec<GpuIndex>,
    gpus: [Field; 2],
    nodes: [[Field; COUNTS.len()]; 2],
}

impl Class {
    pub(crate) fn new(gpu: &Gpu, mixed: bool) -> Self {
        let field = || Field::new(Amount::default());
        Self {
            pool: gpu.pool.clone(),
            model: if mixed { String::new() } else { gpu.model.clone() },
            vendor: if mixed { String::new() } else { gpu.vendor.clone() },
            mixed,
            smallest: gpu.capacity,
            largest: Amount::default(),
            oversubscribed: false,
            members: Vec::new(),
            gpus: [field(), field()],
            nodes: std::array::from_fn(|_| std::array::from_fn(|_| field())),
        }
    }

    /// Makes room for a GPU of this kind. `true`: the fields are empty now, and everything must be put in again.
    pub(crate) fn admit(&mut self, gpu: &Gpu) -> bool {
        self.smallest = self.smallest.least(gpu.capacity);
        let largest = self.largest.most(gpu.capacity);
        let oversubscribed = self.oversubscribed || gpu.capacity != gpu.card;
        let same = self.largest.covers(largest) && oversubscribed == self.oversubscribed;
        if same {
            return false;
        }
        // Room to grow, so that GPUs of rising capacity cause few rebuilds.
        let grown = |value: u64| value.checked_next_power_of_two().unwrap_or(u64::MAX);
        self.largest = largest.map(grown);
        self.oversubscribed = oversubscribed;
        let field = || Field::new(largest);
        self.gpus = [field(), field()];
        self.nodes = std::array::from_fn(|_| std::array::from_fn(|_| field()));
        true
    }

    /// The GPUs by what they have open, or by what a guaranteed request may have.
    pub(crate) fn gpus(&self, guaranteed: bool) -> &Field {
        &self.gpus[usize::from(guaranteed && self.oversubscribed)]
    }

    /// The nodes that may have `count` fitting GPUs.
    pub(crate) fn nodes(&self, count: usize, guaranteed: bool) -> &Field {
        let position = COUNTS.iter().rposition(|&least| least <= count).unwrap_or(0);
        &self.nodes[usize::from(guaranteed && self.oversubscribed)][position]
    }

    pub(crate) fn insert(&mut self, gpu: GpuIndex, hot: &Hot) {
        self.gpus[0].insert(hot.open, hot.share, gpu.0);
        if self.oversubscribed {
            self.gpus[1].insert(hot.sure(), hot.share, gpu.0);
        }
    }

    pub(crate) fn remove(&mut self, gpu: GpuIndex, hot: &Hot) {
        self.gpus[0].remove(hot.open, hot.share, gpu.0);
        if self.oversubscribed {
            self.gpus[1].remove(hot.sure(), hot.share, gpu.0);
        }
    }

    pub(crate) fn insert_node(&mut self, node: u32, stand: &Stand) {
        for (fields, best) in self.nodes.iter_mut().zip(stand.best).take(1 + usize::from(self.oversubscribed)) {
            for (position, field) in fields.iter_mut().enumerate().take(stand.reach()) {
                field.insert(best[position], stand.sum, node);
            }
        }
    }

    pub(crate) fn remove_node(&mut self, node: u32, stand: &Stand) {
        for (fields, best) in self.nodes.iter_mut().zip(stand.best).take(1 + usize::from(self.oversubscribed)) {
            for (position, field) in fields.iter_mut().enumerate().take(stand.reach()) {
                field.remove(best[position], stand.sum, node);
            }
        }
    }
}

/// How a node stands in a class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stand {
    /// Its usable GPUs.
    usable: usize,
    /// The sum of their open shares.
    sum: u32,
    /// What the k-th best has open, and what it may guarantee, each part for itself.
    best: [[Amount; COUNTS.len()]; 2],
}

impl Stand {
    /// The stand of a node with these GPUs. `scratch` spares allocations.
    pub(crate) fn of<'a>(gpus: impl Iterator<Item = &'a Hot>, scratch: &mut [Vec<u64>; 4]) -> Self {
        let mut stand = Self::default();
        scratch.iter_mut().for_each(Vec::clear);
        for hot in gpus.filter(|hot| hot.usable) {
            stand.usable += 1;
            stand.sum = stand.sum.saturating_add(hot.share);
            let sure = hot.sure();
            let parts = [hot.open.vram.get(), hot.open.tflops.milli(), sure.vram.get(), sure.tflops.milli()];
            scratch.iter_mut().zip(parts).for_each(|(list, part)| list.push(part));
        }
        scratch.iter_mut().for_each(|list| list.sort_unstable_by(|a, b| b.cmp(a)));
        for (position, &count) in COUNTS.iter().enumerate().take(stand.reach()) {
            let part = |list: usize| scratch[list][count - 1];
            stand.best[0][position] = Amount::of_parts(part(0), part(1));
            stand.best[1][position] = Amount::of_parts(part(2), part(3));
        }
        stand
    }

    /// How many of [`COUNTS`] it has GPUs for.
    fn reach(&self) -> usize {
        COUNTS.iter().take_while(|&&count| count <= self.usable).count()
    }

    pub(crate) fn sum(&self) -> u32 {
        self.sum
    }
}
