//! TensorFusionCluster: all pools of a cluster in one object.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GPUPoolSpec, Quantity, schema::conditions};

/// The pools, and the cloud that nodes come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "TensorFusionCluster",
    plural = "tensorfusionclusters",
    status = "TensorFusionClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "All pools of a cluster in one object: the operator makes a GPUPool of each.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Total Pools", type_ = "integer", json_path = ".status.totalPools"),
    printcolumn(name = "Total Nodes", type_ = "integer", json_path = ".status.totalNodes"),
    printcolumn(name = "Total GPU", type_ = "integer", json_path = ".status.totalGPUs"),
    printcolumn(name = "Total Tflops", type_ = "string", json_path = ".status.totalTFlops"),
    printcolumn(name = "Total VRAM", type_ = "string", json_path = ".status.totalVRAM"),
    printcolumn(name = "Available Tflops", type_ = "string", json_path = ".status.availableTFlops"),
    printcolumn(name = "Available VRAM", type_ = "string", json_path = ".status.availableVRAM")
)]
#[serde(rename_all = "camelCase")]
pub struct TensorFusionClusterSpec {
    /// The pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_pools: Option<Vec<ClusterPool>>,
    /// The cloud that nodes come from. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computing_vendor: Option<ComputingVendor>,
}

/// A pool of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPool {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is for pods that name no pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
    /// The spec of the GPUPool.
    pub spec_template: GPUPoolSpec,
}

/// The cloud that nodes come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputingVendor {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which one.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        "aws", "lambda-labs", "gcp", "azure", "oracle-oci", "ibm", "openshift", "vultr", "together-ai", "alibaba", "nvidia",
        "tencent", "runpod", "karpenter", "mock",
    ]))]
    pub kind: Option<String>,
    /// How we prove who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["accessKey", "serviceAccountRole"]))]
    pub auth_type: Option<String>,
    /// Switched on.
    #[serde(default = "yes")]
    pub enable: bool,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<ComputingVendorParams>,
}

fn yes() -> bool {
    true
}

/// What a cloud needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputingVendorParams {
    /// File with the key's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_path: Option<String>,
    /// File with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_path: Option<String>,
    /// File with settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_region: Option<String>,
    /// Role in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_role: Option<String>,
    /// What else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_params: Option<BTreeMap<String, String>>,
}

/// What all pools have and gave out. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TensorFusionClusterStatus {
    /// In one word.
    #[serde(default)]
    pub phase: ClusterPhase,
    /// What is true of the cluster, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// Pools.
    pub total_pools: i32,
    /// Nodes.
    pub total_nodes: i32,
    /// Cards.
    #[serde(rename = "totalGPUs")]
    pub total_gpus: i32,
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
    /// Compute that is not given out.
    #[serde(rename = "availableTFlops")]
    pub available_tflops: Quantity,
    /// Memory that is not given out.
    #[serde(rename = "availableVRAM")]
    pub available_vram: Quantity,
    /// Compute with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableTFlops", skip_serializing_if = "Option::is_none")]
    pub virtual_available_tflops: Option<Quantity>,
    /// Memory with oversubscription that is not given out.
    #[serde(default, rename = "virtualAvailableVRAM", skip_serializing_if = "Option::is_none")]
    pub virtual_available_vram: Option<Quantity>,
    /// Pools that take work.
    #[serde(default, rename = "readyGPUPools", skip_serializing_if = "Option::is_none")]
    pub ready_gpu_pools: Option<Vec<String>>,
    /// Pools that do not.
    #[serde(default, rename = "notReadyGPUPools", skip_serializing_if = "Option::is_none")]
    pub not_ready_gpu_pools: Option<Vec<String>>,
    /// Failures in a row.
    #[serde(default)]
    pub retry_count: i64,
    /// Compute given out, in percent.
    #[serde(default, rename = "allocatedTFlopsPercent", skip_serializing_if = "Option::is_none")]
    pub allocated_tflops_percent: Option<String>,
    /// Memory given out, in percent.
    #[serde(default, rename = "allocatedVRAMPercent", skip_serializing_if = "Option::is_none")]
    pub allocated_vram_percent: Option<String>,
    /// Compute in use, in percent.
    #[serde(default, rename = "utilizedTFlopsPercent", skip_serializing_if = "Option::is_none")]
    pub utilized_tflops_percent: Option<String>,
    /// Memory in use, in percent.
    #[serde(default, rename = "utilizedVRAMPercent", skip_serializing_if = "Option::is_none")]
    pub utilized_vram_percent: Option<String>,
    /// Saved in a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_costs_per_month: Option<String>,
    /// Might be saved in a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub potential_savings_per_month: Option<String>,
    /// Tells whether the cloud's settings changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_vendor_config_hash: Option<String>,
}

/// A cluster in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ClusterPhase {
    #[default]
    Pending,
    Running,
    Updating,
    Destroying,
    Unknown,
}
