//! A vendor's CUDA driver behind the [`Driver`] trait.
//!
//! Opens a `libcuda.so.1` by path and keeps the map from the client's ids to the driver's handles. All contexts of a
//! device are its primary context: what tells a client's contexts apart is kept by the client. Memory is placed where the
//! client wants it by virtual memory management; where the driver has none (attribute 102 is 0) the address range is
//! empty, the client asks [`Driver::mem_alloc`], and addresses are the driver's.
//!
//! Our own library with the software GPU behind it is such a driver too; that is how this module is tested without a GPU.
//!
//! Text that kernels print reaches the client where the process has called [`capture_standard_output`]; else it goes to
//! standard output, as the driver would have it.
//!
//! Not there: a driver older than CUDA 12.4 cannot list a module's kernels, so loading says `NOT_SUPPORTED`.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;

use cuda::{
    AddressRange, ContextId, CuError, CuResult, DeviceUsage, Driver, DriverInfo, EventId, FunctionId, HostBuffer,
    LaunchShape, ModuleId, ModuleLoad, Ordinal, ProcessUsage, Region, Sink, StreamId, StreamKind, TicketId,
};
use parking_lot::Mutex;

mod api;
mod copy;
mod device;
mod memory;
mod module;
mod names;
mod nvml;
mod output;

pub use api::broken;
use api::{Api, Handle, LaunchAttribute, LaunchConfig, check, need};
use device::Device;
use memory::Memory;
use module::Module;
use nvml::Nvml;
pub use output::capture_standard_output;

/// Addresses that a fresh process has free on every machine, so that a client's addresses stay the same.
const ADDRESS_HINT: u64 = 0x2000_0000_0000;

/// One client process's session with a vendor's driver.
pub struct Native {
    api: Arc<Api>,
    info: DriverInfo,
    devices: Vec<Device>,
    sink: Arc<dyn Sink>,
    pid: u32,
    nvml: Option<Nvml>,
    memory: Option<Mutex<Memory>>,
    /// Memory from `mem_alloc`: device and size by address.
    placed: Mutex<HashMap<u64, (Ordinal, u64)>>,
    objects: Mutex<Objects>,
}

/// The driver's handles by the client's ids.
#[derive(Debug, Default)]
struct Objects {
    contexts: HashMap<ContextId, Ordinal>,
    streams: HashMap<StreamId, Stream>,
    events: HashMap<EventId, Event>,
    modules: HashMap<ModuleId, Module>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    context: ContextId,
    device: Ordinal,
    handle: usize,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    context: ContextId,
    device: Ordinal,
    handle: usize,
}

/// What the driver hands back in stream order.
struct Callback {
    sink: Arc<dyn Sink>,
    ticket: TicketId,
}

