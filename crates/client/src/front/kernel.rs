//! Kernels: attributes of functions and of libraries' kernels.

use cuda::types::{CUfunction, CUkernel, CUlibrary, CUmodule, Host, Name, Out};
use cuda::{CuError, CuResult};

use super::engine::{Engine, Function, handle_of};
use super::{front, ordinal, size};

fn library_kernel(engine: &Engine, kernel: CUkernel) -> CuResult<std::sync::Arc<Function>> {
    engine.function(kernel.0 as u64)
}

pub(crate) fn function_attribute(value: Out<i32>, number: u32, function: CUfunction) -> CuResult {
    value.set(front()?.function(function.0 as u64)?.attribute(number)?)
}

pub(crate) fn set_function_attribute(function: CUfunction, number: u32, value: i32) -> CuResult {
    let engine = front()?;
    let function = engine.function(function.0 as u64)?;
    engine.function_set_attribute(&function, number, value)
}

pub(crate) fn function_module(module: Out<CUmodule>, function: CUfunction) -> CuResult {
    module.set(CUmodule(size(front()?.function(function.0 as u64)?.module)))
}

/// The text lives as long as the function.
fn text<'a>(name: &std::ffi::CStr) -> Name<'a> {
    Host::of(name.as_ptr()).name()
}

pub(crate) fn function_name(name: Out<Name>, function: CUfunction) -> CuResult {
    let function = front()?.function(function.0 as u64)?;
    name.set(text(&function.name))
}

fn param(function: &Function, index: usize, offset: Out<usize>, bytes: Out<usize>) -> CuResult {
    let param = function.info.params.get(index).ok_or(CuError::INVALID_VALUE)?;
    offset.set(param.offset as usize)?;
    bytes.set_if(param.size as usize);
    Ok(())
}

pub(crate) fn function_param(function: CUfunction, index: usize, offset: Out<usize>, bytes: Out<usize>) -> CuResult {
    param(&*front()?.function(function.0 as u64)?, index, offset, bytes)
}

pub(crate) fn function_param_count(function: CUfunction, count: Out<usize>) -> CuResult {
    count.set(front()?.function(function.0 as u64)?.info.params.len())
}

pub(crate) fn function_is_loaded(state: Out<u32>, function: CUfunction) -> CuResult {
    front()?.function(function.0 as u64)?;
    state.set(1)
}

pub(crate) fn function_load(function: CUfunction) -> CuResult {
    front()?.function(function.0 as u64).map(drop)
}

/// A preference; there is nothing to prefer.
pub(crate) fn function_cache_config(function: CUfunction, config: u32) -> CuResult {
    if config > 3 {
        return Err(CuError::INVALID_VALUE);
    }
    function_load(function)
}

pub(crate) fn function_shared_config(function: CUfunction, config: u32) -> CuResult {
    if config > 2 {
        return Err(CuError::INVALID_VALUE);
    }
    function_load(function)
}

pub(crate) fn function_of(function: Out<CUfunction>, kernel: CUkernel) -> CuResult {
    let engine = front()?;
    let kernel = engine.kernel(kernel.0 as u64)?;
    let found = engine.kernel_function(&kernel, &*engine.current()?)?;
    function.set(CUfunction(size(handle_of(&found))))
}

pub(crate) fn library_of(library: Out<CUlibrary>, kernel: CUkernel) -> CuResult {
    let kernel = front()?.kernel(kernel.0 as u64)?;
    let owner = kernel.library.upgrade().ok_or(CuError::INVALID_HANDLE)?;
    library.set(CUlibrary(size(handle_of(&owner))))
}

pub(crate) fn kernel_attribute(value: Out<i32>, number: u32, kernel: CUkernel, device: i32) -> CuResult {
    let engine = front()?;
    // A function may be passed in a kernel's place, as everywhere.
    let function = match engine.kernel(kernel.0 as u64) {
        Ok(kernel) => engine.kernel_on_device(&kernel, ordinal(device)?)?,
        Err(_) => engine.function(kernel.0 as u64)?,
    };
    value.set(function.attribute(number)?)
}

pub(crate) fn set_kernel_attribute(number: u32, value: i32, kernel: CUkernel, device: i32) -> CuResult {
    let engine = front()?;
    match engine.kernel(kernel.0 as u64) {
        Ok(kernel) => engine.kernel_set_attribute(&kernel, number, value, ordinal(device)?),
        Err(_) => engine.function_set_attribute(&*engine.function(kernel.0 as u64)?, number, value),
    }
}

pub(crate) fn kernel_name(name: Out<Name>, kernel: CUkernel) -> CuResult {
    let engine = front()?;
    match engine.kernel(kernel.0 as u64) {
        Ok(kernel) => name.set(text(&kernel.name)),
        Err(_) => name.set(text(&engine.function(kernel.0 as u64)?.name)),
    }
}

pub(crate) fn kernel_param(kernel: CUkernel, index: usize, offset: Out<usize>, bytes: Out<usize>) -> CuResult {
    let engine = front()?;
    param(&*library_kernel(engine, kernel)?, index, offset, bytes)
}

pub(crate) fn kernel_param_count(kernel: CUkernel, count: Out<usize>) -> CuResult {
    let engine = front()?;
    count.set(library_kernel(engine, kernel)?.info.params.len())
}

pub(crate) fn kernel_cache_config(kernel: CUkernel, config: u32, device: i32) -> CuResult {
    let engine = front()?;
    engine.device(ordinal(device)?)?;
    if config > 3 {
        return Err(CuError::INVALID_VALUE);
    }
    engine.kernel(kernel.0 as u64).map(drop)
}
