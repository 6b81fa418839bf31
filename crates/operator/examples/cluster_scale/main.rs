//! Measures the operator against a real API server: how fast it gives 5,000 pods their GPUs among 1,000 nodes, beside how fast
//! the stock scheduler binds as many plain pods in the same run, and how fast the webhook answers 1,000 questions a second.
//!
//! Prints a row of JSON for each. Run by `make bench`, which brings up the control plane: by hand
//! `KUBECONFIG=… cargo run --release -p operator --example cluster_scale -- target/release/tensor-fusion`. The control plane is full of
//! nodes and pods afterwards.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod pods;
mod webhook;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crd::{GPU, GPUPool, names};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use operator::webhook::certificate::SECRET;
use serde::Serialize;
use serde_json::json;

const NODES: usize = 1_000;
const GPUS: usize = 8;
const PODS: usize = 5_000;
/// Requests under way at once, while objects are made.
const AT_ONCE: usize = 32;
/// Namespace of the pods.
const PLACE: &str = "scale";
/// Longest wait for a quiet machine.
const REST: Duration = Duration::from_secs(240);
const WEBHOOK: &str = "127.0.0.1:19443";
const PROBES: &str = "127.0.0.1:19080";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A line of the table.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    reference: f64,
    /// What `ours` may be at most, or must be at least.
    bound: f64,
    at_least: bool,
}

/// An operator that ends with us.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn main() -> Result<(), Failure> {
    let program = std::env::args().nth(1).ok_or("usage: scale PROGRAM (the path of `tensor-fusion`)")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&program))
}

async fn measure(program: &str) -> Result<(), Failure> {
    let client = Client::try_default().await?;
    let start = Instant::now();
    prepare(&client).await?;
    eprintln!("{NODES} nodes of {GPUS} GPUs registered in {:.0} s", start.elapsed().as_secs_f64());

    let plain = pods::time(&client, "plain", pods::plain, pods::is_bound).await?;
    eprintln!("the stock scheduler bound {PODS} plain pods at {plain:.0} a second");
    pods::forget(&client).await?;

    let operator = start_operator(program)?;
    wait_for_operator(&client).await?;
    let ours = pods::time(&client, "vgpu", pods::asking, pods::is_allocated).await?;
    eprintln!("the operator gave {PODS} pods their GPUs at {ours:.0} a second");
    pods::check(&client).await?;
    print(&Row {
        name: "pods given their GPUs among 8,000 on 1,000 nodes, API server (reference: the stock scheduler binding plain pods)",
        unit: "pods/s",
        ours,
        reference: plain,
        bound: plain,
        at_least: true,
    })?;

    rest().await?;
    let webhook = find_webhook(&client, &operator).await?;
    let pods = pods::as_sent(&client).await?;
    let (empty, asked) = tokio::task::spawn_blocking(move || webhook.time(&pods)).await??;
    eprintln!("the webhook about a path that there is not: {empty}\nabout a pod that asks: {asked}");
    print(&Row {
        name: "webhook at 1,000 requests/s, 99th percentile from when each was due, with 1,000 nodes and 5,000 pods at rest \
               (reference: a path that it does not know)",
        unit: "ms",
        ours: asked.most.as_secs_f64() * 1e3,
        reference: empty.most.as_secs_f64() * 1e3,
        bound: 2.0,
        at_least: false,
    })?;
    drop(operator);
    Ok(())
}

fn print(row: &Row) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(row)?);
    Ok(())
}

/// Kinds, namespaces, nodes and GPUs.
async fn prepare(client: &Client) -> Result<(), Failure> {
    let apply = PatchParams::apply("scale").force();
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for kind in crd::definitions() {
        kinds.patch(&kind.name_any(), &apply, &Patch::Apply(&kind)).await?;
        let established = kube::runtime::conditions::is_crd_established();
        kube::runtime::wait::await_condition(kinds.clone(), &kind.name_any(), established).await?;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in [PLACE, names::SYSTEM_NAMESPACE] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        namespaces.patch(name, &apply, &Patch::Apply(&namespace)).await?;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), PLACE);
    while accounts.get_opt("default").await?.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pools: Api<GPUPool> = Api::all(client.clone());
    let pool = json!({
        "apiVersion": "tensor-fusion.ai/v1", "kind": "GPUPool",
        "metadata": {"name": "default", "annotations": {(names::DEFAULT_POOL): "true"}},
        "spec": {"defaultUsingLocalGPU": true, "nodeManagerConfig": {}},
    });
    pools.patch("default", &apply, &Patch::Apply(&pool)).await?;
    futures::stream::iter((0..NODES).map(Ok::<_, Failure>))
        .try_for_each_concurrent(AT_ONCE, |number| register(client, number))
        .await
}

