//! Contexts.

use std::sync::atomic::Ordering;

use cuda::types::{CUcontext, CUctxCreateParams, CUevent, CUexecAffinityParam, Out};
use cuda::{CuError, CuResult};

use super::engine::{Engine, PRIORITIES};
use super::{front, ordinal, size};

fn handle(value: u64) -> CUcontext {
    CUcontext(size(value))
}

fn number(context: CUcontext) -> u64 {
    context.0 as u64
}

pub(crate) fn create(context: Out<CUcontext>, flags: u32, device: i32) -> CuResult {
    if context.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    context.set(handle(front()?.context_create(ordinal(device)?, flags, 3020)?))
}

pub(crate) fn create_with_affinity(
    context: Out<CUcontext>,
    _affinity: Out<CUexecAffinityParam>,
    count: i32,
    flags: u32,
    device: i32,
) -> CuResult {
    if count != 0 {
        return Err(CuError::UNSUPPORTED_EXEC_AFFINITY);
    }
    create(context, flags, device)
}

pub(crate) fn create_with_params(
    context: Out<CUcontext>,
    params: Out<CUctxCreateParams>,
    flags: u32,
    device: i32,
) -> CuResult {
    if !params.is_null() {
        let params = params.get()?;
        if params.num_exec_affinity_params != 0 {
            return Err(CuError::UNSUPPORTED_EXEC_AFFINITY);
        }
        if !params.cig_params.is_null() {
            return Err(CuError::NOT_SUPPORTED);
        }
    }
    create(context, flags, device)
}

pub(crate) fn destroy(context: CUcontext) -> CuResult {
    front()?.context_destroy(number(context))
}

pub(crate) fn attach(context: Out<CUcontext>, flags: u32) -> CuResult {
    if flags != 0 || context.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    context.set(handle(front()?.context_attach()?))
}

pub(crate) fn detach(context: CUcontext) -> CuResult {
    front()?.context_detach(number(context))
}

pub(crate) fn push(context: CUcontext) -> CuResult {
    front()?.push_current(number(context))
}

pub(crate) fn pop(context: Out<CUcontext>) -> CuResult {
    let popped = front()?.pop_current()?;
    context.set_if(handle(popped));
    Ok(())
}

pub(crate) fn set_current(context: CUcontext) -> CuResult {
    front()?.set_current(number(context))
}

pub(crate) fn get_current(context: Out<CUcontext>) -> CuResult {
    context.set(handle(front()?.current_handle()?))
}

pub(crate) fn device(device: Out<i32>) -> CuResult {
    device_of(device, CUcontext::NULL)
}

pub(crate) fn device_of(device: Out<i32>, context: CUcontext) -> CuResult {
    let context = front()?.context_or_current(number(context))?;
    device.set(i32::try_from(context.device).map_err(|_| CuError::INVALID_DEVICE)?)
}

pub(crate) fn flags(flags: Out<u32>) -> CuResult {
    flags.set(front()?.context_flags()?)
}

pub(crate) fn set_flags(flags: u32) -> CuResult {
    front()?.context_set_flags(flags)
}

pub(crate) fn id(context: CUcontext, id: Out<u64>) -> CuResult {
    id.set(front()?.context_or_current(number(context))?.life()?.id.0)
}

pub(crate) fn api_version(context: CUcontext, version: Out<u32>) -> CuResult {
    version.set(front()?.context_or_current(number(context))?.api_version)
}

pub(crate) fn synchronize() -> CuResult {
    let engine = front()?;
    engine.context_synchronize(&*engine.current()?)
}

pub(crate) fn synchronize_context(context: CUcontext) -> CuResult {
    let engine = front()?;
    engine.context_synchronize(&*engine.context_or_current(number(context))?.life()?)
}

/// The last `CUlimit`.
const LAST_LIMIT: u32 = 10;

pub(crate) fn limit(value: Out<usize>, limit: u32) -> CuResult {
    let engine = front()?;
    if limit > LAST_LIMIT {
        return Err(CuError::INVALID_VALUE);
    }
    value.set(size(engine.driver().context_limit(engine.current()?.id, limit)?))
}

pub(crate) fn set_limit(limit: u32, value: usize) -> CuResult {
    let engine = front()?;
    if limit > LAST_LIMIT {
        return Err(CuError::INVALID_VALUE);
    }
    engine.driver().context_set_limit(engine.current()?.id, limit, value as u64).map(drop)
}

pub(crate) fn cache_config(config: Out<u32>) -> CuResult {
    config.set(front()?.current_context()?.cache_config.load(Ordering::Relaxed))
}

pub(crate) fn set_cache_config(config: u32) -> CuResult {
    if config > 3 {
        return Err(CuError::INVALID_VALUE);
    }
    front()?.current_context()?.cache_config.store(config, Ordering::Relaxed);
    Ok(())
}

pub(crate) fn shared_config(config: Out<u32>) -> CuResult {
    config.set(front()?.current_context()?.shared_config.load(Ordering::Relaxed))
}

pub(crate) fn set_shared_config(config: u32) -> CuResult {
    if config > 2 {
        return Err(CuError::INVALID_VALUE);
    }
    // Banks have one width on every device that CUDA 12 knows; the setting has no effect there either.
    front()?.current_context().map(drop)
}

pub(crate) fn stream_priority_range(least: Out<i32>, greatest: Out<i32>) -> CuResult {
    front()?.current()?;
    least.set_if(PRIORITIES.0);
    greatest.set_if(PRIORITIES.1);
    Ok(())
}

pub(crate) fn reset_persisting_cache() -> CuResult {
    front()?.current().map(drop)
}

pub(crate) fn exec_affinity(_affinity: Out<CUexecAffinityParam>, _kind: u32) -> CuResult {
    front()?.current()?;
    Err(CuError::UNSUPPORTED_EXEC_AFFINITY)
}

pub(crate) fn enable_peer_access(peer: CUcontext, flags: u32) -> CuResult {
    front()?.peer_enable(number(peer), flags)
}

pub(crate) fn disable_peer_access(peer: CUcontext) -> CuResult {
    front()?.peer_disable(number(peer))
}

pub(crate) fn primary_retain(context: Out<CUcontext>, device: i32) -> CuResult {
    if context.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    context.set(handle(front()?.primary_retain(ordinal(device)?)?))
}

pub(crate) fn primary_release(device: i32) -> CuResult {
    front()?.primary_release(ordinal(device)?)
}

pub(crate) fn primary_reset(device: i32) -> CuResult {
    front()?.primary_reset(ordinal(device)?)
}

pub(crate) fn primary_state(device: i32, flags: Out<u32>, active: Out<i32>) -> CuResult {
    let (set, alive) = front()?.primary_state(ordinal(device)?)?;
    flags.set(set)?;
    active.set(i32::from(alive))
}

pub(crate) fn primary_set_flags(device: i32, flags: u32) -> CuResult {
    front()?.primary_set_flags(ordinal(device)?, flags)
}

/// Records an event for all work of a context: its default stream waits for the others.
pub(crate) fn record_event(context: CUcontext, event: CUevent) -> CuResult {
    let engine: &Engine = front()?;
    let life = engine.context_or_current(number(context))?.life()?;
    engine.event_record(event.0 as u64, &life.legacy)
}

pub(crate) fn wait_event(context: CUcontext, event: CUevent) -> CuResult {
    let engine: &Engine = front()?;
    let life = engine.context_or_current(number(context))?.life()?;
    engine.stream_wait_event(&life.legacy, event.0 as u64)
}
