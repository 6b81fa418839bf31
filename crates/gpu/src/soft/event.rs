//! Events and callbacks of a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cuda::{ContextId, CuError, CuResult, EventId, StreamId, TicketId};

use super::engine::{Engine, Event};
use super::stream::{Operation, Point, Stamp};

impl Engine {
    /// See [`cuda::Driver::event_create`].
    pub(super) fn event_create(&self, context: ContextId, event: EventId, timing: bool) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?;
        if state.events.contains_key(&event) {
            return Err(CuError::INVALID_VALUE);
        }
        state.events.insert(event, Event { context, timing, record: None });
        Ok(())
    }

    /// See [`cuda::Driver::event_destroy`].
    pub(super) fn event_destroy(&self, event: EventId) -> CuResult {
        self.state.lock().events.remove(&event).ok_or(CuError::INVALID_HANDLE)?;
        self.check()
    }

    /// See [`cuda::Driver::event_record`].
    pub(super) fn event_record(&self, event: EventId, stream: StreamId) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        let key = state.key(stream)?;
        if !state.events.contains_key(&event) {
            return Err(CuError::INVALID_HANDLE);
        }
        let stamp = Arc::new(Stamp::default());
        self.submit(&mut state, key, Vec::new(), Operation::Record(Arc::clone(&stamp)))?;
        let point = state.queue(stream)?.tail();
        if let Some(event) = state.events.get_mut(&event) {
            event.record = Some((point, stamp));
        }
        Ok(())
    }

    fn event_point(&self, event: EventId) -> CuResult<Option<Point>> {
        let state = self.state.lock();
        let event = state.events.get(&event).ok_or(CuError::INVALID_HANDLE)?;
        Ok(event.record.as_ref().map(|(point, _)| point.clone()))
    }

    /// See [`cuda::Driver::event_query`].
    pub(super) fn event_query(&self, event: EventId) -> CuResult<bool> {
        self.check()?;
        let passed = self.event_point(event)?.is_none_or(|point| point.passed());
        self.check()?;
        Ok(passed)
    }

    /// See [`cuda::Driver::event_synchronize`].
    pub(super) fn event_synchronize(&self, event: EventId) -> CuResult {
        self.check()?;
        self.event_point(event)?.map_or(Ok(()), |point| self.wait_for(&point))
    }

    /// See [`cuda::Driver::event_elapsed`].
    pub(super) fn event_elapsed(&self, start: EventId, end: EventId) -> CuResult<f32> {
        self.check()?;
        let state = self.state.lock();
        let time = |event: EventId| {
            let event = state.events.get(&event).filter(|event| event.timing).ok_or(CuError::INVALID_HANDLE)?;
            let (point, stamp) = event.record.as_ref().ok_or(CuError::INVALID_HANDLE)?;
            if !point.passed() {
                return Err(CuError::NOT_READY);
            }
            Ok(stamp.time.load(Ordering::Acquire))
        };
        // Both are looked at, so that an unusable handle wins over one that is not ready.
        let (start, end) = match (time(start), time(end)) {
            (Err(CuError::NOT_READY), Err(error)) => return Err(error),
            (start, end) => (start?, end?),
        };
        Ok((end as f64 - start as f64) as f32 / 1e6)
    }

    /// See [`cuda::Driver::stream_wait_event`].
    pub(super) fn stream_wait_event(&self, stream: StreamId, event: EventId) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        let key = state.key(stream)?;
        let event = state.events.get(&event).ok_or(CuError::INVALID_HANDLE)?;
        match event.record.as_ref().map(|(point, _)| point.clone()).filter(|point| !point.passed()) {
            Some(point) => self.submit(&mut state, key, vec![point], Operation::Wait),
            None => Ok(()),
        }
    }

    /// See [`cuda::Driver::host_callback`].
    pub(super) fn host_callback(&self, stream: StreamId, ticket: TicketId) -> CuResult {
        self.check()?;
        let mut state = self.state.lock();
        let key = state.key(stream)?;
        self.submit(&mut state, key, Vec::new(), Operation::Callback(ticket))
    }
}
