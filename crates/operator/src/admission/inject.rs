//! Writing a wish into a pod: request, gate, client library. What we write is under our own domain, whatever domain people's
//! keys are under.
//!
//! The library reaches images that know nothing of us: an init container copies it into a volume, and `/etc/ld.so.preload` in the
//! injected containers names it, so that the dynamic loader (glibc) has `libcuda.so.1` and `libnvidia-ml.so.1` in place whatever the
//! image's own `LD_LIBRARY_PATH` is. In local mode the pod's vGPUs are reached over sockets which the node agent makes in a
//! folder of the pod's own; a container sees no other pod's, and starts when they are there.

use crd::names;
use serde_json::{Map, Value, json};

use super::read::RESOURCES;
use super::wish::{Mode, Wish};
use super::{Refusal, containers};
use crate::Settings;

const VOLUME: &str = "tensor-fusion";
const SOCKETS: &str = "tensor-fusion-sockets";
/// In every container; in our own image `/tensor-fusion` is the program.
const FOLDER: &str = "/opt/tensor-fusion";
/// Where a container finds the sockets of its pod.
const VGPU_FOLDER: &str = "/run/tensor-fusion/vgpu";
/// Longer than an agent that starts anew takes, shorter than people's patience.
const WAIT_SECONDS: &str = "300";

/// The pod with the wish written in.
pub(super) fn inject(pod: &Value, wish: &Wish, settings: &Settings, unique: &str) -> Result<Value, Refusal> {
    let domain = &settings.domain;
    let secret = secret_name(unique);
    for container in &wish.containers {
        let known: Vec<&str> =
            containers(pod, "containers").chain(containers(pod, "initContainers")).map(|(name, _)| name).collect();
        if !known.contains(&container.name.as_str()) {
            let allowed = format!("one of the pod's containers: {}", known.join(", "));
            return Err(Refusal::new(format!("annotation {domain}/inject-container"), &container.name, allowed));
        }
    }
    let mut pod = pod.clone();
    let request = serde_json::to_string(wish).map_err(|error| {
        Refusal::new(format!("annotation {}", names::REQUEST), error, "a wish that can be written as JSON")
    })?;
    let malformed = || Refusal::new("pod", "", "an object with `metadata` and `spec`");
    let root = pod.as_object_mut().ok_or_else(malformed)?;
    let metadata = object_in(root, "metadata").ok_or_else(malformed)?;
    if let Some(annotations) = object_in(metadata, "annotations") {
        annotations.insert(names::REQUEST.to_owned(), request.into());
        if wish.mode == Mode::Remote {
            annotations.insert(names::CONNECTION_SECRET.to_owned(), secret.clone().into());
        }
    }
    if let Some(labels) = object_in(metadata, "labels") {
        let component = if wish.mode == Mode::Local { "worker" } else { "client" };
        labels.insert(names::ENABLED.to_owned(), "true".into());
        labels.insert(names::COMPONENT.to_owned(), component.into());
    }
    let spec = object_in(root, "spec").ok_or_else(malformed)?;
    push_named(spec, "schedulingGates", json!({"name": names::GATE}));
    push_named(spec, "volumes", json!({"name": VOLUME, "emptyDir": {}}));
    if wish.mode == Mode::Local {
        let folder =
            json!({"name": SOCKETS, "hostPath": {"path": settings.socket_folder, "type": "DirectoryOrCreate"}});
        push_named(spec, "volumes", folder);
    }
    for kind in ["containers", "initContainers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            strip(container);
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            if wish.containers.iter().any(|wished| wished.name == name) {
                equip(container, wish, &secret);
            }
        }
    }
    // First, so that the library is there for the pod's own init containers too.
    let mut command = vec!["/tensor-fusion".to_owned(), "install-client".to_owned(), FOLDER.to_owned()];
    let mut mounts = vec![json!({"name": VOLUME, "mountPath": FOLDER})];
    let mut env = Vec::new();
    if wish.mode == Mode::Local {
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
    if let Some(list) = array_in(spec, "initContainers")
        && !list.iter().any(|one| one.get("name") == delivery.get("name"))
    {
        list.insert(0, delivery);
    }
    Ok(pod)
}

