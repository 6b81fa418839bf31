//! The nouns that processes share: amounts with their unit, ids, what a program asks for and what it is given.
//!
//! Amounts are parsed once, at the border, and carry their unit from there on; arithmetic is checked. Nothing here
//! does IO, so every crate may use it.

mod bytes;
mod capability;
pub mod handover;
mod id;
mod node;
mod number;
mod percent;
mod request;
mod tflops;
mod token;

pub use bytes::{Bytes, ParseBytesError};
pub use capability::{Capability, ParseCapabilityError};
pub use id::VgpuId;
pub use node::{Event, Failure, Gpu, NodeInfo, Process, Vendor, Vgpu, VgpuState};
pub use number::NumberError;
pub use percent::{ParsePercentError, Percent};
pub use request::{Lease, ParseQosError, Qos, Request};
pub use tflops::{ParseTflopsError, Tflops};
pub use token::{ParseTokenError, Token};
