//! Unmodified programs in pods, asking for their GPU in every dialect.

use libtest_mimic::Failed;
use serde_json::Value;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, PROGRAMS, apply, get, kubectl, until};
use super::{chart, pods};

const GIB: u64 = 1 << 30;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("workload::pods_that_do_not_ask_are_left_alone", pods_that_do_not_ask_are_left_alone).on_nodes(),
        case("workload::a_job_computes_on_a_vgpu_of_its_node", a_job_computes_on_a_vgpu_of_its_node).on_nodes(),
        case("workload::a_deployment_shares_a_gpu", a_deployment_shares_a_gpu).on_nodes(),
        case("workload::hami_manifests_run_unchanged", hami_manifests_run_unchanged).on_nodes(),
        case("workload::a_remote_pod_computes_over_the_network", a_remote_pod_computes_over_the_network).on_nodes(),
        case("workload::clients_are_told_that_a_gpu_is_software", clients_are_told_that_a_gpu_is_software).on_nodes(),
        case("workload::a_toolkit_in_the_image_is_in_nobodys_way", a_toolkit_in_the_image_is_in_nobodys_way).on_nodes(),
        case("workload::nvidia_smi_shows_the_vgpu", nvidia_smi_shows_the_vgpu).on_nodes(),
        case("workload::no_more_pods_run_than_fit", no_more_pods_run_than_fit),
        case("workload::plain_gpus_become_vgpus_and_back", plain_gpus_become_vgpus_and_back).on_nodes(),
        case("workload::too_large_a_wish_waits_and_says_why", too_large_a_wish_waits_and_says_why),
    ]
}

/// A Job of one pod that runs one of the test programs.
pub(crate) fn job(name: &str, metadata: &str, command: &str, resources: &str) -> String {
    job_of(PROGRAMS, name, metadata, command, resources)
}

/// The same of another image.
pub(crate) fn job_of(image: &str, name: &str, metadata: &str, command: &str, resources: &str) -> String {
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
        image: {image}
        imagePullPolicy: Never
        command: {command}
        resources: {resources}
"
    )
}

/// A Deployment that asks as TensorFusion's manifests do, with one container's own lines.
pub(crate) fn deployment(name: &str, replicas: u32, tflops: u32, vram: &str, container: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}, tensor-fusion.ai/enabled: 'true'}}
      annotations: {{tensor-fusion.ai/tflops-limit: '{tflops}', tensor-fusion.ai/vram-limit: {vram}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {PROGRAMS}
        imagePullPolicy: Never
{container}"
    )
}

/// Lines of a container that is ready once its work came out right.
pub(crate) fn computes(shell: &str, work: &str) -> String {
    format!(
        "        command: [{shell}, -c, '{work} && touch /tmp/right && exec sleep 3600']
        readinessProbe: {{exec: {{command: [/bin/busybox, test, -e, /tmp/right]}}, periodSeconds: 1}}
"
    )
}

/// A Job that computes over and over, once it does; the pod's name.
pub(crate) fn busy(name: &str, metadata: &str) -> Result<String, String> {
    let work = "[/bin/sh, -c, 'while /programs/tenant.static-ptx 1073741824 5; do touch /tmp/right; sleep 1; done']";
    apply(&job(name, metadata, work, "{}"))?;
    let pod = pods::with_label("default", &format!("job-name={name}"))?;
    pods::running("default", &pod)?;
    computes_still(&pod)?;
    Ok(pod)
}

