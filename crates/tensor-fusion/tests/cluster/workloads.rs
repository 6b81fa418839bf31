//! Unmodified programs in pods, asking for their GPU in every dialect.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::kubernetes::{PATIENCE, PROGRAMS, apply, get, kubectl, until};
use super::pods;

const GIB: u64 = 1 << 30;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("workload::pods_that_do_not_ask_are_left_alone", pods_that_do_not_ask_are_left_alone),
        Trial::test("workload::a_job_computes_on_a_vgpu_of_its_node", a_job_computes_on_a_vgpu_of_its_node),
        Trial::test("workload::a_deployment_shares_a_gpu", a_deployment_shares_a_gpu),
        Trial::test("workload::hami_manifests_run_unchanged", hami_manifests_run_unchanged),
        Trial::test("workload::a_remote_pod_computes_over_the_network", a_remote_pod_computes_over_the_network),
        Trial::test("workload::a_wish_that_cannot_be_is_refused_by_name", a_wish_that_cannot_be_is_refused_by_name),
        Trial::test("workload::too_large_a_wish_waits_and_says_why", too_large_a_wish_waits_and_says_why),
    ]
}

/// A Job of one pod that runs one program.
pub(crate) fn job(name: &str, metadata: &str, command: &str, resources: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  backoffLimit: 0
  template:
    metadata: {metadata}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {PROGRAMS}
        imagePullPolicy: Never
        command: {command}
        resources: {resources}
"
    )
}

/// What TensorFusion's manifests say.
pub(crate) fn wish(more: &str) -> String {
    format!(
        "{{labels: {{tensor-fusion.ai/enabled: 'true'}}, annotations: {{tensor-fusion.ai/tflops-request: '5', \
         tensor-fusion.ai/tflops-limit: '10', tensor-fusion.ai/vram-request: 1Gi, tensor-fusion.ai/vram-limit: 1Gi{more}}}}}"
    )
}

/// Waits for the Job's pod and checks what it printed.
pub(crate) fn prints(name: &str, expected: &str) -> Result<String, String> {
    let pod = pods::with_label("default", &format!("job-name={name}"))?;
    let log = pods::finished("default", &pod)?;
    if log.contains(expected) { Ok(pod) } else { Err(format!("pod {pod} printed\n{log}\ninstead of\n{expected}")) }
}

/// What is promised on all GPUs together: a pod that ended must not count.
fn free_vram() -> Result<Vec<String>, String> {
    let gpus = get("gpus.tensor-fusion.ai")?;
    let list = gpus["items"].as_array().cloned().unwrap_or_default();
    Ok(list
        .iter()
        .map(|gpu| format!("{} {}", gpu["status"]["available"]["vram"], gpu["status"]["available"]["tflops"]))
        .collect())
}

fn pods_that_do_not_ask_are_left_alone() -> Result<(), Failed> {
    apply(&job("plain", "{}", "[/bin/busybox, echo, untouched]", "{}"))?;
    let pod = prints("plain", "untouched")?;
    let pod = get(&format!("pod {pod}"))?;
    assert!(pod["spec"]["schedulingGates"].is_null() && pod["spec"]["initContainers"].is_null(), "{pod}");
    kubectl("delete job plain")?;
    Ok(())
}

fn a_job_computes_on_a_vgpu_of_its_node() -> Result<(), Failed> {
    let before = free_vram()?;
    let command = format!("[/programs/tenant.static-ptx, '{GIB}', '7']");
    apply(&job("local", &wish(""), &command, "{}"))?;
    let pod = prints("local", "tenant")?;
    let pod = get(&format!("pod {pod}"))?;
    let allocation = pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].as_str().ok_or("no allocation")?;
    let allocation: Value = serde_json::from_str(allocation)?;
    assert_eq!(allocation["node"], pod["spec"]["nodeName"], "{allocation}");
    kubectl("delete job local")?;
    until("what the pod had is free again", PATIENCE, || {
        let now = free_vram()?;
        if now == before { Ok(()) } else { Err(format!("{now:?}, and before it was {before:?}")) }
    })?;
    Ok(())
}

fn a_deployment_shares_a_gpu() -> Result<(), Failed> {
    let manifest = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: shared}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: shared}}}}
  template:
    metadata:
      labels: {{app: shared, tensor-fusion.ai/enabled: 'true'}}
      annotations: {{tensor-fusion.ai/tflops-limit: '4', tensor-fusion.ai/vram-limit: 1Gi}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {PROGRAMS}
        imagePullPolicy: Never
        command: [/bin/busybox, sh, -c, '/programs/tenant.static-ptx {GIB} 3 && /programs/vector_add.shared-ptx && touch /tmp/right && exec sleep 3600']
        readinessProbe: {{exec: {{command: [/bin/busybox, test, -e, /tmp/right]}}, periodSeconds: 1}}
"
    );
    apply(&manifest)?;
    let outcome = kubectl("rollout status deployment/shared --timeout=150s");
    if let Err(error) = outcome {
        let pod = pods::with_label("default", "app=shared")?;
        return Err(format!("{error}\n{}", pods::everything("default", &pod)).into());
    }
    kubectl("delete deployment shared --cascade=foreground")?;
    Ok(())
}

fn hami_manifests_run_unchanged() -> Result<(), Failed> {
    let limits = "{limits: {nvidia.com/gpu: '1', nvidia.com/gpumem: '2048', nvidia.com/gpucores: '30'}}";
    let command = format!("[/programs/tenant.static-ptx, '{}', '9']", 2 * GIB);
    apply(&job("hami", "{}", &command, limits))?;
    prints("hami", "tenant")?;
    kubectl("delete job hami")?;
    Ok(())
}

fn a_remote_pod_computes_over_the_network() -> Result<(), Failed> {
    let command = format!("[/programs/tenant.static-ptx, '{GIB}', '5']");
    apply(&job("remote", &wish(", tensor-fusion.ai/is-local-gpu: 'false'"), &command, "{}"))?;
    let pod = prints("remote", "tenant")?;
    let pod = get(&format!("pod {pod}"))?;
    assert!(pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].is_null(), "a client holds no GPU: {pod}");
    kubectl("delete job remote")?;
    Ok(())
}

fn a_wish_that_cannot_be_is_refused_by_name() -> Result<(), Failed> {
    let pod = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: wrong, labels: {{tensor-fusion.ai/enabled: 'true'}}, annotations: {{tensor-fusion.ai/vram-limit: lots}}}}
spec:
  containers: [{{name: main, image: {PROGRAMS}}}]
"
    );
    let error = apply(&pod).err().ok_or("the pod was taken")?;
    assert!(error.contains("tensor-fusion.ai/vram-limit") && error.contains("`lots`"), "{error}");
    Ok(())
}

fn too_large_a_wish_waits_and_says_why() -> Result<(), Failed> {
    let metadata = "{labels: {tensor-fusion.ai/enabled: 'true'}, annotations: {tensor-fusion.ai/vram-limit: 900Gi}}";
    apply(&job("huge", metadata, "[/programs/vector_add.static-ptx]", "{}"))?;
    let pod = pods::with_label("default", "job-name=huge")?;
    until("an event says why the pod waits", PATIENCE, || {
        let events = get(&format!("events --field-selector involvedObject.name={pod}"))?;
        let said = |event: &Value| event["message"].as_str().is_some_and(|text| text.contains("VRAM"));
        let found = events["items"].as_array().into_iter().flatten().any(said);
        if found { Ok(()) } else { Err(events.to_string()) }
    })?;
    kubectl("delete job huge")?;
    Ok(())
}
