//! Remote mode: the GPU is on another node than the pod, in a worker that runs as a pod of its own.
//!
//! A client pod waits behind our gate. For each there is, in its namespace and owned by it: a Secret (named by the webhook in the
//! pod's annotation) with a token and later an address, a TensorFusionConnection, and a worker pod, which the
//! [`allocator`](crate::allocator) treats as any pod that wants GPUs. Clients of a workload with a fixed number of workers share
//! those instead: each uses the one with the fewest clients, with a token of its own that is
//! [made of the workers'](types::Token::for_user). When the worker is ready, its address goes into the
//! Secret and the gate goes away. A worker that is lost is made anew, and the client's containers find its new address
//! when they start again. Everything is looked at from scratch each time; what is remembered here is only what watches tell.
//!
//! A worker is only believed to be one if it is in the client's namespace and owned by the client, or by its workload.
//!
//! - [`objects`]: the objects of a client, pure.
//! - [`worker`]: the pods of workers, pure.
//! - [`step`]: what is to be done for one client now.
//! - [`workload`]: what is to be done for workers that several clients share.

pub mod objects;
mod step;
pub mod worker;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crd::{TensorFusionConnection, TensorFusionWorkload, names};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

use crate::Settings;
use crate::admission::{ContainerWish, Wish};
use crate::allocator::claim;
use crate::follow::{News, follow, path};
use crate::webhook::Webhook;
use objects::Names;
use step::{Remote, Serving, Teller};

/// Everything is looked at again this often, for what no watch tells.
const AGAIN: Duration = Duration::from_secs(20);
/// What failed is tried again this often.
const SOON: Duration = Duration::from_secs(2);

enum Change {
    Pod(News<Pod>),
    Workload(News<TensorFusionWorkload>),
    Connection(News<TensorFusionConnection>),
}

/// What is known.
#[derive(Default)]
struct Known {
    clients: BTreeMap<String, Remote>,
    workers: BTreeMap<String, Arc<Pod>>,
    /// Owner's UID → workers' UIDs.
    of: BTreeMap<String, BTreeSet<String>>,
    /// By `namespace/name`.
    workloads: BTreeMap<String, Arc<TensorFusionWorkload>>,
    /// Client's UID → the name of the worker that it uses.
    uses: BTreeMap<String, String>,
    complete: BTreeSet<&'static str>,
    due: BTreeSet<String>,
    due_workloads: BTreeSet<String>,
    failed: BTreeSet<String>,
    failed_workloads: BTreeSet<String>,
}

/// Serves remote clients for as long as we lead.
pub async fn run(client: Client, webhook: Arc<Webhook>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    watch(&client, &sender);
    let mut known = Known::default();
    let mut again = tokio::time::interval(AGAIN);
    let mut soon = tokio::time::interval(SOON);
    let mut teller = Teller::new(client.clone());
    loop {
        tokio::select! {
            change = receiver.recv() => {
                let Some(change) = change else { return };
                known.hear(change);
                while let Ok(change) = receiver.try_recv() {
                    known.hear(change);
                }
            }
            _ = soon.tick() => {
                known.due.append(&mut known.failed);
                known.due_workloads.append(&mut known.failed_workloads);
            }
            _ = again.tick() => {
                known.due.extend(known.clients.keys().cloned());
                known.due_workloads.extend(known.workloads.keys().cloned());
            }
        }
        if known.complete.len() == 3 {
            known.serve(&client, &webhook.knowledge.settings(), &mut teller).await;
        }
    }
}

fn watch(client: &Client, sender: &mpsc::UnboundedSender<Change>) {
    let (pods, tell) = (Api::<Pod>::all(client.clone()), sender.clone());
    tokio::spawn(async move {
        let config = Config::default().labels(&format!("{}=true", names::ENABLED));
        let uid = |pod: &Pod| pod.uid().unwrap_or_default();
        follow(pods, config, uid, |news| drop(tell.send(Change::Pod(news)))).await;
    });
    let (workloads, tell) = (Api::all(client.clone()), sender.clone());
    tokio::spawn(async move {
        follow(workloads, Config::default(), path, |news| drop(tell.send(Change::Workload(news)))).await;
    });
    let (connections, tell) = (Api::all(client.clone()), sender.clone());
    tokio::spawn(async move {
        follow(connections, Config::default(), path, |news| drop(tell.send(Change::Connection(news)))).await;
    });
}

