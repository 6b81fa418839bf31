//! The allocator: gives GPUs to pods that wait behind our gate, and takes them back.
//!
//! What is given out is written in the pods themselves (annotation `allocation`), and nowhere else: at start the
//! [`Ledger`] is filled from the pods that there are, so a crash at any step loses nothing and leaks nothing. A pod is bound by one
//! update that carries the version of the pod that was looked at: annotation, node affinity and the lifting of the gate
//! happen together or not at all ([`bind`]).
//!
//! - [`claim`]: what a pod is to us: waiting, having, finished.
//! - [`eligible`]: the nodes that a pod may run on, by its own rules.
//! - [`ledger`]: what there is, what is given out, and where the next goes. Pure.
//! - [`queue`]: whose turn it is.
//! - [`gang`]: pods that are placed together; [`gangs`]: which those are, and how long they wait.
//! - [`preempt`]: who has to go for somebody more important. Pure.
//! - [`bind`]: the update. Pure.
//! - [`run`]: the loop that watches, decides and writes.
//! - [`report`]: what is given out, as status of GPUs, nodes, pools and quotas.
//! - [`replan`]: pods that the scheduler cannot bind after all.

pub mod bind;
pub mod claim;
pub mod eligible;
pub mod gang;
mod gangs;
mod holders;
pub mod ledger;
pub mod preempt;
mod queue;
mod replan;
mod report;
mod run;
mod tell;

pub use claim::{Claim, Standing};
pub use ledger::{Ledger, Waiting};
pub use run::Allocator;
