//! The one piece of this process's address space in which device memory lies.
//!
//! Device addresses are host addresses, so that kernels, copies and the host need no translation. All of them lie in one
//! window at a fixed place: kernels check an address with one comparison, whatever else the process has mapped, and a
//! client that is moved to another worker finds its addresses free. The window is reserved without access; pages become
//! accessible when memory is mapped, and go back to the operating system when it is unmapped.

#![expect(unsafe_code, reason = "reserves address space and changes its protection")]

use std::sync::OnceLock;

use cuda::{AddressRange, CuError, CuResult};
use parking_lot::Mutex;

/// Granularity in which memory becomes accessible.
pub(super) const PAGE: u64 = 64 << 10;
const BASE: u64 = 0x1000_0000_0000;
const SIZE: u64 = 1 << 40;
/// Session ranges begin at multiples of this.
const GRAIN: u64 = 1 << 30;
const HUGE: u64 = 2 << 20;

/// The process's window and who has which part of it.
#[derive(Debug)]
pub(super) struct Window {
    base: u64,
    taken: Mutex<Vec<AddressRange>>,
}

static WINDOW: OnceLock<Option<Window>> = OnceLock::new();

/// The window, reserved at first use.
pub(super) fn window() -> CuResult<&'static Window> {
    WINDOW.get_or_init(Window::reserve).as_ref().ok_or(CuError::OPERATING_SYSTEM)
}

