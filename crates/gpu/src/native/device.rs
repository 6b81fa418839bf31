//! What a driver says of its devices.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::ffi::{CStr, c_char};

use cuda::{CuError, CuResult, DeviceInfo};
use parking_lot::Mutex;

use super::api::{Api, Handle, check};

/// One device of the driver.
#[derive(Debug)]
pub(super) struct Device {
    /// The driver's number.
    pub(super) handle: i32,
    /// What the client is told.
    pub(super) info: DeviceInfo,
    /// Whether memory can be placed where the client wants it.
    pub(super) places_memory: bool,
    /// The primary context, once retained.
    context: Mutex<Option<usize>>,
}

/// Attributes of what cannot be done through a [`cuda::Driver`]: they read as zero, whatever the card can do. Mapped and
/// managed host memory, memory operations in streams, sharing between processes, RDMA, tensor maps, fabric.
const OUT_OF_REACH: [u32; 35] = [
    19, 83, 86, 88, 89, 91, 92, 93, 94, 96, 98, 99, 100, 101, 102, 103, 104, 105, 107, 110, 112, 113, 114, 116, 117,
    119, 121, 122, 123, 124, 125, 127, 128, 132, 136,
];
const LAST_ATTRIBUTE: u32 = 161;
const PLACES_MEMORY: u32 = 102;

/// All devices of the driver.
pub(super) fn devices(api: &Api) -> CuResult<Vec<Device>> {
    let mut count = 0;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (api.device_count)(&raw mut count) })?;
    (0..count).map(|ordinal| device(api, ordinal)).collect()
}

fn device(api: &Api, ordinal: i32) -> CuResult<Device> {
    let mut handle = 0;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (api.device_get)(&raw mut handle, ordinal) })?;
    let name = text(|buffer, length| {
        // SAFETY: the buffer is as long as is said.
        unsafe { (api.device_name)(buffer, length, handle) }
    })?;
    let pci_bus_id = text(|buffer, length| {
        // SAFETY: the buffer is as long as is said.
        unsafe { (api.device_pci)(buffer, length, handle) }
    })?;
    let mut uuid = [0; 16];
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (api.device_uuid)(&raw mut uuid, handle) })?;
    let mut total = 0;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (api.device_memory)(&raw mut total, handle) })?;
    let ask = |number: u32| -> Option<i32> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (api.device_attribute)(&raw mut value, number, handle) }).ok().map(|()| value)
    };
    let places_memory = ask(PLACES_MEMORY) == Some(1);
    let shown = |number: u32, value: i32| if OUT_OF_REACH.contains(&number) { 0 } else { value };
    let attributes: Vec<(u32, i32)> =
        (1..=LAST_ATTRIBUTE).filter_map(|number| ask(number).map(|value| (number, shown(number, value)))).collect();
    let mut info = DeviceInfo { name, uuid, total_memory: total as u64, tflops: 0.0, attributes, pci_bus_id };
    info.tflops = tflops(&info);
    Ok(Device { handle, info, places_memory, context: Mutex::new(None) })
}

/// Dense FP16 tensor TFLOPS by generation: operations of a multiprocessor in a clock × multiprocessors × clock.
fn tflops(info: &DeviceInfo) -> f64 {
    let value = |number: u32| f64::from(info.attribute(number).unwrap_or(0));
    let capability = info.attribute(75).unwrap_or(0) * 10 + info.attribute(76).unwrap_or(0);
    let operations = match capability {
        0..=59 => 256.0,
        60..=69 => 512.0,
        70..=79 => 1024.0,
        80 | 87 => 2048.0,
        81..=89 => 1024.0,
        90..=99 => 4096.0,
        100..=119 => 8192.0,
        _ => 1024.0,
    };
    value(16) * value(13) * 1e3 * operations / 1e12
}

fn text(ask: impl FnOnce(*mut c_char, i32) -> u32) -> CuResult<String> {
    let mut buffer = [0_u8; 256];
    check(ask(buffer.as_mut_ptr().cast(), buffer.len() as i32))?;
    let text = CStr::from_bytes_until_nul(&buffer).map_err(|_| CuError::UNKNOWN)?;
    Ok(text.to_string_lossy().into_owned())
}

impl Device {
    /// The primary context, retained at first use.
    pub(super) fn retain(&self, api: &Api) -> CuResult<Handle> {
        let mut context = self.context.lock();
        if let Some(handle) = *context {
            return Ok(handle as Handle);
        }
        let mut handle = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (api.context_retain)(&raw mut handle, self.handle) })?;
        *context = Some(handle as usize);
        Ok(handle)
    }

    /// Whether the primary context is retained.
    pub(super) fn is_used(&self) -> bool {
        self.context.lock().is_some()
    }

    /// Releases the primary context.
    pub(super) fn release(&self, api: &Api) {
        if self.context.lock().take().is_some() {
            // SAFETY: retained by `retain`.
            if let Err(error) = check(unsafe { (api.context_release)(self.handle) }) {
                tracing::warn!(%error, "the driver does not release a context");
            }
        }
    }
}
