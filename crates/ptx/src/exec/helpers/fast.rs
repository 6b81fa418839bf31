//! Common operations without a vector instruction, all 32 lanes in one plain loop.

use super::{Context, Helper, Site, slot};
use crate::ir::{Binary, Op, Type};

macro_rules! lanes {
    ($name:ident, $ty:ty, |$a:ident, $b:ident| $body:expr) => {
        unsafe extern "C" fn $name(_: *mut Context, _: *const Site, data: *mut u8) {
            // SAFETY: slots 0 and 1 hold the operands, slot 2 the result; each has room for 32 lanes.
            let (left, right, out) = unsafe {
                (
                    data.add(slot(0)).cast::<[$ty; 32]>().read(),
                    data.add(slot(1)).cast::<[u32; 32]>().read(),
                    &mut *data.add(slot(2)).cast::<[$ty; 32]>(),
                )
            };
            for lane in 0..32 {
                let ($a, $b) = (left[lane], right[lane]);
                out[lane] = $body;
            }
        }
    };
}

lanes!(divide_signed, i32, |a, b| if b == 0 { -1 } else { a.wrapping_div(b as i32) });
lanes!(divide, u32, |a, b| a.checked_div(b).unwrap_or(u32::MAX));
lanes!(remainder_signed, i32, |a, b| if b == 0 { a } else { a.wrapping_rem(b as i32) });
lanes!(remainder, u32, |a, b| a.checked_rem(b).unwrap_or(a));
lanes!(high_signed, i32, |a, b| ((i64::from(a) * i64::from(b as i32)) >> 32) as i32);
lanes!(high, u32, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32);
lanes!(left, u32, |a, b| if b < 32 { a << b } else { 0 });
lanes!(right, u32, |a, b| if b < 32 { a >> b } else { 0 });
lanes!(right_signed, i32, |a, b| a >> b.min(31));

/// The loop for an operation, if it has one.
pub(super) fn find(op: &Op) -> Option<Helper> {
    let Op::Binary { op, ty, modifiers, .. } = op else { return None };
    if modifiers.sat {
        return None;
    }
    Some(match (op, ty) {
        (Binary::Div, Type::S32) => divide_signed,
        (Binary::Div, Type::U32 | Type::B32) => divide,
        (Binary::Rem, Type::S32) => remainder_signed,
        (Binary::Rem, Type::U32 | Type::B32) => remainder,
        (Binary::MulHi, Type::S32) => high_signed,
        (Binary::MulHi, Type::U32 | Type::B32) => high,
        (Binary::Shl, Type::B32 | Type::U32 | Type::S32) => left,
        (Binary::Shr, Type::B32 | Type::U32) => right,
        (Binary::Shr, Type::S32) => right_signed,
        _ => return None,
    })
}
