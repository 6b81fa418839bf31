//! Memory that the program and kernels reach by one address: managed memory, and pinned memory that is mapped.
//!
//! Where the device's memory is this process's own (the software GPU without a worker) there is one copy and nothing to do. Else the
//! program has pages of its own at the device's address, and a *twin* keeps what both sides agreed on last. Before work that may
//! read it, bytes of the program that differ from the twin go to the device; when the program has waited for work, bytes of
//! the device that differ come back. So neither side loses what the other did not touch (as in TreadMarks' lazy release
//! consistency, Keleher et al. 1994). No page is protected and no signal caught: `read(2)` into it works.
//!
//! What CUDA asks of programs on such devices (`CONCURRENT_MANAGED_ACCESS` is 0) is asked here too: the program waits for the work
//! that uses the memory before it looks. Polling for what a running kernel writes does not work, also in mapped memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use cuda::{ContextId, CuError, CuResult, HostBuffer, Region, StreamId, StreamKind};
use parking_lot::Mutex;

use super::memory::{Kind, Owner};
use super::{Engine, Life, Stream, raw};

/// Pages of such memory are nothing else's: 64 KiB, as pages of the device.
const PAGE: u64 = 64 << 10;
/// Pages of this process, which variables share.
const SMALL_PAGE: u64 = 4 << 10;
/// Compared at once.
const BLOCK: usize = 4096;
/// Differences closer than this travel together, where the device does nothing meanwhile.
const GAP: usize = 256;
/// Fetched at once.
const CHUNK: u64 = 4 << 20;

/// `CU_MEM_ATTACH_GLOBAL`, `_HOST`, `_SINGLE`.
const GLOBAL: u32 = 1;
const HOST: u32 = 2;
const SINGLE: u32 = 4;

/// Whose work may use a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    Everybody,
    Stream(StreamId),
}

/// A piece that both sides have a copy of.
#[derive(Debug)]
struct Piece {
    size: u64,
    twin: Vec<u8>,
    attached: Attached,
    /// The program may change it at any time, whatever runs: mapped pinned memory, and what is attached to the host.
    any_time: bool,
    /// The program may have changed it since we looked.
    look_here: bool,
    /// The device may have changed it since we looked.
    look_there: bool,
}

impl Piece {
    fn reaches(&self, stream: StreamId) -> bool {
        match self.attached {
            Attached::Everybody => true,
            Attached::Stream(owner) => owner == stream,
        }
    }
}

/// All such memory of the process that has two copies.
#[derive(Debug, Default)]
pub(super) struct Managed {
    pieces: Mutex<BTreeMap<u64, Piece>>,
    /// Pages of the program that hold `__managed__` variables, and how many on each.
    pages: Mutex<BTreeMap<u64, usize>>,
    /// Number of pieces, to be read without the lock.
    count: AtomicUsize,
    /// Some piece must be looked at before the next work.
    look_here: AtomicBool,
    /// Some piece must be looked at when work was waited for.
    look_there: AtomicBool,
    /// A stream of our own in each context, which waits for no other.
    lanes: Mutex<HashMap<ContextId, StreamId>>,
}

impl Engine {
    /// Whether kernels can reach memory of the program: the client places device memory.
    #[must_use]
    pub fn can_share_memory(&self) -> bool {
        self.driver.info().addresses.size > 0
    }

    /// Allocates managed memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes or unknown flags, `OUT_OF_MEMORY`, `NOT_SUPPORTED` where the driver places memory itself.
    pub fn managed_alloc(&self, life: &Life, size: u64, flags: u32) -> CuResult<u64> {
        if !matches!(flags, GLOBAL | HOST) {
            return Err(CuError::INVALID_VALUE);
        }
        self.share_memory(life, size, Kind::Managed, flags == HOST)
    }

    /// Allocates memory that both sides reach, all zeros.
    pub(super) fn share_mapped(&self, life: &Life, size: u64) -> CuResult<u64> {
        self.share_memory(life, size, Kind::Mapped, true)
    }

