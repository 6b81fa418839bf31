//! Launches, checked before they are queued; limits and attributes that launches obey.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cuda::{CuError, CuResult, FunctionId, LaunchShape, StreamId};
use ptx::exec::ExecError;

use super::attributes::shared_opt_in;
use super::engine::{DEFAULT_HEAP, Engine};
use super::module::Loaded;
use super::task::Work;

/// `CU_LIMIT_STACK_SIZE`.
const LIMIT_STACK: u32 = 0;
/// `CU_LIMIT_MALLOC_HEAP_SIZE`.
pub(super) const LIMIT_HEAP: u32 = 2;
/// Shared memory of a block that does not ask for more.
pub(super) const SHARED_DEFAULT: u32 = 48 << 10;
/// Memory that the threads of one block may need for themselves.
const MOST_SCRATCH: u64 = 1 << 30;

/// Bytes of a thread's stack, whatever the limit says.
const LEAST_STACK: u64 = 16 << 10;
const MOST_STACK: u64 = 512 << 10;

/// What a new context says for a limit.
pub(super) fn default_limit(limit: u32) -> CuResult<u64> {
    match limit {
        LIMIT_STACK => Ok(1024),
        1 => Ok(1 << 20),
        LIMIT_HEAP => Ok(DEFAULT_HEAP),
        4 => Ok(2048),
        5 => Ok(64),
        6 => Ok(0),
        3 | 7..=9 => Err(CuError::UNSUPPORTED_LIMIT),
        _ => Err(CuError::INVALID_VALUE),
    }
}

/// The value that a limit takes when it is set to this one.
pub(super) fn checked_limit(limit: u32, value: u64) -> CuResult<u64> {
    default_limit(limit)?;
    match limit {
        // Local memory of a thread: 512 KiB is what the hardware has.
        LIMIT_STACK if value > MOST_STACK => Err(CuError::INVALID_VALUE),
        LIMIT_STACK => Ok(value.next_multiple_of(16)),
        LIMIT_HEAP if value > 1 << 40 => Err(CuError::INVALID_VALUE),
        LIMIT_HEAP => Ok(value.max(64 << 10)),
        5 => Ok(value.min(128)),
        6 if value > 0 => Err(CuError::UNSUPPORTED_LIMIT),
        _ => Ok(value),
    }
}

