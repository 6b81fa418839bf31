use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::allocator::ledger::Waiting;
use crate::allocator::ledger::testing::{asks_as, claim_of, free, ledger};

const NOW: Duration = Duration::from_secs(1_800_000_000);

struct About {
    spared: BTreeMap<String, Duration>,
    desired: BTreeMap<String, usize>,
    avoid: BTreeMap<String, Vec<String>>,
}

impl About {
    fn new() -> Self {
        Self { spared: BTreeMap::new(), desired: BTreeMap::new(), avoid: BTreeMap::new() }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { scope: Scope::Cluster, now: NOW, spared: &self.spared, desired: &self.desired, avoid: &self.avoid }
    }
}

/// Four cards of 8 GiB, each with a pod of 6 GiB.
fn crowded(classes: [&str; 4]) -> Ledger {
    let mut ledger = ledger();
    for (number, qos) in classes.into_iter().enumerate() {
        ledger.place(&asks_as(&format!("p{number}"), "6Gi", qos), &[]).unwrap();
    }
    ledger
}

fn victims(plan: &Plan) -> Vec<&str> {
    plan.victims.iter().map(|victim| victim.uid.as_str()).collect()
}

#[test]
fn the_place_of_a_victim_is_kept_until_it_is_taken() {
    let mut ledger = crowded(["medium", "low", "high", "medium"]);
    let about = About::new();
    let claim = asks_as("big", "5Gi", "high");
    assert!(ledger.place(&claim, &[]).is_err() && ledger.has_lesser(claim.wish.qos));
    let plan = plan(&mut ledger, &claim, &about.rules()).unwrap();
    assert_eq!(victims(&plan), ["p1"]);
    ledger.keep_for(&claim, &plan.placements);
    ledger.leaves("p1", Some(NOW + Duration::from_secs(90)));
    assert_eq!(ledger.kept_for("big").unwrap().node, "a");
    // While the victim ends nobody gets what is left beside it, and then only who it is kept for.
    assert!(ledger.place(&asks_as("small", "2Gi", "low"), &[]).unwrap().gpus() != ["gpu-a1"]);
    assert!(ledger.release("p1"));
    assert_eq!(free(&mut ledger), [0, 8, 2, 2], "the small one is beside another");
    assert!(ledger.place(&asks_as("thief", "6Gi", "critical"), &[]).is_err());
    // A card comes, so the inventory is made anew; what is kept stays kept.
    ledger.set_card("gpu-a1", Some(crate::allocator::ledger::testing::card("a", 1, 9)));
    assert!(ledger.place(&asks_as("thief", "6Gi", "critical"), &[]).is_err());
    assert_eq!(ledger.place(&claim, &[]).unwrap().gpus(), ["gpu-a1"]);
    assert!(ledger.kept_for("big").is_none());
    assert!(ledger.place(&asks_as("beside", "4Gi", "low"), &[]).is_ok());
}

#[test]
fn a_place_kept_for_a_lower_class_gives_way() {
    let mut ledger = crowded(["low", "low", "low", "low"]);
    let claim = asks_as("medium", "8Gi", "medium");
    let plan = plan(&mut ledger, &claim, &About::new().rules()).unwrap();
    ledger.keep_for(&claim, &plan.placements);
    ledger.release(&plan.victims[0].uid);
    let critical = asks_as("critical", "8Gi", "critical");
    assert!(ledger.place(&critical, &[]).is_err());
    assert!(!ledger.end_kept_below("default", types::Qos::Medium));
    assert!(ledger.end_kept_below("default", critical.wish.qos));
    assert!(ledger.place(&critical, &[]).is_ok());
}

#[test]
fn after_a_restart_those_who_leave_make_the_room_and_nobody_else_goes() {
    let mut ledger = crowded(["low", "medium", "low", "low"]);
    let about = About::new();
    let claim = asks_as("big", "8Gi", "high");
    ledger.leaves("p1", Some(NOW + Duration::from_secs(1)));
    let first = plan(&mut ledger, &claim, &about.rules()).unwrap();
    assert_eq!((victims(&first).len(), first.placements.len()), (0, 1));
    ledger.keep_for(&claim, &first.placements);
    // A second one needs another place, so another victim.
    let second = asks_as("second", "8Gi", "high");
    let found = plan(&mut ledger, &second, &about.rules()).unwrap();
    assert_eq!(victims(&found), ["p0"]);
    ledger.end_kept("big");
    // Who should be gone and is not, is neither room nor victim.
    ledger.leaves("p1", Some(NOW));
    assert_eq!(victims(&plan(&mut ledger, &claim, &about.rules()).unwrap()), ["p0"]);
}

