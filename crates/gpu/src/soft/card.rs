//! The card: what processes that share a software device know of one another.
//!
//! A real card outlives the processes on it and sees them all. Ours is a small file in shared memory, named after the
//! device, which every session maps. It holds who has how much memory, whose turn it is to run kernels, and how busy the
//! device was. Killing a process must cost the others nothing, so:
//!
//! - each session has a *seat* and writes only there; totals are sums over seats, never counters that could drift;
//! - a seat is taken by a file lock that the kernel releases when the process dies, so the dead are told from the living
//!   without process ids (which mean nothing across containers);
//! - a turn whose owner is dead is taken over by the next who waits.

#![expect(unsafe_code, reason = "maps a file that processes share, locks its bytes and waits on its words")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cuda::{CuError, CuResult, DeviceUsage, ProcessUsage};
use parking_lot::Mutex;

use super::meter::{Meter, now};

/// Seats of a card.
const SEATS: usize = 256;
/// Position in the file of the lock for decisions over all seats.
const TABLE_LOCK: i64 = 0;
/// Position in the file of the first seat's lock.
const SEAT_LOCK: i64 = 1 << 16;
/// Layout of the file. A file of another layout is another file: the number stands in its name.
const LAYOUT: u32 = 1;
/// How long a waiter sleeps before it looks whether the owner of the turn still lives.
const PATIENCE_NS: i64 = 20_000_000;

#[repr(C)]
struct Page {
    /// 0: nobody's turn; else the owner's seat + 1.
    turn: AtomicU32,
    padding: AtomicU32,
    /// When the owner began, in nanoseconds of the monotonic clock.
    since: AtomicU64,
    /// One bit per seat that wants the turn.
    waiting: [AtomicU64; SEATS / 64],
    kernels: Meter,
    copies: Meter,
    seats: [SeatPage; SEATS],
}

#[repr(C)]
struct SeatPage {
    /// The application's process id.
    pid: AtomicU32,
    contexts: AtomicU32,
    used: AtomicU64,
}

/// One session's place at a device.
pub(super) struct Seat {
    page: *const Page,
    file: File,
    path: PathBuf,
    index: usize,
    /// The table lock belongs to the open file; this one keeps the threads of the session apart.
    table: Mutex<()>,
}

// SAFETY: the page is shared memory of atomics and is unmapped only by the value's owner.
unsafe impl Send for Seat {}
// SAFETY: see Send.
unsafe impl Sync for Seat {}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("path", &self.path).field("index", &self.index).finish_non_exhaustive()
    }
}

/// Where the card of a device lies.
fn card_path(uuid: &[u8; 16]) -> PathBuf {
    // SAFETY: has no preconditions.
    let user = unsafe { libc::getuid() };
    let name: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("tensor-fusion-{user}-{name}.{LAYOUT}"))
}

impl Seat {
    /// Sits down at the device of this identity.
    pub(super) fn take(uuid: &[u8; 16], pid: u32) -> CuResult<Self> {
        Self::take_at(card_path(uuid), pid)
    }

