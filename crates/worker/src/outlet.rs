//! What a session says to its client: answers, data, printed text and host callbacks that streams have reached.

use std::collections::HashSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cuda::{CuError, CuResult, Sink, TicketId};
use parking_lot::{Condvar, Mutex};
use wire::frame;
use wire::transport::{Transport, send_all};

/// The sending half of a session, and the sink of its driver.
pub(crate) struct Outlet {
    pub(crate) transport: Arc<dyn Transport>,
    /// The write role, with the buffer for small frames.
    writer: Mutex<Vec<u8>>,
    ended: AtomicBool,
    /// The first error of one-way calls that the client has not been told.
    deferred: AtomicU32,
    /// Host callbacks that the client is running.
    running: Mutex<HashSet<TicketId>>,
    returned: Condvar,
}

impl Outlet {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            writer: Mutex::default(),
            ended: AtomicBool::new(false),
            deferred: AtomicU32::new(0),
            running: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Whether the client is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The client is gone, or must go: whoever waits for it goes on.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.transport.shutdown();
        drop(self.running.lock());
        self.returned.notify_all();
    }

    /// Keeps the error of a one-way call for the next answer. The first one counts.
    pub(crate) fn defer(&self, error: CuError) {
        let kept = self.deferred.compare_exchange(0, error.code(), Ordering::Relaxed, Ordering::Relaxed);
        if let Err(first) = kept {
            tracing::trace!(%error, first, "a later error than the one that is kept");
        }
    }

    /// Answers a command; `value` appends what a successful call returned.
    pub(crate) fn answer<T>(&self, id: u64, result: CuResult<T>, value: impl FnOnce(&T, &mut Vec<u8>)) {
        let mut buffer = self.writer.lock();
        let deferred = self.deferred.swap(0, Ordering::Relaxed);
        buffer.clear();
        frame::put(&mut buffer, frame::ANSWER, 0, id, 0, |out| {
            let status = result.as_ref().err().map_or(0, |error| error.code());
            out.extend_from_slice(&status.to_le_bytes());
            out.extend_from_slice(&deferred.to_le_bytes());
            if let Ok(result) = &result {
                value(result, out);
            }
        });
        self.transmit(&buffer, &[]);
    }

    /// Sends bytes of a copy to the host.
    pub(crate) fn data(&self, id: u64, offset: u64, bytes: &[u8]) {
        let put = |out: &mut Vec<u8>| out.extend_from_slice(&offset.to_le_bytes());
        self.frame(frame::DATA, id, bytes, put);
    }

    fn frame(&self, opcode: u16, id: u64, bulk: &[u8], put: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.writer.lock();
        buffer.clear();
        frame::put(&mut buffer, opcode, 0, id, bulk.len(), put);
        self.transmit(&buffer, bulk);
    }

    fn transmit(&self, head: &[u8], bulk: &[u8]) {
        if self.has_ended() {
            return;
        }
        if let Err(error) = send_all(&*self.transport, &mut [IoSlice::new(head), IoSlice::new(bulk)]) {
            tracing::debug!(%error, "cannot send to the client");
            self.end();
        }
    }

    /// The client says that a host callback has returned.
    pub(crate) fn callback_done(&self, ticket: TicketId) {
        if self.running.lock().remove(&ticket) {
            self.returned.notify_all();
        }
    }
}

impl Sink for Outlet {
    fn printed(&self, text: &[u8]) {
        for part in text.chunks(frame::CHUNK) {
            self.frame(frame::PRINTED, 0, part, |_| ());
        }
    }

    fn reached(&self, ticket: TicketId) {
        self.running.lock().insert(ticket);
        self.frame(frame::REACHED, 0, &ticket.0.to_le_bytes(), |_| ());
        let mut running = self.running.lock();
        while running.contains(&ticket) && !self.has_ended() {
            self.returned.wait(&mut running);
        }
        running.remove(&ticket);
    }
}
