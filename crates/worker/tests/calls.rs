//! Every call travels, in order, over TCP and over a Unix socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use cuda::*;

#[test]
fn a_vector_addition_over_tcp_and_over_a_unix_socket() {
    for endpoint in [tcp(), unix()] {
        let worker = start(&endpoint, config(1 << 30));
        let remote = client(&worker);
        let count = 100_000_u32;
        let bytes = u64::from(count) * 4;
        let (a, b, c) = (BASE, BASE + (1 << 24), BASE + (2 << 24));
        for address in [a, b, c] {
            remote.mem_map(DEVICE, address, bytes).unwrap();
        }
        let values = |seed: u32| (0..count).map(|n| n.wrapping_mul(seed)).collect::<Vec<_>>();
        let raw = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let (left, right) = (values(3), values(2_654_435_761));
        write(&remote, a, &raw(&left)).unwrap();
        write(&remote, b, &raw(&right)).unwrap();
        let mut params = Vec::new();
        for address in [a, b, c] {
            params.extend_from_slice(&address.to_le_bytes());
        }
        params.extend_from_slice(&count.to_le_bytes());
        launch(&remote, ADD, &params).unwrap();
        let mut result = vec![0; bytes as usize];
        read(&remote, c, &mut result).unwrap();
        let sums: Vec<u32> = left.iter().zip(&right).map(|(a, b)| a.wrapping_add(*b)).collect();
        assert!(result == raw(&sums));
        for address in [a, b, c] {
            remote.mem_unmap(DEVICE, address).unwrap();
        }
        assert_eq!(worker.used(), 4096);
        drop(remote);
        eventually("the session is gone", || worker.sessions() == 0);
        assert_eq!(worker.used(), 0);
    }
}

#[test]
fn all_the_small_calls_arrive() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    assert_eq!(remote.info().devices.len(), 1);
    assert_eq!(remote.info().devices[0].total_memory, 1 << 30);
    assert_eq!(remote.context_limit(CONTEXT, 0), Ok(1024));
    assert_eq!(remote.context_set_limit(CONTEXT, 0, 77), Ok(77));
    assert_eq!(remote.mem_alloc(DEVICE, 5), Err(CuError::NOT_SUPPORTED));
    remote.function_set_attribute(function(ADD), 8, 65536).unwrap();
    let (start, end) = (EventId(10), EventId(11));
    for event in [start, end] {
        remote.event_create(CONTEXT, event, true).unwrap();
        assert_eq!(remote.event_query(event), Ok(true));
    }
    remote.event_record(start, STREAM).unwrap();
    launch(&remote, SLEEP, &200_u32.to_le_bytes()).unwrap();
    remote.event_record(end, STREAM).unwrap();
    assert_eq!(remote.event_query(end), Ok(false));
    assert_eq!(remote.stream_query(STREAM), Ok(false));
    let other = StreamId(20);
    remote.stream_create(CONTEXT, other, StreamKind::Blocking, -1).unwrap();
    assert_eq!(remote.stream_query(other), Ok(true));
    remote.stream_wait_event(other, end).unwrap();
    assert_eq!(remote.stream_query(other), Ok(false));
    remote.event_synchronize(end).unwrap();
    assert_eq!(remote.event_query(end), Ok(true));
    assert!(remote.event_elapsed(start, end).unwrap() >= 199.0);
    remote.context_synchronize(CONTEXT).unwrap();
    remote.stream_synchronize(other).unwrap();
    remote.mem_map(DEVICE, BASE, 256).unwrap();
    remote.fill(STREAM, Region::linear(BASE, 256), 2, 0xabcd).unwrap();
    let (source, target) =
        (Region::linear(BASE, 64), Region { width: 16, rows: 4, row_pitch: 32, ..Region::linear(BASE + 100, 0) });
    let source = Region { width: 16, rows: 4, row_pitch: 16, ..source };
    remote.copy_on_device(STREAM, target, source).unwrap();
    let mut bytes = [0; 256];
    read(&remote, BASE, &mut bytes).unwrap();
    assert!(bytes.chunks(2).all(|pair| pair == [0xcd, 0xab]));
    for event in [start, end] {
        remote.event_destroy(event).unwrap();
    }
    remote.stream_destroy(other).unwrap();
    remote.module_unload(MODULE).unwrap();
    assert_eq!(remote.usage(DEVICE).unwrap().used_memory, 256);
    assert_eq!(remote.usage(DEVICE).unwrap().processes[0].pid, std::process::id());
    assert_eq!(remote.usage(Ordinal(1)), Err(CuError::INVALID_DEVICE));
    remote.context_destroy(CONTEXT).unwrap();
    assert_eq!(remote.context_synchronize(CONTEXT), Err(CuError::INVALID_CONTEXT));
}

