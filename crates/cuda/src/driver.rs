//! The one interface between CUDA programs and GPUs.
//!
//! NVIDIA's C interface has some 490 functions in several versions, thread-current contexts and handles that the
//! driver invents. All of that is *front end*: the client library keeps it, once, for every kind of GPU. What is left
//! is what a GPU must really do, and that is [`Driver`]: few calls, explicit about the context or stream that they
//! act in, and with **every id and every device address chosen by the caller**, so that creating something needs no
//! answer and everything can be rebuilt elsewhere under the same names.
//!
//! Makers: `gpu::Soft` (PTX on the CPU), `gpu::Native` (a vendor's `libcuda.so.1`), `wire::Remote` (the same calls over
//! a connection) and the wrapper `limiter::Limited`. One `Driver` value serves one client process: ids of two values
//! never meet.
//!
//! The calls stand in one table, [`driver_calls!`](crate::driver_calls), with their class. The trait below, the wire's
//! encoding and the worker's dispatch are all made from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::CuResult;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub struct $name(pub u64);
    )*};
}

ids! {
    /// A context, named by the client.
    ContextId;
    /// A loaded code image, named by the client.
    ModuleId;
    /// A stream, named by the client.
    StreamId;
    /// An event, named by the client.
    EventId;
    /// One request for a host callback, named by the client.
    TicketId;
}

/// The position of a device among a driver's devices, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Ordinal(pub u32);

/// A kernel: its module and its position in [`ModuleInfo::functions`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FunctionId {
    /// The module that holds it.
    pub module: ModuleId,
    /// Its position in the module's list of functions.
    pub index: u32,
}

/// What cannot change while a driver is open; asked once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriverInfo {
    /// CUDA driver version, for example 13000 for 13.0.
    pub cuda_version: u32,
    /// Human-readable version of the kernel driver, for example `580.65.06`.
    pub driver_version: String,
    /// The devices, in order of their ordinals.
    pub devices: Vec<DeviceInfo>,
    /// The device addresses that the client may hand out by [`Driver::mem_map`]. Size 0: the GPU's own driver cannot
    /// place memory (no virtual memory management), so the client asks [`Driver::mem_alloc`] instead.
    pub addresses: AddressRange,
    /// Device memory is memory of the process that opened the driver, which reads and writes it at the same addresses.
    pub shares_process: bool,
}

/// One device's identity and constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Product name.
    pub name: String,
    /// Identity, the same through CUDA and NVML.
    pub uuid: [u8; 16],
    /// Video memory in bytes that a client may use: the card's, or the vGPU's limit.
    pub total_memory: u64,
    /// FP16 TFLOPS of the device (or of the vGPU).
    pub tflops: f64,
    /// `CUdevice_attribute` number and value, ascending, for every attribute that the device knows.
    pub attributes: Vec<(u32, i32)>,
    /// Largest block and grid dimensions and the like are attributes; this is what NVML wants on top.
    pub pci_bus_id: String,
}

impl DeviceInfo {
    /// The value of a `CUdevice_attribute`, or `None` for one that this device does not know.
    #[must_use]
    pub fn attribute(&self, number: u32) -> Option<i32> {
        let position = self.attributes.binary_search_by_key(&number, |entry| entry.0).ok()?;
        self.attributes.get(position).map(|entry| entry.1)
    }
}

/// A half-open range of device addresses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

/// What a device is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// Bytes in use by everybody who shares the device (or the vGPU).
    pub used_memory: u64,
    /// Percent of the last second in which a kernel ran.
    pub gpu_utilization: u32,
    /// Percent of the last second in which memory was copied.
    pub memory_utilization: u32,
    /// Processes with a context, as operating system ids of the *application*.
    pub processes: Vec<ProcessUsage>,
}

/// One process on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Operating system process id of the application.
    pub pid: u32,
    /// Device memory that it holds, in bytes.
    pub used_memory: u64,
}

/// The answer to [`Driver::module_load`]: all metadata of an image, so that nothing need be asked later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleLoad {
    /// 0, or the `CUresult` that says why the image cannot be loaded.
    pub status: u32,
    /// What the compiler said: `line:column: message` for every error or warning.
    pub log: String,
    /// What the module holds.
    pub info: ModuleInfo,
}

/// Kernels and variables of a module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Kernels.
    pub functions: Vec<FunctionInfo>,
    /// `__device__`, `__constant__` and `__managed__` variables.
    pub globals: Vec<GlobalInfo>,
}

