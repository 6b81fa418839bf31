//! Pods that are broken, or mean harm: each is refused in words that name what is wrong, and nothing else notices.

use libtest_mimic::Failed;

use super::case::{Case, OTHER, case};
use super::kubernetes::{PATIENCE, PROGRAMS, SYSTEM, apply, create, get, kubectl, until};
use super::pods::{bound, everything, holder, told};
use super::workloads::{busy, computes_still, wish};
use super::{accounts, operators, pods};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("hostile::a_wish_that_cannot_be_is_refused_by_name", a_wish_that_cannot_be_is_refused_by_name),
        case("hostile::nobody_writes_an_allocation_into_a_new_pod", nobody_writes_an_allocation_into_a_new_pod),
        case("hostile::what_a_pod_was_given_is_not_changed", what_a_pod_was_given_is_not_changed),
        case("hostile::another_namespaces_connection_is_out_of_reach", another_namespaces_connection_is_out_of_reach),
        case("hostile::another_pods_token_opens_nothing", another_pods_token_opens_nothing).on_nodes(),
        case(
            "hostile::without_a_webhook_only_those_who_ask_are_refused",
            without_a_webhook_only_those_who_ask_are_refused,
        )
        .with_own_operators(),
    ]
}

const LITTLE: &str = "tensor-fusion.ai/vram-limit: 1Gi, tensor-fusion.ai/tflops-limit: '1'";

/// Somebody else works all the while.
fn beside<T>(hostile: impl FnOnce() -> Result<T, String>) -> Result<T, Failed> {
    create(&holder("bystander", "default", LITTLE, ""))?;
    let before = pods::running("default", "bystander")?;
    let outcome = hostile()?;
    let after = get("pod bystander")?;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(before["status"]["containerStatuses"], after["status"]["containerStatuses"], "{after}");
    create(&holder("newcomer", "default", LITTLE, ""))?;
    pods::running("default", "newcomer")?;
    accounts::balanced()?;
    Ok(outcome)
}

/// What is said to who makes this pod.
fn refusal(manifest: &str) -> Result<String, String> {
    // Not `apply`, which writes the whole manifest into an annotation.
    let error =
        create(manifest).err().ok_or_else(|| format!("this was taken: {}", manifest.get(..600).unwrap_or(manifest)))?;
    if error.len() < 3000 { Ok(error) } else { Err(format!("the refusal has {} characters", error.len())) }
}

fn a_wish_that_cannot_be_is_refused_by_name() -> Result<(), Failed> {
    let huge = "9".repeat(100_000);
    let wishes = [
        ("vram-limit", "lots"),
        ("vram-limit", "-1Gi"),
        ("tflops-limit", "NaN"),
        ("tflops-limit", "-3"),
        ("tflops-limit", "Infinity"),
        ("tflops-limit", huge.as_str()),
        ("gpupool", "no-such-pool"),
        ("gpupool", huge.as_str()),
        ("workload-profile", "no-such-profile"),
        ("gpu-count", "0"),
        ("gpu-count", "4000000000"),
        ("isolation", "perfect"),
        ("qos", "royal"),
        ("gang-enabled", "true"),
        ("enabled-replicas", "-1"),
    ];
    beside(|| {
        for (key, value) in wishes {
            let pod = holder(
                "wrong",
                "default",
                &format!("tensor-fusion.ai/vram-request: 1Mi, tensor-fusion.ai/{key}: '{value}'"),
                "",
            );
            let error = refusal(&pod)?;
            if !error.contains(&format!("tensor-fusion.ai/{key}")) {
                return Err(format!("{key}={}: {error}", value.get(..20).unwrap_or(value)));
            }
        }
        Ok(())
    })
}

