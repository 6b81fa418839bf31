//! Parts that die while pods ask: nothing is promised twice, nothing stays taken, and those who wait get their GPU.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, SYSTEM, apply, create, get, kubectl, list, switch, until};
use super::pods::{self, holder};
use super::workloads::{busy, computes, computes_still, deployment, job, prints, wish};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("losses::pods_wait_for_an_operator_that_was_killed", pods_wait_for_an_operator_that_was_killed).on_nodes(),
        case("losses::without_a_webhook_only_those_that_ask_wait", without_a_webhook_only_those_that_ask_wait)
            .on_nodes(),
        case("losses::an_agent_that_dies_leaves_programs_alone", an_agent_that_dies_leaves_programs_alone).on_nodes(),
        case("losses::the_api_server_restarts", || restarted("kube-apiserver", "after-api-server")).on_nodes(),
        case("losses::a_lost_node_is_replaced_by_the_other", a_lost_node_is_replaced_by_the_other).on_nodes(),
        case("losses::a_kubelet_restarts", || restarted("node-1-kubelet", "after-kubelet")).on_nodes(),
    ]
}

fn a_lost_node_is_replaced_by_the_other() -> Result<(), Failed> {
    let work = computes("/bin/sh", "/programs/tenant.static-ptx 1073741824 3");
    let manifest = deployment("moving", 1, 2, "1Gi", &work);
    apply(&manifest)?;
    kubectl("rollout status deployment/moving --timeout=120s")?;
    let places = || -> Result<Vec<String>, String> {
        let pods = get("pods -l app=moving")?;
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(pods
            .iter()
            .filter(|pod| ready(pod))
            .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned))
            .collect())
    };
    let lost = places()?.pop().ok_or("no pod is ready")?;
    switch("stop", &lost)?;
    let moved = until("the pod computes on the other node", Duration::from_secs(180), || match places()?.as_slice() {
        [place] if *place != lost => Ok(()),
        other => Err(format!("ready on {other:?}, and {lost} is lost")),
    });
    switch("restart", &lost)?;
    moved?;
    until("the node is back", PATIENCE, || {
        let nodes =
            kubectl("get nodes -o jsonpath={range.items[*]}{.status.conditions[?(@.type=='Ready')].status}{end}")?;
        if nodes == "TrueTrue" { Ok(()) } else { Err(nodes) }
    })?;
    kubectl("delete deployment moving --cascade=foreground")?;
    Ok(())
}

const TENANT: &str = "[/programs/tenant.static-ptx, '1073741824', '11']";

fn pods_wait_for_an_operator_that_was_killed() -> Result<(), Failed> {
    kubectl(&format!("delete pods -n {SYSTEM} -l app.kubernetes.io/component=operator --force --grace-period=0"))?;
    // The Job is made at once; its pod is refused until a webhook answers, and the Job's controller tries again.
    apply(&job("after-operator", &wish(""), TENANT, "{}"))?;
    prints("after-operator", "tenant")?;
    kubectl("delete job after-operator")?;
    Ok(())
}

fn without_a_webhook_only_those_that_ask_wait() -> Result<(), Failed> {
    let scale = |replicas: u32| {
        kubectl(&format!("scale deployment -n {SYSTEM} tensor-fusion-operator --replicas={replicas}"))?;
        until("so many operators are there", PATIENCE, || {
            match list(&format!("pods -n {SYSTEM} -l app.kubernetes.io/component=operator"))?.len() {
                there if there == replicas as usize => Ok(()),
                there => Err(format!("{there} are there")),
            }
        })
    };
    scale(0)?;
    let meanwhile = || -> Result<(), String> {
        let plain = holder("plain", "default", "", "").replace(", tensor-fusion.ai/enabled: 'true'", "");
        create(&plain)?;
        pods::running("default", "plain")?;
        match create(&holder("asks", "default", "tensor-fusion.ai/vram-limit: 100Mi", "")) {
            Err(error) if error.contains("failed calling webhook") => Ok(()),
            other => Err(format!("a pod that asks was not refused for want of a webhook: {other:?}")),
        }
    };
    let went = meanwhile();
    scale(2)?;
    kubectl(&format!("rollout status -n {SYSTEM} deployment/tensor-fusion-operator --timeout=120s"))?;
    went?;
    create(&holder("asks", "default", "tensor-fusion.ai/vram-limit: 100Mi", ""))?;
    pods::running("default", "asks")?;
    Ok(())
}

fn an_agent_that_dies_leaves_programs_alone() -> Result<(), Failed> {
    let pod = busy("agentless", &wish(""))?;
    let served = get(&format!("pod {pod}"))?;
    let uid = served["metadata"]["uid"].as_str().unwrap_or_default();
    let node = served["spec"]["nodeName"].as_str().unwrap_or_default();
    let of =
        |part: &str| format!("-n {SYSTEM} -l app.kubernetes.io/component={part} --field-selector spec.nodeName={node}");
    kubectl(&format!("delete pods {} --force --grace-period=0", of("hypervisor")))?;
    computes_still(&pod)?;
    let keeper = kubectl(&format!("get pods {} -o name", of("keeper")))?;
    let said = |what: &str| -> Result<String, String> {
        let log = kubectl(&format!("logs -n {SYSTEM} {} --tail=-1", keeper.trim()))?;
        log.lines().rfind(|line| line.contains(what)).map(str::to_owned).ok_or_else(|| format!("nothing of `{what}`"))
    };
    let taken_up = until("the next agent takes up the worker", PATIENCE, || {
        said("taken up again").and_then(|line| if line.contains(uid) { Ok(line) } else { Err(line) })
    })?;
    let worker = taken_up.split_whitespace().find(|word| word.starts_with("pid=")).ok_or("no process is named")?;
    computes_still(&pod)?;
    assert_eq!(pods::restarts("default", &pod)?, 0);
    kubectl("delete job agentless")?;
    until("the next agent ends it when its pod is gone", PATIENCE, || said(&format!("a worker has ended {worker} ")))?;
    Ok(())
}

fn restarted(part: &str, name: &str) -> Result<(), Failed> {
    switch("restart", part)?;
    apply(&job(name, &wish(""), TENANT, "{}"))?;
    prints(name, "tenant")?;
    kubectl(&format!("delete job {name}"))?;
    Ok(())
}
