//! Which pods are of which gang, and how long gangs wait.
//!
//! A gang that has waited for its timeout without enough members or enough room gives up: what was kept for it is given
//! to others, its members are told, and after a pause it begins to wait anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pool::{GangRule, GangStep};

use super::claim::Claim;
use super::gang;
use super::queue::Key;

/// How long a gang that gave up does not try again. TensorFusion's.
const PAUSE: Duration = Duration::from_secs(10);

/// An owner is not asked more often than so.
const ASK: Duration = Duration::from_secs(5);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Gangs {
    gangs: BTreeMap<String, One>,
    /// Pod's UID → owner's UID.
    of: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct One {
    /// Members that wait, and that have a place or are about to.
    waiting: BTreeMap<Key, String>,
    placed: BTreeSet<String>,
    /// What its owner wants, once that is known.
    desired: Option<usize>,
    asked: Option<Instant>,
    /// Since when it waits.
    since: Option<Instant>,
    timeout: Option<Duration>,
    rests: Option<Instant>,
}

/// What a gang may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Look for places.
    Try,
    /// It gave up a moment ago.
    Rest,
    /// It gives up now, having waited for so long.
    GiveUp(Duration),
}

impl Gangs {
    /// A member waits.
    pub(super) fn waits(&mut self, claim: &Claim, key: Key, now: Instant) {
        let Some(owner) = gang::key(claim) else { return };
        self.of.insert(claim.uid.clone(), owner.clone());
        let one = self.gangs.entry(owner).or_default();
        one.since.get_or_insert(now);
        one.timeout = claim.wish.gang.as_ref().and_then(|gang| gang.timeout).map(Duration::from_secs);
        one.placed.remove(&claim.uid);
        one.waiting.insert(key, claim.uid.clone());
    }

    /// A member has a place.
    pub(super) fn has(&mut self, uid: &str, owner: &str) {
        self.of.insert(uid.to_owned(), owner.to_owned());
        let one = self.gangs.entry(owner.to_owned()).or_default();
        one.waiting.retain(|_, waiting| waiting != uid);
        one.placed.insert(uid.to_owned());
        if one.waiting.is_empty() {
            one.since = None;
        }
    }

    /// A pod is gone.
    pub(super) fn gone(&mut self, uid: &str) {
        let Some(owner) = self.of.remove(uid) else { return };
        let Some(one) = self.gangs.get_mut(&owner) else { return };
        one.placed.remove(uid);
        one.waiting.retain(|_, waiting| waiting != uid);
        if one.waiting.is_empty() && one.placed.is_empty() {
            self.gangs.remove(&owner);
        }
    }