#[test]
fn who_may_not_be_evicted_stays() {
    let protected = json!({"tensor-fusion.ai/vram-limit": "6Gi", "tensor-fusion.ai/tflops-limit": "1",
        "tensor-fusion.ai/qos": "low", "tensor-fusion.ai/eviction-protection": "1h30m"});
    let mut ledger = ledger();
    let spec = json!({"containers": [{"name": "main"}]});
    let first = claim_of("p0", protected, spec.clone());
    assert_eq!(first.wish.eviction_protection, Some(5400));
    ledger.place(&first, &[]).unwrap();
    for number in 1..4 {
        ledger.place(&asks_as(&format!("p{number}"), "6Gi", "low"), &[]).unwrap();
    }
    let mut about = About::new();
    let claim = asks_as("big", "8Gi", "medium");
    let created = Duration::from_secs(u64::try_from(claim.created).unwrap());
    let at = |rules: Rules<'_>, after: u64, ledger: &mut Ledger| {
        let rules = Rules { now: created + Duration::from_secs(after), ..rules };
        plan(ledger, &claim, &rules).map(|plan| victims(&plan).join(","))
    };
    assert_eq!(at(about.rules(), 5399, &mut ledger).unwrap(), "p1");
    assert_eq!(at(about.rules(), 5400, &mut ledger).unwrap(), "p0");
    // A budget refused.
    for number in 1..4 {
        about.spared.insert(format!("p{number}"), created + Duration::from_secs(20));
    }
    let why = at(about.rules(), 10, &mut ledger).unwrap_err().unwrap();
    assert_eq!((why.holders, why.protected), (4, 4));
    assert_eq!(at(about.rules(), 20, &mut ledger).unwrap(), "p1");
    let off = Rules { scope: Scope::Never, ..about.rules() };
    assert_eq!(at(off, 6000, &mut ledger), Err(None));
    // Equals never go.
    let equal = asks_as("equal", "8Gi", "low");
    assert!(!ledger.has_lesser(equal.wish.qos));
    assert_eq!(plan(&mut ledger, &equal, &about.rules()).unwrap_err().unwrap().not_lower, 4);
}

#[test]
fn others_namespaces_higher_priorities_and_the_polite_are_left_alone() {
    let spec = json!({"containers": [{"name": "main"}]});
    let with = |uid: &str, qos: &str, more: serde_json::Value| {
        let mut spec = spec.clone();
        json_patch::merge(&mut spec, &more);
        let annotations = json!({"tensor-fusion.ai/vram-limit": "6Gi", "tensor-fusion.ai/tflops-limit": "1", "tensor-fusion.ai/qos": qos});
        claim_of(uid, annotations, spec)
    };
    let mut ledger = ledger();
    for number in 0..4 {
        let priority = json!({"priority": if number == 2 { 0 } else { 1000 }});
        let mut claim = with(&format!("p{number}"), "low", priority);
        claim.namespace = format!("ns{number}");
        ledger.place(&claim, &[]).unwrap();
    }
    let about = About::new();
    let low = with("low", "high", json!({}));
    assert_eq!(victims(&plan(&mut ledger, &low, &about.rules()).unwrap()), ["p2"]);
    let own = Rules { scope: Scope::Namespace, ..about.rules() };
    assert!(plan(&mut ledger, &low, &own).is_err());
    let mut high = with("high", "high", json!({"priority": 1000}));
    assert_eq!(victims(&plan(&mut ledger, &high, &about.rules()).unwrap()), ["p0"]);
    high.namespace = "ns3".to_owned();
    assert_eq!(victims(&plan(&mut ledger, &high, &own).unwrap()), ["p3"]);
    let polite = with("polite", "high", json!({"preemptionPolicy": "Never", "priority": 1000}));
    assert_eq!(plan(&mut ledger, &polite, &about.rules()), Err(None));
}

