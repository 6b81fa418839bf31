//! A node, and whether requests fit on it in a state that is not: what would be if somebody were gone.

use crate::explain::{State, unsuited};
use crate::{GpuIndex, Inventory, NodeIndex, Placement, Request, topology};

/// A node, seen by requests that want to be on it together.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    inventory: &'a Inventory,
    node: NodeIndex,
    requests: &'a [Request],
    gpus: &'a [GpuIndex],
    /// For each request, which of the GPUs could serve it if nobody were on them.
    suited: Vec<Vec<bool>>,
}

impl<'a> Site<'a> {
    /// `None` where the node could not serve the requests even if it were empty of everybody.
    pub(crate) fn new(inventory: &'a Inventory, node: NodeIndex, requests: &'a [Request]) -> Option<Self> {
        let gpus = &inventory.node(node)?.gpus;
        let suits = |request: &Request, gpu: GpuIndex| {
            inventory.gpu(gpu).is_some_and(|gpu| unsuited(inventory, gpu, request).is_none())
        };
        let mut suited = Vec::with_capacity(requests.len());
        for request in requests {
            let of_request: Vec<bool> = gpus.iter().map(|&gpu| suits(request, gpu)).collect();
            if of_request.iter().filter(|suits| **suits).count() < request.count as usize {
                return None;
            }
            suited.push(of_request);
        }
        Some(Self { inventory, node, requests, gpus, suited })
    }

    /// How the node's GPUs stand, in the order of the node.
    pub(crate) fn states(&self) -> Vec<State> {
        self.gpus.iter().filter_map(|&gpu| self.inventory.gpu(gpu)).map(State::of).collect()
    }

    /// What would be if a placement were given back; whether it is on this node at all.
    pub(crate) fn without(&self, states: &mut [State], placement: &Placement) -> bool {
        if placement.node != self.node {
            return false;
        }
        for (state, &index) in states.iter_mut().zip(self.gpus) {
            if let Some(gpu) = self.inventory.gpu(index).filter(|_| placement.gpus.contains(&index)) {
                *state = state.without(gpu, placement);
            }
        }
        true
    }

    /// What would be if nothing were kept back for a placement any more.
    pub(crate) fn unreserved(&self, states: &mut [State], kept: &Placement) {
        for (state, &index) in states.iter_mut().zip(self.gpus) {
            if let Some(gpu) = self.inventory.gpu(index).filter(|_| kept.gpus.contains(&index)) {
                *state = state.unreserved(gpu, kept);
            }
        }
    }

    /// Where the requests fit together, one placement for each.
    pub(crate) fn fit(&self, mut states: Vec<State>) -> Option<Vec<Placement>> {
        let mut placements = Vec::with_capacity(self.requests.len());
        for (request, suited) in self.requests.iter().zip(&self.suited) {
            let mut fitting: Vec<(u32, GpuIndex)> = Vec::with_capacity(self.gpus.len());
            for ((state, &index), _) in states.iter().zip(self.gpus).zip(suited).filter(|(_, suits)| **suits) {
                let gpu = self.inventory.gpu(index)?;
                if state.refusal(gpu, request).is_none() {
                    fitting.push((state.free.saturating_sub(state.reserved).share_of(gpu.capacity), index));
                }
            }
            fitting.sort_unstable();
            let placement = Placement {
                node: self.node,
                gpus: topology::choose(self.inventory, self.node, &fitting, request)?,
                amount: request.amount,
                exclusive: request.takes_whole(),
                guaranteed: request.is_guaranteed(),
            };
            for (state, &index) in states.iter_mut().zip(self.gpus) {
                if let Some(gpu) = self.inventory.gpu(index).filter(|_| placement.gpus.contains(&index)) {
                    *state = state.with(gpu, &placement);
                }
            }
            placements.push(placement);
        }
        Some(placements)
    }
}
