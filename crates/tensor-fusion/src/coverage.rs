//! `tensor-fusion coverage`: which functions of CUDA and NVML there are.

use clap::Args;

use crate::failure::{Failed, Outcome};

/// Show which functions of CUDA and NVML there are.
#[derive(Debug, Args)]
pub(crate) struct Coverage {}

impl Coverage {
    pub(crate) fn main(self, _json: bool) -> Outcome {
        Err(Failed::new("the table of functions is not in this build"))
    }
}