#[test]
fn strided_copies_of_any_size_arrive_whole() {
    let worker = start(&unix(), config(1 << 30));
    let remote = client(&worker);
    remote.mem_map(DEVICE, BASE, 64 << 20).unwrap();
    let shapes = [
        Region { address: BASE + 3, width: 100, rows: 7, row_pitch: 128, slices: 3, slice_pitch: 1000 },
        Region { address: BASE, width: 3000, rows: 900, row_pitch: 4096, slices: 2, slice_pitch: 4096 * 1000 },
        Region { address: BASE + 1, width: 3 << 20, rows: 2, row_pitch: 4 << 20, slices: 2, slice_pitch: 16 << 20 },
    ];
    for (seed, region) in shapes.into_iter().enumerate() {
        let bytes = pattern(region.bytes().unwrap() as usize, seed as u64);
        remote.fill(STREAM, Region::linear(BASE, 64 << 20), 1, 0).unwrap();
        remote.copy_to_device(STREAM, region, &bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        remote.copy_to_host(STREAM, buffer(&mut back), region, true).unwrap();
        assert!(back == bytes);
        let mut all = vec![0; 64 << 20];
        read(&remote, BASE, &mut all).unwrap();
        let start = (region.address - BASE) as usize;
        for (index, row) in bytes.chunks(region.width as usize).enumerate() {
            let (slice, line) = (index as u64 / region.rows, index as u64 % region.rows);
            let at = start + (slice * region.slice_pitch + line * region.row_pitch) as usize;
            assert!(all[at..at + row.len()] == *row);
        }
        let copied: usize = all.iter().filter(|byte| **byte != 0).count();
        assert!(copied <= bytes.len());
    }
}

#[test]
fn copies_that_complete_later_are_there_after_a_wait() {
    for endpoint in [tcp(), unix()] {
        let worker = start(&endpoint, config(1 << 30));
        let remote = client(&worker);
        remote.mem_map(DEVICE, BASE, 32 << 20).unwrap();
        let bytes = pattern(16 << 20, 9);
        for size in [1, 1000, 100_000, 16 << 20] {
            write(&remote, BASE, &bytes[..size]).unwrap();
            let event = EventId(size as u64);
            remote.event_create(CONTEXT, event, false).unwrap();
            let mut back = vec![0; size];
            let begun = Instant::now();
            launch(&remote, SLEEP, &400_u32.to_le_bytes()).unwrap();
            let source = Region::linear(BASE, size as u64);
            remote.copy_to_host(STREAM, buffer(&mut back), source, false).unwrap();
            remote.event_record(event, STREAM).unwrap();
            assert!(begun.elapsed() < Duration::from_millis(350), "the call has waited");
            remote.event_synchronize(event).unwrap();
            assert!(back == bytes[..size]);
            let mut again = vec![0; size];
            remote.copy_to_host(STREAM, buffer(&mut again), source, false).unwrap();
            while !remote.stream_query(STREAM).unwrap() {}
            assert!(again == bytes[..size]);
        }
    }
}

#[test]
fn bulk_copies_in_both_directions_at_once_do_not_wait_for_each_other() {
    for endpoint in [tcp(), unix()] {
        let worker = start(&endpoint, config(1 << 30));
        let remote = client(&worker);
        let size = 64 << 20;
        let bytes = pattern(size, 1);
        for address in [BASE, BASE + (1 << 30)] {
            remote.mem_map(DEVICE, address, size as u64).unwrap();
        }
        write(&remote, BASE, &bytes).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..4).for_each(|_| write(&remote, BASE + (1 << 30), &bytes).unwrap()));
            scope.spawn(|| {
                for _ in 0..4 {
                    let mut back = vec![0; size];
                    read(&remote, BASE, &mut back).unwrap();
                    assert!(back == bytes);
                }
            });
            // And on one thread: nobody waits for the copy to the host while the other one is being sent.
            scope.spawn(|| {
                let mut back = vec![0; size];
                let source = Region::linear(BASE, size as u64);
                remote.copy_to_host(STREAM, buffer(&mut back), source, false).unwrap();
                write(&remote, BASE + (1 << 30), &bytes).unwrap();
                remote.stream_synchronize(STREAM).unwrap();
                assert!(back == bytes);
            });
        });
        let mut back = vec![0; size];
        read(&remote, BASE + (1 << 30), &mut back).unwrap();
        assert!(back == bytes);
    }
}

