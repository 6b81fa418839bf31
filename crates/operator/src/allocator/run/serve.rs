//! Finding places for those whose turn it is, and binding them.

use std::time::Instant;

use crd::Allocation;

use super::room::Room;
use super::{Allocator, BINDINGS, Change, RETRY, bound, describe};
use crate::allocator::claim::{self, Claim};
use crate::allocator::gang;
use crate::allocator::gangs::Turn;
use crate::allocator::ledger::Waiting;
use crate::fault;

impl Allocator {
    /// Finds places for those that may have one now.
    pub(super) fn serve(&mut self, now: Instant) {
        self.making.begin(now);
        while self.binding.len() < BINDINGS {
            let Some(uid) = self.queue.next() else { return };
            let Some(claim) = self.queue.get(&uid).filter(|_| !self.binding.contains_key(&uid)).cloned() else {
                continue;
            };
            match gang::key(&claim) {
                Some(owner) if self.queue.take_gang(&owner) => self.serve_gang(&owner, now),
                Some(_) => {}
                None => self.serve_one(claim, now),
            }
        }
    }

    fn serve_one(&mut self, claim: Claim, now: Instant) {
        let has_place = self.ledger.kept_for(&claim.uid).is_some();
        // Where one found nothing, another that asks the same finds nothing either.
        if !has_place && self.queue.is_hopeless(&claim) && !self.teller.may_tell(&claim.uid, now) {
            return;
        }
        match self.place(&claim) {
            Ok(allocation) => self.bind(claim, allocation),
            Err(waiting) => {
                let room = match waiting {
                    Waiting::Room(_) if self.may_get_card(&claim, now) => Room::None,
                    Waiting::Room(_) | Waiting::Quota(_, true) => self.make_room(&claim, now),
                    _ => Room::None,
                };
                // Who waits for a turn has no less use for a card than before.
                let hopes = room == Room::None || (room == Room::Kept && self.making.has_turn(&claim.uid));
                self.holders.want(&claim.uid, hopes && matches!(waiting, Waiting::Room(_)), now);
                if room == Room::None {
                    self.queue.refuse(&claim);
                }
                // That others are evicted for it is told already.
                if room != Room::Evicting {
                    self.tell_waiting(&claim, &waiting, now);
                }
            }
        }
    }

    /// A place for a claim, also where one is kept for somebody of a lower class.
    fn place(&mut self, claim: &Claim) -> Result<Allocation, Waiting> {
        let found = self.ledger.place(claim, self.stuck.avoid(claim));
        match found {
            // Who waits for a place of its own leaves others theirs.
            Err(Waiting::Room(_))
                if self.ledger.kept_for(&claim.uid).is_none()
                    && self.ledger.end_kept_below(&claim.wish.pool, claim.wish.qos) =>
            {
                self.ledger.place(claim, self.stuck.avoid(claim))
            }
            found => found,
        }
    }

