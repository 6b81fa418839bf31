#![expect(unsafe_code, reason = "loads a C library and calls it")]
//! What NVML says of this container's GPUs.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    os::unix::ffi::OsStrExt,
    time::{SystemTime, UNIX_EPOCH},
};

/// The GPUs and their driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// The driver's version.
    pub(crate) driver: String,
    /// The newest CUDA that it serves.
    pub(crate) cuda: String,
    /// Number of GPUs, whichever are shown.
    pub(crate) count: u32,
    /// The GPUs.
    pub(crate) gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gpu {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) bus_id: String,
    pub(crate) capability: String,
    /// Memory in bytes.
    pub(crate) total: u64,
    pub(crate) used: u64,
    /// Percent of the last period in which kernels ran, and in which memory was moved; `None` when not measured.
    pub(crate) busy: Option<(u32, u32)>,
    pub(crate) processes: Vec<Process>,
}

/// A process on a GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Memory in bytes.
    pub(crate) used: u64,
}

/// Now, in UTC, as NVIDIA's own writes it.
pub(crate) fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, milliseconds) = (now.as_secs(), now.subsec_millis());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}.{milliseconds:03}")
}

/// The date so many days after 1970-01-01, by the Gregorian calendar's cycle of 400 years, with years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

type Device = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProcessInfo {
    pid: c_uint,
    used: u64,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct PciInfo {
    legacy: [c_char; 16],
    numbers: [c_uint; 5],
    bus_id: [c_char; 32],
}

/// An open library. It stays open until the program ends.
struct Library(*mut c_void);

impl Library {
    /// Ours beside this program, or whichever the loader finds.
    fn open() -> Result<Self, String> {
        let beside = std::env::current_exe().ok().map(|program| program.with_file_name("libnvidia-ml.so.1"));
        let beside = beside.filter(|file| file.exists());
        let names = beside.iter().map(|path| path.as_os_str().as_bytes()).chain([&b"libnvidia-ml.so.1"[..]]);
        for name in names.filter_map(|name| CString::new(name).ok()) {
            // SAFETY: the name is a C string, and the library's own start does nothing to us.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            if !handle.is_null() {
                return Ok(Self(handle));
            }
        }
        // SAFETY: dlerror gives a C string that lives until this thread's next call, or null.
        let reason =
            unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text).to_string_lossy().into_owned()) };
        Err(format!("NVML is not there: {}", reason.unwrap_or_default()))
    }

    /// A function of the library, of the type that its caller knows from nvml.h.
    ///
    /// # Safety
    /// `F` is the function's C type.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "a function is a pointer");
        // SAFETY: the handle is open, the name a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() {
            return Err(format!("NVML has no `{}`", name.to_string_lossy()));
        }
        // SAFETY: the sizes are equal, and the caller promises the type.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

/// Calls a function of NVML by its name, with its arguments and their C types.
macro_rules! call {
    ($library:expr, $name:literal, $($argument:expr => $type:ty),* $(,)?) => {{
        // SAFETY: the types are those of nvml.h for this function.
        let function = unsafe { $library.function::<unsafe extern "C" fn($($type),*) -> c_uint>($name) };
        function.and_then(|function| {
            // SAFETY: every pointer is to a local of the type and length that NVML expects, or a handle that it gave.
            match unsafe { function($($argument),*) } {
                0 => Ok(()),
                code => Err(format!("{} answered {code}", $name.to_string_lossy())),
            }
        })
    }};
}

fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks NVML.
pub(crate) fn look() -> Result<Machine, String> {
    let library = Library::open()?;
    call!(library, c"nvmlInit_v2",).map_err(|error| format!("no vGPU can be reached ({error})"))?;
    let mut version = [0; 80];
    call!(library, c"nvmlSystemGetDriverVersion", version.as_mut_ptr() => *mut c_char, 80 => c_uint)?;
    let mut cuda: c_int = 0;
    call!(library, c"nvmlSystemGetCudaDriverVersion_v2", &raw mut cuda => *mut c_int)?;
    let mut count: c_uint = 0;
    call!(library, c"nvmlDeviceGetCount_v2", &raw mut count => *mut c_uint)?;
    let gpus = (0..count).map(|index| gpu(&library, index)).collect::<Result<_, _>>()?;
    Ok(Machine { driver: text(&version), cuda: format!("{}.{}", cuda / 1000, cuda % 1000 / 10), count, gpus })
}

