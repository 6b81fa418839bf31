//! Device memory at addresses that the client chose.
//!
//! A real driver maps memory in granules of 2 MiB; the client asks by the byte. A granule that several mappings touch is
//! made for the first and given back with the last; what lies between a mapping's first and last granule is its own and is
//! one piece of memory.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cuda::{AddressRange, CuError, CuResult};

use super::api::{Access, AllocationProperties, Api, Location, check, need};

/// A reserved range of device addresses and what is mapped there.
#[derive(Debug)]
pub(super) struct Memory {
    api: Arc<Api>,
    /// The reserved addresses.
    pub(super) range: AddressRange,
    granule: u64,
    /// Mappings by address.
    mappings: BTreeMap<u64, Mapping>,
    /// Granules that may be shared, by address.
    shared: HashMap<u64, Shared>,
}

#[derive(Debug)]
struct Mapping {
    device: i32,
    size: u64,
    /// Addresses of the shared granules.
    shared: Vec<u64>,
    /// What is the mapping's own.
    own: Option<Piece>,
}

#[derive(Debug)]
struct Shared {
    piece: Piece,
    users: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    address: u64,
    size: u64,
    handle: u64,
    device: i32,
}

const DEVICE_LOCATION: u32 = 1;
const PINNED: u32 = 1;
const READ_WRITE: u32 = 3;

fn properties(device: i32) -> AllocationProperties {
    AllocationProperties {
        kind: PINNED,
        handle_types: 0,
        location: Location { kind: DEVICE_LOCATION, id: device },
        win32: std::ptr::null_mut(),
        flags: [0; 8],
    }
}

impl Memory {
    /// Reserves addresses, at `hint` if the driver agrees.
    pub(super) fn reserve(api: Arc<Api>, devices: &[i32], size: u64, hint: u64) -> CuResult<Self> {
        let mut granule = 0_u64;
        for device in devices {
            let mut one = 0_usize;
            // SAFETY: both pointers are valid for the call.
            check(unsafe { need(api.granularity)?(&raw mut one, &properties(*device), 0) })?;
            granule = granule.max(one as u64);
        }
        if !granule.is_power_of_two() {
            return Err(CuError::NOT_SUPPORTED);
        }
        let size = size.next_multiple_of(granule);
        let mut base = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { need(api.address_reserve)?(&raw mut base, size as usize, 0, hint, 0) })?;
        let range = AddressRange { base, size };
        Ok(Self { api, range, granule, mappings: BTreeMap::new(), shared: HashMap::new() })
    }

    /// The device that a mapping belongs to.
    pub(super) fn device_of(&self, address: u64) -> Option<i32> {
        self.mappings.get(&address).map(|mapping| mapping.device)
    }

    /// Backs addresses with memory of a device.
    pub(super) fn map(&mut self, device: i32, address: u64, size: u64) -> CuResult {
        let end = address.checked_add(size).ok_or(CuError::INVALID_VALUE)?;
        if size == 0 || address < self.range.base || end > self.range.base + self.range.size {
            return Err(CuError::INVALID_VALUE);
        }
        let before = self.mappings.range(..end).next_back();
        if before.is_some_and(|(first, mapping)| first + mapping.size > address) {
            return Err(CuError::ALREADY_MAPPED);
        }
        let granule = self.granule;
        let (first, last) = (address / granule * granule, end.next_multiple_of(granule));
        let (inner_first, inner_last) = (address.next_multiple_of(granule), end / granule * granule);
        let mut mapping = Mapping { device, size, shared: Vec::new(), own: None };
        let edges = [(first < inner_first, first), (inner_last < last, inner_last)];
        for (partial, edge) in edges {
            if partial && !mapping.shared.contains(&edge) {
                if let Err(error) = self.share(device, edge) {
                    self.give_back(mapping);
                    return Err(error);
                }
                mapping.shared.push(edge);
            }
        }
        if inner_first < inner_last {
            match self.make(device, inner_first, inner_last - inner_first) {
                Ok(piece) => mapping.own = Some(piece),
                Err(error) => {
                    self.give_back(mapping);
                    return Err(error);
                }
            }
        }
        self.mappings.insert(address, mapping);
        Ok(())
    }

    /// Takes back a mapping. All work that uses it is done.
    pub(super) fn unmap(&mut self, address: u64) -> CuResult {
        let mapping = self.mappings.remove(&address).ok_or(CuError::INVALID_VALUE)?;
        self.give_back(mapping);
        Ok(())
    }

    fn share(&mut self, device: i32, edge: u64) -> CuResult {
        if let Some(shared) = self.shared.get_mut(&edge) {
            // The client keeps devices' addresses apart; a granule can only be one device's.
            if shared.piece.device != device {
                return Err(CuError::INVALID_VALUE);
            }
            shared.users += 1;
            return Ok(());
        }
        let piece = self.make(device, edge, self.granule)?;
        self.shared.insert(edge, Shared { piece, users: 1 });
        Ok(())
    }

    fn give_back(&mut self, mapping: Mapping) {
        for edge in mapping.shared {
            if let Some(shared) = self.shared.get_mut(&edge) {
                shared.users -= 1;
                if shared.users == 0 {
                    let piece = shared.piece;
                    self.shared.remove(&edge);
                    self.drop_piece(piece);
                }
            }
        }
        if let Some(piece) = mapping.own {
            self.drop_piece(piece);
        }
    }

    fn make(&self, device: i32, address: u64, size: u64) -> CuResult<Piece> {
        let mut handle = 0;
        // SAFETY: both pointers are valid for the call.
        check(unsafe { need(self.api.memory_create)?(&raw mut handle, size as usize, &properties(device), 0) })?;
        // SAFETY: the range is reserved and unmapped.
        if let Err(error) = check(unsafe { need(self.api.memory_map)?(address, size as usize, 0, handle, 0) }) {
            // SAFETY: the handle was made above and is mapped nowhere.
            self.complain(unsafe { need(self.api.memory_release)?(handle) });
            return Err(error);
        }
        let piece = Piece { address, size, handle, device };
        let access = Access { location: Location { kind: DEVICE_LOCATION, id: device }, flags: READ_WRITE };
        let allow = need(self.api.memory_access)?;
        // SAFETY: the range was mapped above; the descriptor is valid for the call.
        let code = unsafe { allow(address, size as usize, &raw const access, 1) };
        if let Err(error) = check(code) {
            self.drop_piece(piece);
            return Err(error);
        }
        Ok(piece)
    }

    fn drop_piece(&self, piece: Piece) {
        if let (Some(unmap), Some(release)) = (self.api.memory_unmap, self.api.memory_release) {
            // SAFETY: the piece was mapped by `make`, and its users are done.
            self.complain(unsafe { unmap(piece.address, piece.size as usize) });
            // SAFETY: the handle is mapped nowhere any more.
            self.complain(unsafe { release(piece.handle) });
        }
    }

    fn complain(&self, code: u32) {
        if let Err(error) = check(code) {
            tracing::warn!(%error, "the driver does not take memory back");
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (_, mapping) in std::mem::take(&mut self.mappings) {
            self.give_back(mapping);
        }
        if let Some(free) = self.api.address_free {
            // SAFETY: reserved by `reserve`; nothing is mapped there any more.
            self.complain(unsafe { free(self.range.base, self.range.size as usize) });
        }
    }
}
