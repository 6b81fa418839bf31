//! Who waits, and whose turn it is.
//!
//! A pod that is new, or has changed, has a turn. When something was freed or added, all have one, in order: a round.
//! As long as nothing is freed or added, what found no room finds none, and neither does what asks the same, so
//! looking through many that wait costs little.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::time::Instant;

use crd::names;

use super::claim::{self, Claim};
use super::eligible;

/// The order of turns: class, age, namespace, name.
pub(super) type Key = (std::cmp::Reverse<types::Qos>, i64, String, String);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeMap<Key, String>,
    waiting: BTreeMap<String, (Claim, Instant)>,
    fresh: BTreeSet<Key>,
    /// A round is under way: where it is.
    round: Option<Option<Key>>,
    refused: HashSet<(String, String)>,
    gangs_refused: BTreeSet<String>,
}

impl Queue {
    /// A pod waits, or still does and has changed.
    pub(super) fn waits(&mut self, claim: Claim, now: Instant) {
        let key = claim::order(&claim);
        let since = match self.waiting.get(&claim.uid) {
            Some((before, since)) => {
                let (before, since) = (claim::order(before), *since);
                if before != key {
                    self.leave(&before, &claim.uid);
                }
                since
            }
            None => now,
        };
        self.order.insert(key.clone(), claim.uid.clone());
        self.fresh.insert(key);
        self.waiting.insert(claim.uid.clone(), (claim, since));
    }

    /// A pod waits no more.
    pub(super) fn remove(&mut self, uid: &str) -> Option<Claim> {
        let (claim, _) = self.waiting.remove(uid)?;
        self.leave(&claim::order(&claim), uid);
        Some(claim)
    }

    /// Its place is free, unless a successor of the same name and second has it.
    fn leave(&mut self, key: &Key, uid: &str) {
        if self.order.get(key).is_some_and(|there| there == uid) {
            self.order.remove(key);
            self.fresh.remove(key);
        }
    }

    /// A pod that waits.
    pub(super) fn get(&self, uid: &str) -> Option<&Claim> {
        self.waiting.get(uid).map(|(claim, _)| claim)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The pod is to have a turn.
    pub(super) fn again(&mut self, uid: &str) {
        if let Some((claim, _)) = self.waiting.get(uid) {
            self.fresh.insert(claim::order(claim));
        }
    }

    /// All are to have a turn: something was freed or added.
    pub(super) fn all_again(&mut self) {
        self.round = Some(None);
        self.refused.clear();
        self.gangs_refused.clear();
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<String> {
        let key = match &self.round {
            None => self.fresh.pop_first()?,
            Some(passed) => {
                let from = passed.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let next = self.order.range((from, Bound::Unbounded)).next().map(|(key, _)| key.clone());
                match next {
                    // Who came after the round had passed its place.
                    Some(next) if self.fresh.first().is_some_and(|fresh| *fresh < next) => self.fresh.pop_first()?,
                    Some(next) => {
                        self.fresh.remove(&next);
                        self.round = Some(Some(next.clone()));
                        next
                    }
                    None => {
                        self.round = None;
                        self.fresh.pop_first()?
                    }
                }
            }
        };
        self.order.get(&key).cloned()
    }

    /// Whether something that asks the same found no room.
    pub(super) fn is_hopeless(&self, claim: &Claim) -> bool {
        alike(claim).is_some_and(|alike| self.refused.contains(&alike))
    }

    /// It found no room.
    pub(super) fn refuse(&mut self, claim: &Claim) {
        self.refused.extend(alike(claim));
    }

    /// Whether a gang is to be looked at, which happens once as long as it does not change.
    pub(super) fn take_gang(&mut self, owner: &str) -> bool {
        self.gangs_refused.insert(owner.to_owned())
    }

    /// A gang has changed.
    pub(super) fn gang_again(&mut self, owner: &str) {
        self.gangs_refused.remove(owner);
    }

    /// All that wait, in order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Claim> {
        self.order.values().filter_map(|uid| self.waiting.get(uid)).map(|(claim, _)| claim)
    }

    /// The first that wait in a pool, by order, with when they came.
    pub(super) fn first_of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = (&'a Claim, Instant)> {
        let all = self.order.values().filter_map(|uid| self.waiting.get(uid));
        all.filter(move |(claim, _)| claim.wish.pool == pool).map(|(claim, since)| (claim, *since))
    }
}

/// What is the same for pods that fit in the same places.
fn alike(claim: &Claim) -> Option<(String, String)> {
    (!eligible::has_rules(&claim.pod)).then(|| {
        let text = claim::annotation(&claim.pod, names::REQUEST).unwrap_or_default();
        let mut text = text.to_owned();
        let tolerations = claim.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
        for one in tolerations.into_iter().flatten() {
            for part in [&one.key, &one.operator, &one.value, &one.effect] {
                text.push('\n');
                text.push_str(part.as_deref().unwrap_or_default());
            }
        }
        (claim.namespace.clone(), text)
    })
}

#[cfg(test)]
mod tests {
    use super::super::ledger::testing::asks_as;
    use super::*;

    fn served(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn those_of_a_higher_class_have_their_turn_first_and_a_round_reaches_everybody_once() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (uid, qos) in [("a", "low"), ("b", "critical"), ("c", "medium")] {
            queue.waits(asks_as(uid, "1Gi", qos), now);
        }
        assert_eq!(served(&mut queue), ["b", "c", "a"]);
        assert_eq!(queue.next(), None);
        queue.all_again();
        assert_eq!(queue.next().unwrap(), "b");
        // Comes when its place is past, and when it is not.
        queue.waits(asks_as("d", "1Gi", "critical"), now);
        queue.again("b");
        queue.waits(asks_as("e", "1Gi", "low"), now);
        assert_eq!(served(&mut queue), ["b", "d", "c", "a", "e"]);
        assert_eq!(queue.next(), None);
        queue.again("e");
        assert!(queue.remove("e").is_some());
        assert!(queue.remove("e").is_none());
        assert_eq!(served(&mut queue), Vec::<String>::new());
    }

    #[test]
    fn a_successor_of_the_same_name_keeps_its_place_when_its_predecessor_goes() {
        let mut queue = Queue::default();
        queue.waits(asks_as("a", "1Gi", "low"), Instant::now());
        let mut successor = asks_as("a", "1Gi", "low");
        successor.uid = "another".to_owned();
        queue.waits(successor, Instant::now());
        assert!(queue.remove("a").is_some());
        assert_eq!(served(&mut queue), ["another"]);
    }

    #[test]
    fn what_asks_the_same_is_hopeless_until_something_is_freed() {
        let mut queue = Queue::default();
        let (one, same, other) = (asks_as("a", "1Gi", "low"), asks_as("b", "1Gi", "low"), asks_as("c", "2Gi", "low"));
        queue.refuse(&one);
        assert!(queue.is_hopeless(&same) && !queue.is_hopeless(&other));
        queue.all_again();
        assert!(!queue.is_hopeless(&same));
    }
}
