//! One cell of a field: entries in order. A sorted list while it is short, which one cache line or two answer, and a tree when
//! it is long.

use std::collections::BTreeSet;
use std::ops::Bound;

/// Key, VRAM and compute beyond the cell's corner, item: 32, 40, 24 and 32 bits, so that a comparison is two instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u128);

pub(crate) const VRAM_BITS: u32 = 40;
pub(crate) const TFLOPS_BITS: u32 = 24;

impl Entry {
    pub(crate) fn new(key: u32, [vram, tflops]: [u64; 2], item: u32) -> Self {
        // What is beyond the last cell counts as the most that can be told.
        let (vram, tflops) = (vram.min((1 << VRAM_BITS) - 1), tflops.min((1 << TFLOPS_BITS) - 1));
        let state = u128::from(vram) << TFLOPS_BITS | u128::from(tflops);
        Self(u128::from(key) << 96 | state << 32 | u128::from(item))
    }

    pub(crate) fn key(self) -> u32 {
        (self.0 >> 96) as u32
    }

    fn item(self) -> u32 {
        self.0 as u32
    }

    /// Whether something of this key and amount may have so much beyond the cell's corner.
    fn has(self, [vram, tflops]: [u64; 2]) -> bool {
        let (most_vram, most_tflops) = ((1 << VRAM_BITS) - 1, (1 << TFLOPS_BITS) - 1);
        (self.0 >> (32 + TFLOPS_BITS)) as u64 & most_vram >= vram.min(most_vram)
            && (self.0 >> 32) as u64 & most_tflops >= tflops.min(most_tflops)
    }

    /// The first that may be of the same key and amount.
    fn first_equal(self) -> Self {
        Self(self.0 & !u128::from(u32::MAX))
    }

    /// The last that may be of the same key and amount.
    fn last_equal(self) -> Self {
        Self(self.0 | u128::from(u32::MAX))
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Short(Vec<Entry>),
    Long(BTreeSet<Entry>),
}

const LONGEST_LIST: usize = 256;
const SHORTEST_TREE: usize = 64;

/// So many entries that do not fit are passed one by one before all their equals are skipped.
const PATIENCE: u32 = 8;

impl Cell {
    pub(crate) const fn new() -> Self {
        Self::Short(Vec::new())
    }

    pub(crate) fn first(&self) -> Option<Entry> {
        match self {
            Self::Short(list) => list.first().copied(),
            Self::Long(tree) => tree.first().copied(),
        }
    }

