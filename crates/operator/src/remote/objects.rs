//! The objects of a remote client.

use crd::{GPUPool, Resource, Resources, TensorFusionWorkloadSpec, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::Settings;
use crate::admission::{Mode, Wish};
use crate::allocator::claim;

/// Annotation of a worker: the UID of its client.
pub const CLIENT: &str = "tensor-fusion.ai/client";
/// The worker's container, as allocations name it.
pub const CONTAINER: &str = "worker";
/// Where workers listen.
pub const PORT: u16 = 8000;

/// What the objects of a client are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The Secret, and the TensorFusionConnection.
    pub secret: String,
    /// The worker's pod.
    pub worker: String,
    /// The TensorFusionWorkload.
    pub workload: String,
}

impl Names {
    /// Of a client. `None` where the Secret's name is none that the webhook gives.
    #[must_use]
    pub fn of(client: &Pod) -> Option<Self> {
        let secret = claim::annotation(client, names::CONNECTION_SECRET)?;
        let token = secret.strip_prefix("tensor-fusion-")?;
        if token.is_empty()
            || token.len() > 40
            || !token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return None;
        }
        let workload = claim::controller(client).map_or_else(|| client.name_any(), |(_, name, _)| name.to_owned());
        Some(Self { secret: secret.to_owned(), worker: format!("{secret}-worker"), workload })
    }
}

fn owned_by(client: &Pod, controller: bool) -> Value {
    json!([{
        "apiVersion": "v1", "kind": "Pod", "name": client.name_any(), "uid": client.uid(),
        "controller": controller, "blockOwnerDeletion": false,
    }])
}

/// The Secret: so far with the token only.
#[must_use]
pub fn secret(client: &Pod, names: &Names, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.secret, "namespace": client.namespace(), "ownerReferences": owned_by(client, true)},
        "type": "tensor-fusion.ai/connection",
        "stringData": {"token": token},
    })
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
    TensorFusionWorkloadSpec {
        pool_name: Some(wish.pool.clone()),
        resources,
        qos: Some(wish.qos.into()),
        is_local_gpu: Some(false),
        gpu_model: wish.model.clone(),
        gpu_count: container.and_then(|container| i32::try_from(container.gpus).ok()),
        vendor: wish.vendor.clone(),
        ..TensorFusionWorkloadSpec::default()
    }
}

