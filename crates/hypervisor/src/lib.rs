//! The node agent: finds a machine's GPUs, splits them into vGPUs, runs one worker process for each, and takes back
//! everything of a worker that died or of a program that went away.
//!
//! - [`provider`]: where GPUs come from, one provider per vendor.
//! - [`mod@allocate`]: which GPU a request goes to, or why none. Pure.
//! - [`worker`]: workers as child processes, behind the small seam that tests use.
//! - [`keeper`]: a process that holds workers for an agent, so that they outlive it.
//! - [`node`]: the one owner of what is granted; everything else asks it.
//! - [`state`]: what must outlive the process, on disk.
//! - [`api`] and [`metrics`]: what the outside sees.
//! - [`kubernetes`]: the agent of a Kubernetes node, which serves pods.

pub mod allocate;
pub mod api;
pub mod keeper;
pub mod kubernetes;
pub mod metrics;
pub mod node;
pub mod provider;
pub mod state;
pub mod worker;

pub use node::{Node, NodeError};