    pub(crate) fn last(&self) -> Option<Entry> {
        match self {
            Self::Short(list) => list.last().copied(),
            Self::Long(tree) => tree.last().copied(),
        }
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        match self {
            Self::Short(list) if list.len() == LONGEST_LIST => {
                let mut tree: BTreeSet<Entry> = list.drain(..).collect();
                tree.insert(entry);
                *self = Self::Long(tree);
            }
            Self::Short(list) => {
                let at = list.partition_point(|other| *other < entry);
                if list.get(at) != Some(&entry) {
                    list.insert(at, entry);
                }
            }
            Self::Long(tree) => {
                tree.insert(entry);
            }
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, entry: Entry) -> bool {
        match self {
            Self::Short(list) => match list.binary_search(&entry) {
                Ok(at) => {
                    list.remove(at);
                    true
                }
                Err(_) => false,
            },
            Self::Long(tree) => {
                let found = tree.remove(&entry);
                if tree.len() < SHORTEST_TREE {
                    *self = Self::Short(tree.iter().copied().collect());
                }
                found
            }
        }
    }

    /// Puts `new` in the place of `old`.
    pub(crate) fn replace(&mut self, old: Entry, new: Entry) {
        if let Self::Short(list) = self
            && let Ok(at) = list.binary_search(&old)
        {
            let to = list.partition_point(|other| *other < new);
            if to > at {
                list[at..to].rotate_left(1);
                list[to - 1] = new;
            } else {
                list[to..=at].rotate_right(1);
                list[to] = new;
            }
        } else if self.remove(old) {
            self.insert(new);
        }
    }

    /// The fitting item of the least key, or what was found before.
    pub(crate) fn least(
        &self,
        beyond: [u64; 2],
        best: Option<(u32, u32)>,
        fits: &mut impl FnMut(u32) -> bool,
    ) -> Option<(u32, u32)> {
        match self {
            Self::Short(list) => least(
                |after| match after {
                    Some(after) => list[list.partition_point(|entry| *entry <= after)..].iter(),
                    None => list.iter(),
                },
                beyond,
                best,
                fits,
            ),
            Self::Long(tree) => least(
                |after| match after {
                    Some(after) => tree.range((Bound::Excluded(after), Bound::Unbounded)),
                    None => tree.range(..),
                },
                beyond,
                best,
                fits,
            ),
        }
    }

    /// The fitting item of the greatest key, or what was found before.
    pub(crate) fn most(
        &self,
        beyond: [u64; 2],
        best: Option<(u32, u32)>,
        fits: &mut impl FnMut(u32) -> bool,
    ) -> Option<(u32, u32)> {
        match self {
            Self::Short(list) => most(
                |from, before| {
                    let from = from.map_or(0, |from| list.partition_point(|entry| *entry < from));
                    let to = before.map_or(list.len(), |before| list.partition_point(|entry| *entry < before));
                    list[from..to].iter()
                },
                beyond,
                best,
                fits,
            ),
            Self::Long(tree) => most(
                |from, before| {
                    let from = from.map_or(Bound::Unbounded, Bound::Included);
                    tree.range((from, before.map_or(Bound::Unbounded, Bound::Excluded)))
                },
                beyond,
                best,
                fits,
            ),
        }
    }
}

/// `entries`: all after one.
fn least<'a, I: Iterator<Item = &'a Entry>>(
    entries: impl Fn(Option<Entry>) -> I,
    beyond: [u64; 2],
    mut best: Option<(u32, u32)>,
    fits: &mut impl FnMut(u32) -> bool,
) -> Option<(u32, u32)> {
    let (mut left, mut passed) = (entries(None), 0);
    while let Some(&entry) = left.next() {
        if best.is_some_and(|(key, _)| key < entry.key()) {
            break;
        }
        let better = best.is_none_or(|best| (entry.key(), entry.item()) < best);
        if better && entry.has(beyond) {
            if fits(entry.item()) {
                best = Some((entry.key(), entry.item()));
            }
            continue;
        }
        passed += 1;
        if !better || passed > PATIENCE {
            (left, passed) = (entries(Some(entry.last_equal())), 0);
        }
    }
    best
}

/// `entries`: all from one, and before another.
fn most<'a, I: DoubleEndedIterator<Item = &'a Entry>>(
    entries: impl Fn(Option<Entry>, Option<Entry>) -> I,
    beyond: [u64; 2],
    mut best: Option<(u32, u32)>,
    fits: &mut impl FnMut(u32) -> bool,
) -> Option<(u32, u32)> {
    let (mut left, mut passed) = (entries(None, None), 0);
    while let Some(&entry) = left.next_back() {
        if best.is_some_and(|(key, _)| key > entry.key()) {
            break;
        }
        let fitting = entry.has(beyond);
        if fitting {
            // The lowest of its equals comes first.
            let better = |item: u32| best.is_none_or(|(key, other)| key < entry.key() || item < other);
            let equals = entries(Some(entry.first_equal()), None).take_while(|equal| **equal <= entry);
            let found = equals.map(|equal| equal.item()).take_while(|&item| better(item)).find(|&item| fits(item));
            best = found.map(|item| (entry.key(), item)).or(best);
        }
        passed += 1;
        if fitting || passed > PATIENCE {
            (left, passed) = (entries(None, Some(entry.first_equal())), 0);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by trying all.
    fn reference(entries: &[Entry], beyond: [u64; 2], least: bool, fits: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        let fitting = entries.iter().filter(|entry| entry.has(beyond) && fits(entry.item()));
        let ranked = fitting.map(|entry| (if least { entry.key() } else { u32::MAX - entry.key() }, entry.item()));
        ranked.min().map(|(key, item)| (if least { key } else { u32::MAX - key }, item))
    }

    proptest! {
        #[test]
        fn a_cell_answers_as_a_plain_list_does(
            steps in prop::collection::vec((0..4u32, 0..4u64, 0..4u64, 0..400u32, any::<bool>()), 1..700),
            needed in (0..4u64, 0..4u64),
            unfit in 0..5u32,
        ) {
            let (mut cell, mut plain) = (Cell::new(), Vec::new());
            for (key, vram, tflops, item, remove) in steps {
                let entry = Entry::new(key, [vram, tflops], item);
                if remove && item % 3 == 0 {
                    prop_assert_eq!(cell.remove(entry), plain.contains(&entry));
                    plain.retain(|other| *other != entry);
                } else if remove && !plain.is_empty() && !plain.contains(&entry) {
                    let old = plain.remove(item as usize % plain.len());
                    cell.replace(old, entry);
                    plain.push(entry);
                } else if !plain.contains(&entry) {
                    cell.insert(entry);
                    plain.push(entry);
                }
            }
            prop_assert_eq!(cell.first(), plain.iter().min().copied());
            prop_assert_eq!(cell.last(), plain.iter().max().copied());
            let beyond = [needed.0, needed.1];
            let fits = |item: u32| item % 5 >= unfit;
            prop_assert_eq!(cell.least(beyond, None, &mut |item| fits(item)), reference(&plain, beyond, true, fits));
            prop_assert_eq!(cell.most(beyond, None, &mut |item| fits(item)), reference(&plain, beyond, false, fits));
        }
    }
}
