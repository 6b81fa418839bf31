//! A pod's wish, the same for all dialects: the value of the annotation `request`.

use crd::Phase;
use pool::{Isolation, Strategy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Bytes, Percent, Qos, Tflops};

/// Which dialect a wish was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// TensorFusion's annotations.
    TensorFusion,
    /// HAMi's resource names.
    Hami,
    /// Plain `nvidia.com/gpu`, under progressive migration.
    Native,
}

/// Where the GPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On the pod's own node.
    Local,
    /// Anywhere; the pod reaches it over the network.
    Remote,
}

/// What one container gets: the same amount of each of its GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerWish {
    /// Container.
    pub name: String,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Phase::is_main")]
    pub phase: Phase,
    /// GPUs.
    pub gpus: u32,
    /// Guaranteed compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tflops_request: Option<Tflops>,
    /// Highest compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tflops_limit: Option<Tflops>,
    /// Guaranteed part of each card's compute, where no TFLOPS are given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compute_percent: Option<Percent>,
    /// Highest part of each card's compute, where it is another and no TFLOPS are given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compute_percent_limit: Option<Percent>,
    /// Guaranteed memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_request: Option<Bytes>,
    /// Highest memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_limit: Option<Bytes>,
    /// Part of each card's memory, where no amount is given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vram_percent: Option<Percent>,
}

/// A pod's wish, the same for all dialects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// How it was written.
    pub dialect: Dialect,
    /// Pool.
    pub pool: String,
    /// Where.
    pub mode: Mode,
    /// QoS.
    pub qos: Qos,
    /// Isolation.
    pub isolation: Isolation,
    /// Placement, where the pod names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Positions on the node.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub indices: Vec<u32>,
    /// HAMi's lists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub only_types: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_types: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub only_uuids: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_uuids: Vec<String>,
    /// All GPUs of a container on one NUMA node.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub one_numa_node: bool,
    /// Rather GPUs that are near each other, or a single one whose links nobody misses.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub near: bool,
    /// Containers that get GPUs.
    pub containers: Vec<ContainerWish>,
    /// Only so many replicas of the owner get a vGPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_replicas: Option<u32>,
    /// Replicas of the owner are placed together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gang: Option<GangWish>,
    /// Seconds after the pod was made in which nobody may evict it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eviction_protection: Option<u64>,
    /// The TensorFusionWorkload whose workers serve it, where the pod names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<String>,
    /// Workers that the pod's own workload has for all its clients; absent for one worker for each client.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replicas: Option<u32>,
    /// What workers are made of, besides what makes them workers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker_pod_template: Option<Value>,
    /// What the pod says besides, and nobody acts upon.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ignored: Vec<String>,
}

impl Wish {
    /// What the pod says and nobody acts upon, in a sentence for people.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        (!self.ignored.is_empty()).then(|| format!("Tensor Fusion does not act upon: {}", self.ignored.join(", ")))
    }
}

/// Replicas that are placed together or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GangWish {
    /// At least so many; absent for all that the owner wants.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minimum: Option<u32>,
    /// Seconds after which it gives up waiting for members or room; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout: Option<u64>,
}
