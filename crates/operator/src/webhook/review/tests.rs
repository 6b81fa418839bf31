use serde_json::json;

use super::*;
use crate::webhook::Webhook;

/// An answer, over what travels.
fn answer(review: &Value, settings: &Settings, grey: &Grey, leads: bool) -> Value {
    let question: Question = serde_json::from_slice(&serde_json::to_vec(review).unwrap()).unwrap();
    serde_json::from_slice(&super::answer(&question, settings, grey, leads).to_json()).unwrap()
}

fn grey() -> Grey {
    let grey = Grey::default();
    grey.complete();
    grey
}

fn pod(annotations: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "labels": {"tensor-fusion.ai/enabled": "true"},
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "owner", "controller": true}],
        },
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    })
}

fn review(uid: &str, pod: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": uid, "namespace": "default", "operation": "CREATE", "object": pod}})
}

fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let word = chunk.iter().fold(0_u32, |word, digit| (word << 6) | u32::from(*digit)) << (6 * (4 - chunk.len()));
        bytes.extend(&word.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}

/// The pod as it would be.
fn patched(answer: &Value, pod: &Value) -> Value {
    let patch: json_patch::Patch =
        serde_json::from_slice(&decoded(answer["response"]["patch"].as_str().unwrap())).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

fn message(answer: &Value) -> &str {
    answer["response"]["status"]["message"].as_str().unwrap()
}

#[test]
fn base64_is_that_of_the_standard() {
    for (plain, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(json!(ByteString(plain.into())), text);
        assert_eq!(decoded(text), plain.as_bytes());
    }
    assert_eq!(json!(ByteString(vec![0xfb, 0xff, 0xbf])), "+/+/");
}

#[test]
fn a_pod_that_asks_is_gated_and_the_second_time_left_alone() {
    let pod = pod(json!({"tensor-fusion.ai/vram-limit": "1Gi"}));
    let first = answer(&review("1", pod.clone()), &Settings::default(), &grey(), false);
    assert_eq!(first["response"]["allowed"], true);
    assert_eq!(first["response"]["uid"], "1");
    let gated = patched(&first, &pod);
    assert_eq!(gated["spec"]["schedulingGates"][0]["name"], "tensor-fusion.ai/allocation");
    let second = answer(&review("2", gated), &Settings::default(), &grey(), false);
    assert_eq!(second["response"]["allowed"], true);
    assert!(second["response"].get("patch").is_none());
}

#[test]
fn who_makes_a_pod_is_warned_of_what_nobody_acts_upon() {
    let answered = |annotations: Value| {
        let answer = answer(&review("1", pod(annotations)), &Settings::default(), &grey(), false);
        (answer["response"]["allowed"].clone(), answer["response"]["warnings"].clone())
    };
    let (allowed, warnings) =
        answered(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/partition-id": "7"}));
    assert_eq!((allowed, warnings.as_array().unwrap().len()), (true.into(), 1));
    assert!(warnings[0].as_str().unwrap().ends_with("annotation tensor-fusion.ai/partition-id"), "{warnings}");
    assert_eq!(answered(json!({"tensor-fusion.ai/vram-limit": "1Gi"})), (true.into(), Value::Null));
}

#[test]
fn hostile_pods_are_refused_with_the_place_and_the_value() {
    let cases = [
        (json!({"tensor-fusion.ai/vram-limit": "-1Gi"}), "vram-limit"),
        (json!({"tensor-fusion.ai/tflops-limit": "NaN"}), "tflops-limit"),
        (json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gpupool": "nowhere"}), "gpupool"),
        (
            json!({"tensor-fusion.ai/workload-profile": "none", "tensor-fusion.ai/vram-limit": "1Gi"}),
            "workload-profile",
        ),
        (json!({"tensor-fusion.ai/vram-limit": "x".repeat(1 << 20)}), "vram-limit"),
        (json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gpu-count": "1000000"}), "gpu-count"),
        (json!({"tensor-fusion.ai/allocation": "{}", "tensor-fusion.ai/vram-limit": "1Gi"}), "allocation"),
        (json!({"tensor-fusion.ai/gpu-ids": "gpu-1"}), "gpu-ids"),
        (json!({"tensor-fusion.ai/request": "{}"}), "request"),
        (
            json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gang-enabled": "true", "tensor-fusion.ai/gang-min-members": "1"}),
            "gang-min-members",
        ),
    ];
    for (annotations, place) in cases {
        let answer = answer(&review("u", pod(annotations)), &Settings::default(), &grey(), true);
        assert_eq!(answer["response"]["allowed"], false, "{place}");
        assert_eq!(answer["response"]["status"]["code"], 422);
        assert!(message(&answer).contains(&format!("tensor-fusion.ai/{place}")), "{}", message(&answer));
        assert!(message(&answer).len() < 500, "{place}");
    }
    let nothing = answer(&json!({"request": {"uid": "u"}}), &Settings::default(), &grey(), true);
    assert_eq!(nothing["response"]["status"]["code"], 400);
    let unreadable: Value = serde_json::from_slice(&Webhook::default().answer(b"7")).unwrap();
    assert_eq!(unreadable["response"]["status"]["code"], 400);
}

#[test]
fn a_burst_gets_no_more_vgpus_than_replicas_are_enabled() {
    let grey = grey();
    let pod = pod(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/enabled-replicas": "3"}));
    let ask = |uid: &str| answer(&review(uid, pod.clone()), &Settings::default(), &grey, true);
    let changed = |answer: &Value| answer["response"].get("patch").is_some();
    let burst = (0..50).filter(|number| changed(&ask(&number.to_string()))).count();
    assert_eq!(burst, 3);
    // The API server may ask twice about the same pod.
    assert!(changed(&ask("0")) && !changed(&ask("9")));
    // One of the pods comes by, and goes: one more may.
    grey.see("pod-uid", "owner", Some("1"));
    assert!(!changed(&ask("a")));
    grey.gone("pod-uid");
    assert!(changed(&ask("b")) && !changed(&ask("c")));
}

#[test]
fn replicas_are_counted_by_the_leader_only_and_never_on_a_dry_run() {
    let grey = grey();
    let pod = pod(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/enabled-replicas": "1"}));
    let follower = answer(&review("1", pod.clone()), &Settings::default(), &grey, false);
    assert_eq!(follower["response"]["status"]["code"], 429);
    let mut dry = review("2", pod.clone());
    dry["request"]["dryRun"] = json!(true);
    for _ in 0..3 {
        assert!(answer(&dry, &Settings::default(), &grey, true)["response"].get("patch").is_some());
    }
    assert!(answer(&review("3", pod), &Settings::default(), &grey, true)["response"].get("patch").is_some());
}
