//! Loading code into a real driver, and asking it for everything that the client will want to know.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::ffi::{CStr, CString, c_uint, c_void};

use cuda::{ContextId, CuError, CuResult, FunctionInfo, GlobalInfo, ModuleInfo, ModuleLoad, Ordinal, ParamInfo};

use super::api::{Api, Handle, check, need};
use super::names;

/// A module of the driver.
#[derive(Debug)]
pub(super) struct Module {
    /// The client's context.
    pub(super) context: ContextId,
    /// The context's device.
    pub(super) device: Ordinal,
    /// The driver's handle.
    pub(super) handle: usize,
    /// The driver's handles of the functions, in the order that the client knows.
    pub(super) functions: Vec<usize>,
}

/// Loads an image in the current context. Without a module, the answer says why.
pub(super) fn load(
    api: &Api,
    context: ContextId,
    device: Ordinal,
    image: &[u8],
) -> CuResult<(Option<Module>, ModuleLoad)> {
    // The driver reads text up to its NUL and containers by their own lengths. A NUL does no harm to either.
    let mut terminated = Vec::with_capacity(image.len() + 8);
    terminated.extend_from_slice(image);
    terminated.resize(image.len() + 8, 0);
    let mut errors = vec![0_u8; 16 << 10];
    let mut notes = vec![0_u8; 4 << 10];
    const INFO_LOG: u32 = 3;
    const INFO_LOG_SIZE: u32 = 4;
    const ERROR_LOG: u32 = 5;
    const ERROR_LOG_SIZE: u32 = 6;
    let mut options = [ERROR_LOG, ERROR_LOG_SIZE, INFO_LOG, INFO_LOG_SIZE];
    let mut values: [*mut c_void; 4] = [
        errors.as_mut_ptr().cast(),
        (errors.len() - 1) as *mut c_void,
        notes.as_mut_ptr().cast(),
        (notes.len() - 1) as *mut c_void,
    ];
    let mut handle: Handle = std::ptr::null_mut();
    // SAFETY: the image is followed by zeros, so that a reader of text stops; the buffers are as long as is said.
    let code = unsafe {
        (api.module_load)(
            &raw mut handle,
            terminated.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    let mut log = text_of(&errors);
    log.push_str(&text_of(&notes));
    if let Err(error) = check(code) {
        return Ok((None, ModuleLoad { status: error.code(), log, info: ModuleInfo::default() }));
    }
    match describe(api, handle, image) {
        Ok((functions, info)) => {
            let module = Module { context, device, handle: handle as usize, functions };
            Ok((Some(module), ModuleLoad { status: 0, log, info }))
        }
        Err(error) => {
            // SAFETY: loaded above, and nobody else has it.
            check(unsafe { (api.module_unload)(handle) })?;
            tracing::error!(%error, "the driver does not describe a module (CUDA 12.4 or newer is needed)");
            Ok((None, ModuleLoad { status: error.code(), log, info: ModuleInfo::default() }))
        }
    }
}

/// Whether the driver calls memory managed; one that cannot say has none.
fn is_managed(api: &Api, address: u64) -> bool {
    /// `CU_POINTER_ATTRIBUTE_IS_MANAGED`.
    const IS_MANAGED: c_uint = 8;
    let mut managed: c_uint = 0;
    let Some(attribute) = api.pointer_attribute else { return false };
    // SAFETY: the answer is an `unsigned int` of which the pointer is valid for the call.
    let code = unsafe { attribute((&raw mut managed).cast(), IS_MANAGED, address) };
    check(code).is_ok() && managed != 0
}

fn describe(api: &Api, module: Handle, image: &[u8]) -> CuResult<(Vec<usize>, ModuleInfo)> {
    let mut count = 0;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { need(api.function_count)?(&raw mut count, module) })?;
    let mut handles = vec![std::ptr::null_mut(); count as usize];
    // SAFETY: the buffer has room for `count` handles.
    check(unsafe { need(api.functions)?(handles.as_mut_ptr(), count, module) })?;
    let functions = handles.iter().map(|handle| function(api, *handle)).collect::<CuResult<Vec<_>>>()?;
    let mut globals = Vec::new();
    for name in names::variables(image) {
        let Ok(text) = CString::new(name.as_str()) else { continue };
        let (mut address, mut size) = (0, 0);
        // SAFETY: the pointers are valid for the call, the name ends with a NUL.
        let code = unsafe { (api.module_global)(&raw mut address, &raw mut size, module, text.as_ptr()) };
        match check(code) {
            Ok(()) => globals.push(GlobalInfo { name, address, size: size as u64, managed: is_managed(api, address) }),
            Err(CuError::NOT_FOUND) => {}
            Err(error) => return Err(error),
        }
    }
    let handles = handles.into_iter().map(|handle| handle as usize).collect();
    Ok((handles, ModuleInfo { functions, globals }))
}

fn function(api: &Api, handle: Handle) -> CuResult<FunctionInfo> {
    let mut name = std::ptr::null();
    // SAFETY: the pointer is valid for the call.
    check(unsafe { need(api.function_name)?(&raw mut name, handle) })?;
    if name.is_null() {
        return Err(CuError::UNKNOWN);
    }
    // SAFETY: the driver's string lives as long as the function.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let ask = |number: u32| -> CuResult<u32> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (api.function_attribute)(&raw mut value, number, handle) })?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    Ok(FunctionInfo {
        params: params(api, handle)?,
        max_threads: ask(0)?,
        shared_bytes: ask(1)?,
        const_bytes: ask(2)?,
        local_bytes: ask(3)?,
        registers: ask(4)?,
        ptx_version: ask(5)?,
        binary_version: ask(6)?,
        // The driver does not tell; it checks the shape itself.
        required_block: [0; 3],
        name,
    })
}

fn params(api: &Api, handle: Handle) -> CuResult<Vec<ParamInfo>> {
    let ask = need(api.function_param)?;
    let mut params = Vec::new();
    // 32,764 bytes of parameters are the most that a kernel takes, so this ends.
    for index in 0..32_764 {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the pointers are valid for the call.
        match check(unsafe { ask(handle, index, &raw mut offset, &raw mut size) }) {
            Ok(()) => params.push(ParamInfo { offset: offset as u32, size: size as u32 }),
            Err(CuError::INVALID_VALUE) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(params)
}

fn text_of(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned()
}
