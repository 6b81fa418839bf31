//! Remote mode: the GPU is on another node than the pod, in a worker that runs as a pod of its own.
//!
//! A client pod waits behind our gate. For each there is, in its namespace and owned by it: a Secret (named by the webhook in the
//! pod's annotation) with a token and later an address, a TensorFusionConnection, and a worker pod, which the
//! [`allocator`](crate::allocator) treats as any pod that wants GPUs. When the worker is ready, its address goes into the
//! Secret and the gate goes away. A worker that is lost is made anew, and the client's containers find its new address
//! when they start again. Everything is looked at from scratch each time ([`step`]); nothing is remembered here.
//!
//! - [`objects`]: the objects, pure.
//! - [`step`]: what is to be done for one client now.

pub mod objects;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crd::names;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc;

use crate::allocator::claim;
use crate::follow::{News, follow};
use crate::webhook::Webhook;

/// Everything is looked at again this often, for what no watch tells.
const AGAIN: Duration = Duration::from_secs(20);

/// Serves remote clients for as long as we lead.
pub async fn run(client: Client, webhook: Arc<Webhook>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let followed = client.clone();
    tokio::spawn(async move {
        let config = Config::default().labels(&format!("{}=true", names::ENABLED));
        let uid = |pod: &Pod| pod.uid().unwrap_or_default();
        follow(Api::<Pod>::all(followed), config, uid, |news| drop(sender.send(news))).await;
    });
    let mut clients: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    let mut workers: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    let mut due: BTreeSet<String> = BTreeSet::new();
    let mut complete = false;
    let mut again = tokio::time::interval(AGAIN);
    let mut teller = step::Teller::new(client.clone());
    loop {
        tokio::select! {
            news = receiver.recv() => {
                let Some(news) = news else { return };
                hear(news, &mut clients, &mut workers, &mut due, &mut complete);
                while let Ok(news) = receiver.try_recv() {
                    hear(news, &mut clients, &mut workers, &mut due, &mut complete);
                }
            }
            _ = again.tick() => due.extend(clients.keys().cloned()),
        }
        if !complete {
            continue;
        }
        let settings = webhook.knowledge.settings();
        for uid in std::mem::take(&mut due) {
            let Some(pod) = clients.get(&uid) else { continue };
            let worker =
                workers.values().find(|worker| claim::annotation(worker, objects::CLIENT) == Some(&uid)).cloned();
            if let Err(error) = step::step(&client, &settings, pod, worker.as_deref(), &mut teller).await {
                tracing::warn!(pod = pod.name_any(), namespace = pod.namespace(), %error, "a remote client is looked at again later");
            }
        }
    }
}

fn hear(
    news: News<Pod>,
    clients: &mut BTreeMap<String, Arc<Pod>>,
    workers: &mut BTreeMap<String, Arc<Pod>>,
    due: &mut BTreeSet<String>,
    complete: &mut bool,
) {
    match news {
        News::Is(pod) => {
            let uid = pod.uid().unwrap_or_default();
            if let Some(client) = claim::annotation(&pod, objects::CLIENT) {
                due.insert(client.to_owned());
                workers.insert(uid, Arc::new(*pod));
            } else if claim::annotation(&pod, names::CONNECTION_SECRET).is_some() {
                due.insert(uid.clone());
                clients.insert(uid, Arc::new(*pod));
            }
        }
        News::Gone(uid) => {
            clients.remove(&uid);
            if let Some(worker) = workers.remove(&uid)
                && let Some(client) = claim::annotation(&worker, objects::CLIENT)
            {
                due.insert(client.to_owned());
            }
        }
        News::Complete => *complete = true,
    }
}
