//! The pods of workers: for each of a client's containers with GPUs one container here, which serves it on a port of its own.

use std::net::{IpAddr, SocketAddr};

use crd::{GPUPool, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::objects::CLIENT;
use crate::Settings;
use crate::admission::{Mode, Wish};

/// The first container, as allocations name it; those after it have numbers.
pub const CONTAINER: &str = "worker";
/// Where the first listens; those after it on the next ports.
pub const PORT: u16 = 8000;
/// Label: what a worker was made of.
pub const HASH: &str = "tensor-fusion.ai/pod-template-hash";
/// Annotation: whose tokens a worker takes besides that of its Secret.
const TOKENS: &str = "tensor-fusion.ai/tokens";
const OF_CLIENTS: &str = "clients";

/// Whose a worker is, and what it is called.
#[derive(Clone, Debug)]
pub struct Worker<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its workload.
    pub workload: &'a str,
    /// The list of its owners.
    pub owners: Value,
    /// The UID of the client that it is for alone.
    pub client: Option<&'a str>,
    /// The Secret that holds its token.
    pub secret: &'a str,
    /// What it was made of.
    pub hash: Option<&'a str>,
}

/// What a worker's container is called.
#[must_use]
pub fn container_name(position: usize) -> String {
    if position == 0 { CONTAINER.to_owned() } else { format!("{CONTAINER}-{position}") }
}

fn port(position: usize) -> u16 {
    PORT.saturating_add(u16::try_from(position).unwrap_or(u16::MAX))
}

/// The wish of a worker for a client's: the same GPUs, on the worker's own node.
#[must_use]
pub fn wish_for(client: &Wish) -> Wish {
    let mut wish = Wish {
        mode: Mode::Local,
        enabled_replicas: None,
        gang: None,
        workload: None,
        replicas: None,
        worker_pod_template: None,
        ..client.clone()
    };
    for (position, container) in wish.containers.iter_mut().enumerate() {
        container.name = container_name(position);
    }
    wish
}

/// A worker's pod: gated, with its wish, on a node with GPUs.
#[must_use]
pub fn pod(
    worker: &Worker<'_>,
    wish: &Wish,
    template: Option<&Value>,
    settings: &Settings,
    pool: Option<&GPUPool>,
) -> Value {
    let config = pool.and_then(|pool| pool.spec.component_config.as_ref()).and_then(|config| config.worker.as_ref());
    let image = config.and_then(|config| config.image.clone()).unwrap_or_else(|| settings.client_image.clone());
    let mut pod = json!({"metadata": {}, "spec": {}});
    for template in [config.and_then(|config| config.pod_template.as_ref()), template].into_iter().flatten() {
        // Kubernetes' PodTemplate or PodTemplateSpec; what follows goes over it.
        json_patch::merge(&mut pod, template.get("template").unwrap_or(template));
    }
    let base = pod.pointer("/spec/containers/0").cloned();
    clean(&mut pod);
    let containers: Vec<Value> = wish
        .containers
        .iter()
        .enumerate()
        .map(|(position, _)| container(position, worker, &image, settings, base.as_ref()))
        .collect();
    let mut labels = json!({
        (names::ENABLED): "true",
        (names::COMPONENT): "worker",
        (names::WORKLOAD): worker.workload,
    });
    if let Some(hash) = worker.hash {
        labels[HASH] = hash.into();
    }
    let mut annotations = json!({(names::REQUEST): json!(wish).to_string(), (TOKENS): OF_CLIENTS});
    if let Some(client) = worker.client {
        annotations[CLIENT] = client.into();
    }
    let ours = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": worker.name,
            "namespace": worker.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": worker.owners,
        },
        "spec": {
            "schedulingGates": [{"name": names::GATE}],
            "containers": containers,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "restartPolicy": "Always",
        },
    });
    json_patch::merge(&mut pod, &ours);
    pod
}

/// Takes out of a template what only we say: names, keys of our domain, the node.
fn clean(pod: &mut Value) {
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| field == "labels" || field == "annotations");
        for keys in metadata.values_mut().filter_map(Value::as_object_mut) {
            keys.retain(|key, _| !key.starts_with(&format!("{}/", names::DOMAIN)));
        }
    }
    if let Some(root) = pod.as_object_mut() {
        root.retain(|field, _| field == "metadata" || field == "spec");
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("nodeName");
    }
}

fn container(position: usize, worker: &Worker<'_>, image: &str, settings: &Settings, base: Option<&Value>) -> Value {
    let (name, port) = (container_name(position), port(position));
    let port_name = if position == 0 { "remote-vgpu".to_owned() } else { format!("remote-vgpu-{position}") };
    let mut one = json!({
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    if let Some(base) = base {
        json_patch::merge(&mut one, base);
    }
    let mut env = one.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    env.retain(|one| one.get("name").and_then(Value::as_str).is_some_and(|name| !name.starts_with("TENSOR_FUSION_")));
    env.extend([
        json!({"name": "TENSOR_FUSION_ALLOCATION", "valueFrom": {"fieldRef":
            {"fieldPath": format!("metadata.annotations['{}']", names::ALLOCATION)}}}),
        json!({"name": "TENSOR_FUSION_CONTAINER_NAME", "value": name}),
        json!({"name": "TENSOR_FUSION_TOKEN", "valueFrom": {"secretKeyRef": {"name": worker.secret, "key": "token"}}}),
    ]);
    let ours = json!({
        "name": name,
        "image": image,
        "command": ["/tensor-fusion", "worker", "--listen", format!("tcp://0.0.0.0:{port}")],
        "env": env,
        "ports": [{"name": port_name, "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 3},
    });
    json_patch::merge(&mut one, &ours);
    if let Some(policy) = &settings.image_pull_policy {
        one["imagePullPolicy"] = policy.as_str().into();
    }
    one
}

/// Whether a worker takes tokens that were made of its own for each client.
#[must_use]
pub fn takes_tokens_of_clients(worker: &Pod) -> bool {
    worker.annotations().get(TOKENS).is_some_and(|of| of == OF_CLIENTS)
}

/// Whether all of a worker's containers serve.
#[must_use]
pub fn is_ready(worker: &Pod) -> bool {
    let conditions = worker.status.as_ref().and_then(|status| status.conditions.as_ref());
    worker.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        && ip(worker).is_some()
}

fn ip(worker: &Pod) -> Option<IpAddr> {
    worker.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Where a worker's container is reached, once it is ready.
#[must_use]
pub fn address(worker: &Pod, position: usize) -> Option<String> {
    let ip = ip(worker).filter(|_| is_ready(worker))?;
    Some(format!("tcp://{}/", SocketAddr::new(ip, port(position))))
}
