//! Chooses device addresses: best fit over the free parts of one range.
//!
//! Addresses are multiples of [`GRAIN`]; what is large starts at a page, so that a freed large piece gives its pages back.

use std::collections::{BTreeMap, BTreeSet};

/// Every address handed out is a multiple of this, as with NVIDIA's driver.
pub(super) const GRAIN: u64 = 512;
const PAGE: u64 = 64 << 10;

/// The free part of an address range.
#[derive(Debug, Default)]
pub(super) struct Space {
    by_address: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl Space {
    /// All of `base .. base + size` is free.
    pub(super) fn new(base: u64, size: u64) -> Self {
        let mut space = Self::default();
        let start = base.next_multiple_of(PAGE);
        let end = base.saturating_add(size) / GRAIN * GRAIN;
        if start < end {
            space.insert(start, end - start);
        }
        space
    }

    fn insert(&mut self, base: u64, size: u64) {
        self.by_address.insert(base, size);
        self.by_size.insert((size, base));
    }

    fn remove(&mut self, base: u64, size: u64) {
        self.by_address.remove(&base);
        self.by_size.remove(&(size, base));
    }

    /// Takes the smallest free piece that `size` bytes fit in. `None` when there is none.
    pub(super) fn take(&mut self, size: u64) -> Option<u64> {
        let size = size.max(1).checked_next_multiple_of(GRAIN)?;
        let align = if size >= PAGE { PAGE } else { GRAIN };
        let (piece_size, piece, address) = self.by_size.range((size, 0)..).find_map(|&(piece_size, piece)| {
            let address = piece.checked_next_multiple_of(align)?;
            (address - piece + size <= piece_size).then_some((piece_size, piece, address))
        })?;
        self.remove(piece, piece_size);
        if address > piece {
            self.insert(piece, address - piece);
        }
        let end = address + size;
        if piece + piece_size > end {
            self.insert(end, piece + piece_size - end);
        }
        Some(address)
    }

    /// Gives back what [`Space::take`] returned for the same size.
    pub(super) fn give_back(&mut self, address: u64, size: u64) {
        let mut base = address;
        let mut size = size.max(1).next_multiple_of(GRAIN);
        if let Some((&before, &length)) = self.by_address.range(..base).next_back()
            && before + length == base
        {
            self.remove(before, length);
            base = before;
            size += length;
        }
        if let Some(&length) = self.by_address.get(&(base + size)) {
            self.remove(base + size, length);
            size += length;
        }
        self.insert(base, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_merge_again() {
        let mut space = Space::new(1 << 20, 1 << 20);
        let sizes = [1, 513, 70_000, 512, 200_000, 4096];
        let mut taken: Vec<(u64, u64)> = sizes.iter().map(|&size| (space.take(size).unwrap(), size)).collect();
        taken.sort_unstable();
        for pair in taken.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            assert_eq!(pair[0].0 % GRAIN, 0);
        }
        for (address, size) in taken {
            space.give_back(address, size);
        }
        assert_eq!(space.take(1 << 20), Some(1 << 20));
        assert_eq!(space.take(1), None);
    }

    #[test]
    fn absurd_sizes_do_not_fit() {
        let mut space = Space::new(1 << 20, 1 << 20);
        assert_eq!(space.take(u64::MAX), None);
        assert_eq!(space.take(1 << 62), None);
    }
}
