//! A GPU of host memory, for tests: copies and fills are real, kernels are a handful of named ones.
//!
//! An image is text with the names of its kernels, and after `global NAME SIZE` lines, variables. Kernels:
//! `add` (parameters a, b, c: u64 addresses and count: u32 of u32 values), `sleep` (milliseconds: u32; the stream is busy
//! for that long), `print` (prints its parameters), `fault` (a sticky error), `panic`.
#![expect(unsafe_code, reason = "a fake GPU writes to the caller's host buffers, as a real one does")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cuda::{
    AddressRange, ContextId, CuError, CuResult, DeviceInfo, DeviceUsage, Driver, DriverInfo, EventId, FunctionId,
    FunctionInfo, GlobalInfo, HostBuffer, LaunchShape, ModuleId, ModuleInfo, ModuleLoad, Ordinal, ParamInfo, Region,
    Sink, StreamId, StreamKind, TicketId,
};
use parking_lot::{Condvar, Mutex};

/// First address of the fake's memory.
pub const BASE: u64 = 0x1000_0000_0000;
const VARIABLES: u64 = BASE + (1 << 39);

/// The fake GPU.
pub struct Fake {
    info: DriverInfo,
    sink: Arc<dyn Sink>,
    state: Mutex<State>,
    reached: Arc<(Mutex<HashMap<StreamId, u32>>, Condvar)>,
    sticky: AtomicU32,
    /// Launches so far.
    pub launches: AtomicU64,
}

#[derive(Default)]
struct State {
    memory: BTreeMap<u64, Vec<u8>>,
    contexts: HashMap<ContextId, ()>,
    streams: HashMap<StreamId, (ContextId, Option<Instant>)>,
    events: HashMap<EventId, Option<Instant>>,
    modules: HashMap<ModuleId, (ContextId, Vec<String>)>,
    next_variable: u64,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    /// A fake with `devices` devices of `memory` bytes.
    #[must_use]
    pub fn new(devices: u8, memory: u64, sink: Arc<dyn Sink>) -> Self {
        let device = |number: u8| DeviceInfo {
            name: "Fake".to_owned(),
            uuid: [number; 16],
            total_memory: memory,
            tflops: 20.0,
            attributes: vec![(1, 1024), (75, 12), (76, 0)],
            pci_bus_id: format!("0000:{number:02x}:00.0"),
        };
        let info = DriverInfo {
            cuda_version: 13050,
            driver_version: "580.0".to_owned(),
            devices: (0..devices).map(device).collect(),
            addresses: AddressRange { base: BASE, size: 1 << 39 },
            shares_process: false,
        };
        Self {
            info,
            sink,
            state: Mutex::new(State { next_variable: VARIABLES, ..State::default() }),
            reached: Arc::default(),
            sticky: AtomicU32::new(0),
            launches: AtomicU64::new(0),
        }
    }

    fn check(&self) -> CuResult {
        CuError::check(self.sticky.load(Ordering::Relaxed))
    }

