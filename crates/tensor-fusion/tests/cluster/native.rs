//! A fleet that a vendor's device plugin gives out, and programs that move from it to vGPUs and back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, PROGRAMS, SYSTEM, apply, get, kubectl, kubectl_with, list, until};
use super::pods::{self, holder, runs, told};
use super::{accounts, chart, plugin};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("native::a_service_moves_to_vgpus_replica_by_replica_and_back", a_service_moves_to_vgpus_and_back)
            .on_nodes(),
    ]
}

/// Every node's cards, as a plugin would tell of them.
fn cards() -> Result<Vec<(String, Vec<String>)>, String> {
    let mut cards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for gpu in list("gpus.tensor-fusion.ai")? {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let node = text(&gpu["status"]["nodeSelector"]["kubernetes.io/hostname"]);
        cards.entry(node).or_default().push(text(&gpu["status"]["uuid"]));
    }
    Ok(cards.into_iter().collect())
}

fn users() -> Result<Vec<String>, String> {
    let used_by = |gpu: &Value| gpu["status"]["usedBy"].as_str().unwrap_or_default().to_owned();
    Ok(list("gpus.tensor-fusion.ai")?.iter().map(used_by).collect())
}

/// What the service's replicas that are ready have: `true` for a vGPU; nothing as long as some are still to be made anew. On the
/// way, that no card is had by two.
fn replicas() -> Result<Vec<bool>, String> {
    nobody_shares_with_a_plugin()?;
    let service = get("deployment service")?;
    let (status, is) = (&service["status"], |count: &Value| *count == 2);
    if status["observedGeneration"] != service["metadata"]["generation"]
        || !is(&status["updatedReplicas"])
        || !is(&status["replicas"])
    {
        return Ok(Vec::new());
    }
    let pods = list("pods -l app=service")?;
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        runs(pod) && conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let mut have: Vec<bool> = pods
        .iter()
        .filter(ready)
        .map(|pod| pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].is_string())
        .collect();
    have.sort_unstable();
    Ok(have)
}

/// Each node has one card: no pod may have it by the plugin while another has a part of it from us.
fn nobody_shares_with_a_plugin() -> Result<(), String> {
    let mut by_node: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for pod in list("pods -A")? {
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let Some(node) = pod["spec"]["nodeName"].as_str().filter(|_| !over) else { continue };
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let native = pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"].is_string()
            && pod["metadata"]["labels"]["tensor-fusion.ai/component"] != "card-holder";
        let entry = by_node.entry(node.to_owned()).or_default();
        if native {
            entry.0.push(name);
        } else if pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].is_string() {
            entry.1.push(name);
        }
    }
    match by_node.into_iter().find(|(_, (native, ours))| !native.is_empty() && !ours.is_empty()) {
        Some((node, (native, ours))) => Err(format!("on {node} {native:?} and {ours:?} have the same card")),
        None => Ok(()),
    }
}

fn settle(what: &str, wanted: &[bool]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Shared by two is an error at any time, not only at last.
        let have = replicas()?;
        if have == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let pod = pods::with_label("default", "app=service")?;
            let holders = kubectl(&format!("get pods -n {SYSTEM} -l tensor-fusion.ai/component=card-holder -o wide"))?;
            return Err(format!("{what}: {have:?}\n{holders}\n{}", pods::everything("default", &pod)));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// So many replicas are to have a vGPU. Every replica is made anew, one after the other.
fn enable(replicas: u32) -> Result<(), String> {
    let patch = format!(
        r#"{{"spec":{{"template":{{"metadata":{{"annotations":{{"tensor-fusion.ai/enabled-replicas":"{replicas}"}}}}}}}}}}"#
    );
    kubectl_with(&["patch", "deployment", "service", "-p", &patch], "").map(drop)
}

fn a_service_moves_to_vgpus_and_back() -> Result<(), Failed> {
    chart::install("--set webhook.progressiveMigration=true")?;
    let moved = moves();
    // Later cases have neither plugins nor this setting.
    kubectl("delete deployment service --ignore-not-found --cascade=foreground")?;
    chart::install("")?;
    until("the cards are ours again", PATIENCE, || match users()? {
        users if users.iter().all(|user| user == "tensor-fusion") => Ok(()),
        users => Err(format!("{users:?}")),
    })?;
    moved
}

fn moves() -> Result<(), Failed> {
    let _plugins = plugin::start(&cards()?)?;
    until("both nodes have a card to give", PATIENCE, || {
        let nodes = list("nodes")?;
        let cards: Vec<&Value> = nodes.iter().map(|node| &node["status"]["allocatable"]["nvidia.com/gpu"]).collect();
        if cards.iter().all(|card| *card == "1") { Ok(()) } else { Err(format!("{cards:?}")) }
    })?;
    until("the cards are the plugins'", PATIENCE, || match users()? {
        users if users.iter().all(|user| user == "nvidia-device-plugin") => Ok(()),
        users => Err(format!("{users:?}")),
    })?;
    apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: service}}
spec:
  replicas: 2
  strategy: {{rollingUpdate: {{maxSurge: 0, maxUnavailable: 1}}}}
  selector: {{matchLabels: {{app: service}}}}
  template:
    metadata:
      labels: {{app: service}}
      annotations: {{tensor-fusion.ai/enabled-replicas: '0'}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {PROGRAMS}
        imagePullPolicy: Never
        command: [/bin/sh, -c, '/programs/vector_add.static-ptx && touch /tmp/right; touch /tmp/up; exec sleep 3600']
        readinessProbe: {{exec: {{command: [/bin/busybox, test, -e, /tmp/up]}}, periodSeconds: 1}}
        resources: {{limits: {{nvidia.com/gpu: '1'}}}}
"
    ))?;
    settle("both replicas have a card of the plugin's", &[false, false])?;
    let message = get("gpus.tensor-fusion.ai")?["items"][0]["status"]["message"].clone();
    assert!(message.as_str().is_some_and(|text| text.contains("has it by the node's device plugin")), "{message}");
    // A vGPU finds none, and takes none away.
    apply(&holder("waits", "default", "tensor-fusion.ai/vram-limit: 100Mi", ""))?;
    told("default", "waits", "WaitingForGPU")?;
    kubectl("delete pod waits --now")?;

    enable(1)?;
    settle("one replica has a vGPU, the other a card of the plugin's", &[false, true])?;
    enable(2)?;
    settle("both replicas have a vGPU", &[true, true])?;
    for pod in list("pods -l app=service")? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        kubectl(&format!("exec {name} -c main -- /bin/busybox test -e /tmp/right"))?;
    }
    // Nothing is left for others, neither of the cards nor for the plugin.
    apply(&holder("beside", "default", "tensor-fusion.ai/vram-limit: 100Mi, tensor-fusion.ai/qos: low", ""))?;
    told("default", "beside", "WaitingForGPU")?;
    kubectl("delete pod beside --now")?;
    accounts::balanced()?;

    enable(0)?;
    settle("both replicas are back on cards of the plugin's", &[false, false])?;
    until("nothing is held any more", PATIENCE, || {
        match list(&format!("pods -n {SYSTEM} -l tensor-fusion.ai/component=card-holder"))?.len() {
            0 => Ok(()),
            some => Err(format!("{some} pods hold cards")),
        }
    })?;
    accounts::all_free()?;
    Ok(())
}
