//! Random streams of pods that come, go and are evicted keep every invariant of the ledger, and it answers as brute force does.

use std::collections::BTreeMap;
use std::time::Duration;

use crd::Phase;
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::testing::{card, claim_of};
use super::*;
use crate::allocator::claim::Claim;
use crate::allocator::gang;
use crate::allocator::preempt::{Rules, Scope, plan};

/// A container: when it runs, GiB, TFLOPS, GPUs.
type Container = (Phase, u64, u64, u32);

#[derive(Clone, Debug)]
enum Step {
    /// A pod comes: its class, its containers.
    Come(usize, Vec<Container>),
    /// A gang comes: its class, GiB of each member, members, how many it needs.
    Gang(usize, u64, usize, usize),
    /// One of those that have something goes.
    Go(usize),
    /// A pod of a class comes and evicts whom it needs.
    Evict(usize, u64),
    /// A card goes, or comes back.
    Card(usize),
    /// The operator starts anew.
    Restart,
}

const CLASSES: [&str; 4] = ["low", "medium", "high", "critical"];
const CARDS: [(&str, &str, u32, u64); 4] =
    [("gpu-a0", "a", 0, 8), ("gpu-a1", "a", 1, 6), ("gpu-b0", "b", 0, 8), ("gpu-c0", "c", 0, 4)];
const QUOTA: u64 = 20;

fn container() -> impl Generator<Value = Container> {
    let phase = prop_oneof![3 => Just(Phase::Main), 1 => Just(Phase::Sidecar), 2 => Just(Phase::Init)];
    (phase, 1..7u64, 0..8u64, 1..3u32)
}

fn step() -> impl Generator<Value = Step> {
    prop_oneof![
        6 => (0..4usize, prop::collection::vec(container(), 1..4)).prop_map(|(qos, all)| Step::Come(qos, all)),
        1 => (0..4usize, 1..5u64, 1..5usize, 1..5usize).prop_map(|(qos, gib, all, needed)| Step::Gang(qos, gib, all, needed)),
        4 => (0..99usize).prop_map(Step::Go),
        2 => (1..4usize, 1..8u64).prop_map(|(qos, gib)| Step::Evict(qos, gib)),
        1 => (0..4usize).prop_map(Step::Card),
        1 => Just(Step::Restart),
    ]
}

/// The claim of a pod with these containers, by HAMi's resources for amounts that differ.
fn come(uid: &str, qos: usize, containers: &[Container]) -> Claim {
    let (mut main, mut init) = (Vec::new(), Vec::new());
    for (number, (phase, gib, _, gpus)) in containers.iter().enumerate() {
        let resources = json!({"limits": {"nvidia.com/gpu": gpus, "nvidia.com/gpumem": gib * 1024}});
        let mut one = json!({"name": format!("c{number}"), "resources": resources});
        match phase {
            Phase::Main => main.push(one),
            Phase::Sidecar => {
                one["restartPolicy"] = "Always".into();
                init.push(one);
            }
            Phase::Init => init.push(one),
        }
    }
    if main.is_empty() {
        main.push(json!({"name": "main"}));
    }
    let annotations = json!({"tensor-fusion.ai/qos": CLASSES[qos]});
    let mut claim = claim_of(uid, annotations, json!({"containers": main, "initContainers": init}));
    for container in &mut claim.wish.containers {
        let number: usize = container.name[1..].parse().unwrap();
        let tflops = types::Tflops::new(containers[number].2);
        (container.tflops_request, container.tflops_limit) = (Some(tflops), Some(tflops));
    }
    claim
}

fn member(uid: &str, qos: usize, gib: u64, needed: usize) -> Claim {
    let annotations: Value = json!({"tensor-fusion.ai/vram-limit": format!("{gib}Gi"), "tensor-fusion.ai/qos": CLASSES[qos],
        "tensor-fusion.ai/gang-enabled": "true", "tensor-fusion.ai/gang-min-members": if needed == 1 { 0 } else { needed }.to_string()});
    claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
}

