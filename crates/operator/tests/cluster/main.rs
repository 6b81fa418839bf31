//! The operator's loops against an API server in memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod fake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use operator::admission::{Decision, decide_as};
use operator::allocator::Allocator;
use operator::webhook::Webhook;
use operator::{Settings, remote};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use fake::Cluster;

/// Adds a node with so many cards of 8 GiB.
fn node(cluster: &Cluster, name: &str, cards: u32) {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    cluster.add("/api/v1/nodes", json!({"metadata": {"name": name}, "status": {"conditions": ready}}));
    for index in 0..cards {
        let amount = json!({"tflops": "20", "vram": "8Gi"});
        let uuid = format!("gpu-{name}-{index}");
        let status = json!({"phase": "Running", "capacity": amount, "available": amount, "uuid": uuid, "index": index,
            "gpuModel": "SOFT", "vendor": "TensorFusion", "message": "", "runningApps": [], "nodeSelector": {"kubernetes.io/hostname": name}});
        cluster
            .add("/apis/tensor-fusion.ai/v1/gpus", json!({"metadata": {"name": uuid}, "spec": {}, "status": status}));
    }
}

/// Adds a pod as the webhook would leave it.
fn pod(cluster: &Cluster, name: &str, annotations: Value) {
    pod_of(cluster, "job", name, annotations);
}

/// The same, of an owner.
fn pod_of(cluster: &Cluster, owner: &str, name: &str, annotations: Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "labels": {"tensor-fusion.ai/enabled": "true"}, "annotations": annotations,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": owner, "uid": owner, "controller": true}]},
        "spec": {"containers": [{"name": "main"}]},
    });
    // Named after the pod, so that no two clients have the same Secret.
    let unique: String = name.chars().filter(char::is_ascii_alphanumeric).chain("00000000".chars()).take(8).collect();
    let decision = decide_as(&pod, "team", &Settings::default(), 0, &unique).unwrap();
    assert!(matches!(decision, Decision::Changed { .. }), "{decision:?}");
    cluster.add("/api/v1/namespaces/team/pods", decision.after(&pod).unwrap());
}

fn asks(cluster: &Cluster, name: &str, vram: &str, qos: &str) {
    let annotations =
        json!({"tensor-fusion.ai/vram-limit": vram, "tensor-fusion.ai/tflops-limit": "1", "tensor-fusion.ai/qos": qos});
    pod(cluster, name, annotations);
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/team/pods/{name}")
}

/// The GPUs that a pod has been given.
fn gpus(cluster: &Cluster, name: &str) -> Option<String> {
    let pod = cluster.get(&path(name))?;
    let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    let gpus = pod["metadata"]["annotations"]["tensor-fusion.ai/gpu-ids"].as_str().map(str::to_owned);
    gpus.filter(|_| !gated)
}

async fn given(cluster: &Cluster, name: &str) {
    cluster.until(&format!("{name} gets GPUs"), |cluster| gpus(cluster, name).is_some()).await;
}

fn allocate(cluster: &Cluster) -> JoinHandle<()> {
    let webhook = Arc::new(Webhook::default());
    tokio::spawn(Allocator::run(cluster.client.clone(), "system".to_owned(), webhook))
}

#[tokio::test]
async fn a_pod_of_a_higher_class_gets_the_place_of_a_lower_one_and_nobody_takes_it_meanwhile() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 1);
    let _loop = allocate(&cluster);
    asks(&cluster, "low", "6Gi", "low");
    given(&cluster, "low").await;
    asks(&cluster, "high", "6Gi", "high");
    cluster.until("the low one is evicted", |cluster| cluster.store().evicted == ["low"]).await;
    asks(&cluster, "thief", "2Gi", "medium");
    cluster.until("the thief waits", |cluster| !cluster.events("thief", "WaitingForGPU").is_empty()).await;
    assert!(gpus(&cluster, "thief").is_none() && gpus(&cluster, "high").is_none());
    cluster.remove(&path("low"));
    given(&cluster, "high").await;
    given(&cluster, "thief").await;
    assert_eq!(cluster.events("high", "Preempting"), ["evicting team/low (low) to make room on node a"]);
    let told = cluster.events("low", "Preempted");
    assert!(told.len() == 1 && told[0].contains("evicted for team/high, which is of class high"), "{told:?}");
    assert_eq!(cluster.store().evicted.len(), 1);
}

