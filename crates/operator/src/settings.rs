//! What admission knows besides the pod: pools, profiles, images. Read from a file or from the cluster, never while deciding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Bytes, Percent, Qos, Tflops};

use crate::allocator::preempt::Scope;

/// Everything that a decision depends on besides the pod. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Domain of labels and annotations that people write. What we write is always under `tensor-fusion.ai`.
    pub domain: String,
    /// Image that holds the client library, for the init container.
    pub client_image: String,
    /// When nodes fetch it; absent for Kubernetes' own rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Folder on GPU nodes where the node agent offers sockets, in a folder for each pod.
    pub socket_folder: String,
    /// Pools by name.
    pub pools: BTreeMap<String, PoolSettings>,
    /// Profiles by `namespace/name`.
    pub profiles: BTreeMap<String, Profile>,
    /// Also take pods which ask for plain `nvidia.com/gpu` and nothing of ours.
    pub progressive_migration: bool,
    /// Among whom pods of a higher class find victims when there is no room.
    pub preemption: Scope,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "tensor-fusion.ai".to_owned(),
            client_image: "tensor-fusion/client:latest".to_owned(),
            image_pull_policy: None,
            socket_folder: "/run/tensor-fusion/pods".to_owned(),
            pools: BTreeMap::from([("default".to_owned(), PoolSettings { default: true, ..PoolSettings::default() })]),
            profiles: BTreeMap::new(),
            progressive_migration: false,
            preemption: Scope::default(),
        }
    }
}

/// What admission needs of a GPUPool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PoolSettings {
    /// Takes pods that name no pool.
    #[serde(rename = "isDefault")]
    pub default: bool,
    /// Pods use the GPUs of their own node unless they say otherwise. TensorFusion's default is true.
    #[serde(rename = "defaultUsingLocalGPU")]
    pub local: Option<bool>,
    /// QoS of pods that name none.
    #[serde(rename = "defaultQoS")]
    pub qos: Option<Qos>,
}

/// What a WorkloadProfile presets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Profile {
    /// Pool.
    pub pool_name: Option<String>,
    /// Guaranteed and highest compute of each GPU.
    pub tflops_request: Option<Tflops>,
    /// See `tflops_request`.
    pub tflops_limit: Option<Tflops>,
    /// Guaranteed and highest memory of each GPU.
    pub vram_request: Option<Bytes>,
    /// See `vram_request`.
    pub vram_limit: Option<Bytes>,
    /// Guaranteed and highest part of each GPU's compute, where no TFLOPS are given.
    pub compute_percent_request: Option<Percent>,
    /// See `compute_percent_request`.
    pub compute_percent_limit: Option<Percent>,
    /// QoS.
    pub qos: Option<Qos>,
    /// On the pod's own node.
    #[serde(rename = "isLocalGPU")]
    pub local: Option<bool>,
    /// GPUs of each container.
    pub gpu_count: Option<u32>,
    /// Model.
    pub gpu_model: Option<String>,
    /// Vendor.
    pub vendor: Option<String>,
    /// Workers for all clients of an owner, in remote mode.
    pub replicas: Option<u32>,
    /// What workers are made of, in remote mode.
    pub worker_pod_template: Option<serde_json::Value>,
}
