//! How busy something was in the last second, in memory that processes share.
//!
//! Time is cut into tenths of a second; each cell of a ring holds the busy time of one tenth. Writers only add, so no
//! process can leave it broken; a cell that is overwritten by two at once is wrong by a tenth, for a second.

use std::sync::atomic::{AtomicU64, Ordering};

const CELLS: u64 = 16;
const TENTH: u64 = 100_000_000;
const SECOND: u64 = 10 * TENTH;

/// Busy time by tenths of a second.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Meter {
    cells: [Cell; CELLS as usize],
}

#[repr(C)]
#[derive(Debug, Default)]
struct Cell {
    tenth: AtomicU64,
    busy: AtomicU64,
}

/// Nanoseconds of the monotonic clock, which all processes of the machine share.
pub(super) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std's Instant hides its number, and processes must agree on it")]
    // SAFETY: the time outlives the call, which writes it.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
    }
    (time.tv_sec as u64) * SECOND + time.tv_nsec as u64
}

impl Meter {
    /// Adds a busy time, in nanoseconds of the monotonic clock.
    pub(super) fn add(&self, from: u64, until: u64) {
        let mut from = from.max(until.saturating_sub(SECOND));
        while from < until {
            let tenth = from / TENTH;
            let end = until.min((tenth + 1) * TENTH);
            let cell = &self.cells[(tenth % CELLS) as usize];
            if cell.tenth.swap(tenth, Ordering::Relaxed) != tenth {
                cell.busy.store(0, Ordering::Relaxed);
            }
            cell.busy.fetch_add(end - from, Ordering::Relaxed);
            from = end;
        }
    }

    /// Percent of the last second that was busy; `since` is the begin of a busy time that still goes on.
    pub(super) fn percent(&self, now: u64, since: Option<u64>) -> u32 {
        let last = now / TENTH;
        let recent = last.saturating_sub(9)..=last;
        let done: u64 = self
            .cells
            .iter()
            .filter(|cell| recent.contains(&cell.tenth.load(Ordering::Relaxed)))
            .map(|cell| cell.busy.load(Ordering::Relaxed).min(TENTH))
            .sum();
        let running = since.map_or(0, |since| now.saturating_sub(since).min(SECOND));
        let busy = (done + running).min(SECOND);
        // A device that did anything at all does not show as idle.
        ((busy * 100).div_ceil(SECOND)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_is_what_counts() {
        let meter = Meter::default();
        let start = 1000 * SECOND;
        meter.add(start, start + SECOND / 2);
        assert_eq!(meter.percent(start + SECOND / 2, None), 50);
        assert_eq!(meter.percent(start + SECOND - 1, None), 50);
        assert!(meter.percent(start + SECOND + SECOND / 4, None) < 50);
        assert_eq!(meter.percent(start + 3 * SECOND, None), 0);
        assert_eq!(meter.percent(start + 3 * SECOND, Some(start)), 100);
        meter.add(start + 10 * SECOND, start + 10 * SECOND + 10);
        assert_eq!(meter.percent(start + 10 * SECOND + 20, None), 1);
    }
}
