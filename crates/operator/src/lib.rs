//! The Kubernetes side of the pool.
//!
//! - [`admission`]: what the webhook makes of a pod. Pure.
//! - [`webhook`]: the server that the API server asks, with certificates of our own.
//! - [`allocator`]: gives GPUs to pods that wait, and takes them back.
//! - [`remote`]: workers on other nodes, for pods that have no GPU on their own.
//! - [`leader`]: who of several operators does so.
//! - [`run`]: all of it as one process.
//! - [`fault`]: points at which tests let the operator die.

pub mod admission;
pub mod allocator;
mod cluster;
mod configuration;
mod duration;
mod event;
pub mod fault;
mod fields;
mod follow;
pub mod leader;
mod models;
mod process;
pub mod remote;
mod settings;
pub mod webhook;

pub use allocator::preempt::Scope;
pub use process::{OperatorError, Options, run};
pub use settings::{PoolSettings, Profile, Settings};
