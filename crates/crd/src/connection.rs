//! TensorFusionConnection: one client's way to its worker.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which client reaches which workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tensor-fusion.ai",
    version = "v1",
    kind = "TensorFusionConnection",
    plural = "tensorfusionconnections",
    namespaced,
    status = "TensorFusionConnectionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The way of one client pod to the worker that serves it. The token is in the client's Secret, not here.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Connection URL", type_ = "string", json_path = ".status.connectionURL"),
    printcolumn(name = "Worker Name", type_ = "string", json_path = ".status.workerName"),
    printcolumn(name = "Workload Name", type_ = "string", json_path = ".spec.workloadName"),
    printcolumn(name = "Client Pod", type_ = "string", json_path = ".spec.clientPod")
)]
#[serde(rename_all = "camelCase")]
pub struct TensorFusionConnectionSpec {
    /// The TensorFusionWorkload, in the same namespace.
    pub workload_name: String,
    /// The pod that connects, in the same namespace.
    pub client_pod: String,
}

/// Where the worker is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TensorFusionConnectionStatus {
    /// Whether it can be used.
    pub phase: ConnectionPhase,
    /// Where the worker listens: `tcp://ADDRESS:PORT/`.
    #[serde(rename = "connectionURL")]
    pub connection_url: String,
    /// The worker's pod.
    pub worker_name: String,
}

/// Whether a connection can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum ConnectionPhase {
    #[default]
    Pending,
    Running,
    Failed,
}
