//! The Kubernetes side of the pool. So far: [`admission`], what the webhook makes of a pod.

pub mod admission;
mod settings;

pub use settings::{PoolSettings, Profile, Settings};
