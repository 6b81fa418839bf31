//! Labels, annotations and object names, without the domain: `key("enabled")` is `tensor-fusion.ai/enabled`.
//!
//! User-facing keys are TensorFusion's. The domain is fixed to that of the API group here; the webhook's settings may name another
//! for the keys that people write, for which it has [`keyed`].

/// Domain of every key.
pub const DOMAIN: &str = "tensor-fusion.ai";

/// The key under our domain.
#[must_use]
pub fn key(name: &str) -> String {
    keyed(DOMAIN, name)
}

/// The key under some domain.
#[must_use]
pub fn keyed(domain: &str, name: &str) -> String {
    format!("{domain}/{name}")
}

/// Pod annotation, by the webhook: the wish as understood, as JSON.
pub const REQUEST: &str = "tensor-fusion.ai/request";
/// Pod annotation, by the allocator: an [`Allocation`](crate::Allocation) as JSON.
pub const ALLOCATION: &str = "tensor-fusion.ai/allocation";
/// Scheduling gate that the allocator lifts.
pub const GATE: &str = "tensor-fusion.ai/allocation";
/// Pod annotation, by the allocator: names of GPU objects, separated by commas.
pub const GPU_IDS: &str = "tensor-fusion.ai/gpu-ids";
/// Pod annotation, by the allocator: `{"container":["gpu-…"]}`.
pub const CONTAINER_GPUS: &str = "tensor-fusion.ai/container-gpus";
/// Pod annotation, by the allocator: the most compute that the pod may use of one of its GPUs, in whole percent of the card.
/// Only for isolation `hard` with a limit in TFLOPS, as in TensorFusion.
pub const HARD_SM_PERCENT: &str = "tensor-fusion.ai/effective-hard-sm-percent";
/// Pod label: `true` for pods that take part.
pub const ENABLED: &str = "tensor-fusion.ai/enabled";
/// Pod label: `worker` (has GPUs of its node) or `client` (reaches a worker).
pub const COMPONENT: &str = "tensor-fusion.ai/component";
/// Pod label: name of the TensorFusionWorkload that a worker pod belongs to.
pub const WORKLOAD: &str = "tensor-fusion.ai/workload";
/// Pod annotation of a client: name of the TensorFusionWorkload that serves it.
pub const SELECTED_WORKLOAD: &str = "tensor-fusion.ai/selected-workload";
/// Pod annotation of a remote client, by the webhook: the Secret with `url` and `token`.
pub const CONNECTION_SECRET: &str = "tensor-fusion.ai/connection-secret";
/// Pod annotation: may not be preempted for so long after its creation.
pub const EVICTION_PROTECTION: &str = "tensor-fusion.ai/eviction-protection";
/// Pod annotation: replicas of the same owner are placed together.
pub const GANG_ENABLED: &str = "tensor-fusion.ai/gang-enabled";
/// Pod annotation: at least so many of a gang.
pub const GANG_MIN_MEMBERS: &str = "tensor-fusion.ai/gang-min-members";
/// Pod annotation: how long a gang waits for its members.
pub const GANG_TIMEOUT: &str = "tensor-fusion.ai/gang-timeout";
/// GPUPool annotation: `true` for the pool of pods that name none.
pub const DEFAULT_POOL: &str = "tensor-fusion.ai/is-default-pool";
/// The same without the domain.
pub const IS_DEFAULT_POOL: &str = "is-default-pool";
/// Label of GPUNode and GPU objects: the pool that they belong to.
pub const POOL: &str = "tensor-fusion.ai/gpupool";
/// Annotation of GPU objects whose card a device plugin gives out: [`WHOLE`], or `shared` among pods.
pub const DEVICE_PLUGIN: &str = "tensor-fusion.ai/device-plugin";
/// The card can be asked for.
pub const WHOLE: &str = "whole";
/// Annotation of GPU objects: the pod that holds the card for us, where a device plugin gives cards out.
pub const HELD_BY: &str = "tensor-fusion.ai/held-by";
/// Component of such pods, and name of their container.
pub const CARD_HOLDER: &str = "card-holder";
/// Label of GPU objects: the node that they are in.
pub const NODE: &str = "tensor-fusion.ai/node";
/// Finalizer of our objects.
pub const FINALIZER: &str = "tensor-fusion.ai/finalizer";
/// Key of `status.nodeSelector` of a GPU: its node's name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Namespace that the system is installed into unless told otherwise.
pub const SYSTEM_NAMESPACE: &str = "tensor-fusion-system";
/// Field manager of the operator's writes.
pub const OPERATOR: &str = "tensor-fusion-operator";
/// Field manager of the node agent's writes.
pub const HYPERVISOR: &str = "tensor-fusion-hypervisor";
/// Kubernetes' resource of a whole NVIDIA card.
pub const NVIDIA_GPU: &str = "nvidia.com/gpu";

/// Label of GPU nodes and of their GPUNode objects: member of this pool.
#[must_use]
pub fn pool_label(pool: &str) -> String {
    key(&format!("pool-{pool}"))
}