/// Bytes of a thread's stack under a limit. Our frames are wider than a card's, so that a program which is content with
/// its limit there must get more here; untouched pages of a stack cost nothing.
fn stack_for(limit: u64) -> u32 {
    let bytes = (2 * limit).clamp(LEAST_STACK, MOST_STACK);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Engine {
    fn attribute(&self, device: u32, number: u32) -> u64 {
        let info = self.info.devices.get(device as usize);
        info.and_then(|info| info.attribute(number)).map_or(0, |value| u64::from(value.unsigned_abs()))
    }

    /// See [`cuda::Driver::function_set_attribute`].
    pub(super) fn set_function_attribute(&self, function: FunctionId, attribute: u32, value: i32) -> CuResult {
        const MAX_DYNAMIC_SHARED: u32 = 8;
        self.check()?;
        let state = self.state.lock();
        let module = state.modules.get(&function.module).ok_or(CuError::INVALID_HANDLE)?;
        let info = module.info.functions.get(function.index as usize).ok_or(CuError::INVALID_HANDLE)?;
        match attribute {
            MAX_DYNAMIC_SHARED => {
                let dynamic = u32::try_from(value).map_err(|_| CuError::INVALID_VALUE)?;
                if info.shared_bytes.saturating_add(dynamic) > shared_opt_in(self.capability) {
                    return Err(CuError::INVALID_VALUE);
                }
                module.allow_dynamic_shared(function.index, dynamic);
                Ok(())
            }
            // Hints to a cache that does not exist here.
            9 if (-1..=100).contains(&value) => Ok(()),
            14 | 15 if (0..=2).contains(&value) => Ok(()),
            _ => Err(CuError::INVALID_VALUE),
        }
    }

    /// See [`cuda::Driver::launch`].
    pub(super) fn launch(&self, stream: StreamId, function: FunctionId, shape: LaunchShape, params: &[u8]) -> CuResult {
        self.check()?;
        let (key, device, stack, module) = {
            let state = self.state.lock();
            let module = state.modules.get(&function.module).ok_or(CuError::INVALID_HANDLE)?;
            let queue = state.queue(stream)?;
            let limits = state.contexts.get(&queue.context).map(|context| &context.limits);
            let stack = limits.and_then(|limits| limits.get(&LIMIT_STACK)).copied().unwrap_or(0);
            (queue.progress.key, queue.device, stack, Arc::clone(module))
        };
        if module.device != device {
            return Err(CuError::INVALID_HANDLE);
        }
        self.check_shape(&module, function.index, &shape)?;
        let info = module.info.functions.get(function.index as usize).ok_or(CuError::INVALID_HANDLE)?;
        let kernel = module.kernel(function.index).inspect_err(|_| {
            tracing::error!(kernel = %info.name, "this kernel uses what the software GPU cannot run");
        })?;
        let grid_id = self.launches.fetch_add(1, Ordering::Relaxed) + 1;
        let shaped = ptx::exec::LaunchShape {
            grid: shape.grid,
            block: shape.block,
            cluster: shape.cluster.map(|blocks| blocks.max(1)),
            shared_bytes: shape.shared_bytes,
            stack_bytes: stack_for(stack),
            cooperative: shape.cooperative,
        };
        let launch = module.program.prepare(kernel, shaped, params, grid_id).map_err(|error| {
            tracing::error!(kernel = %info.name, "launch refused: {error}");
            match error {
                ExecError::Unsupported { .. } => CuError::NOT_SUPPORTED,
                ExecError::BadShape(_) | ExecError::BadArgument(_) => CuError::INVALID_VALUE,
                ExecError::Internal { .. } => CuError::UNKNOWN,
            }
        })?;
        // Local memory of all threads of a block, on each executor.
        if launch.scratch_bytes() as u64 > MOST_SCRATCH {
            return Err(CuError::LAUNCH_OUT_OF_RESOURCES);
        }
        let work = Work::Kernel { launch, name: info.name.clone(), cooperative: shape.cooperative };
        let mut state = self.state.lock();
        self.submit_work(&mut state, key, work, vec![module as Arc<dyn Any + Send + Sync>])
    }

    fn check_shape(&self, module: &Loaded, index: u32, shape: &LaunchShape) -> CuResult {
        let info = module.info.functions.get(index as usize).ok_or(CuError::INVALID_HANDLE)?;
        let device = module.device;
        for axis in 0..3 {
            let (blocks, threads) = (u64::from(shape.grid[axis]), u64::from(shape.block[axis]));
            let largest = |first: u32| self.attribute(device, first + axis as u32);
            if blocks == 0 || threads == 0 || blocks > largest(5) || threads > largest(2) {
                return Err(CuError::INVALID_VALUE);
            }
        }
        let threads: u64 = shape.block.iter().map(|threads| u64::from(*threads)).product();
        if threads > u64::from(info.max_threads) {
            return Err(CuError::INVALID_VALUE);
        }
        if info.required_block != [0; 3] && info.required_block.map(|threads| threads.max(1)) != shape.block {
            return Err(CuError::INVALID_VALUE);
        }
        let dynamic = module.dynamic_shared(index).unwrap_or(SHARED_DEFAULT.saturating_sub(info.shared_bytes));
        if shape.shared_bytes > dynamic {
            return Err(CuError::INVALID_VALUE);
        }
        let cluster = shape.cluster.map(|blocks| blocks.max(1));
        let cluster_blocks: u64 = cluster.iter().map(|blocks| u64::from(*blocks)).product();
        if cluster_blocks > 16 || (0..3).any(|axis| !shape.grid[axis].is_multiple_of(cluster[axis])) {
            return Err(CuError::INVALID_CLUSTER_SIZE);
        }
        if shape.cooperative {
            let blocks = shape.grid.iter().fold(1_u64, |all, blocks| all.saturating_mul(u64::from(*blocks)));
            if blocks
                > self.resident_blocks(device, threads, u64::from(info.shared_bytes) + u64::from(shape.shared_bytes))
            {
                return Err(CuError::COOPERATIVE_LAUNCH_TOO_LARGE);
            }
        }
        Ok(())
    }

    /// Blocks that a card like this holds at once.
    fn resident_blocks(&self, device: u32, threads: u64, shared: u64) -> u64 {
        let attribute = |number: u32| self.attribute(device, number);
        let by_threads = attribute(39) / threads.next_multiple_of(32).max(1);
        let by_shared = attribute(81) / (shared + attribute(111)).max(1);
        attribute(16) * by_threads.min(by_shared).min(attribute(106))
    }
}
