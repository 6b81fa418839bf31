//! The objects of a remote client.

use crd::{GangScheduling, Resource, Resources, TensorFusionWorkloadSpec, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::worker;
use crate::admission::{Wish, url_key};
use crate::allocator::claim;

/// Annotation of a worker: the UID of its client.
pub const CLIENT: &str = "tensor-fusion.ai/client";

/// What the objects of a client are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The Secret, and the TensorFusionConnection.
    pub secret: String,
    /// The pod of a worker that is its own.
    pub worker: String,
    /// The TensorFusionWorkload.
    pub workload: String,
}

impl Names {
    /// Of a client. `None` where the Secret's name is none that the webhook gives.
    #[must_use]
    pub fn of(client: &Pod, wish: &Wish) -> Option<Self> {
        let secret = claim::annotation(client, names::CONNECTION_SECRET)?;
        let token = secret.strip_prefix("tensor-fusion-")?;
        if token.is_empty()
            || token.len() > 40
            || !token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return None;
        }
        let own = || claim::controller(client).map_or_else(|| client.name_any(), |(_, name, _)| name.to_owned());
        let workload = wish.workload.clone().unwrap_or_else(own);
        Some(Self { secret: secret.to_owned(), worker: format!("{secret}-worker"), workload })
    }
}

/// The list of owners of what goes with a pod.
#[must_use]
pub fn owned_by(client: &Pod, controller: bool) -> Value {
    json!([{
        "apiVersion": "v1", "kind": "Pod", "name": client.name_any(), "uid": client.uid(),
        "controller": controller, "blockOwnerDeletion": false,
    }])
}

/// A Secret: so far with the token only.
#[must_use]
pub fn secret(name: &str, namespace: &str, owners: &Value, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "type": "tensor-fusion.ai/connection",
        "stringData": {"token": token},
    })
}

/// The addresses of a client's containers, by their keys in its Secret, once the worker is ready. Of a worker that serves
/// several clients each of a client's containers uses the same.
#[must_use]
pub fn addresses(wish: &Wish, worker: &Pod, own: bool) -> Option<Value> {
    let mut addresses = json!({});
    for (position, container) in wish.containers.iter().enumerate() {
        let address = worker::address(worker, if own { position } else { 0 })?;
        addresses[url_key(wish, &container.name)] = address.into();
    }
    Some(addresses)
}

/// The TensorFusionConnection.
#[must_use]
pub fn connection(client: &Pod, names: &Names) -> Value {
    json!({
        "apiVersion": "tensor-fusion.ai/v1",
        "kind": "TensorFusionConnection",
        "metadata": {
            "name": names.secret, "namespace": client.namespace(), "ownerReferences": owned_by(client, true),
            "labels": {(names::WORKLOAD): names.workload},
        },
        "spec": {"workloadName": names.workload, "clientPod": client.name_any()},
    })
}

/// The TensorFusionWorkload of all clients of the same owner. It goes with that.
#[must_use]
pub fn workload(client: &Pod, names: &Names, wish: &Wish) -> Value {
    let owners = client.metadata.owner_references.as_ref().filter(|owners| !owners.is_empty());
    let owners = owners.map_or_else(|| owned_by(client, true), |owners| json!(owners));
    json!({
        "apiVersion": "tensor-fusion.ai/v1",
        "kind": "TensorFusionWorkload",
        "metadata": {"name": names.workload, "namespace": client.namespace(), "ownerReferences": owners},
        "spec": spec(wish),
    })
}

fn spec(wish: &Wish) -> TensorFusionWorkloadSpec {
    let container = wish.containers.first();
    let resources = container.map(|container| Resources {
        requests: Resource::new(
            container.tflops_request.unwrap_or_default(),
            container.vram_request.unwrap_or_default(),
        ),
        limits: Resource::new(container.tflops_limit.unwrap_or_default(), container.vram_limit.unwrap_or_default()),
    });
    let gang = wish.gang.as_ref().filter(|_| wish.replicas.is_some());
    TensorFusionWorkloadSpec {
        replicas: wish.replicas.and_then(|replicas| i32::try_from(replicas).ok()),
        pool_name: Some(wish.pool.clone()),
        resources,
        qos: Some(wish.qos.into()),
        is_local_gpu: Some(false),
        gpu_model: wish.model.clone(),
        gpu_count: container.and_then(|container| i32::try_from(container.gpus).ok()),
        vendor: wish.vendor.clone(),
        worker_pod_template: wish.worker_pod_template.clone(),
        gang_scheduling: gang.map(|gang| GangScheduling {
            min_members: gang.minimum.and_then(|minimum| i32::try_from(minimum).ok()),
            timeout: gang.timeout.map(|seconds| format!("{seconds}s")),
            ..GangScheduling::default()
        }),
        ..TensorFusionWorkloadSpec::default()
    }
}

#[cfg(test)]
mod tests;
