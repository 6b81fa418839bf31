//! What is to be done for one client now.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::{Allocation, GPU, GPUPool, TensorFusionConnection, TensorFusionWorkload, names};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use types::Token;

use super::objects::{self, Names};
use super::worker::{self, Worker};
use super::workload;
use crate::Settings;
use crate::admission::Wish;
use crate::allocator::{bind, claim};
use crate::event::{self, Kind};
use crate::fault;

/// The same thing again about the same pod after so long.
const REMINDER: Duration = Duration::from_secs(600);

/// Model of a software GPU in the catalogue.
const SOFTWARE: &str = "SOFT";

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
    #[error("the Secret `{0}` is somebody else's, so it is left alone")]
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

    pub(super) async fn waits(&mut self, pod: &Pod, reason: &str, text: String) {
        let uid = pod.uid().unwrap_or_default();
        if self.told.get(&uid).is_some_and(|(told, at)| *told == text && at.elapsed() < REMINDER) {
            return;
        }
        self.told.retain(|_, (_, at)| at.elapsed() < REMINDER);
        self.told.insert(uid, (text.clone(), Instant::now()));
        event::publish(&self.client, pod, Kind::Warning, reason, &text).await;
    }
}

/// Who serves a client.
#[derive(Clone, Debug)]
pub(super) enum Serving {
    /// A worker of its own, if there is one.
    Own(Option<Arc<Pod>>),
    /// A worker of a workload with a fixed number of them, if one serves; that workload's UID.
    Shared(Option<Arc<Pod>>, String),
    /// There is no workload of the name that the client gives.
    Missing,
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    /// Its pod.
    pub(super) pod: Arc<Pod>,
    /// What it asks for.
    pub(super) wish: Wish,
    /// What its objects are called.
    pub(super) names: Names,
}

impl Remote {
    /// `namespace/name` of the workload that serves it, or would.
    pub(super) fn workload(&self) -> String {
        format!("{}/{}", self.pod.namespace().unwrap_or_default(), self.names.workload)
    }
}

/// Brings a client one step further, or all the way. `asked` is what a worker of its own is to have.
pub(super) async fn step(
    client: &Client,
    settings: &Settings,
    remote: &Remote,
    asked: &Wish,
    serving: Serving,
    teller: &mut Teller,
) -> Result<(), StepError> {
    let Remote { pod, wish, names } = remote;
    let namespace = pod.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if claim::is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
        // A client that is deleted takes its worker along; one that has finished stays, and needs none.
        if let Serving::Own(Some(worker)) = serving
            && worker.metadata.deletion_timestamp.is_none()
        {
            ignore_missing(pods.delete(&worker.name_any(), &DeleteParams::default()).await.map(drop))?;
        }
        return Ok(());
    }
    if matches!(serving, Serving::Missing) {
        let text = format!("there is no TensorFusionWorkload `{}` in namespace {namespace}", names.workload);
        teller.waits(pod, "WaitingForWorker", text).await;
        return Ok(());
    }
    let shared = match &serving {
        Serving::Shared(_, workload) => Some(workload.clone()),
        _ => None,
    };
    let owners = objects::owned_by(pod, true);
    if let Err(error) = ensure_secret(client, &namespace, &names.secret, &owners, pod.uid().as_deref()).await {
        if matches!(error, StepError::NotOurs(_)) {
            let text = format!("the Secret {} is there already, and not this pod's", names.secret);
            teller.waits(pod, "CannotBeServed", text).await;
        }
        return Err(error);
    }
    if shared.is_none() && wish.workload.is_none() {
        create::<TensorFusionWorkload>(client, &namespace, objects::workload(pod, names, wish)).await?;
    }
    create::<TensorFusionConnection>(client, &namespace, objects::connection(pod, names)).await?;
    fault::point("after-connection");
    let worker = match serving {
        Serving::Own(Some(worker)) => worker,
        // Its workload comes by in a moment, and makes them.
        Serving::Own(None) if wish.replicas.is_some() => return Ok(()),
        Serving::Own(None) => {
            let pool = Api::<GPUPool>::all(client.clone()).get_opt(&asked.pool).await?;
            let worker = Worker {
                name: &names.worker,
                namespace: &namespace,
                workload: &names.workload,
                owners,
                client: pod.metadata.uid.as_deref(),
                secret: &names.secret,
                hash: None,
            };
            let object = worker::pod(
                &worker,
                &worker::wish_for(asked),
                asked.worker_pod_template.as_ref(),
                settings,
                pool.as_ref(),
            );
            return create::<Pod>(client, &namespace, object).await;
        }
        Serving::Shared(Some(worker), _) => worker,
        Serving::Shared(None, _) | Serving::Missing => {
            let text = format!("no worker of workload {} serves yet; their pods' events say why", names.workload);
            teller.waits(pod, "WaitingForWorker", text).await;
            return Ok(());
        }
    };
    if shared.is_none() && claim::is_finished(&worker) {
        // Its successor gets the same name, so it must go first.
        return Ok(ignore_missing(pods.delete(&worker.name_any(), &DeleteParams::default()).await.map(drop))?);
    }
    let addresses = objects::addresses(wish, &worker, shared.is_none());
    let url = addresses.as_ref().and_then(|addresses| addresses["url"].as_str()).map(str::to_owned);
    status(client, &namespace, names, &worker.name_any(), url.as_deref(), shared.is_none()).await?;
    let Some(addresses) = addresses else {
        if claim::is_gated(pod) {
            let text = format!("its worker, pod {}, is not ready yet; that pod's events say why", worker.name_any());
            teller.waits(pod, "WaitingForWorker", text).await;
        }
        return Ok(());
    };
    let mut data = addresses;
    if let Some(workload) = &shared {
        let secret = workload::secret_name(&names.workload);
        let Some(token) = token_of(client, &namespace, &secret, workload).await? else { return Ok(()) };
        // Workers that were made by an operator of before know one token only.
        let own = worker::takes_tokens_of_clients(&worker).then(|| token.for_user(&pod.uid().unwrap_or_default()));
        data["token"] = own.as_ref().unwrap_or(&token).reveal().into();
    }
    data["software"] = is_software(client, &worker).await?.to_string().into();
    let patch = json!({"stringData": data});
    Api::<Secret>::namespaced(client.clone(), &namespace)
        .patch(&names.secret, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    fault::point("after-secret");
    if claim::is_gated(pod) {
        fault::point("before-lift");
        // A pod that has changed since comes by again.
        match pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&bind::lift(pod))).await {
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

/// Whether a worker's GPUs are software GPUs, which its clients must hand PTX.
async fn is_software(client: &Client, worker: &Pod) -> Result<bool, kube::Error> {
    let allocation = claim::annotation(worker, names::ALLOCATION).and_then(|text| Allocation::parse(text).ok());
    let allocation = allocation.unwrap_or_default();
    let Some(gpu) = allocation.gpus().first().copied() else { return Ok(false) };
    let card = Api::<GPU>::all(client.clone()).get_opt(gpu).await?;
    Ok(card.and_then(|card| card.status).is_some_and(|status| status.gpu_model == SOFTWARE))
}

/// Whether an object is owned by who has this UID.
fn is_owned(secret: &Secret, uid: Option<&str>) -> bool {
    secret.metadata.owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid)
}

