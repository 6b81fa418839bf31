//! `cuGetExportTable`: tables of private functions that NVIDIA's own libraries ask for.
//!
//! The CUDA runtime does not start without some of them. What is here was learned from what the runtimes 12.9 and 13.5,
//! cuBLAS and cuFFT call and accept; slots that nobody was seen to call answer "not supported". A table that we do not
//! know is refused: libraries cope with that, but not with a table that holds something else than they expect.

mod integrity;
mod md2;
mod storage;

use std::sync::atomic::AtomicU64;

use cuda::types::{CUcontext, CUfunction, CUmodule, CUstream, CUuuid, Host, In, Out};
use cuda::{CuError, CuResult};

use crate::ffi::{self, Address};
use crate::front::{front, module};
pub(crate) use storage::forget_context;

/// A table: where C expects the address of its first slot.
struct Table(&'static [Address]);

const INTERFACE: [u8; 16] = *b"\x6B\xD5\xFB\x6C\x5B\xF4\xE7\x4A\x89\x87\xD9\x39\x12\xFD\x9D\xF9";
const CALLBACK_HOOKS: [u8; 16] = *b"\xA0\x94\x79\x8C\x2E\x74\x2E\x74\x93\xF2\x08\x00\x20\x0C\x0A\x66";
const TOOLS: [u8; 16] = *b"\x42\xD8\x5A\x81\x23\xF6\xCB\x47\x82\x98\xF6\xE7\x8A\x3A\xEC\xDC";
const LAUNCHES: [u8; 16] = *b"\x21\x31\x8C\x60\x97\x14\x32\x48\x8C\xA6\x41\xFF\x73\x24\xC8\xF2";
const STORAGE: [u8; 16] = *b"\xC6\x93\x33\x6E\x11\x21\xDF\x11\xA8\xC3\x68\xF3\x55\xD8\x95\x93";
const CONTEXT_CHECKS: [u8; 16] = *b"\x26\x3E\x88\x60\x7C\xD2\x61\x43\x92\xF6\xBB\xD5\x00\x6D\xFA\x7E";
const INTEGRITY: [u8; 16] = *b"\xD4\x08\x20\x55\xBD\xE6\x70\x4B\x8D\x34\xBA\x12\x3C\x66\xE1\xF2";
const ENUMERATION: [u8; 16] = *b"\x6E\x16\x3F\xBE\xB9\x58\x44\x4D\x83\x5C\xE1\x82\xAF\xF1\x99\x1E";
const PROFILING: [u8; 16] = *b"\x7C\xB6\x3F\x9B\x9C\xA4\x8E\x42\xA4\x84\xBE\xB6\x6E\x6A\xED\x7F";

/// `cuGetExportTable`
pub(crate) fn get(table: Out<Host>, id: In<CUuuid>) -> CuResult {
    let found = match id.get()?.bytes {
        INTERFACE => interface(),
        CALLBACK_HOOKS => Table(&CALLBACK_HOOKS_SLOTS),
        TOOLS => Table(&TOOLS_SLOTS),
        LAUNCHES => Table(&LAUNCHES_SLOTS),
        STORAGE => Table(&STORAGE_SLOTS),
        CONTEXT_CHECKS => Table(&CONTEXT_CHECKS_SLOTS),
        INTEGRITY => checking(),
        ENUMERATION => Table(&ENUMERATION_SLOTS),
        PROFILING => Table(&PROFILING_SLOTS),
        unknown => {
            tracing::debug!(id = format!("{unknown:02X?}"), "cuGetExportTable: refused");
            table.set(Host::NULL)?;
            return Err(CuError::INVALID_VALUE);
        }
    };
    table.set(found.address())
}

fn interface() -> Table {
    Table(&INTERFACE_SLOTS)
}

fn checking() -> Table {
    Table(&INTEGRITY_SLOTS)
}

impl Table {
    fn address(&self) -> Host {
        Host::of(self.0.as_ptr())
    }
}

/// What stands in a slot: a C function.
macro_rules! slot {
    ($function:path) => {
        Address($function as *const ())
    };
}

/// A table of `$count` slots, the first of which holds its length in bytes.
macro_rules! table {
    ($name:ident[$count:literal] { $($position:literal => $function:path,)* }) => {
        static $name: [Address; $count] = {
            let mut slots = [const { slot!(unknown) }; $count];
            slots[0] = Address(std::ptr::without_provenance($count * size_of::<*const ()>()));
            $(slots[$position] = slot!($function);)*
            slots
        };
    };
}

table! { INTERFACE_SLOTS[13] { 2 => primary_context, 7 => nothing, 12 => nothing, } }
table! { CALLBACK_HOOKS_SLOTS[7] { 2 => first_hooks, 6 => second_hooks, } }
table! { TOOLS_SLOTS[4] { 2 => current_context, } }
table! { LAUNCHES_SLOTS[52] { 4 => launch_state, 39 => stream_id, 51 => stream_object, } }
table! { CONTEXT_CHECKS_SLOTS[4] { 2 => check_context, 3 => nothing, } }
table! { INTEGRITY_SLOTS[3] { 1 => check_integrity, } }
table! { ENUMERATION_SLOTS[8] { 7 => enumerate_functions, } }
table! { PROFILING_SLOTS[64] {} }

/// The only table without a length.
static STORAGE_SLOTS: [Address; 4] = [slot!(storage_put), slot!(storage_delete), slot!(storage_get), slot!(unknown)];

extern "C" fn unknown() -> u32 {
    ffi::guard("slot of an export table", || -> CuResult {
        tracing::warn!("a private function was called that Tensor Fusion does not have");
        Err(CuError::NOT_SUPPORTED)
    })
}

extern "C" fn nothing() -> u32 {
    0
}

/// The primary context of a device, as `cuDevicePrimaryCtxRetain` would return it, without retaining it.
extern "C" fn primary_context(context: Out<CUcontext>, device: i32) -> u32 {
    ffi::guard("primary context", || {
        let device = u32::try_from(device).map_err(|_| CuError::INVALID_DEVICE)?;
        context.set(CUcontext(handle(front()?.primary_handle(device)?)))
    })
}

/// Buffers of the runtime's tools interface: which tools are attached; none are.
static HOOKS: [[AtomicU64; 1024]; 2] = [const { [const { AtomicU64::new(0) }; 1024] }; 2];

extern "C" fn first_hooks(buffer: Out<Host>, count: Out<usize>) -> u32 {
    hooks(0, 1024, buffer, count)
}

extern "C" fn second_hooks(buffer: Out<Host>, count: Out<usize>) -> u32 {
    hooks(1, 14, buffer, count)
}

fn hooks(which: usize, count_of: usize, buffer: Out<Host>, count: Out<usize>) -> u32 {
    ffi::guard("tools callback hooks", || {
        let hooks = HOOKS.get(which).ok_or(CuError::INVALID_VALUE)?;
        buffer.set(Host::of(hooks.as_ptr()))?;
        count.set(count_of)
    })
}

/// Our handles are addresses, so they have the size of C's pointers.
fn handle(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn current() -> CuResult<CUcontext> {
    Ok(CUcontext(handle(front()?.current_handle()?)))
}

extern "C" fn current_context(context: Out<CUcontext>) -> u32 {
    ffi::guard("current context", || context.set(current()?))
}

/// What cuBLAS asks before each launch; 1 is what it goes on with.
extern "C" fn launch_state(_context: CUcontext, state: Out<u64>) -> u32 {
    ffi::guard("launch state", || state.set(1))
}

extern "C" fn stream_id(_context: CUcontext, _object: Host, id: Out<u64>) -> u32 {
    ffi::guard("stream id", || id.set(0))
}

/// An object for each stream, which cuBLAS only hands back to us.
static STREAM_OBJECT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

extern "C" fn stream_object(_context: CUcontext, _stream: CUstream, object: Out<Host>, _per_thread: u32) -> u32 {
    ffi::guard("stream object", || object.set(Host::of(STREAM_OBJECT.as_ptr())))
}

extern "C" fn check_context(_context: CUcontext, first: Out<u32>, _second: Out<Host>) -> u32 {
    ffi::guard("context check", || first.set(0))
}

extern "C" fn check_integrity(version: u32, seconds: u64, answer: Out<u64>) -> u32 {
    ffi::guard("integrity check", || {
        let [first, second] = integrity::answer(version, seconds)?;
        answer.set_at(0, first)?;
        answer.set_at(1, second)
    })
}

type FunctionSink = extern "C" fn(Host, CUfunction);

/// Tells a library every function of a module; the caller takes 1 for success.
extern "C" fn enumerate_functions(
    _context: CUcontext,
    module: CUmodule,
    sink: Option<FunctionSink>,
    user: Host,
) -> u32 {
    let code = ffi::guard("functions of a module", || -> CuResult {
        let sink = sink.ok_or(CuError::INVALID_VALUE)?;
        for function in functions_of(module)? {
            sink(user, function);
        }
        Ok(())
    });
    u32::from(code == 0)
}

fn functions_of(module: CUmodule) -> CuResult<Vec<CUfunction>> {
    let mut count = 0;
    module::function_count(Out::to(&mut count), module)?;
    let mut functions = vec![CUfunction::NULL; count as usize];
    module::functions(Out::first(&mut functions), count, module)?;
    Ok(functions)
}

fn context_or_current(context: CUcontext) -> CuResult<CUcontext> {
    if !context.is_null() {
        return Ok(context);
    }
    let context = current()?;
    if context.is_null() { Err(CuError::INVALID_CONTEXT) } else { Ok(context) }
}

extern "C" fn storage_put(context: CUcontext, key: Host, value: Host, destroy: cuda::types::StorageDestructor) -> u32 {
    ffi::guard("context storage: put", || -> CuResult {
        storage::put(context_or_current(context)?, key, value, destroy);
        Ok(())
    })
}

extern "C" fn storage_delete(context: CUcontext, key: Host) -> u32 {
    ffi::guard("context storage: delete", || storage::delete(context_or_current(context)?, key))
}

extern "C" fn storage_get(value: Out<Host>, context: CUcontext, key: Host) -> u32 {
    ffi::guard("context storage: get", || value.set(storage::get(context_or_current(context)?, key)?))
}
