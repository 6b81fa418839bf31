//! TensorFusion's own kinds: what they say of themselves, what they refuse, and what becomes of those that people write.

use libtest_mimic::Failed;
use serde_json::Value;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, PROGRAMS, apply, create, get, kubectl, list, until};
use super::pods::{self, holder, told};
use super::workloads::{computes, deployment, job, prints};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("objects::every_kind_explains_itself", every_kind_explains_itself),
        case("objects::what_cannot_be_is_refused_by_the_api_server", what_cannot_be_is_refused_by_the_api_server),
        case("objects::fields_not_acted_upon_are_named", fields_not_acted_upon_are_named),
        case(
            "objects::profiles_and_quotas_fill_what_a_pod_leaves_open",
            profiles_and_quotas_fill_what_a_pod_leaves_open,
        ),
        case("objects::clients_share_the_workers_of_a_workload", clients_share_the_workers_of_a_workload).on_nodes(),
        case("objects::pods_that_cannot_be_bound_go_elsewhere", pods_that_cannot_be_bound_go_elsewhere).on_nodes(),
    ]
}

const KINDS: [&str; 12] = [
    "gpunodeclaims",
    "gpunodeclasses",
    "gpunodes",
    "gpupools",
    "gpuresourcequotas",
    "gpus",
    "providerconfigs",
    "schedulingconfigtemplates",
    "tensorfusionclusters",
    "tensorfusionconnections",
    "tensorfusionworkloads",
    "workloadprofiles",
];

fn every_kind_explains_itself() -> Result<(), Failed> {
    for kind in KINDS {
        let part = if kind == "gpus" { "status" } else { "spec" };
        let text = kubectl(&format!("explain {kind}.{part} --api-version=tensor-fusion.ai/v1"))?;
        let fields = text.split_once("FIELDS:").map(|(_, fields)| fields).ok_or_else(|| format!("{kind}: {text}"))?;
        assert!(!fields.contains("<no description>"), "{kind}: {fields}");
        assert!(text.contains("DESCRIPTION:") && !text.contains("<empty>"), "{kind}: {text}");
        // Columns are shown for what there is.
        kubectl(&format!("get {kind}.tensor-fusion.ai -A"))?;
    }
    let gpus = kubectl("get gpus.tensor-fusion.ai")?;
    for column in ["GPU MODEL", "PHASE", "TOTAL TFLOPS", "AVAILABLE VRAM", "NODE"] {
        assert!(gpus.contains(column), "{column}: {gpus}");
    }
    Ok(())
}

fn profile(name: &str, more: &str) -> String {
    let amounts = "{tflops: '2', vram: 1Gi}";
    format!(
        "apiVersion: tensor-fusion.ai/v1
kind: WorkloadProfile
metadata: {{name: {name}, namespace: default}}
spec: {{resources: {{requests: {amounts}, limits: {amounts}}}{more}}}
"
    )
}

fn what_cannot_be_is_refused_by_the_api_server() -> Result<(), Failed> {
    let cases = [
        (", gpuCount: 0", "spec.gpuCount"),
        (", gpuCount: 129", "spec.gpuCount"),
        (", qos: royal", "spec.qos"),
        (", isolation: perfect", "spec.isolation"),
        (", gpuCount: 1, gpuIndices: [0, 1]", "gpuIndices"),
        (", replicas: 2, gangScheduling: {minMembers: 3}", "minMembers"),
        (", gangScheduling: {minMembers: 1}", "minMembers"),
        (", resources: {requests: {tflops: '-1', vram: 1Gi}, limits: {tflops: '1', vram: 1Gi}}", "tflops"),
    ];
    for (more, place) in cases {
        let manifest = if more.contains("resources") {
            profile("wrong", "").replace("resources: {requests: {tflops: '2'", "resources: {requests: {tflops: '-1'")
        } else {
            profile("wrong", more)
        };
        let error = create(&manifest).err().ok_or_else(|| format!("{more} was taken"))?;
        assert!(error.contains(place), "{more}: {error}");
    }
    create(&profile("right", ", gpuCount: 2, gpuIndices: [0, 1]"))?;
    Ok(())
}

