//! Module variables with their initial bytes.

use super::index::{Global, Index};
use super::{Fault, Lowered, layout, types};
use crate::ast::{Constant, Initial, Linkage, Name, StateSpace, Variable};
use crate::diagnostics::Diagnostic;
use crate::ir;

/// Functions have no address in our memory: pointers to them hold this plus the function's position.
pub(super) const FUNCTION_ADDRESSES: u64 = 0x0f0f_0000_0000_0000;

/// Most initial bytes of a variable.
const LARGEST_IMAGE: u64 = 1 << 30;

/// Lowers all module variables.
pub(super) fn variables(index: &Index<'_, '_>, found: &mut Vec<Diagnostic>) -> Vec<ir::Variable> {
    let mut variables = Vec::with_capacity(index.variables.len());
    for variable in &index.variables {
        match lower(index, variable) {
            Ok(lowered) => variables.push(lowered),
            Err(Fault::Invalid(diagnostic) | Fault::Unsupported(diagnostic)) => found.push(diagnostic),
        }
    }
    variables
}

fn lower<'a>(index: &Index<'_, 'a>, variable: &Variable<'a>) -> Lowered<ir::Variable> {
    let element = types::size(layout::element(variable)?) as u64;
    let mut image = Image { unit: variable.unit, index, element, bytes: Vec::new(), relocations: Vec::new() };
    let mut size = layout::size(variable)?;
    let open = variable.extents.first() == Some(&None);
    if let Some(initial) = &variable.initial {
        let strides = strides(variable, element);
        let end = image.write(initial, 0, &strides, variable.name)?;
        if open {
            let stride = strides.first().copied().unwrap_or(element).max(1);
            size = layout::align_up(end, 1).div_ceil(stride) * stride;
        }
        if end > size {
            return invalid(variable.name, format!("the initial value of `{}` is larger than it", variable.name.text));
        }
    }
    Ok(ir::Variable {
        name: variable.name.text.to_owned(),
        space: if variable.space == StateSpace::Const { ir::Space::Const } else { ir::Space::Global },
        visible: variable.linkage != Linkage::Hidden,
        size,
        align: layout::align(variable)?,
        bytes: image.bytes,
        relocations: image.relocations,
        managed: variable.managed,
    })
}

fn invalid<T>(name: Name<'_>, message: String) -> Lowered<T> {
    Err(Fault::Invalid(Diagnostic::error(name.at, message)))
}

/// Bytes from one element to the next, for each level of braces.
fn strides(variable: &Variable<'_>, element: u64) -> Vec<u64> {
    let mut strides = Vec::new();
    let mut stride = element;
    if variable.vector > 1 {
        strides.push(stride);
        stride *= u64::from(variable.vector);
    }
    for extent in variable.extents.iter().rev() {
        strides.push(stride);
        stride = stride.saturating_mul(extent.unwrap_or(1));
    }
    strides.reverse();
    strides
}

struct Image<'i, 'm, 'a> {
    unit: u32,
    index: &'i Index<'m, 'a>,
    element: u64,
    bytes: Vec<u8>,
    relocations: Vec<ir::Relocation>,
}

impl<'a> Image<'_, '_, 'a> {
    /// Writes a value at an offset; gives the offset behind it.
    fn write(&mut self, initial: &Initial<'a>, offset: u64, strides: &[u64], owner: Name<'_>) -> Lowered<u64> {
        match initial {
            Initial::List(list) => {
                let (stride, inner) =
                    strides.split_first().map_or((self.element, strides), |(first, rest)| (*first, rest));
                let mut at = offset;
                for item in list {
                    // Braces may be left out inside: then elements follow one another.
                    let step = if matches!(item, Initial::List(_)) { stride } else { self.element };
                    self.write(item, at, inner, owner)?;
                    at += step;
                }
                Ok(at)
            }
            Initial::Constant(constant) => {
                let bits = match (*constant, self.element) {
                    (Constant::Integer(value), _) => value,
                    (Constant::Single(bits), 8) => f64::from(f32::from_bits(bits)).to_bits(),
                    (Constant::Single(bits), _) => u64::from(bits),
                    (Constant::Double(bits), 4) => u64::from((f64::from_bits(bits) as f32).to_bits()),
                    (Constant::Double(bits), _) => bits,
                };
                if offset > LARGEST_IMAGE {
                    return invalid(owner, format!("the initial value of `{}` is too large", owner.text));
                }
                self.put(offset, bits, self.element);
                Ok(offset + self.element)
            }
            Initial::Symbol { name, offset: addend, mask } => {
                self.symbol(offset, *name, *addend, *mask)?;
                Ok(offset + self.element)
            }
        }
    }

    fn put(&mut self, offset: u64, value: u64, size: u64) {
        if value == 0 && offset as usize >= self.bytes.len() {
            return;
        }
        let end = (offset + size) as usize;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        for (byte, place) in
            value.to_le_bytes().iter().zip(self.bytes.iter_mut().skip(offset as usize).take(size as usize))
        {
            *place = *byte;
        }
    }

    fn symbol(&mut self, offset: u64, name: Name<'a>, addend: i64, mask: Option<u64>) -> Lowered<()> {
        // `0xff(x), 0xff00(x), …` in an array of bytes are the bytes of one address: the first stands for all.
        let byte = match mask {
            None if self.element == 8 => 0,
            Some(mask) if self.element == 1 && mask.count_ones() == 8 && mask.trailing_zeros() % 8 == 0 => {
                u64::from(mask.trailing_zeros() / 8)
            }
            _ => return invalid(name, format!("the address of `{}` needs eight bytes", name.text)),
        };
        let Some(start) = offset.checked_sub(byte) else {
            return invalid(name, format!("the bytes of the address of `{}` do not follow one another", name.text));
        };
        match self.index.find(name.text, self.unit) {
            Some(Global::Variable(variable)) => {
                let relocation = ir::Relocation { offset: start, variable, addend };
                if byte == 0 {
                    self.relocations.push(relocation);
                } else if self.relocations.last() != Some(&relocation) {
                    return invalid(
                        name,
                        format!("the bytes of the address of `{}` do not follow one another", name.text),
                    );
                }
                Ok(())
            }
            Some(Global::Function(position)) => {
                let address = FUNCTION_ADDRESSES + position as u64;
                if mask.is_some() {
                    self.put(offset, address >> (8 * byte) & 0xff, 1);
                } else {
                    self.put(offset, address, 8);
                }
                Ok(())
            }
            Some(_) => invalid(name, format!("`{}` has no address that is known before the kernel runs", name.text)),
            None => invalid(name, format!("`{}` is not declared", name.text)),
        }
    }
}
