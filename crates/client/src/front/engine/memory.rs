//! Device memory: who owns which addresses.
//!
//! Every address that a program may use is in one table, with where it came from. The driver is told what to map
//! where; sizes are charged to the byte, and the first byte too many is `OUT_OF_MEMORY`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuda::{AddressRange, ContextId, CuError, CuResult, ModuleId, Ordinal};
use parking_lot::{Mutex, RwLock};

use super::space::Space;
use super::{Engine, Life, Pool};

/// Where a piece of device memory came from.
#[derive(Clone, Debug)]
pub enum Owner {
    /// `cuMemAlloc` in a context.
    Context(ContextId),
    /// An asynchronous pool.
    Pool(Arc<Pool>),
    /// A variable of a module.
    Module(ModuleId),
}

/// Who reaches a piece of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kernels and copies.
    Device,
    /// The program too: managed memory.
    Managed,
    /// The program too: pinned memory that is mapped.
    Mapped,
}

/// One piece of device memory that the program may use.
#[derive(Clone, Debug)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Length in bytes, as asked for.
    pub size: u64,
    /// Its device.
    pub device: u32,
    /// Handle of the context that was current when it was made.
    pub context: u64,
    /// A number that no other allocation of this process has.
    pub buffer: u64,
    /// `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
    pub sync_memops: bool,
    /// Where it came from.
    pub owner: Owner,
    /// Who reaches it.
    pub kind: Kind,
    /// Bytes of the address space that it takes.
    pub(super) room: u64,
}

/// All device memory of this process.
#[derive(Debug)]
pub(super) struct Memory {
    addresses: AddressRange,
    spaces: Vec<Mutex<Space>>,
    ranges: RwLock<BTreeMap<u64, Range>>,
}

impl Memory {
    /// Every device gets an equal part of the addresses, so that no page serves two devices.
    pub(super) fn new(addresses: AddressRange, devices: u32) -> Self {
        let part = addresses.size / u64::from(devices.max(1)) / (1 << 21) * (1 << 21);
        let spaces = (0..devices).map(|device| Mutex::new(Space::new(addresses.base + part * u64::from(device), part)));
        Self { addresses, spaces: spaces.collect(), ranges: RwLock::default() }
    }
}

impl Engine {
    /// Maps `size` bytes of a device somewhere, with `room` for them. When the device is full, cached pool memory goes back first.
    pub(super) fn map_memory(&self, device: u32, size: u64, room: u64) -> CuResult<u64> {
        if size == 0 {
            return Err(CuError::INVALID_VALUE);
        }
        if size > self.device(device)?.total_memory {
            return Err(CuError::OUT_OF_MEMORY);
        }
        match self.try_map(device, size, room) {
            Err(CuError::OUT_OF_MEMORY) if self.drop_cached_blocks(device)? => self.try_map(device, size, room),
            result => result,
        }
    }

    fn try_map(&self, device: u32, size: u64, room: u64) -> CuResult<u64> {
        if self.memory.addresses.size == 0 {
            return self.driver.mem_alloc(Ordinal(device), size);
        }
        let space = self.memory.spaces.get(device as usize).ok_or(CuError::INVALID_DEVICE)?;
        let address = space.lock().take(room).ok_or(CuError::OUT_OF_MEMORY)?;
        match self.driver.mem_map(Ordinal(device), address, size) {
            Ok(()) => Ok(address),
            Err(error) => {
                space.lock().give_back(address, room);
                Err(error)
            }
        }
    }

    /// Gives back what [`Engine::map_memory`] mapped.
    pub(super) fn unmap_memory(&self, device: u32, address: u64, room: u64) -> CuResult {
        let result = self.driver.mem_unmap(Ordinal(device), address);
        if self.memory.addresses.size > 0
            && let Some(space) = self.memory.spaces.get(device as usize)
        {
            space.lock().give_back(address, room);
        }
        result
    }

    /// Enters a piece of memory in the table.
    pub(super) fn add_range(&self, base: u64, size: u64, device: u32, context: u64, owner: Owner) {
        self.add_range_of(Kind::Device, base, size, size, device, context, owner);
    }

    /// The same, of a kind, and with more room than it has bytes.
    #[expect(clippy::too_many_arguments, reason = "the fields of a range")]
    pub(super) fn add_range_of(
        &self,
        kind: Kind,
        base: u64,
        size: u64,
        room: u64,
        device: u32,
        context: u64,
        owner: Owner,
    ) {
        let buffer = self.fresh_id();
        let range = Range { base, size, device, context, buffer, sync_memops: false, owner, kind, room };
        self.memory.ranges.write().insert(base, range);
    }

