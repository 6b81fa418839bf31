//! What a pod is to the allocator.

use std::collections::BTreeMap;
use std::sync::Arc;

use crd::{Allocation, names};
use k8s_openapi::api::core::v1::Pod;

use crate::admission::{Mode, Wish};

/// A pod that wants GPUs.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its UID, which no other pod ever has.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Seconds since 1970 when it was made.
    pub created: i64,
    /// What it wants.
    pub wish: Wish,
    /// The pod.
    pub pod: Arc<Pod>,
}

/// How a pod stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It waits behind our gate.
    Waiting(Box<Claim>),
    /// It has GPUs. The wish is what it asked for, where that can still be read.
    Having(Allocation, Option<Box<Wish>>),
    /// It waits, and cannot be understood: why.
    Broken(String),
    /// It has nothing, and wants nothing from the allocator.
    Nothing,
}

/// An annotation of a pod.
#[must_use]
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether a pod waits behind our gate.
#[must_use]
pub fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|gate| gate.name == names::GATE))
}

/// Whether a pod's containers have all ended for good.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The pod's controller: kind, name, UID.
#[must_use]
pub fn controller(pod: &Pod) -> Option<(&str, &str, &str)> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some((&owner.kind, &owner.name, &owner.uid))
}

/// How a pod stands.
#[must_use]
pub fn standing(pod: &Arc<Pod>) -> Standing {
    if is_finished(pod) {
        return Standing::Nothing;
    }
    let wish = annotation(pod, names::REQUEST).map(serde_json::from_str::<Wish>);
    if !is_gated(pod) {
        return match annotation(pod, names::ALLOCATION).map(Allocation::parse) {
            Some(Ok(allocation)) => Standing::Having(allocation, wish.and_then(Result::ok).map(Box::new)),
            _ => Standing::Nothing,
        };
    }
    // An allocation behind the gate is not ours: we lift the gate with it. It is ignored, and written over.
    if pod.metadata.deletion_timestamp.is_some() {
        return Standing::Nothing;
    }
    match wish {
        None => Standing::Broken(format!("the annotation {} is missing", names::REQUEST)),
        Some(Err(error)) => Standing::Broken(format!("the annotation {} cannot be read: {error}", names::REQUEST)),
        Some(Ok(wish)) if wish.mode == Mode::Remote => Standing::Nothing,
        Some(Ok(wish)) => match claim(pod, wish) {
            Some(claim) => Standing::Waiting(Box::new(claim)),
            None => Standing::Broken("the pod has no name, namespace or UID".to_owned()),
        },
    }
}

fn claim(pod: &Arc<Pod>, wish: Wish) -> Option<Claim> {
    let metadata = &pod.metadata;
    Some(Claim {
        uid: metadata.uid.clone()?,
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        wish,
        pod: Arc::clone(pod),
    })
}

/// The order in which claims are served: QoS, then age, then name.
#[must_use]
pub fn order(claim: &Claim) -> (std::cmp::Reverse<types::Qos>, i64, String, String) {
    (std::cmp::Reverse(claim.wish.qos), claim.created, claim.namespace.clone(), claim.name.clone())
}

/// Labels of a pod.
#[must_use]
pub fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}
