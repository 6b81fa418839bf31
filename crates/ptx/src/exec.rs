//! Runs kernels on this CPU: compiles them for a block shape, the 32 lanes of a warp as SIMD, and executes blocks.
//!
//! A [`Program`] holds the kernels of one loaded module. [`Program::prepare`] binds one of them to a launch;
//! [`Launch::run`] executes a range of its blocks on the calling thread, with memory that the caller lends as a
//! [`Scratch`]. Device addresses are host addresses inside a [`Window`]; an access outside of it, or to unmapped pages
//! inside it, ends the launch with a [`Trap`] and leaves the process standing.

#![expect(unsafe_code, reason = "runs machine code made at run time on memory lent by the caller")]

mod arguments;
mod arithmetic;
mod code;
mod context;
mod control;
mod enter;
mod float;
mod flow;
mod helpers;
mod home;
mod kinds;
mod lanes;
mod memory;
mod pin;
mod place;
mod print;
mod run;
mod scalar;
mod site;
mod stream;
mod table;
mod values;
mod vectors;

use crate::{Position, ir};
use kinds::RowClass;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The addresses that kernels may touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Shape of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaunchShape {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Blocks of a cluster in x, y, z; ones without clusters.
    pub cluster: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// Bytes of a thread's stack, for kernels with functions that call themselves; as much as one frame of each is always
    /// there.
    pub stack_bytes: u32,
    /// All blocks are resident at once and may wait for one another.
    pub cooperative: bool,
}

/// What kernels ask of their surroundings.
pub trait Environment: Sync {
    /// Text that a kernel has printed.
    fn print(&self, text: &[u8]);
    /// Memory from the device's heap, or 0.
    fn malloc(&self, size: u64) -> u64;
    /// Returns memory to the device's heap.
    fn free(&self, address: u64);
    /// Whether the launch shall end early.
    fn cancelled(&self) -> bool;
}

/// Why a program or launch could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExecError {
    /// The kernel does something that this version cannot run.
    #[error("{at}: {what} is not supported by the software GPU")]
    Unsupported {
        /// What it is.
        what: String,
        /// Where it stands.
        at: Position,
    },
    /// The launch's shape does not suit the kernel or the device.
    #[error("{0}")]
    BadShape(String),
    /// The parameter buffer is too small, or an index is out of range.
    #[error("{0}")]
    BadArgument(String),
    /// The code generator refused its input: a defect of this crate.
    #[error("code generation of `{kernel}` failed: {reason}")]
    Internal {
        /// Kernel.
        kernel: String,
        /// What the code generator says.
        reason: String,
    },
}

/// How a kernel failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TrapKind {
    /// An access outside the window or to unmapped memory.
    IllegalAddress,
    /// An access that is not aligned to its size.
    MisalignedAddress,
    /// The kernel ran `trap`.
    Trap,
    /// Functions called themselves more often than the stack holds.
    StackOverflow,
    /// The kernel called `__assertfail`.
    Assert,
    /// Something that cannot be executed.
    IllegalInstruction,
    /// The kernel waits for something that can no longer happen.
    Deadlock,
    /// [`Environment::cancelled`] said so.
    Cancelled,
}

/// The end of a launch that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Trap {
    /// How.
    pub kind: TrapKind,
    /// For people; for a failed assertion the text that CUDA prints.
    pub message: String,
    /// The block that failed.
    pub block: [u32; 3],
    /// The address that was touched, when known.
    pub address: Option<u64>,
    /// The instruction, when known.
    pub at: Position,
}

/// Memory that an executing thread lends to a launch: shared and local memory and frames of waiting warps.
#[derive(Debug)]
pub struct Scratch {
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: the memory is used by the holder of the value only, whichever thread that is; `Scratch::new`'s caller promises it.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Memory for [`Launch::run`].
    ///
    /// # Safety
    /// `memory` is valid for reads and writes of `bytes` bytes as long as the value is used, is used by nobody else,
    /// is aligned to 64 bytes and lies inside the program's [`Window`].
    pub unsafe fn new(memory: *mut u8, bytes: usize) -> Scratch {
        Scratch { memory, bytes }
    }
}

/// What a kernel is compiled for: its number, the class of block shapes, whether all warps are full, and the bytes from
/// one thread's local memory to the next.
type Variant = (usize, RowClass, bool, i64);

/// The kernels of one module, with the addresses of its variables. Compiles lazily.
#[derive(Debug)]
pub struct Program {
    module: Arc<ir::Module>,
    variable_addresses: Vec<u64>,
    window: Window,
    compiled: Mutex<HashMap<Variant, Arc<place::Code>>>,
}

/// A kernel bound to a shape and parameters.
#[derive(Debug)]
pub struct Launch {
    bound: run::Bound,
    blocks: u64,
}

