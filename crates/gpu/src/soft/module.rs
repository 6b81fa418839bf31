//! Code images and what comes of them: kernels ready to compile, variables with addresses.
//!
//! A software device runs PTX, nothing else. Of a fatbin it takes the PTX that NVIDIA's driver would compile for a device of
//! this generation; machine code is refused with a log that says why. Loading parses and checks; a kernel becomes machine
//! code at its first launch. Parsed modules are kept by content for the whole process, because programs load the same
//! image again and again: in every context, in every session of a worker.

#![expect(unsafe_code, reason = "writes the initial values of module variables, which are memory of this process")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use cuda::{
    ContextId, CuError, CuResult, FunctionInfo, GlobalInfo, ModuleId, ModuleInfo, ModuleLoad, Ordinal, ParamInfo,
};
use parking_lot::Mutex;
use ptx::exec::Program;
use ptx::ir;

use super::area::Block;
use super::engine::{Engine, State};
use super::launch::SHARED_DEFAULT;
use super::turn::Turn;
use super::window::window;
use crate::image::{self, Kind, fatbin};

/// A module of a session.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Its context.
    pub(super) context: ContextId,
    /// Position of the context's device.
    pub(super) device: u32,
    /// Its kernels.
    pub(super) program: Arc<Program>,
    /// What the client was told.
    pub(super) info: ModuleInfo,
    kernels: usize,
    globals: Option<Arc<Block>>,
    dynamic_shared: Vec<AtomicU32>,
    _charge: Option<Charge>,
}

/// Bytes that a device is charged with until the value is dropped.
#[derive(Debug)]
struct Charge {
    turn: Arc<Turn>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.turn.seat.refund(self.bytes);
    }
}

/// Module variables in memory: the block, each variable's address, the charge.
type Placed = (Option<Arc<Block>>, Vec<u64>, Option<Charge>);

/// `dynamic_shared` of a kernel that was not given a limit.
const UNSET: u32 = u32::MAX;

impl Loaded {
    /// Position of a function among the program's kernels; those that cannot run come last.
    pub(super) fn kernel(&self, index: u32) -> CuResult<usize> {
        let index = index as usize;
        if index < self.kernels { Ok(index) } else { Err(CuError::NOT_SUPPORTED) }
    }

    /// Sets how much dynamic shared memory a kernel may ask for.
    pub(super) fn allow_dynamic_shared(&self, index: u32, bytes: u32) {
        if let Some(limit) = self.dynamic_shared.get(index as usize) {
            limit.store(bytes, Ordering::Relaxed);
        }
    }

    /// How much dynamic shared memory a kernel may ask for, if that was set.
    pub(super) fn dynamic_shared(&self, index: u32) -> Option<u32> {
        let limit = self.dynamic_shared.get(index as usize)?.load(Ordering::Relaxed);
        (limit != UNSET).then_some(limit)
    }
}

/// Why an image cannot be loaded, as the caller of `cuModuleLoadData` hears it.
struct Refusal {
    error: CuError,
    log: String,
}

fn refuse<T>(error: CuError, log: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { error, log: log.into() })
}

impl Engine {
    /// See [`cuda::Driver::module_load`].
    pub(super) fn load(&self, context: ContextId, module: ModuleId, image: &[u8]) -> CuResult<ModuleLoad> {
        self.check()?;
        let device = {
            let state = self.state.lock();
            if state.modules.contains_key(&module) {
                return Err(CuError::INVALID_VALUE);
            }
            state.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?.device
        };
        let loaded = choose(image, self.capability).and_then(|text| {
            let parsed = parse(&text, self.capability)?;
            self.place(context, device, &parsed)
        });
        let (loaded, log) = match loaded {
            Ok(loaded) => loaded,
            Err(Refusal { error, log }) => {
                tracing::warn!(%error, "module refused: {log}");
                return Ok(ModuleLoad { status: error.code(), log, info: ModuleInfo::default() });
            }
        };
        let info = loaded.info.clone();
        let mut state = self.state.lock();
        if !state.contexts.contains_key(&context) {
            return Err(CuError::CONTEXT_IS_DESTROYED);
        }
        if let Some(block) = &loaded.globals {
            state.globals.insert(block.address(), Arc::clone(block));
        }
        state.modules.insert(module, Arc::new(loaded));
        Ok(ModuleLoad { status: 0, log, info })
    }

