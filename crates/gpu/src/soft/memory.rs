//! What of a session's addresses is mapped.
//!
//! A mapping has exactly the size that was asked; several may share a 64 KiB page at their borders. As mappings never
//! overlap, only a mapping's first and last page can be shared, so its neighbours tell which pages may close.

use std::collections::BTreeMap;

use cuda::{AddressRange, CuError, CuResult, Region};

use super::window::{PAGE, Span};

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Size in bytes.
    pub(super) size: u64,
    /// Position of the device that is charged.
    pub(super) device: u32,
    /// It is about to go: nothing new may use it.
    pub(super) closing: bool,
}

/// The mappings of a session, by address.
#[derive(Debug)]
pub(super) struct Mappings {
    range: AddressRange,
    all: BTreeMap<u64, Mapping>,
}

impl Mappings {
    /// No mappings, in a range.
    pub(super) fn new(range: AddressRange) -> Self {
        Self { range, all: BTreeMap::new() }
    }

    /// Backs addresses with memory.
    pub(super) fn map(&mut self, span: &Span, device: u32, address: u64, size: u64) -> CuResult {
        let end = address.checked_add(size).ok_or(CuError::INVALID_VALUE)?;
        if size == 0 || address < self.range.base || end > self.range.base + self.range.size {
            return Err(CuError::INVALID_VALUE);
        }
        if self.all.range(..end).next_back().is_some_and(|(first, mapping)| first + mapping.size > address) {
            return Err(CuError::ALREADY_MAPPED);
        }
        let (first, last) = self.own_pages(address, end);
        span.open(first, last)?;
        self.all.insert(address, Mapping { size, device, closing: false });
        Ok(())
    }

    /// Backs the lowest free addresses, aligned to 512 bytes, with memory.
    pub(super) fn place(&mut self, span: &Span, device: u32, size: u64) -> CuResult<u64> {
        const ALIGNMENT: u64 = 512;
        let mut address = self.range.base;
        for (first, mapping) in &self.all {
            if address.checked_add(size).is_none_or(|end| end <= *first) {
                break;
            }
            address = (first + mapping.size).next_multiple_of(ALIGNMENT);
        }
        self.map(span, device, address, size).map(|()| address).map_err(|error| match error {
            CuError::INVALID_VALUE if size > 0 => CuError::OUT_OF_MEMORY,
            other => other,
        })
    }

    /// Announces the end of a mapping: from now on nothing can use it.
    pub(super) fn begin_unmap(&mut self, address: u64, device: u32) -> CuResult<Mapping> {
        let mapping = self.all.get_mut(&address).filter(|mapping| !mapping.closing && mapping.device == device);
        let mapping = mapping.ok_or(CuError::INVALID_VALUE)?;
        mapping.closing = true;
        Ok(*mapping)
    }

    /// Takes back a mapping whose end was announced.
    pub(super) fn end_unmap(&mut self, span: &Span, address: u64) {
        if let Some(mapping) = self.all.remove(&address) {
            let (first, last) = self.own_pages(address, address + mapping.size);
            span.close(first, last);
        }
    }

    /// Gives a mapping whose end was announced back to use.
    pub(super) fn keep(&mut self, address: u64) {
        if let Some(mapping) = self.all.get_mut(&address) {
            mapping.closing = false;
        }
    }

    /// The pages of a range that no mapping beside it uses.
    fn own_pages(&self, address: u64, end: u64) -> (u64, u64) {
        let mut first = address / PAGE * PAGE;
        let mut last = end.next_multiple_of(PAGE);
        if self.all.range(..address).next_back().is_some_and(|(start, mapping)| start + mapping.size > first) {
            first += PAGE;
        }
        if self.all.range(end..).next().is_some_and(|(start, _)| *start < last) {
            last -= PAGE;
        }
        (first, last.max(first))
    }

    /// Whether every byte of a range is mapped.
    pub(super) fn covers(&self, address: u64, end: u64) -> bool {
        let mut at = address;
        let start = self.all.range(..=address).next_back().map_or(address, |(start, _)| *start);
        for (start, mapping) in self.all.range(start..) {
            if *start > at || mapping.closing || start + mapping.size <= at {
                return false;
            }
            at = start + mapping.size;
            if at >= end {
                return true;
            }
        }
        at >= end
    }
}