impl Program {
    /// Links a module: `variable_addresses` gives each module variable's place.
    pub fn new(module: Arc<ir::Module>, variable_addresses: Vec<u64>, window: Window) -> Result<Program, ExecError> {
        if variable_addresses.len() != module.variables.len() {
            return Err(ExecError::BadArgument(format!(
                "{} variable addresses given for {} variables",
                variable_addresses.len(),
                module.variables.len()
            )));
        }
        enter::install();
        Ok(Program { module, variable_addresses, window, compiled: Mutex::new(HashMap::new()) })
    }

    /// Position of a kernel by its linker name.
    pub fn kernel_index(&self, name: &str) -> Option<usize> {
        self.module.kernels.iter().position(|kernel| kernel.name == name)
    }

    /// Compiles a kernel for a shape, unless that has been done, and binds it to parameters.
    pub fn prepare(&self, kernel: usize, shape: LaunchShape, params: &[u8], grid_id: u64) -> Result<Launch, ExecError> {
        let index = kernel;
        let kernel = (self.module.kernels.get(index))
            .ok_or_else(|| ExecError::BadArgument(format!("the module has no kernel {index}")))?;
        let [x, y, z] = shape.block;
        let threads = u64::from(x) * u64::from(y) * u64::from(z);
        if threads == 0 || threads > 1024 || shape.grid.contains(&0) {
            return Err(ExecError::BadShape(format!("a grid of {:?} blocks of {:?} threads", shape.grid, shape.block)));
        }
        if kernel.required_block[0] != 0 && kernel.required_block.map(|n| n.max(1)) != shape.block {
            return Err(ExecError::BadShape(format!(
                "`{}` runs with blocks of {:?} threads only, not {:?}",
                kernel.name, kernel.required_block, shape.block
            )));
        }
        if params.len() < kernel.param_bytes as usize {
            return Err(ExecError::BadArgument(format!(
                "`{}` takes {} bytes of parameters, not {}",
                kernel.name,
                kernel.param_bytes,
                params.len()
            )));
        }
        let class = RowClass::of(shape.block);
        let stack_bytes = match kernel.stack_frames {
            0 => 0,
            frames => u64::from(shape.stack_bytes.max(frames)).next_multiple_of(16),
        };
        let mut local_bytes = u64::from(kernel.local_bytes);
        if stack_bytes > 0 {
            local_bytes = local_bytes.next_multiple_of(16) + stack_bytes;
        }
        let align = u64::from(kernel.memory_align);
        let mut local_stride = local_bytes.max(16).next_multiple_of(align);
        if local_stride >= 1024 {
            // The lanes of a warp mostly touch the same place, each of its own memory: these shall not all fall into the
            // same few lines of a cache.
            local_stride = local_stride.next_multiple_of(2 * align.max(64)) + align.max(64);
        }
        let code = self.code(index, kernel, class, threads.is_multiple_of(32), local_stride as i64)?;
        let warps = run::warp_shapes(shape.block, class);
        let shared_bytes = u64::from(kernel.shared_bytes).next_multiple_of(16) + u64::from(shape.shared_bytes);
        let local = if local_bytes == 0 { 0 } else { warps.len() * 32 * local_stride as usize };
        let layout = run::Layout {
            params: kernel.param_bytes as usize,
            shared: shared_bytes as usize,
            local,
            frames: warps.len() * code.frame_bytes,
            align: (align as usize).max(128),
        };
        let bound = run::Bound {
            code,
            shape,
            params: params[..kernel.param_bytes as usize].to_vec(),
            grid_id,
            warps: Arc::new(warps),
            layout,
            local_bytes,
            local_stride,
            stack_bytes,
            shared_bytes,
            window: self.window,
        };
        Ok(Launch { bound, blocks: shape.grid.iter().map(|n| u64::from(*n)).product() })
    }

    /// The machine code of a kernel for a class of shapes, compiled on first use.
    fn code(
        &self,
        index: usize,
        kernel: &ir::Kernel,
        class: RowClass,
        full: bool,
        local_stride: i64,
    ) -> Result<Arc<place::Code>, ExecError> {
        let mut compiled = self.compiled.lock();
        if let Some(known) = compiled.get(&(index, class, full, local_stride)) {
            return Ok(Arc::clone(known));
        }
        let target = code::Target {
            kernel,
            class,
            full,
            variables: &self.variable_addresses,
            window: self.window,
            local_stride,
        };
        let made = Arc::new(place::Code::place(code::compile(target)?)?);
        compiled.insert((index, class, full, local_stride), Arc::clone(&made));
        Ok(made)
    }
}

impl Launch {
    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of [`Scratch`] that each executing thread needs.
    pub fn scratch_bytes(&self) -> usize {
        let resident = if self.bound.shape.cooperative { self.blocks as usize } else { 1 };
        self.bound.layout.total(resident)
    }

    /// Runs blocks on the calling thread. The blocks of a cooperative launch are interleaved.
    pub fn run(&self, blocks: Range<u64>, scratch: &mut Scratch, environment: &dyn Environment) -> Result<(), Trap> {
        self.bound.run(blocks, scratch, environment)
    }
}

#[cfg(test)]
mod tests;