    /// Waits until a stream's work so far is done.
    fn drain(&self, stream: StreamId) -> CuResult {
        self.check()?;
        let busy = self.state.lock().streams.get(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
        sleep_until(busy);
        let (pending, done) = &*self.reached;
        let mut pending = pending.lock();
        while pending.get(&stream).is_some_and(|count| *count > 0) {
            done.wait(&mut pending);
        }
        Ok(())
    }

    fn run(&self, name: &str, stream: StreamId, params: &[u8], state: &mut State) -> CuResult {
        let word = |at: usize| Some(u32::from_le_bytes(params.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(params.get(at..at + 8)?.try_into().ok()?));
        match name {
            "nothing" => {}
            "add" => {
                let add = || Some((long(0)?, long(8)?, long(16)?, u64::from(word(24)?)));
                let (a, b, c, count) = add().ok_or(CuError::INVALID_VALUE)?;
                for index in 0..count {
                    let left = state.word(a + 4 * index)?;
                    let right = state.word(b + 4 * index)?;
                    state.bytes(c + 4 * index, 4)?.copy_from_slice(&left.wrapping_add(right).to_le_bytes());
                }
            }
            "sleep" => {
                let time = Duration::from_millis(word(0).ok_or(CuError::INVALID_VALUE)?.into());
                let busy = &mut state.streams.get_mut(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
                let start = busy.map_or_else(Instant::now, |busy| busy.max(Instant::now()));
                *busy = Some(start + time);
            }
            "print" => self.sink.printed(params),
            "fault" => {
                self.sticky.store(CuError::ILLEGAL_ADDRESS.code(), Ordering::Relaxed);
                return self.check();
            }
            "panic" => std::panic::resume_unwind(Box::new("a fake kernel panics")),
            _ => return Err(CuError::NOT_FOUND),
        }
        Ok(())
    }
}

fn sleep_until(time: Option<Instant>) {
    if let Some(left) = time.and_then(|time| time.checked_duration_since(Instant::now())) {
        std::thread::sleep(left);
    }
}

fn passed(time: Option<Instant>) -> bool {
    time.is_none_or(|time| time <= Instant::now())
}

impl State {
    fn bytes(&mut self, address: u64, length: u64) -> CuResult<&mut [u8]> {
        let (start, block) = self.memory.range_mut(..=address).next_back().ok_or(CuError::INVALID_VALUE)?;
        let from = usize::try_from(address - start).map_err(|_| CuError::INVALID_VALUE)?;
        let length = usize::try_from(length).map_err(|_| CuError::INVALID_VALUE)?;
        let end = from.checked_add(length).ok_or(CuError::INVALID_VALUE)?;
        block.get_mut(from..end).ok_or(CuError::INVALID_VALUE)
    }

    fn word(&mut self, address: u64) -> CuResult<u32> {
        let bytes = self.bytes(address, 4)?;
        Ok(u32::from_le_bytes((&*bytes).try_into().map_err(|_| CuError::INVALID_VALUE)?))
    }

    fn rows(region: Region) -> impl Iterator<Item = (u64, u64)> {
        // A region that is too large for any test has a row that cannot be.
        let fits = region.bytes().is_some_and(|bytes| bytes > 0 && bytes <= 1 << 32);
        let empty = region.bytes() == Some(0);
        let region = if fits { region } else { Region::linear(0, u64::from(!empty)) };
        let region = if empty { Region { rows: 0, ..region } } else { region };
        let rows = (0..region.slices).flat_map(move |slice| (0..region.rows).map(move |row| (slice, row)));
        rows.map(move |(slice, row)| {
            let offset = slice.wrapping_mul(region.slice_pitch).wrapping_add(row.wrapping_mul(region.row_pitch));
            (region.address.wrapping_add(offset), region.width)
        })
    }

    fn stream(&self, stream: StreamId) -> CuResult {
        if self.streams.contains_key(&stream) { Ok(()) } else { Err(CuError::INVALID_HANDLE) }
    }
}

impl Driver for Fake {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    fn usage(&self, device: Ordinal) -> CuResult<DeviceUsage> {
        if device.0 as usize >= self.info.devices.len() {
            return Err(CuError::INVALID_DEVICE);
        }
        let used = self.state.lock().memory.values().map(|block| block.len() as u64).sum();
        Ok(DeviceUsage { used_memory: used, ..DeviceUsage::default() })
    }

    fn context_create(&self, context: ContextId, device: Ordinal, _: u32) -> CuResult {
        self.check()?;
        if device.0 as usize >= self.info.devices.len() {
            return Err(CuError::INVALID_DEVICE);
        }
        self.state.lock().contexts.insert(context, ());
        Ok(())
    }

    fn context_destroy(&self, context: ContextId) -> CuResult {
        let mut state = self.state.lock();
        state.contexts.remove(&context).ok_or(CuError::INVALID_CONTEXT)?;
        state.streams.retain(|_, stream| stream.0 != context);
        state.modules.retain(|_, module| module.0 != context);
        Ok(())
    }

    fn context_synchronize(&self, context: ContextId) -> CuResult {
        self.check()?;
        let streams: Vec<StreamId> = {
            let state = self.state.lock();
            state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
            state.streams.iter().filter(|(_, stream)| stream.0 == context).map(|(id, _)| *id).collect()
        };
        streams.into_iter().try_for_each(|stream| self.drain(stream))
    }

    fn context_set_limit(&self, _: ContextId, _: u32, value: u64) -> CuResult<u64> {
        Ok(value)
    }

    fn context_limit(&self, _: ContextId, _: u32) -> CuResult<u64> {
        Ok(1024)
    }

    fn mem_map(&self, _: Ordinal, address: u64, size: u64) -> CuResult {
        self.check()?;
        let size = usize::try_from(size).map_err(|_| CuError::OUT_OF_MEMORY)?;
        let mut state = self.state.lock();
        if state.memory.contains_key(&address) || address < BASE {
            return Err(CuError::INVALID_VALUE);
        }
        state.memory.insert(address, vec![0; size]);
        Ok(())
    }

    fn mem_alloc(&self, _: Ordinal, _: u64) -> CuResult<u64> {
        Err(CuError::NOT_SUPPORTED)
    }

    fn mem_unmap(&self, _: Ordinal, address: u64) -> CuResult {
        self.state.lock().memory.remove(&address).map(drop).ok_or(CuError::INVALID_VALUE)
    }

    fn copy_to_device(&self, stream: StreamId, target: Region, data: &[u8]) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        state.stream(stream)?;
        let mut rest = data;
        for (address, width) in State::rows(target) {
            let row = state.bytes(address, width)?;
            let (first, after) = rest.split_at_checked(row.len()).ok_or(CuError::INVALID_VALUE)?;
            row.copy_from_slice(first);
            rest = after;
        }
        Ok(())
    }

    fn copy_on_device(&self, stream: StreamId, target: Region, source: Region) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        state.stream(stream)?;
        let mut bytes = Vec::new();
        for (address, width) in State::rows(source) {
            bytes.extend_from_slice(state.bytes(address, width)?);
        }
        drop(state);
        self.copy_to_device(stream, target, &bytes)
    }

    fn fill(&self, stream: StreamId, target: Region, element: u8, value: u32) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        state.stream(stream)?;
        let pattern = value.to_le_bytes();
        let pattern = pattern.get(..element.into()).filter(|p| !p.is_empty()).ok_or(CuError::INVALID_VALUE)?;
        for (address, width) in State::rows(target) {
            for (byte, value) in state.bytes(address, width)?.iter_mut().zip(pattern.iter().cycle()) {
                *byte = *value;
            }
        }
        Ok(())
    }