fn nobody_writes_an_allocation_into_a_new_pod() -> Result<(), Failed> {
    beside(|| {
        for (key, value) in [
            (
                "allocation",
                r#"{"node":"node-1","containers":{"main":[{"gpu":"gpu-1","tflops":20,"vram":8589934592}]}}"#,
            ),
            ("gpu-ids", "gpu-1"),
            ("container-gpus", r#"{"main":["gpu-1"]}"#),
            ("effective-hard-sm-percent", "100"),
        ] {
            let error =
                refusal(&holder("forged", "default", &format!("{LITTLE}, tensor-fusion.ai/{key}: '{value}'"), ""))?;
            if !error.contains(&format!("tensor-fusion.ai/{key}")) || !error.contains("allocator") {
                return Err(error);
            }
        }
        Ok(())
    })
}

fn what_a_pod_was_given_is_not_changed() -> Result<(), Failed> {
    // Somebody who may do with the namespace's pods whatever can be done with pods, and the cluster's administrator.
    kubectl("create rolebinding mallory --clusterrole=edit --user=mallory")
        .or_else(|error| if error.contains("AlreadyExists") { Ok(error) } else { Err(error) })?;
    let tried = |user: &str, words: &str| kubectl(format!("{words} {user}").trim());
    create(&holder("given", "default", LITTLE, ""))?;
    pods::running("default", "given")?;
    // More than there is: it stays behind its gate.
    create(&holder("gated", "default", "tensor-fusion.ai/vram-limit: 900Gi", ""))?;
    told("default", "gated", "WaitingForGPU")?;
    let before = get("pod given")?;
    beside(|| {
        for user in ["--as=mallory", ""] {
            for key in [
                "allocation",
                "request",
                "gpu-ids",
                "container-gpus",
                "effective-hard-sm-percent",
                "connection-secret",
                "client",
            ] {
                let words = format!("annotate pod given --overwrite tensor-fusion.ai/{key}=forged");
                refused_by_policy(tried(user, &words), &format!("tensor-fusion.ai/{key}"))?;
            }
            let words = "annotate pod given tensor-fusion.ai/allocation-";
            refused_by_policy(tried(user, words), "tensor-fusion.ai/allocation")?;
            let words = "label pod given --overwrite tensor-fusion.ai/enabled=false";
            refused_by_policy(tried(user, words), "tensor-fusion.ai/enabled")?;
            let words = r#"patch pod gated --type=json -p=[{"op":"remove","path":"/spec/schedulingGates"}]"#;
            refused_by_policy(tried(user, words), "tensor-fusion.ai/allocation")?;
            // What is not ours is theirs.
            tried(user, "annotate pod given --overwrite team=blue")?;
            tried(user, "label pod given --overwrite team=blue")?;
        }
        Ok(())
    })?;
    let after = get("pod given")?;
    let ours = |pod: &serde_json::Value| pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].clone();
    assert_eq!(ours(&before), ours(&after));
    tried("--as=mallory", "delete pod given gated --now")?;
    kubectl("delete rolebinding mallory")?;
    Ok(())
}

fn refused_by_policy(outcome: Result<String, String>, named: &str) -> Result<(), String> {
    let error = outcome.err().ok_or_else(|| format!("{named} was changed"))?;
    if error.contains(named) && error.contains("only the operator of Tensor Fusion") { Ok(()) } else { Err(error) }
}

