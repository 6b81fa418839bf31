//! Keeps a tenant inside its share of a GPU.
//!
//! [`Limited`] wraps any [`cuda::Driver`], so a limit means the same on a real GPU and on the software one. All
//! sessions of a vGPU share one [`Account`], exact to the byte. Limits of compute time come later; their meter will
//! live beside the account.

mod account;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod limited;
#[cfg(test)]
mod tests;

pub use account::{Account, Charge};
pub use limited::{Limited, Share};
