//! Words of CUDA: result codes, the table of the driver API and NVML, and the one trait that every GPU is reached by.

pub mod api;
pub mod args;
mod coverage;
pub mod driver;
mod error;
pub mod types;

pub use coverage::{Area, coverage};
pub use driver::*;
pub use error::{CuError, CuResult, code_of};
