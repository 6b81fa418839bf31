//! Pods that are placed together: replicas of one owner with the annotation `gang-enabled`.

use std::collections::BTreeMap;

use super::claim::{Claim, controller};
use super::ledger::{Kept, Ledger, Waiting};
use super::replan::avoided_for;
use crd::Allocation;

/// Which pods belong together: the UID of their owner.
#[must_use]
pub fn key(claim: &Claim) -> Option<String> {
    claim.wish.gang.as_ref()?;
    controller(&claim.pod).map(|(_, _, uid)| uid.to_owned())
}

/// How many members a gang needs. `desired` is what its owner wants, where that is known.
#[must_use]
pub fn needed(claim: &Claim, desired: Option<usize>) -> Option<usize> {
    let minimum = claim.wish.gang.as_ref()?.minimum;
    minimum.and_then(|minimum| usize::try_from(minimum).ok()).or(desired)
}

/// Places a gang: members that have a place already (`there`), and those that wait, in order. Either enough get a place for the
/// gang to be as large as needed, or none does.
///
/// # Errors
/// The gang is not complete, or has no room.
pub fn place(
    ledger: &mut Ledger,
    waiting: &[&Claim],
    there: usize,
    needed: usize,
    avoid: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<(usize, Allocation)>, Waiting> {
    if there + waiting.len() < needed {
        return Err(Waiting::Gang(there + waiting.len(), needed));
    }
    // What is kept for one may suit another.
    let kept: Vec<(&str, Kept)> =
        waiting.iter().filter_map(|claim| Some((claim.uid.as_str(), ledger.lift(&claim.uid)?))).collect();
    let mut placed = Vec::new();
    let mut refused = None;
    for (position, claim) in waiting.iter().enumerate() {
        match ledger.place(claim, avoided_for(claim, avoid)) {
            Ok(allocation) => placed.push((position, allocation)),
            Err(waiting) => refused = refused.or(Some(waiting)),
        }
    }
    match refused {
        Some(refused) if there + placed.len() < needed => {
            for (position, _) in &placed {
                if let Some(claim) = waiting.get(*position) {
                    ledger.release(&claim.uid);
                }
            }
            ledger.refreshed();
            for (uid, kept) in kept {
                ledger.restore(uid, kept);
            }
            Err(refused)
        }
        _ => {
            // Who joins later goes on waiting for its own.
            let has = |uid: &str| placed.iter().any(|(at, _)| waiting.get(*at).is_some_and(|claim| claim.uid == uid));
            for (uid, kept) in kept {
                if !has(uid) {
                    ledger.restore(uid, kept);
                }
            }
            Ok(placed)
        }
    }
}
