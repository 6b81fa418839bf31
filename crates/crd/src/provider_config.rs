//! ProviderConfig: what is known of a vendor's cards.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Quantity, schema::conditions};

/// What is known of a vendor's cards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "ProviderConfig",
    plural = "providerconfigs",
    status = "ProviderConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What is known of a vendor's cards: models, partitions, names of resources.",
    printcolumn(name = "Vendor", type_ = "string", json_path = ".spec.vendor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConfigSpec {
    /// The vendor.
    pub vendor: String,
    /// Images of the vendor's part. Not acted upon.
    pub images: ProviderImages,
    /// How the node agent runs for this vendor. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<ProviderHypervisor>,
    /// Models. They extend the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_metadata: Option<Vec<HardwareModel>>,
    /// Kinds of partitions. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtualization_templates: Option<Vec<VirtualizationTemplate>>,
    /// Names of resources by which pods ask for the vendor's cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use_resource_names: Option<Vec<String>>,
    /// How to tell that the vendor's own device plugin gives cards out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_plugin_detection: Option<DevicePluginDetection>,
}

/// Images of a vendor's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderImages {
    /// What limits local programs.
    pub middleware: String,
    /// What remote clients load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_client: Option<String>,
    /// What serves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_worker: Option<String>,
}

/// How the node agent runs for a vendor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderHypervisor {
    /// Privileged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged_hypervisor: Option<bool>,
    /// Where it finds libraries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ld_library_path: Option<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_env: Option<Vec<ExtraEnv>>,
    /// Folders of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path_mounts: Option<Vec<HostPathMount>>,
    /// Device files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_mount: Option<DeviceMount>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExtraEnv {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A folder of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathMount {
    /// Its name.
    pub name: String,
    /// On the node.
    pub host_path: String,
    /// In the container.
    pub mount_path: String,
    /// Not to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Device files of a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceMount {
    /// CEL that makes a card's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_mount_rule: Option<String>,
    /// CEL that makes a partition's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioned_device_mount_rule: Option<String>,
    /// Files that all cards share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_devices: Option<Vec<String>>,
}

/// A model of card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareModel {
    /// Short name.
    pub model: String,
    /// The name that the driver reports.
    pub full_model_name: String,
    /// US dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<String>,
    /// FP16 TFLOPS.
    #[serde(rename = "fp16TFlops")]
    pub fp16_tflops: Quantity,
    /// Partitions at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_partitions: Option<i32>,
    /// Places for partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_placement_slots: Option<i32>,
    /// Isolation groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_isolation_groups: Option<i32>,
    /// What else there is to share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_extended_resources: Option<BTreeMap<String, i64>>,
    /// Kinds of partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_template_refs: Option<Vec<String>>,
    /// Device files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_mount: Option<DeviceMount>,
}

/// A kind of partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualizationTemplate {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its number in NVML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml_profile_id: Option<i32>,
    /// Memory in GiB.
    pub memory_gigabytes: i64,
    /// Percent of the card's compute.
    pub compute_percent: String,
    /// At most so many on a card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<i32>,
    /// Slots that it may begin at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_limit: Option<Vec<i64>>,
    /// Slots that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_offset: Option<i32>,
    /// What else it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_resources: Option<BTreeMap<String, i64>>,
    /// Whether partitions share an isolation group.
    #[serde(default)]
    pub isolation_group_sharing: IsolationGroupSharing,
    /// Partitions of an isolation group at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_partitions_per_isolation_group: Option<i32>,
    /// Slots of an isolation group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_group_slots: Option<i32>,
}

/// Whether partitions share an isolation group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum IsolationGroupSharing {
    #[default]
    Exclusive,
    Shared,
}

/// How to tell that the vendor's own device plugin gives cards out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevicePluginDetection {
    /// Resources of the node that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name_prefixes: Option<Vec<String>>,
    /// What is then written as `usedBy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by_system_name: Option<String>,
}

/// How the vendor's part stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderConfigStatus {
    /// What is true of it, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}
