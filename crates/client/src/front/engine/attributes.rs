//! Device limits that hot paths need, taken out of the attribute list once; and what pointers are.

use cuda::{CuError, CuResult, DeviceInfo};

use super::Engine;

/// A device's bounds for launches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Threads of a block.
    pub threads: u32,
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a warp.
    pub warp: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Most shared memory of a block that asks for it.
    pub shared_optin: i32,
    /// Threads of a multiprocessor.
    pub threads_per_multiprocessor: u32,
    /// Blocks of a multiprocessor.
    pub blocks_per_multiprocessor: u32,
    /// Registers of a multiprocessor.
    pub registers_per_multiprocessor: u32,
    /// Shared memory of a multiprocessor.
    pub shared_per_multiprocessor: u32,
    /// Shared memory of each block that the system takes.
    pub reserved_shared: u32,
    /// Whether clusters can be launched.
    pub clusters: bool,
}

impl Limits {
    /// The numbers are those of `CUdevice_attribute`; the defaults those of all current devices.
    pub(super) fn of(info: &DeviceInfo) -> Self {
        let number = |attribute, default| {
            info.attribute(attribute)
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        Self {
            threads: number(1, 1024),
            block: [number(2, 1024), number(3, 1024), number(4, 64)],
            grid: [number(5, 0x7FFF_FFFF), number(6, 65535), number(7, 65535)],
            warp: number(10, 32),
            multiprocessors: number(16, 1),
            shared_optin: super::functions::int(number(97, number(8, 48 << 10))),
            threads_per_multiprocessor: number(39, 2048),
            blocks_per_multiprocessor: number(106, 16),
            registers_per_multiprocessor: number(82, 65536),
            shared_per_multiprocessor: number(81, 64 << 10),
            reserved_shared: info.attribute(111).and_then(|value| u32::try_from(value).ok()).unwrap_or(0),
            clusters: info.attribute(120).is_some_and(|value| value != 0),
        }
    }
}

impl Engine {
    /// A device's bounds for launches.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn limits(&self, device: u32) -> CuResult<&Limits> {
        self.limits.get(device as usize).ok_or(CuError::INVALID_DEVICE)
    }
}
