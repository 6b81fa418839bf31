//! TensorFusionWorkloads with a fixed number of workers: as many pods as it says, for all its clients. Pure, but for [`step`].
//!
//! Workers are numbered, so that making one twice is making it once. When the workload changes they are replaced one by one,
//! those without clients first, as long as the others serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crd::{GPUPool, IsolationMode, TensorFusionWorkload, TensorFusionWorkloadSpec, names};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use pool::Isolation;
use serde_json::json;

use super::step::{StepError, create, ensure_secret, ignore_missing};
use super::worker::{self, Worker};
use crate::admission::{ContainerWish, Dialect, GangWish, Mode, Wish};
use crate::webhook::knowledge::profile_of;
use crate::{Settings, duration};

/// What its workers ask for.
///
/// # Errors
/// What it says cannot be.
pub(super) fn wish(spec: &TensorFusionWorkloadSpec, settings: &Settings) -> Result<Wish, String> {
    let text = serde_json::to_value(spec).map_err(|error| error.to_string())?;
    let profile = serde_json::from_value(text).map_err(|error: serde_json::Error| error.to_string())?;
    let profile = profile_of(&profile).map_err(|error| format!("spec.resources: {error}"))?;
    let default = settings.pools.iter().find(|(_, pool)| pool.default).map(|(name, _)| name.clone());
    let pool = profile.pool_name.or(default).ok_or("spec.poolName: no pool is the default, so name one")?;
    let of_pool = settings.pools.get(&pool).ok_or_else(|| format!("spec.poolName: there is no pool `{pool}`"))?;
    let isolation = match spec.isolation {
        IsolationMode::Shared => Isolation::Shared,
        IsolationMode::Soft => Isolation::Soft,
        IsolationMode::Hard => Isolation::Hard,
        IsolationMode::Partitioned => {
            return Err("spec.isolation: `partitioned` is not allowed: shared, soft or hard".to_owned());
        }
    };
    let (tflops_limit, vram_limit) = (profile.tflops_limit, profile.vram_limit);
    let percent = profile.compute_percent_request.or(profile.compute_percent_limit);
    let percent = percent.filter(|_| profile.tflops_request.or(tflops_limit).is_none());
    let container = ContainerWish {
        name: worker::CONTAINER.to_owned(),
        phase: crd::Phase::Main,
        gpus: profile.gpu_count.unwrap_or(1),
        tflops_request: profile.tflops_request.or(tflops_limit),
        tflops_limit,
        compute_percent: percent,
        compute_percent_limit: profile.compute_percent_limit.filter(|_| percent.is_some()),
        vram_request: profile.vram_request.or(vram_limit),
        vram_limit,
        vram_percent: None,
    };
    let nothing = container.tflops_request.is_none() && container.vram_request.is_none() && percent.is_none();
    if nothing && isolation != Isolation::Shared {
        return Err("spec.resources: an amount of VRAM or compute is needed, or isolation `shared`".to_owned());
    }
    let number = |number: i32| u32::try_from(number).ok().filter(|number| *number > 0);
    let gang = spec.gang_scheduling.as_ref().map(|gang| -> Result<GangWish, String> {
        let timeout = match gang.timeout.as_deref().map(duration::parse) {
            Some(Err(error)) => {
                return Err(format!("spec.gangScheduling.timeout: expected {error}"));
            }
            Some(Ok(timeout)) => Some(timeout.as_secs()).filter(|&seconds| seconds > 0),
            None => None,
        };
        Ok(GangWish { minimum: gang.min_members.and_then(number), timeout })
    });
    Ok(Wish {
        dialect: Dialect::TensorFusion,
        pool,
        mode: Mode::Local,
        qos: profile.qos.or(of_pool.qos).unwrap_or_default(),
        isolation,
        strategy: None,
        model: profile.gpu_model,
        vendor: profile.vendor,
        indices: spec.gpu_indices.iter().flatten().filter_map(|&index| u32::try_from(index).ok()).collect(),
        only_types: Vec::new(),
        not_types: Vec::new(),
        only_uuids: Vec::new(),
        not_uuids: Vec::new(),
        one_numa_node: false,
        near: false,
        containers: vec![container],
        enabled_replicas: None,
        gang: gang.transpose()?,
        eviction_protection: None,
        workload: None,
        replicas: None,
        worker_pod_template: None,
        ignored: Vec::new(),
    })
}

/// Tells workers of this spec from those of another: a hash of all but their number.
#[must_use]
pub(super) fn hash(spec: &TensorFusionWorkloadSpec) -> String {
    let spec = TensorFusionWorkloadSpec { replicas: None, ..spec.clone() };
    // FNV-1a: the same in every release of ours.
    let text = serde_json::to_string(&spec).unwrap_or_default();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// What a numbered worker is called.
#[must_use]
pub(super) fn worker_name(workload: &str, number: u32) -> String {
    format!("{workload}-tf-worker-{number}")
}

/// The Secret that holds the token of a workload's workers.
#[must_use]
pub(super) fn secret_name(workload: &str) -> String {
    format!("{workload}-tf-workers")
}

/// What is to be done about a workload's workers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Numbers of workers to make.
    make: Vec<u32>,
    /// Names of workers to delete.
    delete: Vec<String>,
}