#[test]
fn commands_of_two_threads_keep_their_order() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    remote.mem_map(DEVICE, BASE, 8 * 4000).unwrap();
    // Each step reads what the other thread's step has written, like a forward and a backward thread on one stream.
    let step = parking_lot::Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let mut step = step.lock();
                    if *step == 3999 {
                        return;
                    }
                    if *step == 0 {
                        write(&remote, BASE, &1_u32.to_le_bytes()).unwrap();
                    }
                    let (from, to) = (BASE + *step * 8, BASE + (*step + 1) * 8);
                    let mut params = Vec::new();
                    for address in [from, BASE, to] {
                        params.extend_from_slice(&address.to_le_bytes());
                    }
                    params.extend_from_slice(&1_u32.to_le_bytes());
                    launch(&remote, ADD, &params).unwrap();
                    *step += 1;
                }
            });
        }
    });
    let mut last = [0; 4];
    read(&remote, BASE + 8 * 3999, &mut last).unwrap();
    assert_eq!(u32::from_le_bytes(last), 4000);
}

#[test]
fn a_waiting_call_does_not_hold_up_other_threads() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    launch(&remote, SLEEP, &2000_u32.to_le_bytes()).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            remote.stream_synchronize(STREAM).unwrap();
            assert!(begun.elapsed() >= Duration::from_millis(1900));
        });
        scope.spawn(|| {
            for _ in 0..50 {
                remote.context_limit(CONTEXT, 0).unwrap();
                remote.event_create(CONTEXT, EventId(9), false).unwrap();
                remote.event_synchronize(EventId(9)).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
        });
    });
}

#[test]
fn errors_of_one_way_calls_come_with_the_next_wait_once() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    remote.launch(STREAM, function(NOTHING), shape(2048), &[]).unwrap();
    launch(&remote, 99, &[]).unwrap();
    // What was made must be known to be made.
    remote.mem_map(DEVICE, BASE, 8).unwrap();
    assert_eq!(remote.stream_synchronize(STREAM), Err(CuError::INVALID_VALUE));
    assert_eq!(remote.stream_synchronize(STREAM), Ok(()));
    assert_eq!(write(&remote, BASE + 4096, &[1; 100]), Ok(()));
    assert_eq!(remote.context_synchronize(CONTEXT), Err(CuError::INVALID_VALUE));
    launch(&remote, FAULT, &[]).unwrap();
    for _ in 0..3 {
        assert_eq!(remote.stream_synchronize(STREAM), Err(CuError::ILLEGAL_ADDRESS));
        assert_eq!(launch(&remote, NOTHING, &[]), Err(CuError::ILLEGAL_ADDRESS));
        assert_eq!(remote.mem_map(DEVICE, BASE + (1 << 20), 8), Err(CuError::ILLEGAL_ADDRESS));
    }
    assert!(remote.usage(DEVICE).is_ok());
    // Another session knows nothing of it.
    client(&worker).stream_synchronize(STREAM).unwrap();
}

