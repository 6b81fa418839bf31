//! Pods, made as fast as the API server takes them, and watched until something is so of each.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crd::{Allocation, names};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use operator::Settings;
use operator::admission::decide;
use serde_json::{Value, json};

use crate::{Failure, GPUS, NODES, PLACE, PODS, many};

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn api(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), PLACE)
}

fn manifest(of: &str, number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{of}-{number}"), "namespace": PLACE, "labels": {"of": of}},
        "spec": {"containers": [{"name": "main", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
    })
}

/// A pod that wants no GPU.
pub(crate) fn plain(of: &str, number: usize) -> Result<Pod, Failure> {
    Ok(serde_json::from_value(manifest(of, number))?)
}

/// A manifest that asks for a part of a GPU.
pub(crate) fn wish(of: &str, number: usize) -> Value {
    let mut pod = manifest(of, number);
    let key = |name: &str| format!("{}/{name}", names::DOMAIN);
    pod["metadata"]["labels"][key("enabled")] = json!("true");
    pod["metadata"]["annotations"] = json!({
        (key("tflops-request")): format!("{}", 50 + 50 * (number % 8)), (key("vram-request")): format!("{}Gi", 4 + 4 * (number % 8)),
        (key("is-local-gpu")): "true", (key("inject-container")): "main",
    });
    pod
}

/// The same, as the webhook leaves it.
pub(crate) fn asking(of: &str, number: usize) -> Result<Pod, Failure> {
    let pod = wish(of, number);
    Ok(serde_json::from_value(decide(&pod, PLACE, &Settings::default(), 0)?.after(&pod)?)?)
}

/// Pods that ask, as the API server sends them to a webhook: with its defaults, and who wrote what.
pub(crate) async fn as_sent(client: &Client) -> Result<Vec<Value>, Failure> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut pods = Vec::new();
    for number in 0..8 {
        let pod = api(client).create(&dry, &serde_json::from_value(wish("asked", number))?).await?;
        let mut pod = serde_json::to_value(pod)?;
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pods.push(pod);
    }
    Ok(pods)
}

pub(crate) fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

pub(crate) fn is_allocated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    pod.annotations().contains_key(names::ALLOCATION) && gates.is_none_or(Vec::is_empty)
}

/// Makes pods, and tells for how many a second `done` became true, from the first to the last.
pub(crate) async fn time(
    client: &Client,
    of: &'static str,
    make: fn(&str, usize) -> Result<Pod, Failure>,
    done: fn(&Pod) -> bool,
) -> Result<f64, Failure> {
    let watching = tokio::spawn(watch(api(client), of, done));
    let pods = api(client);
    let create = async |number: usize| -> Result<(), Failure> {
        pods.create(&PostParams::default(), &make(of, number)?).await?;
        Ok(())
    };
    let start = Instant::now();
    many((0..PODS).map(create)).await?;
    eprintln!("{PODS} pods `{of}` made in {:.0} s", start.elapsed().as_secs_f64());
    let spent =
        tokio::time::timeout(PATIENCE, watching).await.map_err(|_| format!("not all of `{of}` in time"))???;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = (PODS - 1) as f64 / spent.as_secs_f64();
    Ok(rate)
}

/// From the first pod of which it is so to the last.
async fn watch(api: Api<Pod>, of: &str, done: fn(&Pod) -> bool) -> Result<Duration, Failure> {
    let config = watcher::Config::default().labels(&format!("of={of}"));
    let mut events = std::pin::pin!(watcher(api, config));
    let mut seen = HashSet::new();
    let mut first = None;
    while let Some(event) = events.try_next().await? {
        if let Event::Apply(pod) | Event::InitApply(pod) = event
            && done(&pod)
        {
            let first = *first.get_or_insert_with(Instant::now);
            if seen.insert(pod.name_any()) && seen.len() == PODS {
                return Ok(first.elapsed());
            }
        }
    }
    Err("the watch has ended".into())
}

/// Deletes all pods.
pub(crate) async fn forget(client: &Client) -> Result<(), Failure> {
    let now = DeleteParams::default().grace_period(0);
    api(client).delete_collection(&now, &ListParams::default()).await?;
    while !api(client).list(&ListParams::default().limit(1)).await?.items.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// No GPU was given out beyond what it has, and every pod's node is that of its GPUs.
pub(crate) async fn check(client: &Client) -> Result<(), Failure> {
    let mut used: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    for pod in api(client).list(&ListParams::default().labels("of=vgpu")).await? {
        let text = pod.annotations().get(names::ALLOCATION).ok_or("a pod lacks its allocation")?;
        let allocation = Allocation::parse(text)?;
        for share in allocation.shares() {
            let number = share.gpu.get(4..12).and_then(|digits| digits.parse::<usize>().ok()).ok_or("a strange GPU")?;
            if allocation.node != format!("node-{number:04}") {
                return Err(format!("{} is not on {}", share.gpu, allocation.node).into());
            }
            let sum = used.entry(share.gpu.clone()).or_default();
            *sum = (sum.0 + share.tflops.as_f64(), sum.1 + share.vram.get());
        }
    }
    let over = used.iter().find(|(_, (tflops, vram))| *tflops > 989.0 || *vram > 80 << 30);
    match over {
        Some((gpu, amounts)) => Err(format!("{gpu} has given out {amounts:?}").into()),
        None if used.is_empty() || used.len() > NODES * GPUS => Err("nothing was given out".into()),
        None => Ok(()),
    }
}
