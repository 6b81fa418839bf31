#![expect(unsafe_code, reason = "asks the C library for the thread")]
//! The question by which the CUDA runtime makes sure of its driver.
//!
//! It is asked three times when the runtime starts, with three versions in a row; the answer to the last is a keyed hash
//! over who asks, when, and which devices there are. A wrong answer makes every runtime call fail with error 103.

use cuda::{CuResult, DeviceInfo};

use super::{checking, interface, md2};
use crate::{init, state};

const KEY: [u8; 16] = [0x14, 0x6A, 0xDD, 0xAE, 0x53, 0xA9, 0xA7, 0x52, 0xAA, 0x08, 0x41, 0x36, 0x0B, 0xF5, 0x5A, 0x9F];

/// Who asks.
#[derive(Clone, Copy)]
struct Asker {
    driver_version: u32,
    process: u32,
    thread: u32,
    interface_table: u64,
    integrity_table: u64,
    integrity_function: u64,
}

/// The answer for this process and its devices.
pub(super) fn answer(version: u32, seconds: u64) -> CuResult<[u64; 2]> {
    let integrity = checking();
    // SAFETY: the call has no preconditions.
    let thread = unsafe { libc::pthread_self() };
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what counts")]
    let asker = Asker {
        driver_version: init::cuda_version(),
        process: std::process::id(),
        thread: thread as u32,
        interface_table: interface().address().address(),
        integrity_table: integrity.address().address(),
        integrity_function: integrity.0.get(1).map_or(0, |slot| slot.0.addr() as u64),
    };
    Ok(answer_to(version, seconds, asker, &state::open()?.driver.info().devices))
}

fn answer_to(version: u32, seconds: u64, asker: Asker, devices: &[DeviceInfo]) -> [u64; 2] {
    match version % 10 {
        0 => return [0x3341_181C_03CB_675C, 0x8ED3_83AA_1F4C_D1E8],
        1 => return [0x1841_181C_03CB_675C, 0x8ED3_83AA_1F4C_D1E8],
        _ => {}
    }
    let mut message = Vec::with_capacity(48 + devices.len() * 28);
    for number in [asker.driver_version, version, asker.process, asker.thread] {
        message.extend(number.to_le_bytes());
    }
    for number in [asker.interface_table, asker.integrity_table, asker.integrity_function, seconds] {
        message.extend(number.to_le_bytes());
    }
    for device in devices {
        message.extend(device.uuid);
        // PCI domain, bus and device.
        for attribute in [50, 33, 34] {
            message.extend(device.attribute(attribute).unwrap_or(0).to_le_bytes());
        }
    }
    let hash = md2::keyed(&KEY, &message);
    let (first, second) = hash.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    [number(first), number(second)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker {
            driver_version: 13050,
            process: 1,
            thread: 2,
            interface_table: 3,
            integrity_table: 4,
            integrity_function: 5,
        }
    }

    #[test]
    fn the_first_two_questions_have_fixed_answers() {
        assert_eq!(answer_to(13050, 9, asker(), &[])[0], 0x3341_181C_03CB_675C);
        assert_eq!(answer_to(13051, 9, asker(), &[])[0], 0x1841_181C_03CB_675C);
    }

    #[test]
    fn the_third_depends_on_all_that_is_asked() {
        let answer = answer_to(13052, 9, asker(), &[]);
        assert_ne!(answer, answer_to(13052, 10, asker(), &[]));
        assert_ne!(answer, answer_to(12092, 9, asker(), &[]));
        assert_ne!(answer, answer_to(13052, 9, Asker { thread: 7, ..asker() }, &[]));
    }
}
