use serde_json::json;
use types::{Bytes, Tflops};

use super::testing::{asks, asks_as, card, claim_of, free, ledger};
use super::*;
use crate::allocator::claim::Claim;

#[test]
fn what_is_placed_is_taken_once_and_given_back_once() {
    let mut ledger = ledger();
    let allocation = ledger.place(&asks("p1", "6Gi", "5"), &[]).unwrap();
    assert_eq!((allocation.node.as_str(), allocation.gpus()), ("a", vec!["gpu-a0"]));
    assert_eq!(free(&mut ledger), [2, 8, 8, 8]);
    // The pod comes by in the watch with what we wrote.
    assert!(!ledger.grant("p1", "ns", "p1", allocation, Terms::default()));
    assert_eq!(free(&mut ledger), [2, 8, 8, 8]);
    assert_eq!(ledger.used("ns").workers, 1);
    assert!(ledger.release("p1"));
    assert!(!ledger.release("p1"));
    assert_eq!(free(&mut ledger), [8, 8, 8, 8]);
    assert_eq!(ledger.used("ns"), Usage::default());
}

#[test]
fn a_ledger_filled_from_pods_is_the_one_that_placed_them() {
    let mut first = ledger();
    let mut second = Ledger::default();
    let mut granted = Vec::new();
    for number in 0..5 {
        let claim = asks(&format!("p{number}"), "3Gi", "4");
        granted.push((claim.uid.clone(), first.place(&claim, &[]).unwrap()));
    }
    // Pods are seen before GPUs, and GPUs in another order.
    for (uid, allocation) in &granted {
        second.grant(uid, "ns", uid, allocation.clone(), Terms::default());
    }
    for (name, node, index) in [("gpu-b1", "b", 1), ("gpu-a1", "a", 1), ("gpu-b0", "b", 0), ("gpu-a0", "a", 0)] {
        second.set_card(name, Some(card(node, index, 8)));
    }
    assert_eq!(free(&mut first), free(&mut second));
    assert_eq!(first.used("ns"), second.used("ns"));
    assert_eq!(first.place(&asks("next", "2Gi", "1"), &[]), second.place(&asks("next", "2Gi", "1"), &[]));
}

#[test]
fn nothing_is_given_out_twice_whatever_comes_and_goes() {
    let mut ledger = ledger();
    let mut placed = Vec::new();
    for number in 0..40 {
        if ledger.place(&asks(&format!("p{number}"), "3Gi", "1"), &[]).is_ok() {
            placed.push(number);
        }
    }
    assert_eq!(placed.len(), 8);
    // A card goes and comes back: its vGPUs still count.
    ledger.set_card("gpu-a0", None);
    assert!(ledger.place(&asks("more", "3Gi", "1"), &[]).is_err());
    ledger.set_card("gpu-a0", Some(card("a", 0, 8)));
    assert!(ledger.place(&asks("more", "3Gi", "1"), &[]).is_err());
    assert_eq!(free(&mut ledger), [2, 2, 2, 2]);
    // A card shrinks below what is given out of it: it takes nothing new, not even what would fit.
    ledger.set_card("gpu-a0", Some(card("a", 0, 4)));
    assert!(ledger.place(&asks("small", "1Gi", "1"), &[]).unwrap().gpus() != ["gpu-a0"]);
    assert_eq!(ledger.overfull().iter().collect::<Vec<_>>(), ["gpu-a0"]);
    for number in placed {
        assert!(ledger.release(&format!("p{number}")));
    }
    assert!(ledger.release("small"));
    assert_eq!(free(&mut ledger), [4, 8, 8, 8]);
    assert!(ledger.overfull().is_empty());
}

#[test]
fn containers_of_one_pod_get_their_gpus_on_one_node() {
    let mut ledger = ledger();
    ledger.place(&asks("big", "7Gi", "1"), &[]).unwrap();
    let hami = |gpus: u32, mib: u32| json!({"limits": {"nvidia.com/gpu": gpus, "nvidia.com/gpumem": mib}});
    let spec = json!({"containers": [
        {"name": "one", "resources": hami(1, 6000)},
        {"name": "two", "resources": hami(2, 2000)},
        {"name": "none"},
    ]});
    let allocation = ledger.place(&claim_of("p", json!({}), spec), &[]).unwrap();
    assert_eq!(allocation.node, "b");
    assert_eq!(allocation.containers["two"].len(), 2);
    assert_eq!(allocation.containers["one"].len(), 1);
    assert!(!allocation.containers.contains_key("none"));
    assert_eq!(allocation.containers["one"][0].vram, Bytes::from_mib(6000));
    ledger.release("p");
    assert_eq!(free(&mut ledger), [1, 8, 8, 8]);
}