/// The token of a workload's workers, once it is there.
async fn token_of(client: &Client, namespace: &str, name: &str, workload: &str) -> Result<Option<Token>, StepError> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    let Some(secret) = secret else { return Ok(None) };
    if !is_owned(&secret, Some(workload)) {
        return Err(StepError::NotOurs(name.to_owned()));
    }
    let token = secret.data.and_then(|mut data| data.remove("token"));
    Ok(token.and_then(|token| String::from_utf8(token.0).ok()).map(Token::shown))
}

/// Makes a Secret with a random token, unless it is there, and its owner's.
pub(super) async fn ensure_secret(
    client: &Client,
    namespace: &str,
    name: &str,
    owners: &serde_json::Value,
    owner: Option<&str>,
) -> Result<(), StepError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(there) = secrets.get_opt(name).await? {
        return if is_owned(&there, owner) { Ok(()) } else { Err(StepError::NotOurs(name.to_owned())) };
    }
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret: Secret = serde_json::from_value(objects::secret(name, namespace, owners, &token))?;
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(()),
        // Made in the meantime: looked at next time.
        Err(kube::Error::Api(status)) if status.code == 409 => Err(StepError::NotOurs(name.to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// Makes an object unless it is there.
pub(super) async fn create<K>(client: &Client, namespace: &str, object: serde_json::Value) -> Result<(), StepError>
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

/// Status of the connection, and of a workload whose workers are its clients' own.
async fn status(
    client: &Client,
    namespace: &str,
    names: &Names,
    worker: &str,
    url: Option<&str>,
    own: bool,
) -> Result<(), StepError> {
    let ours = PatchParams::apply(names::OPERATOR).force();
    let phase = if url.is_some() { "Running" } else { "Pending" };
    let connections: Api<TensorFusionConnection> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionConnection", "metadata": {"name": names.secret},
        "status": {"phase": phase, "connectionURL": url.unwrap_or_default(), "workerName": worker},
    });
    connections.patch_status(&names.secret, &ours, &Patch::Apply(&object)).await?;
    if !own {
        return Ok(());
    }
    let workers: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_workload = ListParams::default().labels(&format!("{}={}", names::WORKLOAD, names.workload));
    let all = workers.list(&of_workload).await?;
    let ready = all.iter().filter(|worker| worker::is_ready(worker)).count();
    let phase = if ready > 0 { "Running" } else { "Pending" };
    let object = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionWorkload", "metadata": {"name": names.workload},
        "status": {"phase": phase, "workerCount": all.items.len(), "readyWorkers": ready},
    });
    let workloads: Api<TensorFusionWorkload> = Api::namespaced(client.clone(), namespace);
    ignore_missing(workloads.patch_status(&names.workload, &ours, &Patch::Apply(&object)).await.map(drop))?;
    Ok(())
}

pub(super) fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result,
    }
}
