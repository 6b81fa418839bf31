//! The management library: what monitoring tools and frameworks ask about GPUs, answered from the driver.
//!
//! It works without `cuInit` and shows every device, whatever `CUDA_VISIBLE_DEVICES` says. What a software or virtual GPU
//! does not have (temperature, fans, clocks of its own) has no front function in the table, so the export answers
//! "not supported", which tools show as N/A.

pub(crate) mod device;
mod error;
mod pci;
pub(crate) mod processes;
pub(crate) mod system;

pub(crate) use error::{NvmlError, NvmlResult};

use cuda::types::nvml::nvmlDevice_t;
use cuda::{DeviceInfo, DeviceUsage, Ordinal};

/// The text of an identity: `GPU-` and the number in five groups.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::from("GPU-");
    for (position, byte) in uuid.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A device that a handle names.
struct Device {
    ordinal: Ordinal,
    info: &'static DeviceInfo,
}

impl Device {
    fn of(handle: nvmlDevice_t) -> NvmlResult<Self> {
        let devices = &system::driver()?.info().devices;
        let position = handle.0.checked_sub(1).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let info = devices.get(position).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let ordinal = u32::try_from(position).map_err(|_| NvmlError::INVALID_ARGUMENT)?;
        Ok(Self { ordinal: Ordinal(ordinal), info })
    }

    fn handle_at(position: usize) -> nvmlDevice_t {
        nvmlDevice_t(position + 1)
    }

    fn usage(&self) -> NvmlResult<DeviceUsage> {
        system::driver()?.usage(self.ordinal).map_err(NvmlError::from)
    }

    /// A CUDA device attribute, where the device knows it.
    fn attribute(&self, number: u32) -> NvmlResult<u32> {
        let value = self.info.attribute(number).ok_or(NvmlError::NOT_SUPPORTED)?;
        u32::try_from(value).map_err(|_| NvmlError::UNKNOWN)
    }
}
