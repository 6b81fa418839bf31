//! Pods of all three dialects, and hostile ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crd::Phase;
use operator::admission::{Decision, Dialect, Mode, Wish, decide};
use operator::{PoolSettings, Profile, Settings};
use serde_json::{Value, json};
use types::{Bytes, Percent, Qos, Tflops};

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.pools.insert("remote".into(), PoolSettings { local: Some(false), ..PoolSettings::default() });
    let profile = Profile { vram_limit: Some(Bytes::from_gib(2)), gpu_count: Some(2), ..Profile::default() };
    settings.profiles.insert("team/small".into(), profile);
    settings
}

fn pod(annotations: Value, containers: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"tensor-fusion.ai/enabled": "true"}, "annotations": annotations},
        "spec": {"containers": containers},
    })
}

fn one(annotations: Value) -> Value {
    pod(annotations, json!([{"name": "main", "image": "any"}]))
}

fn changed(pod: &Value) -> (Wish, Value) {
    let decision = decide(pod, "team", &settings(), 0).unwrap();
    let after = decision.after(pod).unwrap();
    match decision {
        Decision::Changed { wish, .. } => (*wish, after),
        Decision::Unchanged(why) => panic!("unchanged: {why}"),
    }
}

fn refused(pod: &Value) -> String {
    decide(pod, "team", &settings(), 0).unwrap_err().to_string()
}

#[test]
fn annotations_become_a_request_a_gate_and_the_client() {
    let before = one(json!({
        "tensor-fusion.ai/tflops-limit": "10", "tensor-fusion.ai/vram-limit": "4Gi", "tensor-fusion.ai/gpu-count": "2",
    }));
    let (wish, after) = changed(&before);
    assert_eq!(
        (wish.dialect, wish.mode, wish.qos, wish.pool.as_str()),
        (Dialect::TensorFusion, Mode::Local, Qos::High, "default")
    );
    assert_eq!(wish.containers[0].gpus, 2);
    assert_eq!(wish.containers[0].tflops_request, Some(Tflops::new(10)));
    assert_eq!(wish.containers[0].vram_limit, Some(Bytes::from_gib(4)));
    assert_eq!(after["spec"]["schedulingGates"], json!([{"name": "tensor-fusion.ai/allocation"}]));
    assert_eq!(after["spec"]["initContainers"][0]["name"], "tensor-fusion-client");
    let mounts = after["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/ld.so.preload"));
    let written: Wish =
        serde_json::from_str(after["metadata"]["annotations"]["tensor-fusion.ai/request"].as_str().unwrap()).unwrap();
    assert_eq!(written, wish);
    // Everything else is as it was.
    assert_eq!(after["spec"]["containers"][0]["image"], "any");
    assert_eq!(after["metadata"]["annotations"]["tensor-fusion.ai/gpu-count"], "2");
}

#[test]
fn asking_twice_is_asking_once() {
    let (_, after) = changed(&one(json!({"tensor-fusion.ai/vram-limit": "1Gi"})));
    assert!(matches!(decide(&after, "team", &settings(), 0), Ok(Decision::Unchanged(_))));
    let mut stripped = after.clone();
    stripped["metadata"]["annotations"].as_object_mut().unwrap().remove("tensor-fusion.ai/request");
    assert_eq!(changed(&stripped).1, after);
}

#[test]
fn hami_resources_are_read_and_taken_off() {
    let resources =
        json!({"limits": {"nvidia.com/gpu": 2, "nvidia.com/gpumem": "3000", "nvidia.com/gpucores": 30, "cpu": "1"}});
    let mut before = pod(
        json!({"nvidia.com/use-gputype": "A100, L4", "hami.io/gpu-scheduler-policy": "binpack,numa"}),
        json!([{"name": "main", "resources": resources}, {"name": "side"}]),
    );
    before["metadata"]["labels"] = json!({});
    let (wish, after) = changed(&before);
    assert_eq!(wish.dialect, Dialect::Hami);
    assert_eq!(wish.containers.len(), 1);
    assert_eq!((wish.containers[0].gpus, wish.containers[0].compute_percent), (2, Some(Percent::new(30))));
    assert_eq!(wish.containers[0].vram_limit, Some(Bytes::from_mib(3000)));
    assert_eq!(wish.only_types, ["A100", "L4"]);
    assert_eq!(wish.strategy, Some(pool::Strategy::CompactFirst));
    assert_eq!(after["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "1"}));
    assert_eq!(after["spec"]["containers"][1].get("volumeMounts"), None);
}

#[test]
fn a_hami_card_without_an_amount_is_a_whole_card() {
    let mut before = one(json!({}));
    before["metadata"]["labels"] = json!({});
    before["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpumem-percentage": 100}});
    let (wish, _) = changed(&before);
    assert_eq!(
        (wish.containers[0].vram_percent, wish.containers[0].compute_percent),
        (Some(Percent::new(100)), Some(Percent::new(100)))
    );
    before["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpucores": 30}});
    let (wish, _) = changed(&before);
    assert_eq!(
        (wish.containers[0].vram_percent, wish.containers[0].compute_percent),
        (Some(Percent::new(100)), Some(Percent::new(30)))
    );
}

