//! The definitions of all kinds, as the cluster takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The definitions of all kinds, in order of their names.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        crate::GPU::crd(),
        crate::GPUNode::crd(),
        crate::GPUNodeClaim::crd(),
        crate::GPUNodeClass::crd(),
        crate::GPUPool::crd(),
        crate::GPUResourceQuota::crd(),
        crate::ProviderConfig::crd(),
        crate::SchedulingConfigTemplate::crd(),
        crate::TensorFusionCluster::crd(),
        crate::TensorFusionConnection::crd(),
        crate::TensorFusionWorkload::crd(),
        crate::WorkloadProfile::crd(),
    ];
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all
}

/// Conditions, merged by type when several managers apply them.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Anything: a pod template or the like, which is checked where it is used.
pub(crate) fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
