//! Occupancy.

use cuda::types::{CUfunction, CUlaunchConfig, CUoccupancyB2DSize, In, Out};
use cuda::{CuError, CuResult};

use super::front;

/// `CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE`.
const KNOWN_FLAGS: u32 = 1;

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn active_blocks(blocks: Out<i32>, function: CUfunction, block_size: i32, shared: usize) -> CuResult {
    active_blocks_with_flags(blocks, function, block_size, shared, 0)
}

pub(crate) fn active_blocks_with_flags(
    blocks: Out<i32>,
    function: CUfunction,
    block_size: i32,
    shared: usize,
    flags: u32,
) -> CuResult {
    let engine = front()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let function = engine.function(function.0 as u64)?;
    blocks.set(int(engine.active_blocks(&function, block_size, shared as u64)?))
}

pub(crate) fn block_size(
    grid: Out<i32>,
    block: Out<i32>,
    function: CUfunction,
    shared_of: CUoccupancyB2DSize,
    shared: usize,
    limit: i32,
) -> CuResult {
    block_size_with_flags(grid, block, function, shared_of, shared, limit, 0)
}

pub(crate) fn block_size_with_flags(
    grid: Out<i32>,
    block: Out<i32>,
    function: CUfunction,
    shared_of: CUoccupancyB2DSize,
    shared: usize,
    limit: i32,
    flags: u32,
) -> CuResult {
    let engine = front()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let function = engine.function(function.0 as u64)?;
    let dynamic =
        |size| if shared_of.is_null() { Ok(shared as u64) } else { shared_of.call(size).map(|bytes| bytes as u64) };
    let (best_grid, best_block) = engine.best_block_size(&function, dynamic, limit)?;
    grid.set(best_grid)?;
    block.set(best_block)
}

pub(crate) fn available_shared(bytes: Out<usize>, function: CUfunction, blocks: i32, block_size: i32) -> CuResult {
    let engine = front()?;
    let function = engine.function(function.0 as u64)?;
    bytes.set(super::size(engine.available_dynamic_shared(&function, blocks, block_size)?))
}

pub(crate) fn cluster_size(size: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>) -> CuResult {
    let engine = front()?;
    let function = engine.function(function.0 as u64)?;
    super::launch::shape_of(&config.get()?)?;
    if !engine.limits(function.device)?.clusters {
        return Err(CuError::NOT_SUPPORTED);
    }
    // What every device with clusters can have.
    size.set(8)
}

pub(crate) fn active_clusters(clusters: Out<i32>, function: CUfunction, config: In<CUlaunchConfig>) -> CuResult {
    let engine = front()?;
    let function = engine.function(function.0 as u64)?;
    let (shape, _) = super::launch::shape_of(&config.get()?)?;
    let limits = engine.limits(function.device)?;
    if !limits.clusters {
        return Err(CuError::NOT_SUPPORTED);
    }
    let volume = |sizes: [u32; 3]| sizes.iter().fold(1_u32, |product, size| product.saturating_mul(*size));
    let threads = int(volume(shape.block));
    let resident = engine.active_blocks(&function, threads, u64::from(shape.shared_bytes))?;
    let all = resident.saturating_mul(limits.multiprocessors);
    clusters.set(int(all.checked_div(volume(shape.cluster)).unwrap_or(0)))
}