unsafe extern "C" fn reached(data: *mut c_void) {
    // SAFETY: made by `host_callback` from a box, and the driver calls once.
    let callback = unsafe { Box::from_raw(data.cast::<Callback>()) };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback.sink.reached(callback.ticket)));
    if result.is_err() {
        tracing::error!("a host callback has panicked");
    }
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Native {
    /// Opens the driver of this path for the application process `pid`.
    ///
    /// # Errors
    /// `SHARED_OBJECT_INIT_FAILED` when the library cannot be loaded, `SHARED_OBJECT_SYMBOL_NOT_FOUND` when it is no
    /// driver, and what the driver itself says, `NO_DEVICE` for example.
    pub fn open(path: impl AsRef<Path>, pid: u32, sink: Arc<dyn Sink>) -> CuResult<Arc<Self>> {
        let path = path.as_ref();
        let api = Arc::new(api::load(path)?);
        // SAFETY: no arguments that could be wrong.
        check(unsafe { (api.init)(0) })?;
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (api.driver_version)(&raw mut version) })?;
        let devices = device::devices(&api)?;
        let nvml = Nvml::open(path);
        let ordinals: Vec<i32> = devices.iter().map(|device| device.handle).collect();
        let placeable = !devices.is_empty() && devices.iter().all(|device| device.places_memory);
        let total = devices.iter().fold(0_u64, |sum, device| sum.saturating_add(device.info.total_memory));
        let memory = match placeable {
            true => Memory::reserve(Arc::clone(&api), &ordinals, total.saturating_mul(2), ADDRESS_HINT)
                .inspect_err(|error| tracing::warn!(%error, "the driver cannot reserve addresses; it will choose them"))
                .ok(),
            false => None,
        };
        let info = DriverInfo {
            cuda_version: version as u32,
            driver_version: nvml.as_ref().and_then(Nvml::driver_version).unwrap_or_default(),
            devices: devices.iter().map(|device| device.info.clone()).collect(),
            addresses: memory.as_ref().map_or(AddressRange { base: 0, size: 0 }, |memory| memory.range),
            shares_process: false,
        };
        let memory = memory.map(Mutex::new);
        let (placed, objects) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { api, info, devices, sink, pid, nvml, memory, placed, objects }))
    }

    /// Makes a device's context current on this thread.
    fn enter(&self, device: Ordinal) -> CuResult {
        let device = self.devices.get(device.0 as usize).ok_or(CuError::INVALID_DEVICE)?;
        let context = device.retain(&self.api)?;
        // SAFETY: the context is retained as long as this value lives.
        check(unsafe { (self.api.context_set)(context) })
    }

    fn enter_context(&self, context: ContextId) -> CuResult<Ordinal> {
        let device = *self.objects.lock().contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
        self.enter(device)?;
        Ok(device)
    }

    fn enter_stream(&self, stream: StreamId) -> CuResult<Handle> {
        let stream = *self.objects.lock().streams.get(&stream).ok_or(CuError::INVALID_HANDLE)?;
        self.enter(stream.device)?;
        Ok(stream.handle as Handle)
    }

    fn enter_event(&self, event: EventId) -> CuResult<Handle> {
        let event = *self.objects.lock().events.get(&event).ok_or(CuError::INVALID_HANDLE)?;
        self.enter(event.device)?;
        Ok(event.handle as Handle)
    }

    fn destroy_stream(&self, stream: Stream) -> CuResult {
        if stream.handle == 0 {
            return Ok(());
        }
        self.enter(stream.device)?;
        // SAFETY: made by `stream_create`, and taken out of the map.
        check(unsafe { (self.api.stream_destroy)(stream.handle as Handle) })
    }

    fn destroy_event(&self, event: Event) -> CuResult {
        self.enter(event.device)?;
        // SAFETY: made by `event_create`, and taken out of the map.
        check(unsafe { (self.api.event_destroy)(event.handle as Handle) })
    }

    fn unload(&self, module: Module) -> CuResult {
        self.enter(module.device)?;
        // SAFETY: made by `module_load`, and taken out of the map.
        check(unsafe { (self.api.module_unload)(module.handle as Handle) })
    }

    /// Destroys everything of a context, or of all.
    fn clear(&self, of: Option<ContextId>) -> CuResult {
        let matches = |context: ContextId| of.is_none_or(|wanted| wanted == context);
        let (streams, events, modules) = {
            let mut objects = self.objects.lock();
            let streams: Vec<Stream> =
                objects.streams.extract_if(|_, stream| matches(stream.context)).map(|(_, stream)| stream).collect();
            let events: Vec<Event> =
                objects.events.extract_if(|_, event| matches(event.context)).map(|(_, event)| event).collect();
            let modules: Vec<Module> =
                objects.modules.extract_if(|_, module| matches(module.context)).map(|(_, module)| module).collect();
            (streams, events, modules)
        };
        let mut result = Ok(());
        for outcome in streams
            .into_iter()
            .map(|stream| self.destroy_stream(stream))
            .chain(events.into_iter().map(|event| self.destroy_event(event)))
            .chain(modules.into_iter().map(|module| self.unload(module)))
        {
            result = result.and(outcome);
        }
        result
    }

    fn function(&self, function: FunctionId) -> CuResult<(Ordinal, Handle)> {
        let objects = self.objects.lock();
        let module = objects.modules.get(&function.module).ok_or(CuError::INVALID_HANDLE)?;
        let handle = *module.functions.get(function.index as usize).ok_or(CuError::INVALID_HANDLE)?;
        Ok((module.device, handle as Handle))
    }

    /// The outcome of a call that waited for the GPU, once what kernels printed until then is handed on.
    fn synchronized(&self, code: u32) -> CuResult {
        output::forward(&*self.sink);
        check(code)
    }

    fn synchronize_device(&self, device: Ordinal) -> CuResult {
        self.enter(device)?;
        // SAFETY: no arguments; the context is current.
        self.synchronized(unsafe { (self.api.context_synchronize)() })
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let used = |index: &usize| self.devices.get(*index).is_some_and(Device::is_used);
        for index in (0..self.devices.len()).filter(used) {
            if let Err(error) = self.synchronize_device(Ordinal(index as u32)) {
                tracing::warn!(%error, "a device does not end its work");
            }
        }
        if let Err(error) = self.clear(None) {
            tracing::warn!(%error, "the driver does not take everything back");
        }
        for (address, (device, _)) in std::mem::take(&mut *self.placed.lock()) {
            // SAFETY: from `mem_alloc`, and the work that used it is done.
            let freed = self.enter(device).and_then(|()| check(unsafe { (self.api.memory_free)(address) }));
            if let Err(error) = freed {
                tracing::warn!(%error, "the driver does not take memory back");
            }
        }
        self.memory = None;
        for device in &self.devices {
            device.release(&self.api);
        }
    }
}

