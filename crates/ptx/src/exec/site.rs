//! Places in generated code that call a helper, and how operands travel there.
//!
//! Data lie in a stack slot: the mask of lanes at 0, then slots of 256 bytes (32 lanes of up to 64 bits, each lane as
//! wide as the operand; predicates as one 32-bit mask; uniform operands as one element).

use super::context::Context;
use crate::Position;
use crate::ir::{AtomicOp, Op, Space, Type, Width};

/// A helper: `(context, site, data)`.
pub(super) type Helper = unsafe extern "C" fn(*mut Context, *const Site, *mut u8);

/// Offset of a slot in the data.
pub(super) const fn slot(i: usize) -> usize {
    16 + 256 * i
}

/// A place that calls a helper. The first field's offset is known to generated code.
#[repr(C)]
pub(super) struct Site {
    pub(super) helper: Helper,
    pub(super) at: Position,
    pub(super) detail: Detail,
}

/// What the helper needs to know.
#[derive(Clone, Debug)]
pub(super) enum Detail {
    /// Nothing.
    None,
    /// A memory access; the address is in slot 0, values follow.
    Memory(Access),
    /// An operation: operands in slots from 0, results in the slots after them.
    Operation { op: Op, arguments: Vec<Width>, results: Vec<Width> },
}

/// A memory access.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) space: Space,
    pub(super) form: Form,
    /// Added to every address.
    pub(super) offset: i64,
    pub(super) ty: Type,
    /// Elements per lane.
    pub(super) count: usize,
    /// Widths of the values in the slots.
    pub(super) widths: Vec<Width>,
    /// Which elements are wanted.
    pub(super) wanted: Vec<bool>,
    pub(super) atomic: Option<AtomicOp>,
}

/// How addresses are given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One for all lanes, 64 bits.
    Uniform,
    /// 64 bits per lane.
    Wide,
    /// 32 bits per lane.
    Narrow,
    /// 64 bits per row and a stride.
    Rows { lanes: usize, stride: i64 },
    /// 32 bits per row and a stride; sums wrap.
    NarrowRows { lanes: usize, stride: i64 },
    /// Per row 64 bits (of which 32 count) and, behind those of all rows, 64 bits more: see `Kind::Extended`.
    Extended { lanes: usize, signed: bool, stride: i32, scale: i64 },
}

/// The width in which a type's values are held.
pub(super) fn width_of(ty: Type) -> Width {
    match ty {
        Type::Pred => Width::Pred,
        Type::B8 | Type::U8 | Type::S8 | Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::BF16 => Width::B16,
        Type::E4M3x2 | Type::E5M2x2 => Width::B16,
        Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::TF32 => Width::B32,
        Type::F16x2 | Type::BF16x2 | Type::U16x2 | Type::S16x2 => Width::B32,
        Type::B64 | Type::U64 | Type::S64 | Type::F64 => Width::B64,
        Type::B128 => Width::B128,
    }
}

/// Bytes of a type in memory.
pub(super) fn bytes_of(ty: Type) -> usize {
    match ty {
        Type::Pred | Type::B8 | Type::U8 | Type::S8 => 1,
        other => bytes(width_of(other)),
    }
}

/// Bytes of a register; predicates count as one lane mask.
pub(super) fn bytes(width: Width) -> usize {
    match width {
        Width::Pred => 4,
        Width::B16 => 2,
        Width::B32 => 4,
        Width::B64 => 8,
        Width::B128 => 16,
    }
}
