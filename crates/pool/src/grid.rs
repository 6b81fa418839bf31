//! Things that have an amount free, found by what a request needs and in the order of a key.
//!
//! Cells are logarithmic in both parts of the amount (four to an octave), so whatever lies in a cell beyond the request's own
//! row and column fits without a look, and only the cells on the edge hold things that may not. Inside a cell things
//! are ordered by key. A search looks at the first fitting thing of each occupied cell.

use std::collections::{BTreeMap, BTreeSet};

use crate::Amount;

/// See the module's text. The least key wins; items break ties, lower first.
#[derive(Clone, Debug)]
pub(crate) struct Grid<T> {
    cells: BTreeMap<(u16, u16), BTreeSet<(u32, T)>>,
}

impl<T> Default for Grid<T> {
    fn default() -> Self {
        Self { cells: BTreeMap::new() }
    }
}

/// Monotone in `value`: four levels to an octave.
fn level(value: u64) -> u16 {
    let octave = 64 - value.leading_zeros();
    let below = if octave > 3 { (value >> (octave - 3)) & 3 } else { (value << (3 - octave)) & 3 };
    u16::try_from(u64::from(octave) * 4 + below).unwrap_or(u16::MAX)
}

fn cell(amount: Amount) -> (u16, u16) {
    (level(amount.vram.get()), level(amount.tflops.milli()))
}

impl<T: Ord + Copy> Grid<T> {
    pub(crate) fn insert(&mut self, free: Amount, key: u32, item: T) {
        self.cells.entry(cell(free)).or_default().insert((key, item));
    }

    pub(crate) fn remove(&mut self, free: Amount, key: u32, item: T) {
        let at = cell(free);
        if let Some(set) = self.cells.get_mut(&at) {
            set.remove(&(key, item));
            if set.is_empty() {
                self.cells.remove(&at);
            }
        }
    }

    /// The fitting item of the least key; ties go to the lower item.
    pub(crate) fn best(&self, needed: Amount, mut fits: impl FnMut(T) -> bool) -> Option<(u32, T)> {
        let (row, column) = cell(needed);
        let mut best: Option<(u32, T)> = None;
        for (&(_, at), set) in self.cells.range((row, 0)..) {
            if at < column {
                continue;
            }
            let better = |entry: &&(u32, T)| best.as_ref().is_none_or(|found| **entry < *found);
            best = set.iter().take_while(better).find(|entry| fits(entry.1)).copied().or(best);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_monotone_and_tell_neighbours_of_a_quarter_octave_apart() {
        let values = (0..64).flat_map(|shift| [1u64 << shift, (1u64 << shift) + (1u64 << shift) / 4]);
        let levels: Vec<u16> = std::iter::once(0).chain(values).map(level).collect();
        assert!(levels.windows(2).all(|pair| pair[0] <= pair[1]), "{levels:?}");
        assert!(level(1 << 30) < level((1 << 30) + (1 << 28)));
        assert_eq!(level(u64::MAX), 64 * 4 + 3);
    }
}