/// One kernel's constants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// Linker name.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<ParamInfo>,
    /// Largest number of threads in a block.
    pub max_threads: u32,
    /// Statically sized shared memory, in bytes.
    pub shared_bytes: u32,
    /// `__constant__` memory, in bytes.
    pub const_bytes: u32,
    /// Local memory of one thread, in bytes.
    pub local_bytes: u32,
    /// Registers of one thread.
    pub registers: u32,
    /// PTX target of the image chosen, times ten: 80 for sm_80.
    pub ptx_version: u32,
    /// Binary target, likewise.
    pub binary_version: u32,
    /// Block shape that the kernel demands (`.reqntid`), or zeros.
    pub required_block: [u32; 3],
}

/// Where one kernel parameter lies in the parameter buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamInfo {
    /// Offset from the buffer's start.
    pub offset: u32,
    /// Size.
    pub size: u32,
}

/// One module variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalInfo {
    /// Linker name.
    pub name: String,
    /// Device address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    /// `__managed__`: the program reaches it by the same address.
    pub managed: bool,
}

/// A strided piece of device memory: `slices` × `rows` rows of `width` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Device address of the first byte.
    pub address: u64,
    /// Bytes in a row.
    pub width: u64,
    /// Rows in a slice.
    pub rows: u64,
    /// Bytes from one row's start to the next's.
    pub row_pitch: u64,
    /// Slices.
    pub slices: u64,
    /// Bytes from one slice's start to the next's.
    pub slice_pitch: u64,
}

impl Region {
    /// A plain run of bytes.
    #[must_use]
    pub fn linear(address: u64, bytes: u64) -> Self {
        Self { address, width: bytes, rows: 1, row_pitch: bytes, slices: 1, slice_pitch: bytes }
    }

    /// Bytes that are copied, without the gaps; `None` when that overflows.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.width.checked_mul(self.rows)?.checked_mul(self.slices)
    }

    /// Whether the rows follow one another without gaps.
    #[must_use]
    pub fn is_linear(&self) -> bool {
        (self.rows <= 1 || self.row_pitch == self.width)
            && (self.slices <= 1 || Some(self.slice_pitch) == self.width.checked_mul(self.rows))
    }
}

/// A kernel launch, without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchShape {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster in x, y, z; ones without clusters.
    pub cluster: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// All blocks are resident at once and may wait for one another.
    pub cooperative: bool,
}

/// How a stream relates to the others of its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// The context's legacy default stream: waits for all blocking streams, and they wait for it.
    Legacy,
    /// Synchronizes with the legacy stream.
    Blocking,
    /// `CU_STREAM_NON_BLOCKING`.
    NonBlocking,
}

/// Memory of the client process, written or read by a driver after the call has returned.
///
/// Whoever makes one promises that the memory stays valid until the stream has been synchronized.
#[derive(Clone, Copy, Debug)]
pub struct HostBuffer {
    /// First byte.
    pub pointer: *mut u8,
    /// Length in bytes.
    pub length: usize,
}

#[expect(unsafe_code, reason = "a host buffer is handed to the thread that completes the copy")]
// SAFETY: the maker promises that the memory stays valid and that nobody else touches it until the copy is complete.
unsafe impl Send for HostBuffer {}
#[expect(unsafe_code, reason = "see Send")]
// SAFETY: the type holds a plain address; only the copy's one owner dereferences it.
unsafe impl Sync for HostBuffer {}

/// What a driver reports by itself.
pub trait Sink: Send + Sync {
    /// Text that kernels printed. Comes before the synchronizing call returns that CUDA promises it for.
    fn printed(&self, text: &[u8]);
    /// The stream has reached this host callback; it goes on when the method returns.
    fn reached(&self, ticket: TicketId);
}

/// A sink which drops everything.
#[derive(Debug, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn printed(&self, _: &[u8]) {}
    fn reached(&self, _: TicketId) {}
}

