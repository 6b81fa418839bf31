//! Every decision about GPUs, pure: no IO, no clock, no randomness, no async.
//!
//! An [`Inventory`] is what the pool knows of its nodes and GPUs; [`place`] answers a [`Request`] against it with a
//! [`Placement`], and [`explain`] tells with an [`Unplaced`] how many GPUs each reason ruled out. Nothing changes until
//! [`Inventory::take`] is called with the placement, so a caller may ask "what if". The same inventory and the same
//! request give the same answer, always.

mod amount;
mod catalogue;
mod gang;
mod grid;
mod inventory;
mod place;
mod quota;
mod request;
mod simulate;
mod unplaced;

pub use amount::Amount;
pub use catalogue::{Catalogue, Model};
pub use gang::{Gang, place_gang};
pub use inventory::{Gpu, GpuIndex, Inventory, InventoryError, Node, NodeIndex, Placement};
pub use place::{explain, place};
pub use quota::{Quota, QuotaError, QuotaLimits};
pub use request::{Isolation, Request, Strategy};
pub use simulate::{Arrival, NodeGroup, Outcome, Report, Trace, simulate};
pub use unplaced::{Reason, Unplaced};
