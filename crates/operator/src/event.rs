//! Telling people what happens to their pods and settings.

use crd::names::OPERATOR;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _, ResourceExt as _};

pub(crate) use crd::Tone as Kind;

/// Writes an event about a pod. One that is not taken is no failure: nothing depends on it.
pub(crate) async fn publish(client: &Client, pod: &Pod, kind: Kind, reason: &str, text: &str) {
    publish_about(client, pod.object_ref(&()), kind, reason, text).await;
}

/// The same about any object.
pub(crate) async fn publish_about(client: &Client, regarding: ObjectReference, kind: Kind, reason: &str, text: &str) {
    let tidings = crd::Tidings { tone: kind, action: "Allocate", reason, text };
    let event = crd::event(regarding, tidings, OPERATOR, OPERATOR, Timestamp::now());
    let api = Api::namespaced(client.clone(), &event.namespace().unwrap_or_default());
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event was not taken");
    }
}
