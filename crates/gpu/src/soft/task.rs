//! Work that executors share: kernels, copies and fills, cut into pieces.
//!
//! Pieces are claimed in ascending order and a claimed piece runs to its end, so a block that waits for an earlier one
//! (as scans with look-back do) always gets what it waits for.

#![expect(unsafe_code, reason = "copies and fills device memory, which is memory of this process")]

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cuda::{HostBuffer, Region};
use parking_lot::Mutex;
use ptx::exec::Launch;

/// Bytes of a copy or fill that make one piece.
const PIECE: u64 = 1 << 20;

/// What a task does.
pub(super) enum Work {
    /// Runs a kernel.
    Kernel {
        /// What to run.
        launch: Launch,
        /// Its name, for messages.
        name: String,
        /// The blocks must be resident together: all are one piece.
        cooperative: bool,
    },
    /// Moves bytes.
    Move(Move),
}

/// A copy or fill.
#[derive(Debug)]
pub(super) enum Move {
    /// Host bytes to the device. The bytes are the caller's, who waits, or kept with the task.
    ToDevice(Region, HostBuffer),
    /// Device to device.
    OnDevice(Region, Region),
    /// Device to host.
    ToHost(HostBuffer, Region),
    /// A pattern: its size in bytes and its bits.
    Fill(Region, u8, u32),
}

/// One operation under way.
pub(super) struct Task {
    /// The queue that it belongs to.
    pub(super) key: u64,
    /// Position of the device.
    pub(super) device: u32,
    /// Lower numbers first.
    pub(super) priority: i32,
    /// What it does.
    pub(super) work: Work,
    /// Number of pieces.
    pub(super) pieces: u64,
    next: AtomicU64,
    done: AtomicU64,
    /// Pieces that a claim takes at once.
    batch: AtomicU64,
    /// It has failed: what has not begun will not.
    pub(super) failed: AtomicBool,
    /// What must not go away while it runs.
    keep: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("key", &self.key).field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Task {
    /// A task that has not begun.
    pub(super) fn new(key: u64, device: u32, priority: i32, work: Work, keep: Vec<Arc<dyn Any + Send + Sync>>) -> Self {
        let pieces = match &work {
            Work::Kernel { cooperative: true, .. } => 1,
            Work::Kernel { launch, .. } => launch.blocks(),
            Work::Move(work) => work.pieces(),
        };
        Self {
            key,
            device,
            priority,
            work,
            pieces,
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            batch: AtomicU64::new(1),
            failed: AtomicBool::new(false),
            keep: Mutex::new(keep),
        }
    }

    /// Lets go of what it kept alive: it is done, and whoever waits for that may count on the memory being free, even if
    /// an executor still holds the task for a moment.
    pub(super) fn let_go(&self) {
        let kept = std::mem::take(&mut *self.keep.lock());
        drop(kept);
    }

    /// Pieces that nobody has claimed.
    pub(super) fn unclaimed(&self) -> u64 {
        self.pieces.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// Claims the next pieces.
    pub(super) fn claim(&self, executors: u64) -> Option<std::ops::Range<u64>> {
        // Large enough to cost little, small enough to end together.
        let fair = (self.unclaimed() / (executors * 4)).max(1);
        let batch = self.batch.load(Ordering::Relaxed).min(fair);
        let start = self.next.fetch_add(batch, Ordering::Relaxed);
        (start < self.pieces).then(|| start..(start + batch).min(self.pieces))
    }

    /// Tells how long a claim of so many pieces took, so that later ones take about a tenth of a millisecond.
    pub(super) fn learn(&self, pieces: u64, nanoseconds: u64) {
        const AIM: u64 = 100_000;
        let fitting = pieces.saturating_mul(AIM) / nanoseconds.max(1);
        let batch = self.batch.load(Ordering::Relaxed);
        self.batch.store(fitting.clamp(1, batch.saturating_mul(8)), Ordering::Relaxed);
    }

    /// Gives up all unclaimed pieces; returns their number.
    pub(super) fn abandon(&self) -> u64 {
        self.failed.store(true, Ordering::SeqCst);
        self.pieces.saturating_sub(self.next.swap(self.pieces, Ordering::SeqCst))
    }

    /// Notes that pieces are done; true for the last.
    pub(super) fn finish(&self, pieces: u64) -> bool {
        pieces > 0 && self.done.fetch_add(pieces, Ordering::AcqRel) + pieces == self.pieces
    }
}

impl Move {
    /// Bytes that are moved.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::ToDevice(region, _)
            | Self::OnDevice(region, _)
            | Self::ToHost(_, region)
            | Self::Fill(region, ..) => region.bytes().unwrap_or(u64::MAX),
        }
    }

