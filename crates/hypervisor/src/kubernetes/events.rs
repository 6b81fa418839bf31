//! What goes wrong with a pod's vGPUs, told as events of the pod: `kubectl describe pod` shows them.

use crd::{Tidings, Tone, event, names};
use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use tokio::sync::mpsc::UnboundedReceiver;

use super::plan::PodName;

/// Something to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// On which pod.
    pub pod: PodName,
    /// In a word, for machines.
    pub reason: &'static str,
    /// For people.
    pub text: String,
}

/// Tells what comes. One that cannot be told is in the log.
pub async fn tell(client: Client, node_name: String, mut notices: UnboundedReceiver<Notice>) {
    while let Some(Notice { pod, reason, text }) = notices.recv().await {
        tracing::warn!(namespace = pod.namespace, pod = pod.name, reason, text, "a pod's vGPU");
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace),
            name: Some(pod.name),
            uid: Some(pod.uid),
            ..ObjectReference::default()
        };
        let tidings = Tidings { tone: Tone::Warning, action: "Serve", reason, text: &text };
        let event = event(about, tidings, names::HYPERVISOR, &node_name, Timestamp::now());
        let api = Api::namespaced(client.clone(), &event.namespace().unwrap_or_default());
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, "an event cannot be written");
        }
    }
}