/// One node as its kubelet and our agent would report it.
async fn register(client: &Client, number: usize) -> Result<(), Failure> {
    let (post, patch) = (PostParams::default(), PatchParams::default());
    let name = format!("node-{number:04}");
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({
        "metadata": {"name": name, "labels": {(names::HOSTNAME): name}},
        "status": {
            "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": null, "lastTransitionTime": null}],
        },
    });
    nodes.create(&post, &serde_json::from_value(node)?).await?;
    let cards: Api<GPU> = Api::all(client.clone());
    for index in 0..GPUS {
        let uuid = format!("gpu-{number:08}-0000-0000-0000-{index:012}");
        let card = json!({"metadata": {"name": uuid, "labels": {(names::POOL): "default"}}});
        cards.create(&post, &serde_json::from_value(card)?).await?;
        let amount = json!({"tflops": "989", "vram": "80Gi"});
        let status = json!({"status": {
            "phase": "Running", "vendor": "NVIDIA", "gpuModel": "H100_SXM", "uuid": uuid, "index": index, "numaNode": index / 4,
            "capacity": amount, "available": amount, "nodeSelector": {(names::HOSTNAME): name}, "message": "",
            "usedBy": "tensor-fusion",
        }});
        cards.patch_status(&uuid, &patch, &Patch::Merge(&status)).await?;
    }
    Ok(())
}

fn start_operator(program: &str) -> Result<Operator, Failure> {
    let mut command = Command::new(program);
    command.args(["operator", "--webhook", WEBHOOK, "--probes", PROBES, "--certificate-name", "127.0.0.1"]);
    command.env("TENSOR_FUSION_LOG", "warn").stdin(Stdio::null());
    Ok(Operator(command.spawn().map_err(|error| format!("`{program}` cannot be started: {error}"))?))
}

/// Waits until a pod of ours is given its GPU, so that leading and learning are not counted.
async fn wait_for_operator(client: &Client) -> Result<(), Failure> {
    let api = pods::api(client);
    api.create(&PostParams::default(), &pods::asking("first", 0)?).await?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !api.get("first-0").await.is_ok_and(|pod| pods::is_allocated(&pod)) {
        if Instant::now() > deadline {
            return Err("the operator gave the first pod nothing within two minutes".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    api.delete("first-0", &kube::api::DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

/// Waits until the control plane has nothing left to do, and with it the machine: what is still bound, written and digested
/// when all pods have their GPUs would be measured with the webhook, for they share its cores.
async fn rest() -> Result<(), Failure> {
    let start = Instant::now();
    let (mut before, mut quiet) = (idle()?, 0);
    while quiet < 3 {
        if start.elapsed() > REST {
            eprintln!("the machine did not come to rest within {} s: the webhook is measured as it is", REST.as_secs());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = idle()?;
        let (idle, all) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        quiet = if idle * 100 >= all * 90 { quiet + 1 } else { 0 };
        before = now;
    }
    eprintln!("at rest after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// How long the machine's cores were idle, and how long they were there, in ticks.
fn idle() -> Result<(u64, u64), Failure> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("/proc/stat is empty")?;
    // User, nice, system, idle, waiting for storage, interrupts (two kinds), stolen; guests are counted under user already.
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().sum()))
}

async fn find_webhook(client: &Client, operator: &Operator) -> Result<webhook::Webhook, Failure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    let secret = secrets.get(SECRET).await?;
    let authorities = secret.data.as_ref().and_then(|data| data.get("ca.crt")).ok_or("the Secret has no ca.crt")?;
    Ok(webhook::Webhook { address: WEBHOOK.parse()?, authorities: authorities.0.clone(), process: operator.0.id() })
}

/// The outcomes of as many calls, some of them at once; the first error ends it.
async fn many<F: Future<Output = Result<(), Failure>>>(calls: impl Iterator<Item = F>) -> Result<(), Failure> {
    futures::stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await
}