/// Waits until such a pod has computed once more.
pub(crate) fn computes_still(pod: &str) -> Result<(), String> {
    let mark = || kubectl(&format!("exec {pod} -c main -- /bin/busybox rm /tmp/right"));
    // The first mark may be an old one.
    let looked =
        until("the pod computes", PATIENCE, mark).and_then(|_| until("the pod computes again", PATIENCE, mark));
    looked.map(drop).map_err(|error| format!("{error}\n{}", pods::everything("default", pod)))
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
    let work = format!("/programs/tenant.static-ptx {GIB} 3 && /programs/vector_add.shared-ptx");
    let manifest = deployment("shared", 4, 4, "1Gi", &computes("/bin/busybox, sh", &work));
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

fn clients_are_told_that_a_gpu_is_software() -> Result<(), Failed> {
    let remote = wish(", tensor-fusion.ai/is-local-gpu: 'false'");
    for (name, metadata) in [("told", wish("")), ("told-remote", remote), ("not-told", "{}".to_owned())] {
        apply(&job(name, &metadata, "[/usr/bin/env]", "{}"))?;
        let pod = prints(name, "PATH=")?;
        let log = kubectl(&format!("logs {pod}"))?;
        let told = log.contains("CUPY_COMPILE_WITH_PTX=1\n") && log.contains("PYTHONPATH=/opt/tensor-fusion/python\n");
        assert_eq!(told, name != "not-told", "{name}: {log}");
    }
    // The files are where it says.
    let look =
        "test -x $TENSOR_FUSION_CLIENT/bin/ptxas && test -r $TENSOR_FUSION_CLIENT/python/sitecustomize.py && echo both";
    apply(&job("files", &wish(""), &format!("[/bin/sh, -c, '{look}']"), "{}"))?;
    prints("files", "both")?;
    Ok(())
}

/// The image's own `LD_LIBRARY_PATH` leads to a `libcuda.so.1` that is no driver, as toolkits have one to link against.
fn a_toolkit_in_the_image_is_in_nobodys_way() -> Result<(), Failed> {
    let work =
        "[/bin/sh, -c, 'echo $LD_LIBRARY_PATH; /programs/vector_add.static-ptx; /programs/vector_add.shared-ptx']";
    let without = work.replace("shared-ptx'", "shared-ptx || true'");
    apply(&job("stubbed", "{}", &without, "{}"))?;
    let pod = prints("stubbed", "/usr/local/cuda/lib64/stubs:")?;
    let log = kubectl(&format!("logs {pod}"))?;
    assert_eq!(log.matches("cudaErrorStubLibrary").count(), 2, "{log}");
    apply(&job("toolkit", &wish(""), work, "{}"))?;
    let pod = prints("toolkit", "/usr/local/cuda/lib64/stubs:")?;
    let log = kubectl(&format!("logs {pod}"))?;
    assert_eq!(log.matches("vector_add: ok").count(), 2, "{log}");
    Ok(())
}

fn nvidia_smi_shows_the_vgpu() -> Result<(), Failed> {
    apply(&job("smi", &wish(""), "[/bin/sh, -c, nvidia-smi]", "{}"))?;
    prints("smi", "1024MiB")?;
    kubectl("delete job smi")?;
    Ok(())
}

fn no_more_pods_run_than_fit() -> Result<(), Failed> {
    // Each GPU has 8 GiB, so two of them carry four of these pods; six ask at once.
    let manifest = deployment("crowd", 6, 1, "4Gi", "        command: [/bin/busybox, sleep, '3600']\n");
    apply(&manifest)?;
    let phases = || -> Result<(usize, usize), String> {
        let pods = get("pods -l app=crowd")?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let with = |phase: &str| pods.iter().filter(|pod| pod["status"]["phase"] == phase).count();
        Ok((with("Running"), with("Pending")))
    };
    let settled = |wanted: (usize, usize)| {
        let what = format!("{} pods run and {} wait", wanted.0, wanted.1);
        until(&what, PATIENCE, || match phases()? {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}")),
        })
    };
    settled((4, 2))?;
    let pod = get("pods -l app=crowd --field-selector status.phase=Running")?;
    let pod = pod["items"][0]["metadata"]["name"].as_str().ok_or("no pod runs")?.to_owned();
    kubectl(&format!("delete pod {pod}"))?;
    settled((4, 2))?;
    kubectl("scale deployment crowd --replicas=4")?;
    settled((4, 0))?;
    kubectl("delete deployment crowd --cascade=foreground")?;
    Ok(())
}

fn plain_gpus_become_vgpus_and_back() -> Result<(), Failed> {
    let manifest = |name: &str| job(name, "{}", "[/programs/vector_add.static-ptx]", "{limits: {nvidia.com/gpu: '1'}}");
    chart::install("--set webhook.progressiveMigration=true")?;
    apply(&manifest("migrated"))?;
    prints("migrated", "vector_add")?;
    chart::install("")?;
    apply(&manifest("native"))?;
    let pod = pods::with_label("default", "job-name=native")?;
    let pod = get(&format!("pod {pod}"))?;
    // It waits for a device plugin, as on any cluster without us.
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1", "{pod}");
    assert!(pod["spec"]["schedulingGates"].is_null(), "{pod}");
    kubectl("delete job migrated native")?;
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
