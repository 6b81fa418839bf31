//! Streams.

use std::sync::Arc;

use cuda::types::{
    CUcontext, CUevent, CUgraph, CUgraphEdgeData, CUgraphNode, CUgreenCtx, CUhostFn, CUstream, CUstreamCallback, Host,
    In, Out,
};
use cuda::{CuError, CuResult};

use super::engine::{Engine, Stream};
use super::{front, size};

/// `CU_STREAM_CAPTURE_STATUS_NONE`.
const NOT_CAPTURING: u32 = 0;

/// `CUstreamAttrID`.
mod attribute {
    pub(super) const ACCESS_POLICY_WINDOW: u32 = 1;
    pub(super) const SYNCHRONIZATION_POLICY: u32 = 3;
    pub(super) const PRIORITY: u32 = 8;
    pub(super) const MEM_SYNC_DOMAIN_MAP: u32 = 9;
    pub(super) const MEM_SYNC_DOMAIN: u32 = 10;
}

fn get(stream: CUstream) -> CuResult<(&'static Engine, Arc<Stream>)> {
    let engine = front()?;
    Ok((engine, engine.stream(stream.0 as u64)?))
}

pub(crate) fn create(stream: Out<CUstream>, flags: u32) -> CuResult {
    create_with_priority(stream, flags, 0)
}

pub(crate) fn create_with_priority(stream: Out<CUstream>, flags: u32, priority: i32) -> CuResult {
    let engine = front()?;
    if stream.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    stream.set(CUstream(size(engine.stream_create(flags, priority)?)))
}

pub(crate) fn destroy(stream: CUstream) -> CuResult {
    front()?.stream_destroy(stream.0 as u64)
}

pub(crate) fn synchronize(stream: CUstream) -> CuResult {
    let (engine, stream) = get(stream)?;
    engine.stream_synchronize(&stream)
}

pub(crate) fn query(stream: CUstream) -> CuResult {
    let (engine, stream) = get(stream)?;
    engine.stream_query(&stream)
}

pub(crate) fn wait_event(stream: CUstream, event: CUevent, flags: u32) -> CuResult {
    let (engine, stream) = get(stream)?;
    // Bit 0 means something to graphs under capture only.
    if flags & !1 != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    engine.stream_wait_event(&stream, event.0 as u64)
}

pub(crate) fn flags(stream: CUstream, flags: Out<u32>) -> CuResult {
    flags.set(get(stream)?.1.flags)
}

pub(crate) fn priority(stream: CUstream, priority: Out<i32>) -> CuResult {
    priority.set(get(stream)?.1.priority)
}

pub(crate) fn id(stream: CUstream, id: Out<u64>) -> CuResult {
    id.set(get(stream)?.1.unique)
}

pub(crate) fn device(stream: CUstream, device: Out<i32>) -> CuResult {
    device.set(i32::try_from(get(stream)?.1.device).map_err(|_| CuError::INVALID_DEVICE)?)
}

pub(crate) fn context(stream: CUstream, context: Out<CUcontext>) -> CuResult {
    context.set(CUcontext(size(get(stream)?.1.context_handle)))
}

pub(crate) fn contexts(stream: CUstream, context: Out<CUcontext>, green: Out<CUgreenCtx>) -> CuResult {
    context.set_if(CUcontext(size(get(stream)?.1.context_handle)));
    green.set_if(CUgreenCtx::NULL);
    Ok(())
}

pub(crate) fn green_context(stream: CUstream, green: Out<CUgreenCtx>) -> CuResult {
    get(stream)?;
    green.set(CUgreenCtx::NULL)
}

pub(crate) fn add_callback(stream: CUstream, callback: CUstreamCallback, data: Host, flags: u32) -> CuResult {
    let (engine, queue) = get(stream)?;
    if callback.is_null() || flags != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let work = move || {
        if let Err(error) = callback.call(stream, 0, data) {
            tracing::error!(%error, "a stream callback was not called");
        }
    };
    engine.host_callback(&queue, Box::new(work))
}

