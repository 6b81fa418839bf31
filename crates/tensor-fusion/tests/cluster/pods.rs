//! Waiting for pods, with everything that Kubernetes knows about one in the error when it does not come.

use serde_json::Value;

use super::kubernetes::{PATIENCE, PROGRAMS, get, kubectl, list, until};
use super::operators;

/// A pod that only holds what it asked for: annotations beyond the wish, and fields of its spec, as they are written in YAML.
pub(crate) fn holder(name: &str, namespace: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{crowd: {name}, tensor-fusion.ai/enabled: 'true'}}
  annotations: {{{annotations}}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
  containers: [{{name: main, image: {PROGRAMS}, imagePullPolicy: Never, command: [/bin/busybox, sleep, '3600']}}]
---
"
    )
}

/// Names of the pods with a label that are as described.
pub(crate) fn which(selector: &str, so: impl Fn(&Value) -> bool) -> Result<Vec<String>, String> {
    let pods = list(&format!("pods {selector}"))?;
    let names = pods.iter().filter(|pod| so(pod)).filter_map(|pod| pod["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Whether a pod runs.
pub(crate) fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// How often a pod's first container was started again.
pub(crate) fn restarts(namespace: &str, name: &str) -> Result<Value, String> {
    Ok(get(&format!("pod {name} -n {namespace}"))?["status"]["containerStatuses"][0]["restartCount"].clone())
}

/// Whether a pod has a node, so was let through the gate.
pub(crate) fn bound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_string()
}

/// Waits until an event of this reason tells something about a pod, and gives the text.
pub(crate) fn told(namespace: &str, name: &str, reason: &str) -> Result<String, String> {
    let waited = until(&format!("an event {reason} on pod {name}"), PATIENCE, || {
        let events = list(&format!("events -n {namespace} --field-selector involvedObject.name={name}"))?;
        let found = events.iter().rev().find(|event| event["reason"] == reason);
        let text = found.and_then(|event| event["message"].as_str()).map(str::to_owned);
        text.ok_or_else(|| events.iter().map(|event| format!("{}: {}; ", event["reason"], event["message"])).collect())
    });
    waited.map_err(|error| format!("{error}\n{}", everything(namespace, name)))
}

/// Waits until a pod runs and is ready.
pub(crate) fn running(namespace: &str, name: &str) -> Result<Value, String> {
    wait(namespace, name, "is ready", |pod| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

/// Waits until a pod has ended well, and gives the log of its first container.
pub(crate) fn finished(namespace: &str, name: &str) -> Result<String, String> {
    wait(namespace, name, "has succeeded", |pod| pod["status"]["phase"] == "Succeeded")?;
    kubectl(&format!("logs -n {namespace} {name}"))
}

/// Waits until a pod is as described.
pub(crate) fn wait(namespace: &str, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let looked = until(&format!("pod {namespace}/{name} {what}"), PATIENCE, || {
        let pod = get(&format!("pod -n {namespace} {name}"))?;
        if done(&pod) {
            Ok(Some(pod))
        } else if pod["status"]["phase"] == "Failed" {
            Ok(None)
        } else {
            Err(short(&pod))
        }
    });
    match looked {
        Ok(Some(pod)) => Ok(pod),
        Ok(None) => Err(format!("pod {namespace}/{name} has failed\n{}", everything(namespace, name))),
        Err(error) => Err(format!("{error}\n{}", everything(namespace, name))),
    }
}

/// The one pod with a label.
pub(crate) fn with_label(namespace: &str, label: &str) -> Result<String, String> {
    until(&format!("there is a pod {label}"), PATIENCE, || {
        let pods = get(&format!("pods -n {namespace} -l {label}"))?;
        let name = pods["items"][0]["metadata"]["name"].as_str();
        name.map(str::to_owned).ok_or_else(|| "none".to_owned())
    })
}

fn short(pod: &Value) -> String {
    format!("{} {}", pod["status"]["phase"], pod["status"]["conditions"])
}

/// Description, events and logs.
pub(crate) fn everything(namespace: &str, name: &str) -> String {
    let words = [
        format!("describe pod -n {namespace} {name}"),
        format!("logs -n {namespace} {name} --all-containers --prefix --tail 30"),
        "logs -n tensor-fusion-system -l app.kubernetes.io/component=operator --prefix --tail 40".to_owned(),
        "logs -n tensor-fusion-system -l app.kubernetes.io/component=hypervisor --prefix --tail 40".to_owned(),
    ];
    let told =
        words.iter().map(|words| kubectl(words).unwrap_or_else(|error| error)).collect::<Vec<_>>().join("\n---\n");
    told + &operators::logs()
}