#[tokio::test]
async fn within_a_full_quota_the_important_take_the_place_of_others_of_their_namespace() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 2);
    let spec = json!({"total": {"maxWorkers": 2}});
    cluster.add(
        "/apis/tensor-fusion.ai/v1/namespaces/team/gpuresourcequotas",
        json!({"metadata": {"name": "two", "namespace": "team"}, "spec": spec}),
    );
    let first = allocate(&cluster);
    for name in ["low-0", "low-1"] {
        asks(&cluster, name, "2Gi", "low");
        given(&cluster, name).await;
    }
    asks(&cluster, "high", "2Gi", "high");
    cluster.until("one is evicted", |cluster| cluster.store().evicted.len() == 1).await;
    let victim = cluster.store().evicted[0].clone();
    // There is room on the card for the victim's replacement, and an operator that starts anew lets it wait all the same.
    first.abort();
    let _second = allocate(&cluster);
    asks(&cluster, "replacement", "2Gi", "low");
    cluster.until("it waits", |cluster| !cluster.events("replacement", "WaitingForQuota").is_empty()).await;
    cluster.remove(&path(&victim));
    given(&cluster, "high").await;
    assert_eq!((gpus(&cluster, "replacement"), cluster.store().evicted.len()), (None, 1));
    asks(&cluster, "equal", "2Gi", "low");
    cluster.until("it waits", |cluster| !cluster.events("equal", "WaitingForQuota").is_empty()).await;
    let told = cluster.events("equal", "WaitingForQuota").join(" ");
    assert!(told.contains("allows 2 workers, and has 2"), "{told}");
}

#[tokio::test]
async fn a_budget_chooses_other_victims_or_the_pod_waits_and_says_so() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 2);
    let _loop = allocate(&cluster);
    for name in ["low-0", "low-1"] {
        asks(&cluster, name, "6Gi", "low");
        given(&cluster, name).await;
    }
    cluster.store().refused.insert("low-0".to_owned());
    asks(&cluster, "high", "6Gi", "high");
    cluster.until("the other one goes", |cluster| cluster.store().evicted == ["low-1"]).await;
    cluster.remove(&path("low-1"));
    given(&cluster, "high").await;
    asks(&cluster, "second", "6Gi", "high");
    let says = |cluster: &Cluster| {
        cluster.events("second", "WaitingForGPU").iter().any(|text| text.contains("protected from eviction"))
            || cluster.events("second", "WaitingForGPU").iter().any(|text| text.contains("may not be evicted"))
    };
    cluster.until("it says why it waits", says).await;
    assert_eq!(cluster.store().evicted, ["low-1"]);
}

#[tokio::test]
async fn of_several_victims_none_goes_when_one_may_not() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 1);
    let _loop = allocate(&cluster);
    for name in ["low-0", "low-1"] {
        asks(&cluster, name, "4Gi", "low");
        given(&cluster, name).await;
    }
    cluster.store().refused.insert("low-1".to_owned());
    asks(&cluster, "high", "8Gi", "high");
    cluster.until("both are asked about", |cluster| cluster.store().asked.len() >= 2).await;
    let says = |cluster: &Cluster| !cluster.events("high", "WaitingForGPU").is_empty();
    cluster.until("it waits", says).await;
    assert_eq!(cluster.store().evicted, Vec::<String>::new());
}

#[tokio::test]
async fn an_operator_that_starts_in_between_evicts_nobody_else() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 2);
    let first = allocate(&cluster);
    for name in ["low-0", "low-1"] {
        asks(&cluster, name, "6Gi", "low");
        given(&cluster, name).await;
    }
    asks(&cluster, "high", "6Gi", "high");
    cluster.until("one is evicted", |cluster| cluster.store().evicted.len() == 1).await;
    first.abort();
    let _second = allocate(&cluster);
    // Until the second has looked at everything: it tells the one that waits why.
    asks(&cluster, "late", "8Gi", "low");
    cluster.until("the second decides", |cluster| !cluster.events("late", "WaitingForGPU").is_empty()).await;
    let victim = cluster.store().evicted[0].clone();
    cluster.remove(&path(&victim));
    given(&cluster, "high").await;
    assert_eq!(cluster.store().evicted, [victim]);
}

#[tokio::test]
async fn a_gang_that_is_not_complete_in_time_is_told_so() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 2);
    let _loop = allocate(&cluster);
    let member = json!({"tensor-fusion.ai/vram-limit": "6Gi", "tensor-fusion.ai/gang-enabled": "true",
        "tensor-fusion.ai/gang-min-members": "2", "tensor-fusion.ai/gang-timeout": "1s"});
    pod(&cluster, "g0", member.clone());
    cluster.until("it is told", |cluster| !cluster.events("g0", "GangTimedOut").is_empty()).await;
    assert!(gpus(&cluster, "g0").is_none());
    // It begins anew, and then it is complete.
    pod(&cluster, "g1", member);
    given(&cluster, "g0").await;
    given(&cluster, "g1").await;
}

