//! The words of the Kubernetes side: TensorFusion's custom resources (`tensor-fusion.ai/v1`) as Rust types, and the names of
//! labels and annotations that the webhook, the operator and the node agent share.
//!
//! Kinds, fields, enumerations and defaults are TensorFusion's, so that its manifests apply unchanged. What we do not act on is
//! accepted and named in a condition of the object ([`unused`]), never ignored in silence. The YAML of all kinds
//! ([`definitions`]) is made from these types; so are the texts of `kubectl explain`.

#![expect(clippy::duplicated_attributes, reason = "every printer column has a type and a path")]

mod allocation;
mod autoscaling;
mod cluster;
mod connection;
mod event;
mod gpu;
mod gpu_node;
mod gpu_node_claim;
mod gpu_node_class;
mod gpu_pool;
pub mod names;
mod provider_config;
mod quantity;
mod quota;
mod resources;
mod scheduling;
mod schema;
mod unused;
mod workload;

pub use allocation::{Allocation, Phase, Share};
pub use autoscaling::{AutoScaling, AutoSetResources, CronScalingRule, ExternalScaler, SecretReference};
pub use cluster::{
    ClusterPhase, ClusterPool, ComputingVendor, ComputingVendorParams, TensorFusionCluster, TensorFusionClusterSpec,
    TensorFusionClusterStatus,
};
pub use connection::{
    ConnectionPhase, TensorFusionConnection, TensorFusionConnectionSpec, TensorFusionConnectionStatus,
};
pub use event::{Tidings, Tone, event};
pub use gpu::{
    AllocatedPartition, GPU, GPUSpec, GPUStatus, GpuPhase, IsolationPolicy, NvLink, NvLinkPeer, RunningApp, RunningPod,
    Topology, TopologyPeer, UsedBy,
};
pub use gpu_node::{GPUNode, GPUNodeSpec, GPUNodeStatus, HypervisorStatus, ManageMode, NodeCapacity, NodePhase};
pub use gpu_node_claim::{CapacityType, GPUNodeClaim, GPUNodeClaimSpec, GPUNodeClaimStatus, NodeClassReference};
pub use gpu_node_class::{
    BlockDevice, BlockDeviceMapping, GPUNodeClass, GPUNodeClassSpec, GPUNodeClassStatus, ImageType, MetadataOptions,
    NodeTerm,
};
pub use gpu_pool::{
    CapacityConfig, ClientConfig, ComponentConfig, ComponentStatus, GPUPool, GPUPoolSpec, GPUPoolStatus,
    HypervisorConfig, IsolationRule, NodeManagerConfig, Oversubscription, PoolPhase, PoolResources, Pricing,
    PricingRequests, ProvisioningMode, ProvisioningPhase, QosConfig, QosDefinition, WorkerConfig,
    nodes::{
        Budget, BudgetExceedStrategy, Defrag, MaintenanceWindow, NodeCompaction, NodeProvisioner, Requirement,
        RequirementOperator, RollingUpdatePolicy, Taint, TaintEffect,
    },
};
pub use provider_config::{
    DeviceMount, DevicePluginDetection, ExtraEnv, HardwareModel, HostPathMount, IsolationGroupSharing, ProviderConfig,
    ProviderConfigSpec, ProviderConfigStatus, ProviderHypervisor, ProviderImages, VirtualizationTemplate,
};
pub use quantity::{Quantity, QuantityError};
pub use quota::{
    GPUResourceQuota, GPUResourceQuotaSpec, GPUResourceQuotaStatus, QuotaAvailable, QuotaSingle, QuotaTotal, QuotaUsed,
};
pub use resources::{IsolationMode, Qos, Resource, Resources};
pub use scheduling::{
    AutoFreeze, AutoFreezeAndResume, ElasticRateLimit, GpuFilter, HypervisorScheduling, IntelligenceWarmup,
    MultiProcessQueuing, Placement, PlacementMode, ReBalancer, ReBalancerThreshold, SchedulingConfigTemplate,
    SchedulingConfigTemplateSpec, SchedulingConfigTemplateStatus, VerticalScalingRule,
};
pub use schema::definitions;
pub use unused::{unused, unused_condition};
pub use workload::{
    GangMode, GangPhase, GangScheduling, GangStatus, TensorFusionWorkload, TensorFusionWorkloadSpec,
    TensorFusionWorkloadStatus, WorkloadPhase, WorkloadProfile, WorkloadProfileSpec, WorkloadProfileStatus,
};

/// The API group of all kinds.
pub const GROUP: &str = "tensor-fusion.ai";
/// Its version.
pub const VERSION: &str = "v1";