#[test]
fn the_limit_holds_over_sessions_to_the_byte() {
    let worker = start(&tcp(), config(10_000));
    let (one, two) = (client(&worker), client(&worker));
    // Each has loaded a variable of 4096 bytes.
    assert_eq!(one.mem_map(DEVICE, BASE, 1809), Err(CuError::OUT_OF_MEMORY));
    one.mem_map(DEVICE, BASE, 1808).unwrap();
    assert_eq!(two.mem_map(DEVICE, BASE, 1), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(two.usage(DEVICE).unwrap().used_memory, 10_000);
    drop(one);
    eventually("the first session's memory is free", || worker.used() == 4096);
    two.mem_map(DEVICE, BASE, 5904).unwrap();
}

#[test]
fn large_images_travel_in_parts() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    let mut image = String::new();
    for number in 0..400_000 {
        image.push_str(&format!("kernel_{number}\n"));
    }
    assert!(image.len() > 4 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|_| launch(&remote, NOTHING, &[0; 40]).unwrap()));
        let load = remote.module_load(CONTEXT, ModuleId(9), image.as_bytes()).unwrap();
        assert_eq!(load.info.functions.len(), 400_000);
        assert_eq!(load.info.functions[399_999].name, "kernel_399999");
    });
    let load = remote.module_load(CONTEXT, ModuleId(10), b"this is nothing").unwrap();
    assert_eq!(load.status, CuError::INVALID_PTX.code());
    assert!(load.log.starts_with("1:1: "));
    remote.stream_synchronize(STREAM).unwrap();
}

#[test]
fn printed_text_is_there_when_the_wait_returns() {
    let worker = start(&tcp(), config(1 << 30));
    let recorder = Arc::new(Recorder::default());
    let remote = connect(&worker, Arc::clone(&recorder) as _);
    prepare(&remote);
    let mut expected = Vec::new();
    for number in 0..200 {
        let text = format!("line {number}\n");
        launch(&remote, PRINT, text.as_bytes()).unwrap();
        expected.extend_from_slice(text.as_bytes());
        if number % 7 == 0 {
            remote.stream_synchronize(STREAM).unwrap();
            assert!(*recorder.text.lock() == expected);
        }
    }
    remote.context_synchronize(CONTEXT).unwrap();
    assert!(*recorder.text.lock() == expected);
}

#[test]
fn a_stream_waits_for_its_host_callback() {
    struct Slow(Recorder);
    impl Sink for Slow {
        fn printed(&self, _: &[u8]) {}
        fn reached(&self, ticket: TicketId) {
            std::thread::sleep(Duration::from_millis(100));
            self.0.reached(ticket);
        }
    }
    let worker = start(&tcp(), config(1 << 30));
    let slow = Arc::new(Slow(Recorder::default()));
    let remote = connect(&worker, Arc::clone(&slow) as _);
    prepare(&remote);
    for ticket in 1..4 {
        remote.host_callback(STREAM, TicketId(ticket)).unwrap();
        assert_eq!(remote.stream_query(STREAM), Ok(false));
        remote.stream_synchronize(STREAM).unwrap();
        assert_eq!(slow.0.tickets.lock().last(), Some(&TicketId(ticket)));
    }
    // Nobody waits in a call: it comes all the same.
    remote.host_callback(STREAM, TicketId(9)).unwrap();
    eventually("the callback runs", || slow.0.tickets.lock().last() == Some(&TicketId(9)));
    // A client that goes in the middle of one holds nothing up.
    remote.host_callback(STREAM, TicketId(10)).unwrap();
    drop(remote);
    eventually("the session is gone", || worker.sessions() == 0);
}

#[test]
fn many_threads_get_their_own_answers() {
    let worker = start(&tcp(), config(1 << 30));
    let remote = client(&worker);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let remote = &remote;
            scope.spawn(move || {
                for step in 0..1000 {
                    let value = thread << 32 | step;
                    assert_eq!(remote.context_set_limit(CONTEXT, 0, value), Ok(value));
                    if step % 50 == thread {
                        remote.stream_synchronize(STREAM).unwrap();
                        launch(remote, NOTHING, &[1; 8]).unwrap();
                    }
                }
            });
        }
    });
}