/// What an object's condition says is not acted upon.
fn not_acted_upon(object: &str) -> Result<String, String> {
    until(&format!("{object} says what is not acted upon"), PATIENCE, || {
        let object = get(object)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|one| one["type"] == "AllFieldsHonored" && one["status"] == "False");
        let text = found.and_then(|one| one["message"].as_str()).map(str::to_owned);
        text.ok_or_else(|| format!("{conditions:?}"))
    })
}

fn fields_not_acted_upon_are_named() -> Result<(), Failed> {
    create(&profile("scaled", ", autoScalingConfig: {autoSetResources: {enable: true, targetResource: all}}"))?;
    let text = not_acted_upon("workloadprofile scaled")?;
    assert!(text.contains("spec.autoScalingConfig"), "{text}");
    apply(
        "apiVersion: tensor-fusion.ai/v1
kind: GPUPool
metadata: {name: spare}
spec:
  nodeManagerConfig: {nodeSelector: {nodeSelectorTerms: [{matchExpressions: [{key: none, operator: Exists}]}]}, nodeCompaction: {period: 7m}}
  qosConfig: {defaultQoS: low, pricing: [{qos: low, requests: {perFP16TFlopsPerHour: '1', perGBOfVRAMPerHour: '1'}}]}
---
apiVersion: tensor-fusion.ai/v1
kind: SchedulingConfigTemplate
metadata: {name: spare}
spec: {placement: {mode: CompactFirst}, reBalancer: {enable: true, interval: 1m, reBalanceCoolDownTime: 1m}}
---
apiVersion: tensor-fusion.ai/v1
kind: GPUNodeClass
metadata: {name: spare}
spec: {osImageType: Private}
",
    )?;
    let named = (|| -> Result<(), Failed> {
        let pool = not_acted_upon("gpupool spare")?;
        assert!(pool.contains("nodeCompaction") && pool.contains("qosConfig.pricing"), "{pool}");
        assert!(not_acted_upon("schedulingconfigtemplate spare")?.contains("spec.reBalancer"));
        assert!(not_acted_upon("gpunodeclass spare")?.contains("spec"));
        Ok(())
    })();
    for kind in ["gpupool", "schedulingconfigtemplate", "gpunodeclass"] {
        kubectl(&format!("delete {kind} spare"))?;
    }
    named?;
    // A pod has no conditions of ours; its events say it.
    let wish = "tensor-fusion.ai/vram-limit: 100Mi, tensor-fusion.ai/sidecar-worker: 'true'";
    create(&holder("besides", "default", wish, ""))?;
    let text = told("default", "besides", "NotActedUpon")?;
    assert!(text.contains("annotation tensor-fusion.ai/sidecar-worker"), "{text}");
    Ok(())
}

fn profiles_and_quotas_fill_what_a_pod_leaves_open() -> Result<(), Failed> {
    create(&profile("small", ", qos: critical"))?;
    create(
        "apiVersion: tensor-fusion.ai/v1
kind: GPUResourceQuota
metadata: {name: defaults, namespace: default}
spec: {single: {defaultRequests: {tflops: '3', vram: 300Mi}, defaultLimits: {tflops: '4', vram: 300Mi}}}
",
    )?;
    create(&holder("profiled", "default", "tensor-fusion.ai/workload-profile: small", ""))?;
    create(&holder("filled", "default", "tensor-fusion.ai/vram-limit: 200Mi", ""))?;
    let share = |name: &str| -> Result<Value, String> {
        let pod = pods::wait("default", name, "has a node", pods::bound)?;
        let text = pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].as_str().unwrap_or_default();
        let allocation: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        Ok(allocation["containers"]["main"][0].clone())
    };
    let profiled = share("profiled")?;
    assert_eq!((&profiled["qos"], &profiled["vram"]), (&"critical".into(), &(1u64 << 30).into()), "{profiled}");
    let filled = share("filled")?;
    assert_eq!(filled["vram"], 200 << 20, "{filled}");
    assert_eq!((filled["tflops"].as_f64(), filled["tflopsLimit"].as_f64()), (Some(3.0), Some(4.0)), "{filled}");
    Ok(())
}