#[test]
fn other_vendors_cards_are_asked_for_by_their_own_names_and_units() {
    let cases = [
        (json!({"amd.com/gpu": 2, "amd.com/gpumem": 4096, "amd.com/gpucores": 50}), "AMD", None, Bytes::from_gib(4)),
        (json!({"hygon.com/dcunum": 1, "hygon.com/dcumem": 2000}), "Hygon", None, Bytes::from_mib(2000)),
        (json!({"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": 20}), "Cambricon", None, Bytes::from_gib(5)),
        (json!({"metax-tech.com/sgpu": 1, "metax-tech.com/vmemory": 4}), "MetaX", None, Bytes::from_gib(4)),
        (json!({"mthreads.com/vgpu": 1, "mthreads.com/sgpu-memory": 32}), "MooreThreads", None, Bytes::from_gib(16)),
        (
            json!({"huawei.com/Ascend910B4": 1, "huawei.com/Ascend910B4-memory": 8192}),
            "Ascend",
            Some("Ascend910B4"),
            Bytes::from_gib(8),
        ),
        (
            json!({"iluvatar.ai/BI-V150-vgpu": 1, "iluvatar.ai/BI-V150.vMem": 64}),
            "Iluvatar",
            Some("BI-V150"),
            Bytes::from_gib(16),
        ),
    ];
    for (limits, vendor, model, memory) in cases {
        let mut limits = limits;
        limits["cpu"] = json!("1");
        let mut before = one(json!({}));
        before["metadata"]["labels"] = json!({});
        before["spec"]["containers"][0]["resources"] = json!({"limits": limits, "requests": limits});
        let (wish, after) = changed(&before);
        assert_eq!((wish.vendor.as_deref(), wish.model.as_deref()), (Some(vendor), model), "{limits}");
        assert_eq!((wish.dialect, wish.containers[0].vram_limit), (Dialect::Hami, Some(memory)), "{limits}");
        let left = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
        assert_eq!(after["spec"]["containers"][0]["resources"], left);
    }
    // What a vendor's own plugin advertises asks for nothing of ours.
    let mut plain = one(json!({}));
    plain["metadata"]["labels"] = json!({});
    plain["spec"]["containers"][0]["resources"] = json!({"limits": {"amd.com/gpu": 1}});
    assert!(matches!(decide(&plain, "team", &settings(), 0), Ok(Decision::Unchanged(_))));
    // Nor does it leave a pod that asks for another's.
    plain["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpumem": 1024, "nvidia.com/gpu": 1}});
    plain["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "x", "resources": {"limits": {"amd.com/gpu": 1}}}));
    let (_, after) = changed(&plain);
    assert_eq!(after["spec"]["containers"][1]["resources"]["limits"], json!({"amd.com/gpu": 1}));
    // Parts of cards of two kinds are on no node together.
    plain["spec"]["containers"][1]["resources"] = json!({"limits": {"hygon.com/dcumem": 1}});
    let text = refused(&plain);
    assert!(text.contains("hygon.com/dcumem") && text.contains("names nvidia.com/gpumem too"), "{text}");
}

#[test]
fn hami_policies_become_strategies_and_what_is_not_acted_upon_is_named() {
    let wish = |annotations: Value| {
        let mut before = one(annotations);
        before["metadata"]["labels"] = json!({});
        before["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpumem": 1024}});
        changed(&before).0
    };
    let policy = |node: &str, gpu: &str| {
        let wish = wish(json!({"hami.io/node-scheduler-policy": node, "hami.io/gpu-scheduler-policy": gpu}));
        (wish.strategy, wish.near, wish.ignored.len())
    };
    use pool::Strategy::{CompactFirst, LowLoadFirst, Mutex, NodeCompactGPULowLoad};
    assert_eq!(policy("", ""), (None, false, 0));
    assert_eq!(policy("binpack", ""), (Some(NodeCompactGPULowLoad), false, 0));
    assert_eq!(policy("", "spread"), (Some(NodeCompactGPULowLoad), false, 0));
    assert_eq!(policy("spread", "spread"), (Some(LowLoadFirst), false, 0));
    assert_eq!(policy("", "binpack,numa"), (Some(CompactFirst), true, 0));
    assert_eq!(policy("", "mutex,topology-aware"), (Some(Mutex), true, 0));
    assert_eq!(policy("spread", "binpack"), (Some(LowLoadFirst), false, 1));
    let said = wish(json!({"hami.io/device-scoring-weights": "slot=1,core=1,memory=3", "nvidia.com/vgpu-mode": "mig"}));
    let text = said.warning().unwrap();
    assert!(text.contains("hami.io/device-scoring-weights, annotation nvidia.com/vgpu-mode"), "{text}");
    let mut odd = one(json!({"hami.io/node-scheduler-policy": "fullest"}));
    odd["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpumem": 1024}});
    assert!(refused(&odd).contains("binpack or spread"));
}

