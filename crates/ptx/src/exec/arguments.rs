//! The operands of operations, in the order and width in which helpers get them.

use super::site::{bytes, width_of};
use crate::ir::{Binary, Op, Operand, Predicate, Space, Ternary, Type, Width};

/// An operand as helpers get it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    Value(Operand, Width),
    Predicate(Predicate),
}

/// The operands of an operation in the order in which helpers get them.
pub(super) fn arguments(op: &Op) -> Vec<Argument> {
    use Argument::{Predicate as P, Value as V};
    let double = |w: Width| match w {
        Width::B16 => Width::B32,
        Width::B32 => Width::B64,
        _ => Width::B128,
    };
    match op {
        Op::Mov { ty, a, .. } => vec![V(*a, width_of(*ty))],
        Op::Unpack { d, part, a } => {
            let total = bytes(*part) * d.len();
            let width = match total {
                2 => Width::B16,
                4 => Width::B32,
                8 => Width::B64,
                _ => Width::B128,
            };
            vec![V(*a, width)]
        }
        Op::Pack { part, a, .. } => a.iter().map(|a| V(*a, *part)).collect(),
        Op::Unary { ty, a, .. } => vec![V(*a, width_of(*ty))],
        Op::Binary { op: Binary::Shl | Binary::Shr, ty, a, b, .. } => {
            vec![V(*a, width_of(*ty)), V(*b, Width::B32)]
        }
        Op::Binary { ty, a, b, .. } => vec![V(*a, width_of(*ty)), V(*b, width_of(*ty))],
        Op::Ternary { op, ty, a, b, c, .. } => {
            let w = width_of(*ty);
            let third = match op {
                Ternary::MadWide => double(w),
                Ternary::ShfLeft { .. } | Ternary::ShfRight { .. } | Ternary::Slct { .. } => Width::B32,
                _ => w,
            };
            if matches!(op, Ternary::Bfe) {
                return vec![V(*a, w), V(*b, Width::B32), V(*c, Width::B32)];
            }
            vec![V(*a, w), V(*b, w), V(*c, third)]
        }
        Op::Bfi { ty, a, b, position, length, .. } => {
            let w = width_of(*ty);
            vec![V(*a, w), V(*b, w), V(*position, Width::B32), V(*length, Width::B32)]
        }
        Op::AddCarry { ty, a, b, carry_in, .. } => {
            let mut all = vec![V(*a, width_of(*ty)), V(*b, width_of(*ty))];
            all.extend(carry_in.iter().map(|r| P(Predicate { register: *r, negated: false })));
            all
        }
        Op::SetP { ty, a, b, join, .. } | Op::Set { ty, a, b, join, .. } => {
            let mut all = vec![V(*a, width_of(*ty)), V(*b, width_of(*ty))];
            all.extend(join.iter().map(|(_, p)| P(*p)));
            all
        }
        Op::SelP { ty, a, b, p, .. } => vec![V(*a, width_of(*ty)), V(*b, width_of(*ty)), P(*p)],
        Op::Cvt { from, a, .. } => vec![V(*a, width_of(*from))],
        Op::CvtPack { from, a, b, .. } => vec![V(*a, width_of(*from)), V(*b, width_of(*from))],
        Op::TestP { ty, a, .. } => vec![V(*a, width_of(*ty))],
        Op::IsSpace { a, .. } => vec![V(*a, Width::B64)],
        Op::Shuffle { a, b, c, mask, .. } => [a, b, c, mask].into_iter().map(|o| V(*o, Width::B32)).collect(),
        Op::Vote { a, mask, .. } => vec![P(*a), V(*mask, Width::B32)],
        Op::Match { ty, a, mask, .. } | Op::Redux { ty, a, mask, .. } => {
            vec![V(*a, width_of(*ty)), V(*mask, Width::B32)]
        }
        Op::Elect { mask, .. } => vec![V(*mask, Width::B32)],
        Op::Runtime { a, .. } => a.iter().map(|a| V(*a, Width::B64)).collect(),
        Op::CopyAsync { to, from, source_bytes, .. } => {
            let mut all = vec![V(to.base, address_width(to.space)), V(from.base, address_width(from.space))];
            all.extend(source_bytes.iter().map(|b| V(*b, Width::B32)));
            all
        }
        Op::LdMatrix { address, .. } => vec![V(address.base, address_width(address.space))],
        Op::StMatrix { address, a, .. } => {
            let mut all = vec![V(address.base, address_width(address.space))];
            all.extend(a.iter().map(|a| V(*a, Width::B32)));
            all
        }
        Op::MovMatrix { a, .. } => vec![V(*a, Width::B32)],
        Op::Mma { types, a, b, c, .. } => {
            let wide = |ty: Type| if ty == Type::F64 { Width::B64 } else { Width::B32 };
            let group = |all: &[Operand], w: Width| all.iter().map(|o| V(*o, w)).collect::<Vec<_>>();
            [group(a, wide(types[1])), group(b, wide(types[2])), group(c, wide(types[3]))].concat()
        }
        _ => vec![],
    }
}

/// How wide addresses of a space travel.
fn address_width(space: Space) -> Width {
    match space {
        Space::Shared | Space::Local | Space::Param => Width::B32,
        _ => Width::B64,
    }
}
