//! `cuGetProcAddress`: functions by name, version and kind of default stream.

use cuda::api::{Missing, find};
use cuda::types::{Host, Name, Out};
use cuda::{CuError, CuResult};

use crate::ffi;

/// `CU_GET_PROC_ADDRESS_LEGACY_STREAM`
const LEGACY_STREAM: u64 = 1;
/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`
const PER_THREAD_STREAM: u64 = 2;

/// `CU_GET_PROC_ADDRESS_SUCCESS` and its two siblings.
mod status {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const SYMBOL_NOT_FOUND: u32 = 1;
    pub(super) const VERSION_NOT_SUFFICIENT: u32 = 2;
}

/// `cuGetProcAddress`
pub(crate) fn get(name: Name, function: Out<Host>, version: i32, flags: u64) -> CuResult {
    get_with_status(name, function, version, flags, Out::null())
}

/// `cuGetProcAddress_v2`
pub(crate) fn get_with_status(name: Name, function: Out<Host>, version: i32, flags: u64, status: Out<u32>) -> CuResult {
    let name = name.get()?;
    let version = u32::try_from(version).map_err(|_| CuError::INVALID_VALUE)?;
    if flags & !(LEGACY_STREAM | PER_THREAD_STREAM) != 0 || flags == LEGACY_STREAM | PER_THREAD_STREAM {
        return Err(CuError::INVALID_VALUE);
    }
    let per_thread = flags == PER_THREAD_STREAM || ffi::default_stream() == cuda::types::CUstream::PER_THREAD;
    let answer = find(name, version, per_thread && flags != LEGACY_STREAM);
    let address = answer.map(|found| ffi::address(found.symbol).unwrap_or_default());
    match address {
        Ok(address) => {
            function.set(address)?;
            status.set_if(status::SUCCESS);
            Ok(())
        }
        Err(missing) => {
            tracing::trace!(name, version, flags, ?missing, "cuGetProcAddress: not found");
            function.set(Host::NULL)?;
            status.set_if(match missing {
                Missing::Name => status::SYMBOL_NOT_FOUND,
                Missing::Version => status::VERSION_NOT_SUFFICIENT,
            });
            Err(CuError::NOT_FOUND)
        }
    }
}
