//! Modules: their variables, and what belongs to kernels as a whole.

use super::{Kernel, Space};
use crate::Position;

/// A kernel parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param {
    /// Offset in the parameter buffer, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A module variable.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// Linker name.
    pub name: String,
    /// `Global` or `Const`.
    pub space: Space,
    /// Visible to the host (`.visible`, `.extern`, `.weak` or `.common`, or any: cudart asks for hidden ones too).
    pub visible: bool,
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Initial bytes; shorter than `size` means zeros follow.
    pub bytes: Vec<u8>,
    /// Addresses to be written into the initial bytes.
    pub relocations: Vec<Relocation>,
    /// The host reaches it by the same address.
    pub managed: bool,
}

/// An address inside a variable's initial bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// Where in the bytes; eight bytes wide.
    pub offset: u64,
    /// Position of the variable whose address it is.
    pub variable: u32,
    /// Added to the address.
    pub addend: i64,
}

/// A lowered module.
#[derive(Clone, PartialEq, Debug)]
pub struct Module {
    /// `.version`, for example (8, 5).
    pub version: (u32, u32),
    /// `.target` as a number, for example 80 for `sm_80`.
    pub target: u32,
    /// Module variables.
    pub variables: Vec<Variable>,
    /// Kernels.
    pub kernels: Vec<Kernel>,
    /// Kernels that are valid but use something that we cannot run: the rest of the module loads without them.
    pub unsupported: Vec<Unsupported>,
}

/// A kernel that we cannot run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsupported {
    /// Linker name.
    pub kernel: String,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Where the reason stands.
    pub at: Position,
    /// The reason: what it uses.
    pub message: String,
}