    fn share_memory(&self, life: &Life, size: u64, kind: Kind, any_time: bool) -> CuResult<u64> {
        if !self.can_share_memory() {
            return Err(CuError::NOT_SUPPORTED);
        }
        let lane = self.lane(life.id)?;
        let room = size.checked_next_multiple_of(PAGE).ok_or(CuError::OUT_OF_MEMORY)?;
        let address = self.map_memory(life.device, size, room)?;
        let two = !self.driver.info().shares_process;
        let give_back = |error| self.unmap_memory(life.device, address, room).and(Err(error));
        if two && !raw::map_pages_at(address, room) {
            tracing::debug!(address, "the program has something else at the device's address");
            return give_back(CuError::OUT_OF_MEMORY);
        }
        let zeroed = self
            .driver
            .fill(lane, Region::linear(address, size), 1, 0)
            .and_then(|()| self.driver.stream_synchronize(lane));
        if let Err(error) = zeroed {
            if two {
                raw::unmap_pages(address, room);
            }
            return give_back(error);
        }
        if two {
            let length = usize::try_from(size).map_err(|_| CuError::OUT_OF_MEMORY)?;
            let attached = Attached::Everybody;
            // Zeros that nobody writes take no memory.
            let piece = Piece { size, twin: vec![0; length], attached, any_time, look_here: true, look_there: false };
            let mut pieces = self.managed.pieces.lock();
            pieces.insert(address, piece);
            self.managed.count.store(pieces.len(), Ordering::Release);
            self.managed.look_here.store(true, Ordering::Release);
        }
        self.add_range_of(kind, address, size, room, life.device, life.context, Owner::Context(life.id));
        Ok(address)
    }

    /// The piece is freed: the program's copy goes.
    fn forget_shared(&self, address: u64, room: u64) {
        let mut pieces = self.managed.pieces.lock();
        if pieces.remove(&address).is_some() {
            self.managed.count.store(pieces.len(), Ordering::Release);
            raw::unmap_pages(address, room);
        }
    }

    /// Lets the program reach a `__managed__` variable where the device has it.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` where the program has something else at that address.
    pub(super) fn adopt_variable(&self, life: &Life, address: u64, size: u64) -> CuResult {
        if self.driver.info().shares_process || !self.can_share_memory() {
            return Ok(());
        }
        let length = usize::try_from(size).map_err(|_| CuError::OUT_OF_MEMORY)?;
        let lane = self.lane(life.id)?;
        let mut pages = self.managed.pages.lock();
        let mut added = Vec::new();
        for page in small_pages(address, size) {
            if !pages.contains_key(&page) && !raw::map_pages_at(page, SMALL_PAGE) {
                added.into_iter().for_each(|page| give_up(&mut pages, page));
                tracing::debug!(address, "the program has something else at a managed variable's address");
                return Err(CuError::OUT_OF_MEMORY);
            }
            *pages.entry(page).or_default() += 1;
            added.push(page);
        }
        drop(pages);
        let attached = Attached::Everybody;
        let mut piece =
            Piece { size, twin: vec![0; length], attached, any_time: false, look_here: true, look_there: false };
        // Its initial value.
        self.fetch(lane, address, &mut piece, &mut Vec::new())?;
        let mut pieces = self.managed.pieces.lock();
        pieces.insert(address, piece);
        self.managed.count.store(pieces.len(), Ordering::Release);
        self.managed.look_here.store(true, Ordering::Release);
        Ok(())
    }

    /// A module goes, and this variable with it.
    pub(super) fn forget_variable(&self, address: u64, size: u64) {
        let mut pieces = self.managed.pieces.lock();
        if pieces.remove(&address).is_some() {
            self.managed.count.store(pieces.len(), Ordering::Release);
            let mut pages = self.managed.pages.lock();
            small_pages(address, size).for_each(|page| give_up(&mut pages, page));
        }
    }

    /// Gives memory back to where it came from.
    pub(super) fn release(&self, range: &super::Range) -> CuResult {
        if range.kind != Kind::Device {
            self.forget_shared(range.base, range.room);
        }
        self.unmap_memory(range.device, range.base, range.room)
    }

    fn lane(&self, context: ContextId) -> CuResult<StreamId> {
        let mut lanes = self.managed.lanes.lock();
        if let Some(lane) = lanes.get(&context) {
            return Ok(*lane);
        }
        let lane = StreamId(self.fresh_id());
        self.driver.stream_create(context, lane, StreamKind::NonBlocking, 0)?;
        lanes.insert(context, lane);
        Ok(lane)
    }

    /// The context is gone, and our stream with it.
    pub(super) fn forget_lane(&self, context: ContextId) {
        self.managed.lanes.lock().remove(&context);
    }