#[tokio::test]
async fn a_stream_of_small_pods_starves_no_gang_and_two_gangs_do_not_lock_each_other_out() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 2);
    let _loop = allocate(&cluster);
    let small = |number: u32| format!("small-{number}");
    for number in 0..2 {
        asks(&cluster, &small(number), "5Gi", "medium");
        given(&cluster, &small(number)).await;
    }
    let member = json!({"tensor-fusion.ai/vram-limit": "5Gi", "tensor-fusion.ai/qos": "medium",
        "tensor-fusion.ai/gang-enabled": "true", "tensor-fusion.ai/gang-min-members": "2"});
    for owner in ["first", "second"] {
        for number in 0..2 {
            pod_of(&cluster, owner, &format!("{owner}-{number}"), member.clone());
        }
    }
    // There is always a small one that waits, and it gets what the one before it leaves: never are both cards free.
    let mut number = 2;
    let (mut there, started, mut last) = (vec![small(0), small(1)], Instant::now(), Instant::now());
    for owner in ["first", "second"] {
        let [one, other] = [0, 1].map(|number| format!("{owner}-{number}"));
        let has = |cluster: &Cluster| [&one, &other].map(|name| gpus(cluster, name).is_some());
        asks(&cluster, &small(number), "5Gi", "medium");
        while has(&cluster) != [true; 2] {
            assert!(started.elapsed() < Duration::from_secs(120), "{owner} starves while {number} small ones pass");
            let waiting = small(number);
            if gpus(&cluster, &waiting).is_some() {
                there.push(waiting);
                number += 1;
                asks(&cluster, &small(number), "5Gi", "medium");
            }
            // One goes when its successor is in, or else when it is done.
            if there.len() == 2 || (there.len() == 1 && last.elapsed() > Duration::from_secs(3)) {
                cluster.remove(&path(&there.remove(0)));
                last = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(there.is_empty(), "{there:?} are where the gang is");
        cluster.remove(&path(&small(number)));
        number += 1;
        cluster.remove(&path(&one));
        cluster.remove(&path(&other));
    }
    assert!(number > 10, "{number} small ones passed before");
}

const CARDS: &str = "/apis/tensor-fusion.ai/v1/gpus";
const SYSTEM: &str = "/api/v1/namespaces/system/pods";

/// A card of 8 GiB of node `a` that a device plugin gives out, or a pod holds for us.
fn foreign_card(held_by: Option<&str>) -> Value {
    let amount = json!({"tflops": "20", "vram": "8Gi"});
    let used_by = if held_by.is_some() { "tensor-fusion" } else { "nvidia-device-plugin" };
    // A merge takes away what is null.
    let annotations = match held_by {
        Some(pod) => json!({"tensor-fusion.ai/held-by": pod, "tensor-fusion.ai/device-plugin": null}),
        None => json!({"tensor-fusion.ai/device-plugin": "whole"}),
    };
    json!({"metadata": {"name": "gpu-a-0", "annotations": annotations}, "spec": {}, "status": {"phase": "Running",
        "capacity": amount, "available": amount, "uuid": "gpu-a-0", "index": 0, "gpuModel": "SOFT", "vendor": "TensorFusion",
        "message": "", "runningApps": [], "nodeSelector": {"kubernetes.io/hostname": "a"}, "usedBy": used_by}})
}

/// The scheduler and the kubelet give a holder the card, and the agent tells of it.
fn hold(cluster: &Cluster, holder: &str) {
    cluster.change(&format!("{SYSTEM}/{holder}"), &json!({"spec": {"nodeName": "a"}}));
    cluster.change(&format!("{CARDS}/gpu-a-0"), &foreign_card(Some(holder)));
}

/// The pod that is to hold a card for a pod.
fn holder_for(cluster: &Cluster, name: &str) -> String {
    let uid = cluster.get(&path(name)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    format!("tensor-fusion-card-{uid}")
}

#[tokio::test]
async fn a_card_of_a_device_plugin_is_asked_for_used_and_given_back() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 0);
    cluster.add(CARDS, foreign_card(None));
    let _loop = allocate(&cluster);
    asks(&cluster, "one", "6Gi", "low");
    let holder = holder_for(&cluster, "one");
    let path_of_holder = format!("{SYSTEM}/{holder}");
    cluster.until("a holder asks for the card", |cluster| cluster.get(&path_of_holder).is_some()).await;
    let pod = cluster.get(&path_of_holder).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    hold(&cluster, &holder);
    given(&cluster, "one").await;
    // As long as somebody has a part of it, it stays.
    asks(&cluster, "two", "2Gi", "low");
    given(&cluster, "two").await;
    cluster.remove(&path("one"));
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert!(cluster.get(&path_of_holder).is_some());
    cluster.remove(&path("two"));
    cluster.until("it is given back", |cluster| cluster.get(&path_of_holder).is_none()).await;
    // What the agent has not seen yet is not used.
    asks(&cluster, "three", "2Gi", "low");
    cluster.until("it waits", |cluster| !cluster.events("three", "WaitingForGPU").is_empty()).await;
    assert!(gpus(&cluster, "three").is_none());
}

