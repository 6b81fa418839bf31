//! Keeping places for those that would starve: whoever has waited for long, pod or gang, has a turn in which what is freed is
//! kept for it, so that smaller ones do not pass it for ever.
//!
//! In each pool one has its turn at a time. Of two gangs that each have half of what they need neither would ever start, and what
//! is kept for many is of no use to anybody meanwhile. A turn ends when the pod or the gang has its places, when it gives up (a
//! gang's timeout), when somebody of a higher class has waited for long too, or when nothing of what it lacks has been freed
//! for a while: then those have the rest that can use it now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Allocator;
use crate::allocator::claim::Claim;
use crate::allocator::gang;
use crate::allocator::ledger::DEFAULT_POOL;

/// Who has waited for so long gets places kept.
const STARVING: Duration = Duration::from_secs(30);
/// Such places are chosen anew after so long: others may have become better.
const CHOSEN: Duration = Duration::from_secs(60);
/// A turn ends when nothing has been freed for so long.
const FRUITLESS: Duration = Duration::from_secs(300);
/// Who would not fit even if all were free, or whose turn has ended in vain, has none for so long.
const HOPELESS: Duration = Duration::from_secs(300);

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The pods for which places are kept.
    uids: Vec<String>,
    /// The least that it has lacked so far, and since when.
    lacks: u64,
    since: Instant,
}

impl Turn {
    pub(super) fn is_of(&self, uid: &str) -> bool {
        self.uids.iter().any(|one| one == uid)
    }

    /// The turn after its places were chosen anew, or `None` when it has been in vain for too long.
    fn go_on(self, before: Option<&Self>, now: Instant) -> Option<Self> {
        match before.filter(|before| self.lacks >= before.lacks) {
            Some(before) if now.saturating_duration_since(before.since) >= FRUITLESS => None,
            Some(before) => Some(Self { lacks: before.lacks, since: before.since, ..self }),
            None => Some(self),
        }
    }
}

/// A pod waits no more.
pub(super) fn leave(turns: &mut BTreeMap<String, Turn>, uid: &str) {
    turns.retain(|_, turn| {
        turn.uids.retain(|one| one != uid);
        !turn.uids.is_empty()
    });
}

impl Allocator {
    /// Gives turns to those that have waited for long: in all pools, or only in those where one is to go on.
    pub(super) fn feed(&mut self, all: bool, now: Instant) {
        self.making.hopeless.retain(|_, since| now.saturating_duration_since(*since) < HOPELESS);
        let mut pools: Vec<String> = if all { self.pools.keys().cloned().collect() } else { Vec::new() };
        if all && pools.is_empty() {
            pools.push(DEFAULT_POOL.to_owned());
        }
        pools.extend(self.making.turns.keys().filter(|pool| !pools.contains(pool)).cloned().collect::<Vec<_>>());
        for pool in pools {
            self.feed_in(&pool, now);
        }
    }

    fn feed_in(&mut self, pool: &str, now: Instant) {
        let has_kept = |turn: &Turn| turn.uids.iter().any(|uid| self.ledger.kept_for(uid).is_some());
        if self.making.turns.get(pool).is_some_and(has_kept) {
            return;
        }
        let before = self.making.turns.remove(pool);
        let hungry = |since: Instant| now.saturating_duration_since(since) >= STARVING;
        let mut waiting = self.queue.first_of(pool).filter(|(_, since)| hungry(*since));
        let first = waiting.find(|(claim, _)| self.may_have_turn(claim, now)).map(|(claim, _)| claim);
        drop(waiting);
        // Whose turn it was goes on, unless somebody of a higher class waits too.
        let again = before.iter().flat_map(|turn| &turn.uids).filter_map(|uid| self.queue.get(uid));
        let again = again.filter(|claim| first.is_none_or(|first| claim.wish.qos >= first.wish.qos));
        let again = again.into_iter().find(|claim| self.may_have_turn(claim, now));
        let before = before.filter(|_| again.is_some());
        let Some(claim) = again.or(first).cloned() else { return };
        let members = self.with_its_gang(&claim);
        if members.iter().any(|claim| self.ledger.kept_for(&claim.uid).is_some()) {
            return;
        }
        let kept = self.keep_places(&claim, &members);
        let turn = kept.then(|| {
            let uids = members.iter().map(|claim| claim.uid.clone());
            let uids: Vec<String> = uids.filter(|uid| self.ledger.kept_for(uid).is_some()).collect();
            Turn { lacks: self.ledger.lacks(&uids), uids, since: now }
        });
        match turn.and_then(|turn| turn.go_on(before.as_ref(), now)) {
            Some(turn) => {
                for uid in &turn.uids {
                    self.making.kept.insert(uid.clone(), now + CHOSEN);
                }
                self.making.turns.insert(pool.to_owned(), turn);
                match gang::key(&claim) {
                    Some(owner) => self.gang_again(&owner),
                    None => self.queue.again(&claim.uid),
                }
            }
            None => {
                for claim in &members {
                    self.end_kept(&claim.uid);
                    self.making.hopeless.insert(claim.uid.clone(), now);
                }
            }
        }
    }

