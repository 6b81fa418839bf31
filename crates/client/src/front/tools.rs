//! What profilers and log readers call.

use std::sync::atomic::{AtomicUsize, Ordering};

use cuda::types::{CUlogsCallbackHandle, Host, Out, Text};
use cuda::{CuError, CuResult};

use super::front;

/// Nobody profiles; a program that says where it would be interesting is right to go on.
pub(crate) fn profiler_start() -> CuResult {
    front()?.current().map(drop)
}

pub(crate) fn profiler_stop() -> CuResult {
    front()?.current().map(drop)
}

/// Log messages that CUDA would hand out; there are none, so a callback is never called.
pub(crate) fn logs_register(callback: Host, _data: Host, handle: Out<CUlogsCallbackHandle>) -> CuResult {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    front()?;
    if callback.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    handle.set_if(CUlogsCallbackHandle(NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(())
}

pub(crate) fn logs_unregister(handle: CUlogsCallbackHandle) -> CuResult {
    front()?;
    if handle.is_null() { Err(CuError::INVALID_VALUE) } else { Ok(()) }
}

pub(crate) fn logs_current(iterator: Out<u32>, flags: u32) -> CuResult {
    front()?;
    if flags != 0 { Err(CuError::INVALID_VALUE) } else { iterator.set(0) }
}

pub(crate) fn logs_to_memory(_iterator: Out<u32>, buffer: Text, bytes: Out<usize>, flags: u32) -> CuResult {
    front()?;
    if flags != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    buffer.set(bytes.get()?, "")?;
    bytes.set(0)
}
