//! How a workload's amounts change by themselves. Accepted and reported as not acted upon.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Resources;

/// Who changes a workload's amounts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoScaling {
    /// By what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_set_resources: Option<AutoSetResources>,
    /// By the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron_scaling_rules: Option<Vec<CronScalingRule>>,
    /// By asking somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_scaler: Option<ExternalScaler>,
}

/// Amounts by what was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoSetResources {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// `compute`, `vram` or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_resource: Option<String>,
    /// Percentile of use that becomes the amount of compute, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_compute_percentile: Option<String>,
    /// Percentile below which compute is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound_compute_percentile: Option<String>,
    /// Percentile above which compute is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound_compute_percentile: Option<String>,
    /// Percentile of use that becomes the amount of memory, 0 to 1.
    #[serde(default, rename = "targetVRAMPercentile", skip_serializing_if = "Option::is_none")]
    pub target_vram_percentile: Option<String>,
    /// Percentile below which memory is taken away.
    #[serde(default, rename = "lowerBoundVRAMPercentile", skip_serializing_if = "Option::is_none")]
    pub lower_bound_vram_percentile: Option<String>,
    /// Percentile above which memory is added.
    #[serde(default, rename = "upperBoundVRAMPercentile", skip_serializing_if = "Option::is_none")]
    pub upper_bound_vram_percentile: Option<String>,
    /// Share added to the percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin_fraction: Option<String>,
    /// Smallest change that is made, as a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_threshold: Option<String>,
    /// How far back use is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_data_period: Option<String>,
    /// How long after its start a workload is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_period: Option<String>,
    /// How often amounts change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Least compute, as a multiple of what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_compute_resources_ratio: Option<String>,
    /// Most compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_compute_resources_ratio: Option<String>,
    /// Least memory, as a multiple of what was asked.
    #[serde(default, rename = "minVRAMResourcesRatio", skip_serializing_if = "Option::is_none")]
    pub min_vram_resources_ratio: Option<String>,
    /// Most memory.
    #[serde(default, rename = "maxVRAMResourcesRatio", skip_serializing_if = "Option::is_none")]
    pub max_vram_resources_ratio: Option<String>,
}

/// Amounts between two points of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CronScalingRule {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From when, as five cron fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_resources: Option<Resources>,
}

/// Amounts by asking somebody over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalScaler {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Secret with the key that proves who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretReference>,
    /// How long after its start a workload is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_period: Option<String>,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
