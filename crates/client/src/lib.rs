//! The library that programs load as `libcuda.so.1` and `libnvidia-ml.so.1`: a C face over a [`cuda::Driver`].
//!
//! - `ffi`: every exported symbol, made from the table in `cuda::api`; no panic and no null gets past it
//! - `front`: what the calls mean
//! - `state`: the process-wide driver and how it is opened
//! - `init`, `getproc`, `export_tables`: what programs ask before they do anything
//! - `environment`: what a program in a pod finds set on a software GPU
//! - `nvml`: the management library over the same driver
//!
//! We are a guest in somebody else's process: no async runtime, no signal handlers, no output unless
//! `TENSOR_FUSION_LOG` asks for it.

mod environment;
mod export_tables;
mod ffi;
pub mod front;
mod getproc;
mod init;
mod log;
mod nvml;
mod state;
mod visible;