/// Decides that from the workers that there are and how many clients each has.
pub(super) fn change(
    workload: &str,
    replicas: u32,
    hash: &str,
    workers: &[Arc<Pod>],
    clients: &BTreeMap<String, usize>,
) -> Change {
    let mut change = Change::default();
    let wanted: BTreeMap<String, u32> = (0..replicas).map(|number| (worker_name(workload, number), number)).collect();
    let there: BTreeSet<String> = workers.iter().map(|pod| pod.name_any()).collect();
    change.make.extend(wanted.iter().filter(|(name, _)| !there.contains(*name)).map(|(_, number)| *number));
    let mut outdated: Vec<&Arc<Pod>> = Vec::new();
    for pod in workers.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let current = pod.labels().get(worker::HASH).map(String::as_str) == Some(hash);
        let ended = crate::allocator::claim::is_finished(pod);
        if ended || !wanted.contains_key(&pod.name_any()) {
            change.delete.push(pod.name_any());
        } else if !current {
            outdated.push(pod);
        }
    }
    // One that does not serve is no loss; of those that do, one at a time while all others serve.
    let all_serve = there.len() >= wanted.len() && workers.iter().all(|pod| worker::is_ready(pod));
    outdated.sort_by_key(|pod| (clients.get(&pod.name_any()).copied().unwrap_or_default(), pod.name_any()));
    let idle = outdated.iter().filter(|pod| !worker::is_ready(pod)).map(|pod| pod.name_any());
    change.delete.extend(idle);
    if all_serve {
        change.delete.extend(outdated.first().map(|pod| pod.name_any()));
    }
    change
}

/// The worker with the fewest clients of those that serve.
pub(super) fn least_loaded(workers: &[Arc<Pod>], clients: &BTreeMap<String, usize>) -> Option<Arc<Pod>> {
    let load = |pod: &Arc<Pod>| (clients.get(&pod.name_any()).copied().unwrap_or_default(), pod.name_any());
    workers.iter().filter(|pod| worker::is_ready(pod)).min_by_key(|pod| load(pod)).cloned()
}

/// Brings a workload's workers one step further, and tells how it stands.
pub(super) async fn step(
    client: &Client,
    settings: &Settings,
    workload: &TensorFusionWorkload,
    workers: &[Arc<Pod>],
    clients: &BTreeMap<String, usize>,
) -> Result<(), StepError> {
    let (name, namespace) = (workload.name_any(), workload.namespace().unwrap_or_default());
    let Some(replicas) = workload.spec.replicas.and_then(|replicas| u32::try_from(replicas).ok()) else {
        return Ok(());
    };
    if workload.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let hash = hash(&workload.spec);
    let mut wrong = None;
    match wish(&workload.spec, settings) {
        Err(why) => wrong = Some(why),
        Ok(wish) => {
            let owners = json!([workload.controller_owner_ref(&())]);
            let secret = secret_name(&name);
            ensure_secret(client, &namespace, &secret, &owners, workload.uid().as_deref()).await?;
            let change = change(&name, replicas, &hash, workers, clients);
            for worker in &change.delete {
                ignore_missing(pods.delete(worker, &DeleteParams::default()).await.map(drop))?;
            }
            let pool = Api::<GPUPool>::all(client.clone()).get_opt(&wish.pool).await?;
            for &number in &change.make {
                let worker = Worker {
                    name: &worker_name(&name, number),
                    namespace: &namespace,
                    workload: &name,
                    owners: owners.clone(),
                    client: None,
                    secret: &secret,
                    hash: Some(&hash),
                };
                let template = workload.spec.worker_pod_template.as_ref();
                let mut pod = worker::pod(&worker, &wish, template, settings, pool.as_ref());
                if let Some(affinity) = &workload.spec.node_affinity {
                    pod["spec"]["affinity"]["nodeAffinity"] = json!(affinity);
                }
                create::<Pod>(client, &namespace, pod).await?;
            }
        }
    }
    status(client, workload, &hash, workers, wrong).await
}

async fn status(
    client: &Client,
    workload: &TensorFusionWorkload,
    hash: &str,
    workers: &[Arc<Pod>],
    wrong: Option<String>,
) -> Result<(), StepError> {
    let ready = workers.iter().filter(|pod| worker::is_ready(pod)).count();
    let live = workers.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
    let phase = if wrong.is_some() {
        "Failed"
    } else if ready > 0 || workload.spec.replicas == Some(0) {
        "Running"
    } else {
        "Pending"
    };
    let before = workload.status.as_ref();
    let same = before.is_some_and(|before| {
        json!(before.phase) == phase
            && usize::try_from(before.worker_count) == Ok(live)
            && before.ready_workers.and_then(|count| usize::try_from(count).ok()) == Some(ready)
            && before.pod_template_hash.as_deref() == Some(hash)
    });
    if same {
        return Ok(());
    }
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
    let (state, reason) = if wrong.is_none() { ("True", "Understood") } else { ("False", "CannotBeServed") };
    let understood = json!({
        "type": "Valid", "status": state, "reason": reason, "message": wrong.unwrap_or_default(),
        "observedGeneration": workload.metadata.generation, "lastTransitionTime": time,
    });
    let spec = serde_json::to_value(&workload.spec)?;
    let honored = crd::unused_condition("TensorFusionWorkload", &spec, workload.metadata.generation, time);
    let object = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionWorkload", "metadata": {"name": workload.name_any()},
        "status": {"phase": phase, "workerCount": live, "readyWorkers": ready, "podTemplateHash": hash,
            "conditions": [honored, understood]},
    });
    let api: Api<TensorFusionWorkload> = Api::namespaced(client.clone(), &workload.namespace().unwrap_or_default());
    let ours = PatchParams::apply(names::OPERATOR).force();
    ignore_missing(api.patch_status(&workload.name_any(), &ours, &Patch::Apply(&object)).await.map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests;
