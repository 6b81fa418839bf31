//! What a pod is to be served. Pure.

use std::{collections::BTreeMap, path::Path};

use crd::{Allocation, Share, names};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use types::{Bytes, Request, Tflops};

/// A pod with vGPUs of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The pod.
    pub pod: PodName,
    /// What each of its containers gets.
    pub containers: BTreeMap<String, Request>,
}

/// Which pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, which no other pod ever has.
    pub uid: String,
}

/// What to do about a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Serve it.
    Serve(Plan),
    /// It has nothing of ours, or needs it no more.
    Nothing,
    /// It cannot be served, and why.
    Wrong(String),
}

/// Decides about a pod that is bound to `node`, whose pods find their sockets below `sockets`.
#[must_use]
pub fn plan(pod: &Pod, node: &str, sockets: &Path) -> Verdict {
    let Some(spec) = &pod.spec else { return Verdict::Nothing };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    // Its containers will never run again.
    if matches!(phase, Some("Succeeded" | "Failed")) || !looks_for(spec, sockets) {
        return Verdict::Nothing;
    }
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(names::ALLOCATION)) else {
        return Verdict::Nothing;
    };
    let allocation = match Allocation::parse(text) {
        Ok(allocation) => allocation,
        Err(error) => return Verdict::Wrong(format!("annotation {} is not understood: {error}", names::ALLOCATION)),
    };
    if allocation.node != node {
        return Verdict::Wrong(format!("its vGPUs are on node `{}`, and it runs on `{node}`", allocation.node));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    // It becomes the name of a folder.
    if uid.is_empty() || !uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Verdict::Wrong(format!("its UID is `{uid}`: expected letters, digits and `-`"));
    }
    let mut containers = BTreeMap::new();
    for (name, shares) in &allocation.containers {
        // The name becomes that of a file, and is a good one only when it is that of a container.
        if !has_container(spec, name) {
            return Verdict::Wrong(format!("vGPUs are allocated to `{name}`, which is none of its containers"));
        }
        if let Some(request) = request(shares) {
            containers.insert(name.clone(), Request { program: format!("{uid}/{name}"), ..request });
        }
    }
    let pod = PodName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid,
    };
    if containers.is_empty() { Verdict::Nothing } else { Verdict::Serve(Plan { pod, containers }) }
}

/// Whether the webhook has given the pod our sockets. A worker pod of a remote workload has an allocation too, and serves it itself.
fn looks_for(spec: &PodSpec, sockets: &Path) -> bool {
    let folder = |path: &str| Path::new(path) == sockets;
    spec.volumes.iter().flatten().any(|volume| volume.host_path.as_ref().is_some_and(|host| folder(&host.path)))
}

fn has_container(spec: &PodSpec, name: &str) -> bool {
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| container.name == name)
}

/// What a container's shares are as one request. A worker has one limit for all its GPUs: the least of theirs.
#[must_use]
pub fn request(shares: &[Share]) -> Option<Request> {
    let vram = |share: &Share| share.vram_limit.unwrap_or(share.vram).max(share.vram);
    let tflops = |share: &Share| share.tflops_limit.unwrap_or(share.tflops).max(share.tflops);
    Some(Request {
        gpus: u32::try_from(shares.len()).ok()?,
        uuids: shares.iter().map(|share| share.gpu.clone()).collect(),
        vram: Some(shares.iter().map(vram).min()?).filter(|vram| *vram > Bytes::ZERO),
        tflops: Some(shares.iter().map(tflops).min()?).filter(|tflops| *tflops > Tflops::ZERO),
        qos: shares.iter().map(|share| share.qos).max()?,
        ..Request::default()
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn pod(uid: &str, allocation: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a-pod", "namespace": "team", "uid": uid, "annotations": {names::ALLOCATION: allocation}},
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "main"}, {"name": "side"}],
                "volumes": [{"name": "sockets", "hostPath": {"path": "/pods"}}],
            },
        }))
        .unwrap()
    }

    const ALLOCATION: &str = r#"{"node":"n1","containers":{"main":[
        {"gpu":"gpu-a","tflops":10,"vram":4294967296,"qos":"high"},
        {"gpu":"gpu-b","tflops":10,"vram":4294967296,"tflopsLimit":20,"vramLimit":8589934592}]}}"#;

    fn verdict(pod: &Pod) -> Verdict {
        plan(pod, "n1", Path::new("/pods"))
    }

    #[test]
    fn a_pod_gets_what_its_annotation_says() {
        let Verdict::Serve(plan) = verdict(&pod("u-1", ALLOCATION)) else { panic!("it is to be served") };
        assert_eq!((plan.pod.namespace.as_str(), plan.pod.uid.as_str()), ("team", "u-1"));
        let main = &plan.containers["main"];
        assert_eq!(main.uuids, ["gpu-a", "gpu-b"]);
        assert_eq!((main.gpus, main.vram, main.tflops), (2, Some(Bytes::from_gib(4)), Some(Tflops::new(10))));
        assert_eq!(main.qos, types::Qos::High);
        assert_eq!(plan.containers.len(), 1);
    }

    #[test]
    fn pods_that_are_not_ours_or_have_ended_get_nothing() {
        let ours = pod("u-1", ALLOCATION);
        let mut ended = ours.clone();
        ended.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        let mut without = ours.clone();
        without.metadata.annotations = None;
        let mut remote_worker = ours.clone();
        remote_worker.spec.as_mut().unwrap().volumes = None;
        for pod in [ended, without, remote_worker, pod("u-1", r#"{"node":"n1","containers":{}}"#)] {
            assert_eq!(verdict(&pod), Verdict::Nothing);
        }
    }

    #[test]
    fn what_is_wrong_with_an_allocation_is_said() {
        let wrong = |uid: &str, allocation: &str| match verdict(&pod(uid, allocation)) {
            Verdict::Wrong(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert!(wrong("u-1", "junk").contains("annotation tensor-fusion.ai/allocation is not understood"));
        assert!(wrong("u-1", &ALLOCATION.replace("n1", "n2")).contains("on node `n2`, and it runs on `n1`"));
        assert!(wrong("u-1", &ALLOCATION.replace("main", "../x")).contains("`../x`, which is none of its containers"));
        assert!(wrong("../..", ALLOCATION).contains("its UID is `../..`"));
    }
}
