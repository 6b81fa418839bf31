//! Who has to go.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::time::Duration;

use pool::{
    Budgets, Cost, EvictionLimits, Holder, Inventory, Lack, Membership, NodeIndex, Preemption, Request, Usage, place,
    preempt, preempt_within_quota,
};
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
use types::Qos;

use crate::{amount, check, inventory, nodes, qos, request};

const NOW: Duration = Duration::from_secs(1000);

fn holder(inventory: &mut Inventory, name: &str, qos: Qos, request: Request) -> Holder {
    let placement = place(inventory, &Request { qos, ..request }).unwrap();
    inventory.take(&placement).unwrap();
    let since = Duration::from_secs(10);
    let namespace = "team".to_owned();
    Holder { name: name.into(), namespace, qos, placements: vec![placement], since, ..Holder::default() }
}

fn on(node: u32, gib: u64) -> Request {
    Request { nodes: vec![format!("node-{node}")], ..Request::new(amount(1, gib), 1) }
}

/// Node 0: two low ones of 2 GiB each. Node 1: a medium one of 4 GiB.
fn crowded() -> (Inventory, Vec<Holder>) {
    let mut inventory = inventory(&[vec![(10, 4, false, 1)], vec![(10, 4, false, 1)]]);
    let holders = vec![
        holder(&mut inventory, "a", Qos::Low, on(0, 2)),
        holder(&mut inventory, "b", Qos::Low, on(0, 2)),
        holder(&mut inventory, "c", Qos::Medium, on(1, 4)),
    ];
    (inventory, holders)
}

fn asks(qos: Qos, gib: u64) -> Request {
    Request { qos, ..Request::new(amount(1, gib), 1) }
}

#[test]
fn the_least_important_go_first_and_no_more_than_needed() {
    let (inventory, holders) = crowded();
    let budgets = Budgets::default();
    let one = preempt(&inventory, &holders, &[asks(Qos::High, 2)], &budgets, NOW).unwrap();
    assert_eq!(one.victims, [0]);
    let two = preempt(&inventory, &holders, &[asks(Qos::High, 4)], &budgets, NOW).unwrap();
    assert_eq!((two.victims, two.cost.worst), (vec![0, 1], Qos::Low));
    assert!(two.explanation.starts_with("evicting team/a (low), team/b (low) from node node-0 makes room for 1 GPUs"));
    assert_eq!(place(&inventory, &asks(Qos::High, 4)), None, "a dry run changes nothing");
}

#[test]
fn equals_and_higher_classes_never_go() {
    let (inventory, holders) = crowded();
    let error = preempt(&inventory, &holders, &[asks(Qos::Low, 2)], &Budgets::default(), NOW).unwrap_err();
    assert_eq!((error.holders, error.not_lower), (3, 3));
    let error = preempt(&inventory, &holders, &[asks(Qos::Medium, 5)], &Budgets::default(), NOW).unwrap_err();
    assert_eq!(
        error.to_string(),
        "of 3 who hold GPUs, 1 are not of a lower QoS class, 0 are protected from eviction, 0 are beyond the budget of \
         evictions, and evicting the other 2 makes no node fit"
    );
}

#[test]
fn protection_holds_until_its_end() {
    let (inventory, mut holders) = crowded();
    for holder in holders.iter_mut().take(2) {
        holder.protection = Duration::from_secs(3600);
    }
    let high = asks(Qos::High, 2);
    let instead = preempt(&inventory, &holders, from_ref(&high), &Budgets::default(), NOW).unwrap();
    assert_eq!(instead.victims, [2]);
    let error = preempt(&inventory, &holders, &[asks(Qos::Medium, 2)], &Budgets::default(), NOW).unwrap_err();
    assert_eq!(error.protected, 2);
    let later = preempt(&inventory, &holders, from_ref(&high), &Budgets::default(), Duration::from_secs(3610)).unwrap();
    assert_eq!(later.victims, [0]);
}

#[test]
fn budgets_limit_evictions_in_a_window() {
    let (inventory, holders) = crowded();
    let limits = EvictionLimits { window: Duration::from_secs(60), pool: None, namespace: Some(1) };
    let mut budgets = Budgets::new(limits);
    let big = asks(Qos::High, 4);
    assert_eq!(
        preempt(&inventory, &holders, from_ref(&big), &budgets, NOW).unwrap().victims,
        [2],
        "two of one namespace are too many"
    );
    budgets.note("default", "team", NOW);
    let error = preempt(&inventory, &holders, from_ref(&big), &budgets, NOW).unwrap_err();
    assert_eq!(error.over_budget, 3);
    let later = NOW + Duration::from_secs(60);
    assert_eq!(budgets.left_of_namespace("team", later), 1);
    assert!(preempt(&inventory, &holders, from_ref(&big), &budgets, later).is_ok());
    let mut of_pool = Budgets::new(EvictionLimits { pool: Some(1), namespace: None, ..limits });
    of_pool.note("default", "other", NOW);
    assert_eq!((of_pool.left_of_pool("default", NOW), of_pool.left_of_pool("else", NOW)), (0, 1));
    assert!(preempt(&inventory, &holders, from_ref(&big), &of_pool, NOW).is_err());
}

