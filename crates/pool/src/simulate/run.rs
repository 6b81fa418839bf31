//! The run of a simulation: events in order of time, and who waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use types::Qos;

use super::report::{Gauge, Outcome, Report};
use super::trace::{self, Arrival, Trace};
use crate::{
    Budgets, EvictionLimits, Gang, GangRule, GangStep, Held, Holder, Inventory, InventoryError, Lack, Nomination,
    Placement, Quota, Request, Unplaced, Usage, backfill, explain, nominate_gang, place, place_gang_on,
    preempt_within_quota,
};

/// Place in the queue: class, then arrival.
type Rank = (Reverse<Qos>, usize);

/// What happens at a time, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A gang gives up: also when its place would be free at this very moment.
    Timeout(Rank),
    /// A placement ends.
    End(u64),
    /// Waiting replicas come: position of the arrival, and of the replica; a gang comes at once.
    Arrive(usize, u32),
}

/// Replicas that wait together: one, or a gang.
#[derive(Clone, Debug)]
struct Waiting {
    arrival: usize,
    since: u64,
    /// Positions of the outcomes.
    members: Vec<usize>,
    /// At least so many must be placed.
    minimum: usize,
    timeout: Option<u64>,
}

/// A placed replica.
#[derive(Clone, Debug)]
struct Placed {
    arrival: usize,
    outcome: usize,
    rank: Rank,
    placement: Placement,
    since: u64,
    ends: Option<u64>,
    of_gang: bool,
}

struct Run<'a> {
    trace: &'a Trace,
    inventory: Inventory,
    gauge: Gauge,
    outcomes: Vec<Outcome>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    queue: BTreeMap<Rank, Waiting>,
    held: BTreeMap<u64, Placed>,
    next: u64,
    quotas: BTreeMap<&'a str, Quota>,
    budgets: Budgets,
    /// Whose turn it is to have places kept: one, or one for each member that a gang needs.
    nominated: Option<(Rank, Vec<Nomination>)>,
    /// Arrivals that fit nowhere even when all is free.
    hopeless: BTreeSet<usize>,
}

pub(super) fn run(trace: &Trace) -> Result<Report, InventoryError> {
    let inventory = trace::inventory(trace)?;
    let limits = trace.policy.evictions;
    let limits =
        EvictionLimits { window: Duration::from_secs(limits.window), pool: limits.pool, namespace: limits.namespace };
    let mut run = Run {
        gauge: Gauge::new(&inventory),
        inventory,
        trace,
        outcomes: Vec::new(),
        events: BinaryHeap::new(),
        queue: BTreeMap::new(),
        held: BTreeMap::new(),
        next: 0,
        quotas: trace.quotas.iter().map(|(name, limits)| (name.as_str(), Quota::new(*limits))).collect(),
        budgets: Budgets::new(limits),
        nominated: None,
        hopeless: BTreeSet::new(),
    };
    for (position, arrival) in trace.requests.iter().enumerate() {
        let comings = if arrival.gang.is_some() { arrival.replicas.min(1) } else { arrival.replicas };
        for replica in 0..comings {
            let at = arrival.at.saturating_add(arrival.every.saturating_mul(u64::from(replica)));
            run.events.push(Reverse((at, Event::Arrive(position, replica))));
        }
    }
    while let Some(Reverse((now, event))) = run.events.pop() {
        run.gauge.pass(now);
        run.handle(event, now)?;
    }
    Ok(run.gauge.report(run.outcomes))
}

