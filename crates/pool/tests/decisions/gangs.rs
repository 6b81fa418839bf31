//! Gangs.

use std::time::Duration;

use pool::{Gang, GangRule, GangStep, Request, place, place_gang, place_gang_on};
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use crate::{amount, check, inventory, nodes, request};

proptest! {
    #[test]
    fn a_gang_is_placed_whole_or_not_at_all(
        nodes in nodes(),
        members in prop::collection::vec(request(), 1..6),
        minimum in 0..7usize,
    ) {
        let mut inventory = inventory(&nodes);
        let gang = Gang { members, minimum };
        let before = format!("{:?}", inventory.gpus());
        let answer = place_gang(&inventory, &gang);
        prop_assert_eq!(&answer, &place_gang_on(&mut inventory, &gang));
        prop_assert_eq!(before, format!("{:?}", inventory.gpus()));
        // One by one, with the elastic rule, by hand.
        let mut trial = inventory.clone();
        let mut one_by_one = Vec::new();
        for (position, member) in gang.members.iter().enumerate() {
            if let Some(placement) = place(&trial, member) {
                trial.take(&placement).unwrap();
                one_by_one.push((position, placement));
            }
        }
        check(&trial);
        let enough = one_by_one.len() >= gang.minimum.max(1) || one_by_one.len() == gang.members.len();
        prop_assert_eq!(answer.is_ok(), enough);
        if let Ok(placed) = answer {
            prop_assert!(placed.len() >= gang.minimum.min(gang.members.len()));
            prop_assert_eq!(placed, one_by_one);
        }
    }
}

#[test]
fn a_gang_waits_for_its_minimum_and_gives_up_in_time() {
    let seconds = Duration::from_secs;
    let rule = GangRule { desired: 4, minimum: 3, timeout: Some(seconds(60)) };
    assert_eq!(rule.step(2, seconds(10), seconds(20)), GangStep::Wait(Some(seconds(70))));
    assert_eq!(rule.step(3, seconds(10), seconds(69)), GangStep::Place(Some(seconds(70))));
    assert_eq!(rule.step(4, seconds(10), seconds(70)), GangStep::TimedOut);
    let forever = GangRule { timeout: None, ..rule };
    assert_eq!(forever.step(2, seconds(0), seconds(1 << 40)), GangStep::Wait(None));
}

#[test]
fn an_elastic_gang_leaves_out_who_does_not_fit() {
    let inventory = inventory(&[vec![(10, 8, false, 1), (10, 8, false, 1)]]);
    let members = vec![Request::new(amount(1, 6), 1); 3];
    let elastic = Gang { members: members.clone(), minimum: 2 };
    assert_eq!(place_gang(&inventory, &elastic).unwrap().len(), 2);
    let strict = Gang { members, minimum: 3 };
    assert_eq!(
        place_gang(&inventory, &strict).unwrap_err().to_string(),
        "2 of 2: not enough VRAM (asked 6 GiB, best free 2 GiB on gpu-0-0)"
    );
}
