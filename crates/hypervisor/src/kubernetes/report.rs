//! This node's GPUs as objects of the API server: one GPUNode, and one GPU for each card.
//!
//! Everything is applied again and again, which heals whatever somebody else changed, and is the heartbeat. What the operator
//! writes into the same objects (`available`, who runs where) is not applied by us, so that it stays the operator's; only an object
//! that is new says that everything is available.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crd::{
    GPU, GPUNode, GPUNodeStatus, GPUStatus, GpuPhase, HypervisorStatus, NodePhase, Quantity, Resource, UsedBy, names,
};
use k8s_openapi::{
    api::core::v1::Node as KubernetesNode,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use types::{Bytes, Gpu, Tflops, Vendor};

use super::kubelet::{self, Given, Owner};
use super::{Health, Settings};
use crate::Node;

/// Time between heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The kubelet gives a pod its devices a little before or after the API server tells of the pod.
const SETTLE: Duration = Duration::from_millis(300);
/// After a heartbeat that failed.
const AGAIN: Duration = Duration::from_secs(2);
/// Who says what a new object starts with; the operator takes it over.
const BEGINNER: &str = "tensor-fusion-hypervisor-start";

/// Reports until the process ends, at once when something is `new`.
pub async fn keep(client: Client, node: Arc<Node>, settings: Settings, health: Arc<Health>, new: Arc<Notify>) {
    let mut given = None;
    loop {
        let wait = match report_with(&client, &node.gpus(), &settings, &mut given).await {
            Ok(()) => {
                health.reported.store(true, Ordering::Relaxed);
                HEARTBEAT
            }
            Err(error) => {
                tracing::warn!(error, "this node's GPUs cannot be reported");
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = new.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Reports once. While the kubelet does not answer, what it said before holds; before it has answered, nothing is reported, for
/// nobody knows whose the cards are.
async fn report_with(
    client: &Client,
    gpus: &[Gpu],
    settings: &Settings,
    given: &mut Option<Given>,
) -> Result<(), String> {
    let now = if settings.kubelet.exists() { kubelet::given(&settings.kubelet).await } else { Ok(Given::default()) };
    let given = match (now, given) {
        (Ok(now), given) => &*given.insert(now),
        (Err(error), Some(before)) => {
            tracing::warn!(%error, "what the kubelet said before holds");
            &*before
        }
        (Err(error), None) => return Err(error.to_string()),
    };
    report(client, gpus, settings, given).await.map_err(|error| error.to_string())
}

/// Reports once.
///
/// # Errors
/// The API server's.
pub async fn report(client: &Client, gpus: &[Gpu], settings: &Settings, given: &Given) -> Result<(), kube::Error> {
    let ours = PatchParams::apply(names::HYPERVISOR).force();
    let nodes: Api<GPUNode> = Api::all(client.clone());
    let machine = Api::<KubernetesNode>::all(client.clone()).get(&settings.node_name).await?;
    let object = node_object(settings, owner(&machine));
    let node = nodes.patch(&settings.node_name, &ours, &Patch::Apply(&object)).await?;
    let beat = node_status(gpus, Timestamp::now());
    let status = status_object::<GPUNode>(&settings.node_name, serde_json::to_value(beat).unwrap_or_default());
    nodes.patch_status(&settings.node_name, &ours, &Patch::Apply(&status)).await?;

    let cards: Api<GPU> = Api::all(client.clone());
    for gpu in gpus {
        let name = object_name(gpu);
        let whose = given.owner(&gpu.uuid, &settings.namespace);
        let object = gpu_object(gpu, settings, owner(&node), &whose);
        let known = cards.patch(&name, &ours, &Patch::Apply(&object)).await?;
        let mut status = serde_json::to_value(gpu_status(gpu, settings, &whose)).unwrap_or_default();
        if known.status.is_none() {
            let start = status_object::<GPU>(&name, status.clone());
            cards.patch_status(&name, &PatchParams::apply(BEGINNER).force(), &Patch::Apply(&start)).await?;
        }
        if let Some(fields) = status.as_object_mut() {
            fields.remove("available");
        }
        cards.patch_status(&name, &ours, &Patch::Apply(&status_object::<GPU>(&name, status))).await?;
    }
    // Cards that were taken out, or that had another identity.
    let here = ListParams::default().labels(&format!("{}={}", names::NODE, settings.node_name));
    for card in cards.list_metadata(&here).await? {
        let name = card.name_any();
        if !gpus.iter().any(|gpu| object_name(gpu) == name) {
            tracing::warn!(gpu = name, "this card is not here any more");
            match cards.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => drop(result?),
            }
        }
    }
    Ok(())
}

/// The name of a GPU's object.
#[must_use]
pub fn object_name(gpu: &Gpu) -> String {
    gpu.uuid.to_ascii_lowercase()
}

fn owner<K: kube::Resource<DynamicType = ()>>(object: &K) -> Option<OwnerReference> {
    object.owner_ref(&())
}

fn node_object(settings: &Settings, machine: Option<OwnerReference>) -> Value {
    json!({
        "apiVersion": GPUNode::api_version(&()),
        "kind": GPUNode::kind(&()),
        "metadata": {
            "name": settings.node_name,
            "labels": {names::POOL: settings.pool, names::pool_label(&settings.pool): "true"},
            "ownerReferences": machine.into_iter().collect::<Vec<_>>(),
        },
        "spec": {},
    })
}

fn gpu_object(gpu: &Gpu, settings: &Settings, node: Option<OwnerReference>, whose: &Owner) -> Value {
    let mut object = json!({
        "apiVersion": GPU::api_version(&()),
        "kind": GPU::kind(&()),
        "metadata": {
            "name": object_name(gpu),
            "labels": {names::POOL: settings.pool, names::NODE: settings.node_name},
            "ownerReferences": node.into_iter().collect::<Vec<_>>(),
        },
    });
    match whose {
        Owner::Us => {}
        Owner::Holder(pod) => object["metadata"]["annotations"] = json!({names::HELD_BY: pod}),
        Owner::Plugin { whole, .. } => {
            let how = if *whole { names::WHOLE } else { "shared" };
            object["metadata"]["annotations"] = json!({names::DEVICE_PLUGIN: how});
        }
    }
    object
}

fn status_object<K: kube::Resource<DynamicType = ()>>(name: &str, status: Value) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "status": status,
    })
}

fn node_status(gpus: &[Gpu], now: Timestamp) -> GPUNodeStatus {
    let count = i32::try_from(gpus.len()).unwrap_or(i32::MAX);
    let vram = gpus.iter().fold(Bytes::ZERO, |all, gpu| all.checked_add(gpu.vram).unwrap_or(all));
    let tflops = gpus.iter().filter_map(|gpu| gpu.tflops);
    let tflops = tflops.fold(Tflops::ZERO, |all, one| all.checked_add(one).unwrap_or(all));
    GPUNodeStatus {
        phase: NodePhase::Running,
        total_gpus: count,
        managed_gpus: count,
        managed_gpu_device_ids: Some(gpus.iter().map(object_name).collect()),
        total_tflops: Quantity::from(tflops),
        total_vram: Quantity::from(vram),
        hypervisor_status: Some(HypervisorStatus {
            hypervisor_state: Some("Running".to_owned()),
            hypervisor_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            last_heartbeat_time: Some(Time(now)),
        }),
        ..GPUNodeStatus::default()
    }
}

fn gpu_status(gpu: &Gpu, settings: &Settings, whose: &Owner) -> GPUStatus {
    let (used_by, message) = match whose {
        Owner::Plugin { text, .. } => (UsedBy::NvidiaDevicePlugin, text.clone()),
        Owner::Us | Owner::Holder(_) => (UsedBy::TensorFusion, "it takes work".to_owned()),
    };
    let capacity = Resource::new(gpu.tflops.unwrap_or_default(), gpu.vram);
    let (vendor, model) = match gpu.vendor {
        // The catalogue's words for it.
        Vendor::Software => ("TensorFusion", "SOFT".to_owned()),
        Vendor::Nvidia => ("NVIDIA", gpu.name.clone()),
    };
    GPUStatus {
        phase: GpuPhase::Running,
        vendor: vendor.to_owned(),
        model: Some(gpu.name.clone()),
        gpu_model: model,
        uuid: gpu.uuid.clone(),
        index: i32::try_from(gpu.index).ok(),
        numa_node: Some(gpu.numa_node.and_then(|node| i32::try_from(node).ok()).unwrap_or(-1)),
        available: capacity.clone(),
        capacity,
        node_selector: [(names::HOSTNAME.to_owned(), settings.node_name.clone())].into(),
        used_by: Some(used_by),
        message,
        ..GPUStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use types::Capability;

    use super::*;

    fn settings() -> Settings {
        Settings {
            node_name: "n1".to_owned(),
            pool: "default".to_owned(),
            namespace: "system".to_owned(),
            sockets: "/pods".into(),
            kubelet: "/nowhere".into(),
        }
    }

    fn gpu(index: u32) -> Gpu {
        Gpu {
            index,
            uuid: format!("GPU-0{index}AB"),
            name: "Tensor Fusion Software GPU".to_owned(),
            vendor: Vendor::Software,
            compute_capability: Capability { major: 12, minor: 0 },
            numa_node: None,
            vram: Bytes::from_gib(8),
            vram_allocated: Bytes::from_gib(3),
            tflops: Some(Tflops::new(20)),
            tflops_allocated: Tflops::ZERO,
            vgpus: 1,
        }
    }

    #[test]
    fn a_card_is_told_by_its_identity_place_and_size() {
        let object = gpu_object(&gpu(1), &settings(), None, &Owner::Us);
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("GPU"), &json!("gpu-01ab")));
        assert_eq!(object["metadata"]["labels"][names::NODE], "n1");
        let status = serde_json::to_value(gpu_status(&gpu(1), &settings(), &Owner::Us)).unwrap();
        assert_eq!(status["capacity"], json!({"tflops": "20", "vram": "8Gi"}));
        assert_eq!((&status["uuid"], &status["gpuModel"]), (&json!("GPU-01AB"), &json!("SOFT")));
        assert_eq!(status["nodeSelector"], json!({"kubernetes.io/hostname": "n1"}));
        assert_eq!(status["numaNode"], -1);
        let near = Gpu { numa_node: Some(1), ..gpu(1) };
        assert_eq!(serde_json::to_value(gpu_status(&near, &settings(), &Owner::Us)).unwrap()["numaNode"], 1);
        assert_eq!((&status["usedBy"], object["metadata"].get("annotations")), (&json!("tensor-fusion"), None));
    }

    #[test]
    fn a_card_of_a_device_plugin_is_told_so_and_one_that_is_held_by_whom() {
        let plugin = Owner::Plugin { text: "pod a/b has it".to_owned(), whole: true };
        let object = gpu_object(&gpu(1), &settings(), None, &plugin);
        assert_eq!(object["metadata"]["annotations"][names::DEVICE_PLUGIN], "whole");
        let status = serde_json::to_value(gpu_status(&gpu(1), &settings(), &plugin)).unwrap();
        assert_eq!((&status["usedBy"], &status["message"]), (&json!("nvidia-device-plugin"), &json!("pod a/b has it")));
        let held = Owner::Holder("card-1".to_owned());
        let object = gpu_object(&gpu(1), &settings(), None, &held);
        assert_eq!(object["metadata"]["annotations"][names::HELD_BY], "card-1");
        let status = serde_json::to_value(gpu_status(&gpu(1), &settings(), &held)).unwrap();
        assert_eq!(status["usedBy"], "tensor-fusion");
    }

    #[test]
    fn a_node_is_told_with_all_its_cards_and_a_heartbeat() {
        let status = node_status(&[gpu(0), gpu(1)], Timestamp::UNIX_EPOCH);
        let status = serde_json::to_value(status).unwrap();
        assert_eq!((&status["totalGPUs"], &status["totalVRAM"]), (&json!(2), &json!("16Gi")));
        assert_eq!((&status["phase"], &status["totalTFlops"]), (&json!("Running"), &json!("40")));
        assert_eq!(status["hypervisorStatus"]["lastHeartbeatTime"], "1970-01-01T00:00:00Z");
    }
}
