//! Device memory.

use cuda::types::{CUmemLocation, CUstream, Out};
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

pub(crate) fn alloc_managed(address: Out<u64>, bytes: usize, flags: u32) -> CuResult {
    let engine = front()?;
    if address.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    address.set(engine.managed_alloc(&*engine.current()?, bytes as u64, flags)?)
}

/// `CU_DEVICE_CPU`.
const CPU: i32 = -1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`, and the last of those that are of the host.
const LOCATION_DEVICE: u32 = 1;
const LAST_HOST_LOCATION: u32 = 4;
/// The last `CUmem_advise`.
const LAST_ADVICE: u32 = 6;

fn check_device(device: i32) -> CuResult {
    if device == CPU { Ok(()) } else { front()?.device(super::ordinal(device)?).map(drop) }
}

fn check_location(location: CUmemLocation) -> CuResult {
    match location.type_ {
        LOCATION_DEVICE => check_device(location.id.max(0)),
        0 => Err(CuError::INVALID_VALUE),
        kind if kind <= LAST_HOST_LOCATION => Ok(()),
        _ => Err(CuError::INVALID_VALUE),
    }
}

/// Advice is taken where it changes anything, which is nowhere: both copies are where they are used.
fn check_hint(address: u64, bytes: usize) -> CuResult {
    front()?.check_managed(address, bytes as u64)
}

pub(crate) fn prefetch(address: u64, bytes: usize, device: i32, stream: CUstream) -> CuResult {
    check_hint(address, bytes)?;
    check_device(device)?;
    front()?.stream(stream.0 as u64).map(drop)
}

pub(crate) fn prefetch_to(
    address: u64,
    bytes: usize,
    location: CUmemLocation,
    flags: u32,
    stream: CUstream,
) -> CuResult {
    check_hint(address, bytes)?;
    check_location(location)?;
    if flags != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    front()?.stream(stream.0 as u64).map(drop)
}

pub(crate) fn advise(address: u64, bytes: usize, advice: u32, device: i32) -> CuResult {
    check_hint(address, bytes)?;
    if !(1..=LAST_ADVICE).contains(&advice) {
        return Err(CuError::INVALID_VALUE);
    }
    check_device(device)
}

pub(crate) fn advise_at(address: u64, bytes: usize, advice: u32, location: CUmemLocation) -> CuResult {
    check_hint(address, bytes)?;
    if !(1..=LAST_ADVICE).contains(&advice) {
        return Err(CuError::INVALID_VALUE);
    }
    // For read-mostly memory the location says nothing.
    if advice <= 2 { Ok(()) } else { check_location(location) }
}
