//! What is asked of which GPUs: the format of trace files. `docs/` explains it with an example.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Bytes, Percent};

use crate::{Amount, Gpu, Host, Inventory, InventoryError, Oversubscription, QuotaLimits, Request};

/// GPUs and what is asked of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Groups of equal nodes.
    pub nodes: Vec<NodeGroup>,
    /// How the pool decides.
    #[serde(default)]
    pub policy: Policy,
    /// Ceilings by namespace; who is not named has none.
    #[serde(default)]
    pub quotas: BTreeMap<String, QuotaLimits>,
    /// What is asked, in any order.
    pub requests: Vec<Arrival>,
}

/// How the pool decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Holders of a lower QoS class are evicted for who finds no place.
    pub preempt: bool,
    /// How many at most.
    pub evictions: EvictionBudget,
    /// Capacity is kept for the first who waits.
    pub nominate: bool,
    /// Compute that may be given out, of what the cards have.
    pub tflops_ratio: Percent,
    /// Of the nodes' memory, to which VRAM may be moved.
    pub vram_to_memory: Percent,
    /// Of the nodes' disk.
    pub vram_to_disk: Percent,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            preempt: false,
            evictions: EvictionBudget::default(),
            nominate: true,
            tflops_ratio: Percent::new(100),
            vram_to_memory: Percent::new(0),
            vram_to_disk: Percent::new(0),
        }
    }
}

/// How many may be evicted in a window of time; what is absent is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvictionBudget {
    /// Seconds.
    pub window: u64,
    /// Of each pool.
    pub pool: Option<u32>,
    /// Of each namespace.
    pub namespace: Option<u32>,
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
    /// GPUs of one NUMA node; not known when absent.
    #[serde(default)]
    pub gpus_per_numa: Option<u32>,
    /// GPUs that are directly linked with each other, counted from the first; none when absent.
    #[serde(default)]
    pub gpus_per_link: Option<u32>,
    /// Memory of the node, for oversubscription.
    #[serde(default)]
    pub memory: Bytes,
    /// Disk of the node, for oversubscription.
    #[serde(default)]
    pub disk: Bytes,
    /// What each card has.
    #[serde(flatten)]
    pub capacity: Amount,
}

/// One request: when it comes and how long it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Name, for the report.
    pub name: String,
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Seconds from the start.
    #[serde(default)]
    pub at: u64,
    /// Seconds that it holds its GPUs once placed; for ever when absent.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// So many of the same.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Seconds between the arrivals of two of them.
    #[serde(default)]
    pub every: u64,
    /// Seconds after its placement in which nobody evicts it.
    #[serde(default)]
    pub protection: u64,
    /// The replicas are one gang; all arrive together.
    #[serde(default)]
    pub gang: Option<GangTrace>,
    /// What it asks for.
    pub request: Request,
}

/// How the replicas of one arrival belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GangTrace {
    /// At least so many start together; all when absent.
    pub minimum: Option<usize>,
    /// Seconds after which it gives up; never when absent.
    pub timeout: Option<u64>,
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

/// The inventory of a trace.
pub(super) fn inventory(trace: &Trace) -> Result<Inventory, InventoryError> {
    let stretched = Oversubscription {
        tflops_oversell_ratio: trace.policy.tflops_ratio,
        vram_expand_to_host_mem: trace.policy.vram_to_memory,
        vram_expand_to_host_disk: trace.policy.vram_to_disk,
    };
    let mut inventory = Inventory::new();
    for group in &trace.nodes {
        let host = Host { memory: group.memory, disk: group.disk, gpus: group.gpus };
        let capacity = stretched.capacity(group.capacity, host);
        for number in 0..group.count {
            let name = format!("{}-{number}", group.name);
            let node = inventory.add_node(&name)?;
            let mut linked = Vec::new();
            for index in 0..group.gpus {
                let gpu = inventory.add_gpu(Gpu {
                    pool: group.pool.clone(),
                    model: group.model.clone(),
                    vendor: group.vendor.clone(),
                    numa_node: group.gpus_per_numa.map(|each| index / each.max(1)),
                    capacity,
                    ..Gpu::new(format!("{name}/{index}"), node, index, group.capacity)
                })?;
                let Some(each) = group.gpus_per_link else { continue };
                if index % each.max(1) == 0 {
                    linked.clear();
                }
                for &other in &linked {
                    inventory.link(other, gpu, 1, 25_000)?;
                }
                linked.push(gpu);
            }
        }
    }
    Ok(inventory)
}
