//! What only NVML knows: the kernel driver's version and how busy a device is. Optional: without it those read as unknown.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::ffi::{CString, c_char, c_uint, c_void};
use std::path::Path;

/// NVIDIA's management library.
#[derive(Debug)]
pub(super) struct Nvml {
    version: unsafe extern "C" fn(*mut c_char, c_uint) -> c_uint,
    device: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_uint,
    utilization: unsafe extern "C" fn(*mut c_void, *mut [c_uint; 2]) -> c_uint,
}

impl Nvml {
    /// Finds the library beside the driver's, or by its name.
    pub(super) fn open(driver: &Path) -> Option<Self> {
        const NAME: &str = "libnvidia-ml.so.1";
        let beside = driver.parent().filter(|folder| !folder.as_os_str().is_empty()).map(|folder| folder.join(NAME));
        // SAFETY: the initialisers of a vendor's library are what they are.
        let library = beside
            .and_then(|path| unsafe { libloading::Library::new(path) }.ok())
            // SAFETY: as above.
            .or_else(|| unsafe { libloading::Library::new(NAME) }.ok())?;
        // SAFETY: the type is the one of nvml.h.
        let init = *unsafe { library.get::<unsafe extern "C" fn() -> c_uint>(b"nvmlInit_v2\0") }.ok()?;
        // SAFETY: the types are those of nvml.h for these names.
        let nvml = unsafe {
            Self {
                version: *library.get(b"nvmlSystemGetDriverVersion\0").ok()?,
                device: *library.get(b"nvmlDeviceGetHandleByPciBusId_v2\0").ok()?,
                utilization: *library.get(b"nvmlDeviceGetUtilizationRates\0").ok()?,
            }
        };
        // SAFETY: no arguments.
        if unsafe { init() } != 0 {
            return None;
        }
        // Kept loaded: its functions are called until the process ends.
        std::mem::forget(library);
        Some(nvml)
    }

    /// The kernel driver's version.
    pub(super) fn driver_version(&self) -> Option<String> {
        let mut buffer = [0_u8; 80];
        // SAFETY: the buffer is as long as is said.
        let code = unsafe { (self.version)(buffer.as_mut_ptr().cast(), buffer.len() as c_uint) };
        let text = buffer.split(|byte| *byte == 0).next()?;
        (code == 0).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// Percent of the last second in which a device ran kernels and copied memory.
    pub(super) fn utilization(&self, bus: &str) -> Option<(u32, u32)> {
        let bus = CString::new(bus).ok()?;
        let mut device = std::ptr::null_mut();
        // SAFETY: both pointers are valid for the call.
        if unsafe { (self.device)(bus.as_ptr(), &raw mut device) } != 0 {
            return None;
        }
        let mut rates = [0; 2];
        // SAFETY: the handle is NVML's; nvmlUtilization_t is two unsigned ints.
        let code = unsafe { (self.utilization)(device, &raw mut rates) };
        (code == 0).then_some((rates[0], rates[1]))
    }
}
