//! Memory of a session that its client does not place: module variables, the heap of kernels, scratch of executors.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuda::{CuError, CuResult};
use parking_lot::Mutex;

use super::window::{PAGE, Span};

/// A part of the window, handed out in whole pages, lowest first.
#[derive(Debug)]
pub(super) struct Area {
    span: Span,
    /// Free runs: first address and end.
    free: Mutex<BTreeMap<u64, u64>>,
}

/// A run of pages of an area; zeros at first, given back when dropped.
#[derive(Debug)]
pub(super) struct Block {
    area: Arc<Area>,
    address: u64,
    size: u64,
}

impl Area {
    /// All of a span.
    pub(super) fn new(span: Span) -> Arc<Self> {
        let range = span.range();
        Arc::new(Self { span, free: Mutex::new(BTreeMap::from([(range.base, range.base + range.size)])) })
    }

    /// Takes memory for `bytes` bytes.
    pub(super) fn allocate(self: &Arc<Self>, bytes: u64) -> CuResult<Block> {
        let size = bytes.max(1).checked_next_multiple_of(PAGE).ok_or(CuError::OUT_OF_MEMORY)?;
        let address = {
            let mut free = self.free.lock();
            let (first, end) = free
                .iter()
                .map(|(first, end)| (*first, *end))
                .find(|(first, end)| end - first >= size)
                .ok_or(CuError::OUT_OF_MEMORY)?;
            free.remove(&first);
            if first + size < end {
                free.insert(first + size, end);
            }
            first
        };
        let block = Block { area: Arc::clone(self), address, size };
        self.span.open(address, address + size)?;
        Ok(block)
    }
}

impl Block {
    /// First address; a multiple of 64 KiB.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Size in bytes, in whole pages.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a range lies inside.
    pub(super) fn covers(&self, address: u64, end: u64) -> bool {
        address >= self.address && end <= self.address + self.size
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.area.span.close(self.address, self.address + self.size);
        let mut free = self.area.free.lock();
        let (mut first, mut end) = (self.address, self.address + self.size);
        if let Some((before, _)) = free.range(..first).next_back().filter(|(_, before_end)| **before_end == first) {
            first = *before;
        }
        if let Some(after_end) = free.remove(&end) {
            end = after_end;
        }
        free.insert(first, end);
    }
}

/// The heap that kernels allocate from.
#[derive(Debug)]
pub(super) struct Heap {
    _block: Block,
    runs: Mutex<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    free: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
}

impl Heap {
    /// A heap in a block.
    pub(super) fn new(block: Block) -> Self {
        let free = BTreeMap::from([(block.address(), block.size())]);
        Self { _block: block, runs: Mutex::new(Runs { free, used: BTreeMap::new() }) }
    }

    /// Memory aligned to 16 bytes, or 0 when there is none.
    pub(super) fn allocate(&self, size: u64) -> u64 {
        let Some(size) = size.max(1).checked_next_multiple_of(16) else { return 0 };
        let mut runs = self.runs.lock();
        let Some((address, length)) =
            runs.free.iter().find(|(_, length)| **length >= size).map(|(address, length)| (*address, *length))
        else {
            return 0;
        };
        runs.free.remove(&address);
        if length > size {
            runs.free.insert(address + size, length - size);
        }
        runs.used.insert(address, size);
        address
    }

    /// Returns memory; false when it was not allocated here.
    pub(super) fn free(&self, address: u64) -> bool {
        let mut runs = self.runs.lock();
        let Some(mut size) = runs.used.remove(&address) else { return false };
        let mut first = address;
        if let Some(after) = runs.free.remove(&(address + size)) {
            size += after;
        }
        let before = runs.free.range(..address).next_back().map(|(start, length)| (*start, *length));
        if let Some((start, length)) = before.filter(|(start, length)| start + length == address) {
            first = start;
            size += length;
        }
        runs.free.insert(first, size);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::window;
    use super::*;

    #[test]
    fn blocks_come_back_and_join() {
        let area = Area::new(window().unwrap().take(1, None).unwrap());
        let blocks: Vec<Block> = (0..4).map(|_| area.allocate(1).unwrap()).collect();
        let first = blocks[0].address();
        assert_eq!(blocks[3].address(), first + 3 * PAGE);
        drop(blocks);
        assert_eq!(area.free.lock().len(), 1);
        assert_eq!(area.allocate(1 << 30).unwrap().address(), first);
        assert_eq!(area.allocate(2 << 30).unwrap_err(), CuError::OUT_OF_MEMORY);
    }

    #[test]
    fn the_heap_hands_out_disjoint_aligned_memory() {
        let area = Area::new(window().unwrap().take(1, None).unwrap());
        let heap = Heap::new(area.allocate(PAGE).unwrap());
        let first = heap.allocate(10);
        let second = heap.allocate(100);
        assert!(first != 0 && second >= first + 10 && second.is_multiple_of(16));
        assert_eq!(heap.allocate(PAGE), 0);
        assert!(heap.free(first) && !heap.free(first) && !heap.free(second + 16));
        assert!(heap.free(second));
        assert_eq!(heap.allocate(PAGE), first);
    }
}
