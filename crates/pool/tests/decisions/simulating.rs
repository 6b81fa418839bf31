//! Traces replayed.

use pool::{Report, Trace, simulate};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};
use types::Qos;

fn run(trace: Value) -> Report {
    simulate(&serde_json::from_value::<Trace>(trace).unwrap()).unwrap()
}

fn placed(report: &Report) -> Vec<Option<u64>> {
    report.outcomes.iter().map(|outcome| outcome.placed).collect()
}

#[test]
fn the_simulator_makes_who_does_not_fit_wait_for_who_ends() {
    let trace: pool::Trace = serde_json::from_value(serde_json::json!({
        "nodes": [{"name": "n", "gpus": 2, "tflops": "20", "vram": "8GiB"}],
        "requests": [
            {"name": "long", "seconds": 100, "request": {"vram": "6GiB", "tflops": "5"}},
            {"name": "short", "at": 1, "seconds": 10, "request": {"vram": "6GiB", "tflops": "5"}},
            {"name": "late", "at": 2, "replicas": 2, "request": {"vram": "3GiB", "tflops": "1"}},
            {"name": "never", "at": 3, "request": {"vram": "9GiB"}},
        ],
    }))
    .unwrap();
    let report = pool::simulate(&trace).unwrap();
    let placed: Vec<Option<u64>> = report.outcomes.iter().map(|outcome| outcome.placed).collect();
    assert_eq!(placed, [Some(0), Some(1), Some(11), Some(11), None]);
    assert_eq!((report.placed, report.longest_wait_seconds), (4, 9));
    assert_eq!(report.outcomes[2].gpus, report.outcomes[3].gpus);
    assert!(report.outcomes[4].refused.as_ref().unwrap().contains("not enough VRAM (asked 9 GiB, best free 2 GiB"));
    assert_eq!(report.vram_percent, 37.5);
}

#[test]
fn a_big_one_is_not_starved_by_a_stream_of_small_ones() {
    let trace = |nominate: bool| {
        json!({
            "nodes": [{"name": "n", "tflops": 20, "vram": "8GiB"}],
            "policy": {"nominate": nominate},
            "requests": [
                {"name": "small", "replicas": 30, "every": 5, "seconds": 10, "request": {"vram": "3GiB"}},
                {"name": "big", "at": 1, "seconds": 10, "request": {"vram": "8GiB"}},
                {"name": "quick", "at": 6, "seconds": 4, "request": {"vram": "1GiB"}},
            ],
        })
    };
    let of = |report: &Report, name: &str| report.outcomes.iter().find(|one| one.name == name).unwrap().placed;
    let starved = run(trace(false));
    assert!(of(&starved, "big").unwrap() > 150, "{:?}", of(&starved, "big"));
    let fair = run(trace(true));
    assert_eq!(of(&fair, "big"), Some(10));
    assert_eq!(of(&fair, "quick"), Some(6), "who ends in time passes");
    assert_eq!(of(&fair, "small-1"), Some(20), "who would delay the big one waits");
}

#[test]
fn a_gang_is_not_starved_by_a_stream_of_small_ones_and_two_gangs_do_not_lock_each_other_out() {
    let trace = |nominate: bool| {
        json!({
            "nodes": [{"name": "n", "count": 2, "gpus": 2, "tflops": 20, "vram": "8GiB"}],
            "policy": {"nominate": nominate},
            "requests": [
                {"name": "small", "replicas": 80, "every": 5, "seconds": 19, "request": {"vram": "5GiB"}},
                {"name": "first", "at": 21, "replicas": 3, "gang": {}, "seconds": 10, "request": {"vram": "8GiB"}},
                {"name": "second", "at": 21, "replicas": 3, "gang": {}, "seconds": 10, "request": {"vram": "8GiB"}},
                {"name": "brief", "at": 22, "replicas": 4, "gang": {"timeout": 5}, "seconds": 10, "request": {"vram": "8GiB"}},
            ],
        })
    };
    let of = |report: &Report, name: &str| {
        let gang = report.outcomes.iter().filter(|one| one.name.starts_with(name));
        let placed: Vec<Option<u64>> = gang.map(|one| one.placed).collect();
        assert!(placed.iter().all(|one| *one == placed[0]), "{placed:?}");
        placed[0]
    };
    let starved = run(trace(false));
    assert!(of(&starved, "first").unwrap() > 390, "{:?}", of(&starved, "first"));
    let fair = run(trace(true));
    assert_eq!((of(&fair, "first"), of(&fair, "second"), of(&fair, "brief")), (Some(34), Some(44), None));
    let mut small = fair.outcomes.iter().filter(|one| one.name.starts_with("small"));
    assert!(small.all(|one| one.placed.is_some()));
}

