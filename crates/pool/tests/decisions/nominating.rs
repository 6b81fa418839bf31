//! So that somebody big is not starved.

use std::time::Duration;

use pool::{
    Gang, GpuIndex, Held, Inventory, Nomination, Placement, Request, backfill, explain, nominate, nominate_gang, place,
    place_gang,
};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use crate::{amount, check, inventory, nodes, request};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn take(inventory: &mut Inventory, gib: u64) -> Placement {
    let placement = place(inventory, &Request::new(amount(1, gib), 1)).unwrap();
    inventory.take(&placement).unwrap();
    placement
}

/// Those of these requests that find a place, in it, and when they leave.
fn filled(inventory: &mut Inventory, requests: Vec<(Request, u64)>) -> Vec<(Placement, u64)> {
    let mut held = Vec::new();
    for (request, ends) in requests {
        if let Some(placement) = place(inventory, &request) {
            inventory.take(&placement).unwrap();
            held.push((placement, ends));
        }
    }
    held
}

fn until(held: &[(Placement, u64)]) -> Vec<Held<'_>> {
    held.iter().map(|(placement, ends)| Held { placement, ends: Some(seconds(*ends)) }).collect()
}

#[test]
fn freed_capacity_goes_to_who_was_nominated_and_not_to_who_is_small() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)]]);
    let (first, second) = (take(&mut inventory, 4), take(&mut inventory, 3));
    let big = Request::new(amount(1, 8), 1);
    let held =
        [Held { placement: &first, ends: Some(seconds(50)) }, Held { placement: &second, ends: Some(seconds(90)) }];
    let nomination = nominate(&inventory, &held, std::slice::from_ref(&big), seconds(10)).unwrap();
    assert_eq!((nomination.placements[0].gpus.as_slice(), nomination.at), (&[GpuIndex(0)][..], Some(seconds(90))));
    inventory.reserve(&nomination.placements[0]).unwrap();
    let small = Request::new(amount(1, 1), 1);
    assert_eq!(place(&inventory, &small), None);
    assert_eq!(explain(&inventory, &small).to_string(), "1 of 1: kept back for a waiting request");
    let nominations = [nomination.clone()];
    assert_eq!(backfill(&inventory, &small, seconds(91), &nominations), None, "it would delay the big one");
    let quick = backfill(&inventory, &small, seconds(90), &nominations).unwrap();
    inventory.take(&quick).unwrap();
    for placement in [&first, &second, &quick] {
        assert_eq!(place(&inventory, &big), None);
        inventory.give_back(placement).unwrap();
    }
    inventory.unreserve(&nomination.placements[0]).unwrap();
    inventory.take(&nomination.placements[0]).unwrap();
    check(&inventory);
}

#[test]
fn what_is_left_beside_a_nomination_is_given_out() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)]]);
    let first = take(&mut inventory, 6);
    let held = [Held { placement: &first, ends: None }];
    let nomination = nominate(&inventory, &held, &[Request::new(amount(1, 5), 1)], seconds(0)).unwrap();
    assert_eq!(nomination.at, None);
    inventory.reserve(&nomination.placements[0]).unwrap();
    assert_eq!(place(&inventory, &Request::new(amount(1, 1), 1)), None);
    inventory.give_back(&first).unwrap();
    assert!(place(&inventory, &Request::new(amount(1, 3), 1)).is_some());
    assert_eq!(place(&inventory, &Request::new(amount(1, 4), 1)), None);
}

#[test]
fn who_fits_nowhere_ever_is_not_nominated() {
    let inventory = inventory(&[vec![(10, 8, false, 1)]]);
    assert_eq!(nominate(&inventory, &[], &[Request::new(amount(1, 9), 1)], seconds(0)), None);
}

#[test]
fn of_a_gang_each_member_has_a_place_beside_the_others_or_none_has() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)], vec![(10, 8, false, 1)]]);
    let (first, second) = (take(&mut inventory, 7), take(&mut inventory, 6));
    let held =
        [Held { placement: &first, ends: Some(seconds(50)) }, Held { placement: &second, ends: Some(seconds(9)) }];
    let member = vec![vec![Request::new(amount(1, 6), 1)]];
    let members = vec![member.clone(), member.clone(), member];
    let before = format!("{:?}", inventory.gpus());
    let found = nominate_gang(&mut inventory, &held, &members, 2, seconds(1)).unwrap();
    assert_eq!(before, format!("{:?}", inventory.gpus()));
    let told: Vec<(usize, u32, Option<Duration>)> =
        found.iter().map(|(member, one)| (*member, one.placements[0].gpus[0].0, one.at)).collect();
    assert_eq!(told, [(0, 1, Some(seconds(9))), (1, 0, Some(seconds(50)))]);
    assert_eq!(nominate_gang(&mut inventory, &held, &members, 3, seconds(1)), None);
}

