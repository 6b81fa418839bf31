//! Gangs: several replicas that are placed together or not at all.

use crate::{Inventory, Placement, Request, Unplaced, explain, place};

/// Replicas that belong together.
#[derive(Clone, Debug)]
pub struct Gang {
    /// One request for each replica, most important first.
    pub members: Vec<Request>,
    /// At least so many must be placed, or none is.
    pub minimum: usize,
}

/// Places a gang on a copy of the inventory: the answer has one placement per placed member, in order. Elastic: members past
/// the minimum that do not fit are left out.
///
/// # Errors
/// Fewer than the minimum fit; the error is that of the first member that did not.
pub fn place_gang(inventory: &Inventory, gang: &Gang) -> Result<Vec<(usize, Placement)>, Unplaced> {
    let mut trial = inventory.clone();
    let mut placed = Vec::new();
    let mut refused = None;
    for (position, member) in gang.members.iter().enumerate() {
        match place(&trial, member) {
            Some(placement) if trial.take(&placement).is_ok() => placed.push((position, placement)),
            _ if refused.is_none() => refused = Some(explain(&trial, member)),
            _ => {}
        }
    }
    match refused {
        Some(unplaced) if placed.len() < gang.minimum.max(1) => Err(unplaced),
        _ => Ok(placed),
    }
}