    /// Whether the owner is to be asked now how many it wants: what it said a while ago may be so no more.
    pub(super) fn ask(&mut self, owner: &str, now: Instant) -> bool {
        let Some(one) = self.gangs.get_mut(owner) else { return false };
        let due = one.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK);
        if due {
            one.asked = Some(now);
        }
        due
    }

    /// How many members an owner wants.
    pub(super) fn wants(&mut self, owner: &str, desired: Option<u32>) {
        if let Some(one) = self.gangs.get_mut(owner) {
            one.desired = desired.and_then(|desired| usize::try_from(desired).ok());
        }
    }

    /// What its owner wants.
    pub(super) fn desired(&self, owner: &str) -> Option<usize> {
        self.gangs.get(owner)?.desired
    }

    /// The same of all gangs.
    pub(super) fn all_desired(&self) -> BTreeMap<String, usize> {
        self.gangs.iter().filter_map(|(owner, one)| Some((owner.clone(), one.desired?))).collect()
    }

    /// The members that wait, in order.
    pub(super) fn waiting(&self, owner: &str) -> Vec<String> {
        self.gangs.get(owner).map(|one| one.waiting.values().cloned().collect()).unwrap_or_default()
    }

    /// How many have a place.
    pub(super) fn placed(&self, owner: &str) -> usize {
        self.gangs.get(owner).map_or(0, |one| one.placed.len())
    }

    /// Whether a gang that needs so many members has them, and tries to get them places.
    pub(super) fn tries(&self, owner: &str, needed: usize, now: Instant) -> bool {
        self.gangs.get(owner).is_some_and(|one| {
            one.placed.len() + one.waiting.len() >= needed && one.rests.is_none_or(|until| now >= until)
        })
    }

    /// What a gang that needs so many members may do now.
    pub(super) fn turn(&mut self, owner: &str, needed: usize, now: Instant) -> Turn {
        let Some(one) = self.gangs.get_mut(owner) else { return Turn::Try };
        if one.rests.is_some_and(|until| now < until) {
            return Turn::Rest;
        }
        let since = match one.rests.take() {
            Some(until) => *one.since.insert(until),
            None => *one.since.get_or_insert(now),
        };
        // A gang that runs takes in late members without a limit of time.
        if one.placed.len() >= needed {
            return Turn::Try;
        }
        let arrived = one.placed.len() + one.waiting.len();
        let rule = GangRule { desired: needed, minimum: needed, timeout: one.timeout };
        match rule.step(arrived, Duration::ZERO, now.saturating_duration_since(since)) {
            GangStep::TimedOut => {
                one.rests = Some(now + PAUSE);
                Turn::GiveUp(one.timeout.unwrap_or_default())
            }
            GangStep::Wait(_) | GangStep::Place(_) => Turn::Try,
        }
    }

    /// Gangs whose timeout or pause is over: they are to have their turn.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let over = |one: &One| match (one.rests, one.since, one.timeout) {
            (Some(until), ..) => now >= until,
            (None, Some(since), Some(timeout)) => now.saturating_duration_since(since) >= timeout,
            _ => false,
        };
        let due = self.gangs.iter().filter(|(_, one)| !one.waiting.is_empty() && over(one));
        due.map(|(owner, _)| owner.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::claim;
    use super::super::ledger::testing::claim_of;
    use super::*;
    use serde_json::json;

    fn member(uid: &str, timeout: &str) -> Claim {
        let annotations = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/gang-enabled": "true",
            "tensor-fusion.ai/gang-min-members": "2", "tensor-fusion.ai/gang-timeout": timeout});
        claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
    }

    #[test]
    fn a_gang_gives_up_in_time_rests_and_waits_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gangs = Gangs::default();
        let first = member("a", "1m");
        gangs.waits(&first, claim::order(&first), start);
        assert!(gangs.ask("owner", start) && !gangs.ask("owner", at(4)) && gangs.ask("owner", at(5)));
        assert_eq!(gangs.turn("owner", 2, at(59)), Turn::Try);
        assert_eq!(gangs.due(at(59)), Vec::<String>::new());
        assert_eq!(gangs.due(at(60)), ["owner"]);
        assert_eq!(gangs.turn("owner", 2, at(60)), Turn::GiveUp(Duration::from_secs(60)));
        assert_eq!(gangs.turn("owner", 2, at(69)), Turn::Rest);
        assert_eq!(gangs.due(at(70)), ["owner"]);
        assert_eq!(gangs.turn("owner", 2, at(70)), Turn::Try);
        assert_eq!(gangs.turn("owner", 2, at(129)), Turn::Try);
        assert_eq!(gangs.turn("owner", 2, at(130)), Turn::GiveUp(Duration::from_secs(60)));
    }

    #[test]
    fn a_gang_that_runs_waits_for_late_members_for_ever_and_one_without_a_timeout_too() {
        let start = Instant::now();
        let mut gangs = Gangs::default();
        gangs.has("x", "owner");
        gangs.has("y", "owner");
        let late = member("z", "1s");
        gangs.waits(&late, claim::order(&late), start);
        assert_eq!(gangs.turn("owner", 2, start + Duration::from_secs(9)), Turn::Try);
        assert_eq!((gangs.placed("owner"), gangs.waiting("owner")), (2, vec!["z".to_owned()]));
        for uid in ["x", "y", "z"] {
            gangs.gone(uid);
        }
        assert!(gangs.gangs.is_empty() && gangs.of.is_empty());
        let patient = member("p", "0");
        gangs.waits(&patient, claim::order(&patient), start);
        assert_eq!(gangs.turn("owner", 2, start + Duration::from_secs(1_000_000)), Turn::Try);
    }
}
