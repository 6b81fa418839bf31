//! Replays a stream of requests against an inventory and tells what would have happened. Time is the trace's own.
//!
//! Requests that find no place wait in order of arrival and are tried again, oldest first, whenever something is given back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{Amount, Gpu, Inventory, InventoryError, Placement, Request, explain, place};

/// GPUs and what is asked of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Groups of equal nodes.
    pub nodes: Vec<NodeGroup>,
    /// What is asked, in any order.
    pub requests: Vec<Arrival>,
}

/// `count` nodes with `gpus` GPUs each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeGroup {
    /// Beginning of the nodes' names.
    pub name: String,
    /// Nodes.
    #[serde(default = "one")]
    pub count: u32,
    /// GPUs of each.
    #[serde(default = "one")]
    pub gpus: u32,
    /// Model.
    #[serde(default = "soft")]
    pub model: String,
    /// Vendor.
    #[serde(default)]
    pub vendor: String,
    /// Pool.
    #[serde(default = "pool_name")]
    pub pool: String,
    /// Capacity of each GPU.
    #[serde(flatten)]
    pub capacity: Amount,
}

/// One request: when it comes and how long it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Name, for the report.
    pub name: String,
    /// Seconds from the start.
    #[serde(default)]
    pub at: u64,
    /// Seconds that it holds its GPUs once placed; for ever when absent.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// So many of the same.
    #[serde(default = "one")]
    pub replicas: u32,
    /// What it asks for.
    pub request: Request,
}

fn one() -> u32 {
    1
}

fn soft() -> String {
    "SOFT".to_owned()
}

fn pool_name() -> String {
    "default".to_owned()
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Every replica in the order of arrival.
    pub outcomes: Vec<Outcome>,
    /// Replicas placed.
    pub placed: usize,
    /// Percent of all capacity that is given out at the end: VRAM and compute.
    pub vram_percent: f64,
    /// See `vram_percent`.
    pub tflops_percent: f64,
    /// Percent of the free VRAM that lies on GPUs which are partly used.
    pub fragmentation_percent: f64,
    /// Mean and longest wait of the placed, in seconds.
    pub mean_wait_seconds: f64,
    /// See `mean_wait_seconds`.
    pub longest_wait_seconds: u64,
}

/// What became of one replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Name, with the replica's number where there are several.
    pub name: String,
    /// When it came, in seconds.
    pub arrived: u64,
    /// When it was placed.
    pub placed: Option<u64>,
    /// Its GPUs.
    pub gpus: Vec<String>,
    /// Why it was refused when it came, or is waiting still.
    pub refused: Option<String>,
}

struct Waiting {
    outcome: usize,
    request: Request,
    seconds: Option<u64>,
}

/// The inventory of a trace.
///
/// # Errors
/// Two nodes of one name.
pub(crate) fn inventory(trace: &Trace) -> Result<Inventory, InventoryError> {
    let mut inventory = Inventory::new();
    for group in &trace.nodes {
        for number in 0..group.count {
            let name = format!("{}-{number}", group.name);
            let node = inventory.add_node(&name)?;
            for index in 0..group.gpus {
                inventory.add_gpu(Gpu {
                    pool: group.pool.clone(),
                    model: group.model.clone(),
                    vendor: group.vendor.clone(),
                    ..Gpu::new(format!("{name}/{index}"), node, index, group.capacity)
                })?;
            }
        }
    }
    Ok(inventory)
}