/// What pods take of each GPU, written down a second time: the most of any moment of the pod's life.
fn taken(ledger: &Ledger) -> BTreeMap<String, (u64, u64)> {
    let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (_, _, _, allocation) in ledger.granted() {
        for gpu in allocation.gpus() {
            let of = |wanted: &dyn Fn(Phase) -> bool| -> Vec<(u64, u64)> {
                let containers = allocation.containers.iter().filter(|(name, _)| wanted(allocation.phase(name)));
                let shares = containers.flat_map(|(_, shares)| shares).filter(|share| share.gpu == gpu);
                shares.map(|share| (share.vram.get(), share.tflops.milli())).collect()
            };
            let sum = |all: Vec<(u64, u64)>| all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let sidecars = sum(of(&|phase| phase == Phase::Sidecar));
            let mut most = sum(of(&|phase| phase == Phase::Main));
            for init in of(&|phase| phase == Phase::Init) {
                most = (most.0.max(init.0), most.1.max(init.1));
            }
            let entry = all.entry(gpu.to_owned()).or_default();
            *entry = (entry.0 + most.0 + sidecars.0, entry.1 + most.1 + sidecars.1);
        }
    }
    all
}

fn check(ledger: &mut Ledger) -> Result<(), TestCaseError> {
    let taken = taken(ledger);
    let used: u64 = taken.values().map(|amount| amount.0).sum();
    prop_assert_eq!(ledger.used("ns").requests.vram.get(), used);
    prop_assert!(used <= QUOTA << 30, "the quota is exceeded");
    let pods = ledger.granted().count() as u64;
    prop_assert_eq!(ledger.used("ns").workers, pods);
    prop_assert!(ledger.overfull().is_empty());
    for gpu in ledger.inventory().gpus() {
        let (vram, tflops) = taken.get(&gpu.uuid).copied().unwrap_or_default();
        prop_assert_eq!(gpu.free.vram.get() + vram, gpu.capacity.vram.get(), "{}", &gpu.uuid);
        prop_assert_eq!(gpu.free.tflops.milli() + tflops, gpu.capacity.tflops.milli(), "{}", &gpu.uuid);
        prop_assert!(gpu.card.covers(gpu.guaranteed));
        prop_assert_eq!(gpu.reserved, Amount::default());
    }
    Ok(())
}

/// Whether one container of a class would fit somewhere, by looking at every GPU.
fn fits(ledger: &mut Ledger, (_, gib, tflops, gpus): Container, qos: usize) -> bool {
    let asked = Amount::new(types::Tflops::new(tflops), types::Bytes::from_gib(gib));
    let room = ledger.used("ns").requests.vram.get() + (gib << 30) * u64::from(gpus) <= QUOTA << 30;
    let inventory = ledger.inventory();
    room && inventory.nodes().iter().any(|node| {
        let fitting =
            node.gpus.iter().filter_map(|&gpu| inventory.gpu(gpu)).filter(|gpu| {
                gpu.free.covers(asked) && (qos < 2 || gpu.card.saturating_sub(gpu.guaranteed).covers(asked))
            });
        fitting.count() >= gpus as usize
    })
}

fn fresh(cards: &[bool; 4]) -> Ledger {
    let mut ledger = Ledger::default();
    let oversell = types::Percent::try_from(150.0).ok();
    ledger.set_pool("default", Some(PoolPolicy { oversell, ..PoolPolicy::default() }));
    for ((name, node, index, gib), _) in CARDS.iter().zip(cards).filter(|(_, there)| **there) {
        ledger.set_card(name, Some(card(node, *index, *gib)));
    }
    let quota = json!({"total": {"requests": {"tflops": "0", "vram": format!("{QUOTA}Gi")}}});
    ledger.set_quota("ns", "q", Some(serde_json::from_value(quota).unwrap()));
    ledger
}

