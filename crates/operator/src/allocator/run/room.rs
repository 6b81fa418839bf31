//! Making room for pods of a higher class, and ending what was kept for them in vain.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::Allocator;
use super::evict::{self, Refused};
use super::feed::{self, Turn};
use crate::allocator::claim::Claim;
use crate::allocator::preempt::{self, Plan, Rules, Scope, Victim};

/// Who was evicted has its own time to end, and so long more, before others are asked to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pod whose eviction was refused is not asked again for so long.
const SPARED: Duration = Duration::from_secs(20);
/// In vain, a pod's victims are not looked for more often than so.
const PAUSE: Duration = Duration::from_secs(5);
/// Looking for victims takes no more of the loop's time at once.
const LONGEST: Duration = Duration::from_millis(50);

/// What is under way, and since when.
#[derive(Debug)]
pub(super) struct Making {
    scope: Scope,
    /// Time since 1970 at an instant of ours: a clock that does not jump.
    origin: (Instant, Duration),
    began: Instant,
    /// Pods whose eviction was refused, until when they are left alone.
    spared: BTreeMap<String, Duration>,
    tried: BTreeMap<String, Instant>,
    /// Pods for which a place is kept, until when.
    pub(super) kept: BTreeMap<String, Instant>,
    /// Why there is no room for a pod in spite of its class.
    why: BTreeMap<String, String>,
    /// By pool, whose turn it is to have places kept because it has waited long.
    pub(super) turns: BTreeMap<String, Turn>,
    /// Pods for which no place is kept for a while, since when.
    pub(super) hopeless: BTreeMap<String, Instant>,
    looked: Instant,
}

impl Making {
    pub(super) fn new(scope: Scope, now: Instant) -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            scope,
            origin: (now, unix),
            began: now,
            spared: BTreeMap::new(),
            tried: BTreeMap::new(),
            kept: BTreeMap::new(),
            why: BTreeMap::new(),
            turns: BTreeMap::new(),
            hopeless: BTreeMap::new(),
            looked: now,
        }
    }

    /// Among whom victims are looked for from now on.
    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    fn clock(&self, now: Instant) -> Duration {
        self.origin.1 + now.saturating_duration_since(self.origin.0)
    }

    /// What a plan depends on now, besides the ledger.
    fn rules<'a>(
        &'a self,
        desired: &'a BTreeMap<String, usize>,
        avoid: &'a BTreeMap<String, Vec<String>>,
        now: Instant,
    ) -> Rules<'a> {
        Rules { scope: self.scope, now: self.clock(now), spared: &self.spared, desired, avoid }
    }

    /// When somebody is gone at the latest who has so long to end.
    pub(super) fn until(&self, grace: Duration, now: Instant) -> Duration {
        self.clock(now).saturating_add(grace).saturating_add(PATIENCE)
    }

    /// The loop begins to serve.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// The pod waits no more.
    pub(super) fn forget(&mut self, uid: &str) {
        self.tried.remove(uid);
        self.kept.remove(uid);
        self.why.remove(uid);
        self.hopeless.remove(uid);
        feed::leave(&mut self.turns, uid);
    }

    /// Why evictions did not help a pod.
    pub(super) fn why(&self, uid: &str) -> Option<&str> {
        self.why.get(uid).map(String::as_str)
    }

    /// Whether a pod is among those whose turn it is.
    pub(super) fn has_turn(&self, uid: &str) -> bool {
        self.turns.values().any(|turn| turn.is_of(uid))
    }

    /// Whether victims may be looked for now. Those who come too late have another turn.
    fn may_look(&mut self, uid: &str, now: Instant) -> bool {
        let tried = self.tried.get(uid).is_some_and(|tried| now.saturating_duration_since(*tried) < PAUSE);
        if self.scope == Scope::Never || tried || self.began.elapsed() > LONGEST {
            return false;
        }
        self.tried.insert(uid.to_owned(), now);
        true
    }
}

/// What became of a wish for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is none.
    None,
    /// A place is kept, and those that have it are going.
    Kept,
    /// A place is kept, and those that have it have just been asked to go.
    Evicting,
}

