//! WorkloadProfile, a named request, and TensorFusionWorkload, workers that serve one.

#![expect(unreachable_pub, reason = "deriving KubeSchema makes a private copy of the type")]

use k8s_openapi::api::core::v1::NodeAffinity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{anything, conditions};
use crate::{AutoScaling, CronScalingRule, IsolationMode, Qos, Resources};

macro_rules! profile {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[serde(rename_all = "camelCase")]
        #[x_kube(validation = ("!has(self.gangScheduling) || !has(self.gangScheduling.minMembers) || !has(self.replicas) || self.gangScheduling.minMembers <= self.replicas", "gangScheduling.minMembers is more than replicas"))]
        #[x_kube(validation = ("!has(self.gpuIndices) || size(self.gpuIndices) == 0 || !has(self.gpuCount) || self.gpuCount == size(self.gpuIndices)", "gpuIndices must name as many GPUs as gpuCount says"))]
        pub struct $name {
            /// Workers; absent for as many as there are clients.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0))]
            pub replicas: Option<i32>,
            /// GPUPool; absent for the default one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub pool_name: Option<String>,
            /// Compute and memory of each GPU.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub resources: Option<Resources>,
            /// Who goes first when GPUs are short.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub qos: Option<Qos>,
            /// Whether pods use GPUs of their own node.
            #[serde(default, rename = "isLocalGPU", skip_serializing_if = "Option::is_none")]
            pub is_local_gpu: Option<bool>,
            /// Local, with the worker in a container of the same pod. Not acted upon: the node's agent runs it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub sidecar_worker: Option<bool>,
            /// How strictly a vGPU is kept apart.
            #[serde(default)]
            pub isolation: IsolationMode,
            /// Kind of partition under isolation `partitioned`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub partition_template_id: Option<String>,
            /// GPU model by its short name; absent for any.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub gpu_model: Option<String>,
            /// GPUs of one worker, all on one node.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 1, max = 128))]
            pub gpu_count: Option<i32>,
            /// Positions on the node that are acceptable.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub gpu_indices: Option<Vec<i64>>,
            /// Vendor; absent for any.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub vendor: Option<String>,
            /// How amounts change by themselves. Not acted upon.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub auto_scaling_config: Option<AutoScaling>,
            /// Nodes that workers may run on.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub node_affinity: Option<NodeAffinity>,
            /// Merged into the pods of workers.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(schema_with = "anything")]
            pub worker_pod_template: Option<Value>,
            /// Placing replicas together or not at all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub gang_scheduling: Option<GangScheduling>,
        }
    };
}

profile! {
    /// A request that pods name instead of spelling it out.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
    #[kube(
        group = "tensor-fusion.ai",
        version = "v1",
        kind = "WorkloadProfile",
        plural = "workloadprofiles",
        namespaced,
        status = "WorkloadProfileStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "A request for vGPUs that pods name by the annotation workload-profile.",
        printcolumn(name = "Pool Name", type_ = "string", json_path = ".spec.poolName"),
        printcolumn(name = "QoS", type_ = "string", json_path = ".spec.qos"),
        printcolumn(name = "Is Local GPU", type_ = "boolean", json_path = ".spec.isLocalGPU"),
        printcolumn(name = "GPU Number", type_ = "integer", json_path = ".spec.gpuCount"),
        printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas")
    )]
    WorkloadProfileSpec
}

profile! {
    /// What the workers of a workload have.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
    #[kube(
        group = "tensor-fusion.ai",
        version = "v1",
        kind = "TensorFusionWorkload",
        plural = "tensorfusionworkloads",
        namespaced,
        status = "TensorFusionWorkloadStatus",
        derive = "PartialEq",
        derive = "Default",
        scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.workerCount"),
        doc = "Workers on GPU nodes that serve clients over the network.",
        printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
        printcolumn(name = "Gang", type_ = "string", json_path = ".status.gang.phase"),
        printcolumn(name = "Worker Count", type_ = "integer", json_path = ".status.workerCount"),
        printcolumn(name = "Ready Workers", type_ = "integer", json_path = ".status.readyWorkers"),
        printcolumn(name = "Pod Template Hash", type_ = "string", json_path = ".status.podTemplateHash", priority = 1),
        printcolumn(name = "Pool Name", type_ = "string", json_path = ".spec.poolName"),
        printcolumn(name = "QoS", type_ = "string", json_path = ".spec.qos"),
        printcolumn(name = "Is Local GPU", type_ = "boolean", json_path = ".spec.isLocalGPU"),
        printcolumn(name = "GPU Number", type_ = "integer", json_path = ".spec.gpuCount"),
        printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas")
    )]
    TensorFusionWorkloadSpec
}

impl From<WorkloadProfileSpec> for TensorFusionWorkloadSpec {
    fn from(profile: WorkloadProfileSpec) -> Self {
        Self {
            replicas: profile.replicas,
            pool_name: profile.pool_name,
            resources: profile.resources,
            qos: profile.qos,
            is_local_gpu: profile.is_local_gpu,
            sidecar_worker: profile.sidecar_worker,
            isolation: profile.isolation,
            partition_template_id: profile.partition_template_id,
            gpu_model: profile.gpu_model,
            gpu_count: profile.gpu_count,
            gpu_indices: profile.gpu_indices,
            vendor: profile.vendor,
            auto_scaling_config: profile.auto_scaling_config,
            node_affinity: profile.node_affinity,
            worker_pod_template: profile.worker_pod_template,
            gang_scheduling: profile.gang_scheduling,
        }
    }
}

/// Placing replicas together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.minMembers) || self.minMembers != 1", "minMembers must be 0 (all) or at least 2"))]
pub struct GangScheduling {
    /// At least so many together; 0 for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_members: Option<i32>,
    /// What happens to those past the minimum.
    #[serde(default)]
    pub mode: GangMode,
    /// How long a gang waits for its members, as `30s` or `5m`; `0` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// What happens to members past the minimum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum GangMode {
    #[default]
    Strict,
}

/// How a profile stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadProfileStatus {
    /// What is true of the profile, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// How a workload stands. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TensorFusionWorkloadStatus {
    /// In one word.
    #[serde(default)]
    pub phase: WorkloadPhase,
    /// What is true of the workload, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// Workers that there are.
    pub worker_count: i32,
    /// Workers that serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_workers: Option<i32>,
    /// Tells workers of this spec from those of an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_hash: Option<String>,
    /// Amounts that would suit better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<Resources>,
    /// Workers that have those amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_recommended_replicas: Option<i32>,
    /// The rule that sets amounts now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_cron_scaling_rule: Option<CronScalingRule>,
    /// How placing together stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<GangStatus>,
}

/// A workload in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum WorkloadPhase {
    #[default]
    Pending,
    Running,
    Failed,
    Unknown,
}

/// How placing together stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GangStatus {
    /// In one word.
    #[serde(default)]
    pub phase: GangPhase,
    /// Who belongs together: `namespace/workload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<String>,
    /// Members that are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_members: Option<i32>,
    /// Members that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_members: Option<i32>,
    /// Members that have a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_members: Option<i32>,
    /// Members that serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_members: Option<i32>,
    /// When the phase changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Not tried again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_until: Option<Time>,
}

/// Placing together in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum GangPhase {
    #[default]
    Pending,
    Waiting,
    Scheduling,
    Running,
    TimedOut,
    Failed,
}
