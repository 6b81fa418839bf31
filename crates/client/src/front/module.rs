//! Modules.

use cuda::types::{CUfunction, CUmodule, CUsurfref, CUtexref, Host, Name, Out};
use cuda::{CuError, CuResult};

use super::engine::{JitOptions, handle_of, read_image};
use super::{front, size};

/// `CU_MODULE_LAZY_LOADING`.
const LAZY: u32 = 2;

pub(crate) fn load_bytes(module: Out<CUmodule>, image: &[u8], options: &JitOptions) -> CuResult {
    let engine = front()?;
    if module.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let life = engine.current()?;
    module.set(CUmodule(size(engine.module_load(&life, image, options)?)))
}

/// The bytes of a file that the program names.
pub(super) fn read_file(path: Name) -> CuResult<Vec<u8>> {
    let path = path.get()?;
    std::fs::read(path).map_err(|error| {
        tracing::debug!(path, %error, "cannot read a code image");
        CuError::FILE_NOT_FOUND
    })
}

pub(crate) fn load_file(module: Out<CUmodule>, path: Name) -> CuResult {
    load_bytes(module, &trimmed(read_file(path)?), &JitOptions::default())
}

/// Text in a file may end with a NUL, like text in memory.
pub(super) fn trimmed(mut image: Vec<u8>) -> Vec<u8> {
    let is_text = !image.starts_with(b"\x7f") && !image.starts_with(&0xBA55_ED50_u32.to_le_bytes());
    if is_text && let Some(end) = image.iter().position(|byte| *byte == 0) {
        image.truncate(end);
    }
    image
}

pub(crate) fn load(module: Out<CUmodule>, image: Host) -> CuResult {
    load_with_options(module, image, 0, Host::NULL, Host::NULL)
}

pub(crate) fn load_with_options(
    module: Out<CUmodule>,
    image: Host,
    count: u32,
    options: Host,
    values: Host,
) -> CuResult {
    front()?;
    let options = JitOptions::read(count, options.address(), values.address())?;
    load_bytes(module, &read_image(image.address())?, &options)
}

pub(crate) fn unload(module: CUmodule) -> CuResult {
    front()?.module_unload(module.0 as u64)
}

pub(crate) fn loading_mode(mode: Out<u32>) -> CuResult {
    front()?;
    mode.set(LAZY)
}

pub(crate) fn function(function: Out<CUfunction>, module: CUmodule, name: Name) -> CuResult {
    let engine = front()?;
    let found = engine.module_function(&engine.module(module.0 as u64)?, name.get()?)?;
    function.set(CUfunction(size(handle_of(&found))))
}

pub(crate) fn function_count(count: Out<u32>, module: CUmodule) -> CuResult {
    let functions = front()?.module(module.0 as u64)?.info.functions.len();
    count.set(u32::try_from(functions).map_err(|_| CuError::UNKNOWN)?)
}

pub(crate) fn functions(functions: Out<CUfunction>, count: u32, module: CUmodule) -> CuResult {
    let engine = front()?;
    let module = engine.module(module.0 as u64)?;
    for (position, name) in module.info.functions.iter().map(|function| &function.name).take(count as usize).enumerate()
    {
        let function = engine.module_function(&module, name)?;
        functions.set_at(position, CUfunction(size(handle_of(&function))))?;
    }
    Ok(())
}

pub(crate) fn global(address: Out<u64>, bytes: Out<usize>, module: CUmodule, name: Name) -> CuResult {
    let engine = front()?;
    let (base, length) = engine.module_global(&*engine.module(module.0 as u64)?, name.get()?)?;
    address.set_if(base);
    bytes.set_if(size(length));
    Ok(())
}

pub(crate) fn texture(_texture: Out<CUtexref>, module: CUmodule, _name: Name) -> CuResult {
    front()?.module(module.0 as u64)?;
    // No image that we load has texture references.
    Err(CuError::NOT_FOUND)
}

pub(crate) fn surface(_surface: Out<CUsurfref>, module: CUmodule, _name: Name) -> CuResult {
    front()?.module(module.0 as u64)?;
    Err(CuError::NOT_FOUND)
}