    fn serve_gang(&mut self, owner: &str, now: Instant) {
        let waiting = self.gangs.waiting(owner).into_iter().filter(|uid| !self.binding.contains_key(uid));
        let members: Vec<Claim> = waiting.filter_map(|uid| self.queue.get(&uid)).cloned().collect();
        let Some(first) = members.first().cloned() else { return };
        let Some(needed) = gang::needed(&first, self.gangs.desired(owner)) else {
            let why = "its gang names no minimum, and its owner does not say how many replicas there are to be";
            self.tell_waiting(&first, &Waiting::Impossible(why.to_owned()), now);
            return;
        };
        let there = self.gangs.placed(owner);
        match self.gangs.turn(owner, needed, now) {
            Turn::Try => {}
            Turn::Rest => return,
            Turn::GiveUp(after) => {
                let text = format!(
                    "its gang has not got a place for {needed} members within {} s; it begins anew in a moment",
                    after.as_secs()
                );
                self.pass_on(&members);
                for claim in &members {
                    self.teller.waits(&claim.pod, "GangTimedOut", &text, now);
                }
                return;
            }
        }
        let waiting: Vec<&Claim> = members.iter().collect();
        let mut found = gang::place(&mut self.ledger, &waiting, there, needed, self.stuck.avoided());
        // Who waits for places of its own leaves others theirs.
        if matches!(found, Err(Waiting::Room(_)))
            && !waiting.iter().any(|claim| self.ledger.kept_for(&claim.uid).is_some())
            && self.ledger.end_kept_below(&first.wish.pool, first.wish.qos)
        {
            found = gang::place(&mut self.ledger, &waiting, there, needed, self.stuck.avoided());
        }
        match found {
            Ok(placed) => {
                for (position, allocation) in placed {
                    if let Some(claim) = members.get(position) {
                        self.gangs.has(&claim.uid, owner);
                        self.bind(claim.clone(), allocation);
                    }
                }
            }
            Err(why) => {
                if matches!(why, Waiting::Room(_) | Waiting::Quota(_, true)) {
                    self.make_room_for_gang(&waiting, needed.saturating_sub(there), now);
                }
                for claim in &members {
                    self.holders.want(&claim.uid, matches!(why, Waiting::Room(_)), now);
                    self.tell_waiting(claim, &why, now);
                }
            }
        }
    }

    fn tell_waiting(&mut self, claim: &Claim, waiting: &Waiting, now: Instant) {
        if !self.teller.may_tell(&claim.uid, now) {
            return;
        }
        let reason = match waiting {
            Waiting::Room(_) | Waiting::NoNode => "WaitingForGPU",
            Waiting::Quota(_, true) => "WaitingForQuota",
            Waiting::Quota(_, false) => "ExceedsQuota",
            Waiting::Impossible(_) => "CannotBeServed",
            Waiting::Gang(..) => "WaitingForGang",
        };
        let mut text = match self.ledger.kept_for(&claim.uid) {
            Some(kept) => format!("a place on node {} is kept for it until those are gone that have it", kept.node),
            None => self.ledger.explain(waiting),
        };
        if let Some(why) = self.making.why(&claim.uid) {
            text = format!("{text}; {why}");
        }
        tracing::debug!(pod = claim.name, namespace = claim.namespace, reason, text, "a pod waits");
        self.teller.waits(&claim.pod, reason, &text, now);
    }

    fn bind(&mut self, claim: Claim, allocation: Allocation) {
        fault::point("after-place");
        self.changed = true;
        self.making.forget(&claim.uid);
        self.binding.insert(claim.uid.clone(), claim.clone());
        let (client, sender) = (self.client.clone(), self.sender.clone());
        let percent = self.ledger.hard_percent(&claim.wish, &allocation);
        tokio::spawn(async move {
            let done = bound::bind(&client, &claim.pod, &allocation, percent).await;
            // Nobody listens any more when the loop has ended, and the process with it.
            sender.send(Change::Bound(claim.uid.clone(), done)).ok();
        });
    }

    pub(super) fn bound(&mut self, uid: &str, done: bool) {
        let claim = self.binding.remove(uid);
        let gone = self.gone.remove(uid);
        if gone || !done {
            self.release(uid);
        }
        if gone {
            return;
        }
        let Some(claim) = claim else { return };
        if done {
            self.waits_no_more(uid);
            let got = self.ledger.granted_to(uid).map(describe);
            if let Some(text) = got {
                tracing::info!(pod = claim.name, namespace = claim.namespace, text, "a pod got its GPUs");
                self.teller.says(&claim.pod, "Allocated", &text, Instant::now());
                if let Some(warning) = claim.wish.warning() {
                    self.teller.acts(&claim.pod, "NotActedUpon", &warning);
                }
            }
            return;
        }
        if self.queue.get(uid).is_some() {
            self.gangs.waits(&claim, claim::order(&claim), Instant::now());
        }
        let (sender, uid) = (self.sender.clone(), uid.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            sender.send(Change::Retry(uid)).ok();
        });
    }
}