impl Known {
    fn hear(&mut self, change: Change) {
        match change {
            Change::Pod(News::Is(pod)) => self.pod(Arc::new(*pod)),
            Change::Pod(News::Gone(uid)) => {
                self.uses.remove(&uid);
                if let Some(client) = self.clients.remove(&uid) {
                    self.due_workloads.insert(client.workload());
                }
                if let Some(worker) = self.workers.remove(&uid) {
                    self.stir(&worker);
                    if let Some((_, _, owner)) = claim::controller(&worker)
                        && let Some(of) = self.of.get_mut(owner)
                    {
                        of.remove(&uid);
                        if of.is_empty() {
                            self.of.remove(owner);
                        }
                    }
                }
            }
            Change::Workload(News::Is(workload)) => {
                let path = path(&*workload);
                self.stir_clients(&path);
                self.due_workloads.insert(path.clone());
                self.workloads.insert(path, Arc::new(*workload));
            }
            Change::Workload(News::Gone(path)) => {
                self.workloads.remove(&path);
                self.stir_clients(&path);
            }
            Change::Connection(News::Is(connection)) => {
                let owners = connection.metadata.owner_references.as_ref();
                let client = owners.and_then(|owners| owners.iter().find(|owner| owner.kind == "Pod"));
                let worker = connection.status.as_ref().map(|status| status.worker_name.clone());
                if let (Some(client), Some(worker)) = (client, worker.filter(|worker| !worker.is_empty())) {
                    self.uses.insert(client.uid.clone(), worker);
                }
            }
            Change::Connection(News::Gone(_)) => {}
            Change::Pod(News::Complete) => drop(self.complete.insert("pods")),
            Change::Workload(News::Complete) => drop(self.complete.insert("workloads")),
            Change::Connection(News::Complete) => drop(self.complete.insert("connections")),
        }
    }

    fn pod(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().unwrap_or_default();
        if let Some((kind, _, owner)) = claim::controller(&pod)
            && (kind == "TensorFusionWorkload" || claim::annotation(&pod, objects::CLIENT) == Some(owner))
        {
            self.of.entry(owner.to_owned()).or_default().insert(uid.clone());
            self.stir(&pod);
            self.workers.insert(uid, pod);
        } else if claim::annotation(&pod, names::CONNECTION_SECRET).is_some() {
            let wish = claim::annotation(&pod, names::REQUEST).and_then(|text| serde_json::from_str::<Wish>(text).ok());
            let client =
                wish.and_then(|wish| Some(Remote { names: Names::of(&pod, &wish)?, wish, pod: Arc::clone(&pod) }));
            match client {
                Some(client) => {
                    self.due.insert(uid.clone());
                    self.clients.insert(uid, client);
                }
                None => {
                    tracing::warn!(
                        pod = pod.name_any(),
                        namespace = pod.namespace(),
                        "a remote client cannot be understood"
                    );
                    self.clients.remove(&uid);
                }
            }
        }
    }

    /// A worker has changed: whose it is, is looked at.
    fn stir(&mut self, worker: &Pod) {
        let Some((kind, name, owner)) = claim::controller(worker) else { return };
        if kind == "TensorFusionWorkload" {
            let path = format!("{}/{name}", worker.namespace().unwrap_or_default());
            self.stir_clients(&path);
            self.due_workloads.insert(path);
        } else {
            self.due.insert(owner.to_owned());
        }
    }

    fn stir_clients(&mut self, workload: &str) {
        let due = self.clients.iter().filter(|(_, client)| client.workload() == workload).map(|(uid, _)| uid.clone());
        self.due.extend(due);
    }

