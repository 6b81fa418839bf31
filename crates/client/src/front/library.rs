//! Libraries.

use cuda::types::{CUkernel, CUlibrary, CUmodule, Host, Name, Out};
use cuda::{CuError, CuResult};

use super::engine::{JitOptions, handle_of};
use super::{front, size};

/// `CU_LIBRARY_BINARY_IS_PRESERVED`.
const BINARY_IS_PRESERVED: u32 = 1;

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn load(
    library: Out<CUlibrary>,
    code: Host,
    options: Host,
    values: Host,
    count: u32,
    library_options: Host,
    library_values: Host,
    library_count: u32,
) -> CuResult {
    let engine = front()?;
    if library.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let jit = JitOptions::read(count, options.address(), values.address())?;
    let mut preserved = false;
    for position in 0..library_count as usize {
        if library_options.array::<u32>().get_at(position)? == BINARY_IS_PRESERVED {
            // The value is a flag in a pointer; without values the option itself says it.
            preserved = library_values.array::<usize>().get_at(position).is_ok_and(|value| value != 0);
        }
    }
    library.set(CUlibrary(size(engine.library_load(code.address(), preserved, &jit)?)))
}

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn load_file(
    library: Out<CUlibrary>,
    path: Name,
    options: Host,
    values: Host,
    count: u32,
    _library_options: Host,
    _library_values: Host,
    _library_count: u32,
) -> CuResult {
    let engine = front()?;
    if library.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let jit = JitOptions::read(count, options.address(), values.address())?;
    let image = super::module::trimmed(super::module::read_file(path)?);
    library.set(CUlibrary(size(engine.library_load_bytes(image, &jit)?)))
}

pub(crate) fn unload(library: CUlibrary) -> CuResult {
    front()?.library_unload(library.0 as u64)
}

pub(crate) fn kernel(kernel: Out<CUkernel>, library: CUlibrary, name: Name) -> CuResult {
    let engine = front()?;
    let found = engine.library_kernel(&engine.library(library.0 as u64)?, name.get()?)?;
    kernel.set(CUkernel(size(handle_of(&found))))
}

pub(crate) fn kernel_count(count: Out<u32>, library: CUlibrary) -> CuResult {
    let engine = front()?;
    count.set(engine.library_kernel_count(&*engine.library(library.0 as u64)?)?)
}

pub(crate) fn kernels(kernels: Out<CUkernel>, count: u32, library: CUlibrary) -> CuResult {
    let engine = front()?;
    let all = engine.library_kernels(&engine.library(library.0 as u64)?)?;
    let mut handles = all.iter().map(handle_of).take(count as usize).enumerate();
    handles.try_for_each(|(position, handle)| kernels.set_at(position, CUkernel(size(handle))))
}

pub(crate) fn module(module: Out<CUmodule>, library: CUlibrary) -> CuResult {
    let engine = front()?;
    let library = engine.library(library.0 as u64)?;
    let loaded = engine.library_module(&library, &*engine.current()?, &JitOptions::default())?;
    module.set(CUmodule(size(handle_of(&loaded))))
}

pub(crate) fn global(address: Out<u64>, bytes: Out<usize>, library: CUlibrary, name: Name) -> CuResult {
    let engine = front()?;
    let library = engine.library(library.0 as u64)?;
    let module = engine.library_module(&library, &*engine.current()?, &JitOptions::default())?;
    let (base, length) = engine.module_global(&module, name.get()?)?;
    address.set_if(base);
    bytes.set_if(size(length));
    Ok(())
}

pub(crate) fn managed(address: Out<u64>, bytes: Out<usize>, library: CUlibrary, name: Name) -> CuResult {
    let engine = front()?;
    let library = engine.library(library.0 as u64)?;
    let (base, length) = engine.library_managed(&library, name.get()?)?;
    address.set_if(base);
    bytes.set_if(size(length));
    Ok(())
}

pub(crate) fn unified_function(_function: Out<Host>, library: CUlibrary, name: Name) -> CuResult {
    front()?.library(library.0 as u64)?;
    name.get()?;
    Err(CuError::NOT_FOUND)
}
