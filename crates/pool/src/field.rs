//! Things that have an amount free, found by what a request needs and in the order of a key.
//!
//! A field is a square of 64 × 64 cells, by VRAM and by compute. Whatever lies in a cell beyond the request's own row and
//! column fits without a look; only the cells of that row and column hold things that may not. Each cell knows its least
//! and its greatest key, so a search compares a few hundred numbers that lie side by side, and opens a cell only when that
//! betters what it has. In a cell, things are ordered by key and then by amount: things that have the same free are passed
//! over together. One change is one removal and one insertion, whatever the order in which a request looks.

use std::ops::Range;

use crate::Amount;
use crate::cell::{Cell, Entry, TFLOPS_BITS, VRAM_BITS};

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

#[derive(Clone, Debug)]
struct Row {
    occupied: u64,
    least: [u32; LEVELS],
    most: [u32; LEVELS],
    cells: [Cell; LEVELS],
}

impl Row {
    fn new() -> Self {
        Self { occupied: 0, least: [u32::MAX; LEVELS], most: [0; LEVELS], cells: [const { Cell::new() }; LEVELS] }
    }

    /// Brings the cell's summary up to date.
    fn sum_up(&mut self, column: usize) {
        let cell = &self.cells[column];
        let (first, last) = (cell.first(), cell.last());
        self.least[column] = first.map_or(u32::MAX, |entry| entry.key());
        self.most[column] = last.map_or(0, |entry| entry.key());
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
        let shift = |value: u64, most: u32| (64 - value.leading_zeros()).saturating_sub(LEVELS.ilog2()).min(most);
        let shift = [shift(largest.vram.get(), VRAM_BITS), shift(largest.tflops.milli(), TFLOPS_BITS)];
        Self { shift, rows: Vec::new() }
    }

    /// The cell of an amount, and what it has beyond the cell's corner.
    fn cell(&self, amount: Amount) -> ([usize; 2], [u64; 2]) {
        let part = |value: u64, shift: u32| {
            let level = usize::try_from(value >> shift).map_or(LEVELS - 1, |level| level.min(LEVELS - 1));
            (level, value - ((level as u64) << shift))
        };
        let (vram, tflops) = (part(amount.vram.get(), self.shift[0]), part(amount.tflops.milli(), self.shift[1]));
        ([vram.0, tflops.0], [vram.1, tflops.1])
    }

    pub(crate) fn insert(&mut self, free: Amount, key: u32, item: u32) {
        let ([row, column], beyond) = self.cell(free);
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, || None);
        }
        let row = self.rows[row].get_or_insert_with(|| Box::new(Row::new()));
        row.cells[column].insert(Entry::new(key, beyond, item));
        row.least[column] = row.least[column].min(key);
        row.most[column] = row.most[column].max(key);
        row.occupied |= 1 << column;
    }

    pub(crate) fn remove(&mut self, free: Amount, key: u32, item: u32) {
        let ([row, column], beyond) = self.cell(free);
        if let Some(Some(row)) = self.rows.get_mut(row)
            && row.cells[column].remove(Entry::new(key, beyond, item))
            && (key == row.least[column] || key == row.most[column])
        {
            row.sum_up(column);
        }
    }

    /// Gives an item another key.
    pub(crate) fn rekey(&mut self, free: Amount, old: u32, new: u32, item: u32) {
        let ([row, column], beyond) = self.cell(free);
        if let Some(Some(row)) = self.rows.get_mut(row) {
            row.cells[column].replace(Entry::new(old, beyond, item), Entry::new(new, beyond, item));
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
        let ([first, edge], [vram, tflops]) = self.cell(needed);
        let mut best = found;
        // What lies inside first, from where the best keys are: the edges then rarely matter.
        let inside = self.rows.get(first + 1..).unwrap_or_default();
        let mut visit = |row: &Option<Box<Row>>, columns: Range<usize>, beyond: [u64; 2]| {
            if let Some(row) = row {
                search(row, columns, beyond, order, &mut best, &mut fits);
            }
        };
        match order {
            Order::Least => inside.iter().for_each(|row| visit(row, edge + 1..LEVELS, [0, 0])),
            Order::Most => inside.iter().rev().for_each(|row| visit(row, edge + 1..LEVELS, [0, 0])),
        }
        if let Some(row) = self.rows.get(first) {
            visit(row, edge + 1..LEVELS, [vram, 0]);
            visit(row, edge..edge + 1, [vram, tflops]);
        }
        match order {
            Order::Least => inside.iter().for_each(|row| visit(row, edge..edge + 1, [0, tflops])),
            Order::Most => inside.iter().rev().for_each(|row| visit(row, edge..edge + 1, [0, tflops])),
        }
        best
    }
}

/// Looks through some cells of a row for what has so much beyond their corners.
fn search(
    row: &Row,
    columns: Range<usize>,
    beyond: [u64; 2],
    order: Order,
    best: &mut Option<(u32, u32)>,
    fits: &mut impl FnMut(u32) -> bool,
) {
    let (from, to) = (columns.start, columns.end);
    if from >= to {
        return;
    }
    let mut left = row.occupied & (u64::MAX << from) & (u64::MAX >> (LEVELS - to));
    if left == 0 {
        return;
    }
    let keys = if order == Order::Least { &row.least[from..to] } else { &row.most[from..to] };
    if let Some((found, _)) = *best {
        let top = match order {
            Order::Least => keys.iter().fold(u32::MAX, |top, &key| top.min(key)),
            Order::Most => keys.iter().fold(0, |top, &key| top.max(key)),
        };
        if !order.holds(top, found) {
            return;
        }
    }
    while left != 0 {
        let column = if order == Order::Least { left.trailing_zeros() } else { left.ilog2() };
        left &= !(1 << column);
        let column = column as usize;
        if best.is_none_or(|(found, _)| order.holds(keys[column - from], found)) {
            *best = match order {
                Order::Least => row.cells[column].least(beyond, *best, fits),
                Order::Most => row.cells[column].most(beyond, *best, fits),
            };
        }
    }
}
