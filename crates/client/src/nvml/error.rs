//! NVML's result codes.

use std::ffi::CStr;

use cuda::CuError;

/// A failed NVML call: a non-zero `nvmlReturn_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NvmlError(u32);

/// What every NVML function returns.
pub(crate) type NvmlResult<T = ()> = Result<T, NvmlError>;

impl NvmlError {
    pub(crate) const UNINITIALIZED: Self = Self(1);
    pub(crate) const INVALID_ARGUMENT: Self = Self(2);
    pub(crate) const NOT_SUPPORTED: Self = Self(3);
    pub(crate) const NO_PERMISSION: Self = Self(4);
    pub(crate) const NOT_FOUND: Self = Self(6);
    pub(crate) const INSUFFICIENT_SIZE: Self = Self(7);
    pub(crate) const DRIVER_NOT_LOADED: Self = Self(9);
    pub(crate) const GPU_IS_LOST: Self = Self(15);
    pub(crate) const ARGUMENT_VERSION_MISMATCH: Self = Self(25);
    pub(crate) const UNKNOWN: Self = Self(999);

    pub(crate) fn code(self) -> u32 {
        self.0
    }

    /// What a code means.
    pub(crate) fn text(code: u32) -> &'static CStr {
        match code {
            0 => c"Success",
            1 => c"Uninitialized",
            2 => c"Invalid Argument",
            3 => c"Not Supported",
            4 => c"Insufficient Permissions",
            5 => c"Already Initialized",
            6 => c"Not Found",
            7 => c"Insufficient Size",
            8 => c"Insufficient External Power",
            9 => c"Driver Not Loaded",
            10 => c"Timeout",
            11 => c"Interrupt Request Issue",
            12 => c"NVML Shared Library Not Found",
            13 => c"Function Not Found",
            14 => c"Corrupted infoROM",
            15 => c"GPU is lost",
            16 => c"GPU requires reset",
            17 => c"GPU access blocked by the operating system",
            18 => c"Driver/library version mismatch",
            19 => c"In use by another client",
            20 => c"Insufficient Memory",
            21 => c"No data",
            22 => c"vGPU ECC not supported",
            23 => c"Insufficient resources",
            24 => c"Frequency not supported",
            25 => c"Argument version mismatch",
            26 => c"Deprecated function",
            27 => c"Not ready",
            28 => c"GPU not found",
            29 => c"Invalid state",
            30 => c"Reset type not supported",
            _ => c"Unknown Error",
        }
    }
}

impl From<CuError> for NvmlError {
    fn from(error: CuError) -> Self {
        match error {
            CuError::NOT_SUPPORTED => Self::NOT_SUPPORTED,
            CuError::INVALID_VALUE | CuError::INVALID_DEVICE => Self::INVALID_ARGUMENT,
            CuError::NO_DEVICE | CuError::NOT_INITIALIZED => Self::DRIVER_NOT_LOADED,
            _ if error.is_sticky() => Self::GPU_IS_LOST,
            _ => Self::UNKNOWN,
        }
    }
}