#[test]
fn percent_is_of_the_card_that_is_given() {
    let mut ledger = ledger();
    ledger.set_card("gpu-c0", Some(Card { model: "BIG".to_owned(), ..card("c", 0, 80) }));
    let spec = json!({"containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": 1, "nvidia.com/gpumem-percentage": 50, "nvidia.com/gpucores": 25}}}]});
    let mut seen = Vec::new();
    for number in 0..11 {
        if let Ok(allocation) = ledger.place(&claim_of(&format!("p{number}"), json!({}), spec.clone()), &[]) {
            let share = allocation.shares().next().unwrap().clone();
            assert_eq!(share.tflops, Tflops::new(5));
            seen.push(share.vram.get() >> 30);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [4, 4, 4, 4, 4, 4, 4, 4, 40, 40]);
}

#[test]
fn a_part_of_a_card_has_a_limit_of_its_own_and_a_dedicated_card_is_whole() {
    let mut ledger = ledger();
    ledger.set_card("gpu-c0", Some(Card { model: "BIG".to_owned(), ..card("c", 0, 80) }));
    let annotations = json!({"tensor-fusion.ai/compute-percent-request": "12.5", "tensor-fusion.ai/vram-limit": "1Gi",
        "tensor-fusion.ai/compute-percent-limit": "50", "tensor-fusion.ai/gpu-model": "SOFT"});
    let spec = json!({"containers": [{"name": "main"}]});
    let share = |allocation: Allocation| allocation.shares().next().unwrap().clone();
    let part = share(ledger.place(&claim_of("p", annotations, spec.clone()), &[]).unwrap());
    assert_eq!((part.tflops, part.tflops_limit), (Tflops::from_milli(2500), Some(Tflops::new(10))));
    let dedicated = |model: &str| {
        claim_of(
            "d",
            json!({"tensor-fusion.ai/dedicated-gpu": "true", "tensor-fusion.ai/gpu-model": model}),
            spec.clone(),
        )
    };
    let whole = share(ledger.place(&dedicated("BIG"), &[]).unwrap());
    assert_eq!((whole.gpu.as_str(), whole.vram, whole.tflops), ("gpu-c0", Bytes::from_gib(80), Tflops::new(20)));
    let why = ledger.place(&dedicated("NONE"), &[]).unwrap_err();
    assert_eq!(ledger.explain(&why), "pool `default` has no GPUs of model NONE");
}

#[test]
fn a_pods_own_rules_and_nodes_tried_in_vain_are_heeded() {
    let mut ledger = ledger();
    let labels = BTreeMap::from([("zone".to_owned(), "z".to_owned())]);
    ledger.set_node("b", Some(NodeFacts { ready: true, labels, ..NodeFacts::default() }));
    let want = json!({"tensor-fusion.ai/vram-limit": "1Gi"});
    let zone = |zone: &str| json!({"containers": [{"name": "main"}], "nodeSelector": {"zone": zone}});
    assert_eq!(ledger.place(&claim_of("p", want.clone(), zone("z")), &[]).unwrap().node, "b");
    assert_eq!(ledger.place(&claim_of("q", want.clone(), zone("nowhere")), &[]), Err(Waiting::NoNode));
    assert_eq!(ledger.place(&asks("r", "1Gi", "1"), &["b".to_owned()]).unwrap().node, "a");
    // Avoided everywhere is avoided nowhere.
    assert!(ledger.place(&asks("s", "1Gi", "1"), &["a".to_owned(), "b".to_owned()]).is_ok());
    ledger.set_node("a", Some(NodeFacts::default()));
    let waiting = ledger.place(&asks("t", "7Gi", "20"), &["b".to_owned()]).map(|allocation| allocation.node);
    assert_eq!(waiting.unwrap(), "b");
}