#[test]
fn the_important_evict_the_others_within_the_budget() {
    let trace = json!({
        "nodes": [{"name": "n", "gpus": 2, "tflops": 20, "vram": "8GiB"}],
        "policy": {"preempt": true, "evictions": {"window": 100, "namespace": 1}},
        "requests": [
            {"name": "low", "namespace": "a", "replicas": 2, "seconds": 50, "request": {"vram": "8GiB", "qos": "low"}},
            {"name": "high", "at": 10, "seconds": 5, "request": {"vram": "8GiB", "qos": "high"}},
            {"name": "more", "at": 11, "seconds": 5, "request": {"vram": "8GiB", "qos": "high"}},
        ],
    });
    let report = run(trace);
    assert_eq!(report.evictions, 1);
    assert_eq!(placed(&report), [Some(0), Some(0), Some(10), Some(15)]);
    let victim = report.outcomes.iter().find(|one| one.evicted == 1).unwrap();
    assert_eq!(victim.ended, Some(15 + 5 + 50), "it waits for both, and starts anew");
    let classes: Vec<(Qos, usize, u64)> =
        report.classes.iter().map(|class| (class.qos, class.placed, class.longest_wait_seconds)).collect();
    assert_eq!(classes, [(Qos::High, 2, 4), (Qos::Low, 2, 0)]);
}

#[test]
fn within_a_full_quota_the_important_evict_those_of_their_own_namespace() {
    let trace = |preempt: bool| {
        json!({
            "nodes": [{"name": "n", "gpus": 4, "tflops": 20, "vram": "8GiB"}],
            "policy": {"preempt": preempt},
            "quotas": {"team": {"total": {"vram": "16GiB", "tflops": 100}, "workers": 2}},
            "requests": [
                {"name": "other", "namespace": "b", "seconds": 90, "request": {"vram": "8GiB", "qos": "low"}},
                {"name": "low", "namespace": "team", "replicas": 2, "seconds": 50, "request": {"vram": "8GiB", "qos": "low"}},
                {"name": "high", "namespace": "team", "at": 10, "seconds": 5, "request": {"vram": "8GiB", "qos": "high"}},
            ],
        })
    };
    let report = run(trace(true));
    assert_eq!(placed(&report), [Some(0), Some(0), Some(0), Some(10)]);
    let evicted: Vec<u32> = report.outcomes.iter().map(|one| one.evicted).collect();
    assert_eq!(evicted.iter().sum::<u32>(), 1);
    assert_eq!(evicted[0], 0, "that of another namespace gives nothing back, though its GPU would do");
    let report = run(trace(false));
    assert_eq!((report.evictions, placed(&report)[3]), (0, Some(50)));
}

#[test]
fn quotas_and_gangs_hold_in_a_trace() {
    let trace = json!({
        "nodes": [{"name": "n", "gpus": 4, "tflops": 20, "vram": "8GiB"}],
        // Or the second gang would leave the first its place.
        "policy": {"nominate": false},
        "quotas": {"team": {"total": {"vram": "16GiB", "tflops": 100}, "single": {"vram": "8GiB", "tflops": 20}}},
        "requests": [
            {"name": "job", "namespace": "team", "seconds": 10, "replicas": 3, "request": {"vram": "8GiB"}},
            {"name": "never", "namespace": "team", "request": {"vram": "9GiB"}},
            {"name": "gang", "at": 1, "seconds": 5, "replicas": 3, "gang": {}, "request": {"vram": "8GiB"}},
            {"name": "elastic", "at": 2, "seconds": 5, "replicas": 3, "gang": {"minimum": 2}, "request": {"vram": "8GiB"}},
            {"name": "brief", "at": 3, "replicas": 4, "gang": {"timeout": 4}, "request": {"vram": "8GiB"}},
        ],
    });
    let report = run(trace);
    let expected = [
        Some(0),
        Some(0),
        Some(10), // the third when the quota allows it
        None,
        Some(12),
        Some(12),
        Some(12), // whole, once three are free
        Some(2),
        Some(2),
        Some(7), // two at once, the third later
        None,
        None,
        None,
        None,
    ];
    assert_eq!(placed(&report)[..4], expected[..4]);
    assert_eq!(placed(&report)[7..], expected[7..]);
    let gang = &placed(&report)[4..7];
    assert!(gang[0].is_some() && gang.iter().all(|one| *one == gang[0]), "{gang:?}");
    let why = |at: usize| report.outcomes[at].refused.clone().unwrap();
    assert!(why(2).contains("would exceed the namespace's"), "{}", why(2));
    assert!(why(3).contains("is more than the"), "{}", why(3));
    assert!(why(10).starts_with("the gang gave up waiting: 4 of 4: not enough VRAM"), "{}", why(10));
}