#[test]
fn who_leaves_makes_room_and_is_no_victim() {
    let (inventory, mut holders) = crowded();
    holders[2].leaving = true;
    let answer = preempt(&inventory, &holders, &[asks(Qos::Low, 4)], &Budgets::default(), NOW).unwrap();
    assert_eq!((answer.victims.len(), answer.placements[0].node), (0, NodeIndex(1)));
    let both = [asks(Qos::Low, 2), asks(Qos::Low, 2)];
    let together = preempt(&inventory, &holders, &both, &Budgets::default(), NOW).unwrap();
    assert_eq!((together.victims.len(), together.placements.len()), (0, 2));
    let three = [asks(Qos::High, 2), asks(Qos::High, 2), asks(Qos::High, 2)];
    assert!(preempt(&inventory, &holders, &three, &Budgets::default(), NOW).is_err(), "no node has room for three");
}

#[test]
fn a_gang_loses_what_it_can_spare_or_all_of_it() {
    let mut inventory = inventory(&[vec![(10, 4, false, 1)], vec![(10, 4, false, 1)]]);
    let gang = |spare| Some(Membership { gang: 0, spare });
    let mut holders = vec![
        holder(&mut inventory, "a", Qos::Low, on(0, 4)),
        holder(&mut inventory, "b", Qos::Low, on(1, 2)),
        holder(&mut inventory, "c", Qos::Medium, on(1, 2)),
    ];
    let victims = |holders: &[Holder], gib: u64| {
        preempt(&inventory, holders, &[asks(Qos::High, gib)], &Budgets::default(), NOW).map(|answer| answer.victims)
    };
    (holders[0].gang, holders[1].gang) = (gang(1), gang(1));
    assert_eq!(victims(&holders, 2).unwrap(), [1], "one can be spared");
    (holders[0].gang, holders[1].gang) = (gang(0), gang(0));
    assert_eq!(victims(&holders, 2).unwrap(), [0, 1], "both, though one would make the room");
    holders[0].protection = Duration::from_secs(3600);
    assert_eq!(victims(&holders, 2).unwrap(), [2], "the gang cannot go whole, so none of it goes");
    assert!(victims(&holders, 4).is_err());
}

/// The victims may go, and what is asked fits when they have.
fn carry_out(inventory: &mut Inventory, holders: &[Holder], asked: &Request, answer: &Preemption) {
    for (position, holder) in holders.iter().enumerate() {
        let victim = answer.victims.contains(&position);
        assert!(!victim || (holder.qos < asked.qos && !holder.leaving));
        for placement in holder.placements.iter().filter(|_| victim || holder.leaving) {
            inventory.give_back(placement).unwrap();
        }
    }
    inventory.take(&answer.placements[0]).unwrap();
    check(inventory);
}

