//! Device memory.

use cuda::types::Out;
use cuda::{CuError, CuResult};

use super::{front, size};

pub(crate) fn info(free: Out<usize>, total: Out<usize>) -> CuResult {
    let engine = front()?;
    let (free_bytes, total_bytes) = engine.memory_info(engine.current()?.device)?;
    free.set_if(size(free_bytes));
    total.set_if(size(total_bytes));
    Ok(())
}

pub(crate) fn alloc(address: Out<u64>, bytes: usize) -> CuResult {
    let engine = front()?;
    if address.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    address.set(engine.mem_alloc(&*engine.current()?, bytes as u64)?)
}

pub(crate) fn alloc_pitch(address: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: u32) -> CuResult {
    let engine = front()?;
    if address.is_null() || pitch.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let (base, row) = engine.mem_alloc_pitch(&*engine.current()?, width as u64, height as u64, element)?;
    pitch.set(size(row))?;
    address.set(base)
}

pub(crate) fn free(address: u64) -> CuResult {
    front()?.mem_free(address)
}

pub(crate) fn address_range(base: Out<u64>, bytes: Out<usize>, address: u64) -> CuResult {
    let range = front()?.range_of(address).ok_or(CuError::INVALID_VALUE)?;
    base.set_if(range.base);
    bytes.set_if(size(range.size));
    Ok(())
}

pub(crate) fn alloc_managed(_address: Out<u64>, _bytes: usize, _flags: u32) -> CuResult {
    front()?.current()?;
    // As on a device whose MANAGED_MEMORY attribute is 0.
    Err(CuError::NOT_SUPPORTED)
}
