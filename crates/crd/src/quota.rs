//! GPUResourceQuota: what a namespace may have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Resource, schema::conditions};

/// What a namespace may have in all, and in one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "GPUResourceQuota",
    plural = "gpuresourcequotas",
    namespaced,
    status = "GPUResourceQuotaStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How much of the GPUs a namespace may have. Of several, all hold.",
    printcolumn(name = "Requests TFlops Used", type_ = "string", json_path = ".status.used.requests.tflops"),
    printcolumn(name = "Requests VRAM Used", type_ = "string", json_path = ".status.used.requests.vram"),
    printcolumn(name = "Workers Used", type_ = "integer", json_path = ".status.used.workers"),
    printcolumn(name = "Alert Threshold", type_ = "integer", json_path = ".spec.total.alertThresholdPercent"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct GPUResourceQuotaSpec {
    /// For everything together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<QuotaTotal>,
    /// For one worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single: Option<QuotaSingle>,
}

/// Ceilings for everything together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaTotal {
    /// Of what is guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resource>,
    /// Of what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resource>,
    /// Workers.
    #[serde(default = "max_workers", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_workers: Option<i32>,
    /// Percent of use from which the condition AlertThresholdReached is true.
    #[serde(default = "alert_threshold", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub alert_threshold_percent: Option<i32>,
}

fn max_workers() -> Option<i32> {
    Some(32_768)
}

fn alert_threshold() -> Option<i32> {
    Some(95)
}

/// Ceilings and defaults for one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSingle {
    /// Of what is guaranteed on each GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<Resource>,
    /// Of what is allowed on each GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_limits: Option<Resource>,
    /// GPUs.
    #[serde(default, rename = "maxGPUCount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_gpu_count: Option<i32>,
    /// Guaranteed to a pod that asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_requests: Option<Resource>,
    /// Allowed to a pod that names no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_limits: Option<Resource>,
}

/// What the namespace uses. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GPUResourceQuotaStatus {
    /// What is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<QuotaUsed>,
    /// What is left, in percent with two decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_percent: Option<QuotaAvailable>,
    /// What is true of the quota, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
}

/// What a namespace uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaUsed {
    /// Guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resource>,
    /// Allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resource>,
    /// Workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<i32>,
}

/// What is left of a quota, in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaAvailable {
    /// Of guaranteed compute.
    #[serde(default, rename = "requests.tflops", skip_serializing_if = "Option::is_none")]
    pub requests_tflops: Option<String>,
    /// Of guaranteed memory.
    #[serde(default, rename = "requests.vram", skip_serializing_if = "Option::is_none")]
    pub requests_vram: Option<String>,
    /// Of allowed compute.
    #[serde(default, rename = "limits.tflops", skip_serializing_if = "Option::is_none")]
    pub limits_tflops: Option<String>,
    /// Of allowed memory.
    #[serde(default, rename = "limits.vram", skip_serializing_if = "Option::is_none")]
    pub limits_vram: Option<String>,
    /// Of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
}