#[tokio::test]
async fn nobody_is_evicted_before_a_device_plugin_was_asked() {
    let cluster = Cluster::start().await;
    node(&cluster, "b", 1);
    node(&cluster, "a", 0);
    cluster.add(CARDS, foreign_card(None));
    let _loop = allocate(&cluster);
    asks(&cluster, "low", "6Gi", "low");
    given(&cluster, "low").await;
    asks(&cluster, "high", "6Gi", "high");
    let holder = holder_for(&cluster, "high");
    cluster.until("a card is asked for", |cluster| cluster.get(&format!("{SYSTEM}/{holder}")).is_some()).await;
    hold(&cluster, &holder);
    given(&cluster, "high").await;
    assert_eq!((gpus(&cluster, "high").as_deref(), cluster.store().evicted.len()), (Some("gpu-a-0"), 0));
    // Where none is to be had, the class decides.
    asks(&cluster, "next", "6Gi", "high");
    cluster.until("the low one goes", |cluster| cluster.store().evicted == ["low"]).await;
    cluster.remove(&path("low"));
    given(&cluster, "next").await;
}

#[tokio::test]
async fn models_of_the_config_map_say_what_percents_are() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 1);
    cluster.change(
        "/apis/tensor-fusion.ai/v1/gpus/gpu-a-0",
        &json!({"status": {"gpuModel": "X1", "capacity": {"tflops": "0"}}}),
    );
    let entry = "- {model: X1, fullModelName: Example X1, vendor: Example, fp16TFlops: 50}";
    let map = json!({"metadata": {"name": "tensor-fusion-sys-public-gpu-info"}, "data": {"gpu-info.yaml": entry}});
    cluster.add("/api/v1/namespaces/system/configmaps", map);
    let _loop = allocate(&cluster);
    let percent = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/compute-percent-limit": "10"});
    pod(&cluster, "p", percent.clone());
    given(&cluster, "p").await;
    let tflops = |cluster: &Cluster, name: &str| {
        let pod = cluster.get(&path(name)).unwrap();
        let text = pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&text).unwrap()["containers"]["main"][0]["tflops"].clone()
    };
    assert_eq!(tflops(&cluster, "p").as_f64(), Some(5.0));
    let map = "/api/v1/namespaces/system/configmaps/tensor-fusion-sys-public-gpu-info";
    cluster.change(map, &json!({"data": {"gpu-info.yaml": entry.replace("50", "none")}}));
    let name = "tensor-fusion-sys-public-gpu-info";
    cluster.until("it complains", |cluster| !cluster.events(name, "SettingsUnreadable").is_empty()).await;
    pod(&cluster, "q", percent);
    given(&cluster, "q").await;
    assert_eq!(tflops(&cluster, "q").as_f64(), Some(5.0), "what could be read last stays");
}

