//! Events.

use cuda::types::{CUevent, CUstream, Out};
use cuda::{CuError, CuResult};

use super::{front, size};

pub(crate) fn create(event: Out<CUevent>, flags: u32) -> CuResult {
    let engine = front()?;
    if event.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    event.set(CUevent(size(engine.event_create(flags)?)))
}

pub(crate) fn destroy(event: CUevent) -> CuResult {
    front()?.event_destroy(event.0 as u64)
}

pub(crate) fn record(event: CUevent, stream: CUstream) -> CuResult {
    let engine = front()?;
    let stream = engine.stream(stream.0 as u64)?;
    engine.event_record(event.0 as u64, &stream)
}

pub(crate) fn record_with_flags(event: CUevent, stream: CUstream, flags: u32) -> CuResult {
    // Bit 0 means something to graphs under capture only.
    if flags & !1 != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    record(event, stream)
}

pub(crate) fn query(event: CUevent) -> CuResult {
    front()?.event_query(event.0 as u64)
}

pub(crate) fn synchronize(event: CUevent) -> CuResult {
    front()?.event_synchronize(event.0 as u64)
}

pub(crate) fn elapsed(milliseconds: Out<f32>, start: CUevent, end: CUevent) -> CuResult {
    let engine = front()?;
    if milliseconds.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    milliseconds.set(engine.event_elapsed(start.0 as u64, end.0 as u64)?)
}
