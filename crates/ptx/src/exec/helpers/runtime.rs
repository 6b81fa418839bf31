//! Functions that the hardware's runtime provides: `vprintf`, `__assertfail`, `malloc`, `free`.

use super::super::print;
use super::{Context, Fault, Site, TrapKind, fail, lanes_of, mask_of, operation, outside};
use crate::exec::site::slot;
use crate::ir::{Op, Runtime};

unsafe fn argument(data: *const u8, i: usize, lane: usize) -> u64 {
    // SAFETY: the slot holds 32 values of 64 bits.
    unsafe { data.add(slot(i) + 8 * lane).cast::<u64>().read() }
}

/// Bytes up to a zero, at most 64 KiB, from memory that kernels may read.
unsafe fn text(context: *const Context, address: u64) -> Vec<u8> {
    // SAFETY: the context is the running one.
    let (base, size) = unsafe { ((*context).window_base, (*context).window_size) };
    // Measured first: a fault must not lose an allocation.
    let mut length = 0u64;
    while length < 65_536 && address.wrapping_add(length).wrapping_sub(base) < size {
        // SAFETY: inside the window; a fault becomes a trap.
        if unsafe { ((address + length) as *const u8).read_volatile() } == 0 {
            break;
        }
        length += 1;
    }
    // SAFETY: just read.
    (0..length).map(|i| unsafe { ((address + i) as *const u8).read_volatile() }).collect()
}

pub(super) unsafe extern "C" fn call(context: *mut Context, site: *const Site, data: *mut u8) {
    let (op, arguments, _) = operation(site);
    let Op::Runtime { function, .. } = op else { return };
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    // SAFETY: the environment outlives the run.
    let environment = unsafe { &*(*context).environment };
    let out = slot(arguments.len());
    match function {
        Runtime::Vprintf => {
            for lane in lanes_of(mask) {
                // SAFETY: format and arguments are in slots 0 and 1.
                let printed = unsafe {
                    let format = text(context, argument(data, 0, lane));
                    print::format(&format, argument(data, 1, lane), &|address| text(context, address), &|address| {
                        readable(context, address)
                    })
                };
                outside(|| environment.print(&printed.0));
                // SAFETY: the result's slot follows the operands'.
                unsafe { data.add(out + 4 * lane).cast::<u32>().write(printed.1) };
            }
        }
        Runtime::AssertFail => {
            let Some(lane) = lanes_of(mask).next() else { return };
            // SAFETY: message, file, line and function are in the slots; the context is the running one.
            let message = unsafe {
                let c = &*context;
                let part = |i: usize| String::from_utf8_lossy(&text(context, argument(data, i, lane))).into_owned();
                let thread = c.warp * 32 + lane as u32;
                let (x, y) = (c.block[0], c.block[1]);
                let thread = [thread % x, thread / x % y, thread / x / y];
                format!(
                    "{}:{}: {}: block: [{},{},{}], thread: [{},{},{}] Assertion `{}` failed.",
                    part(1),
                    argument(data, 2, lane) as u32,
                    part(3),
                    c.at[0],
                    c.at[1],
                    c.at[2],
                    thread[0],
                    thread[1],
                    thread[2],
                    part(0)
                )
            };
            let mut line = message.clone().into_bytes();
            line.push(b'\n');
            outside(|| environment.print(&line));
            drop(line);
            // SAFETY: the site belongs to the code that runs.
            let at = unsafe { (*site).at };
            let fault = Fault { kind: TrapKind::Assert, address: None, at, message: Some(message) };
            // SAFETY: what needed dropping has been dropped or moved into the fault.
            unsafe { fail(context, fault) }
        }
        Runtime::Malloc => {
            for lane in lanes_of(mask) {
                // SAFETY: the size is in slot 0.
                let size = unsafe { argument(data, 0, lane) };
                let address = outside(|| environment.malloc(size));
                // SAFETY: the result's slot follows.
                unsafe { data.add(out + 8 * lane).cast::<u64>().write(address) };
            }
        }
        Runtime::Free => {
            for lane in lanes_of(mask) {
                // SAFETY: the address is in slot 0.
                let address = unsafe { argument(data, 0, lane) };
                if address != 0 {
                    outside(|| environment.free(address));
                }
            }
        }
    }
}

/// Eight bytes of a `vprintf` argument, or zero outside of the window.
unsafe fn readable(context: *const Context, address: u64) -> u64 {
    // SAFETY: the context is the running one.
    let (base, size) = unsafe { ((*context).window_base, (*context).window_size) };
    if address.wrapping_sub(base) > size - 8 {
        return 0;
    }
    // SAFETY: inside the window; arguments lie in local memory, which is mapped.
    unsafe { (address as *const u64).read_unaligned() }
}
