//! What somebody asks of the pool.

use serde::{Deserialize, Serialize};

use types::Qos;

use crate::{Amount, Tier};

/// How GPUs are chosen among those that fit. Names are TensorFusion's placement modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// The fullest GPU that still fits: keeps whole GPUs free.
    CompactFirst,
    /// The emptiest GPU: keeps neighbours apart.
    LowLoadFirst,
    /// The fullest node, and on it the emptiest GPU.
    #[default]
    NodeCompactGPULowLoad,
    /// An idle GPU of the fullest node, alone on it as long as it stays. HAMi's `mutex`.
    Mutex,
}

/// How strictly a vGPU is kept apart. Names are TensorFusion's isolation modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The whole GPU, alone: reserves the card whatever amount is asked.
    Shared,
    /// Limits by our own worker.
    #[default]
    Soft,
    /// Limits by the vendor.
    Hard,
}

/// One workload replica's wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Guaranteed on each GPU.
    #[serde(flatten)]
    pub amount: Amount,
    /// GPUs, all on one node. At least 1.
    pub count: u32,
    /// Pool, or any.
    pub pool: Option<String>,
    /// Model (short name), or any.
    pub model: Option<String>,
    /// Vendor, or any.
    pub vendor: Option<String>,
    /// Positions on the node that are acceptable; empty for any.
    pub indices: Vec<u32>,
    /// Only these GPUs; empty for any.
    pub only_uuids: Vec<String>,
    /// Never these GPUs.
    pub not_uuids: Vec<String>,
    /// Substrings of the model's name, without regard to case, one of which must occur; empty for any.
    pub only_types: Vec<String>,
    /// Substrings of the model's name, none of which may occur.
    pub not_types: Vec<String>,
    /// Nodes that are acceptable by name; empty for any.
    pub nodes: Vec<String>,
    /// All GPUs of one request on one NUMA node.
    pub one_numa_node: bool,
    /// Rather GPUs that are near each other, or for a single GPU rather one whose links nobody misses.
    pub near: bool,
    /// No two GPUs of one request farther apart than this.
    pub farthest: Option<Tier>,
    /// Who goes first, and whether [oversubscription](crate::Oversubscription) may be relied on.
    pub qos: Qos,
    /// Isolation.
    pub isolation: Isolation,
    /// Choice among those that fit.
    pub strategy: Strategy,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            amount: Amount::default(),
            count: 1,
            pool: None,
            model: None,
            vendor: None,
            indices: Vec::new(),
            only_uuids: Vec::new(),
            not_uuids: Vec::new(),
            only_types: Vec::new(),
            not_types: Vec::new(),
            nodes: Vec::new(),
            one_numa_node: false,
            near: false,
            farthest: None,
            qos: Qos::default(),
            isolation: Isolation::default(),
            strategy: Strategy::default(),
        }
    }
}

impl Request {
    /// `count` GPUs with `amount` of each, nothing else asked.
    #[must_use]
    pub fn new(amount: Amount, count: u32) -> Self {
        Self { amount, count, ..Self::default() }
    }

    /// Whether GPUs are taken whole: isolation `shared`, or strategy `Mutex`.
    #[must_use]
    pub fn takes_whole(&self) -> bool {
        self.isolation == Isolation::Shared || self.strategy == Strategy::Mutex
    }

    /// Whether the amount is guaranteed by the card: QoS high and critical, and isolation `hard`.
    #[must_use]
    pub fn is_guaranteed(&self) -> bool {
        self.qos >= Qos::High || self.isolation == Isolation::Hard
    }
}
