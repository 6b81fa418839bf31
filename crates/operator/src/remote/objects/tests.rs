use std::sync::Arc;

use super::super::worker::{CONTAINER, Worker, address, pod, wish_for};
use super::*;
use crate::Settings;
use crate::admission::{Decision, Mode, decide_as};
use crate::allocator::claim::{Standing, standing};

fn client_of(annotations: Value, containers: Value) -> (Pod, Wish) {
    let mut annotations = annotations;
    annotations["tensor-fusion.ai/is-local-gpu"] = "false".into();
    let pod = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "u", "annotations": annotations,
            "labels": {"tensor-fusion.ai/enabled": "true"}},
        "spec": {"containers": containers},
    });
    let decision = decide_as(&pod, "ns", &Settings::default(), 0, "1a2b3c4d-5e6f").unwrap();
    let pod = decision.after(&pod).unwrap();
    let Decision::Changed { wish, .. } = decision else { panic!("{decision:?}") };
    (serde_json::from_value(pod).unwrap(), *wish)
}

fn amounts() -> Value {
    json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/tflops-limit": "2"})
}

fn client() -> (Pod, Wish) {
    client_of(amounts(), json!([{"name": "main"}]))
}

fn worker_of(client: &Pod, wish: &Wish, template: Option<&Value>) -> Value {
    let names = Names::of(client, wish).unwrap();
    let worker = Worker {
        name: &names.worker,
        namespace: "ns",
        workload: &names.workload,
        owners: owned_by(client, true),
        client: client.metadata.uid.as_deref(),
        secret: &names.secret,
        hash: None,
    };
    pod(&worker, &wish_for(wish), template, &Settings::default(), None)
}

