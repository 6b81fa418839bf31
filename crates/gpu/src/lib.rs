//! GPUs that one can open: [`Soft`] runs PTX on this machine's processors, [`Native`] drives a vendor's
//! `libcuda.so.1`. Both are a [`cuda::Driver`], so whoever holds one need not know which it is.
//!
//! - [`image`]: what code images look like (PTX, fatbin, cubin, Tile IR): pure parsing, used by the client as well.
//! - [`soft`]: the software GPU. Memory, streams, events, modules and time slices around `ptx`, which compiles and runs
//!   the kernels.
//! - [`native`]: the same calls on a real driver.

pub mod image;
pub mod native;
pub mod soft;

pub use native::Native;
pub use soft::{ConfigError, Soft, SoftConfig};