fn member(uid: &str, vram: &str, qos: &str, minimum: u32) -> Claim {
    let annotations = json!({"tensor-fusion.ai/vram-limit": vram, "tensor-fusion.ai/tflops-limit": "1",
        "tensor-fusion.ai/qos": qos, "tensor-fusion.ai/gang-enabled": "true", "tensor-fusion.ai/gang-min-members": minimum.to_string()});
    claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
}

#[test]
fn a_gang_goes_whole_or_loses_what_is_beyond_its_minimum() {
    for (minimum, expected) in [(2, vec!["g0"]), (3, vec!["g0", "g1", "g2"]), (0, vec!["g0", "g1", "g2"])] {
        let mut ledger = ledger();
        for number in 0..3 {
            ledger.place(&member(&format!("g{number}"), "8Gi", "low", minimum), &[]).unwrap();
        }
        ledger.place(&asks_as("high", "8Gi", "high"), &[]).unwrap();
        let found = plan(&mut ledger, &asks_as("big", "8Gi", "medium"), &About::new().rules()).unwrap();
        assert_eq!(victims(&found), expected, "minimum {minimum}");
    }
    // Its owner says how many it needs, where it says nothing itself.
    let mut ledger = ledger();
    for number in 0..4 {
        ledger.place(&member(&format!("g{number}"), "8Gi", "low", 0), &[]).unwrap();
    }
    let mut about = About::new();
    about.desired.insert("owner".to_owned(), 3);
    assert_eq!(victims(&plan(&mut ledger, &asks_as("big", "8Gi", "medium"), &about.rules()).unwrap()), ["g0"]);
}

#[test]
fn a_gang_gets_room_for_all_that_it_needs_or_nobody_goes() {
    let mut ledger = crowded(["low", "low", "high", "low"]);
    ledger.release("p3");
    let members: Vec<Claim> = (0..4).map(|number| member(&format!("g{number}"), "7Gi", "medium", 3)).collect();
    let members: Vec<&Claim> = members.iter().collect();
    let about = About::new();
    let plans = plan_gang(&mut ledger, &members, 3, &about.rules()).unwrap();
    let mut gone: Vec<&str> = plans.iter().flat_map(|(_, plan)| victims(plan)).collect();
    gone.sort_unstable();
    assert_eq!((plans.len(), gone), (3, vec!["p0", "p1"]));
    // What is kept for it is nobody else's, and the gang gets it when the victims are gone.
    assert!(ledger.place(&asks_as("thief", "7Gi", "low"), &[]).is_err());
    let place = |ledger: &mut Ledger| crate::allocator::gang::place(ledger, &members, 0, 3, &BTreeMap::new());
    assert!(place(&mut ledger).is_err());
    ledger.release("p0");
    assert!(place(&mut ledger).is_err());
    assert!(ledger.place(&asks_as("thief", "7Gi", "low"), &[]).is_err(), "what was kept is kept again");
    ledger.release("p1");
    assert_eq!(place(&mut ledger).unwrap().len(), 3);
    for number in 0..3 {
        ledger.release(&format!("g{number}"));
    }
    // Room for four there can never be: one card is a high one's.
    assert!(plan_gang(&mut ledger, &members, 4, &about.rules()).is_err());
    assert_eq!(free(&mut ledger), [8, 8, 2, 8]);
    assert!(ledger.place(&asks_as("any", "8Gi", "low"), &[]).is_ok(), "nothing is kept");
}

#[test]
fn a_big_pod_that_waits_gets_a_place_kept() {
    let mut ledger = crowded(["medium", "medium", "medium", "medium"]);
    let big = asks_as("big", "8Gi", "medium");
    assert!(ledger.nominate(&big, &[]).unwrap());
    let node = ledger.kept_for("big").unwrap().node.clone();
    assert_eq!(node, "a");
    assert_eq!(ledger.nominate(&asks_as("huge", "9Gi", "medium"), &[]), Ok(false));
    // Small ones come and go, and never get what the big one waits for.
    for number in 0..3 {
        assert!(ledger.place(&asks_as(&format!("s{number}"), "2Gi", "medium"), &[]).unwrap().gpus() != ["gpu-a0"]);
    }
    assert!(ledger.place(&asks_as("s3", "2Gi", "medium"), &[]).is_err());
    ledger.release("p0");
    assert_eq!(ledger.place(&big, &[]).unwrap().gpus(), ["gpu-a0"]);
}