pub(crate) fn launch_host_function(stream: CUstream, function: CUhostFn, data: Host) -> CuResult {
    let (engine, queue) = get(stream)?;
    if function.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let work = move || {
        if let Err(error) = function.call(data) {
            tracing::error!(%error, "a host function was not called");
        }
    };
    engine.host_callback(&queue, Box::new(work))
}

pub(crate) fn launch_host_function_with_mode(stream: CUstream, function: CUhostFn, data: Host, mode: u32) -> CuResult {
    if mode > 1 {
        return Err(CuError::INVALID_VALUE);
    }
    launch_host_function(stream, function, data)
}

pub(crate) fn attach_memory(stream: CUstream, address: u64, bytes: usize, flags: u32) -> CuResult {
    let (engine, stream) = get(stream)?;
    engine.attach(&*engine.current()?, &stream, address, bytes as u64, flags)
}

pub(crate) fn is_capturing(stream: CUstream, status: Out<u32>) -> CuResult {
    get(stream)?;
    status.set(NOT_CAPTURING)
}

pub(crate) fn capture_info(stream: CUstream, status: Out<u32>, id: Out<u64>) -> CuResult {
    is_capturing(stream, status)?;
    id.set_if(0);
    Ok(())
}

pub(crate) fn capture_info_v2(
    stream: CUstream,
    status: Out<u32>,
    id: Out<u64>,
    _graph: Out<CUgraph>,
    _dependencies: Out<In<CUgraphNode>>,
    _count: Out<usize>,
) -> CuResult {
    // The rest is only written for a stream that captures.
    capture_info(stream, status, id)
}

pub(crate) fn capture_info_v3(
    stream: CUstream,
    status: Out<u32>,
    id: Out<u64>,
    _graph: Out<CUgraph>,
    _dependencies: Out<In<CUgraphNode>>,
    _edges: Out<In<CUgraphEdgeData>>,
    _count: Out<usize>,
) -> CuResult {
    capture_info(stream, status, id)
}

/// The mode matters to threads that capture; it is kept and given back.
pub(crate) fn exchange_capture_mode(mode: Out<u32>) -> CuResult {
    use std::cell::Cell;
    thread_local! {
        static MODE: Cell<u32> = const { Cell::new(0) };
    }
    front()?;
    let new = mode.get()?;
    if new > 2 {
        return Err(CuError::INVALID_VALUE);
    }
    mode.set(MODE.replace(new))
}

pub(crate) fn get_attribute(stream: CUstream, number: u32, value: Host) -> CuResult {
    let (_, stream) = get(stream)?;
    match number {
        attribute::ACCESS_POLICY_WINDOW => value.fill(0, 32),
        // CU_SYNC_POLICY_AUTO
        attribute::SYNCHRONIZATION_POLICY => value.out::<u32>().set(1),
        attribute::PRIORITY => value.out::<i32>().set(stream.priority),
        attribute::MEM_SYNC_DOMAIN_MAP => value.write(&[0, 1]),
        attribute::MEM_SYNC_DOMAIN => value.out::<u32>().set(0),
        _ => Err(CuError::INVALID_VALUE),
    }
}

pub(crate) fn set_attribute(stream: CUstream, number: u32, value: Host) -> CuResult {
    get(stream)?;
    if value.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    match number {
        // Hints to the cache, to the waiting thread and to the order of flushes.
        attribute::ACCESS_POLICY_WINDOW
        | attribute::SYNCHRONIZATION_POLICY
        | attribute::MEM_SYNC_DOMAIN_MAP
        | attribute::MEM_SYNC_DOMAIN => Ok(()),
        attribute::PRIORITY => Err(CuError::NOT_SUPPORTED),
        _ => Err(CuError::INVALID_VALUE),
    }
}

pub(crate) fn copy_attributes(target: CUstream, source: CUstream) -> CuResult {
    get(target)?;
    get(source).map(drop)
}
