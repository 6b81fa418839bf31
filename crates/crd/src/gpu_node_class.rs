//! GPUNodeClass: how a cloud is to make nodes. Accepted and reported as not acted upon.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::conditions;

/// How a cloud is to make nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPUNodeClass",
    plural = "gpunodeclasses",
    status = "GPUNodeClassStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How a cloud is to make nodes with GPUs. Not acted upon."
)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeClassSpec {
    /// The cloud's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<NodeTerm>,
    /// Where the image comes from.
    #[serde(default)]
    pub os_image_type: ImageType,
    /// Which image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_image_selector_terms: Option<Vec<NodeTerm>>,
    /// The machine's rights in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// The cloud's metadata service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_options: Option<MetadataOptions>,
    /// Which firewalls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_selector_terms: Option<Vec<NodeTerm>>,
    /// Which networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_selector_terms: Option<Vec<NodeTerm>>,
    /// Disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_device_mappings: Option<Vec<BlockDeviceMapping>>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Script that runs first; `__GPU_NODE_RESOURCE_NAME__` becomes the node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

/// Something of the cloud, by name, id or tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTerm {
    /// Id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// Where an image comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ImageType {
    #[default]
    Private,
    Public,
    System,
}

/// The cloud's metadata service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetadataOptions {
    /// Reachable.
    #[serde(default = "yes")]
    pub http_endpoint: bool,
    /// Over IPv6.
    #[serde(default, rename = "httpProtocolIPv6")]
    pub http_protocol_ipv6: bool,
    /// From so many hops away.
    #[serde(default = "one")]
    pub http_put_response_hop_limit: i64,
    /// With tokens.
    #[serde(default = "required")]
    pub http_tokens: String,
}

fn yes() -> bool {
    true
}

fn one() -> i64 {
    1
}

fn required() -> String {
    "required".to_owned()
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceMapping {
    /// Its name in the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs: Option<BlockDevice>,
}

/// What a disk is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockDevice {
    /// Goes with the machine.
    #[serde(default = "yes")]
    pub delete_on_termination: bool,
    /// Encrypted.
    #[serde(default = "yes")]
    pub encrypted: bool,
    /// Size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
}

/// How the class stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GPUNodeClassStatus {
    /// What is true of the class, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}
