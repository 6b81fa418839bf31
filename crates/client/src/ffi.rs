#![expect(unsafe_code, reason = "exports C symbols")]
//! The exported C functions, made from the table.
//!
//! Each does the same three things: it calls the front function that the table names, keeps panics inside, and turns
//! the result into a number. Where the table has no front function, the symbol is there (programs link against it), says
//! once in the log that it is missing, and returns the library's code for "not supported".

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use cuda::types::nvml::*;
use cuda::types::*;
use cuda::{CuError, CuResult, code_of};

use crate::nvml::{NvmlError, NvmlResult};

/// What front functions return: a number for C.
pub(crate) trait Answer {
    /// The number for a call that panicked.
    const PANICKED: u32;

    /// The number.
    fn code(self) -> u32;
}

impl Answer for CuResult {
    const PANICKED: u32 = 999;

    fn code(self) -> u32 {
        code_of(self)
    }
}

impl Answer for NvmlResult {
    const PANICKED: u32 = 999;

    fn code(self) -> u32 {
        self.err().map_or(0, NvmlError::code)
    }
}

pub(crate) fn guard<A: Answer>(symbol: &'static str, call: impl FnOnce() -> A) -> u32 {
    crate::log::start();
    let code = catch_unwind(AssertUnwindSafe(call)).map_or_else(
        |_| {
            tracing::error!(symbol, "panicked: this is a bug in Tensor Fusion");
            A::PANICKED
        },
        Answer::code,
    );
    tracing::trace!(symbol, code);
    code
}

thread_local! {
    static PER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The default stream of the call that runs now: what a null stream means inside a structure, or where a function has no
/// stream argument. Stream arguments are translated already.
pub(crate) fn default_stream() -> CUstream {
    if PER_THREAD.get() { CUstream::PER_THREAD } else { CUstream::LEGACY }
}

fn per_thread<A>(call: impl FnOnce() -> A) -> A {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PER_THREAD.set(self.0);
        }
    }
    let _restore = Restore(PER_THREAD.replace(true));
    call()
}

fn absent(symbol: &'static str, told: &AtomicBool) {
    crate::log::start();
    if !told.swap(true, Ordering::Relaxed) {
        tracing::warn!(symbol, "called, but Tensor Fusion does not have it");
    }
}

/// A C function's address.
pub(crate) struct Address(pub(crate) *const ());

// SAFETY: the address of a function may be read by any thread.
unsafe impl Sync for Address {}

macro_rules! export {
    ($($symbol:ident $mode:ident $($path:ident)::+ ($($argument:ident: $type:ty),*) ($($passed:expr),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $symbol($($argument: $type),*) -> u32 {
                crate::log::start();
                if tracing::enabled!(tracing::Level::TRACE) {
                    let arguments: &[String] = &[$(format!(concat!(stringify!($argument), "={:?}"), $argument)),*];
                    tracing::trace!(symbol = stringify!($symbol), arguments = arguments.join(" "));
                }
                guard(stringify!($symbol), || export!(@call $mode crate::$($path)::+($($passed),*)))
            }
        )*
    };
    (@call plain $call:expr) => { $call };
    (@call per_thread $call:expr) => { per_thread(|| $call) };
}

macro_rules! addresses {
    ($($symbol:ident $mode:ident $($path:ident)::+ ($($argument:ident: $type:ty),*) ($($passed:expr),*);)*) => {
        /// Implemented driver functions, by symbol.
        static ADDRESSES: &[(&str, Address)] = &[$((stringify!($symbol), Address($symbol as *const ())),)*];
    };
}

macro_rules! export_absent {
    ($code:expr; $($symbol:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $symbol() -> u32 {
            static TOLD: AtomicBool = AtomicBool::new(false);
            absent(stringify!($symbol), &TOLD);
            $code
        }
    )*};
}

macro_rules! export_cuda_absent {
    ($($symbol:ident;)*) => { export_absent! { CuError::NOT_SUPPORTED.code(); $($symbol;)* } };
}

macro_rules! export_nvml_absent {
    ($($symbol:ident;)*) => { export_absent! { NvmlError::NOT_SUPPORTED.code(); $($symbol;)* } };
}

cuda::cuda_implemented!(export);
cuda::cuda_implemented!(addresses);
cuda::cuda_absent!(export_cuda_absent);

/// NVML's functions are found by their symbols only.
mod management {
    use super::*;

    cuda::nvml_implemented!(export);
    cuda::nvml_absent!(export_nvml_absent);

    /// The one function that returns text.
    #[unsafe(no_mangle)]
    extern "C" fn nvmlErrorString(code: u32) -> Name<'static> {
        Name::from_static(NvmlError::text(code))
    }
}

/// The address of an implemented driver function.
pub(crate) fn address(symbol: &str) -> Option<Host> {
    let position = ADDRESSES.binary_search_by(|(name, _)| (*name).cmp(symbol)).ok()?;
    ADDRESSES.get(position).map(|(_, address)| Host::of(address.0))
}
