//! The one update that gives a pod its GPUs.

use std::collections::BTreeMap;

use crd::{Allocation, names};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The merge patch of a pod: allocation, a required node, and the gate away. It carries the version of the pod that was looked
/// at, so that it fails when the pod has changed since. `hard_percent` is the most compute of a card, where the card's vendor is to
/// enforce it.
#[must_use]
pub fn patch(pod: &Pod, allocation: &Allocation, hard_percent: Option<u64>) -> Value {
    let container_gpus: BTreeMap<&str, Vec<&str>> = allocation
        .containers
        .iter()
        .map(|(name, shares)| (name.as_str(), shares.iter().map(|share| share.gpu.as_str()).collect()))
        .collect();
    let mut annotations = json!({
        (names::ALLOCATION): json!(allocation).to_string(),
        (names::GPU_IDS): allocation.gpus().join(","),
        (names::CONTAINER_GPUS): json!(container_gpus).to_string(),
    });
    if let Some(percent) = hard_percent {
        annotations[names::HARD_SM_PERCENT] = percent.to_string().into();
    }
    json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version, "annotations": annotations},
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": terms(pod, &allocation.node),
            }}},
            "schedulingGates": gates(pod),
        },
    })
}

/// The merge patch that only lifts the gate, for pods whose GPUs are elsewhere.
#[must_use]
pub fn lift(pod: &Pod) -> Value {
    json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version},
        "spec": {"schedulingGates": gates(pod)},
    })
}

/// The gates that are not ours.
fn gates(pod: &Pod) -> Vec<Value> {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.into_iter().flatten().filter(|gate| gate.name != names::GATE).map(|gate| json!({"name": gate.name})).collect()
}

/// What a node selector's `matchFields` says for one node.
pub(super) fn only(node: &str) -> Value {
    json!({"key": "metadata.name", "operator": "In", "values": [node]})
}

/// The pod's own terms, each narrowed to the node. Terms are alternatives, so each of them must say it.
fn terms(pod: &Pod, node: &str) -> Vec<Value> {
    let here = only(node);
    let own = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
    };
    let Some(own) = own() else { return vec![json!({"matchFields": [here]})] };
    own.iter()
        .map(|term| {
            let mut term = json!(term);
            if let Some(fields) = term.as_object_mut() {
                let list = fields.entry("matchFields").or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(here.clone());
                }
            }
            term
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocation() -> Allocation {
        Allocation::parse(r#"{"node":"n1","containers":{"b":[{"gpu":"gpu-2","tflops":1,"vram":1}],"a":[{"gpu":"gpu-1","tflops":1,"vram":1},{"gpu":"gpu-2","tflops":1,"vram":1}]}}"#)
            .unwrap()
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_our_gate_goes_and_the_version_stays() {
        let pod = pod(json!({"containers": [], "schedulingGates": [{"name": "other"}, {"name": names::GATE}]}));
        let patch = patch(&pod, &allocation(), Some(25));
        assert_eq!(patch["spec"]["schedulingGates"], json!([{"name": "other"}]));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let annotations = &patch["metadata"]["annotations"];
        assert_eq!(annotations[names::GPU_IDS], "gpu-1,gpu-2");
        assert_eq!(annotations[names::HARD_SM_PERCENT], "25");
        assert_eq!(annotations[names::CONTAINER_GPUS], r#"{"a":["gpu-1","gpu-2"],"b":["gpu-2"]}"#);
        assert_eq!(Allocation::parse(annotations[names::ALLOCATION].as_str().unwrap()).unwrap(), allocation());
    }

    #[test]
    fn every_term_of_the_pod_is_narrowed_to_the_node() {
        let here = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let required = |patch: &Value| {
            patch["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
        };
        let plain = pod(json!({"containers": []}));
        let found = patch(&plain, &allocation(), None);
        assert_eq!(required(&found), json!([{"matchFields": [here]}]));
        assert_eq!(found["metadata"]["annotations"].get(names::HARD_SM_PERCENT), None);
        let zone = json!({"key": "zone", "operator": "Exists"});
        let own = json!([{"matchExpressions": [zone]}, {"matchExpressions": [zone], "matchFields": [here]}]);
        let own =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": own}}});
        let patch = patch(&pod(json!({"containers": [], "affinity": own})), &allocation(), None);
        let expected = json!([
            {"matchExpressions": [zone], "matchFields": [here]},
            {"matchExpressions": [zone], "matchFields": [here, here]},
        ]);
        assert_eq!(required(&patch), expected);
    }
}
