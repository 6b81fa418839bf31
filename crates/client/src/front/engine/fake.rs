//! A driver for tests: device memory is a table of bytes, work is done at once, launches are written down.
//!
//! Its images are lines `entry NAME SIZE…` and `global NAME SIZE`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuda::{
    AddressRange, ContextId, CuError, CuResult, DeviceInfo, DeviceUsage, Driver, DriverInfo, EventId, FunctionId,
    FunctionInfo, GlobalInfo, HostBuffer, LaunchShape, ModuleId, ModuleInfo, ModuleLoad, Ordinal, ParamInfo, Region,
    Sink, StreamId, StreamKind, TicketId,
};
use parking_lot::Mutex;

use super::{Callbacks, Engine};

pub(crate) const BASE: u64 = 0x1000_0000_0000;
pub(crate) const TOTAL: u64 = 1 << 20;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) maps: BTreeMap<u64, (u32, Vec<u8>)>,
    pub(crate) log: Vec<String>,
    pub(crate) launches: Vec<(StreamId, FunctionId, LaunchShape, Vec<u8>)>,
    pub(crate) sticky: Option<CuError>,
    next_global: u64,
}

pub(crate) struct Fake {
    info: DriverInfo,
    sink: Arc<dyn Sink>,
    pub(crate) state: Mutex<State>,
}

impl State {
    fn used(&self) -> u64 {
        self.maps.values().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn bytes(&mut self, address: u64, length: u64) -> CuResult<&mut [u8]> {
        let (base, (_, bytes)) = self.maps.range_mut(..=address).next_back().ok_or(CuError::ILLEGAL_ADDRESS)?;
        let start = (address - base) as usize;
        bytes.get_mut(start..start + length as usize).ok_or(CuError::ILLEGAL_ADDRESS)
    }
}

fn rows(region: Region) -> impl Iterator<Item = u64> {
    (0..region.slices).flat_map(move |slice| {
        (0..region.rows).map(move |row| region.address + slice * region.slice_pitch + row * region.row_pitch)
    })
}

/// An engine over a fake with so many devices.
pub(crate) fn engine(devices: u32) -> (Engine, Arc<Fake>) {
    let callbacks = Arc::new(Callbacks::default());
    let device = |index: u32| DeviceInfo {
        name: format!("Fake {index}"),
        uuid: [7; 16],
        total_memory: TOTAL,
        tflops: 1.0,
        attributes: vec![(1, 1024), (10, 32), (16, 4), (39, 1024), (75, 12), (81, 65536), (97, 65536), (106, 16)],
        pci_bus_id: "0000:01:00.0".to_owned(),
    };
    let info = DriverInfo {
        cuda_version: 13050,
        driver_version: "580.1".to_owned(),
        devices: (0..devices).map(device).collect(),
        addresses: AddressRange { base: BASE, size: 1 << 30 },
        // No memory of this process is at its addresses.
        shares_process: true,
    };
    let fake = Arc::new(Fake { info, sink: callbacks.clone(), state: Mutex::default() });
    (Engine::new(fake.clone(), callbacks), fake)
}

impl Driver for Fake {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    fn usage(&self, _: Ordinal) -> CuResult<DeviceUsage> {
        Ok(DeviceUsage { used_memory: self.state.lock().used(), ..DeviceUsage::default() })
    }

    fn context_create(&self, context: ContextId, device: Ordinal, flags: u32) -> CuResult {
        self.state.lock().log.push(format!("context {} on {} flags {flags}", context.0, device.0));
        Ok(())
    }

    fn context_destroy(&self, _: ContextId) -> CuResult {
        self.state.lock().log.push("destroy".to_owned());
        Ok(())
    }

    fn context_synchronize(&self, _: ContextId) -> CuResult {
        self.state.lock().sticky.map_or(Ok(()), Err)
    }

    fn context_set_limit(&self, _: ContextId, _: u32, value: u64) -> CuResult<u64> {
        Ok(value)
    }

    fn context_limit(&self, _: ContextId, _: u32) -> CuResult<u64> {
        Ok(1024)
    }

    fn mem_map(&self, device: Ordinal, address: u64, size: u64) -> CuResult {
        let mut state = self.state.lock();
        if state.used() + size > TOTAL {
            return Err(CuError::OUT_OF_MEMORY);
        }
        let overlaps = state
            .maps
            .range(..address + size)
            .next_back()
            .is_some_and(|(base, (_, bytes))| base + bytes.len() as u64 > address);
        assert!(!overlaps, "mappings overlap");
        state.maps.insert(address, (device.0, vec![0; size as usize]));
        Ok(())
    }

    fn mem_alloc(&self, _: Ordinal, _: u64) -> CuResult<u64> {
        Err(CuError::NOT_SUPPORTED)
    }

    fn mem_unmap(&self, _: Ordinal, address: u64) -> CuResult {
        self.state.lock().maps.remove(&address).map(drop).ok_or(CuError::INVALID_VALUE)
    }