impl Driver for Native {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    fn usage(&self, device: Ordinal) -> CuResult<DeviceUsage> {
        self.enter(device)?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are valid for the call.
        check(unsafe { (self.api.memory_info)(&raw mut free, &raw mut total) })?;
        let bus = self.info.devices.get(device.0 as usize).map_or("", |device| device.pci_bus_id.as_str());
        let (gpu_utilization, memory_utilization) =
            self.nvml.as_ref().and_then(|nvml| nvml.utilization(bus)).unwrap_or_default();
        let used_memory = (total as u64).saturating_sub(free as u64);
        let processes = vec![ProcessUsage { pid: self.pid, used_memory }];
        Ok(DeviceUsage { used_memory, gpu_utilization, memory_utilization, processes })
    }

    fn context_create(&self, context: ContextId, device: Ordinal, _flags: u32) -> CuResult {
        self.enter(device)?;
        match self.objects.lock().contexts.entry(context) {
            std::collections::hash_map::Entry::Occupied(_) => Err(CuError::INVALID_VALUE),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(device);
                Ok(())
            }
        }
    }

    fn context_destroy(&self, context: ContextId) -> CuResult {
        let device = self.objects.lock().contexts.remove(&context).ok_or(CuError::INVALID_CONTEXT)?;
        self.enter(device)?;
        self.clear(Some(context))
    }

    fn context_synchronize(&self, context: ContextId) -> CuResult {
        let device = *self.objects.lock().contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
        self.synchronize_device(device)
    }

    fn context_set_limit(&self, context: ContextId, limit: u32, value: u64) -> CuResult<u64> {
        self.enter_context(context)?;
        // SAFETY: plain values; the context is current.
        check(unsafe { (self.api.limit_set)(limit, value as usize) })?;
        self.context_limit(context, limit)
    }

    fn context_limit(&self, context: ContextId, limit: u32) -> CuResult<u64> {
        self.enter_context(context)?;
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (self.api.limit_get)(&raw mut value, limit) })?;
        Ok(value as u64)
    }

    fn mem_map(&self, device: Ordinal, address: u64, size: u64) -> CuResult {
        self.enter(device)?;
        let handle = self.devices.get(device.0 as usize).ok_or(CuError::INVALID_DEVICE)?.handle;
        self.memory.as_ref().ok_or(CuError::NOT_SUPPORTED)?.lock().map(handle, address, size)
    }

    fn mem_alloc(&self, device: Ordinal, size: u64) -> CuResult<u64> {
        self.enter(device)?;
        let mut address = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (self.api.memory_alloc)(&raw mut address, size as usize) })?;
        self.placed.lock().insert(address, (device, size));
        Ok(address)
    }

    fn mem_unmap(&self, device: Ordinal, address: u64) -> CuResult {
        let placed = self.placed.lock().get(&address).copied();
        if let Some((owner, _)) = placed {
            if owner != device {
                return Err(CuError::INVALID_VALUE);
            }
            self.synchronize_device(device)?;
            self.placed.lock().remove(&address).ok_or(CuError::INVALID_VALUE)?;
            // SAFETY: from `mem_alloc`, and taken out of the map.
            return check(unsafe { (self.api.memory_free)(address) });
        }
        let memory = self.memory.as_ref().ok_or(CuError::INVALID_VALUE)?;
        let handle = self.devices.get(device.0 as usize).ok_or(CuError::INVALID_DEVICE)?.handle;
        if memory.lock().device_of(address) != Some(handle) {
            return Err(CuError::INVALID_VALUE);
        }
        self.synchronize_device(device)?;
        memory.lock().unmap(address)
    }

    fn copy_to_device(&self, stream: StreamId, target: Region, data: &[u8]) -> CuResult {
        if target.bytes() != Some(data.len() as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        // From pageable memory the driver returns once it has taken the bytes (CUDA driver API, "API synchronization
        // behavior"), so they may be reused.
        let handle = self.enter_stream(stream)?;
        copy::to_device(&self.api, handle, &target, data)
    }

    fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
        if source.bytes() != Some(target.length as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        let handle = self.enter_stream(stream)?;
        copy::to_host(&self.api, handle, target, &source)?;
        if wait {
            // SAFETY: the handle is the stream's.
            return self.synchronized(unsafe { (self.api.stream_synchronize)(handle) });
        }
        Ok(())
    }

    fn copy_on_device(&self, stream: StreamId, target: Region, source: Region) -> CuResult {
        if (target.width, target.rows, target.slices) != (source.width, source.rows, source.slices) {
            return Err(CuError::INVALID_VALUE);
        }
        let handle = self.enter_stream(stream)?;
        copy::on_device(&self.api, handle, &target, &source)
    }

    fn fill(&self, stream: StreamId, target: Region, element: u8, value: u32) -> CuResult {
        let handle = self.enter_stream(stream)?;
        copy::fill(&self.api, handle, &target, element, value)
    }

    fn module_load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        let device = self.enter_context(context)?;
        let (loaded, answer) = module::load(&self.api, context, device, image)?;
        if let Some(loaded) = loaded
            && let Some(former) = self.objects.lock().modules.insert(module, loaded)
        {
            self.unload(former)?;
        }
        Ok(answer)
    }

    fn module_unload(&self, module: ModuleId) -> CuResult {
        let module = self.objects.lock().modules.remove(&module).ok_or(CuError::INVALID_HANDLE)?;
        self.unload(module)
    }

    fn function_set_attribute(&self, function: FunctionId, attribute: u32, value: i32) -> CuResult {
        let (device, handle) = self.function(function)?;
        self.enter(device)?;
        // SAFETY: the handle is the function's.
        check(unsafe { (self.api.function_set_attribute)(handle, attribute, value) })
    }

    fn launch(&self, stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]) -> CuResult {
        let stream = self.enter_stream(stream)?;
        let (_, function) = self.function(function)?;
        let mut size = params.len();
        // CU_LAUNCH_PARAM_BUFFER_POINTER, the buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, its size, CU_LAUNCH_PARAM_END.
        let mut extra = [
            std::ptr::without_provenance_mut(1),
            params.as_ptr().cast_mut().cast(),
            std::ptr::without_provenance_mut(2),
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        let (grid, block) = (shape.grid, shape.block);
        let clustered = shape.cluster.iter().any(|blocks| *blocks > 1);
        if !clustered && !shape.cooperative {
            let none = std::ptr::null_mut();
            // SAFETY: the handles are the driver's own; the parameters are read before the call returns, within `size`.
            return check(unsafe {
                (self.api.launch)(
                    function,
                    grid[0],
                    grid[1],
                    grid[2],
                    block[0],
                    block[1],
                    block[2],
                    shape.shared_bytes,
                    stream,
                    none,
                    extra.as_mut_ptr(),
                )
            });
        }
        const COOPERATIVE: u32 = 2;
        const CLUSTER: u32 = 4;
        let mut attributes = Vec::new();
        let mut add = |id: u32, values: &[u32]| {
            let mut value = [0; 16];
            value[..values.len()].copy_from_slice(values);
            attributes.push(LaunchAttribute { id, pad: 0, value });
        };
        if shape.cooperative {
            add(COOPERATIVE, &[1]);
        }
        if clustered {
            add(CLUSTER, &shape.cluster.map(|blocks| blocks.max(1)));
        }
        let config = LaunchConfig {
            grid,
            block,
            shared_bytes: shape.shared_bytes,
            stream,
            attributes: attributes.as_mut_ptr(),
            attribute_count: attributes.len() as u32,
        };
        let launch = need(self.api.launch_ex)?;
        // SAFETY: as above; the configuration and its attributes live until the call returns.
        check(unsafe { launch(&raw const config, function, std::ptr::null_mut(), extra.as_mut_ptr()) })
    }

    fn stream_create(&self, context: ContextId, stream: StreamId, kind: StreamKind, priority: i32) -> CuResult {
        let device = self.enter_context(context)?;
        let mut handle = std::ptr::null_mut();
        let flags = match kind {
            StreamKind::Legacy => None,
            StreamKind::Blocking => Some(0),
            StreamKind::NonBlocking => Some(1),
        };
        if let Some(flags) = flags {
            // SAFETY: the pointer is valid for the call.
            check(unsafe { (self.api.stream_create)(&raw mut handle, flags, priority) })?;
        }
        let made = Stream { context, device, handle: handle as usize };
        match self.objects.lock().streams.insert(stream, made) {
            Some(former) => self.destroy_stream(former),
            None => Ok(()),
        }
    }

    fn stream_destroy(&self, stream: StreamId) -> CuResult {
        let stream = self.objects.lock().streams.remove(&stream).ok_or(CuError::INVALID_HANDLE)?;
        self.destroy_stream(stream)
    }

    fn stream_synchronize(&self, stream: StreamId) -> CuResult {
        let handle = self.enter_stream(stream)?;
        // SAFETY: the handle is the stream's.
        self.synchronized(unsafe { (self.api.stream_synchronize)(handle) })
    }

    fn stream_query(&self, stream: StreamId) -> CuResult<bool> {
        let handle = self.enter_stream(stream)?;
        // SAFETY: the handle is the stream's.
        ready(unsafe { (self.api.stream_query)(handle) })
    }

    fn stream_wait_event(&self, stream: StreamId, event: EventId) -> CuResult {
        let event = self.objects.lock().events.get(&event).ok_or(CuError::INVALID_HANDLE)?.handle;
        let handle = self.enter_stream(stream)?;
        // SAFETY: the handles are the stream's and the event's.
        check(unsafe { (self.api.stream_wait_event)(handle, event as Handle, 0) })
    }

    fn host_callback(&self, stream: StreamId, ticket: TicketId) -> CuResult {
        let handle = self.enter_stream(stream)?;
        let data = Box::into_raw(Box::new(Callback { sink: Arc::clone(&self.sink), ticket }));
        // SAFETY: the data stays valid until the one call of `reached`.
        check(unsafe { (self.api.host_function)(handle, reached, data.cast()) }).inspect_err(|_| {
            // SAFETY: the driver refused, so nobody else has the data.
            drop(unsafe { Box::from_raw(data) });
        })
    }

    fn event_create(&self, context: ContextId, event: EventId, timing: bool) -> CuResult {
        const DISABLE_TIMING: u32 = 2;
        let device = self.enter_context(context)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (self.api.event_create)(&raw mut handle, if timing { 0 } else { DISABLE_TIMING }) })?;
        match self.objects.lock().events.insert(event, Event { context, device, handle: handle as usize }) {
            Some(former) => self.destroy_event(former),
            None => Ok(()),
        }
    }

    fn event_destroy(&self, event: EventId) -> CuResult {
        let event = self.objects.lock().events.remove(&event).ok_or(CuError::INVALID_HANDLE)?;
        self.destroy_event(event)
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> CuResult {
        let event = self.objects.lock().events.get(&event).ok_or(CuError::INVALID_HANDLE)?.handle;
        let handle = self.enter_stream(stream)?;
        // SAFETY: the handles are the event's and the stream's.
        check(unsafe { (self.api.event_record)(event as Handle, handle) })
    }

    fn event_query(&self, event: EventId) -> CuResult<bool> {
        let handle = self.enter_event(event)?;
        // SAFETY: the handle is the event's.
        ready(unsafe { (self.api.event_query)(handle) })
    }

    fn event_synchronize(&self, event: EventId) -> CuResult {
        let handle = self.enter_event(event)?;
        // SAFETY: the handle is the event's.
        self.synchronized(unsafe { (self.api.event_synchronize)(handle) })
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> CuResult<f32> {
        let end = self.objects.lock().events.get(&end).ok_or(CuError::INVALID_HANDLE)?.handle;
        let start = self.enter_event(start)?;
        let mut time = 0.0;
        // SAFETY: the handles are the events'; the pointer is valid for the call.
        check(unsafe { (self.api.event_elapsed)(&raw mut time, start, end as Handle) })?;
        Ok(time)
    }
}

/// A query's answer: `NOT_READY` is no error.
fn ready(code: u32) -> CuResult<bool> {
    match check(code) {
        Ok(()) => Ok(true),
        Err(CuError::NOT_READY) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
