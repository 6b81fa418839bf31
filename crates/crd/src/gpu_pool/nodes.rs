//! How a pool's nodes come and go. Accepted and reported as not acted upon.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NodeClassReference;

/// Nodes from a cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeProvisioner {
    /// Name of a GPUNodeClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_class: Option<String>,
    /// Karpenter's class of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub karpenter_node_class_ref: Option<NodeClassReference>,
    /// What nodes with GPUs must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_requirements: Option<Vec<Requirement>>,
    /// What nodes without GPUs must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_requirements: Option<Vec<Requirement>>,
    /// Taints of nodes with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_taints: Option<Vec<Taint>>,
    /// Taints of nodes without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_taints: Option<Vec<Taint>>,
    /// Labels of nodes with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_node_labels: Option<BTreeMap<String, String>>,
    /// Labels of nodes without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_node_labels: Option<BTreeMap<String, String>>,
    /// Annotations of nodes with GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_node_annotations: Option<BTreeMap<String, String>>,
    /// What may be spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// What a node must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// Label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        "node.kubernetes.io/instance-type",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "karpenter.sh/capacity-type",
        "tensor-fusion.ai/gpu-vendor",
        "tensor-fusion.ai/gpu-instance-family",
        "tensor-fusion.ai/gpu-instance-size",
    ]))]
    pub key: Option<String>,
    /// How it is compared.
    #[serde(default)]
    pub operator: RequirementOperator,
    /// With what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum RequirementOperator {
    #[default]
    In,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Taint {
    /// What it does to pods that do not tolerate it.
    #[serde(default)]
    pub effect: TaintEffect,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum TaintEffect {
    #[default]
    NoSchedule,
    NoExecute,
    PreferNoSchedule,
}

/// What may be spent, in US dollars.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// A day.
    #[serde(default = "day", skip_serializing_if = "Option::is_none")]
    pub budget_per_day: Option<String>,
    /// A month.
    #[serde(default = "month", skip_serializing_if = "Option::is_none")]
    pub budget_per_month: Option<String>,
    /// Three months.
    #[serde(default = "quarter", skip_serializing_if = "Option::is_none")]
    pub budget_per_quarter: Option<String>,
    /// What happens when it is used up.
    #[serde(default)]
    pub budget_exceed_strategy: BudgetExceedStrategy,
}

fn day() -> Option<String> {
    Some("100".to_owned())
}

fn month() -> Option<String> {
    Some("1000".to_owned())
}

fn quarter() -> Option<String> {
    Some("3000".to_owned())
}

/// What happens when a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum BudgetExceedStrategy {
    #[default]
    AlertOnly,
    #[serde(rename = "AlertAndTerminateVM")]
    AlertAndTerminate,
}

/// Emptying nodes that are little used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCompaction {
    /// How often to look.
    #[serde(default = "period", skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Moving pods together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defrag: Option<Defrag>,
}

fn period() -> Option<String> {
    Some("5m".to_owned())
}

/// Moving pods together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defrag {
    /// Switched on.
    #[serde(default)]
    pub enabled: bool,
    /// When, as five cron fields.
    #[serde(default = "defrag_schedule", skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Whose clock: a name of the IANA time zones.
    pub timezone: String,
    /// At most so long.
    #[serde(default = "defrag_duration", skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// Nodes that are used less, in percent.
    #[serde(default = "defrag_threshold", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub utilization_threshold_percent: Option<i32>,
    /// How long a moved pod keeps its mark.
    #[serde(default = "defrag_pod_mark", rename = "evictedPodMarkerTTL", skip_serializing_if = "Option::is_none")]
    pub evicted_pod_marker_ttl: Option<String>,
    /// How long an emptied node keeps its mark.
    #[serde(default = "defrag_node_mark", rename = "sourceNodeMarkerTTL", skip_serializing_if = "Option::is_none")]
    pub source_node_marker_ttl: Option<String>,
}

fn defrag_schedule() -> Option<String> {
    Some("0 3 * * *".to_owned())
}

fn defrag_duration() -> Option<String> {
    Some("2h".to_owned())
}

fn defrag_threshold() -> Option<i32> {
    Some(40)
}

fn defrag_pod_mark() -> Option<String> {
    Some("never".to_owned())
}

fn defrag_node_mark() -> Option<String> {
    Some("30m".to_owned())
}

/// Replacing our own parts by newer ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdatePolicy {
    /// What comes into pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_update_client: Option<bool>,
    /// The node agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_update_hypervisor: Option<bool>,
    /// Workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_update_worker: Option<bool>,
    /// How much at a time, in percent.
    #[serde(default = "batch_percentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub batch_percentage: Option<i32>,
    /// Pause between batches.
    #[serde(default = "batch_interval", skip_serializing_if = "Option::is_none")]
    pub batch_interval: Option<String>,
    /// At most so long.
    #[serde(default = "update_duration", skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// Only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_window: Option<MaintenanceWindow>,
}

fn batch_percentage() -> Option<i32> {
    Some(100)
}

fn batch_interval() -> Option<String> {
    Some("1s".to_owned())
}

fn update_duration() -> Option<String> {
    Some("10m".to_owned())
}

/// When something may happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaintenanceWindow {
    /// Times, as cron fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub includes: Option<Vec<String>>,
}
