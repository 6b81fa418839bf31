//! Things that have an amount free, found by what a request needs and in the order of a key.
//!
//! A field is a square of 64 × 64 cells, by VRAM and by compute. Whatever lies in a cell beyond the request's own row and
//! column fits without a look; only the cells of that row and column hold things that may not. Each cell knows its least
//! and its greatest key, so a search compares a few hundred numbers that lie side by side, and opens a cell only when that
//! betters what it has. In a cell, things are ordered by key and then by amount: things that have the same free are passed
//! over together. One change is one removal and one insertion, whatever the order in which a request looks.

use std::collections::BTreeSet;

use crate::Amount;

const LEVELS: usize = 64;

/// Which key wins. Ties go to the lower item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Least,
    Most,
}

impl Order {
    /// Whether `key` is as good as `best` or better.
    fn holds(self, key: u32, best: u32) -> bool {
        match self {
            Self::Least => key <= best,
            Self::Most => key >= best,
        }
    }

    /// The better of two answers.
    pub(crate) fn better(self, a: Option<(u32, u32)>, b: Option<(u32, u32)>) -> Option<(u32, u32)> {
        let (Some(one), Some(other)) = (a, b) else { return a.or(b) };
        let rank = |(key, item): (u32, u32)| (if self == Self::Least { key } else { u32::MAX - key }, item);
        Some(if rank(one) <= rank(other) { one } else { other })
    }
}

/// Key, VRAM, compute, item.
type Entry = (u32, u64, u64, u32);

#[derive(Clone, Debug)]
struct Row {
    occupied: u64,
    least: [u32; LEVELS],
    most: [u32; LEVELS],
    cells: [BTreeSet<Entry>; LEVELS],
}

impl Row {
    fn new() -> Self {
        Self {
            occupied: 0,
            least: [u32::MAX; LEVELS],
            most: [0; LEVELS],
            cells: std::array::from_fn(|_| BTreeSet::new()),
        }
    }

    /// Brings the cell's summary up to date.
    fn sum_up(&mut self, column: usize) {
        let cell = &self.cells[column];
        let (first, last) = (cell.first(), cell.last());
        self.least[column] = first.map_or(u32::MAX, |entry| entry.0);
        self.most[column] = last.map_or(0, |entry| entry.0);
        match first {
            Some(_) => self.occupied |= 1 << column,
            None => self.occupied &= !(1 << column),
        }
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    shift: [u32; 2],
    /// Made when first needed: most pools use few rows.
    rows: Vec<Option<Box<Row>>>,
}

impl Field {
    /// One whose cells divide `largest` well.
    pub(crate) fn new(largest: Amount) -> Self {
        let shift = |value: u64| (64 - value.leading_zeros()).saturating_sub(LEVELS.ilog2());
        Self { shift: [shift(largest.vram.get()), shift(largest.tflops.milli())], rows: Vec::new() }
    }

    fn cell(&self, amount: Amount) -> (usize, usize) {
        let level = |value: u64| usize::try_from(value).map_or(LEVELS - 1, |value| value.min(LEVELS - 1));
        (level(amount.vram.get() >> self.shift[0]), level(amount.tflops.milli() >> self.shift[1]))
    }

    pub(crate) fn insert(&mut self, free: Amount, key: u32, item: u32) {
        let (row, column) = self.cell(free);
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, || None);
        }
        let row = self.rows[row].get_or_insert_with(|| Box::new(Row::new()));
        row.cells[column].insert((key, free.vram.get(), free.tflops.milli(), item));
        row.least[column] = row.least[column].min(key);
        row.most[column] = row.most[column].max(key);
        row.occupied |= 1 << column;
    }

    pub(crate) fn remove(&mut self, free: Amount, key: u32, item: u32) {
        let (row, column) = self.cell(free);
        if let Some(Some(row)) = self.rows.get_mut(row)
            && row.cells[column].remove(&(key, free.vram.get(), free.tflops.milli(), item))
            && (key == row.least[column] || key == row.most[column])
        {
            row.sum_up(column);
        }
    }

    /// The fitting item of the best key. `found` is what a search elsewhere has: nothing worse is looked at.
    pub(crate) fn best(
        &self,
        needed: Amount,
        order: Order,
        found: Option<(u32, u32)>,
        mut fits: impl FnMut(u32) -> bool,
    ) -> Option<(u32, u32)> {
        let (first, edge) = self.cell(needed);
        let mut best = found;
        let rows = |from: usize| self.rows.iter().skip(from).filter_map(Option::as_deref);
        // What lies inside first: the edges then rarely matter.
        for row in rows(first + 1) {
            search(row, edge + 1, LEVELS, needed, order, &mut best, &mut fits);
        }
        for row in rows(first).take(1) {
            search(row, edge, LEVELS, needed, order, &mut best, &mut fits);
        }
        for row in rows(first + 1) {
            search(row, edge, edge + 1, needed, order, &mut best, &mut fits);
        }
        best
    }
}

/// Looks through the cells `from..to` of a row.
fn search(
    row: &Row,
    from: usize,
    to: usize,
    needed: Amount,
    order: Order,
    best: &mut Option<(u32, u32)>,
    fits: &mut impl FnMut(u32) -> bool,
) {
    if from >= to {
        return;
    }
    let keys = if order == Order::Least { &row.least[from..to] } else { &row.most[from..to] };
    if let Some((found, _)) = *best {
        let top = if order == Order::Least { keys.iter().min() } else { keys.iter().max() };
        if !top.is_some_and(|&top| order.holds(top, found)) {
            return;
        }
    }
    let mut left = row.occupied & (u64::MAX << from) & (u64::MAX >> (LEVELS - to));
    while left != 0 {
        let column = left.trailing_zeros() as usize;
        left &= left - 1;
        if best.is_none_or(|(found, _)| order.holds(keys[column - from], found)) {
            *best = order.better(*best, open(&row.cells[column], needed, order, *best, fits));
        }
    }
}

/// The best fitting item of one cell.
fn open(
    cell: &BTreeSet<Entry>,
    needed: Amount,
    order: Order,
    mut best: Option<(u32, u32)>,
    fits: &mut impl FnMut(u32) -> bool,
) -> Option<(u32, u32)> {
    let (vram, tflops) = (needed.vram.get(), needed.tflops.milli());
    let mut next = if order == Order::Least { cell.first() } else { cell.last() };
    while let Some(&(key, free_vram, free_tflops, item)) = next {
        if best.is_some_and(|(found, _)| !order.holds(key, found)) {
            break;
        }
        if free_vram >= vram && free_tflops >= tflops {
            let better = |item: u32| best.is_none_or(|(found, other)| found != key || item < other);
            // In the order of `Least` the first of its equals is at hand.
            let here = if order == Order::Least && better(item) && fits(item) {
                Some(item)
            } else {
                let equals = cell.range((key, free_vram, free_tflops, 0)..=(key, free_vram, free_tflops, u32::MAX));
                equals.map(|entry| entry.3).take_while(|&item| better(item)).find(|&item| fits(item))
            };
            best = here.map(|item| (key, item)).or(best);
        }
        next = match order {
            Order::Least => cell
                .range((std::ops::Bound::Excluded((key, free_vram, free_tflops, u32::MAX)), std::ops::Bound::Unbounded))
                .next(),
            Order::Most => cell.range(..(key, free_vram, free_tflops, 0)).next_back(),
        };
    }
    best
}
