//! The pods that are served. Each has a task, which has one more for each container with vGPUs; each keeps a worker up.
//!
//! Everything here follows from what was seen last of a pod: seeing it again changes nothing, and starting anew comes to the same.

mod folder;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        watch,
    },
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use types::{Event, Request, Vendor};

use super::{
    events::Notice,
    plan::{Plan, PodName, Verdict, plan},
};
use crate::{Node, node::Held};
use folder::Folder;

/// How long to wait before a worker that failed is started again; doubled each time up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The pods that are served.
#[derive(Debug)]
pub struct Server {
    parts: Parts,
    node_name: String,
    pods: BTreeMap<String, Serving>,
}

#[derive(Clone, Debug)]
struct Parts {
    node: Arc<Node>,
    sockets: PathBuf,
    notices: UnboundedSender<Notice>,
}

#[derive(Debug)]
struct Serving {
    plan: Plan,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves nobody yet.
    #[must_use]
    pub fn new(node: Arc<Node>, node_name: String, sockets: PathBuf, notices: UnboundedSender<Notice>) -> Self {
        Self { parts: Parts { node, sockets, notices }, node_name, pods: BTreeMap::new() }
    }

    /// Does what a pod needs now.
    pub fn see(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match plan(pod, &self.node_name, &self.parts.sockets) {
            Verdict::Serve(plan) => self.serve(uid, plan),
            Verdict::Nothing => self.gone(&uid),
            Verdict::Wrong(text) => {
                let name = PodName {
                    namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                    name: pod.metadata.name.clone().unwrap_or_default(),
                    uid: uid.clone(),
                };
                // Whoever listens ends with the process only.
                drop(self.parts.notices.send(Notice { pod: name, reason: "VgpuNotServed", text }));
                self.gone(&uid);
            }
        }
    }

    fn serve(&mut self, uid: String, plan: Plan) {
        if self.pods.get(&uid).is_some_and(|serving| serving.plan == plan) {
            return;
        }
        // What was allocated before must be free before what is allocated now is taken.
        let before = self.pods.remove(&uid).map(|serving| {
            serving.stop.send_replace(true);
            serving.task
        });
        let (stop, stopped) = watch::channel(false);
        let (parts, served) = (self.parts.clone(), plan.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before
                && let Err(error) = before.await
            {
                tracing::error!(%error, "serving a pod ended unexpectedly");
            }
            parts.serve(served, stopped).await;
        });
        self.pods.insert(uid, Serving { plan, stop, task });
    }

    /// A pod is no more, or needs nothing more.
    pub fn gone(&mut self, uid: &str) {
        if let Some(serving) = self.pods.remove(uid) {
            serving.stop.send_replace(true);
        }
    }

    /// Forgets all pods but these, and removes what agents before this one left of others.
    ///
    /// No pod may be seen meanwhile, or its worker would be one of those that nobody wants.
    pub async fn keep_only(&mut self, uids: &BTreeSet<String>) {
        let leaving: Vec<String> = self.pods.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in leaving {
            self.gone(&uid);
        }
        let endpoints = |(uid, serving): (&String, &Serving)| {
            folder::endpoints(&self.parts.sockets, uid, serving.plan.containers.len())
        };
        let wanted: BTreeSet<String> = self.pods.iter().flat_map(endpoints).collect();
        if let Err(error) = self.parts.node.keep_only(wanted).await {
            tracing::warn!(error, "workers of pods that are gone may be left");
        }
        folder::remove_others(&self.parts.sockets, uids);
    }

    /// Number of pods that are served.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.len()
    }
}

impl Parts {
    /// Serves a pod until told to stop.
    async fn serve(self, plan: Plan, mut stop: watch::Receiver<bool>) {
        let folder = match Folder::open(&self.sockets, &plan.pod.uid) {
            Ok(folder) => folder,
            Err(error) => {
                self.tell(&plan.pod, "VgpuFailed", format!("the folder for its sockets cannot be made: {error}"));
                return;
            }
        };
        let (up, mut ups) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for (index, (container, request)) in plan.containers.iter().enumerate() {
            let keeping = Keeping {
                parts: self.clone(),
                pod: plan.pod.clone(),
                container: container.clone(),
                request: request.clone(),
                listen: folder.fresh(index),
                socket: folder.socket(container),
                up: up.clone(),
            };
            tasks.spawn(keeping.keep(stop.clone()));
        }
        drop(up);
        let software = self.node.gpus().iter().any(|gpu| gpu.vendor == Vendor::Software);
        let mut ready = BTreeSet::new();
        loop {
            tokio::select! {
                Some(container) = ups.recv() => {
                    ready.insert(container);
                    if ready.len() == plan.containers.len() && let Err(error) = folder.mark_ready(software) {
                        self.tell(&plan.pod, "VgpuFailed", format!("its folder cannot be marked ready: {error}"));
                    }
                }
                () = told(&mut stop) => break,
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "serving a container ended unexpectedly");
            }
        }
        folder.remove();
        tracing::info!(namespace = plan.pod.namespace, pod = plan.pod.name, "a pod's vGPUs are free");
    }

    fn tell(&self, pod: &PodName, reason: &'static str, text: String) {
        // Whoever listens ends with the process only.
        drop(self.notices.send(Notice { pod: pod.clone(), reason, text }));
    }
}

/// One container's vGPUs.
struct Keeping {
    parts: Parts,
    pod: PodName,
    container: String,
    request: Request,
    /// Where its worker listens first, so that nobody connects to a socket that not everybody may use yet.
    listen: PathBuf,
    /// Where its program connects.
    socket: PathBuf,
    /// Is told each time it is up.
    up: UnboundedSender<String>,
}

impl Keeping {
    /// Keeps a worker up until told to stop.
    async fn keep(self, mut stop: watch::Receiver<bool>) {
        let mut wait = FIRST_WAIT;
        while !*stop.borrow() {
            let (reason, text) = match self.start().await {
                Ok(mut held) => {
                    let since = Instant::now();
                    drop(self.up.send(self.container.clone()));
                    let lost = tokio::select! {
                        lost = lost(&mut held) => lost,
                        () = told(&mut stop) => {
                            if let Err(error) = self.parts.node.remove(&held.lease.id).await {
                                tracing::debug!(%error, "a vGPU is gone already");
                            }
                            return;
                        }
                    };
                    if since.elapsed() > LONGEST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    ("VgpuLost", lost)
                }
                Err(error) => ("VgpuFailed", error),
            };
            let again = wait.as_secs_f64();
            let text = format!("vGPU of container `{}`: {text}; it is started again in {again} s", self.container);
            self.parts.tell(&self.pod, reason, text);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = told(&mut stop) => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn start(&self) -> Result<Held, String> {
        let listen = folder::endpoint(&self.listen);
        let held = self.parts.node.hold_decided(self.request.clone(), listen).await;
        let held = held.map_err(|error| error.to_string())?;
        folder::publish(&self.listen, &self.socket)
            .map_err(|error| format!("`{}` cannot be made: {error}", shown(&self.socket)))?;
        Ok(held)
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

/// Waits until told to stop, or until nobody is left to tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits until a vGPU is lost, and why.
async fn lost(held: &mut Held) -> String {
    while let Some(event) = held.events.recv().await {
        if let Event::Lost { reason, .. } = event {
            return reason;
        }
    }
    "it was taken away".to_owned()
}

#[cfg(test)]
mod tests;