    /// Gives a module's variables their places and initial values.
    fn place(&self, context: ContextId, device: u32, parsed: &Parsed) -> Result<(Loaded, String), Refusal> {
        let module = &parsed.module;
        let plain = |error: CuError| Refusal { error, log: format!("{error}: {}", error.description().unwrap_or("")) };
        let (globals, addresses, charge) = self.place_variables(device, &module.variables).map_err(plain)?;
        let program = match &parsed.program {
            Some(program) => Arc::clone(program),
            None => Arc::new(link(Arc::clone(module), addresses.clone())?),
        };
        let mut info = ModuleInfo { functions: Vec::new(), globals: Vec::new() };
        let mut log = String::new();
        info.functions.extend(module.kernels.iter().map(|kernel| self.describe(module, kernel)));
        for kernel in &module.unsupported {
            log += &format!("{}: warning: kernel `{}` cannot run here: {}\n", kernel.at, kernel.kernel, kernel.message);
            info.functions.push(FunctionInfo {
                name: kernel.kernel.clone(),
                params: params(&kernel.params),
                max_threads: 1024,
                ptx_version: module.target,
                binary_version: self.capability,
                ..FunctionInfo::default()
            });
        }
        for (variable, address) in module.variables.iter().zip(addresses) {
            info.globals.push(GlobalInfo {
                name: variable.name.clone(),
                address,
                size: variable.size,
                managed: variable.managed,
            });
        }
        let dynamic_shared = info.functions.iter().map(|_| AtomicU32::new(UNSET)).collect();
        let kernels = module.kernels.len();
        let loaded = Loaded { context, device, program, info, kernels, globals, dynamic_shared, _charge: charge };
        Ok((loaded, log))
    }

    fn place_variables(&self, device: u32, variables: &[ir::Variable]) -> CuResult<Placed> {
        if variables.is_empty() {
            return Ok((None, Vec::new(), None));
        }
        // As a card's driver does, so that nothing a program aligns by hand comes out differently.
        const ALIGNMENT: u64 = 256;
        let (mut offsets, mut end, mut bytes) = (Vec::new(), 0_u64, 0_u64);
        for variable in variables {
            let align = variable.align.max(1).next_power_of_two().max(ALIGNMENT);
            let start = end.checked_next_multiple_of(align).ok_or(CuError::OUT_OF_MEMORY)?;
            end = start.checked_add(variable.size).ok_or(CuError::OUT_OF_MEMORY)?;
            bytes = bytes.checked_add(variable.size).ok_or(CuError::OUT_OF_MEMORY)?;
            offsets.push(start);
        }
        let (info, turn) = self.device(Ordinal(device))?;
        turn.seat.charge(bytes, info.total_memory)?;
        let charge = Charge { turn: Arc::clone(turn), bytes };
        let block = self.area.allocate(end)?;
        let addresses: Vec<u64> = offsets.iter().map(|offset| block.address() + offset).collect();
        for (variable, address) in variables.iter().zip(&addresses) {
            initialise(variable, *address, &addresses)?;
        }
        Ok((Some(Arc::new(block)), addresses, Some(charge)))
    }

    fn describe(&self, module: &ir::Module, kernel: &ir::Kernel) -> FunctionInfo {
        let required: u32 = kernel.required_block.iter().map(|threads| (*threads).max(1)).product();
        let max_threads = match (kernel.required_block, kernel.max_threads) {
            ([0, 0, 0], 0) => 1024,
            ([0, 0, 0], most) => most.min(1024),
            _ => required.min(1024),
        };
        FunctionInfo {
            name: kernel.name.clone(),
            params: params(&kernel.params),
            max_threads,
            shared_bytes: kernel.shared_bytes,
            const_bytes: 0,
            local_bytes: kernel.local_bytes,
            // There are no registers to run out of; this lets every occupancy calculation end at full occupancy.
            registers: 32,
            ptx_version: module.target,
            binary_version: self.capability,
            required_block: kernel.required_block,
        }
    }
}

impl State {
    /// Takes a module out; its variables go when the last work that uses them is done and the value is dropped.
    pub(super) fn remove_module(&mut self, module: ModuleId) -> Option<Arc<Loaded>> {
        let loaded = self.modules.remove(&module)?;
        if let Some(block) = &loaded.globals {
            self.globals.remove(&block.address());
        }
        Some(loaded)
    }
}

fn params(params: &[ir::Param]) -> Vec<ParamInfo> {
    params.iter().map(|param| ParamInfo { offset: param.offset, size: param.size }).collect()
}

fn initialise(variable: &ir::Variable, address: u64, addresses: &[u64]) -> CuResult {
    let write = |offset: u64, bytes: &[u8]| -> CuResult {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > variable.size) {
            return Err(CuError::INVALID_IMAGE);
        }
        // SAFETY: the variable's memory is mapped, nobody else knows it yet, and the bytes stay inside.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (address + offset) as *mut u8, bytes.len()) };
        Ok(())
    };
    write(0, &variable.bytes)?;
    for relocation in &variable.relocations {
        let target = addresses.get(relocation.variable as usize).ok_or(CuError::INVALID_IMAGE)?;
        write(relocation.offset, &target.wrapping_add_signed(relocation.addend).to_le_bytes())?;
    }
    Ok(())
}