    fn cut(&self) -> Cut {
        match self {
            Self::ToDevice(region, _) | Self::ToHost(_, region) | Self::Fill(region, ..) => Cut::of(region, region),
            Self::OnDevice(target, source) => {
                let end = |region: &Region| {
                    region.address
                        + (region.slices - 1) * region.slice_pitch
                        + (region.rows - 1) * region.row_pitch
                        + region.width
                };
                let cut = Cut::of(target, source);
                if target.address < end(source) && source.address < end(target) {
                    Cut { step: u64::MAX, ..cut }
                } else {
                    cut
                }
            }
        }
    }

    fn pieces(&self) -> u64 {
        let cut = self.cut();
        cut.units.div_ceil(cut.step).max(1)
    }

    /// Does all of it on this thread.
    ///
    /// # Safety
    /// As for `run`.
    pub(super) unsafe fn run_all(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.run(0..self.pieces()) };
    }

    /// Does some pieces.
    ///
    /// # Safety
    /// The regions are mapped and stay so; host memory is valid, and buffers are as long as the regions' bytes.
    pub(super) unsafe fn run(&self, pieces: std::ops::Range<u64>) {
        let cut = self.cut();
        let units = pieces.start.saturating_mul(cut.step)..pieces.end.saturating_mul(cut.step).min(cut.units);
        match self {
            Self::ToDevice(target, data) => cut.each(units, target, |packed, at, length| {
                // SAFETY: the caller promises both sides; `packed` stays below the region's bytes.
                unsafe { std::ptr::copy_nonoverlapping(data.pointer.add(packed as usize), at as *mut u8, length) };
            }),
            Self::ToHost(host, source) => cut.each(units, source, |packed, at, length| {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(at as *const u8, host.pointer.add(packed as usize), length) };
            }),
            Self::OnDevice(target, source) => {
                cut.each(units, target, |packed, at, length| {
                    let from = cut.place(source, packed);
                    // SAFETY: the caller promises both sides; they may overlap.
                    unsafe { std::ptr::copy(from as *const u8, at as *mut u8, length) };
                });
            }
            Self::Fill(target, element, value) => cut.each(units, target, |_, at, length| {
                // SAFETY: the caller promises the target; the address is aligned to the element, as was checked.
                unsafe { fill(at, length, *element, *value) };
            }),
        }
    }
}

/// # Safety
/// The memory is valid and aligned to the element.
unsafe fn fill(at: u64, length: usize, element: u8, value: u32) {
    // SAFETY: the caller's promise, in each of the arms.
    unsafe {
        match element {
            1 => std::slice::from_raw_parts_mut(at as *mut u8, length).fill(value as u8),
            2 => std::slice::from_raw_parts_mut(at as *mut u16, length / 2).fill(value as u16),
            _ => std::slice::from_raw_parts_mut(at as *mut u32, length / 4).fill(value),
        }
    }
}

/// How a region is cut: into bytes, if it is one run on both sides, else into rows.
struct Cut {
    /// Bytes or rows.
    units: u64,
    /// Units of a piece.
    step: u64,
    linear: bool,
    width: u64,
    rows: u64,
}

impl Cut {
    fn of(one: &Region, other: &Region) -> Self {
        let (width, rows) = (one.width, one.rows);
        let count = rows * one.slices;
        if count == 1 || (one.is_linear() && other.is_linear()) {
            Self { units: width * count, step: PIECE, linear: true, width, rows }
        } else {
            Self { units: count, step: (PIECE / width).max(1), linear: false, width, rows }
        }
    }

    /// Calls for each run: its offset in the packed bytes, its address, its length.
    fn each(&self, units: std::ops::Range<u64>, region: &Region, mut run: impl FnMut(u64, u64, usize)) {
        if self.linear {
            run(units.start, region.address + units.start, (units.end - units.start) as usize);
            return;
        }
        for row in units {
            let packed = row * self.width;
            run(packed, self.place(region, packed), self.width as usize);
        }
    }

    /// Address in a region of an offset in its packed bytes, which is a row's begin unless the region is linear.
    fn place(&self, region: &Region, packed: u64) -> u64 {
        if self.linear {
            return region.address + packed;
        }
        let row = packed / self.width;
        region.address + row / self.rows * region.slice_pitch + row % self.rows * region.row_pitch
    }
}
