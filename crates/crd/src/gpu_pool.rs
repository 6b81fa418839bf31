//! GPUPool: GPUs under one policy.

pub(crate) mod nodes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{anything, conditions};
use crate::{IsolationMode, Qos, Quantity};
use nodes::{NodeCompaction, NodeProvisioner, RollingUpdatePolicy};

/// The policy of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPUPool",
    plural = "gpupools",
    status = "GPUPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "GPUs under one policy. Pods name a pool by the annotation gpupool, or get the one annotated is-default-pool.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "TFlops Oversubscription",
        type_ = "string",
        json_path = ".spec.capacityConfig.oversubscription.tflopsOversellRatio"
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.nodeManagerConfig.provisioningMode"),
    printcolumn(name = "Default Scheduling Strategy", type_ = "string", json_path = ".spec.schedulingConfigTemplate"),
    printcolumn(name = "Total Nodes", type_ = "integer", json_path = ".status.totalNodes"),
    printcolumn(name = "Total GPU", type_ = "integer", json_path = ".status.totalGPUs"),
    printcolumn(name = "Total Tflops", type_ = "string", json_path = ".status.totalTFlops"),
    printcolumn(name = "Total VRAM", type_ = "string", json_path = ".status.totalVRAM"),
    printcolumn(name = "Available Tflops", type_ = "string", json_path = ".status.availableTFlops"),
    printcolumn(name = "Available VRAM", type_ = "string", json_path = ".status.availableVRAM")
)]
#[serde(rename_all = "camelCase")]
pub struct GPUPoolSpec {
    /// Pods use GPUs of their own node unless they say otherwise. Absent is true.
    #[serde(default, rename = "defaultUsingLocalGPU", skip_serializing_if = "Option::is_none")]
    pub default_using_local_gpu: Option<bool>,
    /// How much there is to be, and how much of it is sold several times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_config: Option<CapacityConfig>,
    /// Which nodes belong to the pool, and how they are treated.
    pub node_manager_config: NodeManagerConfig,
    /// QoS classes and prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos_config: Option<QosConfig>,
    /// Images and pods of our own parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_config: Option<ComponentConfig>,
    /// Name of a SchedulingConfigTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_config_template: Option<String>,
}

/// How much there is to be, and how much of it is sold several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityConfig {
    /// The pool never has less. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_resources: Option<PoolResources>,
    /// The pool never has more. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_resources: Option<PoolResources>,
    /// So much is kept free for who comes next. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_resources: Option<PoolResources>,
    /// How much is sold several times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversubscription: Option<Oversubscription>,
}

/// Amounts of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolResources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Main memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Compute in FP16 TFLOPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops: Option<Quantity>,
    /// GPU memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram: Option<Quantity>,
}

/// How much is sold several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oversubscription {
    /// Compute that may be given out, in percent of what there is.
    #[serde(default = "tflops_oversell_ratio", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 100_000))]
    pub tflops_oversell_ratio: Option<i32>,
    /// Main memory that counts as GPU memory, in percent. Not acted upon: memory is never given out twice.
    #[serde(default = "expand_to_memory", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub vram_expand_to_host_mem: Option<i32>,
    /// Disk that counts as GPU memory, in percent. Not acted upon.
    #[serde(default = "expand_to_disk", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub vram_expand_to_host_disk: Option<i32>,
}

fn tflops_oversell_ratio() -> Option<i32> {
    Some(500)
}

fn expand_to_memory() -> Option<i32> {
    Some(50)
}

fn expand_to_disk() -> Option<i32> {
    Some(70)
}

/// Which nodes belong to a pool, and how they are treated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeManagerConfig {
    /// Where nodes come from: the cluster as it is, or a cloud.
    #[serde(default)]
    pub provisioning_mode: ProvisioningMode,
    /// Isolation of pods that name none.
    #[serde(default)]
    pub default_isolation_mode: IsolationMode,
    /// Isolation of the pods that a selector matches; the first match counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_mode_rules: Option<Vec<IsolationRule>>,
    /// Vendor of the pool's cards.
    #[serde(default = "vendor", skip_serializing_if = "Option::is_none")]
    pub default_vendor: Option<String>,
    /// The nodes that belong to the pool; absent for all with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// The nodes that belong to the pool, by vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_vendor_node_selector: Option<BTreeMap<String, NodeSelector>>,
    /// Nodes from a cloud. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_provisioner: Option<NodeProvisioner>,
    /// Emptying nodes that are little used. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_compaction: Option<NodeCompaction>,
    /// Replacing our own parts by newer ones. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_pool_rolling_update_policy: Option<RollingUpdatePolicy>,
}

fn vendor() -> Option<String> {
    Some("NVIDIA".to_owned())
}

/// Where nodes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ProvisioningMode {
    Provisioned,
    #[default]
    AutoSelect,
    Karpenter,
}

/// Isolation of the pods that a selector matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IsolationRule {
    /// The isolation.
    pub mode: IsolationMode,
    /// The pods.
    pub selector: LabelSelector,
}

/// QoS classes and prices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QosConfig {
    /// What the classes mean here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definitions: Option<Vec<QosDefinition>>,
    /// Class of pods that name none.
    #[serde(default, rename = "defaultQoS", skip_serializing_if = "Option::is_none")]
    pub default_qos: Option<Qos>,
    /// What is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Vec<Pricing>>,
    /// Price under eviction protection, as a multiple.
    #[serde(default = "protection_ratio", skip_serializing_if = "Option::is_none")]
    pub eviction_protection_price_ratio: Option<String>,
}

fn protection_ratio() -> Option<String> {
    Some("1.2".to_owned())
}

