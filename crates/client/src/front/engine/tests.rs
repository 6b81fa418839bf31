//! The engine's promises, over a fake driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda::{CuError, LaunchShape};

use super::fake::{Fake, TOTAL, engine};
use super::{Arguments, Engine, JitOptions, LaunchRequest, Place, Shape, handle_of};

/// An engine whose device 0 is retained and current on this thread.
fn ready() -> (Engine, Arc<Fake>) {
    let (engine, fake) = engine(2);
    let handle = engine.primary_retain(0).unwrap();
    engine.set_current(handle).unwrap();
    (engine, fake)
}

fn shape(grid: u32, block: u32) -> LaunchShape {
    LaunchShape { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [1; 3], shared_bytes: 0, cooperative: false }
}

fn request(shape: LaunchShape, params: &[u64]) -> LaunchRequest {
    LaunchRequest { shape, arguments: Arguments { params: params.as_ptr() as u64, extra: 0 } }
}

#[test]
fn calls_without_a_context_are_an_invalid_context() {
    let (engine, _) = engine(1);
    assert_eq!(engine.current().err(), Some(CuError::INVALID_CONTEXT));
    assert_eq!(engine.current_handle(), Ok(0));
    assert_eq!(engine.stream(0).err(), Some(CuError::INVALID_CONTEXT));
    assert_eq!(engine.push_current(0x1234), Err(CuError::INVALID_CONTEXT));
    assert_eq!(engine.pop_current(), Err(CuError::INVALID_CONTEXT));
}

#[test]
fn the_stack_of_contexts_is_the_threads_own() {
    let (engine, _) = engine(1);
    let first = engine.context_create(0, 0, 3020).unwrap();
    let second = engine.context_create(0, 0, 3020).unwrap();
    assert_eq!(engine.current_handle(), Ok(second));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(engine.current_handle(), Ok(0)));
    });
    assert_eq!(engine.pop_current(), Ok(second));
    assert_eq!(engine.current_handle(), Ok(first));
    engine.push_current(second).unwrap();
    engine.context_destroy(second).unwrap();
    assert_eq!(engine.current_handle(), Ok(first));
    assert_eq!(engine.context_destroy(second), Err(CuError::INVALID_CONTEXT));
    engine.push_current(first).unwrap();
    engine.context_destroy(first).unwrap();
    assert_eq!(engine.current().err(), Some(CuError::CONTEXT_IS_DESTROYED));
}

#[test]
fn a_primary_context_lives_while_it_is_retained() {
    let (engine, fake) = engine(1);
    let handle = engine.primary_handle(0).unwrap();
    assert_eq!(engine.primary_state(0), Ok((0, false)));
    assert_eq!(engine.primary_release(0), Err(CuError::INVALID_CONTEXT));
    assert_eq!(engine.primary_retain(0), Ok(handle));
    assert_eq!(engine.primary_retain(0), Ok(handle));
    engine.set_current(handle).unwrap();
    let life = engine.current().unwrap();
    engine.mem_alloc(&life, 100).unwrap();
    engine.primary_release(0).unwrap();
    assert_eq!(engine.primary_state(0), Ok((0, true)));
    engine.primary_release(0).unwrap();
    assert_eq!(engine.primary_state(0), Ok((0, false)));
    assert!(fake.state.lock().maps.is_empty(), "its memory is free again");
    assert_eq!(engine.current().err(), Some(CuError::CONTEXT_IS_DESTROYED));
    assert_eq!(engine.primary_retain(0), Ok(handle));
    assert_ne!(engine.current().unwrap().id, life.id);
}

#[test]
fn the_first_byte_too_many_is_out_of_memory_and_the_program_goes_on() {
    let (engine, _) = ready();
    let life = engine.current().unwrap();
    let rest = engine.mem_alloc(&life, TOTAL - 100).unwrap();
    assert_eq!(engine.mem_alloc(&life, 101), Err(CuError::OUT_OF_MEMORY));
    let small = engine.mem_alloc(&life, 100).unwrap();
    assert_eq!(engine.memory_info(0), Ok((0, TOTAL)));
    engine.mem_free(small).unwrap();
    engine.mem_free(rest).unwrap();
    assert_eq!(engine.mem_free(rest), Err(CuError::INVALID_VALUE));
    assert_eq!(engine.mem_free(rest + 512), Err(CuError::INVALID_VALUE));
    assert_eq!(engine.memory_info(0), Ok((TOTAL, TOTAL)));
    assert!(engine.mem_alloc(&life, TOTAL).is_ok());
    assert_eq!(engine.mem_alloc(&life, 0), Err(CuError::INVALID_VALUE));
    assert_eq!(engine.mem_alloc(&life, u64::MAX), Err(CuError::OUT_OF_MEMORY));
}

