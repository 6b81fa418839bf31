use serde_json::{Value, json};

use super::*;

fn spec(more: Value) -> TensorFusionWorkloadSpec {
    let amounts = json!({"tflops": "2", "vram": "1Gi"});
    let mut spec = json!({"replicas": 2, "resources": {"requests": amounts, "limits": amounts}});
    json_patch::merge(&mut spec, &more);
    serde_json::from_value(spec).unwrap()
}

fn pod(name: &str, hash: &str, ready: bool) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": name, "labels": {(worker::HASH): hash}},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn loads(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn as_many_workers_as_it_says_are_made_and_the_rest_goes() {
    let none = loads(&[]);
    let change = |replicas: u32, workers: &[Arc<Pod>]| change("w", replicas, "h", workers, &none);
    assert_eq!(change(2, &[]), Change { make: vec![0, 1], delete: vec![] });
    let one = pod("w-tf-worker-1", "h", true);
    assert_eq!(change(2, std::slice::from_ref(&one)), Change { make: vec![0], delete: vec![] });
    let many: Vec<Arc<Pod>> = (0..3).map(|number| pod(&worker_name("w", number), "h", true)).collect();
    assert_eq!(change(1, &many).delete, ["w-tf-worker-1", "w-tf-worker-2"]);
    assert_eq!(change(0, &[one]).delete, ["w-tf-worker-1"]);
    // One that has ended makes way for its successor, which is made once it is gone.
    let mut ended = Pod::clone(&many[0]);
    ended.status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let ended = Arc::new(ended);
    assert_eq!(
        change(1, std::slice::from_ref(&ended)),
        Change { make: vec![], delete: vec!["w-tf-worker-0".to_owned()] }
    );
    let mut leaving = Pod::clone(&ended);
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(change(1, &[Arc::new(leaving)]), Change::default());
}

#[test]
fn workers_of_an_old_spec_are_replaced_one_by_one_the_idle_first() {
    let workers: Vec<Arc<Pod>> = (0..3).map(|number| pod(&worker_name("w", number), "old", true)).collect();
    let busy = loads(&[("w-tf-worker-0", 2), ("w-tf-worker-2", 1)]);
    let change = |workers: &[Arc<Pod>]| change("w", 3, "new", workers, &busy).delete;
    assert_eq!(change(&workers), ["w-tf-worker-1"]);
    let starting = [workers[0].clone(), pod("w-tf-worker-1", "new", false), workers[2].clone()];
    assert_eq!(change(&starting), Vec::<String>::new());
    let next = [workers[0].clone(), pod("w-tf-worker-1", "new", true), workers[2].clone()];
    assert_eq!(change(&next), ["w-tf-worker-2"]);
    // One that does not serve is replaced at once.
    let broken = [pod("w-tf-worker-0", "old", false), pod("w-tf-worker-1", "new", true), workers[2].clone()];
    assert_eq!(change(&broken), ["w-tf-worker-0"]);
}

#[test]
fn a_client_gets_the_worker_with_the_fewest_clients_of_those_that_serve() {
    let workers = [pod("a", "h", true), pod("b", "h", true), pod("c", "h", false)];
    let chosen = |of: &[(&str, usize)]| least_loaded(&workers, &loads(of)).map(|pod| pod.name_any());
    assert_eq!(chosen(&[("a", 1)]).unwrap(), "b");
    assert_eq!(chosen(&[("a", 1), ("b", 1)]).unwrap(), "a");
    assert_eq!(least_loaded(&workers[2..], &loads(&[])), None);
}

#[test]
fn a_hash_is_of_all_but_the_number() {
    assert_eq!(hash(&spec(json!({"replicas": 5}))), hash(&spec(json!({}))));
    assert_ne!(hash(&spec(json!({"qos": "high"}))), hash(&spec(json!({}))));
}

#[test]
fn what_a_workload_says_becomes_the_wish_of_its_workers() {
    let settings = Settings::default();
    let more = json!({"qos": "high", "gpuCount": 2, "isolation": "hard", "gangScheduling": {"minMembers": 2, "timeout": "1m"}});
    let wish = wish(&spec(more), &settings).unwrap();
    assert_eq!((wish.pool.as_str(), wish.mode, wish.qos), ("default", Mode::Local, types::Qos::High));
    assert_eq!((wish.containers[0].gpus, wish.isolation), (2, Isolation::Hard));
    assert_eq!(wish.gang, Some(GangWish { minimum: Some(2), timeout: Some(60) }));
    let nothing = json!({"tflops": "0", "vram": "0"});
    let part = |percent: &str| json!({"tflops": "0", "vram": "1Gi", "compute": percent});
    let percents = json!({"resources": {"requests": part("12.5"), "limits": part("50")}});
    let container = super::wish(&spec(percents), &settings).unwrap().containers.remove(0);
    let percent = |text: &str| Some(text.parse().unwrap());
    assert_eq!((container.compute_percent, container.compute_percent_limit), (percent("12.5"), percent("50")));
    let error = |more: Value| super::wish(&spec(more), &settings).unwrap_err();
    assert_eq!(error(json!({"poolName": "none"})), "spec.poolName: there is no pool `none`");
    assert!(error(json!({"isolation": "partitioned"})).starts_with("spec.isolation: `partitioned`"));
    assert!(error(json!({"resources": null})).starts_with("spec.resources: "));
    assert!(error(json!({"resources": {"limits": {"compute": "101"}}})).contains("from 0 to 100"));
    assert!(error(json!({"resources": {"requests": nothing, "limits": nothing}})).starts_with("spec.resources: "));
    assert!(error(json!({"resources": {"limits": {"vram": "lots"}}})).contains("lots"));
    assert!(error(json!({"gangScheduling": {"timeout": "soon"}})).starts_with("spec.gangScheduling.timeout"));
}