/// What a QoS class means in a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QosDefinition {
    /// The class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Qos>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// 1 to 100; more goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub priority: Option<i64>,
}

/// What is paid for a QoS class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pricing {
    /// The class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Price of what is guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<PricingRequests>,
    /// Price of what is allowed beyond that, as a multiple.
    #[serde(default = "limits_over_requests", skip_serializing_if = "Option::is_none")]
    pub limits_over_requests: Option<String>,
}

fn limits_over_requests() -> Option<String> {
    Some("1".to_owned())
}

/// Price of what is guaranteed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PricingRequests {
    /// Of one FP16 TFLOPS for an hour.
    #[serde(default = "tflops_price", rename = "perFP16TFlopsPerHour", skip_serializing_if = "Option::is_none")]
    pub per_tflops_hour: Option<String>,
    /// Of one GiB of GPU memory for an hour.
    #[serde(default = "vram_price", rename = "perGBOfVRAMPerHour", skip_serializing_if = "Option::is_none")]
    pub per_vram_hour: Option<String>,
}

fn tflops_price() -> Option<String> {
    Some("$0.0069228".to_owned())
}

fn vram_price() -> Option<String> {
    Some("$0.01548".to_owned())
}

/// Images and pods of our own parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentConfig {
    /// What comes into pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientConfig>,
    /// The node agent. Its DaemonSet is the chart's, so this is not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<HypervisorConfig>,
    /// Finding GPUs, which is the node agent's work here. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_discovery: Option<WorkerConfig>,
    /// Workers of remote clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerConfig>,
}

/// What comes into pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    /// Image with the client library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The same for remote mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_mode_image: Option<String>,
    /// The same for local mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded_mode_image: Option<String>,
    /// Where clients would ask for their connection; they get a Secret here. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_endpoint: Option<String>,
    /// Merged into the pods of remote clients. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub patch_to_pod: Option<Value>,
    /// Merged into their containers. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub patch_to_container: Option<Value>,
    /// Merged into the worker's container of local pods. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub patch_to_embedded_worker_container: Option<Value>,
    /// Merged into local pods. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub patch_embedded_worker_to_pod: Option<Value>,
}

/// The node agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypervisorConfig {
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether a log shipper runs beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_vector: Option<bool>,
    /// Image of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_image: Option<String>,
    /// Port of its API.
    #[serde(default = "hypervisor_port", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub port_number: Option<i32>,
    /// Merged into its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub pod_template: Option<Value>,
}

fn hypervisor_port() -> Option<i32> {
    Some(8000)
}

/// Pods of one of our parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerConfig {
    /// Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Merged into the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub pod_template: Option<Value>,
}

/// What the pool has and gave out. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GPUPoolStatus {
    /// In one word: `Running` takes work.
    #[serde(default)]
    pub phase: PoolPhase,
    /// What is true of the pool, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// TensorFusionCluster that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_nodes: Option<i32>,
    /// Nodes that take work.
    pub ready_nodes: i32,
    /// Nodes that do not.
    pub not_ready_nodes: i32,
    /// Cards.
    #[serde(default, rename = "totalGPUs", skip_serializing_if = "Option::is_none")]
    pub total_gpus: Option<i32>,
    /// Compute of all cards in FP16 TFLOPS.
    #[serde(rename = "totalTFlops")]
    pub total_tflops: Quantity,
    /// Memory of all cards.
    #[serde(rename = "totalVRAM")]
    pub total_vram: Quantity,
    /// Compute with oversubscription.
    #[serde(rename = "virtualTFlops")]
    pub virtual_tflops: Quantity,
    /// Memory with oversubscription.
    #[serde(rename = "virtualVRAM")]
    pub virtual_vram: Quantity,
    /// Compute of the cards that is not given out.
    #[serde(rename = "availableTFlops")]
    pub available_tflops: Quantity,
    /// Memory of the cards that is not given out.
    #[serde(rename = "availableVRAM")]
    pub available_vram: Quantity,
    /// Compute with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableTFlops", skip_serializing_if = "Option::is_none")]
    pub virtual_available_tflops: Option<Quantity>,
    /// Memory with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableVRAM", skip_serializing_if = "Option::is_none")]
    pub virtual_available_vram: Option<Quantity>,
    /// Pods with GPUs of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_apps_cnt: Option<i32>,
    /// Versions of our own parts.
    pub component_status: ComponentStatus,
    /// How getting nodes stands.
    #[serde(default)]
    pub provisioning_phase: ProvisioningPhase,
    /// When nodes were last emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_compaction_time: Option<Time>,
    /// When pods were last moved together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_defrag_time: Option<Time>,
    /// The budget that is used up.
    #[serde(default = "no_budget", skip_serializing_if = "Option::is_none")]
    pub budget_exceeded: Option<String>,
    /// Saved in a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_costs_per_month: Option<String>,
    /// Might be saved in a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub potential_savings_per_month: Option<String>,
}

fn no_budget() -> Option<String> {
    Some(String::new())
}

/// A pool in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum PoolPhase {
    #[default]
    Pending,
    Running,
    Updating,
    Destroying,
    Unknown,
}

/// How getting nodes stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ProvisioningPhase {
    #[default]
    None,
    Initializing,
    Provisioning,
    Completed,
}

/// Versions of our own parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Of what comes into pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// All have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_config_synced: Option<bool>,
    /// Percent that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_update_progress: Option<i32>,
    /// Of the node agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// All have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_config_synced: Option<bool>,
    /// Percent that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_update_progress: Option<i32>,
    /// Of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// All have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_config_synced: Option<bool>,
    /// Percent that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_update_progress: Option<i32>,
}
