//! The receiving half of a client's connection: leader and followers.
//!
//! There is no reader thread to hand every answer over. Of the threads that wait for an answer, one holds the *read
//! role*: it reads the connection, gives the others theirs, and passes the role on when its own has come. Only while
//! something is expected that no thread waits for (a copy that completes later, a host callback) does the *standby*
//! thread take the role when nobody else has it.
//!
//! Only the holder of the read role writes into callers' memory and completes waiters. So when the connection breaks, nobody
//! returns to a buffer's owner while another thread still fills it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;

use cuda::{CuError, CuResult, HostBuffer, Sink, TicketId};
use parking_lot::Mutex;

use crate::frame::{self, FrameError, Header};
use crate::inbox::Inbox;
use crate::transport::Transport;

const WAITING: u32 = 0;
const LEAD: u32 = 1;
const DONE: u32 = 2;

/// What a worker answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The call's own result.
    pub(super) status: u32,
    /// The encoded value, if the status is 0.
    pub(super) value: Vec<u8>,
}

/// A thread's place to wait for its answer; used for one call after another.
pub(super) struct Waiter {
    state: AtomicU32,
    thread: Thread,
    answer: Mutex<Answer>,
}

impl Waiter {
    pub(super) fn new() -> Self {
        let (state, thread) = (AtomicU32::new(WAITING), std::thread::current());
        Self { state, thread, answer: Mutex::default() }
    }

