//! Host memory that CUDA knows: allocated by it, or registered by the program.
//!
//! It belongs to this process. Asynchronous copies may go straight into it. So a piece that a copy was started into is
//! only given back after the devices have been waited for, and bytes that a copy or a host function may still write
//! are not read as the source of another copy before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cuda::{ContextId, CuError, CuResult, StreamId};
use parking_lot::{Mutex, RwLock};

use super::pools::Done;
use super::{Engine, Stream, raw};

const PAGE: u64 = 4096;
/// `CU_MEMHOSTREGISTER_PORTABLE`, `_DEVICEMAP`, `_IOMEMORY`, `_READ_ONLY`.
const REGISTER_FLAGS: u32 = 0xF;
/// `CU_MEMHOSTALLOC_PORTABLE`, `_DEVICEMAP`, `_WRITECOMBINED`.
const ALLOC_FLAGS: u32 = 0x7;
const DEVICE_MAP: u32 = 0x2;

/// One piece of pinned host memory.
#[derive(Debug)]
struct Piece {
    size: u64,
    /// Bytes mapped by us; 0 for registered memory.
    mapped: u64,
    flags: u32,
    context: u64,
    device: u32,
    buffer: u64,
    written: AtomicBool,
}

/// All pinned host memory of the process.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    pieces: RwLock<BTreeMap<u64, Piece>>,
    downloads: Mutex<Vec<Download>>,
    /// Length of `downloads`, to be read without the lock.
    download_count: AtomicUsize,
}

/// A copy into pinned memory that may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Download {
    start: u64,
    end: u64,
    /// `None` when the stream is gone; its work is not.
    stream: Option<StreamId>,
    context: ContextId,
}

/// More copies than this are not kept in mind: the next one waits.
const MOST_DOWNLOADS: usize = 1024;

/// What `cuPointerGetAttribute` says about pinned memory.
#[derive(Clone, Copy, Debug)]
pub struct PinnedInfo {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
    /// Handle of the context that it was made in.
    pub context: u64,
    /// That context's device.
    pub device: u32,
    /// A number that no other allocation of this process has.
    pub buffer: u64,
}

impl Engine {
    /// Allocates pinned host memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes or unknown flags, `OUT_OF_MEMORY`, or that no context is current.
    pub fn host_alloc(&self, size: u64, flags: u32) -> CuResult<u64> {
        let life = self.current()?;
        if size == 0 || flags & !ALLOC_FLAGS != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let shared = flags & DEVICE_MAP != 0 && self.can_share_memory();
        let mapped = size.checked_next_multiple_of(PAGE).ok_or(CuError::OUT_OF_MEMORY)?;
        let address = if shared { self.share_mapped(&life, size)? } else { raw::map_pages(mapped) };
        if address == 0 {
            return Err(CuError::OUT_OF_MEMORY);
        }
        let written = AtomicBool::new(false);
        let buffer = self.fresh_id();
        let piece = Piece { size, mapped, flags, context: life.context, device: life.device, buffer, written };
        self.pinned.pieces.write().insert(address, piece);
        Ok(address)
    }

    /// Frees pinned host memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for what [`Engine::host_alloc`] did not return.
    pub fn host_free(&self, address: u64) -> CuResult {
        if address == 0 {
            return Ok(());
        }
        let piece = self.take_piece(address, |piece| piece.mapped > 0).ok_or(CuError::INVALID_VALUE)?;
        self.settle(&piece);
        match self.remove_range(address) {
            Some(range) => self.release(&range),
            None => {
                raw::unmap_pages(address, piece.mapped);
                Ok(())
            }
        }
    }

    /// The context of mapped memory is gone, and the memory with it.
    pub(super) fn forget_mapped(&self, address: u64) {
        self.take_piece(address, |_| true);
    }

    /// The address by which kernels reach pinned memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for memory that is not pinned, `NOT_SUPPORTED` for memory that is not mapped.
    pub fn host_device_pointer(&self, address: u64) -> CuResult<u64> {
        self.host_flags(address)?;
        self.range_of(address).map(|_| address).ok_or(CuError::NOT_SUPPORTED)
    }

    /// Makes memory of the program known.
    ///
    /// # Errors
    /// `INVALID_VALUE`, or `HOST_MEMORY_ALREADY_REGISTERED` when part of it is known already.
    pub fn host_register(&self, address: u64, size: u64, flags: u32) -> CuResult {
        let life = self.current()?;
        if flags & 0x4 != 0 {
            return Err(CuError::NOT_SUPPORTED);
        }
        let end = address.checked_add(size).ok_or(CuError::INVALID_VALUE)?;
        if address == 0 || size == 0 || flags & !REGISTER_FLAGS != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let mut pieces = self.pinned.pieces.write();
        if pieces.range(..end).next_back().is_some_and(|(base, piece)| base + piece.size > address) {
            return Err(CuError::HOST_MEMORY_ALREADY_REGISTERED);
        }
        let written = AtomicBool::new(false);
        let buffer = self.fresh_id();
        let piece = Piece { size, mapped: 0, flags, context: life.context, device: life.device, buffer, written };
        pieces.insert(address, piece);
        Ok(())
    }

