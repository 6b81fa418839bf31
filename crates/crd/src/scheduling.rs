//! SchedulingConfigTemplate: how a pool places and how it treats vGPUs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{anything, conditions};
use crate::{AutoScaling, Qos};

/// How a pool places and how it treats vGPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "SchedulingConfigTemplate",
    plural = "schedulingconfigtemplates",
    status = "SchedulingConfigTemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How the pools that name it place vGPUs and treat them.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.placement.mode"),
    printcolumn(name = "Allow Local GPU", type_ = "boolean", json_path = ".spec.placement.allowUsingLocalGPU"),
    printcolumn(
        name = "AutoFreeze",
        type_ = "string",
        json_path = ".spec.hypervisor.autoFreezeAndResume.autoFreeze[*].enable"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingConfigTemplateSpec {
    /// Which GPU of those that fit.
    pub placement: Placement,
    /// How amounts change by themselves, by pod. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertical_scaling_rules: Option<Vec<VerticalScalingRule>>,
    /// Moving vGPUs from full GPUs to empty ones. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re_balancer: Option<ReBalancer>,
    /// What node agents are told. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<HypervisorScheduling>,
}

/// Which GPU of those that fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The rule.
    #[serde(default)]
    pub mode: PlacementMode,
    /// Pods may use GPUs of their own node.
    #[serde(default = "yes", rename = "allowUsingLocalGPU")]
    pub allow_using_local_gpu: bool,
    /// Further conditions. Not acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_filters: Option<Vec<GpuFilter>>,
}

fn yes() -> bool {
    true
}

/// Which GPU of those that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum PlacementMode {
    CompactFirst,
    LowLoadFirst,
    #[default]
    NodeCompactGPULowLoad,
}

/// A further condition for a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuFilter {
    /// Its kind.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub params: Option<Value>,
}

/// How amounts change by themselves, for the pods that a selector matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerticalScalingRule {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling: Option<AutoScaling>,
}

/// Moving vGPUs from full GPUs to empty ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReBalancer {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// How often to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long a moved vGPU stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re_balance_cool_down_time: Option<String>,
    /// When to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ReBalancerThreshold>,
}

/// When to move vGPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReBalancerThreshold {
    /// When one of these holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub match_any: Option<Value>,
}

/// What node agents are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HypervisorScheduling {
    /// Putting away vGPUs that idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_freeze_and_resume: Option<AutoFreezeAndResume>,
    /// The limiter's constants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic_rate_limit_parameters: Option<ElasticRateLimit>,
    /// Taking turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_process_queuing_parameters: Option<MultiProcessQueuing>,
}

/// Putting away vGPUs that idle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoFreezeAndResume {
    /// By QoS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_freeze: Option<Vec<AutoFreeze>>,
    /// Fetching them before they are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intelligence_warmup: Option<IntelligenceWarmup>,
}

/// Putting away vGPUs of one QoS that idle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoFreeze {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// The class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Into main memory after so long.
    #[serde(default, rename = "freezeToMemTTL", skip_serializing_if = "Option::is_none")]
    pub freeze_to_mem_ttl: Option<String>,
    /// To disk after so long.
    #[serde(default, rename = "freezeToDiskTTL", skip_serializing_if = "Option::is_none")]
    pub freeze_to_disk_ttl: Option<String>,
}

/// Fetching vGPUs before they are needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntelligenceWarmup {
    /// Switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Who tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// From what time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_data_period: Option<String>,
    /// For what time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction_period: Option<String>,
}

/// The limiter's constants, as decimal numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElasticRateLimit {
    /// Tokens a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_refill_rate: Option<String>,
    /// Tokens a second at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_refill_rate: Option<String>,
    /// Smoothing of measured use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_alpha: Option<String>,
    /// Integral gain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ki: Option<String>,
    /// Derivative gain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kd: Option<String>,
    /// Proportional gain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kp: Option<String>,
    /// Burst in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_window: Option<String>,
    /// Least bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_min: Option<String>,
    /// Largest bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_max: Option<String>,
    /// Forgetting of the integral.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integral_decay_factor: Option<String>,
}

/// Taking turns, as decimal numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiProcessQueuing {
    /// Weight of QoS high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficient_high: Option<String>,
    /// Weight of QoS medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficient_medium: Option<String>,
    /// Weight of QoS low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficient_low: Option<String>,
    /// Use from which others stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computing_threshold_for_preempt: Option<String>,
    /// Use below which they go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computing_threshold_for_resume: Option<String>,
    /// Share at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_ratio: Option<String>,
    /// How long use must be high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_preempt_duration: Option<String>,
    /// How long it must be low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_resume_duration: Option<String>,
}

/// How the template stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SchedulingConfigTemplateStatus {
    /// What is true of the template, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}