    /// Whether places may be kept for a pod: of a gang when it is complete, and does not rest.
    fn may_have_turn(&self, claim: &Claim, now: Instant) -> bool {
        let complete = |owner: &str| {
            let needed = gang::needed(claim, self.gangs.desired(owner));
            needed.is_some_and(|needed| self.gangs.tries(owner, needed, now))
        };
        !self.binding.contains_key(&claim.uid)
            && !self.making.hopeless.contains_key(&claim.uid)
            && gang::key(claim).is_none_or(|owner| complete(&owner))
    }

    /// The pod, or all members of its gang that wait.
    fn with_its_gang(&self, claim: &Claim) -> Vec<Claim> {
        let Some(owner) = gang::key(claim) else { return vec![claim.clone()] };
        let waiting = self.gangs.waiting(&owner).into_iter().filter(|uid| !self.binding.contains_key(uid));
        waiting.filter_map(|uid| self.queue.get(&uid).cloned()).collect()
    }

    fn keep_places(&mut self, claim: &Claim, members: &[Claim]) -> bool {
        let Some(owner) = gang::key(claim) else {
            return self.ledger.nominate(claim, self.stuck.avoid(claim)).unwrap_or(false);
        };
        let needed = gang::needed(claim, self.gangs.desired(&owner)).unwrap_or(usize::MAX);
        // A gang that runs takes in others one by one.
        let needed = needed.saturating_sub(self.gangs.placed(&owner)).max(1);
        let members: Vec<&Claim> = members.iter().collect();
        self.ledger.nominate_gang(&members, needed, self.stuck.avoided())
    }

    /// A gang gives up: what was kept for it is for others, and the turn too.
    pub(super) fn pass_on(&mut self, members: &[Claim]) {
        for claim in members {
            self.end_kept(&claim.uid);
            leave(&mut self.making.turns, &claim.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_goes_on_as_long_as_something_is_freed_for_it() {
        let start = Instant::now();
        let turn = |lacks, seconds| {
            let since = start + Duration::from_secs(seconds);
            Turn { uids: vec!["a".to_owned(), "b".to_owned()], lacks, since }
        };
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = turn(9, 0).go_on(None, at(0)).unwrap();
        let same = turn(9, 60).go_on(Some(&first), at(60)).unwrap();
        assert_eq!((same.lacks, same.since), (9, at(0)));
        let better = turn(8, 120).go_on(Some(&same), at(120)).unwrap();
        assert_eq!((better.lacks, better.since), (8, at(120)));
        let worse = turn(9, 419).go_on(Some(&better), at(419)).unwrap();
        assert_eq!((worse.lacks, worse.since), (8, at(120)));
        assert_eq!(turn(8, 420).go_on(Some(&worse), at(420)), None);
        let mut turns = BTreeMap::from([("pool".to_owned(), first)]);
        leave(&mut turns, "a");
        assert!(turns["pool"].is_of("b") && !turns["pool"].is_of("a"));
        leave(&mut turns, "b");
        assert!(turns.is_empty());
    }
}
