//! The command line through the binary: what it says, and what it leaves behind. No CUDA program runs here, so these
//! tests hold for any GPU.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails by panicking")]

mod bench;
mod elsewhere;
mod install_client;
mod keeper;
mod node;
mod run;
mod words;
