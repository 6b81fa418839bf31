//! The node agent on Kubernetes: tells the API server of this node's GPUs, and serves the vGPUs that the allocator gave to the
//! pods of this node.
//!
//! - [`plan`]: what a pod is to be served, read from its annotation. Pure.
//! - [`serve`]: the pods that are served, one worker for each container, behind sockets in a folder of the pod's own.
//! - [`report`]: GPUNode and GPU objects, with a heartbeat.
//! - [`kubelet`]: which cards device plugins give out, and to whom.
//! - [`events`]: what goes wrong, told on the pod.
//!
//! The allocator decides, this agent obeys; the annotation on the pod is the only thing that passes between them. Workers are
//! held by a keeper ([`crate::keeper`]), so the agent may end, be upgraded or be taken away: the next one takes them up where
//! they are. Without a keeper they are its children, end with it, and their programs get errors.

pub mod events;
pub mod kubelet;
pub mod plan;
pub mod report;
pub mod serve;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::{Notify, mpsc};

use crate::Node;
use serve::Server;

/// Who this agent is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Kubernetes node that it runs on.
    pub node_name: String,
    /// The pool that its GPUs belong to.
    pub pool: String,
    /// The namespace of the operator, whose pods may hold cards for us.
    pub namespace: String,
    /// The folder of sockets, with a folder for each pod.
    pub sockets: PathBuf,
    /// The kubelet's pod-resources socket.
    pub kubelet: PathBuf,
}

/// Whether the agent does its work.
#[derive(Debug, Default)]
pub struct Health {
    listed: AtomicBool,
    reported: AtomicBool,
}

impl Health {
    /// It knows the pods of its node, and has told of its GPUs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.listed.load(Ordering::Relaxed) && self.reported.load(Ordering::Relaxed)
    }
}

/// The way to the API server: that of the pod that this runs in, or of the user's configuration.
///
/// # Errors
/// There is none.
pub async fn connect() -> Result<Client, kube::Error> {
    Client::try_default().await
}

/// Works until the process ends. What goes wrong on the way to the API server is tried again for ever.
///
/// Boxed, so that it is compiled here and not again in every program that calls it.
pub fn run(
    client: Client,
    node: Arc<Node>,
    settings: Settings,
    health: Arc<Health>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(work(client, node, settings, health))
}

async fn work(client: Client, node: Arc<Node>, settings: Settings, health: Arc<Health>) {
    let (notices, told) = mpsc::unbounded_channel();
    tokio::spawn(events::tell(client.clone(), settings.node_name.clone(), told));
    let new = Arc::new(Notify::new());
    let report =
        report::keep(client.clone(), Arc::clone(&node), settings.clone(), Arc::clone(&health), Arc::clone(&new));
    tokio::spawn(report);
    let mut server = Server::new(node, settings.node_name.clone(), settings.sockets.clone(), notices);

    let here = watcher::Config::default().fields(&format!("spec.nodeName={}", settings.node_name));
    let mut changes = pin!(watcher::watcher(Api::<Pod>::all(client), here).default_backoff());
    let mut listed = BTreeSet::new();
    loop {
        let change = changes.try_next().await;
        if let Ok(Some(Event::Apply(pod) | Event::Delete(pod))) = &change
            && has_devices(pod)
        {
            new.notify_one();
        }
        match change {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(pod))) => {
                listed.extend(pod.uid());
                server.see(&pod);
            }
            Ok(Some(Event::InitDone)) => {
                server.keep_only(&listed).await;
                health.listed.store(true, Ordering::Relaxed);
            }
            Ok(Some(Event::Apply(pod))) => server.see(&pod),
            Ok(Some(Event::Delete(pod))) => server.gone(&pod.uid().unwrap_or_default()),
            // The watcher tries again by itself, later and later.
            Err(error) => tracing::warn!(%error, "the pods of this node cannot be watched"),
            Ok(None) => return,
        }
    }
}

/// Whether a device plugin has something to do with a pod: it asks for what only plugins have.
fn has_devices(pod: &Pod) -> bool {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    limits.flat_map(|limits| limits.keys()).any(|name| name.contains('/') && !name.contains("kubernetes.io/"))
}
