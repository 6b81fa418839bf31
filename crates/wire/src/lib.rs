//! The connection between a CUDA program and the worker that serves its vGPU.
//!
//! One client process has one connection, and the connection carries one ordered stream of commands. Most commands
//! are sent and forgotten; the few that need an answer cost one round trip. [`Remote`] is the client's end: a
//! [`cuda::Driver`] whose calls travel. The worker's end is in the crate `worker`, made of the same parts:
//!
//! - [`Endpoint`]: where a worker listens; [`transport`]: how bytes get there;
//! - [`hello`]: who may talk to whom, decided before anything else is read;
//! - [`frame`] and [`Inbox`]: messages in a stream of bytes, bounded before anything is allocated;
//! - [`calls`]: the driver's calls as numbers and bytes, made from `cuda::driver_calls!`.

pub mod calls;
pub mod encoding;
mod endpoint;
pub mod frame;
pub mod hello;
mod inbox;
mod pieces;
mod remote;
pub mod transport;

pub use endpoint::{Endpoint, EndpointError, Listener};
pub use inbox::Inbox;
pub use pieces::{Piece, pieces};
pub use remote::{ConnectError, ConnectOptions, Remote};
