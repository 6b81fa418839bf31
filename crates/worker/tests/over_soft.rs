//! The whole path: client, connection, worker, limit, software GPU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use cuda::*;
use gpu::{Soft, SoftConfig};
use wire::{Endpoint, Remote};
use worker::{Worker, WorkerConfig};

const ADD_PTX: &[u8] = br"
.version 8.0
.target sm_80
.address_size 64

.visible .global .align 4 .b8 table[4096];

.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<11>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd1, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    add.s64 %rd7, %rd3, %rd4;
    ld.global.u32 %r6, [%rd5];
    ld.global.u32 %r7, [%rd6];
    add.u32 %r8, %r6, %r7;
    st.global.u32 [%rd7], %r8;
DONE:
    ret;
}

.visible .entry forever(.param .u64 flag)
{
    .reg .pred %p<2>;
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [flag];
AGAIN:
    ld.volatile.global.u32 %r1, [%rd1];
    setp.ne.u32 %p1, %r1, 12345;
    @%p1 bra AGAIN;
    ret;
}
";

fn start_soft(endpoint: Endpoint, vram: u64) -> Worker {
    let open = |hello: &wire::hello::Hello, sink: Arc<dyn Sink>| {
        Ok(Soft::open(SoftConfig::default(), hello.pid, sink)? as Arc<dyn Driver>)
    };
    start(&endpoint, WorkerConfig::new(vram, open))
}

fn open(worker: &Worker) -> (Remote, ModuleLoad) {
    let remote = connect(worker, Arc::new(NoSink));
    remote.context_create(CONTEXT, DEVICE, 0).unwrap();
    remote.stream_create(CONTEXT, STREAM, StreamKind::NonBlocking, 0).unwrap();
    let load = remote.module_load(CONTEXT, MODULE, ADD_PTX).unwrap();
    assert_eq!((load.status, load.log.as_str()), (0, ""));
    (remote, load)
}

/// The position of a kernel in its module.
fn kernel(load: &ModuleLoad, name: &str) -> u32 {
    load.info.functions.iter().position(|function| function.name == name).unwrap() as u32
}

fn add(remote: &Remote, load: &ModuleLoad, count: u32, seed: u32) {
    let base = remote.info().addresses.base;
    let bytes = u64::from(count) * 4;
    let addresses = [0, 1, 2].map(|index| base + index * (bytes + 0xffff) / 0x10000 * 0x10000);
    for address in addresses {
        remote.mem_map(DEVICE, address, bytes).unwrap();
    }
    let raw = |factor: u32| (0..count).flat_map(|n| n.wrapping_mul(factor).to_le_bytes()).collect::<Vec<_>>();
    write(remote, addresses[0], &raw(seed)).unwrap();
    write(remote, addresses[1], &raw(77)).unwrap();
    let mut params = Vec::new();
    for address in addresses {
        params.extend_from_slice(&address.to_le_bytes());
    }
    params.extend_from_slice(&count.to_le_bytes());
    let shape = LaunchShape { grid: [count.div_ceil(256), 1, 1], ..shape(256) };
    let function = function(kernel(load, "add"));
    remote.launch(STREAM, function, shape, &params).unwrap();
    let mut result = vec![0; bytes as usize];
    read(remote, addresses[2], &mut result).unwrap();
    assert!(result == raw(seed.wrapping_add(77)));
    for address in addresses {
        remote.mem_unmap(DEVICE, address).unwrap();
    }
}

#[test]
fn a_vector_addition_on_the_software_gpu_over_each_transport() {
    for endpoint in [tcp(), unix()] {
        let worker = start_soft(endpoint, 1 << 30);
        let (remote, load) = open(&worker);
        assert_eq!(remote.info().devices[0].total_memory, 1 << 30);
        add(&remote, &load, 100_001, 3);
        assert_eq!(worker.used(), 4096);
        drop(remote);
        eventually("everything is free", || worker.used() == 0 && worker.sessions() == 0);
    }
}

#[test]
fn two_sessions_compute_at_once_and_one_may_die() {
    let worker = start_soft(tcp(), 1 << 30);
    let (one, load) = open(&worker);
    let (two, _) = open(&worker);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5).for_each(|seed| add(&one, &load, 50_000, seed)));
        scope.spawn(|| (0..5).for_each(|seed| add(&two, &load, 50_000, seed * 1000)));
    });
    // One reads where nothing is: it loses its session, and the other one nothing.
    let nowhere = one.info().addresses.base + (1 << 30);
    let mut params = [nowhere; 3].map(u64::to_le_bytes).concat();
    params.extend_from_slice(&1_u32.to_le_bytes());
    one.launch(STREAM, function(kernel(&load, "add")), shape(32), &params).unwrap();
    assert_eq!(one.stream_synchronize(STREAM), Err(CuError::ILLEGAL_ADDRESS));
    assert_eq!(one.stream_synchronize(STREAM), Err(CuError::ILLEGAL_ADDRESS));
    add(&two, &load, 1000, 5);
    drop(one);
    eventually("the first session is gone", || worker.sessions() == 1 && worker.used() == 4096);
    add(&two, &load, 1000, 6);
}

#[test]
fn a_client_that_goes_while_its_kernel_runs_for_ever_leaves_nothing() {
    let worker = start_soft(tcp(), 1 << 30);
    let (good, load) = open(&worker);
    let (bad, _) = open(&worker);
    let base = bad.info().addresses.base;
    bad.mem_map(DEVICE, base, 1 << 20).unwrap();
    bad.launch(STREAM, function(kernel(&load, "forever")), shape(1), &base.to_le_bytes()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bad.stream_synchronize(STREAM));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        let begun = Instant::now();
        bad.abandon();
        assert_eq!(waiting.join().unwrap(), Err(CuError::DEVICE_UNAVAILABLE));
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
    eventually("its kernel and its memory are gone", || worker.sessions() == 1 && worker.used() == 4096);
    add(&good, &load, 1000, 5);
}

#[test]
fn malformed_ptx_is_explained_at_its_position() {
    let worker = start_soft(tcp(), 1 << 30);
    let (remote, _) = open(&worker);
    let broken = String::from_utf8_lossy(ADD_PTX).replace("mad.lo.s32", "mad.lo.q32");
    let load = remote.module_load(CONTEXT, ModuleId(9), broken.as_bytes()).unwrap();
    assert_eq!(load.status, CuError::INVALID_PTX.code());
    assert!(load.log.starts_with("20:5: "), "{}", load.log);
}