    /// Gives the device what the program has written, before work on a stream that may use it.
    pub(super) fn share_before(&self, stream: &Stream) -> CuResult {
        if self.managed.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        self.mark_busy(stream);
        self.managed.look_there.store(true, Ordering::Release);
        // Whoever waits at this moment sees that the stream is busy, or we see that the program may write again.
        fence(Ordering::SeqCst);
        if !self.managed.look_here.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut pieces = self.managed.pieces.lock();
        self.managed.look_there.store(true, Ordering::Release);
        let lane = self.lane(stream.context)?;
        let exact = !self.no_stream_is_busy();
        let (mut sent, mut look_here) = (false, false);
        for (&base, piece) in pieces.iter_mut() {
            if piece.reaches(stream.id) {
                if piece.look_here {
                    sent |= self.send(lane, base, piece, exact)?;
                }
                piece.look_here = piece.any_time;
                piece.look_there = true;
            }
            look_here |= piece.look_here;
        }
        if sent {
            // Other streams' work may use it too.
            self.driver.stream_synchronize(lane)?;
        }
        self.managed.look_here.store(look_here, Ordering::Release);
        Ok(())
    }

    fn send(&self, lane: StreamId, base: u64, piece: &mut Piece, exact: bool) -> CuResult<bool> {
        let twin = &mut piece.twin;
        raw::with_bytes(base, piece.size, |here| {
            let mut sent = false;
            for run in differences(here, twin, exact) {
                let (Some(bytes), Some(agreed)) = (here.get(run.clone()), twin.get_mut(run.clone())) else { continue };
                // The program may write on, against the rules: what is sent is what is agreed on.
                agreed.copy_from_slice(bytes);
                let region = Region::linear(base + run.start as u64, agreed.len() as u64);
                self.driver.copy_to_device(lane, region, agreed)?;
                sent = true;
            }
            Ok(sent)
        })?
    }

    /// Gives the program what the device has written, after it has waited: for one stream, or for everything of a context.
    pub(super) fn share_after(&self, context: ContextId, stream: Option<StreamId>) -> CuResult {
        if self.managed.count.load(Ordering::Acquire) == 0 || !self.managed.look_there.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut pieces = self.managed.pieces.lock();
        let lane = self.lane(context)?;
        self.managed.look_here.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let idle = self.no_stream_is_busy();
        let mut look_there = false;
        let mut chunk = Vec::new();
        for (&base, piece) in pieces.iter_mut() {
            let waited = match (piece.attached, stream) {
                (Attached::Stream(owner), Some(stream)) => owner == stream,
                _ => true,
            };
            if piece.look_there && waited {
                self.fetch(lane, base, piece, &mut chunk)?;
                piece.look_here = true;
                piece.look_there = !idle;
            }
            look_there |= piece.look_there;
        }
        self.managed.look_there.store(look_there, Ordering::Release);
        Ok(())
    }

    fn fetch(&self, lane: StreamId, base: u64, piece: &mut Piece, chunk: &mut Vec<u8>) -> CuResult {
        let mut at = 0;
        while at < piece.size {
            let length = CHUNK.min(piece.size - at);
            let bytes = usize::try_from(length).map_err(|_| CuError::OUT_OF_MEMORY)?;
            chunk.resize(bytes, 0);
            let buffer = HostBuffer { pointer: chunk.as_mut_ptr(), length: bytes };
            self.driver.copy_to_host(lane, buffer, Region::linear(base + at, length), true)?;
            let start = usize::try_from(at).map_err(|_| CuError::OUT_OF_MEMORY)?;
            let twin = piece.twin.get_mut(start..start + bytes).ok_or(CuError::OUT_OF_MEMORY)?;
            raw::with_bytes_mut(base + at, length, |here| merge(here, twin, chunk))?;
            at += length;
        }
        Ok(())
    }

