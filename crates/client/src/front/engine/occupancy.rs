//! Occupancy: how many blocks of a kernel fit on a multiprocessor, from the device's attributes.

use cuda::{CuError, CuResult};

use super::{Engine, Function};

/// Registers are given out to warps in pieces of this size.
const REGISTER_PIECE: u32 = 256;

impl Engine {
    /// Blocks that one multiprocessor can hold at a time.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a block size that is not positive.
    pub fn active_blocks(&self, function: &Function, block_size: i32, dynamic_shared: u64) -> CuResult<u32> {
        let limits = self.limits(function.device)?;
        let threads = u32::try_from(block_size).ok().filter(|size| *size > 0).ok_or(CuError::INVALID_VALUE)?;
        if threads > limits.threads.min(function.info.max_threads) {
            return Ok(0);
        }
        let warps = threads.div_ceil(limits.warp);
        let mut blocks =
            limits.blocks_per_multiprocessor.min(limits.threads_per_multiprocessor / (warps * limits.warp));
        let registers = (function.info.registers * limits.warp).next_multiple_of(REGISTER_PIECE) * warps;
        if let Some(fitting) = limits.registers_per_multiprocessor.checked_div(registers) {
            blocks = blocks.min(fitting);
        }
        let shared = u64::from(function.info.shared_bytes) + dynamic_shared;
        if shared > u64::try_from(limits.shared_optin).unwrap_or(0) {
            return Ok(0);
        }
        if shared > 0 {
            let with_reserved = shared + u64::from(limits.reserved_shared);
            let fitting = u64::from(limits.shared_per_multiprocessor) / with_reserved;
            blocks = blocks.min(u32::try_from(fitting).unwrap_or(u32::MAX));
        }
        Ok(blocks)
    }

    /// The block size with the most threads on a multiprocessor, and how many such blocks fill the device.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a limit below 0.
    pub fn best_block_size(
        &self,
        function: &Function,
        dynamic_shared: impl Fn(i32) -> CuResult<u64>,
        limit: i32,
    ) -> CuResult<(i32, i32)> {
        let limits = self.limits(function.device)?;
        let limit = u32::try_from(limit).map_err(|_| CuError::INVALID_VALUE)?;
        let most = limits.threads.min(function.info.max_threads);
        let most = if limit == 0 { most } else { most.min(limit) };
        let (mut best, mut best_blocks, mut best_threads) = (0, 0, 0);
        let mut size = most;
        while size > 0 {
            let size_int = i32::try_from(size).map_err(|_| CuError::INVALID_VALUE)?;
            let blocks = self.active_blocks(function, size_int, dynamic_shared(size_int)?)?;
            if blocks * size > best_threads {
                (best, best_blocks, best_threads) = (size_int, blocks, blocks * size);
            }
            size = if size % limits.warp == 0 {
                size.saturating_sub(limits.warp)
            } else {
                size / limits.warp * limits.warp
            };
        }
        let grid = best_blocks.saturating_mul(limits.multiprocessors);
        Ok((i32::try_from(grid).unwrap_or(i32::MAX), best))
    }

    /// Dynamic shared memory of a block when so many blocks are to be on a multiprocessor.
    ///
    /// # Errors
    /// `INVALID_VALUE` for sizes that are not positive or do not fit.
    pub fn available_dynamic_shared(&self, function: &Function, blocks: i32, block_size: i32) -> CuResult<u64> {
        let limits = self.limits(function.device)?;
        let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks > 0).ok_or(CuError::INVALID_VALUE)?;
        if self.active_blocks(function, block_size, 0)? < blocks {
            return Err(CuError::INVALID_VALUE);
        }
        let each = limits.shared_per_multiprocessor / blocks;
        let each = each.saturating_sub(limits.reserved_shared).min(u32::try_from(limits.shared_optin).unwrap_or(0));
        Ok(u64::from(each.saturating_sub(function.info.shared_bytes)))
    }
}
