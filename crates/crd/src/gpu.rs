//! GPU: one card, as its node's agent reports it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{IsolationMode, Qos, Resource};

/// Nothing: everything about a GPU is observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPU",
    plural = "gpus",
    no_spec,
    status = "GPUStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A GPU, as the agent of its node reports it. The name is the card's UUID in lower case.",
    printcolumn(name = "GPU Model", type_ = "string", json_path = ".status.gpuModel"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Total TFlops", type_ = "string", json_path = ".status.capacity.tflops"),
    printcolumn(name = "Total VRAM", type_ = "string", json_path = ".status.capacity.vram"),
    printcolumn(name = "Available TFlops", type_ = "string", json_path = ".status.available.tflops"),
    printcolumn(name = "Available VRAM", type_ = "string", json_path = ".status.available.vram"),
    printcolumn(name = "Device UUID", type_ = "string", json_path = ".status.uuid", priority = 1),
    printcolumn(name = "Used By", type_ = "string", json_path = ".status.usedBy"),
    printcolumn(name = "Node", type_ = "string", json_path = r".status.nodeSelector.kubernetes\.io/hostname")
)]
pub struct GPUSpec {}

/// What the node agent observes (most), and what the allocator gave out (`available`, `runningApps`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GPUStatus {
    /// Whether the card takes work: `Running` does.
    #[serde(default)]
    pub phase: GpuPhase,
    /// Maker of the card.
    #[serde(default = "nvidia")]
    pub vendor: String,
    /// The model's name as the driver reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's short name in the catalogue, for example H100_SXM.
    pub gpu_model: String,
    /// The card's UUID as the driver reports it.
    pub uuid: String,
    /// Position on its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<i32>,
    /// NUMA node; -1 when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i32>,
    /// What the card has.
    pub capacity: Resource,
    /// What is not given out. Written by the operator.
    pub available: Resource,
    /// Labels of the node that it is in; `kubernetes.io/hostname` names it.
    pub node_selector: BTreeMap<String, String>,
    /// Which system gives the card out. One that `nvidia-device-plugin` gives out is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<UsedBy>,
    /// What is to be known about the phase.
    pub message: String,
    /// Isolation that vGPUs of this card have by default.
    #[serde(default)]
    pub isolation_mode: IsolationMode,
    /// Whether vGPUs of different isolation may meet on the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_policy: Option<IsolationPolicy>,
    /// Isolation that is in effect now under the policy Dynamic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_isolation_mode: Option<String>,
    /// vGPUs of different isolation met on the card against the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_isolation_conflict: Option<bool>,
    /// Workloads with a part of the card. Written by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_apps: Option<Vec<RunningApp>>,
    /// Direct links to other cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nv_link: Option<NvLink>,
    /// How near other cards are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// Partitions in use, by pod UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_partitions: Option<BTreeMap<String, AllocatedPartition>>,
}

fn nvidia() -> String {
    "NVIDIA".to_owned()
}

/// Whether a card takes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum GpuPhase {
    #[default]
    Pending,
    Provisioning,
    Running,
    Unknown,
    Destroying,
    Migrating,
}

/// Which system gives a card out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum UsedBy {
    #[default]
    TensorFusion,
    NvidiaDevicePlugin,
}

/// Whether a card's isolation is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum IsolationPolicy {
    Static,
    Dynamic,
}

/// A workload with a part of a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunningApp {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its pods on the card.
    pub count: i64,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<RunningPod>>,
}

/// A pod with a part of a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningPod {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Guaranteed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resource>,
    /// Allowed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resource>,
    /// Its QoS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Another system gave it the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_external: Option<bool>,
}

/// Direct links of a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NvLink {
    /// Cards that it has links to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_count: Option<i32>,
    /// The cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<NvLinkPeer>>,
    /// Links in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_link_count: Option<i32>,
    /// Megabytes a second over all links.
    #[serde(default, rename = "totalBandwidthMBps", skip_serializing_if = "Option::is_none")]
    pub total_bandwidth: Option<i64>,
}

/// A card at the other end of links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NvLinkPeer {
    /// Its UUID.
    #[serde(rename = "peerUUID")]
    pub peer_uuid: String,
    /// Links to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_count: Option<i32>,
    /// Generation of the links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_version: Option<i32>,
    /// Megabytes a second to it.
    #[serde(default, rename = "bandwidthMBps", skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<i64>,
}

/// How near other cards are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// The other cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<TopologyPeer>>,
}

/// How near one other card is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologyPeer {
    /// Its UUID.
    #[serde(rename = "peerGPUUUID")]
    pub peer_uuid: String,
    /// 0 NVLink, 1 same NUMA node, 2 across NUMA nodes, 3 unknown.
    pub tier: i32,
    /// Kind of link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_type: Option<String>,
    /// Megabytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<i64>,
}

/// A partition of a card in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocatedPartition {
    /// Since when.
    pub allocated_at: Time,
    /// First slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_slot_start: Option<i32>,
    /// Slot after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_slot_end: Option<i32>,
    /// Isolation group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_group_id: Option<i32>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// Kind of partition.
    pub template_id: String,
}