#[test]
fn means_are_over_time() {
    let report = run(json!({
        "nodes": [{"name": "n", "gpus": 2, "tflops": 10, "vram": "8GiB"}],
        "requests": [
            {"name": "half", "at": 10, "seconds": 10, "request": {"vram": "8GiB", "tflops": 5}},
            {"name": "tail", "at": 20, "seconds": 30, "request": {"vram": "4GiB"}},
        ],
    }));
    assert_eq!((report.seconds, report.vram_percent), (40, 0.0));
    assert_eq!(report.mean_vram_percent, (50.0 * 10.0 + 25.0 * 30.0) / 40.0);
    assert_eq!(report.mean_tflops_percent, 25.0 * 10.0 / 40.0);
    assert!((report.mean_fragmentation_percent - 100.0 / 3.0 * 30.0 / 40.0).abs() < 1e-9);
}

proptest! {
    #[test]
    fn random_traces_keep_gangs_whole_and_account_for_everybody(
        nodes in prop::collection::vec((1..4u32, 1..4u32, 1..9u64), 1..3),
        arrivals in prop::collection::vec(
            (0..30u64, 1..30u64, 1..5u32, 1..9u64, 0..4usize, prop::option::of((1..4usize, 1..30u64)), 1..3u32), 0..25),
        preempt in any::<bool>(),
        nominate in any::<bool>(),
        ratio in 1..4u32,
    ) {
        let groups: Vec<Value> = nodes.iter().enumerate().map(|(number, (count, gpus, gib))| {
            json!({"name": format!("g{number}"), "count": count, "gpus": gpus, "vram": format!("{gib}GiB"), "tflops": 10})
        }).collect();
        let requests: Vec<Value> = arrivals.iter().enumerate().map(
            |(number, (at, seconds, replicas, gib, qos, gang, count))| {
                let class = ["low", "medium", "high", "critical"][*qos];
                let gang = gang.map(|(minimum, timeout)| json!({"minimum": minimum, "timeout": timeout}));
                json!({
                    "name": number.to_string(), "at": at, "seconds": seconds, "replicas": replicas, "gang": gang,
                    "namespace": if number % 2 == 0 { "even" } else { "odd" },
                    "request": {"vram": format!("{gib}GiB"), "tflops": gib, "count": count,
                        "qos": class},
                })
            }).collect();
        let trace = json!({
            "nodes": groups, "requests": requests,
            "policy": {"preempt": preempt, "nominate": nominate, "tflops_ratio": ratio * 100},
            "quotas": {"odd": {"total": {"vram": "20GiB", "tflops": 60}, "workers": 4}},
        });
        let report = run(trace.clone());
        prop_assert_eq!(&report, &run(trace));
        prop_assert_eq!(report.outcomes.len(), arrivals.iter().map(|one| one.2 as usize).sum::<usize>());
        // All is given back at the end: everybody who was placed ended.
        prop_assert_eq!((report.vram_percent, report.tflops_percent), (0.0, 0.0));
        for outcome in &report.outcomes {
            prop_assert_eq!(outcome.placed.is_some(), outcome.ended.is_some(), "{:?}", outcome);
            prop_assert!(outcome.placed.is_some() || outcome.refused.is_some());
            prop_assert!(outcome.evicted == 0 || preempt);
        }
        // Members by the number of their arrival.
        for (number, (_, seconds, replicas, _, _, gang, _)) in arrivals.iter().enumerate() {
            let (alone, prefix) = (number.to_string(), format!("{number}-"));
            let members: Vec<_> =
                report.outcomes.iter().filter(|one| one.name == alone || one.name.starts_with(&prefix)).collect();
            for member in &members {
                if let (Some(placed), Some(ended)) = (member.placed, member.ended) {
                    prop_assert!(ended >= placed + seconds);
                }
            }
            let Some((minimum, timeout)) = gang else { continue };
            let first = members.iter().filter_map(|one| one.placed).min();
            let together = members.iter().filter(|one| one.placed == first).count();
            prop_assert!(first.is_none() || together >= (*minimum).min(*replicas as usize));
            prop_assert!(first.is_none_or(|first| first < members[0].arrived + timeout));
        }
    }
}

#[test]
fn the_example_trace_shows_what_its_format_has() {
    let text = include_str!("../../../../examples/kubernetes/trace.yaml");
    let report = simulate(&serde_yaml_ng::from_str::<Trace>(text).unwrap()).unwrap();
    let of = |name: &str| report.outcomes.iter().filter(|one| one.name.starts_with(name)).collect::<Vec<_>>();
    assert_eq!(report.outcomes.len(), 19);
    assert_eq!(report.placed, 19, "{:#?}", report.outcomes);
    assert_eq!(of("serving")[0].placed, Some(60), "it evicts somebody of a lower class");
    assert!(report.evictions > 0 && of("batch").iter().any(|one| one.evicted > 0));
    let longest = of("notebook").iter().filter_map(|one| Some(one.placed? - one.arrived)).max();
    assert!(longest > Some(0), "the quota lets six of eight run");
    assert!(report.mean_vram_percent > 0.0 && report.mean_fragmentation_percent > 0.0);
}