impl Allocator {
    /// Makes room for a claim that has found none, or none within its quota.
    pub(super) fn make_room(&mut self, claim: &Claim, now: Instant) -> Room {
        if self.ledger.kept_for(&claim.uid).is_some() {
            return Room::Kept;
        }
        if !self.ledger.has_lesser(claim.wish.qos) || !self.making.may_look(&claim.uid, now) {
            return Room::None;
        }
        let desired = self.gangs.all_desired();
        let rules = self.making.rules(&desired, self.stuck.avoided(), now);
        match preempt::plan(&mut self.ledger, claim, &rules) {
            Ok(plan) => {
                let room = if plan.victims.is_empty() { Room::Kept } else { Room::Evicting };
                self.ledger.keep_for(claim, &plan.placements);
                self.clear_out(&[claim], plan.victims, now);
                room
            }
            Err(why) => {
                if let Some(why) = why {
                    self.making.why.insert(claim.uid.clone(), why.to_string());
                }
                Room::None
            }
        }
    }

    /// The same for a gang of which so many more need a place.
    pub(super) fn make_room_for_gang(&mut self, members: &[&Claim], needed: usize, now: Instant) {
        let Some(first) = members.first() else { return };
        if members.iter().any(|claim| self.ledger.kept_for(&claim.uid).is_some())
            || !self.ledger.has_lesser(first.wish.qos)
            || !self.making.may_look(&first.uid, now)
        {
            return;
        }
        let desired = self.gangs.all_desired();
        let rules = self.making.rules(&desired, self.stuck.avoided(), now);
        match preempt::plan_gang(&mut self.ledger, members, needed, &rules) {
            Ok(plans) => {
                let found: Vec<&Claim> =
                    plans.iter().filter_map(|(position, _)| members.get(*position).copied()).collect();
                let mut victims: Vec<Victim> =
                    plans.into_iter().flat_map(|(_, plan): (_, Plan)| plan.victims).collect();
                victims.sort_by(|a, b| a.uid.cmp(&b.uid));
                victims.dedup();
                self.clear_out(&found, victims, now);
            }
            Err(Some(why)) => drop(self.making.why.insert(first.uid.clone(), why.to_string())),
            Err(None) => {}
        }
    }

    /// Evicts victims for pods for which their place is kept already.
    fn clear_out(&mut self, claims: &[&Claim], victims: Vec<Victim>, now: Instant) {
        let mut grace = Duration::ZERO;
        for victim in &victims {
            let own = self.ledger.terms(&victim.uid).map(|terms| terms.grace).unwrap_or_default();
            grace = grace.max(own);
            self.ledger.leaves(&victim.uid, Some(self.making.until(own, now)));
        }
        for claim in claims {
            self.making.why.remove(&claim.uid);
            self.making.kept.insert(claim.uid.clone(), now + grace + PATIENCE);
        }
        let (Some(first), false) = (claims.first(), victims.is_empty()) else { return };
        let node = self.ledger.kept_for(&first.uid).map(|kept| kept.node.clone()).unwrap_or_default();
        let text = evict::describe(&victims, &node);
        tracing::info!(pod = first.name, namespace = first.namespace, text, "a pod preempts others");
        self.teller.acts(&first.pod, "Preempting", &text);
        let pods = claims.iter().map(|claim| claim.uid.clone()).collect();
        tokio::spawn(evict::evict(self.client.clone(), (*first).clone(), pods, victims, self.sender.clone()));
    }

    /// Somebody may not be evicted, so others must be found.
    pub(super) fn refused(&mut self, refused: Refused) {
        let now = Instant::now();
        self.making.spared.insert(refused.victim, self.making.clock(now) + SPARED);
        for uid in &refused.untouched {
            self.ledger.leaves(uid, None);
        }
        for uid in &refused.pods {
            self.end_kept(uid);
            self.making.tried.remove(uid);
            self.making.why.insert(uid.clone(), refused.why.clone());
        }
    }

    /// Nothing is kept for a pod any more, and others may have it.
    pub(super) fn end_kept(&mut self, uid: &str) {
        self.making.kept.remove(uid);
        if self.ledger.end_kept(uid) {
            self.queue.all_again();
        }
    }

    /// Ends what has been kept for too long, and keeps places for those that have waited for long.
    pub(super) fn keep_time(&mut self, now: Instant) {
        let clock = self.making.clock(now);
        self.making.spared.retain(|_, until| *until > clock);
        let over: Vec<String> =
            self.making.kept.iter().filter(|(_, until)| now >= **until).map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            let node = self.ledger.kept_for(&uid).map(|kept| kept.node.clone());
            if let Some(node) = node.filter(|_| !self.making.has_turn(&uid)) {
                let why = format!("those that were to leave node {node} have not gone in time");
                self.making.why.insert(uid.clone(), why);
            }
            self.end_kept(&uid);
        }
        let all = now.saturating_duration_since(self.making.looked) > PAUSE;
        if all {
            self.making.looked = now;
        }
        self.feed(all, now);
    }
}
