//! The functions of a vendor's library that we call, and C's view of their arguments.
//!
//! Names carry the version suffix that the library exports, so that a lookup by name is exact. What came after CUDA 11 is
//! optional: without it the calls that need it say `NOT_SUPPORTED`.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda::{CuError, CuResult};

/// An opaque handle of the driver.
pub(super) type Handle = *mut c_void;
/// What the driver calls in stream order.
pub(super) type HostFunction = unsafe extern "C" fn(*mut c_void);

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    pub(super) kind: c_uint,
    pub(super) id: c_int,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct AllocationProperties {
    pub(super) kind: c_uint,
    pub(super) handle_types: c_uint,
    pub(super) location: Location,
    pub(super) win32: *mut c_void,
    pub(super) flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) location: Location,
    pub(super) flags: c_uint,
}

/// One side of a `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) kind: c_uint,
    pub(super) host: *mut c_void,
    pub(super) device: u64,
    pub(super) array: Handle,
    pub(super) pitch: usize,
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy2d {
    pub(super) source: Side,
    pub(super) target: Side,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// `CUlaunchAttribute`: a number and a union of 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct LaunchAttribute {
    pub(super) id: c_uint,
    pub(super) pad: c_uint,
    pub(super) value: [c_uint; 16],
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct LaunchConfig {
    pub(super) grid: [c_uint; 3],
    pub(super) block: [c_uint; 3],
    pub(super) shared_bytes: c_uint,
    pub(super) stream: Handle,
    pub(super) attributes: *mut LaunchAttribute,
    pub(super) attribute_count: c_uint,
}

macro_rules! api {
    (
        required { $($name:ident = $symbol:literal ($($type:ty),*);)* }
        optional { $($later:ident = $later_symbol:literal ($($later_type:ty),*);)* }
    ) => {
        /// Entry points of the library.
        #[derive(Debug)]
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($type),*) -> c_uint,)*
            $(pub(super) $later: Option<unsafe extern "C" fn($($later_type),*) -> c_uint>,)*
        }

        impl Api {
            fn resolve(library: &libloading::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $(
                        // SAFETY: the type is the one of cuda.h for this name.
                        $name: *unsafe { library.get($symbol) }.map_err(|_| lossless($symbol))?,
                    )*
                    $(
                        // SAFETY: as above.
                        $later: unsafe { library.get($later_symbol) }.ok().map(|symbol| *symbol),
                    )*
                })
            }
        }
    };
}

