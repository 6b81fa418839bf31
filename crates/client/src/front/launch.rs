//! Launches.

use cuda::types::{CUevent, CUfunction, CUlaunchAttribute, CUlaunchConfig, CUstream, Host, In};
use cuda::{CuError, CuResult, LaunchShape};

use super::engine::{Arguments, LaunchRequest};
use super::front;

/// `CUlaunchAttributeID`.
mod attribute {
    pub(super) const COOPERATIVE: u32 = 2;
    pub(super) const CLUSTER_DIMENSION: u32 = 4;
    pub(super) const PROGRAMMATIC_EVENT: u32 = 7;
    pub(super) const LAUNCH_COMPLETION_EVENT: u32 = 12;
    pub(super) const DEVICE_UPDATABLE_NODE: u32 = 13;
}

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn kernel(
    function: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: CUstream,
    params: Host,
    extra: Host,
) -> CuResult {
    let shape = plain([grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared_bytes, false);
    launch(function, stream, shape, params, extra)
}

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn cooperative(
    function: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: CUstream,
    params: Host,
) -> CuResult {
    let shape = plain([grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared_bytes, true);
    launch(function, stream, shape, params, Host::NULL)
}

/// A launch without clusters.
fn plain(grid: [u32; 3], block: [u32; 3], shared_bytes: u32, cooperative: bool) -> LaunchShape {
    LaunchShape { grid, block, cluster: [1; 3], shared_bytes, cooperative }
}

fn launch(function: CUfunction, stream: CUstream, shape: LaunchShape, params: Host, extra: Host) -> CuResult {
    let engine = front()?;
    let stream = engine.stream(stream.0 as u64)?;
    let function = engine.function(function.0 as u64)?;
    let arguments = Arguments { params: params.address(), extra: extra.address() };
    engine.launch(&function, &stream, &LaunchRequest { shape, arguments })
}

/// The sizes of a configuration, and the event that is to be recorded after the launch, if any.
pub(super) fn shape_of(config: &CUlaunchConfig) -> CuResult<(LaunchShape, Option<CUevent>)> {
    let grid = [config.grid_dim_x, config.grid_dim_y, config.grid_dim_z];
    let block = [config.block_dim_x, config.block_dim_y, config.block_dim_z];
    let mut shape = plain(grid, block, config.shared_mem_bytes, false);
    let mut event = None;
    for position in 0..config.num_attrs as usize {
        let CUlaunchAttribute { id, value, .. } = config.attrs.array::<CUlaunchAttribute>().get_at(position)?;
        let [first, second, third, ..] = value;
        match id {
            attribute::COOPERATIVE => shape.cooperative = first != 0,
            attribute::CLUSTER_DIMENSION => shape.cluster = [first, second, third],
            // The event may happen later than it could, never earlier: it is recorded after the kernel.
            attribute::PROGRAMMATIC_EVENT | attribute::LAUNCH_COMPLETION_EVENT => {
                let address = u64::from(first) | u64::from(second) << 32;
                event = usize::try_from(address).ok().map(CUevent).filter(|event| !event.is_null());
            }
            // A kernel node that kernels change.
            attribute::DEVICE_UPDATABLE_NODE if first != 0 => return Err(CuError::NOT_SUPPORTED),
            // Hints: cache policy, waiting, scheduling, overlap with the kernel before, priority, domains, carve-out.
            0 | 1 | 3 | 5 | 6 | 8..=11 | attribute::DEVICE_UPDATABLE_NODE | 14 | 16 | 17 => {}
            15 => return Err(CuError::INVALID_VALUE),
            _ => return Err(CuError::NOT_SUPPORTED),
        }
    }
    Ok((shape, event))
}

pub(crate) fn with_config(config: In<CUlaunchConfig>, function: CUfunction, params: Host, extra: Host) -> CuResult {
    let config = config.get()?;
    let (shape, event) = shape_of(&config)?;
    let stream = if config.h_stream.is_null() { crate::ffi::default_stream() } else { config.h_stream };
    launch(function, stream, shape, params, extra)?;
    event.map_or(Ok(()), |event| super::event::record(event, stream))
}

pub(crate) fn set_block_shape(function: CUfunction, x: i32, y: i32, z: i32) -> CuResult {
    let engine = front()?;
    engine.legacy_block(&*engine.function(function.0 as u64)?, [x, y, z])
}

pub(crate) fn set_shared_size(function: CUfunction, bytes: u32) -> CuResult {
    let engine = front()?;
    engine.legacy_shared(&*engine.function(function.0 as u64)?, bytes);
    Ok(())
}

pub(crate) fn set_param_size(function: CUfunction, bytes: u32) -> CuResult {
    let engine = front()?;
    engine.legacy_param_size(&*engine.function(function.0 as u64)?, bytes)
}

fn set_param(function: CUfunction, offset: i32, bytes: &[u8]) -> CuResult {
    let engine = front()?;
    engine.legacy_params(&*engine.function(function.0 as u64)?, offset, bytes)
}

pub(crate) fn set_param_integer(function: CUfunction, offset: i32, value: u32) -> CuResult {
    set_param(function, offset, &value.to_ne_bytes())
}

pub(crate) fn set_param_float(function: CUfunction, offset: i32, value: f32) -> CuResult {
    set_param(function, offset, &value.to_ne_bytes())
}

pub(crate) fn set_param_bytes(function: CUfunction, offset: i32, memory: Host, bytes: u32) -> CuResult {
    set_param(function, offset, memory.bytes(bytes as usize)?)
}

pub(crate) fn legacy(function: CUfunction) -> CuResult {
    legacy_grid(function, 1, 1)
}

pub(crate) fn legacy_grid(function: CUfunction, width: i32, height: i32) -> CuResult {
    legacy_grid_async(function, width, height, CUstream::LEGACY)
}

pub(crate) fn legacy_grid_async(function: CUfunction, width: i32, height: i32, stream: CUstream) -> CuResult {
    let engine = front()?;
    let stream = engine.stream(stream.0 as u64)?;
    engine.legacy_launch(&*engine.function(function.0 as u64)?, &stream, [width, height])
}