#[test]
fn of_fifty_pods_one_gets_the_last_slot_of_a_quota() {
    let mut ledger = ledger();
    let quota: GPUResourceQuotaSpec = serde_json::from_value(json!({
        "total": {"requests": {"tflops": "0", "vram": "5Gi"}, "maxWorkers": 100},
        "single": {"maxRequests": {"tflops": "10", "vram": "4Gi"}, "defaultRequests": {"tflops": "2", "vram": "1Gi"}},
    }))
    .unwrap();
    ledger.set_quota("ns", "q", Some(quota));
    ledger.place(&asks("first", "4Gi", "1"), &[]).unwrap();
    let won = (0..50).filter(|number| ledger.place(&asks(&format!("p{number}"), "1Gi", "1"), &[]).is_ok()).count();
    assert_eq!(won, 1);
    let refused = ledger.place(&asks("late", "1Gi", "1"), &[]).unwrap_err();
    assert!(
        matches!(&refused, Waiting::Quota(text, true) if text.contains("5 GiB") || text.contains("5Gi")),
        "{refused:?}"
    );
    let large = ledger.place(&asks("large", "5Gi", "1"), &[]).unwrap_err();
    assert!(matches!(large, Waiting::Quota(_, false)));
    ledger.release("first");
    // What it does not ask for is the quota's default.
    let vram_only =
        claim_of("d", json!({"tensor-fusion.ai/vram-limit": "1Gi"}), json!({"containers": [{"name": "main"}]}));
    assert_eq!(ledger.place(&vram_only, &[]).unwrap().shares().next().unwrap().tflops, Tflops::new(2));
}

#[test]
fn a_gang_is_placed_whole_or_not_at_all() {
    let gang = |uid: &str| {
        let annotations = json!({"tensor-fusion.ai/vram-limit": "5Gi", "tensor-fusion.ai/gang-enabled": "true", "tensor-fusion.ai/gang-min-members": "5"});
        claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
    };
    let members: Vec<Claim> = (0..5).map(|number| gang(&format!("g{number}"))).collect();
    let waiting: Vec<&Claim> = members.iter().collect();
    let none = BTreeMap::new();
    let mut ledger = ledger();
    let needed = crate::allocator::gang::needed(&members[0], None).unwrap();
    let place = |ledger: &mut Ledger, waiting: &[&Claim], there: usize| {
        crate::allocator::gang::place(ledger, waiting, there, needed, &none)
    };
    assert_eq!(place(&mut ledger, &waiting[..4], 0), Err(Waiting::Gang(4, 5)));
    assert!(matches!(place(&mut ledger, &waiting, 0), Err(Waiting::Room(_))));
    assert_eq!(free(&mut ledger), [8, 8, 8, 8]);
    ledger.set_card("gpu-c0", Some(card("c", 0, 8)));
    assert_eq!(place(&mut ledger, &waiting, 0).unwrap().len(), 5);
    assert_eq!(free(&mut ledger), [3, 3, 3, 3, 3]);
    // One died, and its successor joins those that are there.
    ledger.release("g2");
    assert_eq!(place(&mut ledger, &[&gang("g5")], 4).unwrap().len(), 1);
}

#[test]
fn an_explanation_counts_every_gpu() {
    let mut ledger = ledger();
    let waiting = ledger.place(&asks("p", "9Gi", "1"), &[]).unwrap_err();
    let text = ledger.explain(&waiting);
    assert!(text.contains("4 of 4") && text.contains("VRAM") && text.contains("default"), "{text}");
    let text = ledger.explain(&Waiting::Gang(2, 3));
    assert_eq!(text, "its gang has 2 of the 3 members that it needs");
}

#[test]
fn a_node_that_is_lost_gets_nothing_until_it_is_back() {
    let mut ledger = ledger();
    ledger.set_node("a", Some(NodeFacts::default()));
    for number in 0..2 {
        assert_eq!(ledger.place(&asks(&format!("p{number}"), "8Gi", "1"), &[]).unwrap().node, "b");
    }
    assert!(ledger.place(&asks("p2", "8Gi", "1"), &[]).is_err());
    ledger.set_node("a", Some(NodeFacts { ready: true, ..NodeFacts::default() }));
    assert_eq!(ledger.place(&asks("p2", "8Gi", "1"), &[]).unwrap().node, "a");
}