    fn module_load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        self.check()?;
        let text = String::from_utf8_lossy(image);
        let mut state = self.state.lock();
        let mut load = ModuleLoad::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words {
                ["global", name, size] => {
                    let size = size.parse().map_err(|_| CuError::INVALID_PTX)?;
                    let address = state.next_variable;
                    state.next_variable += 1 << 20;
                    state.memory.insert(address, vec![0; size as usize]);
                    load.info.globals.push(GlobalInfo { name: name.to_owned(), address, size, managed: false });
                }
                [name] => {
                    let params = vec![ParamInfo { offset: 0, size: 8 }];
                    load.info.functions.push(FunctionInfo { name: name.to_owned(), params, ..FunctionInfo::default() });
                }
                _ => {
                    let log = format!("1:1: `{}` is no kernel", line.chars().take(20).collect::<String>());
                    let (status, info) = (CuError::INVALID_PTX.code(), ModuleInfo::default());
                    return Ok(ModuleLoad { status, log, info });
                }
            }
        }
        let names = load.info.functions.iter().map(|function| function.name.clone()).collect();
        state.modules.insert(module, (context, names));
        Ok(load)
    }

    fn module_unload(&self, module: ModuleId) -> CuResult {
        self.state.lock().modules.remove(&module).map(drop).ok_or(CuError::INVALID_HANDLE)
    }

    fn function_set_attribute(&self, _: FunctionId, _: u32, _: i32) -> CuResult {
        self.check()
    }

    fn launch(&self, stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]) -> CuResult {
        self.check()?;
        if shape.block.iter().product::<u32>() > 1024 {
            return Err(CuError::INVALID_VALUE);
        }
        self.launches.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.stream(stream)?;
        let (_, names) = state.modules.get(&function.module).ok_or(CuError::INVALID_HANDLE)?;
        let name = names.get(function.index as usize).ok_or(CuError::INVALID_HANDLE)?;
        if name == "nothing" {
            return Ok(());
        }
        let name = name.clone();
        self.run(&name, stream, params, &mut state)
    }

    fn stream_create(&self, context: ContextId, stream: StreamId, _: StreamKind, _: i32) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
        state.streams.insert(stream, (context, None));
        Ok(())
    }

    fn stream_destroy(&self, stream: StreamId) -> CuResult {
        self.state.lock().streams.remove(&stream).map(drop).ok_or(CuError::INVALID_HANDLE)
    }

    fn stream_synchronize(&self, stream: StreamId) -> CuResult {
        self.drain(stream)
    }

    fn stream_query(&self, stream: StreamId) -> CuResult<bool> {
        self.check()?;
        let busy = self.state.lock().streams.get(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
        let waiting = self.reached.0.lock().get(&stream).is_some_and(|count| *count > 0);
        Ok(passed(busy) && !waiting)
    }

    fn stream_wait_event(&self, stream: StreamId, event: EventId) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        let until = *state.events.get(&event).ok_or(CuError::INVALID_HANDLE)?;
        let busy = &mut state.streams.get_mut(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
        *busy = (*busy).max(until);
        Ok(())
    }

    fn host_callback(&self, stream: StreamId, ticket: TicketId) -> CuResult {
        self.check()?;
        let busy = self.state.lock().streams.get(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
        *self.reached.0.lock().entry(stream).or_default() += 1;
        let (sink, reached) = (Arc::clone(&self.sink), Arc::clone(&self.reached));
        std::thread::spawn(move || {
            sleep_until(busy);
            sink.reached(ticket);
            *reached.0.lock().entry(stream).or_default() -= 1;
            reached.1.notify_all();
        });
        Ok(())
    }

    fn event_create(&self, _: ContextId, event: EventId, _: bool) -> CuResult {
        self.check()?;
        self.state.lock().events.insert(event, None);
        Ok(())
    }

    fn event_destroy(&self, event: EventId) -> CuResult {
        self.state.lock().events.remove(&event).map(drop).ok_or(CuError::INVALID_HANDLE)
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        let busy = state.streams.get(&stream).ok_or(CuError::INVALID_HANDLE)?.1;
        *state.events.get_mut(&event).ok_or(CuError::INVALID_HANDLE)? = busy.or_else(|| Some(Instant::now()));
        Ok(())
    }

    fn event_query(&self, event: EventId) -> CuResult<bool> {
        self.check()?;
        Ok(passed(*self.state.lock().events.get(&event).ok_or(CuError::INVALID_HANDLE)?))
    }

    fn event_synchronize(&self, event: EventId) -> CuResult {
        self.check()?;
        let time = *self.state.lock().events.get(&event).ok_or(CuError::INVALID_HANDLE)?;
        sleep_until(time);
        self.check()
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> CuResult<f32> {
        let state = self.state.lock();
        let time = |event| state.events.get(&event).ok_or(CuError::INVALID_HANDLE)?.ok_or(CuError::INVALID_HANDLE);
        Ok(time(end)?.saturating_duration_since(time(start)?).as_secs_f32() * 1000.0)
    }

    fn copy_to_host(&self, stream: StreamId, target: HostBuffer, source: Region, wait: bool) -> CuResult {
        if wait {
            self.drain(stream)?;
        }
        self.check()?;
        let mut state = self.state.lock();
        state.stream(stream)?;
        if source.bytes() != Some(target.length as u64) {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: the caller promises a buffer of that length which nobody else uses now.
        let mut rest = unsafe { std::slice::from_raw_parts_mut(target.pointer, target.length) };
        for (address, width) in State::rows(source) {
            let row = state.bytes(address, width)?;
            let (first, after) = rest.split_at_mut_checked(row.len()).ok_or(CuError::INVALID_VALUE)?;
            first.copy_from_slice(row);
            rest = after;
        }
        Ok(())
    }
}