fn clients_share_the_workers_of_a_workload() -> Result<(), Failed> {
    let amounts = "{tflops: '2', vram: 1Gi}";
    apply(&format!(
        "apiVersion: tensor-fusion.ai/v1
kind: TensorFusionWorkload
metadata: {{name: shared, namespace: default}}
spec: {{replicas: 2, resources: {{requests: {amounts}, limits: {amounts}}}}}
"
    ))?;
    let looked = until("both workers are ready", PATIENCE, || {
        let status = get("tensorfusionworkload shared")?["status"].clone();
        if status["readyWorkers"] == 2 && status["phase"] == "Running" { Ok(()) } else { Err(status.to_string()) }
    });
    looked.map_err(|error| format!("{error}\n{}", pods::everything("default", "shared-tf-worker-0")))?;
    let table = kubectl("get tensorfusionworkloads")?;
    assert!(table.contains("READY WORKERS") && table.contains("Running"), "{table}");
    let metadata =
        "{labels: {tensor-fusion.ai/enabled: 'true'}, annotations: {tensor-fusion.ai/selected-workload: shared}}";
    let names = ["client-1", "client-2", "client-3"];
    for name in names {
        apply(&job(name, metadata, "[/programs/tenant.static-ptx, '1073741824', '4']", "{}"))?;
    }
    for name in names {
        prints(name, "tenant")?;
    }
    let mut workers: Vec<String> = list("tensorfusionconnections")?
        .iter()
        .filter(|one| one["spec"]["workloadName"] == "shared")
        .filter_map(|one| one["status"]["workerName"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(workers.len(), 3, "{workers:?}");
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers, ["shared-tf-worker-0", "shared-tf-worker-1"], "both serve");
    kubectl("delete tensorfusionworkload shared --cascade=foreground --timeout=90s")?;
    until("the workers are gone", PATIENCE, || match list("pods -l tensor-fusion.ai/workload=shared")?.len() {
        0 => Ok(()),
        some => Err(format!("{some} are there")),
    })?;
    Ok(())
}

/// The allocator looks at GPUs; whether a node has processors left only the scheduler knows.
fn pods_that_cannot_be_bound_go_elsewhere() -> Result<(), Failed> {
    create(&holder("anchor", "default", "tensor-fusion.ai/vram-limit: 100Mi", ""))?;
    let anchor = pods::running("default", "anchor")?;
    let full = anchor["spec"]["nodeName"].as_str().ok_or("no node")?.to_owned();
    create(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: busy, namespace: default}}
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: {{kubernetes.io/hostname: {full}}}
  containers:
  - name: main
    image: {PROGRAMS}
    imagePullPolicy: Never
    command: [/bin/busybox, sleep, '3600']
    resources: {{requests: {{cpu: 1100m}}}}
"
    ))?;
    pods::running("default", "busy")?;
    let lines = computes("/bin/sh", "/programs/vector_add.static-ptx") + "        resources: {requests: {cpu: 950m}}\n";
    // Fuller nodes come first, so it is sent there.
    apply(&deployment("moved", 1, 1, "100Mi", &lines))?;
    let moved = until("the Deployment runs on the other node", PATIENCE, || {
        let pods = list("pods -l app=moved")?;
        let runs = pods.iter().find(|pod| pods::runs(pod) && pod["spec"]["nodeName"] != full.as_str());
        runs.map(drop)
            .ok_or_else(|| pods.iter().map(|pod| format!("{} {}; ", pod["spec"]["nodeName"], pod["status"])).collect())
    });
    let events = list("events")?;
    let stuck = events.iter().find(|event| event["reason"] == "CannotBeBound");
    moved.map_err(|error| format!("{error}\n{events:?}"))?;
    let text = stuck.and_then(|event| event["message"].as_str()).ok_or("no event says why it was made anew")?;
    assert!(text.contains(&format!("cannot bind the pod to node {full}")), "{text}");
    Ok(())
}
