//! Writing a wish into a pod: request, gate, client library. What we write is under our own domain, whatever domain people's
//! keys are under.
//!
//! The library reaches images that know nothing of us: an init container copies it into a volume, and `/etc/ld.so.preload` in the
//! injected containers names it, so that the dynamic loader (glibc) has `libcuda.so.1` and `libnvidia-ml.so.1` in place whatever the
//! image's own `LD_LIBRARY_PATH` is. In local mode the pod's vGPUs are reached over sockets which the node agent makes in a
//! folder of the pod's own; a container sees no other pod's, and starts when they are there.

use crd::names;
use json_patch::Patch;
use serde_json::{Value, json};

use super::Refusal;
use super::container::all;
use super::edit::Edits;
use super::vendor::{FAMILIES, Family, NVIDIA};
use super::wish::{Mode, Wish};
use crate::Settings;

const VOLUME: &str = "tensor-fusion";
const SOCKETS: &str = "tensor-fusion-sockets";
/// In every container; in our own image `/tensor-fusion` is the program.
const FOLDER: &str = "/opt/tensor-fusion";
/// Where a container finds the sockets of its pod.
const VGPU_FOLDER: &str = "/run/tensor-fusion/vgpu";
/// Longer than an agent that starts anew takes, shorter than people's patience.
const WAIT_SECONDS: &str = "300";

/// What is to be written into the pod.
pub(super) fn inject(pod: &Value, wish: &Wish, settings: &Settings, unique: &str) -> Result<Patch, Refusal> {
    let domain = &settings.domain;
    let secret = secret_name(unique);
    for container in &wish.containers {
        if !all(pod).any(|(name, _)| name == container.name) {
            let known: Vec<&str> = all(pod).map(|(name, _)| name).collect();
            let allowed = format!("one of the pod's containers: {}", known.join(", "));
            return Err(Refusal::new(format!("annotation {domain}/inject-container"), &container.name, allowed));
        }
    }
    let request = serde_json::to_string(wish).map_err(|error| {
        Refusal::new(format!("annotation {}", names::REQUEST), error, "a wish that can be written as JSON")
    })?;
    let spec = pod.get("spec").filter(|spec| spec.is_object());
    let spec = spec.ok_or_else(|| Refusal::new("pod", "", "an object with `metadata` and `spec`"))?;
    let metadata = pod.get("metadata");
    let local = wish.mode == Mode::Local;
    let mut edits = Edits::default();
    // A template may lack it.
    edits.set("/metadata", metadata, Vec::new());
    let metadata = metadata.unwrap_or(&Value::Null);
    let mut annotations = vec![(names::REQUEST, request.into())];
    if !local {
        annotations.push((names::CONNECTION_SECRET, secret.as_str().into()));
    }
    edits.set("/metadata/annotations", metadata.get("annotations"), annotations);
    let component = if local { "worker" } else { "client" };
    let labels = vec![(names::ENABLED, "true".into()), (names::COMPONENT, component.into())];
    edits.set("/metadata/labels", metadata.get("labels"), labels);
    let gates = vec![json!({"name": names::GATE})];
    edits.append("/spec/schedulingGates", spec.get("schedulingGates"), "name", gates);
    let mut volumes = vec![json!({"name": VOLUME, "emptyDir": {}})];
    if local {
        let folder = json!({"path": settings.socket_folder, "type": "DirectoryOrCreate"});
        volumes.push(json!({"name": SOCKETS, "hostPath": folder}));
    }
    edits.append("/spec/volumes", spec.get("volumes"), "name", volumes);
    for kind in ["containers", "initContainers"] {
        for (position, container) in spec.get(kind).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let path = format!("/spec/{kind}/{position}");
            strip(&mut edits, &path, container, wish);
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            if wish.containers.iter().any(|wished| wished.name == name) {
                equip(&mut edits, &path, container, wish, &secret);
            }
        }
    }
    // First, so that the library is there for the pod's own init containers too; written last, because it moves those.
    edits.put_first("/spec/initContainers", spec.get("initContainers"), "name", delivery(local, settings));
    Ok(edits.into())
}

