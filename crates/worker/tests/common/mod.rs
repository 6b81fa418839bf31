//! A worker with a fake GPU, and clients of it.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda::*;
use limiter::fake::Fake;
use parking_lot::Mutex;
use wire::{ConnectOptions, Endpoint, Remote};
use worker::{Worker, WorkerConfig, serve};

pub(crate) use limiter::fake::BASE;

pub(crate) const DEVICE: Ordinal = Ordinal(0);
pub(crate) const CONTEXT: ContextId = ContextId(1);
pub(crate) const STREAM: StreamId = StreamId(2);
pub(crate) const MODULE: ModuleId = ModuleId(3);
pub(crate) const IMAGE: &[u8] = b"nothing\nadd\nsleep\nprint\nfault\npanic\nglobal table 4096";
pub(crate) const NOTHING: u32 = 0;
pub(crate) const ADD: u32 = 1;
pub(crate) const SLEEP: u32 = 2;
pub(crate) const PRINT: u32 = 3;
pub(crate) const FAULT: u32 = 4;
pub(crate) const PANIC: u32 = 5;

/// Keeps what the driver reports.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) text: Mutex<Vec<u8>>,
    pub(crate) tickets: Mutex<Vec<TicketId>>,
}

impl Sink for Recorder {
    fn printed(&self, text: &[u8]) {
        self.text.lock().extend_from_slice(text);
    }
    fn reached(&self, ticket: TicketId) {
        self.tickets.lock().push(ticket);
    }
}

pub(crate) fn config(vram: u64) -> WorkerConfig {
    WorkerConfig::new(vram, |_, sink| Ok(Arc::new(Fake::new(1, 64 << 30, sink))))
}

pub(crate) fn tcp() -> Endpoint {
    "tcp://127.0.0.1:0".parse().unwrap()
}

pub(crate) fn unix() -> Endpoint {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tensor-fusion-test-{}-{number}.sock", std::process::id());
    Endpoint::Unix { path: std::env::temp_dir().join(name) }
}

pub(crate) fn start(endpoint: &Endpoint, config: WorkerConfig) -> Worker {
    serve(endpoint.listen().unwrap(), config).unwrap()
}

pub(crate) fn options() -> ConnectOptions {
    ConnectOptions::new().unwrap()
}

pub(crate) fn connect(worker: &Worker, sink: Arc<dyn Sink>) -> Remote {
    Remote::connect(worker.endpoint(), &options(), sink).unwrap()
}

/// A client with a context, a stream and a module.
pub(crate) fn client(worker: &Worker) -> Remote {
    let remote = connect(worker, Arc::new(NoSink));
    prepare(&remote);
    remote
}

pub(crate) fn prepare(driver: &dyn Driver) {
    driver.context_create(CONTEXT, DEVICE, 0).unwrap();
    driver.stream_create(CONTEXT, STREAM, StreamKind::NonBlocking, 0).unwrap();
    let load = driver.module_load(CONTEXT, MODULE, IMAGE).unwrap();
    assert_eq!((load.status, load.info.functions.len(), load.info.globals.len()), (0, 6, 1));
}

pub(crate) fn function(index: u32) -> FunctionId {
    FunctionId { module: MODULE, index }
}

pub(crate) fn shape(threads: u32) -> LaunchShape {
    let ones = [1; 3];
    LaunchShape { grid: ones, block: [threads, 1, 1], cluster: ones, shared_bytes: 0, cooperative: false }
}

pub(crate) fn launch(driver: &dyn Driver, kernel: u32, params: &[u8]) -> CuResult {
    driver.launch(STREAM, function(kernel), shape(1), params)
}

pub(crate) fn buffer(bytes: &mut [u8]) -> HostBuffer {
    HostBuffer { pointer: bytes.as_mut_ptr(), length: bytes.len() }
}

pub(crate) fn read(driver: &dyn Driver, address: u64, bytes: &mut [u8]) -> CuResult {
    let length = bytes.len() as u64;
    driver.copy_to_host(STREAM, buffer(bytes), Region::linear(address, length), true)
}

pub(crate) fn write(driver: &dyn Driver, address: u64, bytes: &[u8]) -> CuResult {
    driver.copy_to_device(STREAM, Region::linear(address, bytes.len() as u64), bytes)
}

/// Waits until something is so, at most ten seconds.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}

pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        bytes.extend_from_slice(&(state ^ (state >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
