//! Streams and events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cuda::{ContextId, CuError, CuResult, EventId, StreamId, StreamKind, TicketId};

use super::contexts::thread_number;
use super::pools::Done;
use super::{Engine, Life};

/// `CU_STREAM_LEGACY`.
const LEGACY: u64 = 1;
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: u64 = 2;
/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// The priorities that streams may have, from least to most urgent.
pub const PRIORITIES: (i32, i32) = (0, -5);

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its name for the driver.
    pub id: StreamId,
    /// Its context's life.
    pub context: ContextId,
    /// Its device.
    pub device: u32,
    /// Its context's handle.
    pub context_handle: u64,
    /// `CU_STREAM_*` flags.
    pub flags: u32,
    /// Its priority.
    pub priority: i32,
    /// A number that no other stream of this process has.
    pub unique: u64,
    /// Whether work was queued since the stream was last waited for.
    busy: AtomicBool,
}

impl Stream {
    /// Whether it is its context's default stream, which waits for others.
    pub(super) fn is_legacy(&self, life: &Life) -> bool {
        self.id == life.legacy.id
    }

    pub(super) fn new(
        id: StreamId,
        context: ContextId,
        device: u32,
        context_handle: u64,
        flags: u32,
        priority: i32,
        unique: u64,
    ) -> Self {
        Self { id, context, device, context_handle, flags, priority, unique, busy: AtomicBool::new(false) }
    }
}

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Its name for the driver.
    pub id: EventId,
    /// Its context's life.
    pub context: ContextId,
    /// Its context's handle.
    pub context_handle: u64,
    /// Whether its time is kept.
    pub timing: bool,
    recorded: AtomicBool,
}

/// `CU_EVENT_BLOCKING_SYNC`, `_DISABLE_TIMING`, `_INTERPROCESS`.
mod event_flag {
    pub(super) const DISABLE_TIMING: u32 = 2;
    pub(super) const INTERPROCESS: u32 = 4;
    pub(super) const ALL: u32 = 7;
}

impl Engine {
    /// The stream of a handle: a created one, or a default stream of the current context for 0, 1 and 2.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none; `INVALID_CONTEXT` when a default stream needs a context and none is current.
    pub fn stream(&self, handle: u64) -> CuResult<Arc<Stream>> {
        match handle {
            0 | LEGACY => Ok(Arc::clone(&self.current()?.legacy)),
            PER_THREAD => self.per_thread_stream(&*self.current()?),
            _ => self.streams.get(handle).ok_or(CuError::INVALID_HANDLE),
        }
    }

    fn per_thread_stream(&self, life: &Life) -> CuResult<Arc<Stream>> {
        let thread = thread_number()?;
        if let Some(stream) = life.per_thread.lock().get(&thread) {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new(self.make_stream(life, 0, 0)?);
        life.per_thread.lock().insert(thread, Arc::clone(&stream));
        Ok(stream)
    }

    fn make_stream(&self, life: &Life, flags: u32, priority: i32) -> CuResult<Stream> {
        if flags & !NON_BLOCKING != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
        let id = StreamId(self.fresh_id());
        let kind = if flags & NON_BLOCKING == 0 { StreamKind::Blocking } else { StreamKind::NonBlocking };
        self.driver.stream_create(life.id, id, kind, priority)?;
        Ok(Stream::new(id, life.id, life.device, life.context, flags, priority, self.fresh_id()))
    }

    /// Makes a stream in the current context.
    ///
    /// # Errors
    /// `INVALID_VALUE` for unknown flags, or what the driver says.
    pub fn stream_create(&self, flags: u32, priority: i32) -> CuResult<u64> {
        let life = self.current()?;
        Ok(self.streams.insert(Arc::new(self.make_stream(&life, flags, priority)?)))
    }

    /// Destroys a stream once its work is done; does not wait.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none, default streams included.
    pub fn stream_destroy(&self, handle: u64) -> CuResult {
        let stream = self.streams.remove(handle).ok_or(CuError::INVALID_HANDLE)?;
        self.mark_idle(&stream);
        self.orphan_downloads(stream.id);
        self.driver.stream_destroy(stream.id)
    }

    /// Waits for a stream's work.
    ///
    /// # Errors
    /// What the driver says, earlier asynchronous errors included.
    pub fn stream_synchronize(&self, stream: &Stream) -> CuResult {
        self.mark_idle(stream);
        self.driver.stream_synchronize(stream.id)?;
        self.end_downloads(Done::Stream(stream.id));
        self.share_after(stream.context, Some(stream.id))?;
        self.release_pools(stream.device, Done::Stream(stream.id))
    }

    /// Whether a stream's work is done.
    ///
    /// # Errors
    /// `NOT_READY` when it is not, or what the driver says.
    pub fn stream_query(&self, stream: &Stream) -> CuResult {
        if !self.driver.stream_query(stream.id)? {
            return Err(CuError::NOT_READY);
        }
        self.end_downloads(Done::Stream(stream.id));
        self.share_after(stream.context, Some(stream.id))?;
        self.release_pools(stream.device, Done::Stream(stream.id))
    }

    /// Makes a stream wait for an event.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is no event, or what the driver says.
    pub fn stream_wait_event(&self, stream: &Stream, event: u64) -> CuResult {
        let event = self.event(event)?;
        if !event.recorded.load(Ordering::Acquire) {
            return Ok(());
        }
        self.mark_busy(stream);
        self.driver.stream_wait_event(stream.id, event.id)
    }

    /// Runs `work` on the callback thread when the stream gets there; the stream waits for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn host_callback(&self, stream: &Stream, work: Box<dyn FnOnce() + Send>) -> CuResult {
        let ticket = TicketId(self.fresh_id());
        self.callbacks.add(ticket, work);
        self.mark_busy(stream);
        self.driver.host_callback(stream.id, ticket).inspect_err(|_| self.callbacks.remove(ticket))
    }

