//! The only place that decides where a vGPU goes.
//!
//! Scores (in parts per million of what is open, see [`Amount::share_of`](crate::Amount::share_of)):
//! - `CompactFirst`: the GPU with the least open share that fits; several GPUs: the node with the least sum.
//! - `LowLoadFirst`: the GPU with the greatest open share; several: the node with the greatest sum.
//! - `NodeCompactGPULowLoad`: the node with the least sum on which enough GPUs fit, and there the emptiest GPUs.
//! - `Mutex`: the node with the least sum on which enough GPUs are idle, and there the lowest.
//!
//! Ties go to the lower position. Which of a node's fitting GPUs are taken together is also a matter of
//! [topology](crate::topology). Candidates come from the inventory's [fields](crate::field).

use crate::class::{Class, Hot};
use crate::explain::{is_excluded, is_of_model};
use crate::field::Order;
use crate::{Amount, GpuIndex, Inventory, NodeIndex, Placement, Request, Strategy, topology};

/// Finds GPUs for a request, or `None`: [`explain`](crate::explain()) then says why. Changes nothing.
#[must_use]
pub fn place(inventory: &Inventory, request: &Request) -> Option<Placement> {
    let search = Search::new(inventory, request)?;
    let (node, gpus) = if !request.nodes.is_empty() || !request.only_uuids.is_empty() {
        search.named()?
    } else if search.by_node {
        search.on_best_node()?
    } else {
        let gpu = search.single()?;
        (NodeIndex(inventory.hot(gpu).node), vec![GpuIndex(gpu)])
    };
    Some(Placement { node, gpus, amount: request.amount, exclusive: search.whole, guaranteed: request.is_guaranteed() })
}

/// A request, with what is the same for all candidates.
struct Search<'a> {
    inventory: &'a Inventory,
    request: &'a Request,
    count: usize,
    whole: bool,
    guaranteed: bool,
    /// Some GPUs are excluded by what is no matter of their class.
    picky: bool,
    by_node: bool,
    order: Order,
}

impl<'a> Search<'a> {
    fn new(inventory: &'a Inventory, request: &'a Request) -> Option<Self> {
        let whole = request.takes_whole();
        if request.count == 0 || (request.amount == Amount::default() && !whole) {
            return None;
        }
        Some(Self {
            inventory,
            request,
            count: request.count as usize,
            whole,
            guaranteed: request.is_guaranteed(),
            picky: !request.indices.is_empty() || !request.only_uuids.is_empty() || !request.not_uuids.is_empty(),
            by_node: request.count > 1
                || request.near
                || matches!(request.strategy, Strategy::NodeCompactGPULowLoad | Strategy::Mutex),
            order: if request.strategy == Strategy::LowLoadFirst { Order::Most } else { Order::Least },
        })
    }

    /// Whether GPUs of a class may do.
    fn accepts(&self, class: &Class) -> bool {
        self.request.pool.as_ref().is_none_or(|pool| *pool == class.pool)
            && self.request.vendor.as_ref().is_none_or(|vendor| *vendor == class.vendor)
            && is_of_model(self.request, &class.model)
    }

    /// What a GPU of a class must at least have open. An idle one has all of it.
    fn needed(&self, class: &Class) -> Amount {
        if self.whole { self.request.amount.most(class.smallest) } else { self.request.amount }
    }

    /// Whether a GPU of an accepted class does.
    fn fits(&self, gpu: u32) -> bool {
        let hot = self.inventory.hot(gpu);
        hot.usable
            && hot.open.covers(self.request.amount)
            && (!self.guaranteed || hot.room.covers(self.request.amount))
            && (!(self.whole || self.picky) || self.does(gpu, hot))
    }

    /// The rarer conditions.
    fn does(&self, gpu: u32, hot: &Hot) -> bool {
        let Some(gpu) = self.inventory.gpu(GpuIndex(gpu)) else { return false };
        (!self.whole || (hot.idle && gpu.card.covers(self.request.amount)))
            && !(self.picky && is_excluded(self.request, gpu))
    }

