//! Events on people's pods and settings. Written by ourselves: kube's recorder repeats the first text for every later one of the same reason.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource as _};

/// Longer than an event's note may be.
const LONGEST: usize = 1000;

/// How an event looks to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Writes an event about a pod. One that is not taken is no failure: nothing depends on it.
pub(crate) async fn publish(client: &Client, pod: &Pod, kind: Kind, reason: &str, text: &str) {
    publish_about(client, pod.object_ref(&()), kind, reason, text).await;
}

/// The same about any object.
pub(crate) async fn publish_about(client: &Client, regarding: ObjectReference, kind: Kind, reason: &str, text: &str) {
    let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let mut note: String = text.chars().take(LONGEST).collect();
    while note.len() > LONGEST {
        note.pop();
    }
    let now = Timestamp::now();
    let name: String = regarding.name.as_deref().unwrap_or_default().chars().take(200).collect();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Allocate".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note),
        reason: Some(reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(crd::names::OPERATOR.to_owned()),
        reporting_instance: Some(crd::names::OPERATOR.to_owned()),
        type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event was not taken");
    }
}
