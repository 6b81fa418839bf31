//! What is given out, as status of GPUs, nodes, pools and quotas. Written when it changes, by whoever leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use crd::{GPU, GPUNode, GPUPool, GPUResourceQuota, Quantity, Resource, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use pool::Amount;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ledger::Ledger;

/// The status of everything, without times.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Snapshot {
    gpus: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
    pools: BTreeMap<String, Value>,
    /// By namespace.
    used: BTreeMap<String, Value>,
}

#[derive(Default)]
struct Sum {
    nodes: BTreeMap<String, bool>,
    gpus: u32,
    total: Amount,
    capacity: Amount,
    free: Amount,
    capacity_free: Amount,
    pods: u32,
}

impl Sum {
    fn add(&mut self, gpu: &pool::Gpu, node: &str, ready: bool) {
        let plus = |a: Amount, b: Amount| a.checked_add(b).unwrap_or(a);
        let given = gpu.capacity.saturating_sub(gpu.free);
        *self.nodes.entry(node.to_owned()).or_default() |= ready;
        self.gpus += 1;
        self.total = plus(self.total, gpu.card);
        self.capacity = plus(self.capacity, gpu.capacity);
        self.free = plus(self.free, gpu.card.saturating_sub(given));
        self.capacity_free = plus(self.capacity_free, gpu.free);
    }

    fn amounts(&self) -> Value {
        let text = |quantity: Quantity| quantity.0;
        json!({
            "totalTFlops": text(self.total.tflops.into()), "totalVRAM": text(self.total.vram.into()),
            "virtualTFlops": text(self.capacity.tflops.into()), "virtualVRAM": text(self.capacity.vram.into()),
            "availableTFlops": text(self.free.tflops.into()), "availableVRAM": text(self.free.vram.into()),
            "virtualAvailableTFlops": text(self.capacity_free.tflops.into()),
            "virtualAvailableVRAM": text(self.capacity_free.vram.into()),
        })
    }
}

/// How everything stands now.
pub(super) fn snapshot(ledger: &mut Ledger, pools: &BTreeMap<String, GPUPool>, waiting: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut apps: BTreeMap<String, BTreeMap<(String, String), Value>> = BTreeMap::new();
    let mut pods_on: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut pods_of: BTreeMap<String, u32> = BTreeMap::new();
    for (uid, namespace, name, allocation) in ledger.granted() {
        *pods_of.entry(allocation.node.clone()).or_default() += 1;
        for share in allocation.shares() {
            let requests = Resource::new(share.tflops, share.vram);
            let limits =
                Resource::new(share.tflops_limit.unwrap_or(share.tflops), share.vram_limit.unwrap_or(share.vram));
            let pod = json!({"name": name, "namespace": namespace, "uid": uid, "qos": share.qos, "requests": requests, "limits": limits});
            pods_on.entry(share.gpu.clone()).or_default().push(pod.clone());
            let app = json!({"name": name, "namespace": namespace, "count": 1, "pods": [pod]});
            apps.entry(share.gpu.clone()).or_default().insert((namespace.to_owned(), name.to_owned()), app);
        }
    }
    let mut of_pools: BTreeMap<String, Sum> = pools.keys().map(|name| (name.clone(), Sum::default())).collect();
    let mut of_nodes: BTreeMap<String, Sum> = BTreeMap::new();
    let mut allocated: BTreeMap<String, BTreeMap<String, Vec<Value>>> = BTreeMap::new();
    let inventory = ledger.inventory();
    for gpu in inventory.gpus() {
        let Some(node) = inventory.node(gpu.node) else { continue };
        let given = gpu.capacity.saturating_sub(gpu.free);
        let free = gpu.card.saturating_sub(given);
        let running: Vec<Value> = apps.remove(&gpu.uuid).unwrap_or_default().into_values().collect();
        let status = json!({"available": Resource::new(free.tflops, free.vram), "runningApps": running});
        snapshot.gpus.insert(gpu.uuid.clone(), status);
        of_pools.entry(gpu.pool.clone()).or_default().add(gpu, &node.name, gpu.ready && node.ready);
        of_nodes.entry(node.name.clone()).or_default().add(gpu, &node.name, gpu.ready && node.ready);
        if let Some(pods) = pods_on.remove(&gpu.uuid) {
            allocated.entry(node.name.clone()).or_default().insert(gpu.uuid.clone(), pods);
        }
    }
    for (name, mut sum) in of_nodes {
        sum.pods = pods_of.get(&name).copied().unwrap_or_default();
        let mut status = sum.amounts();
        // The node's agent writes these two.
        for told in ["totalTFlops", "totalVRAM"] {
            status.as_object_mut().map(|fields| fields.remove(told));
        }
        status["totalGPUPods"] = json!(sum.pods);
        status["allocatedPods"] = json!(allocated.remove(&name).unwrap_or_default());
        snapshot.nodes.insert(name, status);
    }
    for (name, sum) in of_pools {
        let Some(pool) = pools.get(&name) else { continue };
        snapshot.pools.insert(name, pool_status(pool, &sum, &pods_of, waiting));
    }
    let namespaces: Vec<String> = ledger.namespaces().map(str::to_owned).collect();
    for namespace in namespaces {
        let used = ledger.used(&namespace);
        let resource = |amount: Amount| json!(Resource::new(amount.tflops, amount.vram));
        let status =
            json!({"requests": resource(used.requests), "limits": resource(used.limits), "workers": used.workers});
        snapshot.used.insert(namespace, status);
    }
    snapshot
}