    /// The best single GPU over all classes.
    fn single(&self) -> Option<u32> {
        let mut best = None;
        for (_, class) in self.inventory.classes().filter(|(_, class)| !class.mixed && self.accepts(class)) {
            let field = class.gpus(self.guaranteed && !self.whole);
            best = field.best(self.needed(class), self.order, best, |gpu| self.fits(gpu));
        }
        best.map(|(_, gpu)| gpu)
    }

    /// The best node over all classes, and its best GPUs.
    fn on_best_node(&self) -> Option<(NodeIndex, Vec<GpuIndex>)> {
        let mut best = None;
        // A node of several models counts with all that it has, in the class of such nodes.
        for (number, class) in self.inventory.classes() {
            if class.mixed {
                let of_pool = self.request.pool.as_ref().is_none_or(|pool| *pool == class.pool);
                if of_pool {
                    let field = class.nodes(self.count, self.guaranteed && !self.whole);
                    best = field.best(self.needed(class), self.order, best, |node| self.has(node, None));
                }
            } else if self.accepts(class) {
                let field = class.nodes(self.count, self.guaranteed && !self.whole);
                best = field.best(self.needed(class), self.order, best, |node| {
                    !self.inventory.is_mixed(node) && self.has(node, Some(number))
                });
            }
        }
        let node = NodeIndex(best?.1);
        self.on_node(node).map(|gpus| (node, gpus))
    }

    /// Whether a node has enough fitting GPUs of a class, or of all that are accepted, near enough to each other.
    fn has(&self, node: u32, class: Option<u32>) -> bool {
        let Some(gpus) = self.inventory.node(NodeIndex(node)).map(|node| &node.gpus) else { return false };
        let fitting = gpus.iter().filter(|gpu| {
            let hot = self.inventory.hot(gpu.0);
            let of_class = class.map_or_else(|| self.accepts(self.inventory.class_of(hot)), |class| hot.class == class);
            of_class && self.fits(gpu.0)
        });
        fitting.take(self.count).count() == self.count
            && (!topology::is_bound(self.request) || self.on_node(NodeIndex(node)).is_some())
    }

    /// The best GPUs of a node, ascending.
    fn on_node(&self, node: NodeIndex) -> Option<Vec<GpuIndex>> {
        let mut fitting: Vec<(u32, GpuIndex)> = Vec::with_capacity(8);
        for &index in &self.inventory.node(node)?.gpus {
            let hot = self.inventory.hot(index.0);
            if self.fits(index.0) && self.accepts(self.inventory.class_of(hot)) {
                let rank = match self.request.strategy {
                    Strategy::CompactFirst => hot.share,
                    Strategy::LowLoadFirst | Strategy::NodeCompactGPULowLoad => u32::MAX - hot.share,
                    Strategy::Mutex => 0,
                };
                fitting.push((rank, index));
            }
        }
        if fitting.len() < self.count {
            return None;
        }
        fitting.sort_unstable();
        topology::choose(self.inventory, node, &fitting, self.request)
    }

    /// The best among the nodes that are named, or whose GPUs are.
    fn named(&self) -> Option<(NodeIndex, Vec<GpuIndex>)> {
        let inventory = self.inventory;
        let mut nodes: Vec<NodeIndex> = if self.request.nodes.is_empty() {
            let gpus = self.request.only_uuids.iter().filter_map(|uuid| inventory.gpu(inventory.find_gpu(uuid)?));
            gpus.map(|gpu| gpu.node).collect()
        } else {
            self.request.nodes.iter().filter_map(|name| inventory.find_node(name)).collect()
        };
        nodes.sort_unstable();
        nodes.dedup();
        let mut best: Option<((u32, u32), Vec<GpuIndex>)> = None;
        for node in nodes {
            let Some(gpus) = self.on_node(node) else { continue };
            let Some(&first) = gpus.first() else { continue };
            let hot = inventory.hot(first.0);
            let key = if self.by_node { inventory.sum(node.0) } else { hot.share };
            let found = best.as_ref().map(|best| best.0);
            if self.order.better(found, Some((key, node.0))) != found {
                best = Some(((key, node.0), gpus));
            }
        }
        best.map(|((_, node), gpus)| (NodeIndex(node), gpus))
    }
}