#[test]
fn a_gang_whose_first_takes_the_only_place_of_another_is_placed_as_when_all_is_free() {
    // The small one would have the second node soonest, where alone there is room for the big one.
    let mut inventory = inventory(&[vec![(10, 4, false, 1)], vec![(10, 8, false, 1)]]);
    let taken = [8, 4].map(|gib| take(&mut inventory, gib));
    let held: Vec<Held<'_>> =
        taken.iter().zip([10, 90]).map(|(placement, ends)| Held { placement, ends: Some(seconds(ends)) }).collect();
    let of = |gib: u64| vec![vec![Request::new(amount(1, gib), 1)]];
    let found = nominate_gang(&mut inventory, &held, &[of(4), of(8)], 2, seconds(0)).unwrap();
    let places: Vec<u32> = found.iter().map(|(_, one)| one.placements[0].gpus[0].0).collect();
    assert_eq!((places, found[0].1.at), (vec![0, 1], Some(seconds(90))));
}

proptest! {
    /// Small ones come and go for ever; the big one waits no longer than its nomination says.
    #[test]
    fn a_nominated_request_is_placed_when_it_was_told(
        nodes in nodes(),
        first in prop::collection::vec((request(), 1..100u64), 1..12),
        big in request(),
        stream in prop::collection::vec((request(), 1..60u64, any::<bool>()), 0..60),
    ) {
        let mut inventory = inventory(&nodes);
        let mut held = filled(&mut inventory, first);
        let known = until(&held);
        let Some(nomination) = nominate(&inventory, &known, std::slice::from_ref(&big), Duration::ZERO) else {
            // Then it fits nowhere even when all is free.
            for (placement, _) in &held {
                inventory.give_back(placement).unwrap();
            }
            prop_assert_eq!(place(&inventory, &big), None);
            return Ok(());
        };
        let at = nomination.at.unwrap();
        inventory.reserve(&nomination.placements[0]).unwrap();
        let mut stream = stream.into_iter();
        for now in 0..=at.as_secs() {
            for at in (0..held.len()).rev() {
                if held[at].1 <= now {
                    inventory.give_back(&held.swap_remove(at).0).unwrap();
                }
            }
            if now == at.as_secs() {
                break;
            }
            let Some((request, takes, fill)) = stream.next() else { continue };
            let ends = now + takes;
            let filled = || backfill(&inventory, &request, seconds(ends), std::slice::from_ref(&nomination));
            if let Some(placement) = place(&inventory, &request).or_else(|| if fill { filled() } else { None }) {
                inventory.take(&placement).unwrap();
                held.push((placement, ends));
                check(&inventory);
            }
        }
        inventory.unreserve(&nomination.placements[0]).unwrap();
        prop_assert!(inventory.take(&nomination.placements[0]).is_ok(), "{:?} {:?}", nomination, inventory.gpus());
        check(&inventory);
    }

    /// The same for a gang: whatever comes and goes meanwhile, all of it is free when those are gone that were there.
    #[test]
    fn a_nominated_gang_is_placed_whole_when_it_was_told(
        nodes in nodes(),
        first in prop::collection::vec((request(), 1..60u64), 1..12),
        members in prop::collection::vec(request(), 1..6),
        minimum in 1..7usize,
        stream in prop::collection::vec((request(), 1..60u64), 0..60),
    ) {
        let mut inventory = inventory(&nodes);
        let mut held = filled(&mut inventory, first);
        let known = until(&held);
        let ways: Vec<Vec<Vec<Request>>> = members.iter().map(|member| vec![vec![member.clone()]]).collect();
        let before = format!("{:?}", inventory.gpus());
        let found = nominate_gang(&mut inventory, &known, &ways, minimum, Duration::ZERO);
        prop_assert_eq!(before, format!("{:?}", inventory.gpus()));
        let Some(found) = found else {
            // Then it fits nowhere even when all is free.
            for (placement, _) in &held {
                inventory.give_back(placement).unwrap();
            }
            let placed = place_gang(&inventory, &Gang { members, minimum }).map(|placed| placed.len());
            prop_assert!(placed.is_err() || placed.unwrap() < minimum);
            return Ok(());
        };
        prop_assert_eq!(found.len(), minimum);
        let nominations: Vec<Nomination> = found.into_iter().map(|(_, nomination)| nomination).collect();
        let kept = || nominations.iter().flat_map(|nomination| &nomination.placements);
        for placement in kept() {
            inventory.reserve(placement).unwrap();
        }
        let at = nominations.iter().map(|nomination| nomination.at.unwrap()).max().unwrap().as_secs();
        let mut stream = stream.into_iter();
        for now in 0..=at {
            for position in (0..held.len()).rev() {
                if held[position].1 <= now {
                    inventory.give_back(&held.swap_remove(position).0).unwrap();
                }
            }
            // For ever, so that they are there when the gang starts.
            if let Some((request, takes)) = stream.next().filter(|_| now < at)
                && let Some(placement) = place(&inventory, &request)
            {
                inventory.take(&placement).unwrap();
                held.push((placement, at + takes));
                check(&inventory);
            }
        }
        for placement in kept() {
            inventory.unreserve(placement).unwrap();
            prop_assert!(inventory.take(placement).is_ok(), "{:?} {:?}", placement, inventory.gpus());
        }
        check(&inventory);
    }
}