/// Runs a trace to its end.
///
/// # Errors
/// The trace's nodes cannot be (two of one name).
pub fn simulate(trace: &Trace) -> Result<Report, InventoryError> {
    let mut run = Run { inventory: inventory(trace)?, ..Run::default() };
    let mut arrivals: Vec<&Arrival> = trace.requests.iter().collect();
    arrivals.sort_by_key(|arrival| arrival.at);
    for arrival in arrivals {
        run.advance(arrival.at)?;
        for replica in 0..arrival.replicas {
            let name = if arrival.replicas == 1 { arrival.name.clone() } else { format!("{}-{replica}", arrival.name) };
            run.outcomes.push(Outcome { name, arrived: arrival.at, placed: None, gpus: Vec::new(), refused: None });
            let waiting =
                Waiting { outcome: run.outcomes.len() - 1, request: arrival.request.clone(), seconds: arrival.seconds };
            if let Some(waiting) = run.attempt(waiting, arrival.at)? {
                run.queue.push_back(waiting);
            }
        }
    }
    run.advance(u64::MAX)?;
    Ok(run.report())
}

#[derive(Default)]
struct Run {
    inventory: Inventory,
    outcomes: Vec<Outcome>,
    queue: VecDeque<Waiting>,
    /// When each held placement ends, by its number.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    held: BTreeMap<u64, Placement>,
    next: u64,
}

impl Run {
    /// Gives back all that ends until `until`, and places who waited for it.
    fn advance(&mut self, until: u64) -> Result<(), InventoryError> {
        while let Some(&Reverse((at, number))) = self.ends.peek().filter(|Reverse((at, _))| *at <= until) {
            self.ends.pop();
            if let Some(placement) = self.held.remove(&number) {
                self.inventory.give_back(&placement)?;
            }
            let mut still = VecDeque::new();
            while let Some(waiting) = self.queue.pop_front() {
                still.extend(self.attempt(waiting, at)?);
            }
            self.queue = still;
        }
        Ok(())
    }

    /// Places a request, or hands it back.
    fn attempt(&mut self, waiting: Waiting, now: u64) -> Result<Option<Waiting>, InventoryError> {
        let Some(placement) = place(&self.inventory, &waiting.request) else {
            if let Some(outcome) = self.outcomes.get_mut(waiting.outcome).filter(|outcome| outcome.refused.is_none()) {
                outcome.refused = Some(explain(&self.inventory, &waiting.request).to_string());
            }
            return Ok(Some(waiting));
        };
        self.inventory.take(&placement)?;
        if let Some(outcome) = self.outcomes.get_mut(waiting.outcome) {
            outcome.placed = Some(now);
            let gpus = placement.gpus.iter().filter_map(|&gpu| self.inventory.gpu(gpu));
            outcome.gpus = gpus.map(|gpu| gpu.uuid.clone()).collect();
        }
        if let Some(seconds) = waiting.seconds {
            self.ends.push(Reverse((now.saturating_add(seconds), self.next)));
        }
        self.held.insert(self.next, placement);
        self.next += 1;
        Ok(None)
    }

    fn report(self) -> Report {
        let gpus = self.inventory.gpus();
        let sum = |of: &dyn Fn(&Gpu) -> u64| gpus.iter().map(|gpu| of(gpu) as f64).sum::<f64>();
        let percent = |part: f64, of: f64| if of > 0.0 { 100.0 * part / of } else { 0.0 };
        let (vram, free_vram) = (sum(&|gpu| gpu.capacity.vram.get()), sum(&|gpu| gpu.free.vram.get()));
        let (tflops, free_tflops) = (sum(&|gpu| gpu.capacity.tflops.milli()), sum(&|gpu| gpu.free.tflops.milli()));
        let torn = sum(&|gpu| if gpu.shares > 0 { gpu.free.vram.get() } else { 0 });
        let waits: Vec<u64> = self.outcomes.iter().filter_map(|one| Some(one.placed? - one.arrived)).collect();
        Report {
            placed: waits.len(),
            vram_percent: percent(vram - free_vram, vram),
            tflops_percent: percent(tflops - free_tflops, tflops),
            fragmentation_percent: percent(torn, free_vram),
            mean_wait_seconds: waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64,
            longest_wait_seconds: waits.iter().copied().max().unwrap_or(0),
            outcomes: self.outcomes,
        }
    }
}