/// Takes away resources that no node has.
fn strip(container: &mut Value) {
    for kind in ["limits", "requests"] {
        if let Some(amounts) =
            container.get_mut("resources").and_then(|all| all.get_mut(kind)).and_then(Value::as_object_mut)
        {
            amounts.retain(|name, _| !RESOURCES.contains(&name.as_str()));
        }
    }
}

fn equip(container: &mut Value, wish: &Wish, secret: &str) {
    let Some(container) = container.as_object_mut() else { return };
    let mount = json!({"name": VOLUME, "mountPath": FOLDER, "readOnly": true});
    push_mount(container, mount);
    let preload =
        json!({"name": VOLUME, "mountPath": "/etc/ld.so.preload", "subPath": "ld.so.preload", "readOnly": true});
    push_mount(container, preload);
    let smi = json!({"name": VOLUME, "mountPath": "/usr/local/bin/nvidia-smi", "subPath": "bin/nvidia-smi", "readOnly": true});
    push_mount(container, smi);
    push_named(container, "env", field("TENSOR_FUSION_POD_NAME", "metadata.name"));
    push_named(container, "env", field("TENSOR_FUSION_POD_NAMESPACE", "metadata.namespace"));
    push_named(container, "env", field("TENSOR_FUSION_POD_UID", "metadata.uid"));
    let name = container.get("name").cloned().unwrap_or_default();
    push_named(container, "env", json!({"name": "TENSOR_FUSION_CONTAINER_NAME", "value": &name}));
    // Where our library, which is in every program, finds what it may set, once it is known what kind of GPU there is.
    push_named(container, "env", json!({"name": "TENSOR_FUSION_CLIENT", "value": FOLDER}));
    // Triton looks for the library in folders instead of asking the loader.
    push_named(container, "env", json!({"name": "TRITON_LIBCUDA_PATH", "value": format!("{FOLDER}/lib")}));
    if wish.mode == Mode::Local {
        push_mount(container, sockets());
        let socket = format!("unix://{VGPU_FOLDER}/$(TENSOR_FUSION_CONTAINER_NAME).sock");
        push_named(container, "env", json!({"name": "TENSOR_FUSION_CONNECT", "value": socket}));
    } else {
        // The operator makes the Secret before it lifts the gate.
        let url = url_key(wish, name.as_str().unwrap_or_default());
        for (variable, key) in [("TENSOR_FUSION_CONNECT", url.as_str()), ("TENSOR_FUSION_TOKEN", "token")] {
            let from = json!({"secretKeyRef": {"name": secret, "key": key}});
            push_named(container, "env", json!({"name": variable, "valueFrom": from}));
        }
        let from = json!({"secretKeyRef": {"name": secret, "key": "software", "optional": true}});
        push_named(container, "env", json!({"name": "TENSOR_FUSION_SOFTWARE", "valueFrom": from}));
    }
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

/// The object under a key, made where there is none.
fn object_in<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = map.entry(key).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

fn array_in<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let entry = map.entry(key).or_insert_with(|| json!([]));
    if entry.is_null() {
        *entry = json!([]);
    }
    entry.as_array_mut()
}

/// Adds an element unless one of its name is there.
fn push_named(map: &mut Map<String, Value>, key: &str, element: Value) {
    if let Some(list) = array_in(map, key)
        && !list.iter().any(|one| one.get("name") == element.get("name"))
    {
        list.push(element);
    }
}

/// Adds a mount unless its path is taken.
fn push_mount(container: &mut Map<String, Value>, mount: Value) {
    if let Some(list) = array_in(container, "volumeMounts")
        && !list.iter().any(|one| one.get("mountPath") == mount.get("mountPath"))
    {
        list.push(mount);
    }
}