/// The range from a region's first byte to its last, if the region makes sense: rows and slices follow one another
/// without overlap, and nothing overflows. `None` in `Ok` when the region is empty.
pub(super) fn extent(region: &Region) -> CuResult<Option<(u64, u64)>> {
    if region.width == 0 || region.rows == 0 || region.slices == 0 {
        return Ok(None);
    }
    let inner = || -> Option<u64> {
        let rows = (region.rows - 1).checked_mul(region.row_pitch)?.checked_add(region.width)?;
        let sound = (region.rows == 1 || region.row_pitch >= region.width)
            && (region.slices == 1 || region.slice_pitch >= rows);
        let all = (region.slices - 1).checked_mul(region.slice_pitch)?.checked_add(rows)?;
        sound.then_some(region.address.checked_add(all)?)
    };
    inner().map(|end| Some((region.address, end))).ok_or(CuError::INVALID_VALUE)
}

#[cfg(test)]
mod tests {
    use super::super::window::window;
    use super::*;

    fn session() -> (Span, Mappings) {
        let span = window().unwrap().take(1, None).unwrap();
        let range = span.range();
        (span, Mappings::new(range))
    }

    #[test]
    fn small_mappings_share_a_page_until_the_last_is_gone() {
        let (span, mut all) = session();
        let base = span.range().base;
        all.map(&span, 0, base, 512).unwrap();
        all.map(&span, 0, base + 512, PAGE).unwrap();
        assert_eq!(all.own_pages(base + 512, base + 512 + PAGE), (base + PAGE, base + 2 * PAGE));
        assert!(all.covers(base, base + 512 + PAGE));
        all.begin_unmap(base, 0).unwrap();
        assert!(!all.covers(base, base + 4) && all.covers(base + 512, base + 600));
        all.end_unmap(&span, base);
        let word = (base + 512) as *mut u32;
        // SAFETY: the second mapping is still there.
        #[expect(unsafe_code, reason = "touches memory that must still be mapped")]
        unsafe {
            word.write(1);
        }
        all.begin_unmap(base + 512, 0).unwrap();
        all.end_unmap(&span, base + 512);
        assert!(!all.covers(base + 512, base + 513));
    }

    #[test]
    fn mappings_do_not_overlap_and_end_once() {
        let (span, mut all) = session();
        let base = span.range().base;
        all.map(&span, 0, base + 100, 100).unwrap();
        for (address, size) in [(base, 101), (base + 150, 1), (base + 199, 10), (base + 50, 500)] {
            assert_eq!(all.map(&span, 0, address, size), Err(CuError::ALREADY_MAPPED));
        }
        all.map(&span, 0, base, 100).unwrap();
        all.map(&span, 0, base + 200, 1).unwrap();
        assert!(all.covers(base, base + 201) && !all.covers(base, base + 202) && !all.covers(base + 201, base + 202));
        assert_eq!(all.map(&span, 0, base + (1 << 30), 1), Err(CuError::INVALID_VALUE));
        assert_eq!(all.map(&span, 0, base + 300, 0), Err(CuError::INVALID_VALUE));
        all.begin_unmap(base, 0).unwrap();
        assert_eq!(all.begin_unmap(base, 0), Err(CuError::INVALID_VALUE));
        assert_eq!(all.begin_unmap(base + 1, 0), Err(CuError::INVALID_VALUE));
    }

    #[test]
    fn regions_that_overlap_themselves_or_overflow_are_refused() {
        let plane = Region { address: 1000, width: 10, rows: 3, row_pitch: 16, slices: 2, slice_pitch: 48 };
        assert_eq!(extent(&plane), Ok(Some((1000, 1000 + 48 + 32 + 10))));
        assert_eq!(extent(&Region { width: 0, ..plane }), Ok(None));
        assert!(extent(&Region { row_pitch: 9, ..plane }).is_err());
        assert!(extent(&Region { slice_pitch: 40, ..plane }).is_err());
        assert!(extent(&Region { rows: u64::MAX, ..plane }).is_err());
        assert!(extent(&Region { address: u64::MAX - 5, ..plane }).is_err());
    }
}