#[test]
fn pools_give_back_at_synchronization_and_before_anything_fails() {
    let (engine, fake) = ready();
    let life = engine.current().unwrap();
    let stream = engine.stream(0).unwrap();
    let pool = engine.pool_for(&life).unwrap();
    let block = engine.pool_alloc(&pool, 4096, &stream).unwrap();
    engine.mem_free_async(block, &stream).unwrap();
    assert_eq!(engine.mem_free_async(block, &stream), Err(CuError::INVALID_VALUE));
    assert_eq!(engine.pool_alloc(&pool, 4096, &stream), Ok(block), "reused in stream order");
    let other = engine.stream(engine.stream_create(1, 0).unwrap()).unwrap();
    engine.mem_free_async(block, &stream).unwrap();
    let elsewhere = engine.pool_alloc(&pool, 4096, &other).unwrap();
    assert_ne!(elsewhere, block, "another stream has not waited");
    assert_eq!((engine.pool_attribute(&pool, 5), engine.pool_attribute(&pool, 7)), (Ok(8192), Ok(4096)));
    engine.stream_synchronize(&stream).unwrap();
    assert_eq!(engine.pool_attribute(&pool, 5), Ok(4096), "above the threshold of 0");
    engine.pool_set_attribute(&pool, 4, u64::MAX).unwrap();
    engine.mem_free_async(elsewhere, &other).unwrap();
    engine.context_synchronize(&life).unwrap();
    assert_eq!(engine.pool_attribute(&pool, 5), Ok(4096), "below the threshold");
    assert_eq!(engine.mem_alloc(&life, TOTAL).map(|_| ()), Ok(()), "what is cached does not count against the program");
    assert_eq!(fake.state.lock().maps.len(), 1);
    assert_eq!(engine.pool_alloc(&pool, 1, &stream), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(engine.pool_attribute(&pool, 6), Ok(8192));
}

#[test]
fn a_created_pool_can_go_before_its_memory() {
    let (engine, fake) = ready();
    let stream = engine.stream(0).unwrap();
    let handle = engine.pool_create(0, 1000).unwrap();
    let pool = engine.pool(handle).unwrap();
    assert_eq!(engine.pool_alloc(&pool, 1001, &stream), Err(CuError::OUT_OF_MEMORY));
    let block = engine.pool_alloc(&pool, 1000, &stream).unwrap();
    engine.pool_destroy(handle).unwrap();
    assert_eq!(engine.pool(handle).err(), Some(CuError::INVALID_VALUE));
    engine.mem_free_async(block, &stream).unwrap();
    assert!(fake.state.lock().maps.is_empty());
    assert_eq!(engine.pool_destroy(engine.default_pool(0).unwrap()), Err(CuError::INVALID_VALUE));
}

#[test]
fn freed_and_foreign_handles_are_errors() {
    let (engine, _) = ready();
    let stream = engine.stream_create(0, 0).unwrap();
    engine.stream_destroy(stream).unwrap();
    assert_eq!(engine.stream(stream).err(), Some(CuError::INVALID_HANDLE));
    assert_eq!(engine.stream_destroy(stream), Err(CuError::INVALID_HANDLE));
    assert_eq!(engine.stream_destroy(0), Err(CuError::INVALID_HANDLE));
    let event = engine.event_create(2).unwrap();
    assert_eq!(engine.event_elapsed(event, event), Err(CuError::INVALID_HANDLE));
    engine.event_destroy(event).unwrap();
    assert_eq!(engine.event_query(event), Err(CuError::INVALID_HANDLE));
    assert_eq!(engine.function(event).err(), Some(CuError::INVALID_HANDLE));
    assert_eq!(engine.module(0xDEAD_BEEF).err(), Some(CuError::INVALID_HANDLE));
}

#[test]
fn arguments_are_packed_as_the_kernel_expects_them() {
    let (engine, fake) = ready();
    let life = engine.current().unwrap();
    let module = engine.module_load(&life, b"entry add 4 8 1", &JitOptions::default()).unwrap();
    let module = engine.module(module).unwrap();
    let function = engine.module_function(&module, "add").unwrap();
    assert!(Arc::ptr_eq(&function, &engine.module_function(&module, "add").unwrap()));
    let (first, second, third) = (7_u32, 0x1122_3344_5566_7788_u64, 9_u8);
    let params = [&raw const first as u64, &raw const second as u64, &raw const third as u64];
    let stream = engine.stream(0).unwrap();
    engine.launch(&function, &stream, &request(shape(2, 64), &params)).unwrap();
    let mut expected = vec![7, 0, 0, 0, 0, 0, 0, 0];
    expected.extend(second.to_le_bytes());
    expected.push(9);
    assert_eq!(fake.state.lock().launches[0].3, expected);
    let size = expected.len() as u64;
    let extra = [1_u64, expected.as_ptr() as u64, 2, &raw const size as u64, 0];
    let arguments = Arguments { params: 0, extra: extra.as_ptr() as u64 };
    engine.launch(&function, &stream, &LaunchRequest { shape: shape(1, 1), arguments }).unwrap();
    assert_eq!(fake.state.lock().launches[1].3, expected);
}

#[test]
fn impossible_launches_are_refused_at_once() {
    let (engine, fake) = ready();
    let life = engine.current().unwrap();
    let module = engine.module_load(&life, b"entry k", &JitOptions::default()).unwrap();
    let function = engine.module_function(&engine.module(module).unwrap(), "k").unwrap();
    let stream = engine.stream(0).unwrap();
    let launch = |shape| engine.launch(&function, &stream, &LaunchRequest { shape, arguments: Arguments::default() });
    assert_eq!(launch(shape(0, 1)), Err(CuError::INVALID_VALUE));
    assert_eq!(launch(shape(1, 1025)), Err(CuError::INVALID_VALUE));
    let large = LaunchShape { shared_bytes: 50_000, ..shape(1, 1) };
    assert_eq!(launch(large), Err(CuError::INVALID_VALUE));
    engine.function_set_attribute(&function, 8, 50_000).unwrap();
    assert_eq!(launch(large), Ok(()));
    assert_eq!(engine.function_set_attribute(&function, 8, 70_000), Err(CuError::INVALID_VALUE));
    let cooperative = LaunchShape { cooperative: true, ..shape(4, 1024) };
    assert_eq!(launch(cooperative), Ok(()));
    assert_eq!(launch(LaunchShape { grid: [5, 1, 1], ..cooperative }), Err(CuError::COOPERATIVE_LAUNCH_TOO_LARGE));
    assert_eq!(fake.state.lock().launches.len(), 2);
    engine.module_unload(module).unwrap();
    assert_eq!(engine.function(handle_of(&function)).err(), Some(CuError::INVALID_HANDLE));
}

#[test]
fn a_library_is_loaded_into_each_context_on_first_use() {
    let (engine, fake) = ready();
    let image = b"entry f 4\nglobal g 16\n\0";
    let library = engine.library_load(image.as_ptr() as u64, true, &JitOptions::default()).unwrap();
    let library_object = engine.library(library).unwrap();
    let kernel = engine.library_kernel(&library_object, "f").unwrap();
    assert_eq!(engine.library_kernel(&library_object, "g").err(), Some(CuError::NOT_FOUND));
    let here = engine.function(handle_of(&kernel)).unwrap();
    engine.kernel_set_attribute(&kernel, 8, 60_000, 0).unwrap();
    assert_eq!(here.max_dynamic_shared(), 60_000);
    engine.context_create(0, 0, 3020).unwrap();
    let there = engine.function(handle_of(&kernel)).unwrap();
    assert_ne!(here.id, there.id);
    assert_eq!(there.max_dynamic_shared(), 60_000, "set for the device, not for a context");
    let modules = |fake: &Fake| fake.state.lock().log.iter().filter(|line| *line == "module").count();
    assert_eq!(modules(&fake), 2);
    engine.library_unload(library).unwrap();
    assert_eq!(engine.function(handle_of(&kernel)).err(), Some(CuError::INVALID_HANDLE));
    assert_eq!(fake.state.lock().log.iter().filter(|line| *line == "unload").count(), 2);
}

#[test]
fn compilers_messages_reach_the_program() {
    let (engine, _) = ready();
    let life = engine.current().unwrap();
    let mut buffer = [0_u8; 64];
    let options = [5_u32, 6];
    let mut values = [buffer.as_mut_ptr() as u64, 64];
    let jit = JitOptions::read(2, options.as_ptr() as u64, values.as_mut_ptr() as u64).unwrap();
    assert_eq!(engine.module_load(&life, b"nonsense", &jit), Err(CuError::INVALID_PTX));
    assert!(buffer.starts_with(b"1:1: what is `nonsense`?\0"));
    assert_eq!(values[1], 25);
}

#[test]
fn rows_are_copied_with_their_strides() {
    let (engine, _) = ready();
    let life = engine.current().unwrap();
    let (device, pitch) = engine.mem_alloc_pitch(&life, 3, 4, 4).unwrap();
    assert_eq!(pitch, 512);
    let stream = engine.stream(0).unwrap();
    let source: Vec<u8> = (0..20).collect();
    let shape = Shape { width: 3, rows: 4, slices: 1 };
    let on_device = Place { address: device, host: false, row_pitch: pitch, slice_pitch: 0 };
    let on_host = |address: u64| Place { address, host: true, row_pitch: 5, slice_pitch: 0 };
    engine.copy(&stream, on_device, on_host(source.as_ptr() as u64), shape, true).unwrap();
    let mut back = [0xFF_u8; 20];
    engine.copy(&stream, on_host(back.as_mut_ptr() as u64), on_device, shape, true).unwrap();
    for (index, byte) in back.iter().enumerate() {
        let expected = if index % 5 < 3 { source[index] } else { 0xFF };
        assert_eq!(*byte, expected, "at {index}");
    }
    let narrow = Place { row_pitch: 2, ..on_device };
    assert_eq!(engine.copy(&stream, narrow, on_host(1), shape, true), Err(CuError::INVALID_VALUE));
}

#[test]
fn copies_beyond_an_allocation_are_refused() {
    let (engine, _) = ready();
    let life = engine.current().unwrap();
    let stream = engine.stream(0).unwrap();
    let device = engine.mem_alloc(&life, 8).unwrap();
    let bytes = [1_u8; 16];
    let host = Place::host(bytes.as_ptr() as u64);
    let copy = |to, length| engine.copy(&stream, Place::device(to), host, Shape::linear(length), true);
    assert_eq!(copy(device, 9), Err(CuError::INVALID_VALUE));
    assert_eq!(copy(device + 1, 8), Err(CuError::INVALID_VALUE));
    assert_eq!(copy(device, u64::MAX), Err(CuError::INVALID_VALUE));
    assert_eq!(copy(device, 8), Ok(()));
    assert_eq!(engine.place_of(device + 512).err(), Some(CuError::INVALID_VALUE));
    engine.fill(&stream, device, 0, 4, 0x0102_0304, 2, 1).unwrap();
    assert_eq!(engine.fill(&stream, device + 2, 0, 4, 0, 1, 1), Err(CuError::INVALID_VALUE));
    assert_eq!(engine.fill(&stream, device, 0, 4, 0, 3, 1), Err(CuError::INVALID_VALUE));
    let mut back = [0_u8; 8];
    let target = Place::host(back.as_mut_ptr() as u64);
    engine.copy(&stream, target, Place::device(device), Shape::linear(8), true).unwrap();
    assert_eq!(back, [4, 3, 2, 1, 4, 3, 2, 1]);
}

#[test]
fn callbacks_run_once_on_a_thread_of_their_own() {
    let (engine, _) = ready();
    let stream = engine.stream(2).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let caller = std::thread::current().id();
    let work = move || {
        assert_ne!(std::thread::current().id(), caller);
        counter.fetch_add(1, Ordering::Relaxed);
    };
    engine.host_callback(&stream, Box::new(work)).unwrap();
    engine.stream_synchronize(&stream).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn host_memory_is_known_while_it_is_pinned() {
    let (engine, _) = ready();
    let host = engine.host_alloc(100, 1).unwrap();
    assert_eq!(host % 4096, 0);
    assert_eq!(engine.host_flags(host + 99), Ok(1));
    assert_eq!(engine.host_unregister(host), Err(CuError::HOST_MEMORY_NOT_REGISTERED));
    let own = [0_u8; 64];
    let address = own.as_ptr() as u64;
    engine.host_register(address, 64, 0).unwrap();
    assert_eq!(engine.host_register(address + 63, 2, 0), Err(CuError::HOST_MEMORY_ALREADY_REGISTERED));
    assert_eq!(engine.host_free(address), Err(CuError::INVALID_VALUE));
    engine.host_unregister(address).unwrap();
    engine.host_free(host).unwrap();
    assert_eq!(engine.host_flags(host), Err(CuError::INVALID_VALUE));
}

#[test]
fn sticky_errors_come_back_until_the_context_is_gone() {
    let (engine, fake) = ready();
    let life = engine.current().unwrap();
    fake.state.lock().sticky = Some(CuError::ILLEGAL_ADDRESS);
    assert_eq!(engine.context_synchronize(&life), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(engine.stream_synchronize(&life.legacy), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(engine.primary_reset(0), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(engine.primary_state(0), Ok((0, false)));
}

#[test]
fn what_a_copy_may_still_write_is_not_read_before() {
    let (engine, fake) = ready();
    let life = engine.current().unwrap();
    let stream = engine.stream(0).unwrap();
    let device = engine.mem_alloc(&life, 64).unwrap();
    let pinned = engine.host_alloc(128, 0).unwrap();
    let download = |to| engine.copy(&stream, Place::host(to), Place::device(device), Shape::linear(64), false);
    let upload = |from| engine.copy(&stream, Place::device(device), Place::host(from), Shape::linear(64), false);
    let waits = || fake.state.lock().log.iter().filter(|line| *line == "wait for a stream").count();
    upload(pinned).unwrap();
    download(pinned).unwrap();
    upload(pinned + 64).unwrap();
    assert_eq!(waits(), 0, "other bytes");
    upload(pinned + 32).unwrap();
    assert_eq!(waits(), 1);
    upload(pinned).unwrap();
    assert_eq!(waits(), 1, "the copy is done");
}