#[test]
fn init_containers_lie_where_the_main_ones_will() {
    let one = |name: &str, gib: u64, more: serde_json::Value| {
        let limits = json!({"nvidia.com/gpu": 1, "nvidia.com/gpumem": gib * 1024});
        let mut one = json!({"name": name, "resources": {"limits": limits}});
        json_patch::merge(&mut one, &more);
        one
    };
    let always = json!({"restartPolicy": "Always"});
    let none = json!({});
    let cases = [
        // Less than the main one, more, two of them, beside a sidecar, and alone.
        (json!([one("i", 3, none.clone())]), json!([one("m", 4, none.clone())]), 4),
        (json!([one("i", 6, none.clone())]), json!([one("m", 4, none.clone())]), 6),
        (json!([one("i", 5, none.clone()), one("j", 6, none.clone())]), json!([one("m", 4, none.clone())]), 6),
        (json!([one("s", 2, always.clone()), one("i", 5, none.clone())]), json!([one("m", 4, none.clone())]), 7),
        (json!([one("i", 5, none.clone()), one("j", 3, none.clone())]), json!([{"name": "m"}]), 5),
    ];
    for (init, main, taken) in cases {
        let mut ledger = Ledger::default();
        ledger.set_card("gpu-a0", Some(card("a", 0, 8)));
        let claim = claim_of("p", json!({}), json!({"initContainers": init.clone(), "containers": main}));
        let allocation = ledger.place(&claim, &[]).unwrap();
        assert_eq!(free(&mut ledger), [8 - taken], "{init}");
        assert_eq!(ledger.used("ns").requests.vram, Bytes::from_gib(taken));
        // As it stands in the pod it means the same.
        let text = serde_json::to_string(&allocation).unwrap();
        let mut again = Ledger::default();
        again.set_card("gpu-a0", Some(card("a", 0, 8)));
        again.grant("p", "ns", "p", Allocation::parse(&text).unwrap(), Terms::default());
        assert_eq!((free(&mut again), again.used("ns")), (free(&mut ledger), ledger.used("ns")));
        ledger.release("p");
        assert_eq!(free(&mut ledger), [8]);
    }
    // Where the main one fits and what the init container needs more does not, another node is taken.
    let mut ledger = Ledger::default();
    ledger.set_card("gpu-a0", Some(card("a", 0, 4)));
    ledger.set_card("gpu-b0", Some(card("b", 0, 8)));
    let spec = json!({"initContainers": [one("i", 6, none.clone())], "containers": [one("m", 4, none)]});
    assert_eq!(ledger.place(&claim_of("p", json!({}), spec), &[]).unwrap().node, "b");
    assert_eq!(free(&mut ledger), [4, 2]);
}

#[test]
fn what_is_isolated_hard_is_never_oversubscribed() {
    let hard = |uid: &str| {
        let annotations = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/tflops-limit": "15",
            "tensor-fusion.ai/qos": "low", "tensor-fusion.ai/isolation": "hard"});
        claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
    };
    let mut ledger = Ledger::default();
    let oversell = Percent::try_from(500.0).ok();
    ledger.set_pool("default", Some(PoolPolicy { oversell, ..PoolPolicy::default() }));
    ledger.set_card("gpu-a0", Some(card("a", 0, 8)));
    assert!(ledger.place(&hard("first"), &[]).unwrap().shares().next().unwrap().guaranteed);
    assert!(ledger.place(&hard("second"), &[]).is_err(), "30 of 20 TFLOPS cannot be guaranteed");
    assert!(ledger.place(&asks("soft", "1Gi", "15"), &[]).is_err(), "QoS high is guaranteed, too");
    assert!(ledger.place(&asks_as("low", "1Gi", "low"), &[]).is_ok());
}

#[test]
fn hard_isolation_with_a_limit_says_how_many_percent_of_the_card_that_is() {
    let percent = |annotations: serde_json::Value| {
        let mut ledger = ledger();
        let claim = claim_of("p", annotations, json!({"containers": [{"name": "main"}]}));
        let allocation = ledger.place(&claim, &[]).unwrap();
        ledger.hard_percent(&claim.wish, &allocation)
    };
    let of = |isolation: &str, limit: &str| {
        percent(json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/tflops-request": "10m",
            "tensor-fusion.ai/tflops-limit": limit, "tensor-fusion.ai/isolation": isolation}))
    };
    // Of the 20 TFLOPS of these cards.
    assert_eq!(of("hard", "5"), Some(25));
    assert_eq!(of("hard", "5100m"), Some(26), "rounded up");
    assert_eq!((of("hard", "10m"), of("hard", "30")), (Some(1), Some(100)));
    assert_eq!((of("soft", "5"), of("shared", "5")), (None, None));
    let percents = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/compute-percent-limit": "25",
        "tensor-fusion.ai/isolation": "hard"});
    assert_eq!(percent(percents), None, "percents need no conversion");
}
