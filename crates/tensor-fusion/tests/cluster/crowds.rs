//! More pods than room: quotas, gangs, and who goes first. What is refused waits, and its events say for what.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, PROGRAMS, apply, create, kubectl, until};
use super::pods::{bound, everything, holder, runs, told, which};
use super::{accounts, pods};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("crowd::fifty_pods_race_for_the_last_place_of_a_quota", fifty_pods_race_for_the_last_place_of_a_quota),
        case("crowd::a_gang_starts_whole_or_not_at_all", a_gang_starts_whole_or_not_at_all),
        case("crowd::a_higher_class_takes_the_place_of_a_lower", a_higher_class_takes_the_place_of_a_lower),
        case("crowd::within_a_full_quota_a_higher_class_goes_first", within_a_full_quota_a_higher_class_goes_first),
        case("crowd::a_protected_pod_and_a_budget_are_respected", a_protected_pod_and_a_budget_are_respected),
    ]
}

/// Half a GPU of the cluster's two: four of these fit.
pub(crate) const HALF: &str = "tensor-fusion.ai/vram-limit: 4Gi, tensor-fusion.ai/tflops-limit: '1'";

const QUOTA: &str = "apiVersion: tensor-fusion.ai/v1
kind: GPUResourceQuota
metadata: {name: three, namespace: default}
spec: {total: {maxWorkers: 3}}
";

fn fifty_pods_race_for_the_last_place_of_a_quota() -> Result<(), Failed> {
    let little = "tensor-fusion.ai/vram-limit: 100Mi, tensor-fusion.ai/tflops-limit: '100m'";
    create(QUOTA)?;
    create(&(holder("first", "default", little, "") + &holder("second", "default", little, "")))?;
    pods::running("default", "first")?;
    pods::running("default", "second")?;

    let name = |number: usize| format!("racer-{number}");
    // Five at a time, each a burst of ten: the API server sees them all within a second or two.
    let bursts: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let burst = |start: usize| {
            let manifests: String =
                (start..start + 10).map(|number| holder(&name(number), "default", little, "")).collect();
            scope.spawn(move || create(&manifests))
        };
        let bursts: Vec<_> = (0..50).step_by(10).map(burst).collect();
        bursts.into_iter().map(|burst| burst.join().unwrap_or_else(|_| Err("a burst panicked".to_owned()))).collect()
    });
    bursts.into_iter().collect::<Result<(), _>>()?;
    let racers = |so: fn(&Value) -> bool| {
        let names = which("-n default", so)?;
        Ok::<_, String>(names.into_iter().filter(|name| name.starts_with("racer-")).collect::<Vec<_>>())
    };
    let winner = |besides: &str| {
        let looked = until("one racer runs", PATIENCE, || match racers(runs)?.as_slice() {
            [one] if one != besides => Ok(one.clone()),
            other => Err(format!("{other:?} run")),
        });
        looked.map_err(|error| format!("{error}\n{}", everything("default", "racer-0")))
    };
    let first = winner("")?;
    // It stays one: whoever was counted twice would show within the time that a decision takes.
    let until_then = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until_then {
        let through = racers(bound)?;
        assert_eq!(through, [first.as_str()], "the quota has room for one");
        std::thread::sleep(Duration::from_millis(300));
    }
    let loser = if first == name(7) { name(8) } else { name(7) };
    let text = told("default", &loser, "WaitingForQuota")?;
    assert!(text.contains("quota"), "{text}");
    accounts::balanced()?;

    kubectl(&format!("delete pod {first} --now"))?;
    let second = winner(&first)?;
    assert_ne!(first, second);
    assert_eq!(racers(bound)?, [second.as_str()]);
    // Room for everybody.
    kubectl("delete gpuresourcequota three")?;
    until("all racers run", PATIENCE, || match racers(runs)?.len() {
        49 => Ok(()),
        some => Err(format!("{some} run")),
    })?;
    accounts::balanced()?;
    kubectl("delete pods --all --now")?;
    accounts::all_free()?;
    Ok(())
}