/// By trying every set, for every node.
fn cheapest(inventory: &Inventory, holders: &[Holder], request: &Request, now: Duration) -> Option<Cost> {
    let mut best: Option<Cost> = None;
    for set in 0u32..1 << holders.len() {
        let chosen = |at: usize| set >> at & 1 == 1;
        let victims: Vec<&Holder> = (0..).zip(holders).filter(|(at, _)| chosen(*at)).map(|one| one.1).collect();
        let may =
            |victim: &&Holder| !victim.leaving && victim.qos < request.qos && victim.since + victim.protection <= now;
        if !victims.iter().all(may) {
            continue;
        }
        let mut cost = Cost { worst: Qos::Low, victims: victims.len(), shares: 0, lost: Duration::ZERO };
        for victim in &victims {
            cost.worst = cost.worst.max(victim.qos);
            cost.lost += now - victim.since;
            for placement in &victim.placements {
                for &gpu in &placement.gpus {
                    let capacity = inventory.gpu(gpu).unwrap().capacity;
                    let amount = if placement.exclusive { capacity } else { placement.amount };
                    cost.shares += u64::from(amount.share_of(capacity));
                }
            }
        }
        if best.is_some_and(|best| cost >= best) {
            continue;
        }
        for (number, node) in (0..).zip(inventory.nodes()) {
            let on_node = |holder: &Holder| holder.placements[0].node == NodeIndex(number);
            // A victim is on the node, or of a gang that loses too many there.
            let mut lost: BTreeMap<usize, usize> = BTreeMap::new();
            for membership in victims.iter().filter(|victim| on_node(victim)).filter_map(|victim| victim.gang) {
                *lost.entry(membership.gang).or_default() += 1;
            }
            let broken = |holder: &Holder| {
                holder.gang.is_some_and(|one| lost.get(&one.gang).is_some_and(|&lost| lost > one.spare))
            };
            let right = holders.iter().enumerate().all(|(at, holder)| {
                holder.leaving || if broken(holder) { chosen(at) } else { !chosen(at) || on_node(holder) }
            });
            if !right || !(request.nodes.is_empty() || request.nodes.contains(&node.name)) {
                continue;
            }
            let mut trial = inventory.clone();
            let gone = (0..).zip(holders).filter(|(at, holder)| holder.leaving || chosen(*at));
            for placement in gone.flat_map(|(_, holder)| &holder.placements) {
                trial.give_back(placement).unwrap();
            }
            if place(&trial, &Request { nodes: vec![node.name.clone()], ..request.clone() }).is_some() {
                best = Some(cost);
                break;
            }
        }
    }
    best
}

proptest! {
    #[test]
    fn the_cheapest_victims_are_found_and_then_the_request_fits(
        nodes in nodes(),
        held in prop::collection::vec(
            (request(), qos(), 0..2000u64, 0..1500u64, prop::bool::weighted(0.15), prop::option::weighted(0.4, 0..2usize)),
            1..9,
        ),
        spare in [0..3usize, 0..3usize],
        asked in request(),
    ) {
        let mut inventory = inventory(&nodes);
        let mut holders = Vec::new();
        for (request, qos, since, protection, leaving, gang) in held {
            let Some(placement) = place(&inventory, &Request { qos, ..request }) else { continue };
            inventory.take(&placement).unwrap();
            holders.push(Holder {
                qos,
                placements: vec![placement],
                since: Duration::from_secs(since.min(NOW.as_secs())),
                protection: Duration::from_secs(protection),
                leaving,
                gang: gang.map(|gang| Membership { gang, spare: spare[gang] }),
                ..Holder::default()
            });
        }
        let answer = preempt(&inventory, &holders, from_ref(&asked), &Budgets::default(), NOW);
        if place(&inventory, &asked).is_some() {
            prop_assert!(answer.unwrap().victims.is_empty());
            return Ok(());
        }
        let cheapest = cheapest(&inventory, &holders, &asked, NOW);
        prop_assert_eq!(answer.as_ref().ok().map(|answer| answer.cost), cheapest);
        match answer {
            Ok(answer) => {
                carry_out(&mut inventory, &holders, &asked, &answer);
            }
            Err(why) => prop_assert_eq!(
                why.not_lower + why.protected + why.over_budget + why.not_enough, holders.len()
            ),
        }
    }
}

#[test]
fn with_many_on_a_node_no_victim_could_stay() {
    let mut inventory = inventory(&[vec![(30, 24, false, 1)]]);
    let sizes = [1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 4, 5];
    let mut holders: Vec<Holder> = Vec::new();
    for (number, &gib) in sizes.iter().enumerate() {
        holders.push(holder(&mut inventory, &number.to_string(), Qos::Low, on(0, gib)));
    }
    let request = asks(Qos::High, 9);
    let answer = preempt(&inventory, &holders, from_ref(&request), &Budgets::default(), NOW).unwrap();
    for kept in &answer.victims {
        let mut trial = inventory.clone();
        for victim in answer.victims.iter().filter(|victim| *victim != kept) {
            trial.give_back(&holders[*victim].placements[0]).unwrap();
        }
        assert_eq!(place(&trial, &request), None, "{kept} need not go");
    }
}

fn uses(gib: u64) -> Usage {
    Usage { requests: amount(1, gib), limits: amount(1, gib), workers: 1 }
}

/// What a quota lacks of VRAM.
fn lacks(namespace: &str, gib: u64) -> Lack<'_> {
    Lack { namespace, usage: Usage { requests: amount(0, gib), ..Usage::default() } }
}