#[test]
fn a_dedicated_gpu_is_all_of_a_card_of_a_model() {
    let (wish, _) = changed(&one(json!({"tensor-fusion.ai/dedicated-gpu": "true", "tensor-fusion.ai/gpu-model": "T4",
        "tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gpu-count": "2"})));
    let container = &wish.containers[0];
    assert_eq!((wish.model.as_deref(), container.gpus, container.vram_limit), (Some("T4"), 2, None));
    assert_eq!((container.compute_percent, container.vram_percent), (Some(Percent::new(100)), Some(Percent::new(100))));
    assert!(refused(&one(json!({"tensor-fusion.ai/dedicated-gpu": "true"}))).contains("gpu-model"));
}

#[test]
fn percents_may_be_fractions_and_have_limits_of_their_own() {
    let percents = |request: &str, limit: &str| {
        one(
            json!({"tensor-fusion.ai/compute-percent-request": request, "tensor-fusion.ai/compute-percent-limit": limit}),
        )
    };
    let of = |request, limit| {
        let container = changed(&percents(request, limit)).0.containers.remove(0);
        (container.compute_percent, container.compute_percent_limit)
    };
    let percent = |text: &str| Some(text.parse::<Percent>().unwrap());
    assert_eq!(of("12.5", "50"), (percent("12.5"), percent("50")));
    assert_eq!(of("", "500m"), (percent("0.5"), None));
    assert!(refused(&percents("60", "50")).contains("at most the limit"));
    for wrong in ["101", "-1", "NaN", "half"] {
        assert!(refused(&percents(wrong, "")).contains("a percentage from 0 to 100"), "{wrong}");
    }
}

#[test]
fn what_is_not_acted_upon_is_named() {
    let mut before = one(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/sidecar-worker": "true",
        "tensor-fusion.ai/autoscale": "false", "tensor-fusion.ai/disable-features": "gpu-opt"}));
    before["metadata"]["labels"]["tensor-fusion.ai/host-port"] = json!("auto");
    let (wish, _) = changed(&before);
    assert_eq!(
        wish.warning().unwrap(),
        "Tensor Fusion does not act upon: annotation tensor-fusion.ai/disable-features, annotation \
         tensor-fusion.ai/sidecar-worker, label tensor-fusion.ai/host-port"
    );
    assert_eq!(changed(&one(json!({"tensor-fusion.ai/vram-limit": "1Gi"}))).0.warning(), None);
}

#[test]
fn plain_cards_are_taken_only_under_progressive_migration() {
    let mut before = one(json!({}));
    before["metadata"]["labels"] = json!({});
    before["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    assert!(matches!(decide(&before, "team", &settings(), 0), Ok(Decision::Unchanged(_))));
    let migrating = Settings { progressive_migration: true, ..settings() };
    let Ok(Decision::Changed { wish, .. }) = decide(&before, "team", &migrating, 0) else { panic!("unchanged") };
    assert_eq!((wish.dialect, wish.isolation), (Dialect::Native, pool::Isolation::Shared));
}

#[test]
fn profiles_fill_what_the_pod_leaves_open() {
    let (wish, _) =
        changed(&one(json!({"tensor-fusion.ai/workload-profile": "small", "tensor-fusion.ai/gpupool": "remote"})));
    assert_eq!((wish.mode, wish.containers[0].gpus), (Mode::Remote, 2));
    assert_eq!(wish.containers[0].vram_request, Some(Bytes::from_gib(2)));
}

#[test]
fn a_pod_that_names_a_workload_asks_for_nothing_itself() {
    let (wish, pod) = changed(&one(json!({"tensor-fusion.ai/selected-workload": "shared"})));
    assert_eq!((wish.mode, wish.workload.as_deref()), (Mode::Remote, Some("shared")));
    assert!(pod["metadata"]["annotations"]["tensor-fusion.ai/connection-secret"].is_string());
}

#[test]
fn keys_of_another_domain_are_read_and_ours_are_written() {
    let other = Settings { domain: "gpu.example.org".to_owned(), ..settings() };
    let mut before = one(json!({"gpu.example.org/vram-limit": "1Gi", "tensor-fusion.ai/tflops-limit": "99"}));
    before["metadata"]["labels"] = json!({"gpu.example.org/enabled": "true"});
    let decision = decide(&before, "team", &other, 0).unwrap();
    let pod = decision.after(&before).unwrap();
    let Decision::Changed { wish, .. } = decision else { panic!("unchanged") };
    assert_eq!((wish.containers[0].vram_limit, wish.containers[0].tflops_limit), (Some(Bytes::from_gib(1)), None));
    assert!(pod["metadata"]["annotations"]["tensor-fusion.ai/request"].is_string());
    assert_eq!(pod["metadata"]["labels"]["tensor-fusion.ai/enabled"], "true");
    assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "tensor-fusion.ai/allocation"}]));
    assert!(matches!(decide(&pod, "team", &other, 0), Ok(Decision::Unchanged(_))));
}

