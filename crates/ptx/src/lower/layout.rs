//! Sizes, alignments and places of variables.

use super::{Fault, Lowered, types};
use crate::ast::{Suffix, Variable};
use crate::diagnostics::Diagnostic;
use crate::ir::{Param, Type};

/// Most bytes that a variable may have: more than any GPU's memory.
const LARGEST: u64 = 1 << 40;

/// The next multiple of a power of two.
pub(super) fn align_up(value: u64, align: u64) -> u64 {
    value.saturating_add(align - 1) & !(align - 1)
}

/// Type of a variable's elements; texture and sampler handles are 64-bit values.
pub(super) fn element(variable: &Variable<'_>) -> Lowered<Type> {
    match (variable.ty, variable.ty.ty()) {
        (_, Some(ty)) => Ok(ty),
        (Suffix::TexRef | Suffix::SamplerRef | Suffix::SurfRef, None) => Ok(Type::U64),
        (other, None) => Err(Fault::Unsupported(Diagnostic::error(
            variable.name.at,
            format!("variables of type `.{}` are not supported", other.name()),
        ))),
    }
}

/// Size of a variable in bytes. An extent left open counts as zero.
pub(super) fn size(variable: &Variable<'_>) -> Lowered<u64> {
    let element = u64::from(types::size(element(variable)?)) * u64::from(variable.vector);
    variable
        .extents
        .iter()
        .try_fold(element, |size, extent| size.checked_mul(extent.unwrap_or(0)))
        .filter(|&size| size <= LARGEST)
        .ok_or_else(|| {
            Fault::Invalid(Diagnostic::error(variable.name.at, format!("`{}` is too large", variable.name.text)))
        })
}

/// Alignment of a variable in bytes.
pub(super) fn align(variable: &Variable<'_>) -> Lowered<u64> {
    let natural = u64::from(types::size(element(variable)?)) * u64::from(variable.vector);
    Ok(variable.align.unwrap_or(natural).max(1))
}

/// Places of a kernel's parameters, and the size of their buffer.
pub(super) fn parameters(params: &[Variable<'_>]) -> Lowered<(Vec<Param>, u32)> {
    let mut end = 0u64;
    let mut places = Vec::with_capacity(params.len());
    for variable in params {
        let (size, align) = (size(variable)?, align(variable)?);
        let offset = align_up(end, align);
        end = offset + size;
        if end > 32764 {
            return Err(Fault::Invalid(Diagnostic::error(variable.name.at, "parameters take more than 32764 bytes")));
        }
        places.push(Param { offset: offset as u32, size: size as u32, align: align as u32 });
    }
    Ok((places, end as u32))
}