#[test]
fn all_that_a_gang_needs_is_kept_for_it_or_nothing_is() {
    let mut ledger = crowded(["medium", "medium", "medium", "medium"]);
    let claims: Vec<Claim> = (0..4).map(|number| asks_as(&format!("g{number}"), "8Gi", "medium")).collect();
    let members: Vec<&Claim> = claims.iter().collect();
    let none = BTreeMap::new();
    assert!(ledger.nominate_gang(&members, 3, &none));
    let kept = |ledger: &Ledger| claims.iter().filter(|claim| ledger.kept_for(&claim.uid).is_some()).count();
    assert_eq!(kept(&ledger), 3);
    let uids: Vec<String> = claims.iter().map(|claim| claim.uid.clone()).collect();
    let before = ledger.lacks(&uids);
    let place = |ledger: &mut Ledger| crate::allocator::gang::place(ledger, &members, 0, 3, &BTreeMap::new());
    // What is freed goes to nobody else, and to the gang only when all is.
    let mut freed = 0;
    for number in 0..4 {
        assert!(freed == 3 || place(&mut ledger).is_err());
        let node = ledger.granted_to(&format!("p{number}")).map(|allocation| allocation.gpus().join(","));
        let was_kept = ledger.lacks(&uids);
        ledger.release(&format!("p{number}"));
        if ledger.lacks(&uids) < was_kept {
            freed += 1;
            assert!(ledger.place(&asks_as("thief", "7Gi", "medium"), &[]).is_err(), "{node:?}");
        }
    }
    assert_eq!((freed, ledger.lacks(&uids)), (3, 0));
    assert!(before > 0);
    assert!(place(&mut ledger).unwrap().len() >= 3);
    for claim in &claims {
        ledger.release(&claim.uid);
    }
    assert!(!ledger.nominate_gang(&members, 5, &none));
    assert_eq!(kept(&ledger), 0);
    // A quota that the gang would exceed as a whole keeps nothing back for it either.
    let spec =
        serde_json::from_value(serde_json::json!({"total": {"requests": {"tflops": "0", "vram": "20Gi"}}})).unwrap();
    ledger.set_quota("ns", "q", Some(spec));
    assert!(ledger.nominate_gang(&members, 2, &none) && !ledger.nominate_gang(&members, 3, &none));
}

fn quota(ledger: &mut Ledger, total: serde_json::Value) {
    ledger.set_quota("ns", "q", Some(serde_json::from_value(json!({"total": total})).unwrap()));
}

#[test]
fn within_a_full_quota_a_higher_class_takes_what_a_lower_one_of_its_namespace_has() {
    let mut ledger = crowded(["low", "medium", "high", "low"]);
    let mut stranger = asks_as("stranger", "1Gi", "low");
    stranger.namespace = "elsewhere".to_owned();
    ledger.place(&stranger, &[]).unwrap();
    let about = About::new();
    // It fits beside any of them, but the namespace may have no more.
    let claim = asks_as("more", "1Gi", "high");
    for total in [
        json!({"maxWorkers": 4}),
        json!({"requests": {"tflops": "0", "vram": "24Gi"}}),
        json!({"limits": {"tflops": "4", "vram": "0"}}),
    ] {
        quota(&mut ledger, total);
        assert!(matches!(ledger.place(&claim, &[]), Err(Waiting::Quota(_, true))));
        let found = plan(&mut ledger, &claim, &about.rules()).unwrap();
        assert_eq!(victims(&found), ["p0"]);
    }
    // Two low ones rather than the medium one; and more than all that may go give back.
    quota(&mut ledger, json!({"requests": {"tflops": "0", "vram": "18Gi"}}));
    assert_eq!(victims(&plan(&mut ledger, &claim, &about.rules()).unwrap()), ["p0", "p3"]);
    quota(&mut ledger, json!({"requests": {"tflops": "0", "vram": "6Gi"}}));
    let why = plan(&mut ledger, &claim, &about.rules()).unwrap_err().unwrap();
    assert!(why.within_quota && why.to_string().ends_with("within the namespace's quota"), "{why}");
    // What one worker may have is no matter of others.
    let single = json!({"single": {"maxRequests": {"tflops": "0", "vram": "512Mi"}}, "total": {"maxWorkers": 4}});
    ledger.set_quota("ns", "q", Some(serde_json::from_value(single).unwrap()));
    assert_eq!(plan(&mut ledger, &claim, &about.rules()), Err(None));
}