#[test]
fn where_the_quota_refuses_those_of_the_namespace_go_wherever_they_are() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)], vec![(10, 8, false, 1)], vec![(10, 8, false, 1)]]);
    let mut holders = vec![
        holder(&mut inventory, "a", Qos::Low, on(0, 2)),
        holder(&mut inventory, "b", Qos::Low, on(1, 3)),
        holder(&mut inventory, "c", Qos::Medium, on(1, 5)),
        holder(&mut inventory, "d", Qos::Low, on(2, 8)),
    ];
    for (holder, gib) in holders.iter_mut().zip([2, 3, 5, 8]) {
        holder.uses = uses(gib);
    }
    holders[3].namespace = "other".to_owned();
    let find = |holders: &[Holder], asked: u64, lack: Lack<'_>| {
        preempt_within_quota(&inventory, holders, &[asks(Qos::High, asked)], lack, &Budgets::default(), NOW)
    };
    let victims = |asked, lack| find(&holders, asked, lack).unwrap().victims;
    // There is room on node 0, so only the quota counts.
    assert_eq!(victims(4, lacks("team", 1)), [0]);
    assert_eq!(victims(4, lacks("team", 3)), [1]);
    assert_eq!(victims(4, lacks("team", 4)), [0, 1], "two low ones rather than the medium one");
    assert_eq!(victims(4, lacks("team", 6)), [0, 2]);
    assert!(find(&holders, 4, lacks("team", 11)).is_err());
    // Neither room nor quota: the one that makes the room may be of another namespace, the one that pays may not.
    assert_eq!(victims(8, lacks("team", 2)), [0]);
    assert_eq!(victims(8, lacks("team", 3)), [0, 1]);
    let both = find(&holders, 8, lacks("team", 3)).unwrap();
    assert!(both.explanation.starts_with(
        "evicting team/a (low), team/b (low) makes room for 1 GPUs with 1 TFLOPS and 8 GiB on node node-0 and in the quota of \
         namespace team: "
    ), "{}", both.explanation);
    assert_eq!(victims(8, lacks("other", 8)), [3]);
    let why = find(&holders, 4, lacks("nobody", 1)).unwrap_err();
    assert_eq!((why.holders, why.not_enough), (4, 4));
    assert!(why.to_string().ends_with("evicting the other 4 makes no node fit within the namespace's quota"));
    // What those who leave give back is lacking no more, and the room that they leave is room.
    let mut leaving = holders.clone();
    leaving[2].leaving = true;
    assert_eq!(find(&leaving, 4, lacks("team", 5)).unwrap().victims.len(), 0);
    assert_eq!(find(&leaving, 4, lacks("team", 6)).unwrap().victims, [0]);
    // Limits and workers count as requests do.
    let workers = Lack { namespace: "team", usage: Usage { workers: 2, ..Usage::default() } };
    assert_eq!(victims(4, workers), [0, 1]);
    let limits = Lack { namespace: "team", usage: Usage { limits: amount(3, 0), ..Usage::default() } };
    assert_eq!(victims(4, limits), [0, 1, 2]);
}

#[test]
fn of_many_who_use_a_quota_none_goes_that_could_stay() {
    let mut inventory = inventory(&[vec![(30, 24, false, 1)], vec![(30, 24, false, 1)]]);
    let sizes = [1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 4, 5];
    let mut holders: Vec<Holder> = Vec::new();
    for (number, &gib) in sizes.iter().enumerate() {
        let one = holder(&mut inventory, &number.to_string(), Qos::Low, on(number as u32 % 2, gib));
        holders.push(Holder { uses: uses(gib), ..one });
    }
    let free = |node: u32| {
        inventory.gpus().iter().filter(|gpu| gpu.node == NodeIndex(node)).map(|gpu| gpu.free.vram.get() >> 30).sum()
    };
    let (room, lack): (u64, u64) = (u64::max(free(0), free(1)) + 2, 9);
    for asked in [1, room] {
        let request = asks(Qos::High, asked);
        let answer = preempt_within_quota(
            &inventory,
            &holders,
            from_ref(&request),
            lacks("team", lack),
            &Budgets::default(),
            NOW,
        )
        .unwrap();
        let fits = |victims: &[usize]| {
            let mut trial = inventory.clone();
            for &victim in victims {
                trial.give_back(&holders[victim].placements[0]).unwrap();
            }
            victims.iter().map(|&victim| sizes[victim]).sum::<u64>() >= lack && place(&trial, &request).is_some()
        };
        assert!(fits(&answer.victims));
        for kept in &answer.victims {
            let fewer: Vec<usize> = answer.victims.iter().copied().filter(|victim| victim != kept).collect();
            assert!(!fits(&fewer), "{kept} need not go");
        }
    }
}

