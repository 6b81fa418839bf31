//! The software GPU: a [`Driver`] whose processors are this machine's.
//!
//! ```text
//! soft       one session: the calls of `Driver`, checked and turned into operations
//! engine     queues, order, waiting            stream, task, executor, turn   what runs, where and when
//! memory     what of the client's addresses is mapped     area     memory that the client does not place
//! window     the process's device addresses    card, meter   what processes on one device share
//! module     images, variables, kernels        config, attributes   what the devices are
//! ```
//!
//! Every session has addresses of its own and shares its devices, through the card, with all sessions of all processes of
//! this user. Dropping the value ends the session: kernels stop, memory and charges are given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cuda::{
    AddressRange, ContextId, CuError, CuResult, DeviceInfo, DeviceUsage, Driver, DriverInfo, EventId, FunctionId,
    HostBuffer, LaunchShape, ModuleId, ModuleLoad, Ordinal, Region, Sink, StreamId, StreamKind, TicketId,
};

mod area;
mod attributes;
mod card;
mod config;
mod engine;
mod event;
mod executor;
mod launch;
mod memory;
mod meter;
mod module;
mod stream;
mod task;
mod turn;
mod window;

pub use config::{ConfigError, SoftConfig};

use area::Area;
use card::Seat;
use engine::{Context, Engine, Keep, Parts};
use task::{Move, Work};
use turn::Turn;
use window::window;

const GIB: u64 = 1 << 30;
/// What `cuDriverGetVersion` says: CUDA 13.0 Update 5, the newest interface that the client speaks.
const CUDA_VERSION: u32 = 13050;
const DRIVER_VERSION: &str = "580.65.06";

/// One client process's session with the software devices of this machine.
#[derive(Debug)]
pub struct Soft {
    engine: Arc<Engine>,
}

impl Soft {
    /// Opens a session for the application process `pid`.
    ///
    /// # Errors
    /// `OPERATING_SYSTEM` when address space or shared memory cannot be had, `OUT_OF_MEMORY` when this process has too
    /// many sessions, `ALREADY_MAPPED` when the configured addresses are taken.
    pub fn open(config: SoftConfig, pid: u32, sink: Arc<dyn Sink>) -> CuResult<Arc<Self>> {
        let devices: Vec<DeviceInfo> = (0..config.devices).map(|index| device(&config, index)).collect();
        let memory = config.vram.saturating_mul(u64::from(config.devices.max(1)));
        let window = window()?;
        // Twice the memory, so that fragments of the client's addresses never keep it from using all of the memory.
        let span = match config.addresses {
            Some(range) => window.take(range.size, Some(range.base))?,
            None => window.take(memory.saturating_mul(2), None)?,
        };
        let area = Area::new(window.take_last(memory.saturating_add(4 * GIB))?);
        let seats: CuResult<Vec<Seat>> = devices.iter().map(|device| Seat::take(&device.uuid, pid)).collect();
        let turns = seats?.into_iter().map(|seat| Arc::new(Turn::new(seat))).collect();
        let addresses = match config.addresses {
            Some(range) => AddressRange { base: range.base, size: range.size },
            None => span.range(),
        };
        let info = DriverInfo {
            cuda_version: CUDA_VERSION,
            driver_version: DRIVER_VERSION.to_owned(),
            devices,
            addresses,
            shares_process: true,
        };
        let engine = Engine::new(Parts { info, capability: config.compute_capability, sink, span, area, turns });
        Ok(Arc::new(Self { engine }))
    }

    /// Does a move at once, or queues it; `keep_data` makes host bytes outlive the call.
    fn submit_move(
        &self,
        stream: StreamId,
        work: Move,
        regions: &[Region],
        at_once: bool,
        keep_data: impl FnOnce(Move, &mut Keep) -> Move,
    ) -> CuResult<()> {
        let engine = &self.engine;
        engine.check()?;
        let mut keep = Keep::new();
        let state = engine.state.lock();
        let key = state.key(stream)?;
        for region in regions {
            Engine::checked(&state, region, &mut keep)?;
        }
        if regions.iter().any(|region| region.bytes() == Some(0)) {
            return Ok(());
        }
        let (mut state, work) = if at_once {
            match engine.move_at_once(state, key, work) {
                Ok(()) => return engine.check(),
                Err(back) => back,
            }
        } else {
            (state, work)
        };
        let work = keep_data(work, &mut keep);
        engine.submit_work(&mut state, key, Work::Move(work), keep)
    }
}

impl Drop for Soft {
    fn drop(&mut self) {
        self.engine.quit.store(true, Ordering::SeqCst);
        let threads = {
            let mut state = self.engine.state.lock();
            self.engine.work.notify_all();
            self.engine.call.notify_all();
            std::mem::take(&mut state.threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("an executor of the software GPU has panicked");
            }
        }
        // The thread for callbacks holds the session for moments only, and not while it calls back.
        while Arc::strong_count(&self.engine) > 1 {
            std::thread::yield_now();
        }
    }
}