fn another_namespaces_connection_is_out_of_reach() -> Result<(), Failed> {
    kubectl(&format!("create namespace {OTHER}"))
        .or_else(|error| if error.contains("AlreadyExists") { Ok(error) } else { Err(error) })?;
    let account = || kubectl(&format!("get serviceaccount default -n {OTHER}")).map(drop);
    until("the namespace has its account", PATIENCE, account)?;
    let remote = format!("{LITTLE}, tensor-fusion.ai/is-local-gpu: 'false'");
    create(&holder("owner", "default", &remote, ""))?;
    pods::running("default", "owner")?;
    let secret = get("pod owner")?["metadata"]["annotations"]["tensor-fusion.ai/connection-secret"]
        .as_str()
        .ok_or("the pod names no Secret")?
        .to_owned();
    beside(|| {
        // A Secret's name means one in the pod's own namespace, and the webhook says which: what a pod claims is written over.
        let claimed = format!("{remote}, tensor-fusion.ai/connection-secret: {secret}");
        for namespace in ["default", OTHER] {
            match create(&holder("thief", namespace, &claimed, "")) {
                Err(refused) if refused.contains("connection-secret") => continue,
                Err(other) => return Err(other),
                Ok(()) => {}
            }
            let pod = pods::wait(namespace, "thief", "was looked at", |pod| {
                let named = &pod["metadata"]["annotations"]["tensor-fusion.ai/connection-secret"];
                bound(pod) || *named == secret.as_str()
            })?;
            if pod["metadata"]["annotations"]["tensor-fusion.ai/connection-secret"] == secret.as_str() {
                return Err(format!("the pod got the Secret of another\n{}", everything(namespace, "thief")));
            }
            kubectl(&format!("delete pod thief -n {namespace} --now"))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn another_pods_token_opens_nothing() -> Result<(), Failed> {
    // The thief knows where the owner's worker is, and has a token that opens another.
    let owner = busy("owner", &wish(", tensor-fusion.ai/is-local-gpu: 'false'"))?;
    let worker = get("pods -l tensor-fusion.ai/component=worker")?;
    let address = worker["items"][0]["status"]["podIP"].as_str().ok_or("no worker has an address")?.to_owned();
    apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: thief}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{{name: client, emptyDir: {{}}}}]
  initContainers:
  - {{name: client, image: tensor-fusion/tensor-fusion:{}, imagePullPolicy: Never, command: [/tensor-fusion, install-client, /client], volumeMounts: [{{name: client, mountPath: /client}}]}}
  containers:
  - name: main
    image: {PROGRAMS}
    imagePullPolicy: Never
    command: [/bin/sh, -c, '/programs/tenant.static-ptx 1073741824 5; echo it ended with $?']
    env:
    - {{name: LD_LIBRARY_PATH, value: /client/lib}}
    - {{name: TENSOR_FUSION_LOG, value: warn}}
    - {{name: TENSOR_FUSION_CONNECT, value: 'tcp://{address}:8000/'}}
    - {{name: TENSOR_FUSION_TOKEN, value: '{}'}}
    volumeMounts: [{{name: client, mountPath: /client}}]
",
        env!("CARGO_PKG_VERSION"),
        "f".repeat(64),
    ))?;
    let log = pods::finished("default", "thief")?;
    assert!(!log.contains("tenant: ok"), "the thief computed: {log}");
    assert!(log.contains("token"), "nothing says why: {log}");
    computes_still(&owner)?;
    accounts::balanced()?;
    Ok(())
}

fn without_a_webhook_only_those_who_ask_are_refused() -> Result<(), Failed> {
    let plain = "apiVersion: v1
kind: Pod
metadata: {name: plain}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: IMAGE, imagePullPolicy: Never, command: [/bin/busybox, sleep, '3600']}]}
"
    .replace("IMAGE", PROGRAMS);
    create(&plain)?;
    pods::running("default", "plain")?;
    for (name, metadata, resources) in [
        ("annotated", "annotations: {tensor-fusion.ai/vram-limit: 1Gi}", "{}"),
        ("labelled", "labels: {tensor-fusion.ai/enabled: 'true'}", "{}"),
        ("hami", "labels: {}", "{limits: {nvidia.com/gpu: 1, nvidia.com/gpumem: 1000}}"),
    ] {
        let error = refusal(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, {metadata}}}
spec: {{containers: [{{name: main, image: {PROGRAMS}, resources: {resources}}}]}}
"
        ))?;
        assert!(error.contains("failed calling webhook \"pods.tensor-fusion.ai\""), "{name}: {error}");
    }
    // It is back, and so is everything.
    let operator = operators::Operator::start("back", operators::port()?, &[])?;
    operator.ready()?;
    until("the webhook takes pods", PATIENCE, || create(&holder("again", "default", LITTLE, "")))?;
    pods::running("default", "again").map_err(|error| operator.with_log(&error))?;
    let events = kubectl(&format!("get events -n {SYSTEM}"))?;
    assert!(!events.contains("panicked"), "{events}");
    Ok(())
}