fn within_a_full_quota_a_higher_class_goes_first() -> Result<(), Failed> {
    create(QUOTA)?;
    let little = |name: &str, qos: &str| {
        let wish = format!(
            "tensor-fusion.ai/vram-limit: 100Mi, tensor-fusion.ai/tflops-limit: '100m', tensor-fusion.ai/qos: {qos}"
        );
        holder(name, "default", &wish, "")
    };
    create(&(little("first", "low") + &little("second", "medium") + &little("third", "low")))?;
    for name in ["first", "second", "third"] {
        pods::running("default", name)?;
    }
    // There is room on every GPU, so it is for the quota alone that somebody goes.
    create(&little("important", "high"))?;
    pods::running("default", "important")?;
    let text = told("default", "important", "Preempting")?;
    assert!(text.contains("(low)"), "{text}");
    let left = which("-n default", runs)?;
    assert!(left.len() == 3 && left.iter().any(|name| name == "second"), "{left:?}");
    accounts::balanced()?;
    // An equal waits, and hears for what.
    create(&little("equal", "low"))?;
    let text = told("default", "equal", "WaitingForQuota")?;
    assert!(text.contains("allows 3 workers"), "{text}");
    kubectl("delete gpuresourcequota three")?;
    pods::running("default", "equal")?;
    kubectl("delete pods --all --now")?;
    accounts::all_free()?;
    Ok(())
}

fn a_gang_starts_whole_or_not_at_all() -> Result<(), Failed> {
    let blockers = holder("blocker-1", "default", HALF, "") + &holder("blocker-2", "default", HALF, "");
    create(&blockers)?;
    pods::running("default", "blocker-1")?;
    pods::running("default", "blocker-2")?;
    // Three halves, and two are free.
    apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: gang}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: gang}}}}
  template:
    metadata:
      labels: {{app: gang, tensor-fusion.ai/enabled: 'true'}}
      annotations: {{{HALF}, tensor-fusion.ai/gang-enabled: 'true', tensor-fusion.ai/gang-min-members: '3'}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: {PROGRAMS}, imagePullPolicy: Never, command: [/bin/busybox, sleep, '3600']}}]
"
    ))?;
    let member = pods::with_label("default", "app=gang")?;
    let waits = told("default", &member, "WaitingForGPU").or_else(|_| told("default", &member, "WaitingForGang"))?;
    assert!(!waits.is_empty());
    let until_then = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until_then {
        let through = which("-l app=gang", bound)?;
        assert!(through.is_empty(), "a part of the gang has a place: {through:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    kubectl("delete pod blocker-1 --now")?;
    let whole = until("the whole gang runs", PATIENCE, || match which("-l app=gang", runs)?.len() {
        3 => Ok(()),
        some => Err(format!("{some} run")),
    });
    whole.map_err(|error| format!("{error}\n{}", everything("default", &member)))?;
    accounts::balanced()?;
    Ok(())
}

/// Four pods of the lowest class that fill the GPUs.
pub(crate) fn low(more: &str) -> Result<(), String> {
    let wish = format!("{HALF}, tensor-fusion.ai/qos: low{more}");
    let manifests: String = (1..=4).map(|number| holder(&format!("low-{number}"), "default", &wish, "")).collect();
    create(&manifests)?;
    until("four pods run", PATIENCE, || match which("-n default", runs)?.len() {
        4 => Ok(()),
        some => Err(format!("{some} run")),
    })
}

/// The pod that comes first.
pub(crate) fn critical() -> Result<(), String> {
    create(&holder("important", "default", &format!("{HALF}, tensor-fusion.ai/qos: critical"), ""))
}

fn a_higher_class_takes_the_place_of_a_lower() -> Result<(), Failed> {
    low("")?;
    critical()?;
    pods::running("default", "important")?;
    let left = which("-n default", |pod| runs(pod) && pod["metadata"]["name"] != "important")?;
    assert_eq!(left.len(), 3, "one had to go, and {left:?} are left");
    let victim =
        (1..=4).map(|number| format!("low-{number}")).find(|name| !left.contains(name)).ok_or("nobody went")?;
    let text = told("default", &victim, "Preempted")?;
    assert!(text.contains("default/important"), "{text}");
    told("default", "important", "Preempting")?;
    accounts::balanced()?;
    Ok(())
}

fn a_protected_pod_and_a_budget_are_respected() -> Result<(), Failed> {
    low(", tensor-fusion.ai/eviction-protection: 1h")?;
    critical()?;
    told("default", "important", "WaitingForGPU")?;
    // Longer than a decision takes.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(which("-n default", runs)?.len(), 4, "protected pods stay");
    kubectl("delete pods --all --now")?;
    accounts::all_free()?;

    // Nobody of these may be evicted, says their owner.
    let selector = "{matchExpressions: [{key: crowd, operator: In, values: [low-1, low-2, low-3, low-4]}]}";
    create(&format!(
        "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: all, namespace: default}}
spec: {{maxUnavailable: 0, selector: {selector}}}
"
    ))?;
    low("")?;
    critical()?;
    let text = told("default", "important", "WaitingForGPU")?;
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(which("-n default", runs)?.len(), 4, "their budget allows no eviction: {text}");
    kubectl("delete poddisruptionbudget all")?;
    pods::running("default", "important")?;
    accounts::balanced()?;
    Ok(())
}