    /// Changes whose work may use a piece of managed memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for memory that is not managed, a part of a piece, or unknown flags.
    pub fn attach(&self, life: &Life, stream: &Stream, address: u64, length: u64, flags: u32) -> CuResult {
        let range = self.range_of(address).filter(|range| range.kind == Kind::Managed);
        let whole = range.is_some_and(|range| range.base == address && (length == 0 || length == range.size));
        let attached = match flags {
            GLOBAL => Attached::Everybody,
            HOST => Attached::Everybody,
            SINGLE if !stream.is_legacy(life) => Attached::Stream(stream.id),
            _ => return Err(CuError::INVALID_VALUE),
        };
        if !whole {
            return Err(CuError::INVALID_VALUE);
        }
        let mut pieces = self.managed.pieces.lock();
        if let Some(piece) = pieces.get_mut(&address) {
            piece.attached = attached;
            piece.any_time = flags == HOST;
            self.managed.look_here.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Checks that a range is managed memory: for advice, which changes nothing that a program could see.
    ///
    /// # Errors
    /// `INVALID_VALUE` where it is not.
    pub fn check_managed(&self, address: u64, length: u64) -> CuResult {
        let range = self.range_of(address).filter(|range| range.kind == Kind::Managed).ok_or(CuError::INVALID_VALUE)?;
        self.check_device(address, length)?;
        if length == 0 { Err(CuError::INVALID_VALUE) } else { self.device(range.device).map(drop) }
    }

    /// Copies or fills may be done for the program when they return: waits, where one side of it has two copies.
    pub(super) fn share_copied(&self, stream: &Stream, wait: bool) -> CuResult {
        if !wait || self.managed.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        self.driver.stream_synchronize(stream.id)?;
        self.share_after(stream.context, Some(stream.id))
    }
}

/// First addresses of the pages that hold bytes of a variable.
fn small_pages(address: u64, size: u64) -> impl Iterator<Item = u64> {
    let first = address / SMALL_PAGE;
    let end = address.saturating_add(size).div_ceil(SMALL_PAGE);
    (first..end).map(|number| number * SMALL_PAGE)
}

/// One variable less on a page.
fn give_up(pages: &mut BTreeMap<u64, usize>, page: u64) {
    let Some(users) = pages.get_mut(&page) else { return };
    *users -= 1;
    if *users == 0 {
        pages.remove(&page);
        raw::unmap_pages(page, SMALL_PAGE);
    }
}

/// Where two sequences of the same length differ: exactly, or with what lies between close differences.
fn differences(here: &[u8], twin: &[u8], exact: bool) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut add = |run: Range<usize>, gap: usize| match found.last_mut() {
        Some(last) if run.start <= last.end + gap => last.end = run.end,
        _ => found.push(run),
    };
    for (number, (a, b)) in here.chunks(BLOCK).zip(twin.chunks(BLOCK)).enumerate() {
        if a == b {
            continue;
        }
        let start = number * BLOCK;
        let mut unlike = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| start + at);
        if exact {
            unlike.for_each(|at| add(at..at + 1, 0));
        } else if let Some(first) = unlike.next() {
            let last = a.iter().zip(b).rposition(|(a, b)| a != b).map_or(first, |at| start + at);
            add(first..last + 1, GAP);
        }
    }
    found
}

/// Takes what is new: bytes that differ from the twin's.
fn merge(here: &mut [u8], twin: &mut [u8], now: &[u8]) {
    for ((here, twin), now) in here.chunks_mut(BLOCK).zip(twin.chunks_mut(BLOCK)).zip(now.chunks(BLOCK)) {
        if *twin == *now {
            continue;
        }
        if *here == *twin {
            here.copy_from_slice(now);
        } else {
            for ((here, twin), now) in here.iter_mut().zip(&*twin).zip(now) {
                if twin != now {
                    *here = *now;
                }
            }
        }
        twin.copy_from_slice(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_exact_or_close_ones_together() {
        let twin = vec![0; 3 * BLOCK];
        let mut here = twin.clone();
        for at in [5, 7, BLOCK - 1, BLOCK, 3 * BLOCK - 1] {
            here[at] = 1;
        }
        let end = 3 * BLOCK;
        assert_eq!(differences(&here, &twin, true), [5..6, 7..8, BLOCK - 1..BLOCK + 1, end - 1..end]);
        assert_eq!(differences(&here, &twin, false), [5..BLOCK + 1, end - 1..end]);
        assert!(differences(&here, &here, true).is_empty());
    }

    #[test]
    fn both_sides_keep_what_the_other_did_not_touch() {
        let mut twin = vec![0; 2 * BLOCK];
        let (mut here, mut now) = (twin.clone(), twin.clone());
        here[3] = 1;
        now[4] = 2;
        now[BLOCK] = 3;
        merge(&mut here, &mut twin, &now);
        assert_eq!((here[3], here[4], here[BLOCK]), (1, 2, 3));
        assert!(
            differences(&here, &twin, true) == std::iter::once(3..4).collect::<Vec<_>>(),
            "the program's byte is still to be sent"
        );
        assert_eq!(twin, now);
    }
}
