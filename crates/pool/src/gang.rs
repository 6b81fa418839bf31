//! Gangs: several replicas that are placed together or not at all.
//!
//! Members come one by one. [`GangRule::step`] says whether to wait for more, to place those who are there, or to give up;
//! [`place_gang`] places them.

use std::time::Duration;

use crate::{Inventory, Placement, Request, Unplaced, explain, place};

/// Replicas that belong together.
#[derive(Clone, Debug)]
pub struct Gang {
    /// One request for each replica, most important first.
    pub members: Vec<Request>,
    /// At least so many must be placed, or none is.
    pub minimum: usize,
}

/// When a gang starts and when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GangRule {
    /// Members that shall come.
    pub desired: usize,
    /// Members with which it may start: at least 1, at most `desired`. Others join later where they fit.
    pub minimum: usize,
    /// How long it waits for members and for a place, from its first member on; `None`: for ever.
    pub timeout: Option<Duration>,
}

/// What to do with a gang now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GangStep {
    /// Too few are there. Look again when one comes, or then at the latest.
    Wait(Option<Duration>),
    /// Try to place those who are there. When that fails, look again when something is given back, or then at the latest.
    Place(Option<Duration>),
    /// It waited too long: refuse all members.
    TimedOut,
}

impl GangRule {
    /// What to do when `arrived` members are there, the first of which came at `since`, and none is placed.
    #[must_use]
    pub fn step(&self, arrived: usize, since: Duration, now: Duration) -> GangStep {
        let until = self.timeout.map(|timeout| since.saturating_add(timeout));
        if until.is_some_and(|until| now >= until) {
            GangStep::TimedOut
        } else if arrived < self.minimum.min(self.desired).max(1) {
            GangStep::Wait(until)
        } else {
            GangStep::Place(until)
        }
    }
}

/// Places a gang on a copy of the inventory: the answer has one placement per placed member, in order. Elastic: members past
/// the minimum that do not fit are left out. Who owns the inventory spares the copy with [`place_gang_on`].
///
/// # Errors
/// Fewer than the minimum fit; the error is that of the first member that did not.
pub fn place_gang(inventory: &Inventory, gang: &Gang) -> Result<Vec<(usize, Placement)>, Unplaced> {
    place_gang_on(&mut inventory.clone(), gang)
}

/// Places a gang. The inventory is as before afterwards: take the placements to have them.
///
/// # Errors
/// See [`place_gang`].
pub fn place_gang_on(inventory: &mut Inventory, gang: &Gang) -> Result<Vec<(usize, Placement)>, Unplaced> {
    let mut placed: Vec<(usize, Placement)> = Vec::new();
    let mut refused = None;
    for (position, member) in gang.members.iter().enumerate() {
        match place(inventory, member) {
            Some(placement) if inventory.take(&placement).is_ok() => placed.push((position, placement)),
            _ if refused.is_none() => refused = Some(explain(inventory, member)),
            _ => {}
        }
    }
    for (_, placement) in &placed {
        let given = inventory.give_back(placement);
        debug_assert!(given.is_ok(), "what was taken is given back: {given:?}");
    }
    match refused {
        Some(unplaced) if placed.len() < gang.minimum.max(1) => Err(unplaced),
        _ => Ok(placed),
    }
}
