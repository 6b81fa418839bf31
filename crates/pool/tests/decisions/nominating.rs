//! So that somebody big is not starved.

use std::time::Duration;

use pool::{GpuIndex, Held, Inventory, Placement, Request, backfill, explain, nominate, place};
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
        let mut held: Vec<(Placement, u64)> = Vec::new();
        for (request, ends) in first {
            if let Some(placement) = place(&inventory, &request) {
                inventory.take(&placement).unwrap();
                held.push((placement, ends));
            }
        }
        let known: Vec<Held<'_>> =
            held.iter().map(|(placement, ends)| Held { placement, ends: Some(seconds(*ends)) }).collect();
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
}