impl Window {
    fn reserve() -> Option<Self> {
        // The fixed place first. Elsewhere things work too, but addresses are not the same in every process.
        [BASE, BASE * 2, BASE * 3, BASE * 4].into_iter().find_map(|base| {
            // SAFETY: a new reservation that replaces nothing (MAP_FIXED_NOREPLACE).
            let got = unsafe {
                libc::mmap(
                    base as *mut libc::c_void,
                    SIZE as usize,
                    libc::PROT_NONE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            if got == libc::MAP_FAILED {
                let error = std::io::Error::last_os_error();
                tracing::warn!(%error, "cannot reserve device addresses at {base:#x}");
                return None;
            }
            if got as u64 != base {
                // A kernel older than MAP_FIXED_NOREPLACE took the address for a hint.
                // SAFETY: this is the mapping made above, which nobody knows.
                unsafe { libc::munmap(got, SIZE as usize) };
                return None;
            }
            Some(Self { base, taken: Mutex::new(Vec::new()) })
        })
    }

    /// The whole window.
    pub(super) fn range(&self) -> AddressRange {
        AddressRange { base: self.base, size: SIZE }
    }

    /// Takes the highest part of the window that is free: out of the way of the addresses that clients see.
    pub(super) fn take_last(&self, size: u64) -> CuResult<Span> {
        let size = size.checked_next_multiple_of(GRAIN).ok_or(CuError::OUT_OF_MEMORY)?;
        let mut taken = self.taken.lock();
        let end = taken.iter().rev().fold(self.base + SIZE, |end, part| {
            if part.base + part.size + size > end { end.min(part.base) } else { end }
        });
        let base = end.checked_sub(size).filter(|base| *base >= self.base).ok_or(CuError::OUT_OF_MEMORY)?;
        let range = AddressRange { base: base / GRAIN * GRAIN, size };
        let position = taken.partition_point(|part| part.base < range.base);
        taken.insert(position, range);
        Ok(Span { window: window()?, range })
    }

    /// Takes a part of the window: the given one, or the lowest that is free.
    pub(super) fn take(&self, size: u64, at: Option<u64>) -> CuResult<Span> {
        let size = size.checked_next_multiple_of(GRAIN).ok_or(CuError::OUT_OF_MEMORY)?;
        let end = self.base + SIZE;
        let mut taken = self.taken.lock();
        let base = match at {
            Some(base) if base % PAGE == 0 && base >= self.base => base,
            Some(_) => return Err(CuError::INVALID_VALUE),
            None => taken.iter().fold(self.base, |lowest, part| {
                if part.base < lowest + size {
                    lowest.max((part.base + part.size).next_multiple_of(GRAIN))
                } else {
                    lowest
                }
            }),
        };
        if base.checked_add(size).is_none_or(|last| last > end) {
            return Err(CuError::OUT_OF_MEMORY);
        }
        if taken.iter().any(|part| part.base < base + size && base < part.base + part.size) {
            return Err(CuError::ALREADY_MAPPED);
        }
        let range = AddressRange { base, size };
        let position = taken.partition_point(|part| part.base < base);
        taken.insert(position, range);
        Ok(Span { window: window()?, range })
    }
}

/// A part of the window that belongs to one session; given back, emptied, when dropped.
#[derive(Debug)]
pub(super) struct Span {
    window: &'static Window,
    range: AddressRange,
}

impl Span {
    /// Its addresses.
    pub(super) fn range(&self) -> AddressRange {
        self.range
    }

    fn contains(&self, first: u64, last: u64) -> bool {
        first >= self.range.base && first <= last && last <= self.range.base + self.range.size
    }

    /// Makes whole pages accessible; they read as zeros. `first` and `last` are multiples of [`PAGE`].
    pub(super) fn open(&self, first: u64, last: u64) -> CuResult {
        if !self.contains(first, last) || !first.is_multiple_of(PAGE) || !last.is_multiple_of(PAGE) {
            return Err(CuError::INVALID_VALUE);
        }
        if first == last {
            return Ok(());
        }
        let length = (last - first) as usize;
        // SAFETY: the pages lie in the reservation and belong to this session.
        let failed = unsafe { libc::mprotect(first as *mut libc::c_void, length, libc::PROT_READ | libc::PROT_WRITE) };
        if failed != 0 {
            let error = std::io::Error::last_os_error();
            tracing::warn!(%error, "cannot open {length} bytes of device memory");
            return Err(CuError::OUT_OF_MEMORY);
        }
        if last - first >= HUGE {
            // Only a hint: fewer page faults.
            // SAFETY: as above.
            unsafe { libc::madvise(first as *mut libc::c_void, length, libc::MADV_HUGEPAGE) };
        }
        Ok(())
    }

    /// Gives whole pages back to the operating system and takes access away.
    pub(super) fn close(&self, first: u64, last: u64) {
        if !self.contains(first, last) || first == last {
            return;
        }
        let length = (last - first) as usize;
        // A fresh mapping in their place drops the pages, their content and their hints at once.
        // SAFETY: the pages lie in the reservation and belong to this session, which has no more use for them.
        let got = unsafe {
            libc::mmap(
                first as *mut libc::c_void,
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if got == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            tracing::error!(%error, "cannot close {length} bytes of device memory");
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.close(self.range.base, self.range.base + self.range.size);
        self.window.taken.lock().retain(|part| part.base != self.range.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_come_back() {
        let window = window().unwrap();
        let first = window.take(GRAIN, Some(window.base + 900 * GRAIN)).unwrap();
        assert_eq!(window.take(GRAIN, Some(first.range.base)).unwrap_err(), CuError::ALREADY_MAPPED);
        let free = window.take(3 * GRAIN, None).unwrap();
        assert!(free.range.base + free.range.size <= first.range.base || free.range.base > first.range.base);
        drop(first);
        window.take(GRAIN, Some(window.base + 900 * GRAIN)).unwrap();
        assert_eq!(window.take(2 * SIZE, None).unwrap_err(), CuError::OUT_OF_MEMORY);
        assert_eq!(window.take(GRAIN, Some(window.base + 1)).unwrap_err(), CuError::INVALID_VALUE);
    }

    #[test]
    fn closed_pages_read_as_zeros_when_opened_again() {
        let span = window().unwrap().take(GRAIN, None).unwrap();
        let address = span.range().base;
        span.open(address, address + PAGE).unwrap();
        let word = address as *mut u64;
        // SAFETY: the page has just been opened.
        unsafe { word.write(7) };
        span.close(address, address + PAGE);
        span.open(address, address + PAGE).unwrap();
        // SAFETY: the page has just been opened.
        assert_eq!(unsafe { word.read() }, 0);
    }
}
