//! Every decision about GPUs, pure: no IO, no clock, no randomness, no async.
//!
//! An [`Inventory`] is what the pool knows of its nodes and GPUs; [`place`] answers a [`Request`] against it with a
//! [`Placement`], and [`explain`] tells with an [`Unplaced`] how many GPUs each reason ruled out. Nothing changes until
//! [`Inventory::take`] is called with the placement, so a caller may ask "what if". The same inventory and the same
//! request give the same answer, always.

mod amount;
mod catalogue;
mod cell;
mod class;
mod explain;
mod field;
mod gang;
mod gpu;
mod inventory;
mod nominate;
mod oversubscription;
mod place;
mod preempt;
mod quota;
mod request;
mod simulate;
mod site;
mod topology;
mod unplaced;

pub use amount::Amount;
pub use catalogue::{Catalogue, Model};
pub use explain::explain;
pub use gang::{Gang, GangRule, GangStep, place_gang, place_gang_on};
pub use gpu::{Gpu, GpuIndex, InventoryError, Link, Node, NodeIndex, Placement};
pub use inventory::Inventory;
pub use nominate::{Held, Nomination, backfill, nominate, nominate_gang};
pub use oversubscription::{Host, Oversubscription};
pub use place::place;
pub use preempt::{
    Budgets, Cost, EvictionLimits, Holder, Lack, Membership, Preemption, Unpreempted, preempt, preempt_within_quota,
};
pub use quota::{Quota, QuotaError, QuotaLimits, Usage};
pub use request::{Isolation, Request, Strategy};
pub use simulate::{
    Arrival, ClassReport, EvictionBudget, GangTrace, NodeGroup, Outcome, Policy, Report, Trace, inventory, simulate,
};
pub use topology::Tier;
pub use unplaced::{Reason, Unplaced};
