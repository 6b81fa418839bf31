//! Kernels: [`Function`] in one context, [`Kernel`] of a library in all of them. Both may be named wherever one may.

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};

use cuda::{ContextId, CuError, CuResult, FunctionId, FunctionInfo};
use parking_lot::{Mutex, RwLock};

use super::{Engine, JitOptions, Library, Life, Module};

/// A kernel in one context.
#[derive(Debug)]
pub struct Function {
    /// Its name for the driver.
    pub id: FunctionId,
    /// Its constants.
    pub info: FunctionInfo,
    /// Its linker name for C.
    pub name: CString,
    /// Its context's life.
    pub context: ContextId,
    /// Its device.
    pub device: u32,
    /// Its module's handle.
    pub module: u64,
    /// Length of its parameter buffer.
    pub param_bytes: u32,
    /// Most dynamic shared memory, or -1 for what is left of the default.
    max_dynamic_shared: AtomicI32,
    carveout: AtomicI32,
    cluster: [AtomicI32; 5],
    /// What `cuParamSet*` and `cuFuncSet*Shape` have set.
    pub(super) legacy: Mutex<LegacyLaunch>,
}

/// A launch as CUDA before 4.0 put it together.
#[derive(Debug)]
pub(super) struct LegacyLaunch {
    pub(super) block: [u32; 3],
    pub(super) shared_bytes: u32,
    pub(super) params: Vec<u8>,
}

/// A kernel of a library.
#[derive(Debug)]
pub struct Kernel {
    /// Its linker name.
    pub name: CString,
    /// Its library.
    pub library: Weak<Library>,
    resolved: RwLock<Vec<(ContextId, Arc<Function>)>>,
    /// Attributes set so far, by device: for contexts that load the library later.
    settings: Mutex<Vec<(u32, u32, i32)>>,
}

/// `CUfunction_attribute`.
mod attribute {
    pub(super) const MAX_THREADS: u32 = 0;
    pub(super) const SHARED_BYTES: u32 = 1;
    pub(super) const CONST_BYTES: u32 = 2;
    pub(super) const LOCAL_BYTES: u32 = 3;
    pub(super) const REGISTERS: u32 = 4;
    pub(super) const PTX_VERSION: u32 = 5;
    pub(super) const BINARY_VERSION: u32 = 6;
    pub(super) const CACHE_MODE_CA: u32 = 7;
    pub(super) const MAX_DYNAMIC_SHARED: u32 = 8;
    pub(super) const CARVEOUT: u32 = 9;
    pub(super) const CLUSTER_MUST_BE_SET: u32 = 10;
    pub(super) const CLUSTER_WIDTH: u32 = 11;
    pub(super) const CLUSTER_POLICY: u32 = 15;
}

/// Shared memory that a block may have without asking for more.
const DEFAULT_SHARED: i32 = 48 << 10;

impl Function {
    pub(super) fn new(id: FunctionId, info: FunctionInfo, context: ContextId, device: u32, module: u64) -> Self {
        let name = CString::new(info.name.as_str()).unwrap_or_default();
        let param_bytes = info.params.iter().map(|param| param.offset.saturating_add(param.size)).max().unwrap_or(0);
        Self {
            id,
            info,
            name,
            context,
            device,
            module,
            param_bytes,
            max_dynamic_shared: AtomicI32::new(-1),
            carveout: AtomicI32::new(-1),
            cluster: Default::default(),
            legacy: Mutex::new(LegacyLaunch { block: [1; 3], shared_bytes: 0, params: Vec::new() }),
        }
    }

    /// Most dynamic shared memory of a block now.
    #[must_use]
    pub fn max_dynamic_shared(&self) -> i32 {
        match self.max_dynamic_shared.load(Ordering::Relaxed) {
            value if value >= 0 => value,
            _ => (DEFAULT_SHARED - int(self.info.shared_bytes)).max(0),
        }
    }

    /// A `CUfunction_attribute`.
    ///
    /// # Errors
    /// `INVALID_VALUE` for one that is not known.
    pub fn attribute(&self, number: u32) -> CuResult<i32> {
        Ok(match number {
            attribute::MAX_THREADS => int(self.info.max_threads),
            attribute::SHARED_BYTES => int(self.info.shared_bytes),
            attribute::CONST_BYTES => int(self.info.const_bytes),
            attribute::LOCAL_BYTES => int(self.info.local_bytes),
            attribute::REGISTERS => int(self.info.registers),
            attribute::PTX_VERSION => int(self.info.ptx_version),
            attribute::BINARY_VERSION => int(self.info.binary_version),
            attribute::CACHE_MODE_CA => 0,
            attribute::MAX_DYNAMIC_SHARED => self.max_dynamic_shared(),
            attribute::CARVEOUT => self.carveout.load(Ordering::Relaxed),
            attribute::CLUSTER_MUST_BE_SET => 0,
            attribute::CLUSTER_WIDTH..=attribute::CLUSTER_POLICY => {
                let slot = self.cluster.get((number - attribute::CLUSTER_WIDTH) as usize);
                slot.map_or(0, |slot| slot.load(Ordering::Relaxed))
            }
            _ => return Err(CuError::INVALID_VALUE),
        })
    }
}

