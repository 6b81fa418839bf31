//! Stands in for nodes on a control plane alone: two Node objects with a GPU each, and somebody who says that pods run.
//!
//! Everything that decides is real: admission, allocation, quotas, the stock scheduler, controllers. Only nothing computes.

use std::time::Duration;

use crd::{GPU, names};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

const NODES: [&str; 2] = ["node-1", "node-2"];
const MANAGER: &str = "stand-in";
const PAUSE: Duration = Duration::from_millis(200);

/// Begins, for as long as this process lives.
pub(crate) fn start(kubeconfig: &std::path::Path) -> Result<(), String> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    std::thread::spawn(move || runtime.block_on(serve(config)));
    Ok(())
}

async fn serve(config: kube::config::Kubeconfig) {
    let options = kube::config::KubeConfigOptions::default();
    let client = match kube::Config::from_custom_kubeconfig(config, &options).await.map(Client::try_from) {
        Ok(Ok(client)) => client,
        other => {
            eprintln!("nobody stands in for the nodes: {:?}", other.map(drop));
            return;
        }
    };
    loop {
        // Whatever fails (the API server restarts, kinds are not there yet) is done again.
        if let Err(error) = nodes(&client).await {
            eprintln!("no nodes yet: {error}");
        }
        for _ in 0..25 {
            drop(pods(&client).await);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn nodes(client: &Client) -> Result<(), kube::Error> {
    let ours = PatchParams::apply(MANAGER).force();
    let nodes: Api<Node> = Api::all(client.clone());
    for (index, name) in NODES.iter().enumerate() {
        let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        nodes.patch(name, &ours, &Patch::Apply(&object)).await?;
        let room = json!({"cpu": "8", "memory": "32Gi", "pods": "200", "ephemeral-storage": "100Gi"});
        let status = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {
            "capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}],
        }});
        nodes.patch_status(name, &ours, &Patch::Apply(&status)).await?;
        card(client, name, index).await?;
    }
    Ok(())
}

/// The GPU of a node, as its agent would report it.
async fn card(client: &Client, node: &str, index: usize) -> Result<(), kube::Error> {
    let cards: Api<GPU> = Api::all(client.clone());
    let name = format!("gpu-stand-in-{index}");
    let labels = json!({names::POOL: "default", names::NODE: node});
    let head = |more: Value| {
        let mut object = json!({"apiVersion": "tensor-fusion.ai/v1", "kind": "GPU", "metadata": {"name": name}});
        object
            .as_object_mut()
            .into_iter()
            .for_each(|object| object.extend(more.as_object().cloned().unwrap_or_default()));
        object
    };
    let object = head(json!({"metadata": {"name": name, "labels": labels}}));
    let known = match cards.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await {
        // The chart is not installed yet.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        other => other?,
    };
    if known.status.is_none() {
        let room = json!({"tflops": "20", "vram": "8Gi"});
        let status = head(json!({"status": {
            "phase": "Running", "vendor": "Software", "gpuModel": "SOFT", "uuid": name, "index": 0, "capacity": room,
            "available": room, "nodeSelector": {names::HOSTNAME: node}, "usedBy": "tensor-fusion", "message": "stands in",
        }}));
        cards.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&status)).await?;
    }
    Ok(())
}

/// What kubelets would say and do about the pods of their nodes.
async fn pods(client: &Client) -> Result<(), kube::Error> {
    let all: Api<Pod> = Api::all(client.clone());
    for pod in all.list(&ListParams::default()).await? {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some();
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if !bound {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            drop(api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
        } else if phase == Some("Pending") {
            let conditions =
                ["Initialized", "ContainersReady", "Ready"].map(|kind| json!({"type": kind, "status": "True"}));
            let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": conditions}});
            // It may be gone.
            drop(api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status)).await);
        }
    }
    Ok(())
}
