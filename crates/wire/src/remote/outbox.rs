//! The sending half of a client's connection: one ordered stream of commands.
//!
//! A command is appended to the outbox under a short lock; that fixes its place in the order. Whoever holds the *write
//! role* sends what is there. A caller that waits for an answer takes the role itself if it is free; if not, its holder
//! looks again before it leaves. One-way commands are left to the *flusher*, a thread that is woken by the first command
//! after a pause, and then looks every few microseconds: so a lone command goes at once, and a burst goes in few pieces.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::frame;
use crate::transport::{Transport, send_all};

/// With this much waiting, the caller sends it instead of the flusher.
const FULL: usize = 64 << 10;
/// With this much waiting, the caller waits for the write role: the worker does not keep up.
const OVERFULL: usize = 1 << 20;
/// How often the flusher looks while commands keep coming.
const NAP: Duration = Duration::from_micros(30);
/// After so many naps without a command, which cost about what a wakeup does, the flusher sleeps until it is woken.
const NAPS: u32 = 5;

pub(super) struct Outbox {
    transport: Arc<dyn Transport>,
    queue: Mutex<Queue>,
    /// Whether the queue holds anything; changed under its lock.
    filled: AtomicBool,
    /// The write role, with the buffer that is being sent.
    writer: Mutex<Vec<u8>>,
    /// Whether the flusher sleeps and must be woken.
    asleep: AtomicBool,
    flusher: std::sync::OnceLock<Thread>,
    broken: AtomicBool,
}

struct Queue {
    bytes: Vec<u8>,
    next: u64,
}

impl Queue {
    fn put(&mut self, opcode: u16, flags: u16, extra: usize, payload: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let id = self.next;
        self.next += 1;
        frame::put(&mut self.bytes, opcode, flags, id, extra, payload);
        id
    }
}

impl Outbox {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            queue: Mutex::new(Queue { bytes: Vec::with_capacity(2 * FULL), next: 1 }),
            filled: AtomicBool::new(false),
            writer: Mutex::new(Vec::with_capacity(2 * FULL)),
            asleep: AtomicBool::new(false),
            flusher: std::sync::OnceLock::new(),
            broken: AtomicBool::new(false),
        }
    }

    /// Whether sending has failed; the connection is then shut down, so that readers notice too.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Appends a command that nobody waits for.
    pub(super) fn post(&self, opcode: u16, payload: impl FnOnce(&mut Vec<u8>)) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.put(opcode, 0, 0, payload);
            self.filled.store(true, Ordering::Relaxed);
            queue.bytes.len()
        };
        if waiting >= OVERFULL {
            self.send(&mut self.writer.lock(), &[], |_| ());
            self.flush();
        } else if waiting >= FULL {
            self.flush();
        } else if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Appends a command and sees to it that it goes now. `register` learns its number before it can be answered.
    pub(super) fn post_now(&self, opcode: u16, payload: impl FnOnce(&mut Vec<u8>), register: impl FnOnce(u64)) {
        {
            let mut queue = self.queue.lock();
            register(queue.next);
            queue.put(opcode, 0, 0, payload);
            self.filled.store(true, Ordering::Relaxed);
        }
        self.flush();
    }

    /// Sends a command whose payload ends with `bulk`, from where that lies, after all earlier commands. Returns when
    /// the bytes are with the operating system.
    pub(super) fn send_bulk(&self, opcode: u16, payload: impl FnOnce(&mut Vec<u8>), bulk: &[u8]) {
        self.send(&mut self.writer.lock(), bulk, |queue| {
            queue.put(opcode, 0, bulk.len(), payload);
        });
        self.flush();
    }

    /// Sends a message whose payload ends with `bulk` in several frames. `register` as in [`Self::post_now`].
    pub(super) fn send_parts(
        &self,
        opcode: u16,
        payload: impl FnOnce(&mut Vec<u8>),
        bulk: &[u8],
        register: impl FnOnce(u64),
    ) {
        let mut writer = self.writer.lock();
        let mut parts = bulk.chunks(frame::CHUNK).peekable();
        let Some(first) = parts.next() else { return };
        let flags = |last: bool| if last { 0 } else { frame::MORE };
        let last = parts.peek().is_none();
        let mut number = 0;
        self.send(&mut writer, first, |queue| {
            number = queue.next;
            register(number);
            queue.put(opcode, flags(last), first.len(), payload);
        });
        while let Some(part) = parts.next() {
            // The write role is held throughout, so no other frame comes between.
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let header = frame::Header { length, opcode, flags: flags(parts.peek().is_none()), id: number };
            self.transmit(&mut [IoSlice::new(&header.to_bytes()), IoSlice::new(part)]);
        }
        drop(writer);
        self.flush();
    }

    /// Sends what is there, unless somebody is at it who will look again.
    pub(super) fn flush(&self) {
        loop {
            fence(Ordering::SeqCst);
            if !self.filled.load(Ordering::Relaxed) {
                return;
            }
            let Some(mut writer) = self.writer.try_lock() else { return };
            self.send(&mut writer, &[], |_| ());
            MutexGuard::unlock_fair(writer);
        }
    }

    /// Sends the queue, what `last` appends to it, and the bulk bytes that belong to that.
    fn send(&self, writer: &mut Vec<u8>, bulk: &[u8], last: impl FnOnce(&mut Queue)) {
        {
            let mut queue = self.queue.lock();
            last(&mut queue);
            std::mem::swap(&mut queue.bytes, writer);
            self.filled.store(false, Ordering::Relaxed);
        }
        if !writer.is_empty() {
            self.transmit(&mut [IoSlice::new(writer), IoSlice::new(bulk)]);
            writer.clear();
        }
    }

    fn transmit(&self, parts: &mut [IoSlice<'_>]) {
        if self.is_broken() {
            return;
        }
        if let Err(error) = send_all(&*self.transport, parts) {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::SeqCst) {
            tracing::debug!(%error, "cannot send to the worker");
            self.transport.shutdown();
        }
    }

    /// No more commands: later ones go nowhere.
    pub(super) fn close(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.transport.shutdown();
        self.wake();
    }

    #[cold]
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(flusher) = self.flusher.get()
        {
            flusher.unpark();
        }
    }

    /// The flusher's life.
    pub(super) fn run_flusher(&self) {
        self.flusher.get_or_init(std::thread::current);
        fine_timers();
        let mut idle = 0;
        while !self.is_broken() {
            if self.filled.load(Ordering::Relaxed) {
                idle = 0;
                self.flush();
            } else {
                idle += 1;
            }
            if idle < NAPS {
                std::thread::sleep(NAP);
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            // A command appended before the store was seen is seen here.
            if self.queue.lock().bytes.is_empty() && !self.is_broken() {
                while self.asleep.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// Lets short sleeps of this thread be short: the default slack alone is 50 µs.
#[expect(unsafe_code, reason = "the standard library cannot set a thread's timer slack")]
fn fine_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64, 0, 0, 0) };
    if result != 0 {
        tracing::debug!("short sleeps stay long: the timer slack cannot be set");
    }
}