    /// Notes that work is about to be queued.
    pub(super) fn mark_busy(&self, stream: &Stream) {
        if !stream.busy.load(Ordering::Relaxed) && !stream.busy.swap(true, Ordering::AcqRel) {
            self.busy_streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn mark_idle(&self, stream: &Stream) {
        if stream.busy.swap(false, Ordering::AcqRel) {
            self.busy_streams.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether every stream has been waited for since work was last queued on it.
    pub(super) fn no_stream_is_busy(&self) -> bool {
        self.busy_streams.load(Ordering::Relaxed) == 0
    }

    /// A whole context has been waited for.
    pub(super) fn streams_idle(&self, context: ContextId) {
        for stream in self.streams.all() {
            if stream.context == context {
                self.mark_idle(&stream);
            }
        }
        for context_object in self.contexts.all() {
            let Ok(life) = context_object.life() else { continue };
            if life.id == context {
                self.mark_idle(&life.legacy);
                life.per_thread.lock().values().for_each(|stream| self.mark_idle(stream));
            }
        }
    }

    /// The context is gone, and its streams with it.
    pub(super) fn drop_streams_of(&self, life: &Life) {
        for stream in self.streams.remove_where(|stream| stream.context == life.id) {
            self.mark_idle(&stream);
        }
        self.mark_idle(&life.legacy);
        life.per_thread.lock().values().for_each(|stream| self.mark_idle(stream));
    }

    /// The event of a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn event(&self, handle: u64) -> CuResult<Arc<Event>> {
        self.events.get(handle).ok_or(CuError::INVALID_HANDLE)
    }

    /// Makes an event in the current context.
    ///
    /// # Errors
    /// `INVALID_VALUE` for unknown flags, `NOT_SUPPORTED` for one to share with other processes.
    pub fn event_create(&self, flags: u32) -> CuResult<u64> {
        if flags & !event_flag::ALL != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        if flags & event_flag::INTERPROCESS != 0 {
            return Err(CuError::NOT_SUPPORTED);
        }
        let life = self.current()?;
        let timing = flags & event_flag::DISABLE_TIMING == 0;
        let id = EventId(self.fresh_id());
        self.driver.event_create(life.id, id, timing)?;
        let recorded = AtomicBool::new(false);
        let event = Event { id, context: life.id, context_handle: life.context, timing, recorded };
        Ok(self.events.insert(Arc::new(event)))
    }

    /// Destroys an event.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn event_destroy(&self, handle: u64) -> CuResult {
        let event = self.events.remove(handle).ok_or(CuError::INVALID_HANDLE)?;
        self.driver.event_destroy(event.id)
    }

    /// Records an event on a stream.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is no event, or belongs to another context than the stream.
    pub fn event_record(&self, handle: u64, stream: &Stream) -> CuResult {
        let event = self.event(handle)?;
        if event.context != stream.context {
            return Err(CuError::INVALID_HANDLE);
        }
        self.mark_busy(stream);
        self.driver.event_record(event.id, stream.id)?;
        event.recorded.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether an event has happened.
    ///
    /// # Errors
    /// `NOT_READY` when it has not, `INVALID_HANDLE` for what is none.
    pub fn event_query(&self, handle: u64) -> CuResult {
        let event = self.event(handle)?;
        let done = !event.recorded.load(Ordering::Acquire) || self.driver.event_query(event.id)?;
        if done { self.share_after(event.context, None) } else { Err(CuError::NOT_READY) }
    }

    /// Waits for an event.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none, or what the driver says.
    pub fn event_synchronize(&self, handle: u64) -> CuResult {
        let event = self.event(handle)?;
        if event.recorded.load(Ordering::Acquire) {
            self.driver.event_synchronize(event.id)?;
            self.share_after(event.context, None)?;
        }
        Ok(())
    }

    /// Milliseconds between two events.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is no event, has no time or was never recorded; `NOT_READY` before both happened.
    pub fn event_elapsed(&self, start: u64, end: u64) -> CuResult<f32> {
        let (start, end) = (self.event(start)?, self.event(end)?);
        let usable = |event: &Event| event.timing && event.recorded.load(Ordering::Acquire);
        if !usable(&start) || !usable(&end) || start.context != end.context {
            return Err(CuError::INVALID_HANDLE);
        }
        self.driver.event_elapsed(start.id, end.id)
    }
}