/// The PTX text of an image that a device would run.
fn choose(image: &[u8], capability: u32) -> Result<String, Refusal> {
    const ADVICE: &str =
        "the software GPU runs PTX; build with PTX for it (nvcc: -gencode arch=compute_75,code=compute_75)";
    let (major, minor) = (capability / 10, capability % 10);
    let bytes = match image::classify(image) {
        Some(Kind::Ptx) => image::text_of(image).to_vec(),
        Some(Kind::Fatbin) => {
            let entries = fatbin::entries(image)
                .or_else(|error| refuse(CuError::INVALID_IMAGE, format!("malformed fatbin: {error}")))?;
            let Some(entry) = fatbin::choose(&entries, capability) else {
                let held: Vec<String> =
                    entries.iter().map(|entry| format!("{:?} {}", entry.kind, entry.arch).to_lowercase()).collect();
                return refuse(
                    CuError::NO_BINARY_FOR_GPU,
                    format!(
                        "no PTX for compute capability {major}.{minor} or older in the fatbin (it holds: {}); {ADVICE}",
                        held.join(", ")
                    ),
                );
            };
            let text =
                entry.unpack().or_else(|error| refuse(CuError::INVALID_IMAGE, format!("malformed fatbin: {error}")))?;
            image::text_of(&text).to_vec()
        }
        Some(Kind::Elf) => {
            let target = image::elf_target(image).map_or("a GPU".to_owned(), |target| format!("sm_{target}"));
            return refuse(
                CuError::NO_BINARY_FOR_GPU,
                format!(
                    "the image is machine code for {target}; {ADVICE}, or start the program with `tensor-fusion run`"
                ),
            );
        }
        Some(Kind::TileIr) => {
            return refuse(CuError::NO_BINARY_FOR_GPU, format!("the image is Tile IR bytecode; {ADVICE}"));
        }
        None => {
            return refuse(CuError::INVALID_IMAGE, "the image is neither PTX text nor a fatbin, ELF or Tile IR file");
        }
    };
    // PTX is ASCII; comments may hold anything.
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// A parsed module; the program as well when it has no variables, whose addresses would differ.
#[derive(Clone)]
struct Parsed {
    module: Arc<ir::Module>,
    program: Option<Arc<Program>>,
}

#[derive(Default)]
struct Cache {
    modules: HashMap<blake3::Hash, Parsed>,
    /// Bytes of text behind the modules.
    text: usize,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);
/// Text in the cache beyond which it starts anew.
const CACHE_TEXT: usize = 128 << 20;

fn parse(text: &str, capability: u32) -> Result<Parsed, Refusal> {
    let key = blake3::hash(text.as_bytes());
    let known = CACHE.lock().modules.get(&key).cloned();
    let parsed = match known {
        Some(parsed) => parsed,
        None => {
            let module = Arc::new(ptx::load(text).or_else(|errors| refuse(CuError::INVALID_PTX, errors.to_string()))?);
            let program = match module.variables.is_empty() {
                true => Some(Arc::new(link(Arc::clone(&module), Vec::new())?)),
                false => None,
            };
            let parsed = Parsed { module, program };
            let mut cache = CACHE.lock();
            if cache.text > CACHE_TEXT {
                *cache = Cache::default();
            }
            cache.text += text.len();
            cache.modules.insert(key, parsed.clone());
            parsed
        }
    };
    if let Some(kernel) = parsed.module.kernels.iter().find(|kernel| kernel.shared_bytes > SHARED_DEFAULT) {
        return refuse(
            CuError::INVALID_PTX,
            format!(
                "kernel `{}` uses too much static shared memory: {} bytes, {SHARED_DEFAULT} is the most",
                kernel.name, kernel.shared_bytes
            ),
        );
    }
    if parsed.module.target > capability {
        return refuse(
            CuError::INVALID_PTX,
            format!("`.target sm_{}` is newer than the device's sm_{capability}", parsed.module.target),
        );
    }
    Ok(parsed)
}

fn link(module: Arc<ir::Module>, addresses: Vec<u64>) -> Result<Program, Refusal> {
    let range = window().or_else(|error| refuse(error, "no device addresses"))?.range();
    let window = ptx::exec::Window { base: range.base, size: range.size };
    Program::new(module, addresses, window).or_else(|error| refuse(CuError::INVALID_PTX, error.to_string()))
}