impl Kernel {
    pub(super) fn new(name: CString, library: &Arc<Library>) -> Self {
        Self { name, library: Arc::downgrade(library), resolved: RwLock::default(), settings: Mutex::default() }
    }

    pub(super) fn forget_context(&self, context: ContextId) {
        self.resolved.write().retain(|(owner, _)| *owner != context);
    }
}

impl Engine {
    /// The kernel of a handle in the current context, whether it names a function or a library's kernel.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is neither.
    pub fn function(&self, handle: u64) -> CuResult<Arc<Function>> {
        if let Some(function) = self.functions.get(handle) {
            return Ok(function);
        }
        let kernel = self.kernel(handle)?;
        self.kernel_function(&kernel, &*self.current()?)
    }

    /// The library's kernel of a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn kernel(&self, handle: u64) -> CuResult<Arc<Kernel>> {
        self.kernels.get(handle).ok_or(CuError::INVALID_HANDLE)
    }

    /// What a library's kernel is in a context, loaded now if it was not.
    ///
    /// # Errors
    /// Why the library cannot be loaded there.
    pub fn kernel_function(&self, kernel: &Kernel, life: &Life) -> CuResult<Arc<Function>> {
        if let Some((_, function)) = kernel.resolved.read().iter().find(|(context, _)| *context == life.id) {
            return Ok(Arc::clone(function));
        }
        let library = kernel.library.upgrade().ok_or(CuError::INVALID_HANDLE)?;
        let module = self.library_module(&library, life, &JitOptions::default())?;
        let name = kernel.name.to_str().map_err(|_| CuError::NOT_FOUND)?;
        let function = self.module_function(&module, name)?;
        for &(device, attribute, value) in kernel.settings.lock().iter() {
            if device == life.device {
                self.function_set_attribute(&function, attribute, value)?;
            }
        }
        let mut resolved = kernel.resolved.write();
        if !resolved.iter().any(|(context, _)| *context == life.id) {
            resolved.push((life.id, Arc::clone(&function)));
        }
        Ok(function)
    }

    /// What a library's kernel is on a device.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, or why the library cannot be loaded there.
    pub fn kernel_on_device(&self, kernel: &Kernel, device: u32) -> CuResult<Arc<Function>> {
        self.device(device)?;
        let life = self.some_life(Some(device))?;
        self.kernel_function(kernel, &life)
    }

    /// Sets a `CUfunction_attribute`.
    ///
    /// # Errors
    /// `INVALID_VALUE` for one that cannot be set, or a value out of its bounds.
    pub fn function_set_attribute(&self, function: &Function, number: u32, value: i32) -> CuResult {
        match number {
            attribute::MAX_DYNAMIC_SHARED => {
                let most = self.limits(function.device)?.shared_optin - int(function.info.shared_bytes);
                if value < 0 || value > most {
                    return Err(CuError::INVALID_VALUE);
                }
                function.max_dynamic_shared.store(value, Ordering::Relaxed);
            }
            attribute::CARVEOUT if (-1..=100).contains(&value) => function.carveout.store(value, Ordering::Relaxed),
            attribute::CLUSTER_WIDTH..=attribute::CLUSTER_POLICY if value >= 0 => {
                if let Some(slot) = function.cluster.get((number - attribute::CLUSTER_WIDTH) as usize) {
                    slot.store(value, Ordering::Relaxed);
                }
            }
            _ => return Err(CuError::INVALID_VALUE),
        }
        self.driver.function_set_attribute(function.id, number, value)
    }

    /// Sets a `CUfunction_attribute` of a library's kernel on a device, in contexts to come too.
    ///
    /// # Errors
    /// As [`Engine::function_set_attribute`].
    pub fn kernel_set_attribute(&self, kernel: &Kernel, number: u32, value: i32, device: u32) -> CuResult {
        let function = self.kernel_on_device(kernel, device)?;
        self.function_set_attribute(&function, number, value)?;
        let mut settings = kernel.settings.lock();
        settings.retain(|&(other, attribute, _)| other != device || attribute != number);
        settings.push((device, number, value));
        drop(settings);
        let others: Vec<_> = kernel.resolved.read().iter().map(|(_, function)| Arc::clone(function)).collect();
        for other in others.iter().filter(|other| other.device == device && !Arc::ptr_eq(other, &function)) {
            self.function_set_attribute(other, number, value)?;
        }
        Ok(())
    }

    /// The module that a function is in.
    ///
    /// # Errors
    /// `INVALID_HANDLE` when it is gone.
    pub fn module_of(&self, function: &Function) -> CuResult<Arc<Module>> {
        self.module(function.module)
    }
}

/// A size as C's `int`.
pub(super) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
