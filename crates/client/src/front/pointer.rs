//! What an address is.

use cuda::types::{Host, In};
use cuda::{CuError, CuResult};

use super::engine::{Engine, Kind, Owner, Range, handle_of};
use super::front;

const HOST: u32 = 1;
const DEVICE: u32 = 2;
/// The ordinal of memory that belongs to no device.
const NO_DEVICE: i32 = -2;

/// `CUpointer_attribute`.
mod attribute {
    pub(super) const CONTEXT: u32 = 1;
    pub(super) const MEMORY_TYPE: u32 = 2;
    pub(super) const DEVICE_POINTER: u32 = 3;
    pub(super) const HOST_POINTER: u32 = 4;
    pub(super) const SYNC_MEMOPS: u32 = 6;
    pub(super) const BUFFER_ID: u32 = 7;
    pub(super) const IS_MANAGED: u32 = 8;
    pub(super) const DEVICE_ORDINAL: u32 = 9;
    pub(super) const IS_LEGACY_IPC_CAPABLE: u32 = 10;
    pub(super) const RANGE_START: u32 = 11;
    pub(super) const RANGE_SIZE: u32 = 12;
    pub(super) const MAPPED: u32 = 13;
    pub(super) const HANDLE_TYPES: u32 = 14;
    pub(super) const IS_RDMA_CAPABLE: u32 = 15;
    pub(super) const ACCESS_FLAGS: u32 = 16;
    pub(super) const POOL: u32 = 17;
    pub(super) const MAPPING_SIZE: u32 = 18;
    pub(super) const MAPPING_BASE: u32 = 19;
    pub(super) const BLOCK_ID: u32 = 20;
    pub(super) const IS_DECOMPRESS_CAPABLE: u32 = 21;
}

/// One attribute's value, with its width in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Flag(bool),
    Word(u32),
    Ordinal(i32),
    Wide(u64),
}

impl Value {
    fn store(self, place: Host) -> CuResult {
        match self {
            Value::Flag(value) => place.out::<u8>().set(u8::from(value)),
            Value::Word(value) => place.out::<u32>().set(value),
            Value::Ordinal(value) => place.out::<i32>().set(value),
            Value::Wide(value) => place.out::<u64>().set(value),
        }
    }

    /// What the attribute is for an address that CUDA knows nothing of.
    fn unknown(number: u32) -> CuResult<Self> {
        Ok(match number {
            attribute::DEVICE_ORDINAL => Value::Ordinal(NO_DEVICE),
            attribute::MEMORY_TYPE | attribute::SYNC_MEMOPS | attribute::IS_MANAGED | attribute::ACCESS_FLAGS => {
                Value::Word(0)
            }
            attribute::IS_LEGACY_IPC_CAPABLE
            | attribute::MAPPED
            | attribute::IS_RDMA_CAPABLE
            | attribute::IS_DECOMPRESS_CAPABLE => Value::Flag(false),
            1..=attribute::IS_DECOMPRESS_CAPABLE => Value::Wide(0),
            _ => return Err(CuError::INVALID_VALUE),
        })
    }
}

fn ordinal(device: u32) -> Value {
    Value::Ordinal(i32::try_from(device).unwrap_or(NO_DEVICE))
}

fn of_device(range: &Range, number: u32, address: u64) -> CuResult<Value> {
    Ok(match number {
        attribute::CONTEXT => Value::Wide(range.context),
        attribute::MEMORY_TYPE => Value::Word(if range.kind == Kind::Mapped { HOST } else { DEVICE }),
        attribute::IS_MANAGED => Value::Word(u32::from(range.kind == Kind::Managed)),
        attribute::DEVICE_POINTER => Value::Wide(address),
        attribute::SYNC_MEMOPS => Value::Word(u32::from(range.sync_memops)),
        attribute::BUFFER_ID | attribute::BLOCK_ID => Value::Wide(range.buffer),
        attribute::DEVICE_ORDINAL => ordinal(range.device),
        attribute::RANGE_START | attribute::MAPPING_BASE => Value::Wide(range.base),
        attribute::RANGE_SIZE | attribute::MAPPING_SIZE => Value::Wide(range.size),
        attribute::MAPPED => Value::Flag(true),
        attribute::HANDLE_TYPES => Value::Wide(0),
        // Read and write.
        attribute::ACCESS_FLAGS => Value::Word(3),
        attribute::POOL => match &range.owner {
            Owner::Pool(pool) => Value::Wide(handle_of(pool)),
            _ => Value::Wide(0),
        },
        // No host address reaches what is the device's alone.
        attribute::HOST_POINTER if range.kind == Kind::Device => return Err(CuError::INVALID_VALUE),
        attribute::HOST_POINTER => Value::Wide(address),
        _ => return Value::unknown(number),
    })
}

/// `None` for an address that CUDA knows nothing of.
fn look(engine: &Engine, number: u32, address: u64) -> Option<CuResult<Value>> {
    if let Some(range) = engine.range_of(address) {
        return Some(of_device(&range, number, address));
    }
    let pinned = engine.pinned_info(address)?;
    Some(Ok(match number {
        attribute::CONTEXT => Value::Wide(pinned.context),
        attribute::MEMORY_TYPE => Value::Word(HOST),
        attribute::HOST_POINTER => Value::Wide(address),
        attribute::DEVICE_ORDINAL => ordinal(pinned.device),
        attribute::BUFFER_ID | attribute::BLOCK_ID => Value::Wide(pinned.buffer),
        attribute::RANGE_START => Value::Wide(pinned.base),
        attribute::RANGE_SIZE => Value::Wide(pinned.size),
        // Kernels cannot reach host memory.
        attribute::DEVICE_POINTER => return Some(Err(CuError::INVALID_VALUE)),
        _ => return Some(Value::unknown(number)),
    }))
}

pub(crate) fn attribute(data: Host, number: u32, address: u64) -> CuResult {
    let engine = front()?;
    Value::unknown(number)?;
    if data.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    look(engine, number, address).unwrap_or(Err(CuError::INVALID_VALUE))?.store(data)
}

pub(crate) fn attributes(count: u32, numbers: In<u32>, data: In<Host>, address: u64) -> CuResult {
    let engine = front()?;
    if count == 0 {
        return Err(CuError::INVALID_VALUE);
    }
    for position in 0..count as usize {
        let number = numbers.get_at(position)?;
        let unknown = Value::unknown(number)?;
        // What one attribute cannot say is null, not an error.
        let value = look(engine, number, address).and_then(Result::ok).unwrap_or(unknown);
        value.store(data.get_at(position)?)?;
    }
    Ok(())
}

pub(crate) fn set_attribute(value: Host, number: u32, address: u64) -> CuResult {
    let engine = front()?;
    if number != attribute::SYNC_MEMOPS {
        return Err(CuError::INVALID_VALUE);
    }
    engine.set_sync_memops(address, value.read::<u32>()? != 0)
}