    fn take_at(path: PathBuf, pid: u32) -> CuResult<Self> {
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "cannot open the card {}", path.display());
            CuError::OPERATING_SYSTEM
        };
        for _ in 0..100 {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_CLOEXEC);
            let file = options.open(&path).map_err(failed)?;
            lock(&file, libc::F_WRLCK, TABLE_LOCK, true).map_err(failed)?;
            // The last to leave removes the file; if that was just now, this is not the card any more.
            if file.metadata().map_err(failed)?.nlink() == 0 {
                continue;
            }
            file.set_len(size_of::<Page>() as u64).map_err(failed)?;
            let index = (0..SEATS)
                .find(|index| lock(&file, libc::F_WRLCK, SEAT_LOCK + *index as i64, false).is_ok())
                .ok_or(CuError::DEVICE_UNAVAILABLE)?;
            let page = map(&file).map_err(failed)?;
            let seat = Self { page, file, path: path.clone(), index, table: Mutex::new(()) };
            // What a process that was killed here left behind.
            let mine = seat.mine();
            mine.used.store(0, Ordering::SeqCst);
            mine.contexts.store(0, Ordering::SeqCst);
            mine.pid.store(pid, Ordering::SeqCst);
            seat.stop_waiting();
            seat.release();
            lock(&seat.file, libc::F_UNLCK, TABLE_LOCK, true).map_err(|_| CuError::OPERATING_SYSTEM)?;
            return Ok(seat);
        }
        Err(CuError::SYSTEM_NOT_READY)
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped in `take`, unmapped in `drop`; every field is atomic, and any bits are valid.
        unsafe { &*self.page }
    }

    fn seat(&self, index: usize) -> &SeatPage {
        &self.page().seats[index % SEATS]
    }

    fn mine(&self) -> &SeatPage {
        self.seat(self.index)
    }

    /// Whether the seat's session lives. One's own counts as living.
    fn lives(&self, index: usize) -> bool {
        index == self.index || is_locked(&self.file, SEAT_LOCK + index as i64, 1)
    }

    /// Runs a decision over all seats, alone on this card.
    fn decide<T>(&self, decision: impl FnOnce() -> T) -> CuResult<T> {
        let _threads = self.table.lock();
        lock(&self.file, libc::F_WRLCK, TABLE_LOCK, true).map_err(|_| CuError::OPERATING_SYSTEM)?;
        let result = decision();
        lock(&self.file, libc::F_UNLCK, TABLE_LOCK, true).map_err(|_| CuError::OPERATING_SYSTEM)?;
        Ok(result)
    }

    /// Charges bytes to this session, if all sessions together then stay within `limit`.
    pub(super) fn charge(&self, bytes: u64, limit: u64) -> CuResult {
        self.decide(|| {
            let fits = |used: u64| used.checked_add(bytes).is_some_and(|total| total <= limit);
            if !fits(self.used_by_all()) {
                self.clear_the_dead();
                if !fits(self.used_by_all()) {
                    return Err(CuError::OUT_OF_MEMORY);
                }
            }
            self.mine().used.fetch_add(bytes, Ordering::SeqCst);
            Ok(())
        })?
    }

    /// Takes back a charge.
    pub(super) fn refund(&self, bytes: u64) {
        self.mine().used.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Counts a context made (`true`) or destroyed.
    pub(super) fn count_context(&self, made: bool) {
        let contexts = &self.mine().contexts;
        if made {
            contexts.fetch_add(1, Ordering::SeqCst)
        } else {
            contexts.fetch_sub(1, Ordering::SeqCst)
        };
    }

    fn used_by_all(&self) -> u64 {
        self.page().seats.iter().fold(0, |sum: u64, seat| sum.saturating_add(seat.used.load(Ordering::SeqCst)))
    }

    /// Takes back what dead sessions held.
    fn clear_the_dead(&self) {
        for (index, seat) in self.page().seats.iter().enumerate() {
            let holds = seat.used.load(Ordering::SeqCst) != 0 || seat.contexts.load(Ordering::SeqCst) != 0;
            if holds && !self.lives(index) {
                tracing::info!(
                    pid = seat.pid.load(Ordering::SeqCst),
                    "a process on the card is gone; its memory is free"
                );
                seat.used.store(0, Ordering::SeqCst);
                seat.contexts.store(0, Ordering::SeqCst);
            }
        }
    }

    /// What the device is doing.
    pub(super) fn usage(&self) -> CuResult<DeviceUsage> {
        self.decide(|| {
            self.clear_the_dead();
            let mut processes: Vec<ProcessUsage> = Vec::new();
            for seat in &self.page().seats {
                let used_memory = seat.used.load(Ordering::SeqCst);
                if used_memory == 0 && seat.contexts.load(Ordering::SeqCst) == 0 {
                    continue;
                }
                let pid = seat.pid.load(Ordering::SeqCst);
                match processes.iter_mut().find(|process| process.pid == pid) {
                    Some(process) => process.used_memory += used_memory,
                    None => processes.push(ProcessUsage { pid, used_memory }),
                }
            }
            let running = self.page().turn.load(Ordering::SeqCst);
            let since =
                (running != 0 && self.lives(running as usize - 1)).then(|| self.page().since.load(Ordering::SeqCst));
            DeviceUsage {
                used_memory: self.used_by_all(),
                gpu_utilization: self.page().kernels.percent(now(), since),
                memory_utilization: self.page().copies.percent(now(), None),
                processes,
            }
        })
    }

    /// Notes that memory was copied from then until now.
    pub(super) fn note_copy(&self, from: u64, until: u64) {
        self.page().copies.add(from, until);
    }

    /// Waits for this session's turn to run kernels; false when `give_up` was set first.
    pub(super) fn acquire(&self, give_up: &AtomicBool) -> bool {
        let (turn, me) = (&self.page().turn, self.index as u32 + 1);
        if turn.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            let (word, bit) = self.waiting_bit();
            word.fetch_or(bit, Ordering::SeqCst);
            loop {
                let owner = turn.load(Ordering::SeqCst);
                if owner == me || (owner == 0 && take_over(turn, 0, me)) {
                    break;
                }
                if give_up.load(Ordering::Relaxed) {
                    self.stop_waiting();
                    self.release();
                    return false;
                }
                if owner == 0 || !futex_wait(turn, owner, PATIENCE_NS) {
                    continue;
                }
                if !self.lives(owner as usize - 1) && take_over(turn, owner, me) {
                    tracing::info!("a process on the card died during its turn");
                    break;
                }
            }
            self.stop_waiting();
        }
        self.page().since.store(now(), Ordering::SeqCst);
        true
    }

    /// Whether other sessions wait for the turn.
    pub(super) fn contended(&self) -> bool {
        self.page().waiting.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Ends this session's turn, if it has it, and passes it on to the next in the round that waits.
    pub(super) fn release(&self) {
        let page = self.page();
        if page.turn.load(Ordering::SeqCst) != self.index as u32 + 1 {
            return;
        }
        page.kernels.add(page.since.load(Ordering::SeqCst), now());
        match self.next_waiting() {
            Some(next) => {
                page.turn.store(next as u32 + 1, Ordering::SeqCst);
                futex_wake_all(&page.turn);
            }
            None => {
                page.turn.store(0, Ordering::SeqCst);
                // Somebody may have begun to wait between the look and the store.
                if self.contended() {
                    futex_wake_all(&page.turn);
                }
            }
        }
    }

    fn next_waiting(&self) -> Option<usize> {
        if !self.contended() {
            return None;
        }
        (1..SEATS).map(|step| (self.index + step) % SEATS).find(|index| {
            self.page().waiting[index / 64].load(Ordering::SeqCst) & (1 << (index % 64)) != 0
                && self.lives_or_leaves(*index)
        })
    }

    /// Like `lives`, and takes the waiting mark from the dead.
    fn lives_or_leaves(&self, index: usize) -> bool {
        let lives = self.lives(index);
        if !lives {
            self.page().waiting[index / 64].fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
        }
        lives
    }

    fn waiting_bit(&self) -> (&AtomicU64, u64) {
        (&self.page().waiting[self.index / 64], 1 << (self.index % 64))
    }

    fn stop_waiting(&self) {
        let (word, bit) = self.waiting_bit();
        word.fetch_and(!bit, Ordering::SeqCst);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stop_waiting();
        self.release();
        let mine = self.mine();
        mine.used.store(0, Ordering::SeqCst);
        mine.contexts.store(0, Ordering::SeqCst);
        if lock(&self.file, libc::F_WRLCK, TABLE_LOCK, true).is_ok()
            && !is_locked(&self.file, SEAT_LOCK, SEATS as i64)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the card was gone already");
        }
        // SAFETY: mapped in `take`; nobody can reach the page any more. Closing the file releases its locks.
        unsafe { libc::munmap(self.page.cast_mut().cast(), size_of::<Page>()) };
    }
}

