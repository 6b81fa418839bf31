//! Libraries: code images that every context may use, loaded into each when first needed there.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

use cuda::{ContextId, CuError, CuResult};
use parking_lot::Mutex;

use super::{Engine, JitOptions, Kernel, Life, Module, handle_of, image, raw};

/// First byte of a fatbin's header.
const FATBIN_FIRST: [u8; 1] = [0x50];

/// A library.
#[derive(Debug)]
pub struct Library {
    image: Image,
    modules: Mutex<Vec<(ContextId, Arc<Module>)>>,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
}

/// Where a library's code is.
#[derive(Debug)]
enum Image {
    /// Copied, as the program may free its own.
    Owned(Vec<u8>),
    /// The program promised to keep it (`CU_LIBRARY_BINARY_IS_PRESERVED`).
    Preserved { address: u64, length: u64 },
}

impl Library {
    /// Forgets what was loaded into a context that is gone.
    pub(super) fn forget_context(&self, context: ContextId) {
        self.modules.lock().retain(|(owner, _)| *owner != context);
        for kernel in self.kernels.lock().values() {
            kernel.forget_context(context);
        }
    }
}

impl Engine {
    /// Takes in a library. A fatbin is compiled when first used, unless the program wants to read messages; other images
    /// now, if a context is there.
    ///
    /// # Errors
    /// `INVALID_IMAGE`, or why it cannot be compiled.
    pub fn library_load(&self, address: u64, preserved: bool, options: &JitOptions) -> CuResult<u64> {
        let (start, length) = image::find_image(address)?;
        // Fatbins hold many kernels of which a program may need none; other images are compiled at once, so that what is
        // wrong with them is said here.
        let mut first = [0];
        raw::read(start, &mut first)?;
        let eager = first != FATBIN_FIRST;
        let image = if preserved {
            Image::Preserved { address: start, length }
        } else {
            Image::Owned(image::read_image(start)?)
        };
        self.library_of(image, options, eager)
    }

    /// Takes in a library from a file's bytes.
    ///
    /// # Errors
    /// As [`Engine::library_load`].
    pub fn library_load_bytes(&self, bytes: Vec<u8>, options: &JitOptions) -> CuResult<u64> {
        self.library_of(Image::Owned(bytes), options, true)
    }

    fn library_of(&self, image: Image, options: &JitOptions, eager: bool) -> CuResult<u64> {
        let library = Arc::new(Library { image, modules: Mutex::default(), kernels: Mutex::default() });
        if (eager || options.wants_logs())
            && let Ok(life) = self.current()
        {
            self.library_module(&library, &life, options)?;
        }
        Ok(self.libraries.insert(library))
    }

    /// The library of a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none.
    pub fn library(&self, handle: u64) -> CuResult<Arc<Library>> {
        self.libraries.get(handle).ok_or(CuError::INVALID_HANDLE)
    }

    /// Unloads a library from every context.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for what is none, or what the driver says.
    pub fn library_unload(&self, handle: u64) -> CuResult {
        let library = self.libraries.remove(handle).ok_or(CuError::INVALID_HANDLE)?;
        for kernel in library.kernels.lock().values() {
            self.kernels.remove(handle_of(kernel));
        }
        let modules = std::mem::take(&mut *library.modules.lock());
        let mut result = Ok(());
        for (_, module) in &modules {
            let unloaded = self.unload_module(module);
            result = result.and(unloaded);
        }
        result
    }

    /// The library's module in a context, loaded now if it was not.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub fn library_module(&self, library: &Library, life: &Life, options: &JitOptions) -> CuResult<Arc<Module>> {
        let mut modules = library.modules.lock();
        if let Some((_, module)) = modules.iter().find(|(context, _)| *context == life.id) {
            return Ok(Arc::clone(module));
        }
        let module = match &library.image {
            Image::Owned(bytes) => self.load_module(life, bytes, options, true),
            Image::Preserved { address, length } => {
                raw::with_bytes(*address, *length, |bytes| self.load_module(life, bytes, options, true))?
            }
        }?;
        modules.push((life.id, Arc::clone(&module)));
        Ok(module)
    }

    /// Some module of the library, to learn what it holds.
    fn library_sample(&self, library: &Library) -> CuResult<Arc<Module>> {
        if let Some((_, module)) = library.modules.lock().first() {
            return Ok(Arc::clone(module));
        }
        let life = self.some_life(None)?;
        self.library_module(library, &life, &JitOptions::default())
    }

    /// A kernel of a library by name; the same object each time.
    ///
    /// # Errors
    /// `NOT_FOUND`, or why the library cannot be loaded.
    pub fn library_kernel(&self, library: &Arc<Library>, name: &str) -> CuResult<Arc<Kernel>> {
        if let Some(kernel) = library.kernels.lock().get(name) {
            return Ok(Arc::clone(kernel));
        }
        let sample = self.library_sample(library)?;
        self.module_function(&sample, name)?;
        let mut kernels = library.kernels.lock();
        if let Some(kernel) = kernels.get(name) {
            return Ok(Arc::clone(kernel));
        }
        let c_name = CString::new(name).map_err(|_| CuError::INVALID_VALUE)?;
        let kernel = Arc::new(Kernel::new(c_name, library));
        self.kernels.insert(Arc::clone(&kernel));
        kernels.insert(name.to_owned(), Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Address and length of a `__managed__` variable. Each context that loads the library has variables of its own; this is the
    /// one of the first.
    ///
    /// # Errors
    /// `NOT_FOUND`, or why the library cannot be loaded.
    pub fn library_managed(&self, library: &Library, name: &str) -> CuResult<(u64, u64)> {
        let sample = self.library_sample(library)?;
        let is_it = |global: &&cuda::GlobalInfo| global.managed && global.name == name;
        let found = sample.info.globals.iter().find(is_it).ok_or(CuError::NOT_FOUND)?;
        Ok((found.address, found.size))
    }

    /// All kernels of a library.
    ///
    /// # Errors
    /// Why the library cannot be loaded.
    pub fn library_kernels(&self, library: &Arc<Library>) -> CuResult<Vec<Arc<Kernel>>> {
        let sample = self.library_sample(library)?;
        sample.info.functions.iter().map(|function| self.library_kernel(library, &function.name)).collect()
    }

    /// How many kernels a library has.
    ///
    /// # Errors
    /// Why the library cannot be loaded.
    pub fn library_kernel_count(&self, library: &Library) -> CuResult<u32> {
        let sample = self.library_sample(library)?;
        u32::try_from(sample.info.functions.len()).map_err(|_| CuError::UNKNOWN)
    }
}
