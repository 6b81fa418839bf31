//! GPUNode: a node with GPUs, as its agent reports it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, RunningPod, schema::conditions};

/// How a node with GPUs is managed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPUNode",
    plural = "gpunodes",
    status = "GPUNodeStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A node with GPUs. The name is that of the Kubernetes node.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Total TFlops", type_ = "string", json_path = ".status.totalTFlops"),
    printcolumn(name = "Total VRAM", type_ = "string", json_path = ".status.totalVRAM"),
    printcolumn(name = "Virtual TFlops", type_ = "string", json_path = ".status.virtualTFlops", priority = 1),
    printcolumn(name = "Virtual VRAM", type_ = "string", json_path = ".status.virtualVRAM", priority = 1),
    printcolumn(name = "Available TFlops", type_ = "string", json_path = ".status.availableTFlops"),
    printcolumn(name = "Available VRAM", type_ = "string", json_path = ".status.availableVRAM"),
    printcolumn(name = "GPU Count", type_ = "integer", json_path = ".status.totalGPUs")
)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeSpec {
    /// Who made the node: a person, the operator by selector, or the operator through a cloud.
    #[serde(default)]
    pub manage_mode: ManageMode,
    /// US dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<String>,
    /// Only these cards of the node belong to the pool; all when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_card_indices: Option<Vec<i64>>,
    /// What the cloud was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_vendor_param: Option<String>,
}

/// Who made a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ManageMode {
    Manual,
    #[default]
    AutoSelect,
    Provisioned,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum NodePhase {
    #[default]
    Pending,
    Provisioning,
    Migrating,
    Running,
    Succeeded,
    Failed,
    Unknown,
    Destroying,
}

/// What the node agent observes, and what the allocator gave out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeStatus {
    /// How the node stands: `Running` takes work.
    #[serde(default)]
    pub phase: NodePhase,
    /// What is true of the node, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Cards in the node.
    #[serde(rename = "totalGPUs")]
    pub total_gpus: i32,
    /// Cards that we give out.
    #[serde(rename = "managedGPUs")]
    pub managed_gpus: i32,
    /// Names of those cards' GPU objects.
    #[serde(default, rename = "managedGPUDeviceIDs", skip_serializing_if = "Option::is_none")]
    pub managed_gpu_device_ids: Option<Vec<String>>,
    /// Compute of all cards in FP16 TFLOPS.
    #[serde(rename = "totalTFlops")]
    pub total_tflops: Quantity,
    /// Memory of all cards.
    #[serde(rename = "totalVRAM")]
    pub total_vram: Quantity,
    /// Compute with oversubscription.
    #[serde(default, rename = "virtualTFlops", skip_serializing_if = "Option::is_none")]
    pub virtual_tflops: Option<Quantity>,
    /// Memory with oversubscription.
    #[serde(default, rename = "virtualVRAM", skip_serializing_if = "Option::is_none")]
    pub virtual_vram: Option<Quantity>,
    /// Compute of the cards that is not given out.
    #[serde(default, rename = "availableTFlops", skip_serializing_if = "Option::is_none")]
    pub available_tflops: Option<Quantity>,
    /// Memory of the cards that is not given out.
    #[serde(default, rename = "availableVRAM", skip_serializing_if = "Option::is_none")]
    pub available_vram: Option<Quantity>,
    /// Compute with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableTFlops", skip_serializing_if = "Option::is_none")]
    pub virtual_available_tflops: Option<Quantity>,
    /// Memory with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableVRAM", skip_serializing_if = "Option::is_none")]
    pub virtual_available_vram: Option<Quantity>,
    /// Pods with GPUs of the node.
    #[serde(default, rename = "totalGPUPods", skip_serializing_if = "Option::is_none")]
    pub total_gpu_pods: Option<i32>,
    /// Those pods, by GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_pods: Option<BTreeMap<String, Vec<RunningPod>>>,
    /// How the node's agent does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_status: Option<HypervisorStatus>,
    /// What the node has besides GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_info: Option<NodeCapacity>,
    /// Models that lie ready on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_models: Option<Vec<String>>,
}

/// How a node's agent does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypervisorStatus {
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_state: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_version: Option<String>,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
}

/// What a node has besides GPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCapacity {
    /// Main memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_size: Option<Quantity>,
    /// Disk for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_disk_size: Option<Quantity>,
}
