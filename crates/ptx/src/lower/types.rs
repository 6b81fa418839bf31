//! Sizes and kinds of types.

use crate::ast::Suffix;
use crate::ir::{Type, Width};

/// What a type's bits are for, as far as the manual's table of compatible operands cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Predicate,
    Bits,
    Integer,
    Float,
}

/// Size in bytes; a predicate has none.
pub(super) fn size(ty: Type) -> u32 {
    match ty {
        Type::Pred => 0,
        Type::B8 | Type::U8 | Type::S8 => 1,
        Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::BF16 | Type::E4M3x2 | Type::E5M2x2 => 2,
        Type::B32 | Type::U32 | Type::S32 | Type::F16x2 | Type::BF16x2 | Type::F32 => 4,
        Type::U16x2 | Type::S16x2 | Type::TF32 => 4,
        Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
        Type::B128 => 16,
    }
}

/// Width of a register that holds it.
pub(super) fn width(ty: Type) -> Width {
    match size(ty) {
        0 => Width::Pred,
        1 | 2 => Width::B16,
        4 => Width::B32,
        8 => Width::B64,
        _ => Width::B128,
    }
}

/// Bits of a width.
pub(super) fn bits(width: Width) -> u32 {
    match width {
        Width::Pred => 1,
        Width::B16 => 16,
        Width::B32 => 32,
        Width::B64 => 64,
        Width::B128 => 128,
    }
}

pub(super) fn class(ty: Type) -> Class {
    match ty {
        Type::Pred => Class::Predicate,
        Type::F16 | Type::F16x2 | Type::F32 | Type::F64 => Class::Float,
        Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::S8 | Type::S16 | Type::S32 | Type::S64 => Class::Integer,
        // Formats without registers of their own live in untyped ones.
        _ => Class::Bits,
    }
}

pub(super) fn is_float(ty: Type) -> bool {
    matches!(
        ty,
        Type::F16
            | Type::F16x2
            | Type::BF16
            | Type::BF16x2
            | Type::F32
            | Type::F64
            | Type::TF32
            | Type::E4M3x2
            | Type::E5M2x2
    )
}

pub(super) fn is_signed(ty: Type) -> bool {
    matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64 | Type::S16x2)
}

/// Untyped bits of a width.
pub(super) fn untyped(width: Width) -> Type {
    match width {
        Width::Pred => Type::Pred,
        Width::B16 => Type::B16,
        Width::B32 => Type::B32,
        Width::B64 => Type::B64,
        Width::B128 => Type::B128,
    }
}

/// The unsigned integer of a size in bytes.
pub(super) fn unsigned(size: u32) -> Type {
    match size {
        1 => Type::U8,
        2 => Type::U16,
        4 => Type::U32,
        _ => Type::U64,
    }
}

/// The integer twice as wide.
pub(super) fn doubled(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        other => other,
    }
}

/// The name in PTX.
pub(super) fn name(ty: Type) -> &'static str {
    match ty {
        Type::Pred => Suffix::Pred.name(),
        Type::B8 => Suffix::B8.name(),
        Type::B16 => Suffix::B16.name(),
        Type::B32 => Suffix::B32.name(),
        Type::B64 => Suffix::B64.name(),
        Type::B128 => Suffix::B128.name(),
        Type::U8 => Suffix::U8.name(),
        Type::U16 => Suffix::U16.name(),
        Type::U32 => Suffix::U32.name(),
        Type::U64 => Suffix::U64.name(),
        Type::S8 => Suffix::S8.name(),
        Type::S16 => Suffix::S16.name(),
        Type::S32 => Suffix::S32.name(),
        Type::S64 => Suffix::S64.name(),
        Type::F16 => Suffix::F16.name(),
        Type::F16x2 => Suffix::F16x2.name(),
        Type::BF16 => Suffix::BF16.name(),
        Type::BF16x2 => Suffix::BF16x2.name(),
        Type::F32 => Suffix::F32.name(),
        Type::F64 => Suffix::F64.name(),
        Type::U16x2 => Suffix::U16x2.name(),
        Type::S16x2 => Suffix::S16x2.name(),
        Type::E4M3x2 => Suffix::E4M3x2.name(),
        Type::E5M2x2 => Suffix::E5M2x2.name(),
        Type::TF32 => Suffix::TF32.name(),
    }
}
