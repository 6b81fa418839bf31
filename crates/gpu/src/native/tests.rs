//! A driver by path, through the front door. Which driver says the environment: NVIDIA's, or our own library with the
//! software GPU behind it.

use std::time::Duration;

use parking_lot::Condvar;

use super::*;

const CONTEXT: ContextId = ContextId(1);
const LEGACY: StreamId = StreamId(1);
const SIDE: StreamId = StreamId(2);
const DEVICE: Ordinal = Ordinal(0);
const MODULE: ModuleId = ModuleId(1);

#[derive(Default)]
struct Report {
    tickets: Mutex<Vec<u64>>,
    changed: Condvar,
}

impl Sink for Report {
    fn printed(&self, _: &[u8]) {}

    fn reached(&self, ticket: TicketId) {
        self.tickets.lock().push(ticket.0);
        self.changed.notify_all();
    }
}

fn session() -> (Arc<Native>, Arc<Report>) {
    let path = std::env::var_os("TENSOR_FUSION_TEST_DRIVER").expect("TENSOR_FUSION_TEST_DRIVER names a libcuda.so.1");
    let report = Arc::new(Report::default());
    let native = Native::open(path, std::process::id(), Arc::clone(&report) as Arc<dyn Sink>).unwrap();
    native.context_create(CONTEXT, DEVICE, 0).unwrap();
    native.stream_create(CONTEXT, LEGACY, StreamKind::Legacy, 0).unwrap();
    native.stream_create(CONTEXT, SIDE, StreamKind::NonBlocking, 0).unwrap();
    (native, report)
}

/// Memory, wherever the driver can have it.
fn memory(native: &Native, offset: u64, size: u64) -> u64 {
    let range = native.info().addresses;
    if range.size == 0 {
        return native.mem_alloc(DEVICE, size).unwrap();
    }
    native.mem_map(DEVICE, range.base + offset, size).unwrap();
    range.base + offset
}

fn read(native: &Native, stream: StreamId, source: Region) -> Vec<u8> {
    let mut bytes = vec![0; source.bytes().unwrap() as usize];
    let target = HostBuffer { pointer: bytes.as_mut_ptr(), length: bytes.len() };
    native.copy_to_host(stream, target, source, true).unwrap();
    bytes
}

const TEXT: &str = ".version 7.0
.target sm_52
.address_size 64
.visible .global .align 4 .u32 bias = 1000;
.visible .entry square(.param .u64 values, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [values];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd2, %r5, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r6, [bias];
    mad.lo.s32 %r7, %r5, %r5, %r6;
    st.global.u32 [%rd3], %r7;
DONE:
    ret;
}
";

#[test]
#[ignore = "needs a driver: TENSOR_FUSION_TEST_DRIVER"]
fn a_kernel_runs_on_memory_that_we_placed() {
    let (native, _) = session();
    assert!(native.info().cuda_version >= 12_000);
    let device = &native.info().devices[0];
    assert!(!device.name.is_empty() && device.total_memory > 0 && device.attribute(10) == Some(32), "{device:?}");
    let before = native.usage(DEVICE).unwrap().used_memory;
    let values = memory(&native, 0, 4000);
    let other = memory(&native, 4096, 3 << 20);
    assert!(native.usage(DEVICE).unwrap().used_memory > before);
    let loaded = native.module_load(CONTEXT, MODULE, TEXT.as_bytes()).unwrap();
    assert_eq!(loaded.status, 0, "{}", loaded.log);
    let function = &loaded.info.functions[0];
    assert_eq!((function.name.as_str(), function.params.len()), ("square", 2));
    assert_eq!(function.params[1], cuda::ParamInfo { offset: 8, size: 4 });
    let bias = &loaded.info.globals[0];
    assert_eq!((bias.name.as_str(), bias.size), ("bias", 4));
    native.copy_to_device(LEGACY, Region::linear(bias.address, 4), &7_u32.to_le_bytes()).unwrap();
    let mut params = values.to_le_bytes().to_vec();
    params.extend_from_slice(&1000_u32.to_le_bytes());
    let shape =
        LaunchShape { grid: [8, 1, 1], block: [128, 1, 1], cluster: [1; 3], shared_bytes: 0, cooperative: false };
    let id = FunctionId { module: MODULE, index: 0 };
    native.launch(LEGACY, id, shape, &params).unwrap();
    let expected: Vec<u8> = (0..1000_u32).flat_map(|at| (at * at + 7).to_le_bytes()).collect();
    assert_eq!(read(&native, LEGACY, Region::linear(values, 4000)), expected);
    let too_many = LaunchShape { block: [2048, 1, 1], ..shape };
    assert_eq!(native.launch(LEGACY, id, too_many, &params), Err(CuError::INVALID_VALUE));
    native.module_unload(MODULE).unwrap();
    native.mem_unmap(DEVICE, values).unwrap();
    assert_eq!(native.mem_unmap(DEVICE, values), Err(CuError::INVALID_VALUE));
    native.mem_unmap(DEVICE, other).unwrap();
    native.context_destroy(CONTEXT).unwrap();
}