/// By trying every set, on whatever nodes.
fn cheapest_within(
    inventory: &Inventory,
    holders: &[Holder],
    request: &Request,
    lack: Lack<'_>,
    cost_of: impl Fn(&[usize]) -> Cost,
) -> Option<Cost> {
    let mut best: Option<Cost> = None;
    for set in 0u32..1 << holders.len() {
        let victims: Vec<usize> = (0..holders.len()).filter(|at| set >> at & 1 == 1).collect();
        let may =
            |holder: &Holder| !holder.leaving && holder.qos < request.qos && holder.since + holder.protection <= NOW;
        let lost =
            |gang: usize| victims.iter().filter(|&&at| holders[at].gang.is_some_and(|one| one.gang == gang)).count();
        let whole = holders.iter().enumerate().all(|(at, holder)| {
            let broken = holder.gang.is_some_and(|one| lost(one.gang) > one.spare);
            holder.leaving || !broken || victims.contains(&at)
        });
        if !whole || !victims.iter().all(|&at| may(&holders[at])) {
            continue;
        }
        let goes = |at: &usize| holders[*at].leaving || victims.contains(at);
        let gone: Vec<&Holder> = (0..holders.len()).filter(goes).map(|at| &holders[at]).collect();
        let mine = gone.iter().filter(|holder| holder.namespace == lack.namespace);
        let paid = mine.fold(Usage::default(), |paid, holder| paid.plus(holder.uses));
        let cost = cost_of(&victims);
        if !paid.covers(lack.usage) || best.is_some_and(|best| cost >= best) {
            continue;
        }
        let mut trial = inventory.clone();
        for placement in gone.iter().flat_map(|holder| &holder.placements) {
            trial.give_back(placement).unwrap();
        }
        if place(&trial, request).is_some() {
            best = Some(cost);
        }
    }
    best
}

proptest! {
    #[test]
    fn the_cheapest_are_found_who_make_room_and_pay(
        nodes in nodes(),
        held in prop::collection::vec(
            (
                (request(), qos(), 0..2000u64, 0..1500u64, prop::bool::weighted(0.15)),
                prop::option::weighted(0.3, 0..2usize),
                prop::bool::weighted(0.7),
                (0..6u64, 0..6u64),
            ),
            1..9,
        ),
        spare in [0..3usize, 0..3usize],
        asked in request(),
        lack in (0..10u64, 0..10u64, 0..3u64),
    ) {
        let mut inventory = inventory(&nodes);
        let mut holders = Vec::new();
        for ((request, qos, since, protection, leaving), gang, mine, (tflops, gib)) in held {
            let Some(placement) = place(&inventory, &Request { qos, ..request }) else { continue };
            inventory.take(&placement).unwrap();
            holders.push(Holder {
                qos,
                namespace: if mine { "mine" } else { "other" }.to_owned(),
                placements: vec![placement],
                since: Duration::from_secs(since.min(NOW.as_secs())),
                protection: Duration::from_secs(protection),
                leaving,
                gang: gang.map(|gang| Membership { gang, spare: spare[gang] }),
                uses: Usage { requests: amount(0, gib), limits: amount(tflops, gib), workers: 1 },
                ..Holder::default()
            });
        }
        let (tflops, gib, workers) = lack;
        let usage = Usage { requests: amount(0, gib), limits: amount(tflops, 0), workers };
        let lack = Lack { namespace: "mine", usage };
        let cost_of = |victims: &[usize]| {
            let mut cost = Cost { worst: Qos::Low, victims: victims.len(), shares: 0, lost: Duration::ZERO };
            for victim in victims.iter().map(|&at| &holders[at]) {
                cost.worst = cost.worst.max(victim.qos);
                cost.lost += NOW - victim.since;
                for (placement, &gpu) in victim.placements.iter().flat_map(|one| one.gpus.iter().map(move |gpu| (one, gpu))) {
                    let capacity = inventory.gpu(gpu).unwrap().capacity;
                    let amount = if placement.exclusive { capacity } else { placement.amount };
                    cost.shares += u64::from(amount.share_of(capacity));
                }
            }
            cost
        };
        let expected = cheapest_within(&inventory, &holders, &asked, lack, cost_of);
        let answer = preempt_within_quota(&inventory, &holders, from_ref(&asked), lack, &Budgets::default(), NOW);
        prop_assert_eq!(answer.as_ref().ok().map(|answer| answer.cost), expected);
        if let Ok(answer) = answer {
            prop_assert_eq!(cost_of(&answer.victims), answer.cost);
            carry_out(&mut inventory, &holders, &asked, &answer);
        }
    }
}
