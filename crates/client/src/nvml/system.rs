//! Starting, stopping, versions and finding devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda::types::nvml::nvmlDevice_t;
use cuda::types::{Name, Out, Text};
use cuda::{CuError, Driver};

use super::{Device, NvmlError, NvmlResult, pci, uuid_text};
use crate::state;

/// How many times the library was started and not stopped.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// The driver with all devices.
pub(super) fn driver() -> NvmlResult<&'static Arc<dyn Driver>> {
    if STARTED.load(Ordering::Acquire) == 0 {
        return Err(NvmlError::UNINITIALIZED);
    }
    Ok(&state::open()?.all)
}

/// `nvmlInit`, `nvmlInit_v2`
pub(crate) fn init() -> NvmlResult {
    state::open().map_err(|error| match error {
        CuError::NOT_PERMITTED => NvmlError::NO_PERMISSION,
        _ => NvmlError::DRIVER_NOT_LOADED,
    })?;
    STARTED.fetch_add(1, Ordering::AcqRel);
    Ok(())
}

/// `nvmlInitWithFlags`: the flags ask for leniency, which we always have.
pub(crate) fn init_with_flags(_flags: u32) -> NvmlResult {
    init()
}

/// `nvmlShutdown`
pub(crate) fn shutdown() -> NvmlResult {
    let stopped = STARTED.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
    stopped.map(|_| ()).map_err(|_| NvmlError::UNINITIALIZED)
}

/// Gives text, or says that the room is too small.
pub(super) fn give(text: Text, length: u32, value: &str) -> NvmlResult {
    if value.len() >= length as usize {
        return Err(NvmlError::INSUFFICIENT_SIZE);
    }
    text.set(length as usize, value).map_err(NvmlError::from)
}

/// `nvmlSystemGetDriverVersion`
pub(crate) fn driver_version(version: Text, length: u32) -> NvmlResult {
    give(version, length, &driver()?.info().driver_version)
}

/// `nvmlSystemGetNVMLVersion`: the CUDA major version, then the driver's version.
pub(crate) fn nvml_version(version: Text, length: u32) -> NvmlResult {
    let info = driver()?.info();
    give(version, length, &format!("{}.{}", info.cuda_version / 1000, info.driver_version))
}

/// `nvmlSystemGetCudaDriverVersion`; NVIDIA answers this one without being started too.
pub(crate) fn cuda_version(version: Out<i32>) -> NvmlResult {
    let known = state::open().map_err(|_| NvmlError::DRIVER_NOT_LOADED)?.all.info().cuda_version;
    Ok(version.set(known.cast_signed())?)
}

/// `nvmlSystemGetProcessName`
pub(crate) fn process_name(pid: u32, name: Text, length: u32) -> NvmlResult {
    driver()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| NvmlError::NOT_FOUND)?;
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    Ok(name.set(length as usize, &program)?)
}

/// `nvmlDeviceGetCount`, `_v2`
pub(crate) fn count(count: Out<u32>) -> NvmlResult {
    let devices = driver()?.info().devices.len();
    Ok(count.set(u32::try_from(devices).unwrap_or(u32::MAX))?)
}

/// `nvmlDeviceGetHandleByIndex`, `_v2`
pub(crate) fn by_index(index: u32, device: Out<nvmlDevice_t>) -> NvmlResult {
    let devices = driver()?.info().devices.len();
    if index as usize >= devices {
        return Err(NvmlError::INVALID_ARGUMENT);
    }
    Ok(device.set(Device::handle_at(index as usize))?)
}

/// `nvmlDeviceGetHandleByUUID`
pub(crate) fn by_uuid(uuid: Name, device: Out<nvmlDevice_t>) -> NvmlResult {
    let wanted = uuid.get()?;
    let devices = &driver()?.info().devices;
    let position = devices.iter().position(|info| uuid_text(&info.uuid).eq_ignore_ascii_case(wanted));
    Ok(device.set(Device::handle_at(position.ok_or(NvmlError::NOT_FOUND)?))?)
}

/// `nvmlDeviceGetHandleByPciBusId`, `_v2`
pub(crate) fn by_pci_bus_id(bus_id: Name, device: Out<nvmlDevice_t>) -> NvmlResult {
    let wanted = pci::parse(bus_id.get()?).ok_or(NvmlError::INVALID_ARGUMENT)?;
    let devices = &driver()?.info().devices;
    let position = devices.iter().position(|info| pci::parse(&info.pci_bus_id) == Some(wanted));
    Ok(device.set(Device::handle_at(position.ok_or(NvmlError::NOT_FOUND)?))?)
}
