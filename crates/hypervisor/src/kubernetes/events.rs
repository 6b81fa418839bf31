//! What goes wrong with a pod's vGPUs, told as events of the pod: `kubectl describe pod` shows them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
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
    let reporter = Reporter { controller: crd::names::HYPERVISOR.to_owned(), instance: Some(node_name) };
    let recorder = Recorder::new(client, reporter);
    while let Some(Notice { pod, reason, text }) = notices.recv().await {
        tracing::warn!(namespace = pod.namespace, pod = pod.name, reason, text, "a pod's vGPU");
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            // The API server's limit is 1024 bytes.
            note: Some(text.chars().take(500).collect()),
            action: "Serve".to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace),
            name: Some(pod.name),
            uid: Some(pod.uid),
            ..ObjectReference::default()
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(%error, "an event cannot be written");
        }
    }
}
