//! Parts of devices: a context or stream always has its whole device.

use cuda::types::{CUcontext, CUdevResource, CUstream, Host, Out};
use cuda::{CuError, CuResult};

use super::engine::Engine;
use super::{front, ordinal};

/// `CU_DEV_RESOURCE_TYPE_SM`.
const MULTIPROCESSORS: u32 = 1;

fn whole(engine: &Engine, device: u32, resource: Out<CUdevResource>, kind: u32) -> CuResult {
    if kind != MULTIPROCESSORS {
        return Err(CuError::INVALID_RESOURCE_TYPE);
    }
    resource.set(CUdevResource {
        type_: MULTIPROCESSORS,
        internal_padding: [0; 92],
        sm_count: engine.limits(device)?.multiprocessors,
        min_sm_partition_size: 8,
        sm_coscheduled_alignment: 8,
        flags: 0,
        locality_domain_id: 0,
        oversize: [0; 20],
        next_resource: Host::NULL,
    })
}

pub(crate) fn of_device(device: i32, resource: Out<CUdevResource>, kind: u32) -> CuResult {
    let engine = front()?;
    whole(engine, ordinal(device)?, resource, kind)
}

pub(crate) fn of_context(context: CUcontext, resource: Out<CUdevResource>, kind: u32) -> CuResult {
    let engine = front()?;
    whole(engine, engine.context_or_current(context.0 as u64)?.device, resource, kind)
}

pub(crate) fn of_stream(stream: CUstream, resource: Out<CUdevResource>, kind: u32) -> CuResult {
    let engine = front()?;
    whole(engine, engine.stream(stream.0 as u64)?.device, resource, kind)
}