fn pool_status(pool: &GPUPool, sum: &Sum, pods_of: &BTreeMap<String, u32>, waiting: usize) -> Value {
    let ready = sum.nodes.values().filter(|ready| **ready).count();
    let pods: u32 = sum.nodes.keys().filter_map(|node| pods_of.get(node)).sum();
    let mut status = sum.amounts();
    status["phase"] = json!(if ready > 0 { "Running" } else { "Pending" });
    status["totalNodes"] = json!(sum.nodes.len());
    status["readyNodes"] = json!(ready);
    status["notReadyNodes"] = json!(sum.nodes.len() - ready);
    status["totalGPUs"] = json!(sum.gpus);
    status["runningAppsCnt"] = json!(pods);
    status["componentStatus"] = json!({});
    let generation = pool.metadata.generation;
    let spec = serde_json::to_value(&pool.spec).unwrap_or_default();
    let honored = crd::unused_condition("GPUPool", &spec, generation, Time(Timestamp::UNIX_EPOCH));
    let (state, reason, message) = if ready > 0 {
        (
            "True",
            "NodesReady",
            format!("{ready} of {} nodes take work, {waiting} pods of all pools wait", sum.nodes.len()),
        )
    } else {
        ("False", "NoNodes", "no node of the pool takes work".to_owned())
    };
    let ready = Condition {
        type_: "Ready".to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    status["conditions"] = json!([honored, ready]);
    status
}

/// Writes what changed, for ever.
pub(super) async fn write(client: Client, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut written = Snapshot::default();
    while snapshots.changed().await.is_ok() {
        let next = Arc::clone(&snapshots.borrow_and_update());
        let gpus = Api::<GPU>::all(client.clone());
        changes(&gpus, "GPU", &next.gpus, &mut written.gpus).await;
        changes(&Api::<GPUNode>::all(client.clone()), "GPUNode", &next.nodes, &mut written.nodes).await;
        changes(&Api::<GPUPool>::all(client.clone()), "GPUPool", &next.pools, &mut written.pools).await;
        if let Err(error) = quotas(&client, &next.used).await {
            tracing::warn!(%error, "the use of quotas could not be written");
        }
    }
}

async fn changes<K>(api: &Api<K>, kind: &str, next: &BTreeMap<String, Value>, written: &mut BTreeMap<String, Value>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    written.retain(|name, _| next.contains_key(name));
    let parameters = PatchParams::apply(names::OPERATOR).force();
    for (name, status) in next {
        if written.get(name) == Some(status) {
            continue;
        }
        let status_now = dated(status.clone());
        let object = json!({"apiVersion": "tensor-fusion.ai/v1", "kind": kind, "metadata": {"name": name}, "status": status_now});
        match api.patch_status(name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => drop(written.insert(name.clone(), status.clone())),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(kind, name, %error, "a status could not be written"),
        }
    }
}

/// Conditions with the time of now: a status is only written when it changed.
fn dated(mut status: Value) -> Value {
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        condition["lastTransitionTime"] = json!(Time(Timestamp::now()));
    }
    status
}

/// Writes into every quota what its namespace uses.
async fn quotas(client: &Client, used: &BTreeMap<String, Value>) -> Result<(), kube::Error> {
    let all: Api<GPUResourceQuota> = Api::all(client.clone());
    for quota in all.list(&kube::api::ListParams::default()).await? {
        let namespace = quota.namespace().unwrap_or_default();
        let nothing =
            || json!({"requests": {"tflops": "0", "vram": "0"}, "limits": {"tflops": "0", "vram": "0"}, "workers": 0});
        let now = used.get(&namespace).cloned().unwrap_or_else(nothing);
        let before = quota.status.as_ref().and_then(|status| status.used.as_ref());
        if before.is_some_and(|before| json!(before) == now) {
            continue;
        }
        let name = quota.name_any();
        let status = json!({
            "used": now,
            "availablePercent": available(&quota, &now),
            "lastUpdateTime": Time(Timestamp::now()),
        });
        let object = json!({"apiVersion": "tensor-fusion.ai/v1", "kind": "GPUResourceQuota",
            "metadata": {"name": name, "namespace": namespace}, "status": status});
        let api: Api<GPUResourceQuota> = Api::namespaced(client.clone(), &namespace);
        api.patch_status(&name, &PatchParams::apply(names::OPERATOR).force(), &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// What is left of a quota, in percent with two decimals.
fn available(quota: &GPUResourceQuota, used: &Value) -> Value {
    let Some(total) = &quota.spec.total else { return json!({}) };
    let mut left = json!({});
    let percent = |used: u64, of: u64| -> Option<String> {
        let (used, of) = (u128::from(used), u128::from(of));
        let parts = of.saturating_sub(used).checked_mul(10_000)?.checked_div(of)?;
        Some(format!("{}.{:02}", parts / 100, parts % 100))
    };
    for (kind, ceiling) in [("requests", &total.requests), ("limits", &total.limits)] {
        let Some(ceiling) = ceiling else { continue };
        let quantity = |unit: &str| Quantity(used[kind][unit].as_str().unwrap_or("0").to_owned());
        if let (Ok(of), Ok(now)) = (ceiling.tflops.tflops(), quantity("tflops").tflops())
            && let Some(text) = percent(now.milli(), of.milli())
        {
            left[format!("{kind}.tflops")] = json!(text);
        }
        if let (Ok(of), Ok(now)) = (ceiling.vram.bytes(), quantity("vram").bytes())
            && let Some(text) = percent(now.get(), of.get())
        {
            left[format!("{kind}.vram")] = json!(text);
        }
    }
    let most = total.max_workers.and_then(|most| u64::try_from(most).ok()).unwrap_or_default();
    if let Some(text) = percent(used["workers"].as_u64().unwrap_or_default(), most) {
        left["workers"] = json!(text);
    }
    left
}
