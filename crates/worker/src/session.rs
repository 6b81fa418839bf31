//! One client process.
//!
//! The session's threads take turns: one holds the *read role*, takes commands off the connection and executes them. When it
//! reaches a call that waits for the GPU, it gives the role to the next thread and waits itself. So no command is handed
//! from thread to thread, and none waits for another one's kernel.

mod later;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuda::{CuResult, Driver, HostBuffer, Region, StreamId};
use parking_lot::Mutex;
use wire::calls::opcode;
use wire::frame::{self, FrameError, Header};
use wire::{Inbox, pieces};

use crate::dispatch::{Job, Streams, execute};
use crate::outlet::Outlet;
use later::Later;

/// Threads that wait for GPU work at once; with more, the client's other commands wait too.
const MOST_WAITING: usize = 256;
/// Threads kept for the next turn.
const SPARE: usize = 3;
/// Copies up to this size are made by the reading thread when their stream is idle.
const PROMPT: u64 = 64 << 10;
/// Data goes from the driver to the client through a buffer of this size, small enough to stay in the processor's cache.
const PORTION: u64 = 256 << 10;

/// A client's session.
pub(crate) struct Session {
    /// Dropped before the buffers of `later`, which it may still write to.
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) outlet: Arc<Outlet>,
    later: Later,
    reading: Mutex<Reading>,
    /// Threads that wait for the read role.
    spare: AtomicUsize,
    /// Threads that wait for the GPU.
    waiting: AtomicUsize,
    pid: u32,
    /// Counts this session for as long as it holds anything.
    _place: crate::server::Place,
}

struct Reading {
    inbox: Inbox,
    streams: Streams,
    /// A message in several frames, so far.
    message: Vec<u8>,
    of: Option<(u16, u64)>,
}

impl Session {
    pub(crate) fn new(driver: Arc<dyn Driver>, outlet: Arc<Outlet>, pid: u32, place: crate::server::Place) -> Self {
        let inbox = Inbox::new(frame::MAX_COMMAND);
        Self {
            driver,
            outlet,
            later: Later::default(),
            reading: Mutex::new(Reading { inbox, streams: Streams::default(), message: Vec::new(), of: None }),
            spare: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            pid,
            _place: place,
        }
    }

    /// A thread's life: its turns at reading, and the waits between.
    pub(crate) fn run(self: Arc<Self>) {
        let guarded = std::panic::AssertUnwindSafe(|| self.take_turns());
        if std::panic::catch_unwind(guarded).is_err() {
            tracing::error!(pid = self.pid, "a driver call panicked: the session ends");
        }
        // Whoever leaves while the session goes on is spare; the others find it ended.
    }

    fn take_turns(self: &Arc<Self>) {
        // Also when a call panics.
        let ending = Ending(self);
        loop {
            self.spare.fetch_add(1, Ordering::SeqCst);
            let mut reading = self.reading.lock();
            self.spare.fetch_sub(1, Ordering::SeqCst);
            let job = match self.read(&mut reading) {
                Ok(job) => job,
                Err(error) => {
                    self.log_end(&error);
                    return;
                }
            };
            if self.waiting.load(Ordering::SeqCst) >= MOST_WAITING || !self.have_successor() {
                job(self);
                continue;
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(reading);
            job(self);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if self.spare.load(Ordering::SeqCst) >= SPARE {
                std::mem::forget(ending);
                return;
            }
        }
    }

    /// Sees to it that somebody takes the read role when it is left.
    fn have_successor(self: &Arc<Self>) -> bool {
        if self.spare.load(Ordering::SeqCst) > 0 {
            return true;
        }
        let session = Arc::clone(self);
        let started = std::thread::Builder::new().name("session".to_owned()).spawn(move || session.run());
        if let Err(error) = &started {
            tracing::warn!(%error, "cannot start a thread: other calls of the client wait");
        }
        started.is_ok()
    }

    fn log_end(&self, error: &std::io::Error) {
        let pid = self.pid;
        if self.outlet.has_ended() || error.kind() == std::io::ErrorKind::UnexpectedEof {
            tracing::info!(pid, "the client is gone");
        } else {
            tracing::warn!(pid, %error, "the session ends");
        }
    }

    /// Executes commands until one is left that waits.
    fn read(&self, reading: &mut Reading) -> std::io::Result<Job> {
        let transport = &*self.outlet.transport;
        loop {
            if self.outlet.has_ended() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let header = reading.inbox.header(transport)?;
            let Reading { inbox, streams, message, of } = reading;
            let payload = inbox.payload(transport, header.length as usize)?;
            if header.flags == 0 && of.is_none() {
                if let Some(job) = execute(self, streams, header, payload)? {
                    return Ok(job);
                }
                continue;
            }
            collect(message, of, header, payload)?;
            if of.is_none() {
                let whole = std::mem::take(message);
                if let Some(job) = execute(self, streams, Header { flags: 0, ..header }, &whole)? {
                    return Ok(job);
                }
            }
        }
    }

    /// Copies to the host: at once, or as what is left to do.
    pub(crate) fn copy_to_host(
        &self,
        streams: &Streams,
        id: u64,
        stream: StreamId,
        source: Region,
        wait: bool,
    ) -> Option<Job> {
        if source.bytes().is_some_and(|bytes| bytes <= PROMPT) && streams.is_idle(self, stream) {
            self.copy_now(id, stream, source);
            return None;
        }
        if wait {
            return Some(Box::new(move |session| session.copy_now(id, stream, source)));
        }
        self.copy_later(streams, id, stream, source)
    }

    /// Copies to the host, waiting for the stream.
    fn copy_now(&self, id: u64, stream: StreamId, source: Region) {
        let result = self.copy_pieces(id, stream, source);
        self.deliver();
        self.outlet.answer(id, result, |(), _| ());
    }

    fn copy_pieces(&self, id: u64, stream: StreamId, source: Region) -> CuResult {
        let total = source.bytes().ok_or(cuda::CuError::INVALID_VALUE)?;
        let mut buffer = vec![0; total.min(PORTION) as usize];
        for piece in pieces(source, PORTION) {
            if self.outlet.has_ended() {
                break;
            }
            let Some(bytes) = buffer.get_mut(..piece.length as usize) else { break };
            let target = HostBuffer { pointer: bytes.as_mut_ptr(), length: bytes.len() };
            self.driver.copy_to_host(stream, target, piece.region, true)?;
            self.outlet.data(id, piece.offset, bytes);
        }
        Ok(())
    }
}

/// Ends the session when a thread leaves it, unless that has been thought about.
struct Ending<'a>(&'a Session);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.outlet.end();
        // A kernel that never ends would keep the session, and its memory, for ever.
        self.0.driver.abandon();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outlet.end();
    }
}

/// Puts a message together. `of` says of which command, while it is incomplete.
fn collect(
    message: &mut Vec<u8>,
    of: &mut Option<(u16, u64)>,
    header: Header,
    payload: &[u8],
) -> Result<(), FrameError> {
    if header.flags & !frame::MORE != 0 || header.opcode != opcode::module_load {
        return Err(FrameError::Unknown { opcode: header.opcode, flags: header.flags });
    }
    let goes_on = of.is_none_or(|of| of == (header.opcode, header.id));
    if !goes_on || message.len() + payload.len() > frame::MAX_MESSAGE {
        return Err(FrameError::Interleaved);
    }
    message.extend_from_slice(payload);
    *of = (header.flags & frame::MORE != 0).then_some((header.opcode, header.id));
    Ok(())
}
