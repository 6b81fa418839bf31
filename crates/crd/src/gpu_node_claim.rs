//! GPUNodeClaim: a node that is to come from a cloud. Accepted and reported as not acted upon.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, schema::conditions};

/// What node is to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPUNodeClaim",
    plural = "gpunodeclaims",
    status = "GPUNodeClaimStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A node that is to come from a cloud. Not acted upon.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase")
)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeClaimSpec {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The cloud's name for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Its class.
    pub node_class_ref: NodeClassReference,
    /// How it is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_type: Option<CapacityType>,
    /// Compute that comes with it in FP16 TFLOPS.
    pub tflops_offered: Quantity,
    /// GPU memory that comes with it.
    pub vram_offered: Quantity,
    /// Cards that come with it.
    #[serde(rename = "gpuDeviceOffered")]
    pub gpu_device_offered: i32,
    /// What else the cloud is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_params: Option<BTreeMap<String, String>>,
}

/// How a node is paid. Text, for TensorFusion allows any.
pub type CapacityType = String;

/// A class of nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeClassReference {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// How getting the node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GPUNodeClaimStatus {
    /// In one word: Pending, Creating or Bound.
    #[serde(default = "pending")]
    pub phase: String,
    /// The cloud's name for it.
    #[serde(default, rename = "instanceID", skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// What is true of the claim, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

fn pending() -> String {
    "Pending".to_owned()
}
