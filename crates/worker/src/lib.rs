//! Serves one vGPU to client processes.
//!
//! Each connection is a [`session`] with a driver of its own, wrapped so that all sessions together stay inside the
//! vGPU's share. A session's threads take turns at reading its commands, so that they are executed in the client's
//! order, and a call that must wait for the GPU holds up nobody but its caller. Bytes from clients are hostile until
//! checked; whatever a client does ends at worst its own session.

mod dispatch;
mod outlet;
mod server;
mod session;

pub use server::{Open, Worker, WorkerConfig, serve};