#[test]
fn init_containers_and_sidecars_are_told_apart() {
    let card = json!({"limits": {"nvidia.com/gpumem": 1024}});
    let mut before = one(json!({}));
    before["spec"]["containers"][0]["resources"] = card.clone();
    before["spec"]["initContainers"] = json!([
        {"name": "first", "resources": card},
        {"name": "beside", "restartPolicy": "Always", "resources": card},
    ]);
    let (wish, _) = changed(&before);
    let phases: Vec<_> = wish.containers.iter().map(|one| (one.name.as_str(), one.phase)).collect();
    assert_eq!(phases, [("main", Phase::Main), ("first", Phase::Init), ("beside", Phase::Sidecar)]);
}

#[test]
fn only_so_many_replicas_are_enabled() {
    let pod = one(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/enabled-replicas": "2"}));
    assert!(matches!(decide(&pod, "team", &settings(), 1), Ok(Decision::Changed { .. })));
    assert!(matches!(decide(&pod, "team", &settings(), 2), Ok(Decision::Unchanged(_))));
}

#[test]
fn a_pod_that_does_not_ask_is_left_alone() {
    let quiet = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}});
    assert!(matches!(decide(&quiet, "team", &settings(), 0), Ok(Decision::Unchanged(_))));
    for odd in
        [json!(null), json!([]), json!({"metadata": 5, "spec": "x"}), json!({"spec": {"containers": [1, null, {}]}})]
    {
        assert!(matches!(decide(&odd, "team", &settings(), 0), Ok(Decision::Unchanged(_))), "{odd}");
    }
}

#[test]
fn refusals_name_the_place_the_value_and_what_is_allowed() {
    let cases = [
        (json!({"tensor-fusion.ai/vram-limit": "-1Gi"}), "annotation tensor-fusion.ai/vram-limit", "-1Gi"),
        (json!({"tensor-fusion.ai/tflops-limit": "NaN"}), "annotation tensor-fusion.ai/tflops-limit", "NaN"),
        (json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gpupool": "x"}), "gpupool", "default, remote"),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gpu-count": "0"}),
            "gpu-count",
            "from 1 to 128",
        ),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/qos": "top"}),
            "qos",
            "low, medium, high or critical",
        ),
        (json!({"tensor-fusion.ai/workload-profile": "none"}), "workload-profile", "namespace team"),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/vram-request": "2Gi"}),
            "vram-request",
            "at most the limit",
        ),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/inject-container": "no"}),
            "inject-container",
            "main",
        ),
        (json!({}), "vram-limit", "is needed"),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/eviction-protection": "forever"}),
            "eviction-protection",
            "`forever` is not allowed: a duration as",
        ),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/worker-pod-template": "spec: {}"}),
            "worker-pod-template",
            "in remote mode only",
        ),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/is-local-gpu": "false",
                "tensor-fusion.ai/worker-pod-template": "spec: {tolerations: 5}"}),
            "worker-pod-template",
            "a PodTemplateSpec",
        ),
        (json!({"tensor-fusion.ai/selected-workload": "ns/x"}), "selected-workload", "of the pod's own namespace"),
        (
            json!({"tensor-fusion.ai/selected-workload": "w", "tensor-fusion.ai/is-local-gpu": "true"}),
            "is-local-gpu",
            "elsewhere",
        ),
    ];
    for (annotations, place, part) in cases {
        let text = refused(&one(annotations.clone()));
        assert!(text.contains(place) && text.contains(part), "{annotations}: {text}");
    }
    let huge = "9".repeat(100_000);
    assert!(
        refused(&one(json!({"tensor-fusion.ai/gpu-count": huge, "tensor-fusion.ai/vram-limit": "1Gi"}))).len() < 400
    );
    let mut hami = one(json!({}));
    hami["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpumem": "1Gi"}});
    assert!(refused(&hami).contains("container `main`, resource nvidia.com/gpumem"));
}