    fn finish(&self, answer: Answer) {
        *self.answer.lock() = answer;
        self.state.store(DONE, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// What an answer belongs to.
struct Expected {
    /// Who waits; `None` for a copy that completes later.
    waiter: Option<Arc<Waiter>>,
    /// Where its data goes.
    target: Option<HostBuffer>,
}

pub(super) struct Inbound {
    transport: Arc<dyn Transport>,
    /// The read role.
    reader: Mutex<Inbox>,
    expected: Mutex<HashMap<u64, Expected>>,
    /// Things to come that no thread waits for.
    unattended: AtomicU64,
    /// Bytes of copies that complete later.
    later: AtomicUsize,
    standby: std::sync::OnceLock<Thread>,
    closed: AtomicBool,
    /// The first error of one-way calls that nobody has been told yet.
    deferred: AtomicU32,
    /// An error that all later calls return: the connection's end, or one that CUDA calls sticky.
    fatal: AtomicU32,
    sink: Arc<dyn Sink>,
    /// Host callbacks that their streams have reached.
    callbacks: std::sync::mpsc::Sender<TicketId>,
}

impl Inbound {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        sink: Arc<dyn Sink>,
        callbacks: std::sync::mpsc::Sender<TicketId>,
    ) -> Self {
        Self {
            transport,
            reader: Mutex::new(Inbox::new(frame::MAX_ANSWER)),
            expected: Mutex::default(),
            unattended: AtomicU64::new(0),
            later: AtomicUsize::new(0),
            standby: std::sync::OnceLock::new(),
            closed: AtomicBool::new(false),
            deferred: AtomicU32::new(0),
            fatal: AtomicU32::new(0),
            sink,
            callbacks,
        }
    }

    /// The error that every call returns by now, if there is one.
    pub(super) fn check(&self) -> CuResult {
        CuError::check(self.fatal.load(Ordering::Relaxed))
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Takes the first error of earlier one-way calls.
    pub(super) fn take_deferred(&self) -> CuResult {
        if self.deferred.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        CuError::check(self.deferred.swap(0, Ordering::Relaxed))
    }

    /// Expects the answer to a command.
    pub(super) fn expect(&self, id: u64, waiter: &Arc<Waiter>, target: Option<HostBuffer>) {
        waiter.state.store(WAITING, Ordering::SeqCst);
        self.expected.lock().insert(id, Expected { waiter: Some(Arc::clone(waiter)), target });
    }

    /// Bytes of copies that complete later.
    pub(super) fn later(&self) -> usize {
        self.later.load(Ordering::Relaxed)
    }

    /// Expects a copy that completes later.
    pub(super) fn expect_later(&self, id: u64, target: HostBuffer) {
        self.later.fetch_add(target.length, Ordering::Relaxed);
        self.expected.lock().insert(id, Expected { waiter: None, target: Some(target) });
        self.attend();
    }

    /// Something will come that no thread waits for.
    pub(super) fn attend(&self) {
        self.unattended.fetch_add(1, Ordering::SeqCst);
        if let Some(standby) = self.standby.get() {
            standby.unpark();
        }
    }

    fn attended(&self) {
        let result = self.unattended.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
        if result.is_err() {
            tracing::debug!("the worker reached more host callbacks than were asked for");
        }
    }

    /// Waits for the answer, as the reader or as one of those that the reader serves.
    pub(super) fn wait(&self, waiter: &Waiter) -> Answer {
        loop {
            if waiter.state.load(Ordering::SeqCst) == DONE {
                return std::mem::take(&mut waiter.answer.lock());
            }
            if let Some(mut reader) = self.reader.try_lock() {
                while waiter.state.load(Ordering::SeqCst) != DONE {
                    self.read(&mut reader);
                }
                drop(reader);
                self.pass_on();
                continue;
            }
            while waiter.state.load(Ordering::SeqCst) == WAITING {
                std::thread::park();
            }
            // Promoted: look whether the role is free. If not, whoever holds it passes it on after this store.
            let promoted = waiter.state.compare_exchange(LEAD, WAITING, Ordering::SeqCst, Ordering::SeqCst);
            if promoted.is_ok() {
                fence(Ordering::SeqCst);
            }
        }
    }

    /// Gives the read role, which has just been left, to somebody who needs it.
    fn pass_on(&self) {
        fence(Ordering::SeqCst);
        if let Some(next) = self.expected.lock().values().find_map(|entry| entry.waiter.as_ref()) {
            let promoted = next.state.compare_exchange(WAITING, LEAD, Ordering::SeqCst, Ordering::SeqCst);
            if promoted.is_ok() {
                next.thread.unpark();
            }
        } else if self.unattended.load(Ordering::SeqCst) > 0
            && let Some(standby) = self.standby.get()
        {
            standby.unpark();
        }
    }

    /// The standby thread's life.
    pub(super) fn run_standby(&self) {
        self.standby.get_or_init(std::thread::current);
        while !self.is_closed() {
            if self.unattended.load(Ordering::SeqCst) > 0
                && let Some(mut reader) = self.reader.try_lock()
            {
                while self.unattended.load(Ordering::SeqCst) > 0 && !self.is_closed() {
                    self.read(&mut reader);
                    if self.expected.lock().values().any(|entry| entry.waiter.is_some()) {
                        break;
                    }
                }
                drop(reader);
                self.pass_on();
                if self.expected.lock().values().all(|entry| entry.waiter.is_none()) {
                    continue;
                }
            }
            std::thread::park();
        }
    }

    /// Reads and handles one frame. A broken connection completes everybody.
    fn read(&self, reader: &mut Inbox) {
        if self.is_closed() {
            self.fail_all();
        } else if let Err(error) = self.try_read(reader) {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                tracing::debug!("the worker has closed the connection");
            } else {
                tracing::warn!(%error, "the connection to the worker is broken");
            }
            self.close();
            self.fail_all();
        }
    }

    /// Lets every call fail from now on.
    pub(super) fn close(&self) {
        let code = CuError::DEVICE_UNAVAILABLE.code();
        if self.fatal.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            tracing::trace!("the connection ended after a sticky error");
        }
        self.closed.store(true, Ordering::SeqCst);
        self.transport.shutdown();
        if let Some(standby) = self.standby.get() {
            standby.unpark();
        }
    }

    fn fail_all(&self) {
        let all = std::mem::take(&mut *self.expected.lock());
        for waiter in all.into_values().filter_map(|entry| entry.waiter) {
            waiter.finish(Answer { status: CuError::DEVICE_UNAVAILABLE.code(), value: Vec::new() });
        }
        self.unattended.store(0, Ordering::SeqCst);
    }

    fn try_read(&self, reader: &mut Inbox) -> io::Result<()> {
        let transport = &*self.transport;
        let header = reader.header(transport)?;
        let length = header.length as usize;
        let malformed = FrameError::Malformed { opcode: header.opcode };
        match header.opcode {
            frame::ANSWER => {
                let payload = reader.payload(transport, length)?;
                let Some(([status, deferred], value)) = two_words(payload) else { return Err(malformed.into()) };
                self.answered(header, status, deferred, value)?;
            }
            frame::DATA => {
                let Some(rest) = length.checked_sub(8) else { return Err(malformed.into()) };
                let mut offset = [0; 8];
                offset.copy_from_slice(reader.payload(transport, 8)?);
                let target = self.expected.lock().get(&header.id).and_then(|entry| entry.target);
                let place = target.and_then(|target| part(target, u64::from_le_bytes(offset), rest));
                let Some(place) = place else { return Err(malformed.into()) };
                reader.payload_into(transport, place)?;
            }
            frame::PRINTED => self.sink.printed(reader.payload(transport, length)?),
            frame::REACHED => {
                let ticket = reader.payload(transport, length)?;
                let ticket = u64::from_le_bytes(ticket.try_into().map_err(|_| malformed)?);
                // The thread that runs callbacks ends with the connection.
                if self.callbacks.send(TicketId(ticket)).is_err() {
                    tracing::debug!(ticket, "a host callback was reached after the end");
                }
                self.attended();
            }
            opcode => return Err(FrameError::Unknown { opcode, flags: header.flags }.into()),
        }
        Ok(())
    }

    fn answered(&self, header: Header, status: u32, deferred: u32, value: &[u8]) -> io::Result<()> {
        let entry = self.expected.lock().remove(&header.id);
        let Some(entry) = entry else { return Err(FrameError::Malformed { opcode: header.opcode }.into()) };
        for code in [deferred, status] {
            if CuError::from_code(code).is_some_and(CuError::is_sticky) {
                self.first(&self.fatal, code);
            }
        }
        self.first(&self.deferred, deferred);
        match entry.waiter {
            Some(waiter) => waiter.finish(Answer { status, value: value.to_vec() }),
            None => {
                self.later.fetch_sub(entry.target.map_or(0, |target| target.length), Ordering::Relaxed);
                self.first(&self.deferred, status);
                self.attended();
            }
        }
        Ok(())
    }

    /// Keeps the first error.
    fn first(&self, place: &AtomicU32, code: u32) {
        if code != 0 && place.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            tracing::trace!(code, "a later error than the one that is kept");
        }
    }
}

fn two_words(payload: &[u8]) -> Option<([u32; 2], &[u8])> {
    let (first, rest) = payload.split_first_chunk::<4>()?;
    let (second, rest) = rest.split_first_chunk::<4>()?;
    Some(([u32::from_le_bytes(*first), u32::from_le_bytes(*second)], rest))
}

/// The bytes of a host buffer that a piece of data goes to, if they are inside.
#[expect(unsafe_code, reason = "data is received straight into the caller's memory")]
fn part<'a>(target: HostBuffer, offset: u64, length: usize) -> Option<&'a mut [u8]> {
    let offset = usize::try_from(offset).ok()?;
    offset.checked_add(length).filter(|end| *end <= target.length)?;
    // SAFETY: the range was just checked to lie in the buffer.
    let start = unsafe { target.pointer.add(offset) };
    // SAFETY: the maker of the buffer promises that it is valid and not used by others until the copy is complete. It
    // is complete when the entry is removed from `expected`, which only the holder of the read role does: us, later.
    Some(unsafe { std::slice::from_raw_parts_mut(start, length) })
}
