//! Starting up, versions and error texts.

use std::ffi::CStr;

use cuda::types::{Name, Out};
use cuda::{CuError, CuResult};

use crate::state;

/// The CUDA version that we speak when no driver is open yet.
const VERSION: u32 = 13050;

/// `cuInit`
pub(crate) fn init(flags: u32) -> CuResult {
    if flags != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    state::initialize()
}

/// `cuDriverGetVersion`; works before `cuInit`, as programs demand.
pub(crate) fn driver_version(version: Out<i32>) -> CuResult {
    version.set(cuda_version().cast_signed())
}

/// The CUDA version that the driver announces.
///
/// Without a GPU to ask, the answer is our own: CUDA answers this call on machines without a GPU too.
pub(crate) fn cuda_version() -> u32 {
    state::open().map_or(VERSION, |state| state.driver.info().cuda_version)
}

/// `cuGetErrorName`
pub(crate) fn error_name(error: u32, name: Out<Name>) -> CuResult {
    answer(error, name, |entry| entry.1)
}

/// `cuGetErrorString`
pub(crate) fn error_string(error: u32, text: Out<Name>) -> CuResult {
    answer(error, text, |entry| entry.2)
}

fn answer<'a>(
    error: u32,
    out: Out<Name<'a>>,
    choose: impl Fn(&(u32, &'static CStr, &'static CStr)) -> &'a CStr,
) -> CuResult {
    match CuError::texts().iter().find(|entry| entry.0 == error) {
        Some(entry) => out.set(Name::from_static(choose(entry))),
        None => {
            out.set_if(Name::null());
            Err(CuError::INVALID_VALUE)
        }
    }
}
