//! Launching kernels: checking shapes and packing parameters, without allocating and without asking the driver.

use std::cell::RefCell;
use std::sync::Arc;

use cuda::{CuError, CuResult, LaunchShape};

use super::functions::int;
use super::{Engine, Function, Stream, raw};

/// Where a program put a kernel's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Address of an array of addresses, one for each parameter; or 0.
    pub params: u64,
    /// Address of an array of tags and values that ends with 0; or 0.
    pub extra: u64,
}

/// A launch as the program asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchRequest {
    /// Sizes.
    pub shape: LaunchShape,
    /// Arguments.
    pub arguments: Arguments,
}

const PARAM_END: u64 = 0;
const PARAM_BUFFER_POINTER: u64 = 1;
const PARAM_BUFFER_SIZE: u64 = 2;
/// Blocks of a cluster that every device with clusters can have.
const PORTABLE_CLUSTER: u64 = 8;

thread_local! {
    /// Parameters of the launch at hand; kept, so that launching allocates nothing.
    static PARAMS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Engine {
    /// Launches a kernel.
    ///
    /// # Errors
    /// What is wrong with the request, or what the driver says.
    pub fn launch(&self, function: &Function, stream: &Arc<Stream>, request: &LaunchRequest) -> CuResult {
        if function.context != stream.context {
            return Err(CuError::INVALID_HANDLE);
        }
        self.check_shape(function, &request.shape)?;
        PARAMS
            .try_with(|buffer| {
                let mut buffer = buffer.borrow_mut();
                pack(function, request.arguments, &mut buffer)?;
                self.share_before(stream)?;
                self.mark_busy(stream);
                self.driver.launch(stream.id, function.id, request.shape, &buffer)
            })
            .map_err(|_| CuError::DEINITIALIZED)?
    }

    /// Launches a kernel whose parameter buffer is at hand.
    ///
    /// # Errors
    /// As [`Engine::launch`].
    pub fn launch_packed(&self, function: &Function, stream: &Stream, shape: LaunchShape, params: &[u8]) -> CuResult {
        self.check_shape(function, &shape)?;
        self.share_before(stream)?;
        self.mark_busy(stream);
        self.driver.launch(stream.id, function.id, shape, params)
    }

    fn check_shape(&self, function: &Function, shape: &LaunchShape) -> CuResult {
        let limits = self.limits(function.device)?;
        let within =
            |sizes: [u32; 3], most: [u32; 3]| sizes.iter().zip(most).all(|(size, most)| *size > 0 && *size <= most);
        if !within(shape.grid, limits.grid) || !within(shape.block, limits.block) {
            return Err(CuError::INVALID_VALUE);
        }
        let threads = volume(shape.block);
        if threads > u64::from(limits.threads) {
            return Err(CuError::INVALID_VALUE);
        }
        if threads > u64::from(function.info.max_threads) {
            return Err(CuError::LAUNCH_OUT_OF_RESOURCES);
        }
        if function.info.required_block != [0; 3] && function.info.required_block != shape.block {
            return Err(CuError::INVALID_VALUE);
        }
        if int(shape.shared_bytes) > function.max_dynamic_shared() {
            return Err(CuError::INVALID_VALUE);
        }
        if shape.cluster != [1; 3] {
            if !limits.clusters {
                return Err(CuError::NOT_SUPPORTED);
            }
            if shape.cluster.contains(&0) || volume(shape.cluster) > PORTABLE_CLUSTER {
                return Err(CuError::INVALID_CLUSTER_SIZE);
            }
            if shape.grid.iter().zip(shape.cluster).any(|(grid, cluster)| grid % cluster != 0) {
                return Err(CuError::INVALID_VALUE);
            }
        }
        if shape.cooperative {
            let threads = i32::try_from(threads).unwrap_or(i32::MAX);
            let resident = self.active_blocks(function, threads, u64::from(shape.shared_bytes))?;
            if volume(shape.grid) > u64::from(resident) * u64::from(limits.multiprocessors) {
                return Err(CuError::COOPERATIVE_LAUNCH_TOO_LARGE);
            }
        }
        Ok(())
    }

    /// Sets the block shape of a legacy launch.
    ///
    /// # Errors
    /// `INVALID_VALUE` for sizes that are not positive.
    pub fn legacy_block(&self, function: &Function, sizes: [i32; 3]) -> CuResult {
        let mut block = [0; 3];
        for (slot, size) in block.iter_mut().zip(sizes) {
            *slot = u32::try_from(size).ok().filter(|size| *size > 0).ok_or(CuError::INVALID_VALUE)?;
        }
        function.legacy.lock().block = block;
        Ok(())
    }

    /// Sets the dynamic shared memory of a legacy launch.
    pub fn legacy_shared(&self, function: &Function, bytes: u32) {
        function.legacy.lock().shared_bytes = bytes;
    }

    /// Sets the parameter size of a legacy launch.
    ///
    /// # Errors
    /// `INVALID_VALUE` for more than a kernel can have.
    pub fn legacy_param_size(&self, function: &Function, bytes: u32) -> CuResult {
        if bytes > function.param_bytes {
            return Err(CuError::INVALID_VALUE);
        }
        function.legacy.lock().params.resize(bytes as usize, 0);
        Ok(())
    }

    /// Sets bytes of a legacy launch's parameters.
    ///
    /// # Errors
    /// `INVALID_VALUE` when they lie outside.
    pub fn legacy_params(&self, function: &Function, offset: i32, bytes: &[u8]) -> CuResult {
        let offset = usize::try_from(offset).map_err(|_| CuError::INVALID_VALUE)?;
        let end = offset.checked_add(bytes.len()).filter(|end| *end <= function.param_bytes as usize);
        let end = end.ok_or(CuError::INVALID_VALUE)?;
        let mut legacy = function.legacy.lock();
        if legacy.params.len() < end {
            legacy.params.resize(end, 0);
        }
        legacy.params.get_mut(offset..end).ok_or(CuError::INVALID_VALUE)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Launches what the legacy calls have put together.
    ///
    /// # Errors
    /// As [`Engine::launch`].
    pub fn legacy_launch(&self, function: &Function, stream: &Stream, grid: [i32; 2]) -> CuResult {
        let [x, y] = grid.map(|size| u32::try_from(size).unwrap_or(0));
        let (shape, params) = {
            let legacy = function.legacy.lock();
            let mut params = legacy.params.clone();
            params.resize(function.param_bytes as usize, 0);
            let shape = LaunchShape {
                grid: [x, y, 1],
                block: legacy.block,
                cluster: [1; 3],
                shared_bytes: legacy.shared_bytes,
                cooperative: false,
            };
            (shape, params)
        };
        self.launch_packed(function, stream, shape, &params)
    }
}

fn volume(sizes: [u32; 3]) -> u64 {
    sizes.iter().fold(1_u64, |product, size| product.saturating_mul(u64::from(*size)))
}

/// Lays the arguments out as the kernel expects them.
fn pack(function: &Function, arguments: Arguments, buffer: &mut Vec<u8>) -> CuResult {
    buffer.clear();
    buffer.resize(function.param_bytes as usize, 0);
    match (arguments.params, arguments.extra) {
        (0, 0) => {
            if function.info.params.is_empty() {
                Ok(())
            } else {
                Err(CuError::INVALID_VALUE)
            }
        }
        (params, 0) => function.info.params.iter().zip(0_u64..).try_for_each(|(param, index)| {
            let source = raw::read_u64(params + index * 8)?;
            let start = param.offset as usize;
            let slot = buffer.get_mut(start..start + param.size as usize).ok_or(CuError::INVALID_VALUE)?;
            raw::read(source, slot)
        }),
        (0, extra) => pack_extra(extra, buffer),
        _ => Err(CuError::INVALID_VALUE),
    }
}

/// Reads arguments that the program has packed itself.
fn pack_extra(extra: u64, buffer: &mut [u8]) -> CuResult {
    let (mut source, mut size) = (0, 0);
    let mut at = extra;
    loop {
        match raw::read_u64(at)? {
            PARAM_END => break,
            PARAM_BUFFER_POINTER => source = raw::read_u64(at + 8)?,
            PARAM_BUFFER_SIZE => size = raw::read_u64(raw::read_u64(at + 8)?)?,
            _ => return Err(CuError::INVALID_VALUE),
        }
        at += 16;
    }
    if size < buffer.len() as u64 {
        return Err(CuError::INVALID_VALUE);
    }
    if buffer.is_empty() { Ok(()) } else { raw::read(source, buffer) }
}
