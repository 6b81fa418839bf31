//! Operations on all lanes in vectors: what [`super::arithmetic`] does for one vector, for whole registers, and the
//! operations that change the width of their operands.

use super::arguments::Argument;
use super::arithmetic::{Class, class, is_integer, nearest};
use super::code::{Emitter, Val};
use super::kinds::immediate;
use super::site::width_of;
use crate::ir::{Binary, Compare, Modifiers, Op, Rounding, Ternary, Type, Unary, Width};
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Emitter<'_, '_> {
    /// Emits an operation on vectors, if it is done in line: the values of its results.
    pub(super) fn vectorized(&mut self, op: &Op, arguments: &[Argument]) -> Option<Vec<Val>> {
        match op {
            Op::SetP { compare, ty, ftz, p, q, join, .. } => {
                let width = width_of(*ty);
                if class(*ty) == Class::Other {
                    return None;
                }
                let hits = self.compare_operands(*compare, *ty, *ftz, arguments)?;
                let form = if width == Width::B32 { Some(hits.clone()) } else { None };
                let wanted = [p, q].into_iter().flatten().any(|r| self.spread[r.0 as usize]);
                if join.is_none() && wanted && form.is_some() {
                    let mut made = Vec::new();
                    if p.is_some() {
                        made.push(Val::Vectors(hits.clone()));
                    }
                    if q.is_some() {
                        made.push(Val::Vectors(hits.iter().map(|h| self.b.ins().bnot(*h)).collect()));
                    }
                    return Some(made);
                }
                let bits = self.compared_bits(&hits, width);
                let c = match arguments.get(2) {
                    Some(a) => {
                        let value = self.argument(a);
                        Some(self.mask_bits(&value))
                    }
                    None => None,
                };
                let mut made = Vec::new();
                if p.is_some() {
                    made.push(Val::Mask(self.joined(bits, join.map(|j| j.0), c)));
                }
                if q.is_some() {
                    let miss = self.b.ins().bnot(bits);
                    made.push(Val::Mask(self.joined(miss, join.map(|j| j.0), c)));
                }
                Some(made)
            }
            Op::Binary { op: binary @ (Binary::And | Binary::Or | Binary::Xor), ty: Type::Pred, .. } => {
                let a = self.argument(&arguments[0]);
                let b = self.argument(&arguments[1]);
                let (a, b) = (self.mask_bits(&a), self.mask_bits(&b));
                Some(vec![Val::Mask(match binary {
                    Binary::And => self.b.ins().band(a, b),
                    Binary::Or => self.b.ins().bor(a, b),
                    _ => self.b.ins().bxor(a, b),
                })])
            }
            Op::Unary { op: Unary::Not, ty: Type::Pred, .. } => {
                let a = self.argument(&arguments[0]);
                let bits = self.mask_bits(&a);
                Some(vec![Val::Mask(self.b.ins().bnot(bits))])
            }
            Op::SelP { ty, .. } => {
                let width = width_of(*ty);
                if matches!(width, Width::Pred | Width::B128) {
                    return None;
                }
                let a = self.argument(&arguments[0]);
                let b = self.argument(&arguments[1]);
                let p = self.argument(&arguments[2]);
                let (a, b) = (self.expand(&a, width), self.expand(&b, width));
                if let Val::Uniform(flag) = p {
                    let all = a.iter().zip(b).map(|(a, b)| self.b.ins().select(flag, *a, b)).collect();
                    return Some(vec![Val::Vectors(all)]);
                }
                let masks = self.selection(&p, width);
                let all =
                    masks.iter().zip(a.iter().zip(b)).map(|(m, (a, b))| self.b.ins().bitselect(*m, *a, b)).collect();
                Some(vec![Val::Vectors(all)])
            }
            Op::Binary { op: Binary::MulWide, ty: ty @ (Type::S32 | Type::U32), .. } => {
                Some(vec![Val::Vectors(self.wide_products(*ty, arguments))])
            }
            Op::Ternary { op: Ternary::MadWide, ty: ty @ (Type::S32 | Type::U32), .. } => {
                let products = self.wide_products(*ty, arguments);
                let c = self.argument(&arguments[2]);
                let c = self.expand(&c, Width::B64);
                Some(vec![Val::Vectors(products.iter().zip(c).map(|(a, b)| self.b.ins().iadd(*a, b)).collect())])
            }
            Op::Cvt { to, from, modifiers, d, .. } => {
                let width = self.width(*d);
                Some(vec![Val::Vectors(self.vector_conversion(*to, *from, modifiers, &arguments[0], width)?)])
            }
            Op::Unpack { d, part: Width::B32, .. } if d.len() == 2 => {
                let a = self.argument(&arguments[0]);
                let a = self.expand(&a, Width::B64);
                let mut made = Vec::new();
                for (i, d) in d.iter().enumerate() {
                    if d.is_none() {
                        continue;
                    }
                    let o = 4 * i as u8;
                    let order = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27].map(|x: u8| x + o);
                    let all = a.chunks(2).map(|p| self.shuffle(types::I32X4, p[0], p[1], order)).collect();
                    made.push(Val::Vectors(all));
                }
                Some(made)
            }
            Op::Pack { part: Width::B32, a, .. } if a.len() == 2 => {
                let low = self.argument(&arguments[0]);
                let high = self.argument(&arguments[1]);
                let (low, high) = (self.expand(&low, Width::B32), self.expand(&high, Width::B32));
                let mut all = Vec::new();
                for (l, h) in low.iter().zip(high) {
                    let first = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
                    all.push(self.shuffle(types::I64X2, *l, h, first));
                    all.push(self.shuffle(types::I64X2, *l, h, first.map(|x| x + 8)));
                }
                Some(vec![Val::Vectors(all)])
            }
            Op::Binary { op: Binary::Shl | Binary::Shr, ty, b, .. } => {
                let width = width_of(*ty);
                if !is_integer(*ty) {
                    return None;
                }
                let amount = match (self.argument(&arguments[1]), immediate(b)) {
                    (Val::Uniform(v), _) => v,
                    _ => return None,
                };
                let a = self.argument(&arguments[0]);
                let a = self.expand(&a, width);
                let mut all = Vec::new();
                for v in a {
                    all.push(self.same_width(op, &[v, amount], true, Some(amount))?);
                }
                Some(vec![Val::Vectors(all)])
            }
            Op::Unary { ty, .. } | Op::Binary { ty, .. } | Op::Ternary { ty, .. } => {
                let width = width_of(*ty);
                if matches!(width, Width::Pred | Width::B128) {
                    return None;
                }
                if arguments.iter().any(|a| !matches!(a, Argument::Value(_, w) if *w == width)) {
                    return None;
                }
                if !self.has_vector_form(op) {
                    return None;
                }
                let values: Vec<Vec<Value>> = arguments
                    .iter()
                    .map(|a| {
                        let value = self.argument(a);
                        self.expand(&value, width)
                    })
                    .collect();
                let mut all = Vec::new();
                for g in 0..values[0].len() {
                    let lanes: Vec<Value> = values.iter().map(|v| v[g]).collect();
                    all.push(self.same_width(op, &lanes, true, None)?);
                }
                Some(vec![Val::Vectors(all)])
            }
            _ => None,
        }
    }

    /// Whether `same_width` knows a vector form, asked before operands are emitted.
    fn has_vector_form(&self, op: &Op) -> bool {
        match op {
            Op::Unary { op, ty, modifiers: m, .. } => match op {
                Unary::Not | Unary::Neg => is_integer(*ty) || matches!(ty, Type::F32 | Type::F64),
                Unary::Abs => matches!(ty, Type::F32 | Type::F64) || is_integer(*ty) && width_of(*ty) != Width::B16,
                Unary::Sqrt | Unary::Rcp => matches!(ty, Type::F32 | Type::F64) && nearest(m),
                Unary::Rsqrt => *ty == Type::F32,
                _ => false,
            },
            Op::Binary { op, ty, modifiers: m, .. } => {
                if matches!(ty, Type::F32 | Type::F64) {
                    return match op {
                        Binary::Min | Binary::Max | Binary::CopySign => true,
                        Binary::Add | Binary::Sub | Binary::Mul => nearest(m),
                        Binary::Div => nearest(m),
                        _ => false,
                    };
                }
                match op {
                    Binary::And | Binary::Or | Binary::Xor => true,
                    Binary::Add | Binary::Sub | Binary::Mul | Binary::Min | Binary::Max => is_integer(*ty) && !m.sat,
                    _ => false,
                }
            }
            Op::Ternary { op, ty, modifiers: m, .. } => match op {
                Ternary::Mad if is_integer(*ty) => !m.sat,
                Ternary::Fma | Ternary::Mad => matches!(ty, Type::F32 | Type::F64) && nearest(m),
                Ternary::Lop3(_) => width_of(*ty) == Width::B32,
                _ => false,
            },
            _ => false,
        }
    }

    fn compare_operands(&mut self, compare: Compare, ty: Type, ftz: bool, a: &[Argument]) -> Option<Vec<Value>> {
        let width = width_of(ty);
        let x = self.argument(&a[0]);
        let y = self.argument(&a[1]);
        let (x, y) = (self.expand(&x, width), self.expand(&y, width));
        let mut hits = Vec::new();
        for (x, y) in x.iter().zip(y) {
            hits.push(self.compare(compare, ty, ftz, *x, y, true)?);
        }
        Some(hits)
    }

    fn compared_bits(&mut self, hits: &[Value], width: Width) -> Value {
        match width {
            Width::B16 => self.pack_half_masks(hits),
            Width::B64 => {
                let words = self.resize_vectors(hits.to_vec(), Width::B64, Width::B32);
                self.pack_masks(&words)
            }
            _ => self.pack_masks(hits),
        }
    }

    /// A predicate as masks as wide as a width.
    fn selection(&mut self, p: &Val, width: Width) -> Vec<Value> {
        match (p, width) {
            (Val::Vectors(words), Width::B32) => words.clone(),
            (Val::Vectors(words), Width::B16) => words.chunks(2).map(|p| self.b.ins().snarrow(p[0], p[1])).collect(),
            (Val::Vectors(words), _) => {
                words.iter().flat_map(|w| [self.b.ins().swiden_low(*w), self.b.ins().swiden_high(*w)]).collect()
            }
            (other, _) => {
                let bits = self.mask_bits(other);
                self.unpack_mask(bits, width)
            }
        }
    }

    fn wide_products(&mut self, ty: Type, arguments: &[Argument]) -> Vec<Value> {
        let a = self.argument(&arguments[0]);
        let b = self.argument(&arguments[1]);
        let (a, b) = (self.expand(&a, Width::B32), self.expand(&b, Width::B32));
        let signed = ty == Type::S32;
        let mut all = Vec::new();
        for (a, b) in a.iter().zip(b) {
            for high in [false, true] {
                let mut wide = |v: Value| match (signed, high) {
                    (true, false) => self.b.ins().swiden_low(v),
                    (true, true) => self.b.ins().swiden_high(v),
                    (false, false) => self.b.ins().uwiden_low(v),
                    (false, true) => self.b.ins().uwiden_high(v),
                };
                let (x, y) = (wide(*a), wide(b));
                all.push(self.b.ins().imul(x, y));
            }
        }
        all
    }

    fn vector_conversion(
        &mut self,
        to: Type,
        from: Type,
        m: &Modifiers,
        a: &Argument,
        width: Width,
    ) -> Option<Vec<Value>> {
        if m.sat || m.relu || m.ftz {
            return None;
        }
        let Argument::Value(_, from_width) = a else { return None };
        let integer = |c: Class| match c {
            Class::Signed(w) => Some((w, true)),
            Class::Unsigned(w) => Some((w, false)),
            _ => None,
        };
        let (to_class, from_class) = (class(to), class(from));
        if let (Some((w, _)), Some((f, signed))) = (integer(to_class), integer(from_class)) {
            if w != width || f != *from_width {
                return None;
            }
            let value = self.argument(a);
            let v = self.expand(&value, f);
            return Some(self.convert_integers(v, f, w, signed));
        }
        match (to_class, from_class, m.rounding) {
            (Class::Single, Class::Signed(Width::B32), Rounding::Rn)
            | (Class::Single, Class::Unsigned(Width::B32), Rounding::Rn) => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B32);
                let signed = matches!(from_class, Class::Signed(_));
                Some(
                    v.into_iter()
                        .map(|v| {
                            let y = if signed {
                                self.b.ins().fcvt_from_sint(types::F32X4, v)
                            } else {
                                self.b.ins().fcvt_from_uint(types::F32X4, v)
                            };
                            self.cast(types::I32X4, y)
                        })
                        .collect(),
                )
            }
            (Class::Signed(Width::B32), Class::Single, Rounding::Rzi) if width == Width::B32 => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B32);
                Some(
                    v.into_iter()
                        .map(|v| {
                            let x = self.cast(types::F32X4, v);
                            self.b.ins().fcvt_to_sint_sat(types::I32X4, x)
                        })
                        .collect(),
                )
            }
            (Class::Unsigned(Width::B32), Class::Single, Rounding::Rzi) if width == Width::B32 => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B32);
                Some(
                    v.into_iter()
                        .map(|v| {
                            let x = self.cast(types::F32X4, v);
                            self.b.ins().fcvt_to_uint_sat(types::I32X4, x)
                        })
                        .collect(),
                )
            }
            (Class::Single, Class::Single, Rounding::Rzi | Rounding::Rmi | Rounding::Rpi | Rounding::Rni) => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B32);
                Some(
                    v.into_iter()
                        .map(|v| {
                            let x = self.cast(types::F32X4, v);
                            let y = match m.rounding {
                                Rounding::Rzi => self.b.ins().trunc(x),
                                Rounding::Rmi => self.b.ins().floor(x),
                                Rounding::Rpi => self.b.ins().ceil(x),
                                _ => self.b.ins().nearest(x),
                            };
                            self.cast(types::I32X4, y)
                        })
                        .collect(),
                )
            }
            (Class::Double, Class::Single, _) => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B32);
                Some(
                    v.into_iter()
                        .flat_map(|v| {
                            let high = self.shuffle(
                                types::I32X4,
                                v,
                                v,
                                [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15],
                            );
                            [v, high].map(|v| {
                                let x = self.cast(types::F32X4, v);
                                let y = self.b.ins().fvpromote_low(x);
                                self.cast(types::I64X2, y)
                            })
                        })
                        .collect(),
                )
            }
            (Class::Single, Class::Double, Rounding::Rn) => {
                let value = self.argument(a);
                let v = self.expand(&value, Width::B64);
                Some(
                    v.chunks(2)
                        .map(|p| {
                            let [x, y] = [p[0], p[1]].map(|v| {
                                let x = self.cast(types::F64X2, v);
                                self.b.ins().fvdemote(x)
                            });
                            self.shuffle(types::I32X4, x, y, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23])
                        })
                        .collect(),
                )
            }
            _ => None,
        }
    }

    fn convert_integers(&mut self, v: Vec<Value>, from: Width, to: Width, signed: bool) -> Vec<Value> {
        if !signed || super::site::bytes(to) <= super::site::bytes(from) {
            return self.resize_vectors(v, from, to);
        }
        let widened: Vec<Value> =
            v.iter().flat_map(|v| [self.b.ins().swiden_low(*v), self.b.ins().swiden_high(*v)]).collect();
        if (from, to) == (Width::B16, Width::B64) {
            return self.convert_integers(widened, Width::B32, Width::B64, true);
        }
        widened
    }
}