/// The worker's kubelet says that it serves.
fn serves(cluster: &Cluster, name: &str, ip: &str) {
    cluster.change(&path(name), &json!({"status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}}));
}

fn secret(cluster: &Cluster, name: &str, key: &str) -> String {
    let secret = cluster.get(&format!("/api/v1/namespaces/team/secrets/{name}")).unwrap();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(secret["data"][key].clone()).unwrap();
    String::from_utf8(bytes.0).unwrap()
}

fn is_free(cluster: &Cluster, name: &str) -> bool {
    let pod = cluster.get(&path(name)).unwrap();
    pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty)
}

async fn remotely(cluster: &Cluster) -> (JoinHandle<()>, JoinHandle<()>) {
    let webhook = Arc::new(Webhook::default());
    (allocate(cluster), tokio::spawn(remote::run(cluster.client.clone(), webhook)))
}

#[tokio::test]
async fn clients_of_a_workload_share_its_workers_evenly() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 1);
    let _loops = remotely(&cluster).await;
    let client = json!({"tensor-fusion.ai/selected-workload": "shared"});
    pod(&cluster, "client-0", client.clone());
    let says = |cluster: &Cluster| {
        cluster.events("client-0", "WaitingForWorker").iter().any(|text| text.contains("no TensorFusionWorkload"))
    };
    cluster.until("it says that there is none", says).await;
    let amounts = json!({"tflops": "1", "vram": "1Gi"});
    let spec = json!({"replicas": 2, "resources": {"requests": amounts, "limits": amounts}});
    let workloads = "/apis/tensor-fusion.ai/v1/namespaces/team/tensorfusionworkloads";
    cluster.add(workloads, json!({"apiVersion": "tensor-fusion.ai/v1", "kind": "TensorFusionWorkload", "metadata": {"name": "shared"}, "spec": spec}));
    for (number, name) in ["shared-tf-worker-0", "shared-tf-worker-1"].into_iter().enumerate() {
        given(&cluster, name).await;
        serves(&cluster, name, &format!("10.0.0.{number}"));
    }
    cluster.until("the client starts", |cluster| is_free(cluster, "client-0")).await;
    pod(&cluster, "client-1", client.clone());
    cluster.until("so does the second", |cluster| is_free(cluster, "client-1")).await;
    let url = |name: &str| secret(&cluster, name, "url");
    let mut urls = [url("tensor-fusion-client00"), url("tensor-fusion-client10")];
    urls.sort();
    assert_eq!(urls, ["tcp://10.0.0.0:8000/", "tcp://10.0.0.1:8000/"]);
    let token = secret(&cluster, "shared-tf-workers", "token");
    assert_eq!(token.len(), 64);
    let token = types::Token::new(&token).unwrap();
    let own = ["tensor-fusion-client00", "tensor-fusion-client10"].map(|name| secret(&cluster, name, "token"));
    assert!(own[0] != own[1] && own.iter().all(|own| token.admits(own) && !token.matches(own)), "each has its own");
    let ready = |cluster: &Cluster| {
        let status = cluster.get(&format!("{workloads}/shared")).unwrap()["status"].clone();
        status["readyWorkers"] == 2 && status["workerCount"] == 2 && status["phase"] == "Running"
    };
    cluster.until("its status tells", ready).await;
    // A worker is lost: its client gets the other's address, and a successor is made.
    let lost = if url("tensor-fusion-client00") == "tcp://10.0.0.0:8000/" { 0 } else { 1 };
    cluster.remove(&path(&format!("shared-tf-worker-{lost}")));
    let moved = |cluster: &Cluster| {
        secret(cluster, "tensor-fusion-client00", "url") == format!("tcp://10.0.0.{}:8000/", 1 - lost)
    };
    cluster.until("its client uses the other", moved).await;
    given(&cluster, &format!("shared-tf-worker-{lost}")).await;
    cluster.change(&format!("{workloads}/shared"), &json!({"spec": {"replicas": 0}, "metadata": {"generation": 2}}));
    let gone = |cluster: &Cluster| {
        !cluster
            .all("/api/v1/namespaces/team/pods")
            .iter()
            .any(|pod| pod["metadata"]["name"].as_str().unwrap().contains("worker"))
    };
    cluster.until("the workers go", gone).await;
}

#[tokio::test]
async fn a_client_of_its_own_worker_gets_its_address_and_not_that_of_a_pretender() {
    let cluster = Cluster::start().await;
    node(&cluster, "a", 1);
    let _loops = remotely(&cluster).await;
    let remote = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/is-local-gpu": "false"});
    pod(&cluster, "client-7", remote);
    let uid = cluster.get(&path("client-7")).unwrap()["metadata"]["uid"].clone();
    let ready = json!({"podIP": "6.6.6.6", "conditions": [{"type": "Ready", "status": "True"}]});
    let metadata = json!({"name": "tensor-fusion-client70-worker", "labels": {"tensor-fusion.ai/enabled": "true"},
        "annotations": {"tensor-fusion.ai/client": uid},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "client-7", "uid": uid, "controller": true}]});
    cluster.add(
        "/api/v1/namespaces/elsewhere/pods",
        json!({"metadata": metadata, "spec": {"containers": []}, "status": ready}),
    );
    given(&cluster, "tensor-fusion-client70-worker").await;
    assert!(!is_free(&cluster, "client-7"));
    serves(&cluster, "tensor-fusion-client70-worker", "10.0.0.7");
    cluster.until("the client starts", |cluster| is_free(cluster, "client-7")).await;
    assert_eq!(secret(&cluster, "tensor-fusion-client70", "url"), "tcp://10.0.0.7:8000/");
    let connections = cluster.all("/apis/tensor-fusion.ai/v1/tensorfusionconnections");
    assert_eq!(connections[0]["status"]["workerName"], "tensor-fusion-client70-worker");
}
