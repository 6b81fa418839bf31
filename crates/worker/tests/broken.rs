//! A driver that does not survive a fault: nobody is served by what is left of it, and nobody is sent away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use cuda::{AddressRange, CuError, Driver as _, DriverInfo, NoSink};
use wire::{Endpoint, Remote, hello, transport::Socket};
use worker::{Worker, WorkerConfig};

fn breakable(is_broken: &Arc<AtomicBool>) -> Worker {
    let broken = Arc::clone(is_broken);
    start(&tcp(), WorkerConfig { broken: Box::new(move || broken.load(Ordering::SeqCst)), ..config(1 << 20) })
}

#[test]
fn whoever_comes_is_served_by_the_process_that_follows() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let worker = breakable(&is_broken);
    let first = client(&worker);
    is_broken.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| Remote::connect(worker.endpoint(), &options(), Arc::new(NoSink)).map(drop));
        // The first client does not go by itself, but somebody waits for its end.
        worker.wait_until_broken();
        assert_eq!(worker.sessions(), 0);
        assert!(!second.is_finished());
        assert_eq!(first.context_synchronize(CONTEXT), Err(CuError::DEVICE_UNAVAILABLE));
        is_broken.store(false, Ordering::SeqCst);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_session_may_hear_of_the_fault_while_nobody_waits() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let worker = breakable(&is_broken);
    let only = client(&worker);
    is_broken.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| worker.wait_until_broken());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!wait.is_finished());
        assert_eq!(only.context_synchronize(CONTEXT), Ok(()));
        drop(only);
        wait.join().unwrap();
    });
    assert_eq!(worker.used(), 0);
}

#[test]
fn a_worker_that_hangs_up_before_a_word_is_asked_again_and_a_stranger_is_not_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::scope(|scope| {
        let next = || Socket::from_tcp(listener.accept().unwrap().0).unwrap();
        let client = scope.spawn(|| Remote::connect(&endpoint, &options(), Arc::new(NoSink)).map(drop));
        drop(next());
        let taken = next();
        hello::listen(&taken, std::time::Duration::from_secs(5)).unwrap();
        let addresses = AddressRange { base: 0, size: 0 };
        let info = DriverInfo {
            cuda_version: 13000,
            driver_version: String::new(),
            devices: Vec::new(),
            addresses,
            shares_process: false,
        };
        hello::welcome(&taken, &info).unwrap();
        client.join().unwrap().unwrap();

        let client = scope.spawn(|| Remote::connect(&endpoint, &options(), Arc::new(NoSink)).map(drop));
        for _ in 0..3 {
            drop(next());
        }
        assert!(client.join().unwrap().is_err());
    });
}