fn lossless(symbol: &'static [u8]) -> &'static str {
    std::str::from_utf8(symbol).map_or("a symbol", |name| name.trim_end_matches('\0'))
}

api! {
    required {
        init = b"cuInit\0"(c_uint);
        driver_version = b"cuDriverGetVersion\0"(*mut c_int);
        device_count = b"cuDeviceGetCount\0"(*mut c_int);
        device_get = b"cuDeviceGet\0"(*mut c_int, c_int);
        device_name = b"cuDeviceGetName\0"(*mut c_char, c_int, c_int);
        device_memory = b"cuDeviceTotalMem_v2\0"(*mut usize, c_int);
        device_attribute = b"cuDeviceGetAttribute\0"(*mut c_int, c_uint, c_int);
        device_pci = b"cuDeviceGetPCIBusId\0"(*mut c_char, c_int, c_int);
        device_uuid = b"cuDeviceGetUuid\0"(*mut [u8; 16], c_int);
        context_retain = b"cuDevicePrimaryCtxRetain\0"(*mut Handle, c_int);
        context_release = b"cuDevicePrimaryCtxRelease_v2\0"(c_int);
        context_set = b"cuCtxSetCurrent\0"(Handle);
        context_synchronize = b"cuCtxSynchronize\0"();
        limit_set = b"cuCtxSetLimit\0"(c_uint, usize);
        limit_get = b"cuCtxGetLimit\0"(*mut usize, c_uint);
        memory_info = b"cuMemGetInfo_v2\0"(*mut usize, *mut usize);
        memory_alloc = b"cuMemAlloc_v2\0"(*mut u64, usize);
        memory_free = b"cuMemFree_v2\0"(u64);
        copy_to_device = b"cuMemcpyHtoDAsync_v2\0"(u64, *const c_void, usize, Handle);
        copy_to_host = b"cuMemcpyDtoHAsync_v2\0"(*mut c_void, u64, usize, Handle);
        copy_on_device = b"cuMemcpyDtoDAsync_v2\0"(u64, u64, usize, Handle);
        copy_2d = b"cuMemcpy2DAsync_v2\0"(*const Copy2d, Handle);
        fill_8 = b"cuMemsetD8Async\0"(u64, u8, usize, Handle);
        fill_16 = b"cuMemsetD16Async\0"(u64, u16, usize, Handle);
        fill_32 = b"cuMemsetD32Async\0"(u64, c_uint, usize, Handle);
        fill_2d_8 = b"cuMemsetD2D8Async\0"(u64, usize, u8, usize, usize, Handle);
        fill_2d_16 = b"cuMemsetD2D16Async\0"(u64, usize, u16, usize, usize, Handle);
        fill_2d_32 = b"cuMemsetD2D32Async\0"(u64, usize, c_uint, usize, usize, Handle);
        module_load = b"cuModuleLoadDataEx\0"(*mut Handle, *const c_void, c_uint, *mut c_uint, *mut *mut c_void);
        module_unload = b"cuModuleUnload\0"(Handle);
        module_global = b"cuModuleGetGlobal_v2\0"(*mut u64, *mut usize, Handle, *const c_char);
        function_attribute = b"cuFuncGetAttribute\0"(*mut c_int, c_uint, Handle);
        function_set_attribute = b"cuFuncSetAttribute\0"(Handle, c_uint, c_int);
        launch = b"cuLaunchKernel\0"(
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
        );
        stream_create = b"cuStreamCreateWithPriority\0"(*mut Handle, c_uint, c_int);
        stream_destroy = b"cuStreamDestroy_v2\0"(Handle);
        stream_synchronize = b"cuStreamSynchronize\0"(Handle);
        stream_query = b"cuStreamQuery\0"(Handle);
        stream_wait_event = b"cuStreamWaitEvent\0"(Handle, Handle, c_uint);
        host_function = b"cuLaunchHostFunc\0"(Handle, HostFunction, *mut c_void);
        event_create = b"cuEventCreate\0"(*mut Handle, c_uint);
        event_destroy = b"cuEventDestroy_v2\0"(Handle);
        event_record = b"cuEventRecord\0"(Handle, Handle);
        event_query = b"cuEventQuery\0"(Handle);
        event_synchronize = b"cuEventSynchronize\0"(Handle);
        event_elapsed = b"cuEventElapsedTime\0"(*mut f32, Handle, Handle);
    }
    optional {
        address_reserve = b"cuMemAddressReserve\0"(*mut u64, usize, usize, u64, u64);
        address_free = b"cuMemAddressFree\0"(u64, usize);
        memory_create = b"cuMemCreate\0"(*mut u64, usize, *const AllocationProperties, u64);
        memory_release = b"cuMemRelease\0"(u64);
        memory_map = b"cuMemMap\0"(u64, usize, usize, u64, u64);
        memory_unmap = b"cuMemUnmap\0"(u64, usize);
        memory_access = b"cuMemSetAccess\0"(u64, usize, *const Access, usize);
        granularity = b"cuMemGetAllocationGranularity\0"(*mut usize, *const AllocationProperties, c_uint);
        pointer_attribute = b"cuPointerGetAttribute\0"(*mut c_void, c_uint, u64);
        function_count = b"cuModuleGetFunctionCount\0"(*mut c_uint, Handle);
        functions = b"cuModuleEnumerateFunctions\0"(*mut Handle, c_uint, Handle);
        function_name = b"cuFuncGetName\0"(*mut *const c_char, Handle);
        function_param = b"cuFuncGetParamInfo\0"(Handle, usize, *mut usize, *mut usize);
        launch_ex = b"cuLaunchKernelEx\0"(*const LaunchConfig, Handle, *mut *mut c_void, *mut *mut c_void);
    }
}

/// The first error that this process's contexts do not survive, or 0.
static BROKEN: AtomicU32 = AtomicU32::new(0);

/// The error after which a vendor's driver serves this process no more: "To continue using CUDA, the process must be
/// terminated and relaunched" (CUDA driver API, `CUDA_ERROR_ILLEGAL_ADDRESS` and its like). `None` while it does.
#[must_use]
pub fn broken() -> Option<CuError> {
    CuError::from_code(BROKEN.load(Ordering::Relaxed))
}

/// Turns the driver's answer into ours.
pub(super) fn check(code: c_uint) -> CuResult {
    CuError::check(code).inspect_err(|error| {
        if error.is_sticky() && BROKEN.compare_exchange(0, error.code(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%error, "the driver's contexts of this process are broken");
        }
    })
}

/// An optional entry point, or the error for its absence.
pub(super) fn need<F: Copy>(entry: Option<F>) -> CuResult<F> {
    entry.ok_or(CuError::NOT_SUPPORTED)
}

/// Loads the library of this path (or name) and finds its functions.
pub(super) fn load(path: &Path) -> CuResult<Api> {
    // SAFETY: the path was given by whoever runs the worker; a driver's initialisers are what they are.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| {
        tracing::error!(%error, "cannot load the driver {}", path.display());
        CuError::SHARED_OBJECT_INIT_FAILED
    })?;
    let api = Api::resolve(&library).map_err(|symbol| {
        tracing::error!(symbol, "the driver {} lacks a function", path.display());
        CuError::SHARED_OBJECT_SYMBOL_NOT_FOUND
    })?;
    // A driver starts threads and registers handlers: it cannot be unloaded.
    std::mem::forget(library);
    Ok(api)
}