#[test]
#[ignore = "needs a driver: TENSOR_FUSION_TEST_DRIVER"]
fn strided_copies_and_fills_reach_every_row_and_nothing_else() {
    let (native, _) = session();
    let base = memory(&native, 8 << 20, 4096);
    native.fill(LEGACY, Region::linear(base, 4096), 1, 0xaa).unwrap();
    let plane = Region { address: base, width: 5, rows: 3, row_pitch: 16, slices: 2, slice_pitch: 64 };
    let data: Vec<u8> = (0..30).collect();
    native.copy_to_device(LEGACY, plane, &data).unwrap();
    let expected: Vec<u8> = (0..256_usize)
        .map(|at| {
            let (slice, row, column) = (at / 64, at % 64 / 16, at % 16);
            if slice < 2 && row < 3 && column < 5 { (slice * 15 + row * 5 + column) as u8 } else { 0xaa }
        })
        .collect();
    assert_eq!(read(&native, LEGACY, Region::linear(base, 256)), expected);
    assert_eq!(read(&native, LEGACY, plane), data);
    let across = Region { rows: 1, ..plane };
    assert_eq!(read(&native, LEGACY, across), [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]);
    native.fill(LEGACY, Region { address: base + 1024, width: 8, ..plane }, 4, 0x0102_0304).unwrap();
    assert_eq!(read(&native, LEGACY, Region::linear(base + 1024 + 64, 9)), [4, 3, 2, 1, 4, 3, 2, 1, 0xaa]);
    native.mem_unmap(DEVICE, base).unwrap();
}

#[test]
#[ignore = "needs a driver: TENSOR_FUSION_TEST_DRIVER"]
fn events_callbacks_and_errors_come_through() {
    let (native, report) = session();
    let [start, end] = [EventId(1), EventId(2)];
    native.event_create(CONTEXT, start, true).unwrap();
    native.event_create(CONTEXT, end, true).unwrap();
    native.event_record(start, SIDE).unwrap();
    native.host_callback(SIDE, TicketId(9)).unwrap();
    native.event_record(end, SIDE).unwrap();
    native.stream_wait_event(LEGACY, end).unwrap();
    native.stream_synchronize(LEGACY).unwrap();
    assert_eq!(*report.tickets.lock(), [9]);
    native.event_synchronize(end).unwrap();
    assert!(native.event_query(end).unwrap() && native.stream_query(SIDE).unwrap());
    assert!(native.event_elapsed(start, end).unwrap() >= 0.0);
    let bad =
        native.module_load(CONTEXT, MODULE, b".version 7.0\n.target sm_52\n.address_size 64\nnonsense;\n").unwrap();
    assert_ne!(bad.status, 0);
    assert!(!bad.log.is_empty());
    assert_eq!(native.stream_query(StreamId(77)), Err(CuError::INVALID_HANDLE));
    native.stream_destroy(SIDE).unwrap();
    assert_eq!(native.stream_query(SIDE), Err(CuError::INVALID_HANDLE));
    // Nothing is left that could call back later.
    let mut tickets = report.tickets.lock();
    report.changed.wait_for(&mut tickets, Duration::from_millis(10));
    assert_eq!(tickets.len(), 1);
}

#[test]
fn a_library_that_is_no_driver_is_refused() {
    let sink = || Arc::new(cuda::NoSink) as Arc<dyn Sink>;
    assert_eq!(Native::open("/does/not/exist.so", 1, sink()).unwrap_err(), CuError::SHARED_OBJECT_INIT_FAILED);
    assert_eq!(Native::open("libc.so.6", 1, sink()).unwrap_err(), CuError::SHARED_OBJECT_SYMBOL_NOT_FOUND);
}
