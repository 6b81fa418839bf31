//! Host memory that CUDA knows.

use cuda::types::{Host, Out};
use cuda::{CuError, CuResult};

use super::{front, size};

pub(crate) fn alloc(memory: Out<Host>, bytes: usize) -> CuResult {
    alloc_with_flags(memory, bytes, 0)
}

pub(crate) fn alloc_with_flags(memory: Out<Host>, bytes: usize, flags: u32) -> CuResult {
    if memory.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    memory.set(Host(size(front()?.host_alloc(bytes as u64, flags)?)))
}

pub(crate) fn free(memory: Host) -> CuResult {
    front()?.host_free(memory.address())
}

pub(crate) fn register(memory: Host, bytes: usize, flags: u32) -> CuResult {
    front()?.host_register(memory.address(), bytes as u64, flags)
}

pub(crate) fn unregister(memory: Host) -> CuResult {
    front()?.host_unregister(memory.address())
}

pub(crate) fn flags(flags: Out<u32>, memory: Host) -> CuResult {
    flags.set(front()?.host_flags(memory.address())?)
}

pub(crate) fn device_pointer(address: Out<u64>, memory: Host, flags: u32) -> CuResult {
    if flags != 0 || address.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    address.set(front()?.host_device_pointer(memory.address())?)
}