impl Run<'_> {
    fn arrival(&self, position: usize) -> &Arrival {
        &self.trace.requests[position]
    }

    fn handle(&mut self, event: Event, now: u64) -> Result<(), InventoryError> {
        match event {
            Event::End(number) => {
                // Who was evicted ended before.
                let Some(placed) = self.release(number)? else { return Ok(()) };
                self.outcomes[placed.outcome].ended = Some(now);
                self.serve(now)
            }
            Event::Arrive(position, replica) => self.arrive(position, replica, now),
            Event::Timeout(rank) => {
                if let Some(waiting) = self.queue.get(&rank).filter(|waiting| waiting.timeout == Some(now)) {
                    let rule = GangRule {
                        desired: waiting.members.len(),
                        minimum: waiting.minimum,
                        timeout: Some(Duration::from_secs(now - waiting.since)),
                    };
                    let (since, now) = (Duration::from_secs(waiting.since), Duration::from_secs(now));
                    if rule.step(waiting.members.len(), since, now) == GangStep::TimedOut {
                        for &member in &waiting.members {
                            let why = self.outcomes[member].refused.take().unwrap_or_default();
                            self.outcomes[member].refused = Some(format!("the gang gave up waiting: {why}"));
                        }
                        self.queue.remove(&rank);
                    }
                }
                self.serve(now)
            }
        }
    }

    fn arrive(&mut self, position: usize, replica: u32, now: u64) -> Result<(), InventoryError> {
        let arrival = &self.trace.requests[position];
        let first = self.outcomes.len();
        let replicas = if arrival.gang.is_some() { 0..arrival.replicas } else { replica..replica + 1 };
        for replica in replicas {
            let name = if arrival.replicas == 1 { arrival.name.clone() } else { format!("{}-{replica}", arrival.name) };
            self.outcomes.push(Outcome {
                name,
                qos: arrival.request.qos,
                arrived: now,
                placed: None,
                ended: None,
                gpus: Vec::new(),
                evicted: 0,
                refused: None,
            });
        }
        let members: Vec<usize> = (first..self.outcomes.len()).collect();
        let minimum = arrival.gang.map_or(1, |gang| gang.minimum.unwrap_or(members.len())).min(members.len()).max(1);
        let timeout = arrival.gang.and_then(|gang| gang.timeout).map(|timeout| now.saturating_add(timeout));
        let rank = (Reverse(arrival.request.qos), first);
        let waiting = Waiting { arrival: position, since: now, members, minimum, timeout };
        if let Some(timeout) = timeout {
            self.events.push(Reverse((timeout, Event::Timeout(rank))));
        }
        self.queue.insert(rank, waiting);
        // Who was waiting and could not be placed cannot be now: only the new one is tried.
        self.attempt(rank, now)?;
        self.nominate_first(now)
    }

    /// Tries all who wait.
    fn serve(&mut self, now: u64) -> Result<(), InventoryError> {
        let ranks: Vec<Rank> = self.queue.keys().copied().collect();
        // What was refused once is refused again as long as nothing is given back.
        let mut refused = BTreeSet::new();
        for rank in ranks {
            let Some(arrival) = self.queue.get(&rank).map(|waiting| waiting.arrival) else { continue };
            let nominee = self.nominated.as_ref().is_some_and(|nominated| nominated.0 == rank);
            if (nominee || !refused.contains(&arrival)) && !self.attempt(rank, now)? {
                refused.insert(arrival);
            }
        }
        self.nominate_first(now)
    }

    /// Tries to place who waits at a rank; whether nobody of them waits any more.
    fn attempt(&mut self, rank: Rank, now: u64) -> Result<bool, InventoryError> {
        let Some(waiting) = self.queue.get(&rank).cloned() else { return Ok(true) };
        // It gives up at this very moment.
        if waiting.timeout.is_some_and(|timeout| timeout <= now) {
            return Ok(false);
        }
        let arrival = &self.trace.requests[waiting.arrival];
        let request = self.request_of(arrival);
        let quota = self.quotas.get(arrival.namespace.as_str()).copied();
        let may_evict = waiting.members.len() == 1 && self.trace.policy.preempt;
        let over_quota = quota.and_then(|mut quota| quota.charge(&request).err());
        if let Some(error) = over_quota {
            self.refuse(&waiting, error.to_string());
            if !error.may_fit_later() {
                self.queue.remove(&rank);
            }
            if !error.may_fit_later() || !may_evict {
                return Ok(false);
            }
        }
        // Its own place is open to it, and so is what is kept for who comes later.
        let nominated = self.nominated.take_if(|nominated| nominated.0 >= rank);
        if let Some((_, nominations)) = &nominated {
            self.each_kept(nominations, Inventory::unreserve)?;
        }
        let found: Result<Vec<Placement>, Option<Unplaced>> = if over_quota.is_some() {
            Err(None)
        } else if waiting.members.len() > 1 {
            let gang = Gang { members: vec![request.clone(); waiting.members.len()], minimum: waiting.minimum };
            let found = place_gang_on(&mut self.inventory, &gang).map_err(Some);
            found.map(|found| found.into_iter().map(|(_, one)| one).collect())
        } else {
            self.find(&request, arrival, now).map(|one| vec![one]).ok_or(None)
        };
        let placed = match found {
            Ok(placements) => self.settle(&waiting, rank, &request, placements, now)?,
            Err(why) => {
                if waiting.members.iter().any(|&member| self.outcomes[member].refused.is_none()) {
                    let why = why.unwrap_or_else(|| explain(&self.inventory, &request));
                    self.refuse(&waiting, why.to_string());
                }
                if may_evict { self.evict_for(&waiting, rank, &request, now)? } else { 0 }
            }
        };
        let left: Vec<usize> = waiting.members.iter().copied().skip(placed).collect();
        if placed > 0 || left.is_empty() {
            self.queue.remove(&rank);
            // The gang runs; the others join one by one.
            for &member in &left {
                let alone = Waiting { members: vec![member], minimum: 1, timeout: None, ..waiting.clone() };
                self.queue.insert((rank.0, member), alone);
            }
            // Who comes later and had a place gets another before those after it have their turn.
            if nominated.is_some_and(|nominated| nominated.0 > rank) {
                self.nominate_first(now)?;
            }
        } else if let Some(nominated) = nominated {
            self.each_kept(&nominated.1, Inventory::reserve)?;
            self.nominated = Some(nominated);
        }
        Ok(left.is_empty())
    }

    fn find(&self, request: &Request, arrival: &Arrival, now: u64) -> Option<Placement> {
        place(&self.inventory, request).or_else(|| {
            let nominations = self.nominated.as_ref().map(|nominated| nominated.1.as_slice()).unwrap_or_default();
            let ends = Duration::from_secs(now.saturating_add(arrival.seconds?));
            if nominations.is_empty() { None } else { backfill(&self.inventory, request, ends, nominations) }
        })
    }

    fn refuse(&mut self, waiting: &Waiting, why: String) {
        for &member in &waiting.members {
            self.outcomes[member].refused.get_or_insert_with(|| why.clone());
        }
    }

    /// Charges the quota and takes the placements, as many as the quota allows, if those are enough. How many.
    fn settle(
        &mut self,
        waiting: &Waiting,
        rank: Rank,
        request: &Request,
        mut placements: Vec<Placement>,
        now: u64,
    ) -> Result<usize, InventoryError> {
        let arrival = &self.trace.requests[waiting.arrival];
        if let Some(quota) = self.quotas.get_mut(arrival.namespace.as_str()) {
            let before = *quota;
            let mut refused = None;
            let allowed = placements.iter().take_while(|_| match quota.charge(request) {
                Ok(()) => true,
                Err(error) => {
                    refused = Some(error);
                    false
                }
            });
            let allowed = allowed.count();
            placements.truncate(allowed);
            if let Some(error) = refused.filter(|_| allowed < waiting.minimum) {
                *quota = before;
                self.refuse(waiting, error.to_string());
                return Ok(0);
            }
        }
        let count = placements.len();
        for (placement, &outcome) in placements.into_iter().zip(&waiting.members) {
            self.gauge.count(&self.inventory, &placement, false);
            self.inventory.take(&placement)?;
            self.gauge.count(&self.inventory, &placement, true);
            let gpus = placement.gpus.iter().filter_map(|&gpu| self.inventory.gpu(gpu));
            let gpus = gpus.map(|gpu| gpu.uuid.clone()).collect();
            let this = &mut self.outcomes[outcome];
            this.placed.get_or_insert(now);
            this.gpus = gpus;
            let ends = arrival.seconds.map(|seconds| now.saturating_add(seconds));
            if let Some(ends) = ends {
                self.events.push(Reverse((ends, Event::End(self.next))));
            }
            let (arrival, rank, of_gang) = (waiting.arrival, (rank.0, outcome), waiting.members.len() > 1);
            self.held.insert(self.next, Placed { arrival, outcome, rank, placement, since: now, ends, of_gang });
            self.next += 1;
        }
        Ok(count)
    }

    /// Gives back what a placed replica holds.
    fn release(&mut self, number: u64) -> Result<Option<Placed>, InventoryError> {
        let Some(placed) = self.held.remove(&number) else { return Ok(None) };
        self.gauge.count(&self.inventory, &placed.placement, false);
        self.inventory.give_back(&placed.placement)?;
        self.gauge.count(&self.inventory, &placed.placement, true);
        let arrival = &self.trace.requests[placed.arrival];
        if let Some(quota) = self.quotas.get_mut(arrival.namespace.as_str()) {
            let request = quota.with_defaults(arrival.request.clone());
            let released = quota.release(&request);
            debug_assert!(released.is_ok(), "what was charged is released: {released:?}");
        }
        Ok(Some(placed))
    }

    /// Evicts whom it needs, and places the request. How many were placed.
    fn evict_for(
        &mut self,
        waiting: &Waiting,
        rank: Rank,
        request: &Request,
        now: u64,
    ) -> Result<usize, InventoryError> {
        let numbers: Vec<u64> = self.held.keys().copied().collect();
        let holders: Vec<Holder> = self.held.values().map(|placed| self.holder(placed)).collect();
        let at = Duration::from_secs(now);
        let namespace = self.arrival(waiting.arrival).namespace.as_str();
        let usage = self.quotas.get(namespace).map(|quota| quota.lacks(request)).unwrap_or_default();
        let (lack, requests) = (Lack { namespace, usage }, std::slice::from_ref(request));
        let Ok(preemption) = preempt_within_quota(&self.inventory, &holders, requests, lack, &self.budgets, at) else {
            return Ok(0);
        };
        for &victim in &preemption.victims {
            let Some(placed) = self.release(numbers[victim])? else { continue };
            let pool = placed.placement.gpus.first().and_then(|&gpu| self.inventory.gpu(gpu));
            self.budgets.note(pool.map_or("", |gpu| &gpu.pool), &holders[victim].namespace, at);
            self.outcomes[placed.outcome].evicted += 1;
            let again = Waiting {
                arrival: placed.arrival,
                since: now,
                members: vec![placed.outcome],
                minimum: 1,
                timeout: None,
            };
            self.queue.insert(placed.rank, again);
        }
        self.settle(waiting, rank, request, preemption.placements, now)
    }

    fn holder(&self, placed: &Placed) -> Holder {
        let arrival = self.arrival(placed.arrival);
        Holder {
            name: String::new(),
            namespace: arrival.namespace.clone(),
            qos: arrival.request.qos,
            placements: vec![placed.placement.clone()],
            since: Duration::from_secs(placed.since),
            uses: Usage::of(&self.request_of(arrival)),
            protection: if placed.of_gang { Duration::MAX } else { Duration::from_secs(arrival.protection) },
            ..Holder::default()
        }
    }

    /// What an arrival asks for, with its namespace's defaults.
    fn request_of(&self, arrival: &Arrival) -> Request {
        let quota = self.quotas.get(arrival.namespace.as_str());
        quota.map_or_else(|| arrival.request.clone(), |quota| quota.with_defaults(arrival.request.clone()))
    }

    /// Whether capacity keeps a replica waiting, not its quota.
    fn is_hopeful(&self, waiting: &Waiting) -> bool {
        let arrival = self.arrival(waiting.arrival);
        let mut quota = self.quotas.get(arrival.namespace.as_str()).copied();
        let request = self.request_of(arrival);
        let mut allowed =
            || (0..waiting.minimum).all(|_| quota.as_mut().is_none_or(|quota| quota.charge(&request).is_ok()));
        !self.hopeless.contains(&waiting.arrival) && allowed()
    }

    fn each_kept(
        &mut self,
        nominations: &[Nomination],
        act: fn(&mut Inventory, &Placement) -> Result<(), InventoryError>,
    ) -> Result<(), InventoryError> {
        let mut placements = nominations.iter().flat_map(|nomination| &nomination.placements);
        placements.try_for_each(|placement| act(&mut self.inventory, placement))
    }

    /// Keeps a place for the first whom only capacity keeps waiting.
    fn nominate_first(&mut self, now: u64) -> Result<(), InventoryError> {
        while self.trace.policy.nominate {
            let first = self.queue.iter().find(|(_, waiting)| self.is_hopeful(waiting));
            let first = first.map(|(rank, waiting)| (*rank, waiting.arrival, waiting.members.len(), waiting.minimum));
            if let Some((old, nominations)) = self.nominated.take() {
                if first.is_some_and(|(rank, ..)| rank == old) {
                    self.nominated = Some((old, nominations));
                    break;
                }
                self.each_kept(&nominations, Inventory::unreserve)?;
            }
            let Some((rank, position, members, minimum)) = first else { break };
            let request = self.request_of(self.arrival(position));
            let ends = |placed: &Placed| placed.ends.map(Duration::from_secs);
            let held: Vec<Held<'_>> =
                self.held.values().map(|placed| Held { placement: &placed.placement, ends: ends(placed) }).collect();
            let members = vec![vec![vec![request]]; members];
            let found = nominate_gang(&mut self.inventory, &held, &members, minimum, Duration::from_secs(now));
            if let Some(found) = found {
                let nominations: Vec<Nomination> = found.into_iter().map(|(_, nomination)| nomination).collect();
                self.each_kept(&nominations, Inventory::reserve)?;
                self.nominated = Some((rank, nominations));
                break;
            }
            self.hopeless.insert(position);
        }
        Ok(())
    }
}
