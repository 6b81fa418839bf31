//! Stream-ordered memory and its pools.

use cuda::types::{CUmemAccessDesc, CUmemLocation, CUmemPoolProps, CUmemoryPool, CUstream, Host, In, Out};
use cuda::{CuError, CuResult};

use super::engine::Engine;
use super::{front, ordinal, size};

/// `CU_MEM_ALLOCATION_TYPE_PINNED`.
const PINNED: u32 = 1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const ON_DEVICE: u32 = 1;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: u32 = 3;

fn handle(value: u64) -> CUmemoryPool {
    CUmemoryPool(size(value))
}

pub(crate) fn alloc(address: Out<u64>, bytes: usize, stream: CUstream) -> CuResult {
    let engine = front()?;
    if address.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let stream = engine.stream(stream.0 as u64)?;
    let pool = engine.current_pool(stream.device)?;
    address.set(engine.pool_alloc(&pool, bytes as u64, &stream)?)
}

pub(crate) fn alloc_from(address: Out<u64>, bytes: usize, pool: CUmemoryPool, stream: CUstream) -> CuResult {
    let engine = front()?;
    if address.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let pool = engine.pool(pool.0 as u64)?;
    let stream = engine.stream(stream.0 as u64)?;
    address.set(engine.pool_alloc(&pool, bytes as u64, &stream)?)
}

pub(crate) fn free(address: u64, stream: CUstream) -> CuResult {
    let engine = front()?;
    let stream = engine.stream(stream.0 as u64)?;
    engine.mem_free_async(address, &stream)
}

pub(crate) fn create(pool: Out<CUmemoryPool>, properties: In<CUmemPoolProps>) -> CuResult {
    let engine = front()?;
    let properties = properties.get()?;
    if pool.is_null() || properties.alloc_type != PINNED {
        return Err(CuError::INVALID_VALUE);
    }
    if properties.handle_types != 0 || properties.location.type_ != ON_DEVICE {
        return Err(CuError::NOT_SUPPORTED);
    }
    pool.set(handle(engine.pool_create(ordinal(properties.location.id)?, properties.max_size as u64)?))
}

pub(crate) fn destroy(pool: CUmemoryPool) -> CuResult {
    front()?.pool_destroy(pool.0 as u64)
}

pub(crate) fn trim(pool: CUmemoryPool, keep: usize) -> CuResult {
    let engine = front()?;
    engine.pool_trim(&*engine.pool(pool.0 as u64)?, keep as u64)
}

pub(crate) fn get_attribute(pool: CUmemoryPool, number: u32, value: Host) -> CuResult {
    let engine = front()?;
    let number_value = engine.pool_attribute(&*engine.pool(pool.0 as u64)?, number)?;
    if Engine::pool_attribute_is_int(number) {
        value.out::<i32>().set(i32::from(number_value != 0))
    } else {
        value.out::<u64>().set(number_value)
    }
}

pub(crate) fn set_attribute(pool: CUmemoryPool, number: u32, value: Host) -> CuResult {
    let engine = front()?;
    let pool = engine.pool(pool.0 as u64)?;
    let value = if Engine::pool_attribute_is_int(number) {
        u64::from(value.read::<i32>()? != 0)
    } else {
        value.read::<u64>()?
    };
    engine.pool_set_attribute(&pool, number, value)
}

pub(crate) fn set_access(pool: CUmemoryPool, rules: In<CUmemAccessDesc>, count: usize) -> CuResult {
    let engine = front()?;
    let pool = engine.pool(pool.0 as u64)?;
    for rule in rules.get_all(count)? {
        if rule.location.type_ != ON_DEVICE {
            return Err(CuError::INVALID_VALUE);
        }
        let device = ordinal(rule.location.id)?;
        engine.device(device)?;
        let own = device == pool.device;
        match (own, rule.flags) {
            // A device cannot lose its own memory, and no device reaches another's yet.
            (true, READ_WRITE) | (false, 0) => {}
            (true, _) => return Err(CuError::INVALID_VALUE),
            (false, _) => return Err(CuError::INVALID_DEVICE),
        }
    }
    Ok(())
}

pub(crate) fn get_access(flags: Out<u32>, pool: CUmemoryPool, location: In<CUmemLocation>) -> CuResult {
    let engine = front()?;
    let pool = engine.pool(pool.0 as u64)?;
    let device = device_at(engine, location)?;
    flags.set(if device == pool.device { READ_WRITE } else { 0 })
}

fn device_at(engine: &Engine, location: In<CUmemLocation>) -> CuResult<u32> {
    let location = location.get()?;
    if location.type_ != ON_DEVICE {
        return Err(CuError::INVALID_VALUE);
    }
    let device = ordinal(location.id)?;
    engine.device(device)?;
    Ok(device)
}

pub(crate) fn default_of(pool: Out<CUmemoryPool>, device: i32) -> CuResult {
    pool.set(handle(front()?.default_pool(ordinal(device)?)?))
}

pub(crate) fn current_of(pool: Out<CUmemoryPool>, device: i32) -> CuResult {
    let current = front()?.current_pool(ordinal(device)?)?;
    pool.set(handle(super::engine::handle_of(&current)))
}

pub(crate) fn set_current(device: i32, pool: CUmemoryPool) -> CuResult {
    front()?.set_current_pool(ordinal(device)?, pool.0 as u64)
}

fn check_kind(kind: u32) -> CuResult {
    if kind == PINNED { Ok(()) } else { Err(CuError::NOT_SUPPORTED) }
}

pub(crate) fn default_at(pool: Out<CUmemoryPool>, location: In<CUmemLocation>, kind: u32) -> CuResult {
    let engine = front()?;
    check_kind(kind)?;
    pool.set(handle(engine.default_pool(device_at(engine, location)?)?))
}

pub(crate) fn current_at(pool: Out<CUmemoryPool>, location: In<CUmemLocation>, kind: u32) -> CuResult {
    let engine = front()?;
    check_kind(kind)?;
    let current = engine.current_pool(device_at(engine, location)?)?;
    pool.set(handle(super::engine::handle_of(&current)))
}

pub(crate) fn set_current_at(location: In<CUmemLocation>, kind: u32, pool: CUmemoryPool) -> CuResult {
    let engine = front()?;
    check_kind(kind)?;
    engine.set_current_pool(device_at(engine, location)?, pool.0 as u64)
}
