//! What is to be done for one client now.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use crd::{GPUPool, TensorFusionConnection, TensorFusionWorkload, names};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::objects::{self, Names};
use crate::Settings;
use crate::admission::Wish;
use crate::allocator::{bind, claim};
use crate::event::{self, Kind};
use crate::fault;

/// The same thing again about the same pod after so long.
const REMINDER: Duration = Duration::from_secs(600);

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The API server's.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// An object of ours is none.
    #[error("an object could not be made: {0}")]
    Object(#[from] serde_json::Error),
    /// No randomness.
    #[error("no random bytes for a token: {0}")]
    Random(#[from] std::io::Error),
    /// A Secret of that name is somebody else's.
    #[error("the Secret `{0}` is not the client's own, so it is left alone")]
    NotOurs(String),
}

/// Tells clients why they wait.
pub(super) struct Teller {
    client: Client,
    told: BTreeMap<String, (String, Instant)>,
}

impl Teller {
    pub(super) fn new(client: Client) -> Self {
        Self { client, told: BTreeMap::new() }
    }

    async fn waits(&mut self, pod: &Pod, reason: &str, text: String) {
        let uid = pod.uid().unwrap_or_default();
        if self.told.get(&uid).is_some_and(|(told, at)| *told == text && at.elapsed() < REMINDER) {
            return;
        }
        self.told.retain(|_, (_, at)| at.elapsed() < REMINDER);
        self.told.insert(uid, (text.clone(), Instant::now()));
        event::publish(&self.client, pod, Kind::Warning, reason, &text).await;
    }
}

/// Brings a client one step further, or all the way.
pub(super) async fn step(
    client: &Client,
    settings: &Settings,
    pod: &Pod,
    worker: Option<&Pod>,
    teller: &mut Teller,
) -> Result<(), StepError> {
    let namespace = pod.namespace().unwrap_or_default();
    let workers: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if claim::is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
        // A client that is deleted takes its worker along; one that has finished stays, and needs none.
        if let Some(worker) = worker.filter(|worker| worker.metadata.deletion_timestamp.is_none()) {
            ignore_missing(workers.delete(&worker.name_any(), &DeleteParams::default()).await.map(drop))?;
        }
        return Ok(());
    }
    let Some(names) = Names::of(pod) else {
        let text = format!("the annotation {} names no Secret that the webhook would name", names::CONNECTION_SECRET);
        teller.waits(pod, "CannotBeServed", text).await;
        return Ok(());
    };
    let wish: Wish = match claim::annotation(pod, names::REQUEST).map(serde_json::from_str) {
        Some(Ok(wish)) => wish,
        _ => {
            teller.waits(pod, "RequestUnreadable", format!("the annotation {} cannot be read", names::REQUEST)).await;
            return Ok(());
        }
    };
    ensure_secret(client, pod, &names, teller).await?;
    create::<TensorFusionWorkload>(client, &namespace, objects::workload(pod, &names, &wish)).await?;
    create::<TensorFusionConnection>(client, &namespace, objects::connection(pod, &names)).await?;
    fault::point("after-connection");
    let Some(worker) = worker else {
        let pool = Api::<GPUPool>::all(client.clone()).get_opt(&wish.pool).await?;
        create::<Pod>(client, &namespace, objects::worker(pod, &names, &wish, settings, pool.as_ref())).await?;
        return Ok(());
    };
    if matches!(worker.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Failed" | "Succeeded")) {
        // Its successor gets the same name, so it must go first.
        ignore_missing(workers.delete(&worker.name_any(), &DeleteParams::default()).await.map(drop))?;
        return Ok(());
    }
    let url = objects::address(worker);
    status(client, &namespace, &names, url.as_deref()).await?;
    let Some(url) = url else {
        if claim::is_gated(pod) {
            let text = format!("its worker, pod {}, is not ready yet; that pod's events say why", worker.name_any());
            teller.waits(pod, "WaitingForWorker", text).await;
        }
        return Ok(());
    };
    let patch = json!({"stringData": {"url": url}});
    Api::<Secret>::namespaced(client.clone(), &namespace)
        .patch(&names.secret, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    fault::point("after-secret");
    if claim::is_gated(pod) {
        fault::point("before-lift");
        // A pod that has changed since comes by again.
        match workers.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&bind::lift(pod))).await {
            Ok(_) => {
                tracing::info!(pod = pod.name_any(), namespace, worker = worker.name_any(), "a client has its worker")
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        fault::point("after-lift");
    }
    Ok(())
}

/// Makes the client's Secret, or finds that it is its own.
async fn ensure_secret(client: &Client, pod: &Pod, names: &Names, teller: &mut Teller) -> Result<(), StepError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    if let Some(there) = secrets.get_opt(&names.secret).await? {
        let ours =
            there.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
        if !ours {
            let text = format!("the Secret {} is there already, and not this pod's", names.secret);
            teller.waits(pod, "CannotBeServed", text).await;
            return Err(StepError::NotOurs(names.secret.clone()));
        }
        return Ok(());
    }
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret: Secret = serde_json::from_value(objects::secret(pod, names, &token))?;
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(()),
        // Made in the meantime: looked at next time.
        Err(kube::Error::Api(status)) if status.code == 409 => Err(StepError::NotOurs(names.secret.clone())),
        Err(error) => Err(error.into()),
    }
}

/// Makes an object unless it is there.
async fn create<K>(client: &Client, namespace: &str, object: serde_json::Value) -> Result<(), StepError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    if api.get_metadata_opt(&object.meta().name.clone().unwrap_or_default()).await?.is_some() {
        return Ok(());
    }
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Status of the connection, and of its workload.
async fn status(client: &Client, namespace: &str, names: &Names, url: Option<&str>) -> Result<(), StepError> {
    let ours = PatchParams::apply(names::OPERATOR).force();
    let phase = if url.is_some() { "Running" } else { "Pending" };
    let connections: Api<TensorFusionConnection> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionConnection", "metadata": {"name": names.secret},
        "status": {"phase": phase, "connectionURL": url.unwrap_or_default(), "workerName": names.worker},
    });
    connections.patch_status(&names.secret, &ours, &Patch::Apply(&object)).await?;
    let workers: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_workload = ListParams::default().labels(&format!("{}={}", names::WORKLOAD, names.workload));
    let all = workers.list(&of_workload).await?;
    let ready = all.iter().filter(|worker| objects::address(worker).is_some()).count();
    let phase = if ready > 0 { "Running" } else { "Pending" };
    let object = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionWorkload", "metadata": {"name": names.workload},
        "status": {"phase": phase, "workerCount": all.items.len(), "readyWorkers": ready},
    });
    let workloads: Api<TensorFusionWorkload> = Api::namespaced(client.clone(), namespace);
    ignore_missing(workloads.patch_status(&names.workload, &ours, &Patch::Apply(&object)).await.map(drop))?;
    Ok(())
}

fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result,
    }
}