/// The worker's pod: gated, with the client's wish as its own, on a node with GPUs.
#[must_use]
pub fn worker(client: &Pod, names: &Names, wish: &Wish, settings: &Settings, pool: Option<&GPUPool>) -> Value {
    let mut wish = Wish { mode: Mode::Local, enabled_replicas: None, gang: None, ..wish.clone() };
    wish.containers.truncate(1);
    for container in &mut wish.containers {
        CONTAINER.clone_into(&mut container.name);
    }
    let config = pool.and_then(|pool| pool.spec.component_config.as_ref()).and_then(|config| config.worker.as_ref());
    let image = config.and_then(|config| config.image.clone()).unwrap_or_else(|| settings.client_image.clone());
    let mut container = json!({
        "name": CONTAINER,
        "image": image,
        "command": ["/tensor-fusion", "worker", "--listen", format!("tcp://0.0.0.0:{PORT}")],
        "env": [
            {"name": "TENSOR_FUSION_ALLOCATION", "valueFrom": {"fieldRef":
                {"fieldPath": format!("metadata.annotations['{}']", names::ALLOCATION)}}},
            {"name": "TENSOR_FUSION_CONTAINER_NAME", "value": CONTAINER},
            {"name": "TENSOR_FUSION_TOKEN", "valueFrom": {"secretKeyRef": {"name": names.secret, "key": "token"}}},
        ],
        "ports": [{"name": "remote-vgpu", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    let mut pod = json!({"metadata": {}, "spec": {}});
    if let Some(template) = config.and_then(|config| config.pod_template.as_ref()) {
        // The template is Kubernetes' PodTemplate or PodTemplateSpec; what follows goes over it.
        json_patch::merge(&mut pod, template.get("template").unwrap_or(template));
    }
    let ours = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.worker,
            "namespace": client.namespace(),
            "labels": {
                (names::ENABLED): "true",
                (names::COMPONENT): "worker",
                (names::WORKLOAD): names.workload,
            },
            "annotations": {
                (names::REQUEST): json!(wish).to_string(),
                (CLIENT): client.uid(),
            },
            "ownerReferences": owned_by(client, true),
        },
        "spec": {
            "schedulingGates": [{"name": names::GATE}],
            "containers": [container],
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "restartPolicy": "Always",
        },
    });
    json_patch::merge(&mut pod, &ours);
    pod
}

/// Where a worker is reached, once it is ready.
#[must_use]
pub fn address(worker: &Pod) -> Option<String> {
    let status = worker.status.as_ref()?;
    let ready = status.conditions.as_ref()?.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let address: std::net::IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
    ready.then(|| format!("tcp://{}/", std::net::SocketAddr::new(address, PORT)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admission::{Decision, decide_as};
    use crate::allocator::claim::{Standing, standing};

    fn client() -> (Pod, Wish) {
        let pod = json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "u", "annotations": {
                "tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/tflops-limit": "2", "tensor-fusion.ai/is-local-gpu": "false"},
                "labels": {"tensor-fusion.ai/enabled": "true"}},
            "spec": {"containers": [{"name": "main"}]},
        });
        let Ok(Decision::Changed { pod, wish }) = decide_as(&pod, "ns", &Settings::default(), 0, "1a2b3c4d-5e6f")
        else {
            panic!()
        };
        (serde_json::from_value(pod).unwrap(), *wish)
    }

    #[test]
    fn a_client_waits_for_its_secret_and_not_for_the_allocator() {
        let (client, _) = client();
        let names = Names::of(&client).unwrap();
        assert_eq!(
            names,
            Names {
                secret: "tensor-fusion-1a2b3c4d".into(),
                worker: "tensor-fusion-1a2b3c4d-worker".into(),
                workload: "c".into()
            }
        );
        assert!(claim::is_gated(&client));
        assert!(matches!(standing(&Arc::new(client.clone())), Standing::Nothing));
        let env = json!(client.spec.unwrap().containers[0].env);
        for (name, key) in [("TENSOR_FUSION_CONNECT", "url"), ("TENSOR_FUSION_TOKEN", "token")] {
            let one = env.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
            assert_eq!(one["valueFrom"]["secretKeyRef"], json!({"name": "tensor-fusion-1a2b3c4d", "key": key}));
        }
    }

    #[test]
    fn a_worker_is_a_pod_that_the_allocator_serves() {
        let (client, wish) = client();
        let names = Names::of(&client).unwrap();
        let worker: Pod = serde_json::from_value(worker(&client, &names, &wish, &Settings::default(), None)).unwrap();
        let mut seen = worker.clone();
        seen.metadata.uid = Some("w".to_owned());
        let Standing::Waiting(claim) = standing(&Arc::new(seen)) else { panic!() };
        assert_eq!((claim.wish.containers[0].name.as_str(), claim.wish.mode), (CONTAINER, Mode::Local));
        assert!(!json!(worker).to_string().contains("\"token\":"));
        assert_eq!(address(&worker), None);
    }

    #[test]
    fn other_peoples_secrets_are_never_named() {
        let (mut client, _) = client();
        for name in ["default-token", "tensor-fusion-", "tensor-fusion-webhook/../x", "tensor-fusion-Ä"] {
            client.metadata.annotations.as_mut().unwrap().insert(names::CONNECTION_SECRET.to_owned(), name.to_owned());
            assert_eq!(Names::of(&client), None, "{name}");
        }
    }

    #[test]
    fn an_address_of_either_family_is_one() {
        let ready = |ip: &str| -> Pod {
            serde_json::from_value(
                json!({"status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}}),
            )
            .unwrap()
        };
        assert_eq!(address(&ready("10.0.0.1")).unwrap(), "tcp://10.0.0.1:8000/");
        assert_eq!(address(&ready("fd00::1")).unwrap(), "tcp://[fd00::1]:8000/");
    }
}