    pub(super) fn remove_range(&self, base: u64) -> Option<Range> {
        self.memory.ranges.write().remove(&base)
    }

    /// Allocates device memory in a context.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes, `OUT_OF_MEMORY`, or what the driver says.
    pub fn mem_alloc(&self, life: &Life, size: u64) -> CuResult<u64> {
        let address = self.map_memory(life.device, size, size)?;
        self.add_range(address, size, life.device, life.context, Owner::Context(life.id));
        Ok(address)
    }

    /// Allocates rows of `width` bytes, each starting at a multiple of 512 bytes; returns address and pitch.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes or a bad element size, `OUT_OF_MEMORY`, or what the driver says.
    pub fn mem_alloc_pitch(&self, life: &Life, width: u64, height: u64, element: u32) -> CuResult<(u64, u64)> {
        if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(CuError::INVALID_VALUE);
        }
        let pitch = width.checked_next_multiple_of(super::space::GRAIN).ok_or(CuError::OUT_OF_MEMORY)?;
        let size = pitch.checked_mul(height).ok_or(CuError::OUT_OF_MEMORY)?;
        Ok((self.mem_alloc(life, size)?, pitch))
    }

    /// Frees device memory. Address 0 is nothing to free.
    ///
    /// # Errors
    /// `INVALID_VALUE` for an address that no allocation starts at, or what the driver says.
    pub fn mem_free(&self, address: u64) -> CuResult {
        if address == 0 {
            return Ok(());
        }
        let range = {
            let mut ranges = self.memory.ranges.write();
            match ranges.get(&address) {
                Some(range) if !matches!(range.owner, Owner::Module(_)) && range.kind != Kind::Mapped => {
                    ranges.remove(&address)
                }
                _ => None,
            }
        }
        .ok_or(CuError::INVALID_VALUE)?;
        match range.owner {
            Owner::Pool(pool) => self.pool_free_now(&pool, range.base, range.size),
            _ => self.release(&range),
        }
    }

    /// The piece of memory that an address lies in.
    #[must_use]
    pub fn range_of(&self, address: u64) -> Option<Range> {
        let ranges = self.memory.ranges.read();
        let (_, range) = ranges.range(..=address).next_back()?;
        (address - range.base < range.size).then(|| range.clone())
    }

    /// Sets whether synchronous copies from and to a piece of memory always wait: `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
    ///
    /// # Errors
    /// `INVALID_VALUE` for an address that is not the device's.
    pub fn set_sync_memops(&self, address: u64, wait: bool) -> CuResult {
        let mut ranges = self.memory.ranges.write();
        let (_, range) = ranges.range_mut(..=address).next_back().ok_or(CuError::INVALID_VALUE)?;
        if address - range.base >= range.size {
            return Err(CuError::INVALID_VALUE);
        }
        range.sync_memops = wait;
        Ok(())
    }

    /// Whether an address is one of the device's, in use or not.
    #[must_use]
    pub fn is_device_address(&self, address: u64) -> bool {
        let AddressRange { base, size } = self.memory.addresses;
        address.wrapping_sub(base) < size || self.range_of(address).is_some()
    }

    /// Checks that `length` bytes from `address` lie in one piece of memory; returns its device.
    ///
    /// # Errors
    /// `INVALID_VALUE` when they do not.
    pub fn check_device(&self, address: u64, length: u64) -> CuResult<u32> {
        let ranges = self.memory.ranges.read();
        let (_, range) = ranges.range(..=address).next_back().ok_or(CuError::INVALID_VALUE)?;
        let inside = length.checked_add(address - range.base).is_some_and(|end| end <= range.size);
        if inside { Ok(range.device) } else { Err(CuError::INVALID_VALUE) }
    }

    /// Frees what a context allocated. Errors of single frees are those of a context that dies anyway.
    pub(super) fn free_memory_of(&self, life: &Life) {
        let freed = self.remove_ranges_where(|range| matches!(range.owner, Owner::Context(owner) if owner == life.id));
        for range in freed {
            if range.kind == Kind::Mapped {
                self.forget_mapped(range.base);
            }
            if let Err(error) = self.release(&range) {
                tracing::debug!(%error, address = range.base, "memory of a destroyed context");
            }
        }
        self.forget_lane(life.id);
    }

    /// Takes ranges out by owner.
    pub(super) fn remove_ranges_where(&self, mut unwanted: impl FnMut(&Range) -> bool) -> Vec<Range> {
        let mut removed = Vec::new();
        self.memory.ranges.write().retain(|_, range| {
            let goes = unwanted(range);
            if goes {
                removed.push(range.clone());
            }
            !goes
        });
        removed
    }
}