    /// The workers that are owned by somebody of a namespace.
    fn workers_of(&self, owner: &str, namespace: &str) -> Vec<Arc<Pod>> {
        let uids = self.of.get(owner).into_iter().flatten();
        let pods = uids.filter_map(|uid| self.workers.get(uid));
        pods.filter(|pod| pod.namespace().as_deref() == Some(namespace)).cloned().collect()
    }

    /// How many clients each worker of a namespace has.
    fn loads(&self, namespace: &str) -> BTreeMap<String, usize> {
        let mut loads = BTreeMap::new();
        for (uid, worker) in &self.uses {
            let live = self.clients.get(uid).is_some_and(|client| {
                client.pod.namespace().as_deref() == Some(namespace) && !claim::is_finished(&client.pod)
            });
            if live {
                *loads.entry(worker.clone()).or_default() += 1;
            }
        }
        loads
    }

    async fn serve(&mut self, client: &Client, settings: &Settings, teller: &mut Teller) {
        for path in std::mem::take(&mut self.due_workloads) {
            let Some(workload) = self.workloads.get(&path).cloned() else { continue };
            let namespace = workload.namespace().unwrap_or_default();
            let workers = self.workers_of(&workload.uid().unwrap_or_default(), &namespace);
            let loads = self.loads(&namespace);
            if let Err(error) = workload::step(client, settings, &workload, &workers, &loads).await {
                tracing::warn!(workload = path, %error, "a workload is looked at again later");
                self.failed_workloads.insert(path);
            }
        }
        for uid in std::mem::take(&mut self.due) {
            let Some(remote) = self.clients.get(&uid).cloned() else { continue };
            let (serving, asked) = self.serving(&uid, &remote, settings);
            if let Serving::Shared(Some(worker), _) = &serving {
                self.uses.insert(uid.clone(), worker.name_any());
            }
            if let Err(error) = step::step(client, settings, &remote, &asked, serving, teller).await {
                let (pod, namespace) = (remote.pod.name_any(), remote.pod.namespace());
                tracing::warn!(pod, namespace, %error, "a remote client is looked at again later");
                self.failed.insert(uid);
            }
        }
    }

    /// Who serves a client, and what a worker of its own is to have.
    fn serving(&self, uid: &str, remote: &Remote, settings: &Settings) -> (Serving, Wish) {
        let namespace = remote.pod.namespace().unwrap_or_default();
        let workload = self.workloads.get(&remote.workload());
        let own = || {
            let workers = self.workers_of(uid, &namespace);
            Serving::Own(workers.into_iter().find(|worker| worker.name_any() == remote.names.worker))
        };
        match workload {
            Some(workload) if workload.spec.replicas.is_some() => {
                let owner = workload.uid().unwrap_or_default();
                let workers = self.workers_of(&owner, &namespace);
                let used = self.uses.get(uid);
                let same = workers.iter().find(|pod| used == Some(&pod.name_any()) && worker::is_ready(pod)).cloned();
                let chosen = same.or_else(|| workload::least_loaded(&workers, &self.loads(&namespace)));
                (Serving::Shared(chosen, owner), remote.wish.clone())
            }
            Some(workload) if remote.wish.workload.is_some() => match workload::wish(&workload.spec, settings) {
                Ok(wish) => (own(), like(wish, workload, &remote.wish)),
                Err(error) => {
                    tracing::warn!(workload = remote.names.workload, namespace, error, "a workload cannot be served");
                    (Serving::Missing, remote.wish.clone())
                }
            },
            None if remote.wish.workload.is_some() => (Serving::Missing, remote.wish.clone()),
            _ => (own(), remote.wish.clone()),
        }
    }
}

/// A workload's wish for each container of a client.
fn like(wish: Wish, workload: &TensorFusionWorkload, client: &Wish) -> Wish {
    let one = wish.containers.first().cloned();
    let each = client.containers.iter().filter_map(|container| {
        let one = one.clone()?;
        Some(ContainerWish { name: container.name.clone(), phase: container.phase, ..one })
    });
    let own = client.worker_pod_template.clone();
    let template = own.or_else(|| workload.spec.worker_pod_template.clone());
    Wish { containers: each.collect(), worker_pod_template: template, ..wish }
}
