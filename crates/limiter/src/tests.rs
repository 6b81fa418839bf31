//! The account is exact, whatever happens.

use std::sync::Arc;

use cuda::{ContextId, CuError, Driver, ModuleId, NoSink, Ordinal};

use crate::fake::{BASE, Fake};
use crate::{Account, Limited, Share};

const DEVICE: Ordinal = Ordinal(0);

fn share(limit: u64) -> Share {
    Share { devices: vec![(Ordinal(1), Account::new(limit))], tflops: Some(5.0) }
}

fn session(share: &Share, pid: u32) -> Limited {
    Limited::new(Arc::new(Fake::new(2, 1 << 30, Arc::new(NoSink))), share, pid).unwrap()
}

#[test]
fn the_first_byte_too_many_is_out_of_memory_and_the_program_goes_on() {
    let share = share(1000);
    let (one, two) = (session(&share, 1), session(&share, 2));
    one.mem_map(DEVICE, BASE, 600).unwrap();
    assert_eq!(two.mem_map(DEVICE, BASE, 401), Err(CuError::OUT_OF_MEMORY));
    two.mem_map(DEVICE, BASE, 400).unwrap();
    assert_eq!(share.devices[0].1.used(), 1000);
    assert_eq!(one.mem_map(DEVICE, BASE + 4096, 1), Err(CuError::OUT_OF_MEMORY));
    one.mem_unmap(DEVICE, BASE).unwrap();
    two.mem_map(DEVICE, BASE + 4096, 600).unwrap();
    assert_eq!(two.mem_map(DEVICE, BASE + 8192, u64::MAX), Err(CuError::OUT_OF_MEMORY));
}

#[test]
fn a_mapping_that_the_driver_refuses_costs_nothing() {
    let share = share(1000);
    let session = session(&share, 1);
    session.mem_map(DEVICE, BASE, 10).unwrap();
    assert_eq!(session.mem_map(DEVICE, BASE, 10), Err(CuError::INVALID_VALUE));
    assert_eq!(session.mem_unmap(DEVICE, BASE + 1), Err(CuError::INVALID_VALUE));
    assert_eq!(session.mem_alloc(DEVICE, 10), Err(CuError::NOT_SUPPORTED));
    assert_eq!(share.devices[0].1.used(), 10);
}

#[test]
fn variables_of_modules_are_charged_and_given_back() {
    let share = share(1000);
    let session = session(&share, 1);
    let context = ContextId(1);
    session.context_create(context, DEVICE, 0).unwrap();
    session.module_load(context, ModuleId(1), b"global table 700\nadd").unwrap();
    assert_eq!(session.module_load(context, ModuleId(2), b"global table 301"), Err(CuError::OUT_OF_MEMORY));
    session.module_load(context, ModuleId(3), b"global table 300").unwrap();
    assert_eq!(share.devices[0].1.used(), 1000);
    session.module_unload(ModuleId(1)).unwrap();
    assert_eq!(share.devices[0].1.used(), 300);
    let failed = session.module_load(context, ModuleId(4), b"what is this").unwrap();
    assert_eq!(failed.status, CuError::INVALID_PTX.code());
    session.context_destroy(context).unwrap();
    assert_eq!(share.devices[0].1.used(), 0);
}

#[test]
fn the_vgpu_is_shown_and_not_the_card() {
    let share = share(1000);
    let (one, two) = (session(&share, 11), session(&share, 22));
    let info = one.info();
    assert_eq!(info.devices.len(), 1);
    assert_eq!((info.devices[0].total_memory, info.devices[0].tflops), (1000, 5.0));
    assert_eq!((info.devices[0].name.as_str(), info.devices[0].uuid), ("Fake", [1; 16]));
    one.mem_map(DEVICE, BASE, 600).unwrap();
    two.mem_map(DEVICE, BASE, 300).unwrap();
    let usage = two.usage(DEVICE).unwrap();
    assert_eq!(usage.used_memory, 900);
    let processes: Vec<_> = usage.processes.iter().map(|process| (process.pid, process.used_memory)).collect();
    assert_eq!(processes, [(11, 600), (22, 300)]);
    assert_eq!(one.usage(Ordinal(1)), Err(CuError::INVALID_DEVICE));
    assert_eq!(one.mem_map(Ordinal(1), BASE, 1), Err(CuError::INVALID_DEVICE));
    drop(one);
    assert_eq!(two.usage(DEVICE).unwrap().used_memory, 300);
    assert_eq!(two.usage(DEVICE).unwrap().processes.len(), 1);
}

#[test]
fn each_device_of_a_vgpu_has_an_account_of_its_own() {
    let devices = vec![(Ordinal(1), Account::new(100)), (Ordinal(0), Account::new(200))];
    let share = Share { devices, tflops: None };
    let session = session(&share, 1);
    assert_eq!(session.info().devices.iter().map(|device| device.uuid[0]).collect::<Vec<_>>(), [1, 0]);
    session.mem_map(DEVICE, BASE, 100).unwrap();
    assert_eq!(session.mem_map(DEVICE, BASE + 4096, 1), Err(CuError::OUT_OF_MEMORY));
    session.mem_map(Ordinal(1), BASE + 4096, 200).unwrap();
    session.context_create(ContextId(1), Ordinal(1), 0).unwrap();
    assert_eq!(session.module_load(ContextId(1), ModuleId(1), b"global x 1"), Err(CuError::OUT_OF_MEMORY));
    assert_eq!(session.mem_unmap(DEVICE, BASE + 4096), Err(CuError::INVALID_VALUE));
    session.mem_unmap(Ordinal(1), BASE + 4096).unwrap();
    session.module_load(ContextId(1), ModuleId(1), b"global x 200").unwrap();
    assert_eq!((share.devices[0].1.used(), share.devices[1].1.used()), (100, 200));
    session.module_unload(ModuleId(1)).unwrap();
    assert_eq!((share.devices[0].1.used(), share.devices[1].1.used()), (100, 0));
}

#[test]
fn sessions_racing_for_the_last_byte_never_pass_the_limit() {
    let share = share(10_000);
    std::thread::scope(|scope| {
        for pid in 0..4 {
            let session = session(&share, pid);
            scope.spawn(move || {
                let mut mapped = Vec::new();
                for step in 0..2000_u64 {
                    if session.mem_map(DEVICE, BASE + step * 4096, 1 + step % 700).is_ok() {
                        mapped.push(BASE + step * 4096);
                    }
                    assert!(session.charge_total() <= 10_000);
                    if step % 3 == 0
                        && let Some(address) = mapped.pop()
                    {
                        session.mem_unmap(DEVICE, address).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(share.devices[0].1.used(), 0);
}

impl Limited {
    fn charge_total(&self) -> u64 {
        self.usage(DEVICE).unwrap().used_memory
    }
}
