//! Replays a stream of requests against an inventory and tells what would have happened. Time is the trace's own, in seconds.
//!
//! Who finds no place waits: by QoS class, then by arrival. Whenever something is given back, all who wait are tried in that
//! order. The first whom only capacity keeps waiting, be it a gang, is [nominated](crate::nominate()): others pass it only
//! where that does not delay it. Where the trace allows it, holders of a lower class are [evicted](crate::preempt()); they wait again,
//! in their old place, and start anew. Members of gangs are not evicted.

mod report;
mod run;
mod trace;

pub use report::{ClassReport, Outcome, Report};
pub use trace::{Arrival, EvictionBudget, GangTrace, NodeGroup, Policy, Trace};

use crate::{Inventory, InventoryError};

/// Runs a trace to its end.
///
/// # Errors
/// The trace's nodes cannot be (two of one name).
pub fn simulate(trace: &Trace) -> Result<Report, InventoryError> {
    run::run(trace)
}

/// The inventory of a trace, before anything is placed.
///
/// # Errors
/// Two nodes of one name.
pub fn inventory(trace: &Trace) -> Result<Inventory, InventoryError> {
    trace::inventory(trace)
}
