//! What a device is and what it is doing.

use cuda::types::nvml::{
    nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlPciInfoExt_t, nvmlUtilization_t,
};
use cuda::types::{Out, Text};

use super::system::give;
use super::{Device, NvmlError, NvmlResult, pci, uuid_text};

/// The version field that NVML wants in a structure.
pub(super) const fn version<T>(number: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "structures are small")]
    let size = size_of::<T>() as u32;
    size | number << 24
}

/// `nvmlDeviceGetName`
pub(crate) fn name(device: nvmlDevice_t, name: Text, length: u32) -> NvmlResult {
    give(name, length, &Device::of(device)?.info.name)
}

/// `nvmlDeviceGetUUID`
pub(crate) fn uuid(device: nvmlDevice_t, uuid: Text, length: u32) -> NvmlResult {
    give(uuid, length, &uuid_text(&Device::of(device)?.info.uuid))
}

/// `nvmlDeviceGetIndex`, and `nvmlDeviceGetMinorNumber`: the number in `/dev/nvidiaN`.
pub(crate) fn index(device: nvmlDevice_t, index: Out<u32>) -> NvmlResult {
    Ok(index.set(Device::of(device)?.ordinal.0)?)
}

/// `nvmlDeviceGetPciInfo`, `_v2`, `_v3`
pub(crate) fn pci_info(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) -> NvmlResult {
    let position = position(device)?;
    Ok(info.set(nvmlPciInfo_t {
        bus_id_legacy: fixed(&pci::text(position, 4)),
        domain: position[0],
        bus: position[1],
        device: position[2],
        pci_device_id: 0,
        pci_sub_system_id: 0,
        bus_id: fixed(&pci::text(position, 8)),
    })?)
}

/// `nvmlDeviceGetPciInfoExt`
pub(crate) fn pci_info_ext(device: nvmlDevice_t, info: Out<nvmlPciInfoExt_t>) -> NvmlResult {
    let position = position(device)?;
    let asked = info.get()?;
    if asked.version != version::<nvmlPciInfoExt_t>(1) {
        return Err(NvmlError::ARGUMENT_VERSION_MISMATCH);
    }
    // Class 3 is a display controller, 2 a 3D controller.
    Ok(info.set(nvmlPciInfoExt_t {
        domain: position[0],
        bus: position[1],
        device: position[2],
        pci_device_id: 0,
        pci_sub_system_id: 0,
        base_class: 3,
        sub_class: 2,
        bus_id: fixed(&pci::text(position, 8)),
        ..asked
    })?)
}

fn position(device: nvmlDevice_t) -> NvmlResult<[u32; 4]> {
    pci::parse(&Device::of(device)?.info.pci_bus_id).ok_or(NvmlError::NOT_SUPPORTED)
}

fn fixed<const ROOM: usize>(text: &str) -> [u8; ROOM] {
    let mut bytes = [0; ROOM];
    for (slot, byte) in bytes.iter_mut().zip(text.bytes().take(ROOM - 1)) {
        *slot = byte;
    }
    bytes
}

/// `nvmlDeviceGetMemoryInfo`
pub(crate) fn memory_info(device: nvmlDevice_t, memory: Out<nvmlMemory_t>) -> NvmlResult {
    let (total, used) = total_and_used(device)?;
    Ok(memory.set(nvmlMemory_t { total, free: total - used, used })?)
}

/// `nvmlDeviceGetMemoryInfo_v2`
pub(crate) fn memory_info_v2(device: nvmlDevice_t, memory: Out<nvmlMemory_v2_t>) -> NvmlResult {
    let (total, used) = total_and_used(device)?;
    let asked = memory.get()?.version;
    if asked != version::<nvmlMemory_v2_t>(2) {
        return Err(NvmlError::ARGUMENT_VERSION_MISMATCH);
    }
    Ok(memory.set(nvmlMemory_v2_t { version: asked, total, reserved: 0, free: total - used, used })?)
}

fn total_and_used(device: nvmlDevice_t) -> NvmlResult<(u64, u64)> {
    let device = Device::of(device)?;
    let total = device.info.total_memory;
    Ok((total, device.usage()?.used_memory.min(total)))
}

/// `nvmlDeviceGetUtilizationRates`
pub(crate) fn utilization(device: nvmlDevice_t, utilization: Out<nvmlUtilization_t>) -> NvmlResult {
    let usage = Device::of(device)?.usage()?;
    Ok(utilization.set(nvmlUtilization_t { gpu: usage.gpu_utilization, memory: usage.memory_utilization })?)
}

/// `nvmlDeviceGetCudaComputeCapability`
pub(crate) fn compute_capability(device: nvmlDevice_t, major: Out<i32>, minor: Out<i32>) -> NvmlResult {
    let device = Device::of(device)?;
    major.set(device.attribute(75)?.cast_signed())?;
    Ok(minor.set(device.attribute(76)?.cast_signed())?)
}

/// `nvmlDeviceGetArchitecture`
pub(crate) fn architecture(device: nvmlDevice_t, architecture: Out<u32>) -> NvmlResult {
    let device = Device::of(device)?;
    // NVML_DEVICE_ARCH_*: Maxwell 3, Pascal 4, Volta 5, Turing 6, Ampere 7, Ada 8, Hopper 9, Blackwell 10.
    let number = match (device.attribute(75)?, device.attribute(76)?) {
        (5, _) => 3,
        (6, _) => 4,
        (7, 5) => 6,
        (7, _) => 5,
        (8, 9) => 8,
        (8, _) => 7,
        (9, _) => 9,
        (10 | 12, _) => 10,
        _ => u32::MAX,
    };
    Ok(architecture.set(number)?)
}

/// Answers 0: anybody may make contexts (compute mode), persistence mode is off, no display is attached.
pub(crate) fn off(device: nvmlDevice_t, mode: Out<u32>) -> NvmlResult {
    Device::of(device)?;
    Ok(mode.set(0)?)
}

/// `nvmlDeviceGetMemoryBusWidth`
pub(crate) fn memory_bus_width(device: nvmlDevice_t, width: Out<u32>) -> NvmlResult {
    Ok(width.set(Device::of(device)?.attribute(37)?)?)
}

/// `nvmlDeviceGetMaxClockInfo`: only the clock that CUDA knows as well, in MHz.
pub(crate) fn max_clock(device: nvmlDevice_t, clock: u32, value: Out<u32>) -> NvmlResult {
    let device = Device::of(device)?;
    let attribute = match clock {
        0 | 1 => 13,
        2 => 36,
        _ => return Err(NvmlError::NOT_SUPPORTED),
    };
    Ok(value.set(device.attribute(attribute)? / 1000)?)
}