#[test]
fn what_victims_give_back_of_a_quota_is_kept_for_whom_they_went() {
    let mut ledger = crowded(["low", "low", "high", "low"]);
    quota(&mut ledger, json!({"maxWorkers": 4, "requests": {"tflops": "0", "vram": "24Gi"}}));
    let about = About::new();
    // There is room for it, and the quota has 6 GiB left.
    ledger.release("p3");
    let claim = asks_as("big", "8Gi", "high");
    let found = plan(&mut ledger, &claim, &about.rules()).unwrap();
    assert_eq!(victims(&found), ["p0"]);
    ledger.keep_for(&claim, &found.placements);
    ledger.leaves("p0", Some(NOW + Duration::from_secs(90)));
    // The replacement of a victim comes at once, and would fit.
    let replacement = asks_as("again", "6Gi", "low");
    assert!(matches!(ledger.place(&replacement, &[]), Err(Waiting::Quota(_, true))));
    assert!(matches!(ledger.place(&claim, &[]), Err(Waiting::Quota(_, true))));
    // Others of its class wait as well; who comes first does not, as long as there is any.
    assert!(ledger.place(&asks_as("equal", "2Gi", "high"), &[]).is_err());
    ledger.release("p0");
    assert!(ledger.place(&replacement, &[]).is_err());
    let critical = asks_as("critical", "2Gi", "critical");
    assert!(ledger.place(&critical, &[]).is_ok());
    ledger.release("critical");
    assert!(ledger.place(&claim, &[]).is_ok());
    assert!(ledger.place(&replacement, &[]).is_err());
    assert!(ledger.place(&asks_as("little", "2Gi", "low"), &[]).is_ok(), "what is left is for everybody");
    assert_eq!(ledger.used("ns").requests.vram.get() >> 30, 22);
}

#[test]
fn a_gang_gets_its_part_of_a_quota_whole_or_nobody_goes() {
    let mut ledger = ledger();
    for number in 0..3 {
        ledger.place(&asks_as(&format!("p{number}"), "2Gi", "low"), &[]).unwrap();
    }
    quota(&mut ledger, json!({"maxWorkers": 4}));
    let members: Vec<Claim> = (0..3).map(|number| member(&format!("g{number}"), "2Gi", "medium", 3)).collect();
    let members: Vec<&Claim> = members.iter().collect();
    let place = |ledger: &mut Ledger| crate::allocator::gang::place(ledger, &members, 0, 3, &BTreeMap::new());
    assert!(matches!(place(&mut ledger), Err(Waiting::Quota(_, true))));
    let about = About::new();
    let plans = plan_gang(&mut ledger, &members, 3, &about.rules()).unwrap();
    let gone: Vec<&str> = plans.iter().flat_map(|(_, plan)| victims(plan)).collect();
    assert_eq!(gone.len(), 2, "one place was left");
    assert!(ledger.place(&asks_as("thief", "1Gi", "low"), &[]).is_err());
    for uid in gone {
        assert!(place(&mut ledger).is_err());
        ledger.release(uid);
    }
    assert_eq!(place(&mut ledger).unwrap().len(), 3);
    for number in 0..3 {
        ledger.release(&format!("g{number}"));
    }
    quota(&mut ledger, json!({"maxWorkers": 2}));
    assert!(plan_gang(&mut ledger, &members, 3, &about.rules()).is_err());
    assert!(ledger.place(&asks_as("any", "1Gi", "low"), &[]).is_ok(), "nothing is kept");
}