/// A software device.
fn device(config: &SoftConfig, index: u32) -> DeviceInfo {
    let given = usize::try_from(index).ok().and_then(|index| config.uuids.get(index));
    let uuid = given.copied().unwrap_or_else(|| uuid(config, index));
    DeviceInfo {
        name: config.name.clone(),
        uuid,
        total_memory: config.vram,
        tflops: config.tflops,
        attributes: attributes::attributes(config, index),
        pci_bus_id: format!("0000:{:02X}:00.0", attributes::pci_bus(index)),
    }
}

/// A software device's identity: the same in every process of this machine, or of whatever else the seed names.
fn uuid(config: &SoftConfig, index: u32) -> [u8; 16] {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let mut hash = blake3::Hasher::new();
    for part in [&config.seed.clone().unwrap_or_else(host), &index.to_string(), &config.name] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    // Version and variant of a random UUID (RFC 9562), as cards have them.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Copies up to this size are made at once by the calling thread when nothing stands before them.
const SMALL_COPY: u64 = 256 << 10;

impl Driver for Soft {
    fn info(&self) -> &DriverInfo {
        &self.engine.info
    }

    fn usage(&self, device: Ordinal) -> CuResult<DeviceUsage> {
        self.engine.device(device)?.1.seat.usage()
    }

    fn context_create(&self, context: ContextId, device: Ordinal, _flags: u32) -> CuResult {
        self.engine.check()?;
        let (_, turn) = self.engine.device(device)?;
        let mut state = self.engine.state.lock();
        if state.contexts.contains_key(&context) {
            return Err(CuError::INVALID_VALUE);
        }
        state.contexts.insert(context, Context { device: device.0, limits: Default::default() });
        turn.seat.count_context(true);
        Ok(())
    }

    fn context_destroy(&self, context: ContextId) -> CuResult {
        let mut gone = Vec::new();
        let mut state = self.engine.state.lock();
        let device = state.contexts.remove(&context).ok_or(CuError::INVALID_CONTEXT)?.device;
        let keys: Vec<u64> =
            state.queues.iter().filter(|(_, queue)| queue.context == context).map(|(key, _)| *key).collect();
        let streams: Vec<StreamId> =
            state.streams.iter().filter(|(_, key)| keys.contains(key)).map(|(stream, _)| *stream).collect();
        for stream in streams {
            state.close_stream(stream)?;
        }
        state.events.retain(|_, event| event.context != context);
        let modules: Vec<ModuleId> =
            state.modules.iter().filter(|(_, module)| module.context == context).map(|(id, _)| *id).collect();
        for module in modules {
            gone.extend(state.remove_module(module));
        }
        drop(state);
        drop(gone);
        self.engine.device(Ordinal(device))?.1.seat.count_context(false);
        self.engine.check()
    }

    fn context_synchronize(&self, context: ContextId) -> CuResult {
        self.engine.check()?;
        let points = {
            let state = self.engine.state.lock();
            state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
            state.tails(|queue| queue.context == context)
        };
        points.iter().try_for_each(|point| self.engine.wait_for(point))?;
        self.engine.flush_printed();
        self.engine.check()
    }

    fn context_set_limit(&self, context: ContextId, limit: u32, value: u64) -> CuResult<u64> {
        self.engine.check()?;
        let value = launch::checked_limit(limit, value)?;
        let mut state = self.engine.state.lock();
        let limits = &mut state.contexts.get_mut(&context).ok_or(CuError::INVALID_CONTEXT)?.limits;
        if limit == launch::LIMIT_HEAP {
            if self.engine.heap.lock().is_some() {
                // CUDA: not once a kernel may have used it.
                return Err(CuError::INVALID_VALUE);
            }
            self.engine.heap_limit.store(value, Ordering::Relaxed);
        }
        limits.insert(limit, value);
        Ok(value)
    }

    fn context_limit(&self, context: ContextId, limit: u32) -> CuResult<u64> {
        self.engine.check()?;
        let state = self.engine.state.lock();
        let limits = &state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?.limits;
        let default = launch::default_limit(limit)?;
        Ok(limits.get(&limit).copied().unwrap_or(default))
    }

    fn mem_map(&self, device: Ordinal, address: u64, size: u64) -> CuResult {
        self.engine.check()?;
        let (info, turn) = self.engine.device(device)?;
        turn.seat.charge(size, info.total_memory)?;
        let mapped = self.engine.state.lock().mappings.map(&self.engine.span, device.0, address, size);
        mapped.inspect_err(|_| turn.seat.refund(size))
    }

    fn mem_alloc(&self, device: Ordinal, size: u64) -> CuResult<u64> {
        self.engine.check()?;
        let (info, turn) = self.engine.device(device)?;
        turn.seat.charge(size, info.total_memory)?;
        let mapped = self.engine.state.lock().mappings.place(&self.engine.span, device.0, size);
        mapped.inspect_err(|_| turn.seat.refund(size))
    }

    fn mem_unmap(&self, device: Ordinal, address: u64) -> CuResult {
        self.engine.check()?;
        let (_, turn) = self.engine.device(device)?;
        let (mapping, points) = {
            let mut state = self.engine.state.lock();
            let mapping = state.mappings.begin_unmap(address, device.0)?;
            (mapping, state.tails(|_| true))
        };
        if let Err(error) = points.iter().try_for_each(|point| self.engine.wait_for(point)) {
            self.engine.state.lock().mappings.keep(address);
            return Err(error);
        }
        self.engine.state.lock().mappings.end_unmap(&self.engine.span, address);
        turn.seat.refund(mapping.size);
        Ok(())
    }

    fn copy_to_device(&self, stream: StreamId, target: Region, data: &[u8]) -> CuResult {
        if target.bytes() != Some(data.len() as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        let source = HostBuffer { pointer: data.as_ptr().cast_mut(), length: data.len() };
        self.submit_move(stream, Move::ToDevice(target, source), &[target], true, |_, keep| {
            // The stream is busy and the caller's bytes may change: a copy of them waits in the queue.
            let copy = Arc::new(data.to_vec());
            let source = HostBuffer { pointer: copy.as_ptr().cast_mut(), length: copy.len() };
            keep.push(copy);
            Move::ToDevice(target, source)
        })
    }

    fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
        if source.bytes() != Some(target.length as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        let at_once = wait || target.length as u64 <= SMALL_COPY;
        self.submit_move(stream, Move::ToHost(target, source), &[source], at_once, |work, _| work)?;
        if wait { self.stream_synchronize(stream) } else { Ok(()) }
    }

    fn abandon(&self) {
        // As after a trap: kernels stop, what is queued is skipped, whoever waits is told.
        self.engine.fail(CuError::CONTEXT_IS_DESTROYED);
    }

    fn copy_on_device(&self, stream: StreamId, target: Region, source: Region) -> CuResult {
        if (target.width, target.rows, target.slices) != (source.width, source.rows, source.slices) {
            return Err(CuError::INVALID_VALUE);
        }
        let at_once = target.bytes().is_some_and(|bytes| bytes <= SMALL_COPY);
        self.submit_move(stream, Move::OnDevice(target, source), &[target, source], at_once, |work, _| work)
    }

    fn fill(&self, stream: StreamId, target: Region, element: u8, value: u32) -> CuResult {
        let step = u64::from(element);
        let pitches = target.rows > 1 && !target.row_pitch.is_multiple_of(step.max(1))
            || target.slices > 1 && !target.slice_pitch.is_multiple_of(step.max(1));
        if !matches!(element, 1 | 2 | 4) || !(target.address | target.width).is_multiple_of(step) || pitches {
            return Err(CuError::INVALID_VALUE);
        }
        let at_once = target.bytes().is_some_and(|bytes| bytes <= SMALL_COPY);
        self.submit_move(stream, Move::Fill(target, element, value), &[target], at_once, |work, _| work)
    }

    fn module_load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        self.engine.load(context, module, image)
    }

    fn module_unload(&self, module: ModuleId) -> CuResult {
        let gone = self.engine.state.lock().remove_module(module);
        self.engine.check()?;
        gone.map(|_| ()).ok_or(CuError::INVALID_HANDLE)
    }

    fn function_set_attribute(&self, function: FunctionId, attribute: u32, value: i32) -> CuResult {
        self.engine.set_function_attribute(function, attribute, value)
    }

    fn launch(&self, stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]) -> CuResult {
        self.engine.launch(stream, function, shape, params)
    }

    fn stream_create(&self, context: ContextId, stream: StreamId, kind: StreamKind, priority: i32) -> CuResult {
        self.engine.check()?;
        self.engine.state.lock().add_stream(stream, context, kind, priority)
    }

    fn stream_destroy(&self, stream: StreamId) -> CuResult {
        self.engine.state.lock().close_stream(stream)?;
        self.engine.check()
    }

    fn stream_synchronize(&self, stream: StreamId) -> CuResult {
        self.engine.check()?;
        let tail = self.engine.state.lock().queue(stream)?.tail();
        self.engine.wait_for(&tail)
    }

    fn stream_query(&self, stream: StreamId) -> CuResult<bool> {
        self.engine.check()?;
        let passed = self.engine.state.lock().queue(stream)?.tail().passed();
        self.engine.check()?;
        Ok(passed)
    }

    fn stream_wait_event(&self, stream: StreamId, event: EventId) -> CuResult {
        self.engine.stream_wait_event(stream, event)
    }

    fn host_callback(&self, stream: StreamId, ticket: TicketId) -> CuResult {
        self.engine.host_callback(stream, ticket)
    }

    fn event_create(&self, context: ContextId, event: EventId, timing: bool) -> CuResult {
        self.engine.event_create(context, event, timing)
    }

    fn event_destroy(&self, event: EventId) -> CuResult {
        self.engine.event_destroy(event)
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> CuResult {
        self.engine.event_record(event, stream)
    }

    fn event_query(&self, event: EventId) -> CuResult<bool> {
        self.engine.event_query(event)
    }

    fn event_synchronize(&self, event: EventId) -> CuResult {
        self.engine.event_synchronize(event)
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> CuResult<f32> {
        self.engine.event_elapsed(start, end)
    }
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