fn gpu(library: &Library, index: u32) -> Result<Gpu, String> {
    let mut device: Device = std::ptr::null_mut();
    call!(library, c"nvmlDeviceGetHandleByIndex_v2", index => c_uint, &raw mut device => *mut Device)?;
    let mut name = [0; 96];
    call!(library, c"nvmlDeviceGetName", device => Device, name.as_mut_ptr() => *mut c_char, 96 => c_uint)?;
    let mut uuid = [0; 96];
    call!(library, c"nvmlDeviceGetUUID", device => Device, uuid.as_mut_ptr() => *mut c_char, 96 => c_uint)?;
    let mut memory = Memory::default();
    call!(library, c"nvmlDeviceGetMemoryInfo", device => Device, &raw mut memory => *mut Memory)?;
    let mut busy = Utilization::default();
    let measured =
        call!(library, c"nvmlDeviceGetUtilizationRates", device => Device, &raw mut busy => *mut Utilization);
    let mut pci = PciInfo { legacy: [0; 16], numbers: [0; 5], bus_id: [0; 32] };
    call!(library, c"nvmlDeviceGetPciInfo_v3", device => Device, &raw mut pci => *mut PciInfo)?;
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    call!(library, c"nvmlDeviceGetCudaComputeCapability",
        device => Device, &raw mut major => *mut c_int, &raw mut minor => *mut c_int)?;
    Ok(Gpu {
        index,
        name: text(&name),
        uuid: text(&uuid),
        bus_id: text(&pci.bus_id),
        capability: format!("{major}.{minor}"),
        total: memory.total,
        used: memory.used,
        busy: measured.is_ok().then_some((busy.gpu, busy.memory)),
        processes: processes(library, device),
    })
}

/// The processes on a device; none when NVML does not tell.
fn processes(library: &Library, device: Device) -> Vec<Process> {
    let mut infos = [ProcessInfo::default(); 256];
    let mut count: c_uint = 256;
    let told = call!(library, c"nvmlDeviceGetComputeRunningProcesses_v3",
        device => Device, &raw mut count => *mut c_uint, infos.as_mut_ptr() => *mut ProcessInfo);
    if told.is_err() {
        return Vec::new();
    }
    let own = std::process::id();
    let listed = infos.iter().take(usize::try_from(count).unwrap_or_default()).filter(|info| info.pid != own);
    let name = |pid: u32| {
        let mut name = [0; 256];
        let told =
            call!(library, c"nvmlSystemGetProcessName", pid => c_uint, name.as_mut_ptr() => *mut c_char, 256 => c_uint);
        if told.is_ok() { text(&name) } else { "[Not Found]".to_owned() }
    };
    listed.map(|info| Process { pid: info.pid, name: name(info.pid), used: info.used }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn machine() -> Machine {
        let gpu = |index: u32| Gpu {
            index,
            name: "A card".to_owned(),
            uuid: format!("GPU-{index:02}aa"),
            bus_id: format!("00000000:0{index}:00.0"),
            capability: "12.0".to_owned(),
            total: 4 << 30,
            ..Gpu::default()
        };
        let process = Process { pid: 12, name: "python3".to_owned(), used: 300 << 20 };
        let busy = Gpu { used: 300 << 20, busy: Some((7, 3)), processes: vec![process], ..gpu(0) };
        Machine { driver: "580.65.06".to_owned(), cuda: "13.0".to_owned(), count: 2, gpus: vec![busy, gpu(1)] }
    }

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_781), (2026, 11, 24));
    }
}
