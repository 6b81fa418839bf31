//! AdmissionReview in, AdmissionReview out.

use crd::names;
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::grey::{Grey, Room};
use crate::Settings;
use crate::admission::{Decision, Refusal, decide_as};

/// Annotation that tells the pod of a review when it comes by in the watch.
pub const COUNTER_KEY: &str = "pod-counter-key";

/// Answers a review. Nothing is written anywhere but in `grey`, and there not on a dry run.
#[must_use]
pub fn answer(review: &Value, settings: &Settings, grey: &Grey, leads: bool) -> Value {
    let null = Value::Null;
    let request = review.get("request").unwrap_or(&null);
    let uid = request.get("uid").unwrap_or(&null);
    let Some(pod) = request.get("object").filter(|object| object.is_object()) else {
        return refusal(uid, 400, "the review holds no pod");
    };
    let namespace = request.get("namespace").and_then(Value::as_str).unwrap_or("default");
    if let Err(refused) = unforged(pod) {
        return refusal(uid, 422, &refused.to_string());
    }
    let unique = uid.as_str().unwrap_or_default();
    let decide = |there: u32| decide_as(pod, namespace, settings, there, unique);
    let owner = controller(pod);
    let limit = pod
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(format!("{}/enabled-replicas", settings.domain)))
        .is_some();
    if !limit {
        return answer_for(uid, pod, decide(0));
    }
    // A number that cannot be read is refused before anything is counted.
    let (wish, mut changed) = match decide(0) {
        Ok(Decision::Changed { wish, pod }) => (wish, pod),
        other => return answer_for(uid, pod, other),
    };
    let Some(owner) = owner else {
        let text = "annotation enabled-replicas: the pod has no controller whose replicas could be counted";
        return refusal(uid, 422, text);
    };
    if !leads {
        return refusal(uid, 429, "this operator does not lead, and only the leader counts replicas: ask again");
    }
    let dry = request.get("dryRun") == Some(&Value::Bool(true));
    let enabled = wish.enabled_replicas.unwrap_or(u32::MAX);
    match grey.reserve(&owner, unique, enabled, dry) {
        Room::Full(there) => answer_for(uid, pod, decide(there)),
        Room::Free => {
            if let Some(annotations) = changed.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
                annotations.insert(names::key(COUNTER_KEY), unique.into());
            }
            answer_for(uid, pod, Ok(Decision::Changed { wish, pod: changed }))
        }
        Room::Unknown => refusal(uid, 429, "the pods that there are, are not known yet: ask again"),
    }
}

fn answer_for(uid: &Value, pod: &Value, decision: Result<Decision, Refusal>) -> Value {
    let decision = match decision {
        Ok(decision) => decision,
        Err(refused) => return refusal(uid, 422, &refused.to_string()),
    };
    let mut response = Map::new();
    response.insert("uid".to_owned(), uid.clone());
    response.insert("allowed".to_owned(), true.into());
    let patch = decision.patch(pod);
    if !patch.0.is_empty() {
        let text = serde_json::to_vec(&patch).unwrap_or_default();
        response.insert("patchType".to_owned(), "JSONPatch".into());
        response.insert("patch".to_owned(), base64(&text));
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// An answer that refuses the pod.
#[must_use]
pub fn refusal(uid: &Value, code: u16, message: &str) -> Value {
    let reason = match code {
        422 => "Invalid",
        429 => "TooManyRequests",
        400 => "BadRequest",
        _ => "InternalError",
    };
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": uid,
            "allowed": false,
            "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
        },
    })
}

/// A pod that is made may not claim to have been given something: only the allocator writes that, later.
fn unforged(pod: &Value) -> Result<(), Refusal> {
    let Some(annotations) = pod.pointer("/metadata/annotations").and_then(Value::as_object) else { return Ok(()) };
    for key in [names::ALLOCATION, names::GPU_IDS, names::CONTAINER_GPUS] {
        if let Some(value) = annotations.get(key) {
            let value = value.as_str().unwrap_or_default();
            return Err(Refusal::new(format!("annotation {key}"), value, "only the allocator writes it"));
        }
    }
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    let gated =
        gates.is_some_and(|gates| gates.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(names::GATE)));
    let request = names::REQUEST;
    if annotations.contains_key(request) && !gated {
        return Err(Refusal::new(
            format!("annotation {request}"),
            "",
            "only the webhook writes it, together with the gate",
        ));
    }
    Ok(())
}

fn controller(pod: &Value) -> Option<String> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    owner.get("uid")?.as_str().map(str::to_owned)
}

/// How JSON patches travel.
fn base64(bytes: &[u8]) -> Value {
    json!(ByteString(bytes.to_vec()))
}

#[cfg(test)]
mod tests;
