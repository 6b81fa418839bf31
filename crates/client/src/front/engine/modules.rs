//! Modules: code images loaded into one context.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use cuda::{CuError, CuResult, FunctionId, ModuleId, ModuleInfo};

use super::memory::Kind;
use super::{Context, Engine, Function, JitOptions, Life, Owner, handle_of};

/// A module.
#[derive(Debug)]
pub struct Module {
    /// Its name for the driver.
    pub id: ModuleId,
    /// Its context's life.
    pub context: cuda::ContextId,
    /// Its device.
    pub device: u32,
    /// What it holds.
    pub info: ModuleInfo,
    /// Whether a library owns it: then it cannot be unloaded by itself.
    pub of_library: bool,
    by_name: HashMap<String, u32>,
    functions: Vec<OnceLock<Arc<Function>>>,
}

impl Engine {
    /// Loads an image into a context and tells the program what the compiler said.
    ///
    /// # Errors
    /// Why the image cannot be loaded.
    pub fn module_load(&self, life: &Life, image: &[u8], options: &JitOptions) -> CuResult<u64> {
        let module = self.load_module(life, image, options, false)?;
        Ok(handle_of(&module))
    }

    pub(super) fn load_module(
        &self,
        life: &Life,
        image: &[u8],
        options: &JitOptions,
        of_library: bool,
    ) -> CuResult<Arc<Module>> {
        let id = ModuleId(self.fresh_id());
        let started = Instant::now();
        let load = self.driver.module_load(life.id, id, image)?;
        let milliseconds = started.elapsed().as_secs_f32() * 1000.0;
        options.report(&load.log, load.status != 0, milliseconds)?;
        if load.status != 0 {
            tracing::debug!(status = load.status, log = load.log, "an image cannot be loaded");
        }
        CuError::check(load.status)?;
        let names = load.info.functions.iter().zip(0_u32..);
        let by_name = names.map(|(function, index)| (function.name.clone(), index)).collect();
        let functions = load.info.functions.iter().map(|_| OnceLock::new()).collect();
        let module =
            Module { id, context: life.id, device: life.device, info: load.info, of_library, by_name, functions };
        let module = Arc::new(module);
        for global in module.info.globals.iter().filter(|global| global.size > 0) {
            let kind = if global.managed { Kind::Managed } else { Kind::Device };
            if global.managed
                && let Err(error) = self.adopt_variable(life, global.address, global.size)
            {
                self.forget_module(&module);
                return self.driver.module_unload(id).and(Err(error));
            }
            self.add_range_of(
                kind,
                global.address,
                global.size,
                global.size,
                life.device,
                life.context,
                Owner::Module(id),
            );
        }
        self.modules.insert(Arc::clone(&module));
        Ok(module)
    }

    /// The module of a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn module(&self, handle: u64) -> CuResult<Arc<Module>> {
        self.modules.get(handle).ok_or(CuError::INVALID_HANDLE)
    }

    /// Unloads a module.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none, `NOT_PERMITTED` for one that a library owns.
    pub fn module_unload(&self, handle: u64) -> CuResult {
        let module = self.module(handle)?;
        if module.of_library {
            return Err(CuError::NOT_PERMITTED);
        }
        self.unload_module(&module)
    }

    pub(super) fn unload_module(&self, module: &Arc<Module>) -> CuResult {
        self.modules.remove(handle_of(module)).ok_or(CuError::INVALID_HANDLE)?;
        self.forget_module(module);
        self.driver.module_unload(module.id)
    }

    /// Takes what belongs to a module out of all tables.
    fn forget_module(&self, module: &Module) {
        for function in module.functions.iter().filter_map(OnceLock::get) {
            self.functions.remove(handle_of(function));
        }
        let variables =
            self.remove_ranges_where(|range| matches!(range.owner, Owner::Module(owner) if owner == module.id));
        for variable in variables.iter().filter(|variable| variable.kind == Kind::Managed) {
            self.forget_variable(variable.base, variable.size);
        }
    }

    /// The context is gone, and its modules with it.
    pub(super) fn drop_modules_of(&self, context: cuda::ContextId) {
        for module in self.modules.remove_where(|module| module.context == context) {
            self.forget_module(&module);
        }
        for library in self.libraries.all() {
            library.forget_context(context);
        }
    }

    /// A kernel of a module by name.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn module_function(&self, module: &Arc<Module>, name: &str) -> CuResult<Arc<Function>> {
        let index = *module.by_name.get(name).ok_or(CuError::NOT_FOUND)?;
        self.function_at(module, index)
    }

    /// A kernel of a module by position; the same object each time.
    pub(super) fn function_at(&self, module: &Arc<Module>, index: u32) -> CuResult<Arc<Function>> {
        let slot = module.functions.get(index as usize).ok_or(CuError::NOT_FOUND)?;
        let info = module.info.functions.get(index as usize).ok_or(CuError::NOT_FOUND)?;
        let function = slot.get_or_init(|| {
            let id = FunctionId { module: module.id, index };
            let function = Function::new(id, info.clone(), module.context, module.device, handle_of(module));
            let function = Arc::new(function);
            self.functions.insert(Arc::clone(&function));
            function
        });
        Ok(Arc::clone(function))
    }

    /// Address and size of a module's variable.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn module_global(&self, module: &Module, name: &str) -> CuResult<(u64, u64)> {
        let global = module.info.globals.iter().find(|global| global.name == name).ok_or(CuError::NOT_FOUND)?;
        Ok((global.address, global.size))
    }

    /// Some life of a context to learn about images in: the current one, any on the device, or a new one of the
    /// device's primary context that nobody retains.
    pub(super) fn some_life(&self, device: Option<u32>) -> CuResult<Arc<Life>> {
        let fits = |life: &Arc<Life>| device.is_none_or(|device| device == life.device);
        if let Some(life) = self.current().ok().filter(fits) {
            return Ok(life);
        }
        let mut lives = self.contexts.all().into_iter().filter_map(|context: Arc<Context>| context.life().ok());
        if let Some(life) = lives.find(fits) {
            return Ok(life);
        }
        self.begin_primary_life(device.unwrap_or(0))
    }
}