/// Opens a driver for one client process whose id is `pid`.
pub type OpenDriver = dyn Fn(u32, Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> + Send + Sync;

/// Hands every regular driver call to the macro `$then`, one row each:
/// `class fn name(argument: type, …) -> answer;`
///
/// Classes:
/// - `one_way`: returns nothing. Over a connection it is sent and forgotten; its error appears at the next call that
///   answers. A driver must finish it, or queue it on its stream, without waiting for unrelated work.
/// - `round_trip`: answers quickly.
/// - `blocking`: answers when work on the device is done; over a connection it must not hold up other threads' calls.
///
/// Argument types are plain serde types, or `&[u8]`.
/// Not in the table, because memory of the client is involved: [`Driver::copy_to_host`].
#[macro_export]
macro_rules! driver_calls {
    ($then:path) => {
        $then! {
            /// What a device is doing now.
            round_trip fn usage(device: Ordinal) -> DeviceUsage;

            /// Makes a context.
            one_way fn context_create(context: ContextId, device: Ordinal, flags: u32);
            /// Destroys a context with its streams, events and modules. Memory that was mapped by `mem_map` stays.
            one_way fn context_destroy(context: ContextId);
            /// Waits until all work of a context is done.
            blocking fn context_synchronize(context: ContextId);
            /// Sets a `CUlimit`.
            round_trip fn context_set_limit(context: ContextId, limit: u32, value: u64) -> u64;
            /// Returns a `CUlimit`.
            round_trip fn context_limit(context: ContextId, limit: u32) -> u64;

            /// Backs `size` bytes from `address` (inside `DriverInfo::addresses`) with device memory, at once.
            /// Charged with exactly `size` bytes; several mappings may share a page. `OUT_OF_MEMORY` when the limit or
            /// the card is full.
            round_trip fn mem_map(device: Ordinal, address: u64, size: u64);
            /// Like `mem_map`, at an address that the driver chooses. Only for drivers whose `DriverInfo::addresses` is empty;
            /// taken back by `mem_unmap` as well.
            round_trip fn mem_alloc(device: Ordinal, size: u64) -> u64;
            /// Takes back one mapping, once all work that was queued before on this driver's streams is done.
            blocking fn mem_unmap(device: Ordinal, address: u64);

            /// Copies host bytes to the device in stream order; the bytes may be reused when the call returns.
            one_way fn copy_to_device(stream: StreamId, target: Region, data: &[u8]);
            /// Copies within the device, or between devices of the same driver, in stream order. Same shape on both sides.
            one_way fn copy_on_device(stream: StreamId, target: Region, source: Region);
            /// Fills memory with a pattern of 1, 2 or 4 bytes (`element`), in stream order.
            one_way fn fill(stream: StreamId, target: Region, element: u8, value: u32);

            /// Loads PTX text, a fatbin or a cubin, and returns all its metadata.
            round_trip fn module_load(context: ContextId, module: ModuleId, image: &[u8]) -> ModuleLoad;
            /// Unloads a module, once queued launches of it are done.
            one_way fn module_unload(module: ModuleId);

            /// Sets a `CUfunction_attribute`.
            one_way fn function_set_attribute(function: FunctionId, attribute: u32, value: i32);
            /// Runs a kernel in stream order. `params` is the parameter buffer, laid out as in `FunctionInfo::params`.
            one_way fn launch(stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]);

            /// Makes a stream. Lower `priority` numbers go first.
            one_way fn stream_create(context: ContextId, stream: StreamId, kind: StreamKind, priority: i32);
            /// Destroys a stream once its work is done; does not wait.
            one_way fn stream_destroy(stream: StreamId);
            /// Waits until all work of a stream is done.
            blocking fn stream_synchronize(stream: StreamId);
            /// Whether all work of a stream is done.
            round_trip fn stream_query(stream: StreamId) -> bool;
            /// Makes a stream's later work wait for an event's latest record.
            one_way fn stream_wait_event(stream: StreamId, event: EventId);
            /// Makes the stream wait, once it gets there, until `Sink::reached(ticket)` has returned.
            one_way fn host_callback(stream: StreamId, ticket: TicketId);

            /// Makes an event; `timing` says whether `event_elapsed` will be asked.
            one_way fn event_create(context: ContextId, event: EventId, timing: bool);
            /// Destroys an event.
            one_way fn event_destroy(event: EventId);
            /// Records an event: it completes when the stream's work so far is done.
            one_way fn event_record(event: EventId, stream: StreamId);
            /// Whether an event's latest record has completed (true when it was never recorded).
            round_trip fn event_query(event: EventId) -> bool;
            /// Waits for an event's latest record.
            blocking fn event_synchronize(event: EventId);
            /// Milliseconds between two completed records; `NOT_READY` before.
            round_trip fn event_elapsed(start: EventId, end: EventId) -> f32;
        }
    };
}

macro_rules! make_trait {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        /// A GPU, or several, as one client process sees them. See the module's text.
        pub trait Driver: Send + Sync {
            /// What cannot change while the driver is open.
            fn info(&self) -> &DriverInfo;

            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// CUDA's own code for what went wrong here, or earlier in one-way calls.
                fn $name(&self, $($arg: $type),*) -> CuResult<make_trait!(@answer $($answer)?)>;
            )*

            /// Copies device memory to the host in stream order. With `wait` the bytes are there when the call returns;
            /// without, when the stream has been synchronized.
            ///
            /// # Errors
            /// CUDA's own code for what went wrong here, or earlier in one-way calls.
            fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult;

            /// Nobody will use this driver any more: its work ends early, and calls that wait return soon, with any
            /// error. It is dropped when they have.
            fn abandon(&self) {}
        }
    };
    (@answer) => { () };
    (@answer $answer:ty) => { $answer };
}

driver_calls!(make_trait);