fn map(file: &File) -> std::io::Result<*const Page> {
    // SAFETY: a new shared mapping of a file that is large enough.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Page>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if page == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(page.cast_const().cast()) }
}

fn take_over(turn: &AtomicU32, owner: u32, me: u32) -> bool {
    turn.compare_exchange(owner, me, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn flock(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 }
}

/// Locks or unlocks one byte of the file on behalf of its open description.
fn lock(file: &File, kind: i32, at: i64, wait: bool) -> std::io::Result<()> {
    let request = flock(kind, at, 1);
    let command = if wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    loop {
        // SAFETY: the request outlives the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const request) } == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether somebody else holds a lock in a range of bytes.
fn is_locked(file: &File, at: i64, length: i64) -> bool {
    let mut request = flock(libc::F_WRLCK, at, length);
    // SAFETY: the request outlives the call, which writes it.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
    failed == 0 && i32::from(request.l_type) != libc::F_UNLCK
}

/// Sleeps while the word has this value; true when the time ran out.
fn futex_wait(word: &AtomicU32, value: u32, nanoseconds: i64) -> bool {
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
    // SAFETY: the word and the time outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time, 0_usize, 0) };
    result != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
}

fn futex_wake_all(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0_usize, 0_usize, 0) };
}

#[cfg(test)]
mod tests;