    fn copy_to_device(&self, _: StreamId, target: Region, data: &[u8]) -> CuResult {
        let mut state = self.state.lock();
        assert_eq!(target.bytes(), Some(data.len() as u64));
        for (row, data) in rows(target).zip(data.chunks_exact(target.width as usize)) {
            state.bytes(row, target.width)?.copy_from_slice(data);
        }
        Ok(())
    }

    fn copy_on_device(&self, _: StreamId, target: Region, source: Region) -> CuResult {
        let mut state = self.state.lock();
        for (to, from) in rows(target).zip(rows(source)) {
            let row = state.bytes(from, source.width)?.to_vec();
            state.bytes(to, target.width)?.copy_from_slice(&row);
        }
        Ok(())
    }

    fn fill(&self, _: StreamId, target: Region, element: u8, value: u32) -> CuResult {
        let mut state = self.state.lock();
        for row in rows(target) {
            for chunk in state.bytes(row, target.width)?.chunks_exact_mut(element as usize) {
                chunk.copy_from_slice(&value.to_le_bytes()[..element as usize]);
            }
        }
        Ok(())
    }

    fn module_load(&self, _: ContextId, _: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        let mut info = ModuleInfo::default();
        for line in String::from_utf8_lossy(image).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["entry", name, sizes @ ..] => {
                    let mut offset = 0_u32;
                    let mut params = Vec::new();
                    for size in sizes {
                        let size: u32 = size.parse().unwrap();
                        offset = offset.next_multiple_of(size);
                        params.push(ParamInfo { offset, size });
                        offset += size;
                    }
                    let name = (*name).to_owned();
                    info.functions.push(FunctionInfo {
                        name,
                        params,
                        max_threads: 1024,
                        registers: 32,
                        ..FunctionInfo::default()
                    });
                }
                ["global", name, size] => {
                    let mut state = self.state.lock();
                    state.next_global += 0x1000;
                    let address = BASE + (1 << 31) + state.next_global;
                    let size: u64 = size.parse().unwrap();
                    state.maps.insert(address, (0, vec![0; size as usize]));
                    info.globals.push(GlobalInfo { name: (*name).to_owned(), address, size, managed: false });
                }
                [] => {}
                _ => return Ok(ModuleLoad { status: 218, log: format!("1:1: what is `{line}`?"), info }),
            }
        }
        self.state.lock().log.push("module".to_owned());
        Ok(ModuleLoad { status: 0, log: String::new(), info })
    }

    fn module_unload(&self, _: ModuleId) -> CuResult {
        self.state.lock().log.push("unload".to_owned());
        Ok(())
    }

    fn function_set_attribute(&self, _: FunctionId, attribute: u32, value: i32) -> CuResult {
        self.state.lock().log.push(format!("attribute {attribute} = {value}"));
        Ok(())
    }

    fn launch(&self, stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]) -> CuResult {
        self.state.lock().launches.push((stream, function, shape, params.to_vec()));
        Ok(())
    }

    fn stream_create(&self, _: ContextId, _: StreamId, kind: StreamKind, priority: i32) -> CuResult {
        self.state.lock().log.push(format!("stream {kind:?} {priority}"));
        Ok(())
    }

    fn stream_destroy(&self, _: StreamId) -> CuResult {
        Ok(())
    }

    fn stream_synchronize(&self, _: StreamId) -> CuResult {
        self.state.lock().log.push("wait for a stream".to_owned());
        self.state.lock().sticky.map_or(Ok(()), Err)
    }

    fn stream_query(&self, _: StreamId) -> CuResult<bool> {
        Ok(true)
    }

    fn stream_wait_event(&self, _: StreamId, _: EventId) -> CuResult {
        Ok(())
    }

    fn host_callback(&self, _: StreamId, ticket: TicketId) -> CuResult {
        self.sink.reached(ticket);
        Ok(())
    }

    fn event_create(&self, _: ContextId, _: EventId, _: bool) -> CuResult {
        Ok(())
    }

    fn event_destroy(&self, _: EventId) -> CuResult {
        Ok(())
    }

    fn event_record(&self, _: EventId, _: StreamId) -> CuResult {
        Ok(())
    }

    fn event_query(&self, _: EventId) -> CuResult<bool> {
        Ok(true)
    }

    fn event_synchronize(&self, _: EventId) -> CuResult {
        Ok(())
    }

    fn event_elapsed(&self, _: EventId, _: EventId) -> CuResult<f32> {
        Ok(1.5)
    }

    fn copy_to_host(&self, _: StreamId, target: HostBuffer, source: Region, _: bool) -> CuResult {
        let mut state = self.state.lock();
        let mut packed = Vec::new();
        for row in rows(source) {
            packed.extend_from_slice(state.bytes(row, source.width)?);
        }
        assert_eq!(packed.len(), target.length);
        super::raw::write(target.pointer as u64, &packed)
    }
}
