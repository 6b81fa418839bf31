use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;

pub(super) const CONTEXT: ContextId = ContextId(1);
pub(super) const LEGACY: StreamId = StreamId(1);
pub(super) const DEVICE: Ordinal = Ordinal(0);

/// Collects what a session reports; callbacks wait for permission.
#[derive(Default)]
pub(super) struct Report {
    pub(super) text: Mutex<Vec<u8>>,
    pub(super) tickets: Mutex<Vec<u64>>,
    pub(super) gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Sink for Report {
    fn printed(&self, text: &[u8]) {
        self.text.lock().extend_from_slice(text);
    }

    fn reached(&self, ticket: TicketId) {
        if let Some(gate) = &*self.gate.lock() {
            gate.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        self.tickets.lock().push(ticket.0);
    }
}

/// A session with one context and its default stream, on a device that nothing else uses.
pub(super) fn session(name: &str) -> (Arc<Soft>, Arc<Report>) {
    let config = SoftConfig {
        name: format!("test {} {name}", std::process::id()),
        vram: 64 << 20,
        devices: 2,
        ..SoftConfig::default()
    };
    let report = Arc::new(Report::default());
    let soft = Soft::open(config, 42, Arc::clone(&report) as Arc<dyn Sink>).unwrap();
    soft.context_create(CONTEXT, DEVICE, 0).unwrap();
    soft.stream_create(CONTEXT, LEGACY, StreamKind::Legacy, 0).unwrap();
    (soft, report)
}

pub(super) fn read(soft: &Soft, stream: StreamId, address: u64, length: usize) -> CuResult<Vec<u8>> {
    let mut bytes = vec![0xee; length];
    let target = HostBuffer { pointer: bytes.as_mut_ptr(), length };
    soft.copy_to_host(stream, target, Region::linear(address, length as u64), true)?;
    Ok(bytes)
}

#[test]
fn memory_is_charged_to_the_byte_and_given_back() {
    let (soft, _) = session("charge");
    let base = soft.info().addresses.base;
    let used = || soft.usage(DEVICE).unwrap().used_memory;
    assert_eq!(used(), 0);
    soft.mem_map(DEVICE, base, 1000).unwrap();
    soft.mem_map(DEVICE, base + 1024, (64 << 20) - 1000).unwrap();
    assert_eq!(used(), 64 << 20);
    assert_eq!(soft.mem_map(DEVICE, base + (96 << 20), 1), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(soft.mem_map(Ordinal(1), base, 1), Err(CuError::ALREADY_MAPPED));
    assert_eq!(soft.usage(Ordinal(1)).unwrap().used_memory, 0);
    assert_eq!(soft.mem_unmap(Ordinal(1), base), Err(CuError::INVALID_VALUE));
    soft.mem_unmap(DEVICE, base).unwrap();
    assert_eq!(used(), (64 << 20) - 1000);
    assert_eq!(soft.mem_unmap(DEVICE, base), Err(CuError::INVALID_VALUE));
    let placed = soft.mem_alloc(DEVICE, 1000).unwrap();
    assert_eq!(placed % 512, 0);
    assert_eq!(soft.mem_alloc(DEVICE, 1), Err(CuError::OUT_OF_MEMORY));
    soft.mem_unmap(DEVICE, placed).unwrap();
    assert_eq!(soft.mem_map(DEVICE, base - 1, 1), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.mem_map(Ordinal(2), base, 1), Err(CuError::INVALID_DEVICE));
}

#[test]
fn two_sessions_share_a_device_but_not_addresses() {
    let (first, _) = session("shared");
    let (second, _) = session("shared");
    assert_eq!(first.info().devices, second.info().devices);
    let (one, other) = (first.info().addresses, second.info().addresses);
    assert!(one.base + one.size <= other.base || other.base + other.size <= one.base);
    first.mem_map(DEVICE, one.base, 40 << 20).unwrap();
    assert_eq!(second.mem_map(DEVICE, other.base, 40 << 20), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(read(&second, LEGACY, one.base, 4), Err(CuError::INVALID_VALUE));
    assert_eq!(second.usage(DEVICE).unwrap().used_memory, 40 << 20);
    drop(first);
    second.mem_map(DEVICE, other.base, 64 << 20).unwrap();
}

#[test]
fn copies_and_fills_reach_every_row_and_nothing_else() {
    let (soft, _) = session("copies");
    let base = soft.info().addresses.base;
    soft.mem_map(DEVICE, base, 4096).unwrap();
    soft.fill(LEGACY, Region::linear(base, 4096), 1, 0xaa).unwrap();
    let plane = Region { address: base + 3, width: 5, rows: 3, row_pitch: 16, slices: 2, slice_pitch: 64 };
    let data: Vec<u8> = (0..30).collect();
    soft.copy_to_device(LEGACY, plane, &data).unwrap();
    let all = read(&soft, LEGACY, base, 4096).unwrap();
    let expected: Vec<u8> = (0..4096_usize)
        .map(|at| {
            let (slice, row, column) = (at / 64, at % 64 / 16, (at % 16).wrapping_sub(3));
            if slice < 2 && row < 3 && column < 5 { (slice * 15 + row * 5 + column) as u8 } else { 0xaa }
        })
        .collect();
    assert_eq!(all, expected);
    let packed = Region::linear(base + 1024, 30);
    assert_eq!(soft.copy_on_device(LEGACY, packed, plane), Err(CuError::INVALID_VALUE), "shapes differ");
    let narrow = Region { address: base + 1024, row_pitch: 5, slice_pitch: 15, ..plane };
    soft.copy_on_device(LEGACY, narrow, plane).unwrap();
    assert_eq!(read(&soft, LEGACY, base + 1024, 30).unwrap(), data);
    soft.fill(LEGACY, Region::linear(base + 2048, 8), 4, 0x0102_0304).unwrap();
    soft.fill(LEGACY, Region::linear(base + 2056, 4), 2, 0x0506).unwrap();
    assert_eq!(read(&soft, LEGACY, base + 2048, 12).unwrap(), [4, 3, 2, 1, 4, 3, 2, 1, 6, 5, 6, 5]);
    assert_eq!(soft.fill(LEGACY, Region::linear(base + 1, 4), 4, 0), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.fill(LEGACY, Region::linear(base, 4), 3, 0), Err(CuError::INVALID_VALUE));
}

#[test]
fn copies_outside_of_mapped_memory_are_invalid_and_harm_nothing() {
    let (soft, _) = session("bounds");
    let base = soft.info().addresses.base;
    soft.mem_map(DEVICE, base, 100).unwrap();
    soft.mem_map(DEVICE, base + 100, 28).unwrap();
    assert_eq!(soft.copy_to_device(LEGACY, Region::linear(base, 128), &[1; 128]), Ok(()), "across two mappings");
    assert_eq!(soft.copy_to_device(LEGACY, Region::linear(base, 129), &[1; 129]), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.copy_to_device(LEGACY, Region::linear(base, 5), &[1; 4]), Err(CuError::INVALID_VALUE));
    assert_eq!(read(&soft, LEGACY, 0x1000, 8), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.fill(LEGACY, Region::linear(base + 120, 16), 1, 0), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.copy_to_device(StreamId(99), Region::linear(base, 4), &[1; 4]), Err(CuError::INVALID_HANDLE));
    assert_eq!(read(&soft, LEGACY, base, 128).unwrap(), [1; 128]);
}

#[test]
fn large_copies_are_cut_into_pieces_that_fit_together() {
    let (soft, _) = session("large");
    let base = soft.info().addresses.base;
    let size = (5 << 20) + 12_345_usize;
    soft.mem_map(DEVICE, base, 2 * size as u64).unwrap();
    let data: Vec<u8> = (0..size).map(|at| ((at / 7) ^ (at / 4096)) as u8).collect();
    let region = |at: u64| Region::linear(base + at, size as u64);
    soft.copy_to_device(LEGACY, region(0), &data).unwrap();
    soft.copy_on_device(LEGACY, region(size as u64), region(0)).unwrap();
    let mut back = vec![0; size];
    let target = HostBuffer { pointer: back.as_mut_ptr(), length: size };
    soft.copy_to_host(LEGACY, target, region(size as u64), false).unwrap();
    soft.stream_synchronize(LEGACY).unwrap();
    assert!(back == data);
    assert!(soft.usage(DEVICE).unwrap().memory_utilization > 0);
}

/// Streams of every kind around a stream that a callback holds up.
fn held_up(name: &str) -> (Arc<Soft>, Arc<Report>, mpsc::Sender<()>) {
    let (soft, report) = session(name);
    let (open, gate) = mpsc::channel();
    *report.gate.lock() = Some(gate);
    for (number, kind) in [(2, StreamKind::Blocking), (3, StreamKind::Blocking), (4, StreamKind::NonBlocking)] {
        soft.stream_create(CONTEXT, StreamId(number), kind, 0).unwrap();
    }
    soft.mem_map(DEVICE, soft.info().addresses.base, 4096).unwrap();
    (soft, report, open)
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_they_for_it() {
    let (soft, report, open) = held_up("legacy");
    let base = soft.info().addresses.base;
    let write = |stream: u64, value: u8| soft.copy_to_device(StreamId(stream), Region::linear(base, 1), &[value]);
    soft.host_callback(StreamId(2), TicketId(7)).unwrap();
    write(4, 4).unwrap();
    write(3, 3).unwrap();
    assert!(soft.stream_query(StreamId(3)).unwrap() && soft.stream_query(StreamId(4)).unwrap());
    write(1, 1).unwrap();
    assert!(!soft.stream_query(StreamId(1)).unwrap(), "the legacy stream waits for stream 2");
    write(3, 33).unwrap();
    assert!(!soft.stream_query(StreamId(3)).unwrap(), "stream 3 waits for the legacy stream");
    assert_eq!(read(&soft, StreamId(4), base, 1).unwrap(), [3]);
    open.send(()).unwrap();
    soft.context_synchronize(CONTEXT).unwrap();
    assert_eq!(read(&soft, StreamId(4), base, 1).unwrap(), [33]);
    assert_eq!(*report.tickets.lock(), [7]);
}

#[test]
fn events_order_streams_and_tell_time() {
    let (soft, _, open) = held_up("events");
    let [early, late, untimed] = [EventId(1), EventId(2), EventId(3)];
    soft.event_create(CONTEXT, early, true).unwrap();
    soft.event_create(CONTEXT, late, true).unwrap();
    soft.event_create(CONTEXT, untimed, false).unwrap();
    assert_eq!(soft.event_query(late), Ok(true), "never recorded");
    soft.event_record(early, StreamId(4)).unwrap();
    soft.host_callback(StreamId(2), TicketId(1)).unwrap();
    soft.event_record(late, StreamId(2)).unwrap();
    soft.event_record(untimed, StreamId(2)).unwrap();
    assert_eq!(soft.event_query(late), Ok(false));
    assert_eq!(soft.event_elapsed(early, late), Err(CuError::NOT_READY));
    soft.stream_wait_event(StreamId(4), late).unwrap();
    let base = soft.info().addresses.base;
    soft.copy_to_device(StreamId(4), Region::linear(base, 4), &[9; 4]).unwrap();
    assert!(!soft.stream_query(StreamId(4)).unwrap());
    open.send(()).unwrap();
    soft.event_synchronize(late).unwrap();
    soft.stream_synchronize(StreamId(4)).unwrap();
    assert_eq!(read(&soft, StreamId(4), base, 4).unwrap(), [9; 4]);
    assert!(soft.event_elapsed(early, late).unwrap() > 0.0);
    assert!(soft.event_elapsed(late, early).unwrap() < 0.0);
    assert_eq!(soft.event_elapsed(early, untimed), Err(CuError::INVALID_HANDLE));
    soft.event_destroy(late).unwrap();
    assert_eq!(soft.event_query(late), Err(CuError::INVALID_HANDLE));
}

#[test]
fn unmapping_waits_for_the_work_before_it() {
    let (soft, _, open) = held_up("unmap");
    let base = soft.info().addresses.base;
    soft.host_callback(StreamId(2), TicketId(1)).unwrap();
    soft.copy_to_device(StreamId(2), Region::linear(base, 4), &[5; 4]).unwrap();
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            soft.mem_unmap(DEVICE, base).unwrap();
            gone.store(true, Ordering::SeqCst);
        });
        // Once the end is announced, nothing new may use the memory.
        while soft.copy_to_device(StreamId(4), Region::linear(base, 4), &[6; 4]).is_ok() {
            std::thread::yield_now();
        }
        assert!(!gone.load(Ordering::SeqCst));
        open.send(()).unwrap();
    });
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn a_destroyed_stream_ends_its_work() {
    let (soft, report, open) = held_up("destroy");
    let base = soft.info().addresses.base;
    soft.host_callback(StreamId(2), TicketId(1)).unwrap();
    soft.copy_to_device(StreamId(2), Region::linear(base, 4), &[8; 4]).unwrap();
    soft.stream_destroy(StreamId(2)).unwrap();
    assert_eq!(soft.stream_query(StreamId(2)), Err(CuError::INVALID_HANDLE));
    open.send(()).unwrap();
    soft.context_synchronize(CONTEXT).unwrap();
    assert_eq!(read(&soft, StreamId(4), base, 4).unwrap(), [8; 4]);
    assert_eq!(report.tickets.lock().len(), 1);
    assert_eq!(soft.engine.state.lock().queues.len(), 3);
}

#[test]
fn dropping_a_session_ends_it_even_while_a_callback_hangs() {
    let (soft, _, open) = held_up("drop");
    let addresses = soft.info().addresses;
    soft.host_callback(StreamId(2), TicketId(1)).unwrap();
    soft.copy_to_device(StreamId(2), Region::linear(addresses.base, 4), &[8; 4]).unwrap();
    drop(soft);
    let (again, _) = session("drop");
    assert_eq!(again.usage(DEVICE).unwrap().used_memory, 0);
    open.send(()).ok();
}

#[test]
fn limits_are_kept_and_unknown_ones_refused() {
    let (soft, _) = session("limits");
    assert_eq!(soft.context_limit(CONTEXT, 0), Ok(1024));
    assert_eq!(soft.context_set_limit(CONTEXT, 0, 4000), Ok(4000));
    assert_eq!(soft.context_limit(CONTEXT, 0), Ok(4000));
    assert_eq!(soft.context_limit(CONTEXT, 2), Ok(8 << 20));
    assert_eq!(soft.context_limit(CONTEXT, 3), Err(CuError::UNSUPPORTED_LIMIT));
    assert_eq!(soft.context_limit(CONTEXT, 77), Err(CuError::INVALID_VALUE));
    assert_eq!(soft.context_limit(ContextId(5), 0), Err(CuError::INVALID_CONTEXT));
}

#[test]
fn destroying_a_context_takes_its_objects_and_leaves_memory() {
    let (soft, _) = session("context");
    let base = soft.info().addresses.base;
    soft.mem_map(DEVICE, base, 10).unwrap();
    soft.event_create(CONTEXT, EventId(1), true).unwrap();
    soft.context_destroy(CONTEXT).unwrap();
    assert_eq!(soft.stream_query(LEGACY), Err(CuError::INVALID_HANDLE));
    assert_eq!(soft.event_query(EventId(1)), Err(CuError::INVALID_HANDLE));
    assert_eq!(soft.context_destroy(CONTEXT), Err(CuError::INVALID_CONTEXT));
    let usage = soft.usage(DEVICE).unwrap();
    assert_eq!((usage.used_memory, usage.processes.len()), (10, 1));
    soft.mem_unmap(DEVICE, base).unwrap();
    assert!(soft.usage(DEVICE).unwrap().processes.is_empty());
}

#[test]
fn images_that_are_no_ptx_are_refused_with_a_reason() {
    let (soft, _) = session("images");
    let load = |image: &[u8]| soft.module_load(CONTEXT, ModuleId(1), image).unwrap();
    let mut elf = vec![0; 64];
    elf[..4].copy_from_slice(b"\x7fELF");
    elf[48] = 80;
    let cubin = load(&elf);
    assert_eq!(cubin.status, 209);
    assert!(cubin.log.contains("sm_80") && cubin.log.contains("PTX"), "{}", cubin.log);
    assert_eq!(load(b"\x7fTileIR....").status, 209);
    assert_eq!(load(b"garbage").status, 200);
    let fatbin =
        crate::image::tests::build(&[(2, 90, 0, vec![0; 16], 16), (1, 130, 0, b".version 8.0\0".to_vec(), 13)]);
    let old = load(&fatbin);
    assert_eq!(old.status, 209);
    assert!(old.log.contains("elf 90") && old.log.contains("12.0"), "{}", old.log);
    assert_eq!(load(&fatbin[..40]).status, 200);
}
