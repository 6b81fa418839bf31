//! TensorFusionCluster: makes a GPUPool of each of its pools, keeps them as it says, and tells the sum of what they have.
//!
//! A pool that it says no more, and all of them when it is deleted, go when no pod has GPUs of them: the chart's policy refuses
//! that before, and it is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use crd::{GPUPool, PoolPhase, Quantity, TensorFusionCluster, names, unused_condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::follow::{News, follow};

/// Label of a pool: the cluster that it is of.
const LABEL: &str = "tensor-fusion.ai/cluster";
const PAUSE: Duration = Duration::from_secs(15);

/// Keeps clusters for as long as we lead.
pub(crate) async fn run(client: Client) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let of = client.clone();
    tokio::spawn(async move {
        let api: Api<TensorFusionCluster> = Api::all(of);
        follow(api, kube::runtime::watcher::Config::default(), kube::ResourceExt::name_any, |news| {
            drop(sender.send(news))
        })
        .await;
    });
    let mut clusters = std::collections::BTreeMap::new();
    let mut again = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            news = receiver.recv() => match news {
                None => return,
                Some(News::Is(cluster)) => {
                    let before: Option<Box<TensorFusionCluster>> = clusters.insert(cluster.name_any(), cluster.clone());
                    // Our own status comes by, too.
                    if before.is_some_and(|before| before.metadata.generation == cluster.metadata.generation) {
                        continue;
                    }
                    keep(&client, &cluster).await;
                }
                // Its pools go with it: they are owned by it.
                Some(News::Gone(name)) => drop(clusters.remove(&name)),
                Some(News::Complete) => {}
            },
            _ = again.tick() => for cluster in clusters.values() {
                keep(&client, cluster).await;
            },
        }
    }
}

async fn keep(client: &Client, cluster: &TensorFusionCluster) {
    if cluster.metadata.deletion_timestamp.is_some() {
        return;
    }
    if let Err(error) = step(client, cluster).await {
        tracing::warn!(cluster = cluster.name_any(), %error, "a cluster is looked at again later");
    }
}

async fn step(client: &Client, cluster: &TensorFusionCluster) -> Result<(), kube::Error> {
    let ours = PatchParams::apply(names::OPERATOR).force();
    let pools: Api<GPUPool> = Api::all(client.clone());
    let wanted = cluster.spec.gpu_pools.clone().unwrap_or_default();
    let mut kept = BTreeSet::new();
    for pool in &wanted {
        let Some(name) = pool.name.clone().filter(|name| !name.is_empty()) else { continue };
        let object = json!({
            "apiVersion": "tensor-fusion.ai/v1", "kind": "GPUPool",
            "metadata": {
                "name": name,
                "labels": {(LABEL): cluster.name_any()},
                "annotations": {(names::DEFAULT_POOL): pool.is_default.unwrap_or_default().to_string()},
                "ownerReferences": [cluster.controller_owner_ref(&())],
            },
            "spec": pool.spec_template,
        });
        pools.patch(&name, &ours, &Patch::Apply(&object)).await?;
        kept.insert(name);
    }
    let of_cluster = ListParams::default().labels(&format!("{LABEL}={}", cluster.name_any()));
    let there = pools.list(&of_cluster).await?;
    for pool in there.iter().filter(|pool| !kept.contains(&pool.name_any())) {
        match pools.delete(&pool.name_any(), &DeleteParams::default()).await {
            Ok(_) => {}
            // Pods have GPUs of it: it goes when they are gone.
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                tracing::info!(pool = pool.name_any(), why = status.message, "a pool of a cluster stays for now");
            }
            Err(error) => return Err(error),
        }
    }
    let status = status(cluster, there.iter().filter(|pool| kept.contains(&pool.name_any())));
    let object = json!({"apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionCluster",
        "metadata": {"name": cluster.name_any()}, "status": status});
    Api::<TensorFusionCluster>::all(client.clone())
        .patch_status(&cluster.name_any(), &ours, &Patch::Apply(&object))
        .await?;
    Ok(())
}

fn status<'a>(cluster: &TensorFusionCluster, pools: impl Iterator<Item = &'a GPUPool>) -> Value {
    let (mut ready, mut not_ready) = (Vec::new(), Vec::new());
    let (mut nodes, mut gpus) = (0, 0);
    let mut sums = [0_u64; 6];
    for pool in pools {
        let Some(status) = &pool.status else {
            not_ready.push(pool.name_any());
            continue;
        };
        if status.phase == PoolPhase::Running { &mut ready } else { &mut not_ready }.push(pool.name_any());
        nodes += status.total_nodes.unwrap_or_default();
        gpus += status.total_gpus.unwrap_or_default();
        let tflops = |quantity: &Quantity| quantity.tflops().map(types::Tflops::milli).unwrap_or_default();
        let vram = |quantity: &Quantity| quantity.bytes().map(types::Bytes::get).unwrap_or_default();
        let amounts = [
            tflops(&status.total_tflops),
            vram(&status.total_vram),
            tflops(&status.virtual_tflops),
            vram(&status.virtual_vram),
            tflops(&status.available_tflops),
            vram(&status.available_vram),
        ];
        for (sum, amount) in sums.iter_mut().zip(amounts) {
            *sum = sum.saturating_add(amount);
        }
    }
    let tflops = |milli: u64| Quantity::from(types::Tflops::from_milli(milli));
    let vram = |bytes: u64| Quantity::from(types::Bytes::new(bytes));
    let spec = serde_json::to_value(&cluster.spec).unwrap_or_default();
    let condition = unused_condition("TensorFusionCluster", &spec, cluster.metadata.generation, Time(Timestamp::now()));
    json!({
        "phase": if not_ready.is_empty() && !ready.is_empty() { "Running" } else { "Pending" },
        "totalPools": ready.len() + not_ready.len(), "totalNodes": nodes, "totalGPUs": gpus, "retryCount": 0,
        "totalTFlops": tflops(sums[0]), "totalVRAM": vram(sums[1]),
        "virtualTFlops": tflops(sums[2]), "virtualVRAM": vram(sums[3]),
        "availableTFlops": tflops(sums[4]), "availableVRAM": vram(sums[5]),
        "readyGPUPools": ready, "notReadyGPUPools": not_ready, "conditions": [condition],
    })
}