fn terms(claims: &BTreeMap<String, Claim>, uid: &str) -> Terms {
    claims.get(uid).map(|claim| Terms::of(&claim.pod, Some(&claim.wish))).unwrap_or_default()
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_nothing_is_given_twice_or_lost(steps in prop::collection::vec(step(), 1..40), last in any::<bool>()) {
        let mut cards = [true; 4];
        let mut ledger = fresh(&cards);
        let mut claims: BTreeMap<String, Claim> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let uid = format!("p{number:02}");
            match step {
                Step::Come(qos, containers) => {
                    let claim = come(&uid, qos, &containers);
                    let possible = fits(&mut ledger, containers[0], qos);
                    let placed = ledger.place(&claim, &[]);
                    if containers.len() == 1 {
                        prop_assert_eq!(placed.is_ok(), possible, "{:?}", placed);
                    }
                    if let Ok(allocation) = placed {
                        prop_assert_eq!(allocation.containers.len(), containers.len());
                        claims.insert(uid, claim);
                    }
                }
                Step::Gang(qos, gib, all, needed) => {
                    let members: Vec<Claim> = (0..all).map(|at| member(&format!("{uid}-{at}"), qos, gib, needed)).collect();
                    let waiting: Vec<&Claim> = members.iter().collect();
                    let before = ledger.granted().count();
                    match gang::place(&mut ledger, &waiting, 0, needed, &BTreeMap::new()) {
                        Ok(placed) => {
                            prop_assert!(placed.len() >= needed);
                            prop_assert_eq!(ledger.granted().count(), before + placed.len());
                            claims.extend(placed.into_iter().map(|(at, _)| (members[at].uid.clone(), members[at].clone())));
                        }
                        Err(_) => prop_assert_eq!(ledger.granted().count(), before),
                    }
                }
                Step::Go(which) => {
                    let all: Vec<String> = claims.keys().cloned().collect();
                    if !all.is_empty() {
                        let uid = &all[which % all.len()];
                        prop_assert!(ledger.release(uid));
                        prop_assert!(!ledger.release(uid));
                        claims.remove(uid);
                    }
                }
                Step::Evict(qos, gib) => {
                    let claim = come(&uid, qos, &[(Phase::Main, gib, 0, 1)]);
                    if matches!(ledger.place(&claim, &[]), Err(Waiting::Room(_))) {
                        let (spared, desired, avoid) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
                        let rules = Rules { scope: Scope::Cluster, now: Duration::from_secs(1 << 31), spared: &spared, desired: &desired, avoid: &avoid };
                        let Ok(plan) = plan(&mut ledger, &claim, &rules) else { continue };
                        ledger.keep_for(&claim, &plan.placements);
                        for victim in &plan.victims {
                            prop_assert!(victim.qos < claim.wish.qos);
                            prop_assert!(ledger.release(&victim.uid));
                            claims.remove(&victim.uid);
                        }
                        prop_assert!(ledger.place(&claim, &[]).is_ok(), "the victims went for nothing");
                    }
                    if ledger.has(&claim.uid) {
                        claims.insert(uid, claim);
                    }
                }
                Step::Card(which) => {
                    // Gone with what is on it, or back: what is on it counts all the time.
                    cards[which] = !cards[which];
                    let (name, node, index, gib) = CARDS[which];
                    ledger.set_card(name, cards[which].then(|| card(node, index, gib)));
                    continue;
                }
                Step::Restart => {
                    let mut again = Ledger::default();
                    for (uid, _, name, allocation) in ledger.granted() {
                        again.grant(uid, "ns", name, allocation.clone(), terms(&claims, uid));
                    }
                    let base = fresh(&cards);
                    for (name, card) in base.cards() {
                        again.set_card(name, Some(card.clone()));
                    }
                    for (name, policy) in base.pools() {
                        again.set_pool(name, Some(policy.clone()));
                    }
                    again.quotas = base.quotas;
                    ledger = again;
                }
            }
            if cards == [true; 4] {
                check(&mut ledger)?;
            }
        }
        if last {
            for uid in claims.keys() {
                prop_assert!(ledger.release(uid));
            }
            prop_assert_eq!(ledger.granted().count(), 0);
            prop_assert!(ledger.inventory().gpus().iter().all(|gpu| gpu.free == gpu.capacity && gpu.shares == 0));
        }
    }
}