    /// Takes back [`Engine::host_register`].
    ///
    /// # Errors
    /// `HOST_MEMORY_NOT_REGISTERED`.
    pub fn host_unregister(&self, address: u64) -> CuResult {
        let piece = self.take_piece(address, |piece| piece.mapped == 0).ok_or(CuError::HOST_MEMORY_NOT_REGISTERED)?;
        self.settle(&piece);
        Ok(())
    }

    /// Flags that pinned memory was made with.
    ///
    /// # Errors
    /// `INVALID_VALUE` for memory that is not pinned.
    pub fn host_flags(&self, address: u64) -> CuResult<u32> {
        self.piece(address, |_, piece| piece.flags).ok_or(CuError::INVALID_VALUE)
    }

    /// Whether all bytes are in one piece of pinned memory; if so, it counts as written by a copy from now on.
    pub(super) fn pinned_for_write(&self, address: u64, length: u64) -> bool {
        self.piece(address, |base, piece| {
            let inside = length <= piece.size - (address - base);
            if inside {
                piece.written.store(true, Ordering::Relaxed);
            }
            inside
        })
        .unwrap_or(false)
    }

    /// The piece of pinned memory that an address lies in.
    #[must_use]
    pub fn pinned_info(&self, address: u64) -> Option<PinnedInfo> {
        self.piece(address, |base, piece| PinnedInfo {
            base,
            size: piece.size,
            context: piece.context,
            device: piece.device,
            buffer: piece.buffer,
        })
    }

    /// Keeps in mind that a copy into pinned memory is under way; whether it may be.
    pub(super) fn begin_download(&self, address: u64, length: u64, stream: &Stream) -> bool {
        let download =
            Download { start: address, end: address + length, stream: Some(stream.id), context: stream.context };
        let mut downloads = self.pinned.downloads.lock();
        if downloads.contains(&download) {
            return true;
        }
        if downloads.len() >= MOST_DOWNLOADS {
            return false;
        }
        downloads.push(download);
        self.pinned.download_count.store(downloads.len(), Ordering::Release);
        true
    }

    /// A stream or context has been waited for, and with it the copies into pinned memory.
    pub(super) fn end_downloads(&self, done: Done) {
        if self.pinned.download_count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut downloads = self.pinned.downloads.lock();
        downloads.retain(|download| match done {
            Done::Stream(stream) => Some(stream) != download.stream,
            Done::Context(context) => context != download.context,
        });
        self.pinned.download_count.store(downloads.len(), Ordering::Release);
    }

    /// A stream is destroyed before its copies are done.
    pub(super) fn orphan_downloads(&self, stream: StreamId) {
        if self.pinned.download_count.load(Ordering::Acquire) == 0 {
            return;
        }
        for download in self.pinned.downloads.lock().iter_mut().filter(|download| download.stream == Some(stream)) {
            download.stream = None;
        }
    }

    /// Before host bytes are read as a copy's source: waits for what may still write them in stream order.
    pub(super) fn settle_source(&self, address: u64, length: u64, stream: &Stream) -> CuResult {
        let end = address.saturating_add(length);
        while self.pinned.download_count.load(Ordering::Acquire) > 0 {
            let overlapping = |download: &&Download| download.start < end && address < download.end;
            let Some(download) = self.pinned.downloads.lock().iter().find(overlapping).copied() else { break };
            match download.stream {
                Some(stream) => {
                    self.driver.stream_synchronize(stream)?;
                    self.end_downloads(Done::Stream(stream));
                }
                None => {
                    self.driver.context_synchronize(download.context)?;
                    self.end_downloads(Done::Context(download.context));
                }
            }
        }
        if self.callbacks.any_waiting() && self.pinned_info(address).is_some() {
            self.driver.stream_synchronize(stream.id)?;
        }
        Ok(())
    }

    fn piece<T>(&self, address: u64, look: impl FnOnce(u64, &Piece) -> T) -> Option<T> {
        let pieces = self.pinned.pieces.read();
        let (&base, piece) = pieces.range(..=address).next_back()?;
        (address - base < piece.size).then(|| look(base, piece))
    }

    fn take_piece(&self, address: u64, wanted: impl FnOnce(&Piece) -> bool) -> Option<Piece> {
        let mut pieces = self.pinned.pieces.write();
        if pieces.get(&address).is_some_and(wanted) { pieces.remove(&address) } else { None }
    }

    /// Waits until no copy can write into the piece any more.
    fn settle(&self, piece: &Piece) {
        if !piece.written.load(Ordering::Relaxed) {
            return;
        }
        for context in self.contexts.all() {
            let Ok(life) = context.life() else { continue };
            if let Err(error) = self.driver.context_synchronize(life.id) {
                tracing::debug!(%error, "waited for copies into host memory that is freed");
            }
        }
    }
}