/// The container that brings the client library, and in local mode waits for the pod's sockets.
fn delivery(local: bool, settings: &Settings) -> Value {
    let mut command = vec!["/tensor-fusion".to_owned(), "install-client".to_owned(), FOLDER.to_owned()];
    let mut mounts = vec![json!({"name": VOLUME, "mountPath": FOLDER})];
    let mut env = Vec::new();
    if local {
        let ready = format!("{VGPU_FOLDER}/ready");
        command.extend(["--wait".to_owned(), ready, "--wait-seconds".to_owned(), WAIT_SECONDS.to_owned()]);
        mounts.push(sockets());
        env.push(field("TENSOR_FUSION_POD_UID", "metadata.uid"));
    }
    let mut delivery = json!({
        "name": "tensor-fusion-client",
        "image": settings.client_image,
        "command": command,
        "env": env,
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    });
    if let Some(policy) = &settings.image_pull_policy {
        delivery["imagePullPolicy"] = policy.as_str().into();
    }
    delivery
}

/// Takes away resources that no node has, and the cards that come from us instead.
fn strip(edits: &mut Edits, path: &str, container: &Value, wish: &Wish) {
    let vendor = wish.vendor.as_deref().unwrap_or(NVIDIA.vendor);
    let goes = |name: &str| {
        let of = |family: &Family| {
            family.made_up().any(|made_up| made_up == name) || (family.vendor == vendor && family.count == name)
        };
        FAMILIES.iter().any(of)
    };
    let Some(resources) = container.get("resources") else { return };
    for kind in ["limits", "requests"] {
        let Some(amounts) = resources.get(kind).and_then(Value::as_object) else { continue };
        for name in amounts.keys().filter(|name| goes(name)) {
            edits.remove(&format!("{path}/resources/{kind}"), name);
        }
    }
}

fn equip(edits: &mut Edits, path: &str, container: &Value, wish: &Wish, secret: &str) {
    let mut mounts = vec![
        json!({"name": VOLUME, "mountPath": FOLDER, "readOnly": true}),
        json!({"name": VOLUME, "mountPath": "/etc/ld.so.preload", "subPath": "ld.so.preload", "readOnly": true}),
        json!({"name": VOLUME, "mountPath": "/usr/local/bin/nvidia-smi", "subPath": "bin/nvidia-smi", "readOnly": true}),
    ];
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
    let mut env = vec![
        field("TENSOR_FUSION_POD_NAME", "metadata.name"),
        field("TENSOR_FUSION_POD_NAMESPACE", "metadata.namespace"),
        field("TENSOR_FUSION_POD_UID", "metadata.uid"),
        json!({"name": "TENSOR_FUSION_CONTAINER_NAME", "value": name}),
        // Where our library, which is in every program, finds what it may set, once it is known what kind of GPU there is.
        json!({"name": "TENSOR_FUSION_CLIENT", "value": FOLDER}),
        // Triton looks for the library in folders instead of asking the loader.
        json!({"name": "TRITON_LIBCUDA_PATH", "value": format!("{FOLDER}/lib")}),
    ];
    if wish.mode == Mode::Local {
        mounts.push(sockets());
        let socket = format!("unix://{VGPU_FOLDER}/$(TENSOR_FUSION_CONTAINER_NAME).sock");
        env.push(json!({"name": "TENSOR_FUSION_CONNECT", "value": socket}));
    } else {
        // The operator makes the Secret before it lifts the gate.
        let url = url_key(wish, name);
        for (variable, key) in [("TENSOR_FUSION_CONNECT", url.as_str()), ("TENSOR_FUSION_TOKEN", "token")] {
            let from = json!({"secretKeyRef": {"name": secret, "key": key}});
            env.push(json!({"name": variable, "valueFrom": from}));
        }
        let from = json!({"secretKeyRef": {"name": secret, "key": "software", "optional": true}});
        env.push(json!({"name": "TENSOR_FUSION_SOFTWARE", "valueFrom": from}));
    }
    edits.append(&format!("{path}/volumeMounts"), container.get("volumeMounts"), "mountPath", mounts);
    edits.append(&format!("{path}/env"), container.get("env"), "name", env);
}

/// The key of a remote container's address in the Secret of its pod: `url` for the first, of its own for others.
#[must_use]
pub fn url_key(wish: &Wish, container: &str) -> String {
    let first = wish.containers.first().is_none_or(|first| first.name == container);
    if first { "url".to_owned() } else { format!("url-{container}") }
}

/// The Secret with the address and the token of a remote client's worker.
fn secret_name(unique: &str) -> String {
    let short: String = unique.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("tensor-fusion-{}", short.to_ascii_lowercase())
}

/// A variable that holds something of the pod.
fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

/// The pod's own part of the folder of sockets.
fn sockets() -> Value {
    json!({"name": SOCKETS, "mountPath": VGPU_FOLDER, "subPathExpr": "$(TENSOR_FUSION_POD_UID)", "readOnly": true})
}