fn env(container: &Value, name: &str) -> Value {
    container["env"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

fn ready(mut worker: Value, ip: &str) -> Pod {
    worker["status"] = json!({"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]});
    serde_json::from_value(worker).unwrap()
}

#[test]
fn a_client_waits_for_its_secret_and_not_for_the_allocator() {
    let (client, wish) = client();
    let names = Names::of(&client, &wish).unwrap();
    let expected = Names {
        secret: "tensor-fusion-1a2b3c4d".into(),
        worker: "tensor-fusion-1a2b3c4d-worker".into(),
        workload: "c".into(),
    };
    assert_eq!(names, expected);
    assert!(claim::is_gated(&client));
    assert!(matches!(standing(&Arc::new(client.clone())), Standing::Nothing));
    let container = json!(client.spec.unwrap().containers[0]);
    for (name, key) in [("TENSOR_FUSION_CONNECT", "url"), ("TENSOR_FUSION_TOKEN", "token")] {
        let from = &env(&container, name)["valueFrom"]["secretKeyRef"];
        assert_eq!(*from, json!({"name": "tensor-fusion-1a2b3c4d", "key": key}));
    }
}

#[test]
fn a_worker_is_a_pod_that_the_allocator_serves() {
    let (client, wish) = client();
    let worker = worker_of(&client, &wish, None);
    let mut seen: Pod = serde_json::from_value(worker.clone()).unwrap();
    assert_eq!(address(&seen, 0), None);
    seen.metadata.uid = Some("w".to_owned());
    let Standing::Waiting(claim) = standing(&Arc::new(seen)) else { panic!() };
    assert_eq!((claim.wish.containers[0].name.as_str(), claim.wish.mode), (CONTAINER, Mode::Local));
    assert!(!worker.to_string().contains("\"token\":"));
}

#[test]
fn each_container_of_a_client_has_an_address_of_its_own() {
    let containers = json!([{"name": "a"}, {"name": "b"}, {"name": "none"}]);
    let mut annotations = amounts();
    annotations["tensor-fusion.ai/inject-container"] = "a,b".into();
    let (client, wish) = client_of(annotations, containers);
    let worker = worker_of(&client, &wish, None);
    let containers = worker["spec"]["containers"].as_array().unwrap();
    let commands: Vec<&Value> = containers.iter().map(|one| &one["command"][3]).collect();
    assert_eq!(commands, ["tcp://0.0.0.0:8000", "tcp://0.0.0.0:8001"]);
    assert_eq!(env(&containers[1], "TENSOR_FUSION_CONTAINER_NAME")["value"], "worker-1");
    let worker = ready(worker, "10.0.0.9");
    let own = addresses(&wish, &worker, true).unwrap();
    assert_eq!(own, json!({"url": "tcp://10.0.0.9:8000/", "url-b": "tcp://10.0.0.9:8001/"}));
    let shared = addresses(&wish, &worker, false).unwrap();
    assert_eq!(shared["url-b"], "tcp://10.0.0.9:8000/");
    let spec = client.spec.unwrap();
    let keys: Vec<Value> = spec.containers.iter().map(|one| json!(one)).collect();
    assert_eq!(env(&keys[1], "TENSOR_FUSION_CONNECT")["valueFrom"]["secretKeyRef"]["key"], "url-b");
    assert!(keys[2].get("env").is_none());
}

#[test]
fn a_template_adds_to_a_worker_and_takes_nothing_from_it() {
    let template = "
metadata:
  name: mine
  labels: {team: a, tensor-fusion.ai/enabled: 'false'}
  annotations: {tensor-fusion.ai/allocation: '{}', note: hi}
  ownerReferences: []
spec:
  nodeName: n1
  nodeSelector: {zone: z}
  schedulingGates: []
  containers:
    - name: other
      image: mine
      command: [sh]
      env: [{name: A, value: b}, {name: TENSOR_FUSION_TOKEN, value: x}]
      resources: {limits: {memory: 1Gi}}
";
    let mut annotations = amounts();
    annotations["tensor-fusion.ai/worker-pod-template"] = template.into();
    let (client, wish) = client_of(annotations, json!([{"name": "main"}]));
    let worker = worker_of(&client, &wish, wish.worker_pod_template.as_ref());
    let labels = &worker["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["tensor-fusion.ai/enabled"]), (&json!("a"), &json!("true")));
    assert_eq!(worker["metadata"]["annotations"].get("tensor-fusion.ai/allocation"), None);
    assert_eq!(worker["metadata"]["annotations"]["note"], "hi");
    assert_eq!(worker["metadata"]["ownerReferences"][0]["uid"], "u");
    let spec = &worker["spec"];
    assert_eq!((spec.get("nodeName"), &spec["nodeSelector"]["zone"]), (None, &json!("z")));
    assert_eq!(spec["schedulingGates"][0]["name"], names::GATE);
    let container = &spec["containers"][0];
    assert_eq!((&container["name"], &container["command"][1]), (&json!("worker"), &json!("worker")));
    assert_eq!(env(container, "A")["value"], "b");
    assert!(env(container, "TENSOR_FUSION_TOKEN")["valueFrom"].is_object());
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}})
    );
    // What the allocator reads does not carry it along.
    assert!(!worker["metadata"]["annotations"][names::REQUEST].as_str().unwrap().contains("workerPodTemplate"));
}

#[test]
fn other_peoples_secrets_are_never_named() {
    let (mut client, wish) = client();
    for name in ["default-token", "tensor-fusion-", "tensor-fusion-webhook/../x", "tensor-fusion-Ä"] {
        client.metadata.annotations.as_mut().unwrap().insert(names::CONNECTION_SECRET.to_owned(), name.to_owned());
        assert_eq!(Names::of(&client, &wish), None, "{name}");
    }
}

#[test]
fn an_address_of_either_family_is_one() {
    assert_eq!(address(&ready(json!({}), "10.0.0.1"), 0).unwrap(), "tcp://10.0.0.1:8000/");
    assert_eq!(address(&ready(json!({}), "fd00::1"), 1).unwrap(), "tcp://[fd00::1]:8001/");
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(address(&ready(leaving, "10.0.0.1"), 0), None);
}
