//! Copies to the host that complete later.
//!
//! The driver copies into a buffer of the worker, in stream order, and an event behind the copy says when it is there.
//! A thread per busy stream waits for that and sends the bytes. An answer by which the client may conclude that a copy is
//! complete is sent behind its bytes: before every answer, whatever has completed by then is delivered.

use std::sync::atomic::{AtomicUsize, Ordering};

use cuda::{CuError, CuResult, EventId, HostBuffer, Region, StreamId};
use parking_lot::Mutex;
use wire::frame;

use super::Session;
use crate::dispatch::{Job, Streams};

/// Bytes that may wait at once. A client of ours asks for less.
const MOST: usize = 256 << 20;

/// Events of the worker, which clients do not name.
const OURS: u64 = 1 << 63;

#[derive(Default)]
pub(crate) struct Later {
    copies: Mutex<Copies>,
    /// How many copies there are, to know without the lock that there is none.
    count: AtomicUsize,
    /// Held while bytes are being sent, so that an answer behind them waits for their end.
    delivery: Mutex<()>,
}

#[derive(Default)]
struct Copies {
    /// In the order of the commands.
    list: Vec<Copy>,
    /// Streams that a thread waits for.
    attended: Vec<StreamId>,
    bytes: usize,
    next_event: u64,
}

struct Copy {
    id: u64,
    stream: StreamId,
    event: EventId,
    data: Vec<u8>,
}

impl Session {
    pub(super) fn copy_later(&self, streams: &Streams, id: u64, stream: StreamId, source: Region) -> Option<Job> {
        match self.start_copy(streams, id, stream, source) {
            Ok(true) => Some(Box::new(move |session| session.attend(stream))),
            Ok(false) => None,
            Err(error) => {
                self.outlet.answer(id, Err(error), |(), _| ());
                None
            }
        }
    }

    /// Starts a copy; says whether somebody must wait for its stream.
    fn start_copy(&self, streams: &Streams, id: u64, stream: StreamId, source: Region) -> CuResult<bool> {
        let context = streams.context(stream).ok_or(CuError::INVALID_HANDLE)?;
        let length = source.bytes().and_then(|bytes| usize::try_from(bytes).ok()).ok_or(CuError::INVALID_VALUE)?;
        let event = {
            let mut copies = self.later.copies.lock();
            if length > MOST - copies.bytes {
                return Err(CuError::OUT_OF_MEMORY);
            }
            copies.bytes += length;
            copies.next_event += 1;
            EventId(OURS | copies.next_event)
        };
        let mut data = vec![0; length];
        let target = HostBuffer { pointer: data.as_mut_ptr(), length };
        let driver = &self.driver;
        let result = driver.event_create(context, event, false).and_then(|()| {
            let copied = driver.copy_to_host(stream, target, source, false);
            copied.and_then(|()| driver.event_record(event, stream))
        });
        if result.is_err()
            && let Err(error) = driver.stream_synchronize(stream)
        {
            // The copy may have been under way, and the buffer must outlive it. A failed stream copies no more.
            tracing::debug!(%error, "the stream of a copy that cannot be started has failed");
        }
        let mut copies = self.later.copies.lock();
        if let Err(error) = result {
            copies.bytes -= length;
            return Err(error);
        }
        copies.list.push(Copy { id, stream, event, data });
        self.later.count.fetch_add(1, Ordering::SeqCst);
        let unattended = !copies.attended.contains(&stream);
        if unattended {
            copies.attended.push(stream);
        }
        Ok(unattended)
    }

    /// Waits for a stream's copies until there are none left.
    fn attend(&self, stream: StreamId) {
        loop {
            let event = {
                let mut copies = self.later.copies.lock();
                let Some(copy) = copies.list.iter().find(|copy| copy.stream == stream) else {
                    copies.attended.retain(|other| *other != stream);
                    return;
                };
                copy.event
            };
            // An error comes again when the event is asked, and ends the copy.
            if let Err(error) = self.driver.event_synchronize(event) {
                tracing::debug!(%error, "a copy to the host has failed");
            }
            self.deliver();
        }
    }

    /// Sends what has completed.
    pub(crate) fn deliver(&self) {
        if self.later.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let _delivery = self.later.delivery.lock();
        while let Some((copy, result)) = self.next_completed() {
            if result.is_ok() {
                for (index, bytes) in copy.data.chunks(frame::CHUNK).enumerate() {
                    self.outlet.data(copy.id, (index * frame::CHUNK) as u64, bytes);
                }
            }
            self.outlet.answer(copy.id, result, |(), _| ());
            if let Err(error) = self.driver.event_destroy(copy.event) {
                tracing::debug!(%error, "the event behind a copy is gone already");
            }
            self.later.copies.lock().bytes -= copy.data.len();
            self.later.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes the first copy that is complete, in the order of its stream.
    fn next_completed(&self) -> Option<(Copy, CuResult)> {
        let mut copies = self.later.copies.lock();
        let mut incomplete: Vec<StreamId> = Vec::new();
        for index in 0..copies.list.len() {
            let copy = copies.list.get(index)?;
            if incomplete.contains(&copy.stream) {
                continue;
            }
            let result = match self.driver.event_query(copy.event) {
                Ok(false) => {
                    incomplete.push(copy.stream);
                    continue;
                }
                other => other.map(drop),
            };
            return Some((copies.list.remove(index), result));
        }
        None
    }
}
