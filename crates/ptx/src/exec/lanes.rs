//! Operations: which form the result has, and the code that computes it.

use super::arguments::{Argument, arguments};
use super::code::{Emitter, Val, scalar_type, vector_count, vector_type};
use super::context::Context;
use super::helpers;
use super::helpers::warp::shuffle_source;
use super::kinds::{Kind, extended_immediate, immediate, integer_width};
use super::site::{Detail, slot};
use super::stream::words_order;
use crate::ir::operands;
use crate::ir::{Binary, Op, Operand, Predicate, Reg, ShuffleMode, Space, Special, Ternary, Type, VoteMode, Width};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::mem::offset_of;

impl Emitter<'_, '_> {
    /// Emits an operation for the lanes of a mask.
    pub(super) fn operation(&mut self, op: &Op, mask: Value) {
        match op {
            Op::Nothing | Op::WarpBarrier { .. } => {}
            Op::Fence => {
                self.b.ins().fence();
            }
            Op::Mov { ty, d, a } => {
                let width = self.width(*d);
                let own = self.operand_width(a, width);
                let value = self.read(a, own);
                let value = self.resize(value, own, width);
                let value = if *ty == Type::Pred && matches!(a, Operand::Imm(_)) {
                    let Val::Uniform(v) = value else { return };
                    let flag = self.b.ins().icmp_imm_s(cranelift_codegen::ir::condcodes::IntCC::NotEqual, v, 0);
                    Val::Uniform(flag)
                } else {
                    value
                };
                self.write(*d, value);
            }
            Op::Load { ty, d, address, semantics } => self.load(*ty, d, address, *semantics, mask),
            Op::Store { ty, address, a, semantics } => self.store(*ty, address, a, *semantics, mask),
            Op::Atomic { op, ty, d, address, a, b, .. } => self.atomic(*op, *ty, *d, address, a, b.as_ref(), mask),
            Op::Special { d, which } => {
                let value = self.special(*which);
                let width = self.width(*d);
                let own = match which {
                    Special::Clock64 | Special::GlobalTimer | Special::GridId => Width::B64,
                    _ => Width::B32,
                };
                let value = self.resize(value, own, width);
                self.write(*d, value);
            }
            Op::ToGeneric { space, d, a } => self.convert_address(*space, *d, a, true),
            Op::FromGeneric { space, d, a } => self.convert_address(*space, *d, a, false),
            Op::Barrier { kind, id, threads } => self.arrive(kind, id, threads.as_ref(), mask),
            Op::ActiveMask { d } => {
                self.write(*d, Val::Uniform(mask));
            }
            Op::Trap => {
                self.put_mask(mask);
                self.call(helpers::trap, Detail::None);
            }
            Op::StackOverflow => {
                self.put_mask(mask);
                self.call(helpers::stack_overflow, Detail::None);
            }
            Op::Vote { mode, d, a, mask: members } => self.vote(*mode, *d, *a, members, mask, op),
            Op::Shuffle { .. } | Op::Match { .. } | Op::Redux { .. } | Op::Elect { .. } => {
                self.warp_operation(op, mask);
            }
            Op::Runtime { .. }
            | Op::CopyAsync { .. }
            | Op::LdMatrix { .. }
            | Op::StMatrix { .. }
            | Op::MovMatrix { .. }
            | Op::Mma { .. } => self.collective(op, mask),
            _ => self.lanewise(op, mask),
        }
    }

    /// Operations that treat every lane alike and look at no other.
    fn lanewise(&mut self, op: &Op, mask: Value) {
        if self.affine(op) {
            return;
        }
        let kind = self.with_rules(|rules| rules.operation(op));
        let rows = match kind {
            Kind::Uniform | Kind::Bottom => Some(1),
            Kind::Rows { stride: 0, .. } => Some(self.rows()),
            _ => None,
        };
        match rows {
            Some(rows) if self.results_are_flat(op) => self.lanewise_flat(op, rows, mask),
            _ => self.lanewise_vectors(op, mask),
        }
    }

    fn results_are_flat(&self, op: &Op) -> bool {
        // Predicates and narrow registers have no row form.
        let mut flat = true;
        let uniform = matches!(self.with_rules(|rules| rules.operation(op)), Kind::Uniform | Kind::Bottom);
        operands::results(op, &mut |r| {
            flat &= uniform || matches!(self.width(r), Width::B32 | Width::B64);
        });
        let mut inputs = true;
        operands::sources(op, &mut |r| {
            inputs &= uniform || matches!(self.width(r), Width::B32 | Width::B64) || self.kind(r) == Kind::Uniform
        });
        flat && inputs
    }

    fn lanewise_flat(&mut self, op: &Op, rows: usize, mask: Value) {
        let arguments = arguments(op);
        let values: Vec<Val> = arguments.iter().map(|a| self.argument(a)).collect();
        let mut results = Vec::new();
        operands::results(op, &mut |r| results.push(r));
        let mut all: Vec<Vec<Value>> = vec![Vec::new(); results.len()];
        for row in 0..rows {
            let scalars: Vec<Value> = values
                .iter()
                .map(|v| match v {
                    Val::Uniform(v) => *v,
                    Val::Rows { base, .. } => base[row],
                    Val::Extended { low: v, .. } | Val::Vectors(v) => v[0],
                    Val::Mask(v) => *v,
                })
                .collect();
            let made = match self.inline(op, &scalars, false) {
                Some(made) => made,
                None => {
                    let one = self.iconst(types::I32, 1);
                    self.put_mask(one);
                    for (i, (v, a)) in scalars.iter().zip(&arguments).enumerate() {
                        let v = match a {
                            Argument::Predicate(_) => self.b.ins().uextend(types::I32, *v),
                            Argument::Value(_, Width::Pred) => self.b.ins().uextend(types::I32, *v),
                            Argument::Value(..) => *v,
                        };
                        self.put(v, slot(i));
                    }
                    self.call_operation(op, &arguments, &results);
                    results
                        .iter()
                        .enumerate()
                        .map(|(i, r)| {
                            let width = self.width(*r);
                            let at = slot(arguments.len() + i);
                            if width == Width::Pred {
                                let v = self.take(types::I32, at);
                                let v = self.b.ins().ireduce(types::I8, v);
                                self.b.ins().band_imm_s(v, 1)
                            } else {
                                self.take(scalar_type(width), at)
                            }
                        })
                        .collect()
                }
            };
            for (i, v) in made.into_iter().enumerate() {
                all[i].push(v);
            }
        }
        let _used = mask;
        for (r, v) in results.into_iter().zip(all) {
            let value = if rows == 1 { Val::Uniform(v[0]) } else { Val::Rows { base: v, stride: 0 } };
            self.write(r, value);
        }
    }

    fn lanewise_vectors(&mut self, op: &Op, mask: Value) {
        let arguments = arguments(op);
        let mut results = Vec::new();
        operands::results(op, &mut |r| results.push(r));
        if let Some(made) = self.vectorized(op, &arguments) {
            for (r, v) in results.into_iter().zip(made) {
                self.write(r, v);
            }
            return;
        }
        self.put_mask(mask);
        for (i, a) in arguments.iter().enumerate() {
            let value = self.argument(a);
            self.put_argument(i, a, &value);
        }
        self.call_operation(op, &arguments, &results);
        self.take_results(&results, arguments.len());
    }

    /// Puts an operand's lanes into a slot.
    fn put_argument(&mut self, i: usize, argument: &Argument, value: &Val) {
        match argument {
            Argument::Predicate(_) | Argument::Value(_, Width::Pred) => {
                let bits = self.mask_bits(value);
                self.put(bits, slot(i));
            }
            Argument::Value(_, width) => {
                let vectors = self.expand(value, *width);
                self.put_vectors(&vectors, i);
            }
        }
    }

    /// Takes results that a helper has left in all lanes of the slots from `first`.
    pub(super) fn take_results(&mut self, results: &[Reg], first: usize) {
        for (i, r) in results.iter().enumerate() {
            let width = self.width(*r);
            let at = slot(first + i);
            let uniform = matches!(self.kind(*r), Kind::Uniform | Kind::Bottom);
            let value = match (width, uniform) {
                (Width::Pred, true) => {
                    let v = self.take(types::I32, at);
                    let v = self.b.ins().icmp_imm_s(cranelift_codegen::ir::condcodes::IntCC::NotEqual, v, 0);
                    Val::Uniform(v)
                }
                (Width::Pred, false) => Val::Mask(self.take(types::I32, at)),
                (_, true) => Val::Uniform(self.take(scalar_type(width), at)),
                (_, false) => {
                    Val::Vectors((0..vector_count(width)).map(|g| self.take(vector_type(width), at + 16 * g)).collect())
                }
            };
            self.write(*r, value);
        }
    }

    fn call_operation(&mut self, op: &Op, arguments: &[Argument], results: &[Reg]) {
        let arguments: Vec<Width> = arguments
            .iter()
            .map(|a| match a {
                Argument::Predicate(_) => Width::Pred,
                Argument::Value(_, width) => *width,
            })
            .collect();
        let results: Vec<Width> = results.iter().map(|r| self.width(*r)).collect();
        match super::scalar::supports(op) {
            Ok(()) => {
                let helper = helpers::for_operation(op);
                self.call(helper, Detail::Operation { op: op.clone(), arguments, results });
            }
            Err(what) => self.unsupported(what),
        }
    }

    /// The value of an argument.
    pub(super) fn argument(&mut self, argument: &Argument) -> Val {
        match argument {
            Argument::Predicate(p) => self.predicate(*p),
            Argument::Value(operand, width) => {
                let own = self.operand_width(operand, *width);
                let value = self.read(operand, own);
                self.resize(value, own, *width)
            }
        }
    }

    /// Sums and products of linear values stay linear. Whether the operation was one.
    fn affine(&mut self, op: &Op) -> bool {
        let kind = self.with_rules(|rules| rules.operation(op));
        let linear = match kind {
            Kind::Rows { stride, .. } => stride != 0,
            Kind::Extended { .. } => true,
            _ => false,
        };
        let shrinks = matches!(
            op,
            Op::Binary { op: Binary::And | Binary::Shr, a: Operand::Reg(r), b: Operand::Imm(_), .. }
                if matches!(self.kind(*r), Kind::Rows { aligned: true, .. })
        );
        let narrows =
            matches!(op, Op::Cvt { a: Operand::Reg(r), .. } if matches!(self.kind(*r), Kind::Extended { .. }));
        let vanishes =
            matches!(op, Op::Binary { op: Binary::Add | Binary::Sub, .. } | Op::Ternary { op: Ternary::Mad, .. })
                && kind.is_flat()
                && {
                    let mut curved = false;
                    operands::sources(op, &mut |r| curved |= !self.kind(r).is_flat());
                    curved
                };
        if !(linear || (shrinks && kind.is_flat()) || (narrows && kind.is_flat()) || vanishes) {
            return false;
        }
        let mut results = Vec::new();
        operands::results(op, &mut |r| results.push(r));
        let Some(d) = results.first().copied() else { return false };
        let width = self.width(d);
        let value = match op {
            Op::Binary { op: binary @ (Binary::Add | Binary::Sub), a, b, .. } => {
                let a = self.read(a, width);
                let b = self.read(b, width);
                self.add_values(a, b, *binary == Binary::Sub)
            }
            Op::Binary { op: Binary::Mul, ty, a, b, .. } => self.product(*ty, a, b, width),
            Op::Binary { op: Binary::Shl, a, b: Operand::Imm(k), .. } => {
                let a = self.read(a, width);
                self.scale_value(a, 1i64.wrapping_shl(*k as u32))
            }
            Op::Binary { op: binary @ (Binary::And | Binary::Shr), ty, a, b: Operand::Imm(k), .. } => {
                let Val::Rows { base, .. } = self.read(a, width) else { return false };
                let base: Vec<Value> = base
                    .into_iter()
                    .map(|v| match binary {
                        Binary::And => self.b.ins().band_imm_s(v, i64::from(*k as u32 as i32)),
                        _ if *ty == Type::S32 => self.b.ins().sshr_imm_s(v, *k as i64),
                        _ => self.b.ins().ushr_imm_s(v, *k as i64),
                    })
                    .collect();
                let stride = if let Kind::Rows { stride, .. } = kind { stride } else { 0 };
                Val::Rows { base, stride }
            }
            Op::Binary { op: Binary::MulWide, ty, a, b, .. } => self.wide_product(*ty, a, b),
            Op::Ternary { op: Ternary::Mad, ty, a, b, c, .. } => {
                let product = self.product(*ty, a, b, width);
                let c = self.read(c, width);
                self.add_values(product, c, false)
            }
            Op::Ternary { op: Ternary::MadWide, ty, a, b, c, .. } => {
                let product = self.wide_product(*ty, a, b);
                let c = self.read(c, Width::B64);
                self.add_values(product, c, false)
            }
            Op::Cvt { to, from, a, .. } => {
                let from_width = integer_width(*from).unwrap_or(width);
                let a = self.read(a, from_width);
                match (integer_width(*to), from_width) {
                    (Some(Width::B64), Width::B32) => self.widen_value(*from == Type::S32, a, 1),
                    (Some(Width::B32), Width::B64) => self.narrow_value(a),
                    _ => a,
                }
            }
            Op::SelP { a, b, p, .. } => {
                let Val::Uniform(flag) = self.predicate(*p) else { return false };
                let a = self.read(a, width);
                let b = self.read(b, width);
                self.select_values(flag, a, b)
            }
            _ => return false,
        };
        let value = match value {
            Val::Rows { base, stride: 0 } if self.rows() == 1 => Val::Uniform(base[0]),
            v => v,
        };
        self.write(d, value);
        true
    }

    fn select_values(&mut self, flag: Value, a: Val, b: Val) -> Val {
        match (a, b) {
            (
                Val::Extended { low, high, signed, stride, scale },
                Val::Extended { low: other_low, high: other_high, .. },
            ) => Val::Extended {
                low: low.iter().zip(other_low).map(|(a, b)| self.b.ins().select(flag, *a, b)).collect(),
                high: high.iter().zip(other_high).map(|(a, b)| self.b.ins().select(flag, *a, b)).collect(),
                signed,
                stride,
                scale,
            },
            (a, b) => {
                let stride = match (&a, &b) {
                    (Val::Rows { stride, .. }, _) | (_, Val::Rows { stride, .. }) => *stride,
                    _ => 0,
                };
                let (a, b) = (self.bases(&a), self.bases(&b));
                let base = a.iter().zip(b).map(|(a, b)| self.b.ins().select(flag, *a, b)).collect();
                Val::Rows { base, stride }
            }
        }
    }

    fn add_values(&mut self, a: Val, b: Val, subtract: bool) -> Val {
        let (a, b) = match (a, b) {
            (x, extended @ Val::Extended { .. }) if !matches!(x, Val::Extended { .. }) => (extended, x),
            other => other,
        };
        if let Val::Extended { low, high, signed, stride, scale } = a {
            let b = self.bases(&b);
            let high = high
                .iter()
                .zip(b)
                .map(|(a, b)| if subtract { self.b.ins().isub(*a, b) } else { self.b.ins().iadd(*a, b) })
                .collect();
            return Val::Extended { low, high, signed, stride, scale };
        }
        let stride = |v: &Val| if let Val::Rows { stride, .. } = v { *stride } else { 0 };
        let (sa, sb) = (stride(&a), stride(&b));
        let total = if subtract { sa.wrapping_sub(sb) } else { sa.wrapping_add(sb) };
        if let (Val::Uniform(a), Val::Uniform(b)) = (&a, &b) {
            return Val::Uniform(if subtract { self.b.ins().isub(*a, *b) } else { self.b.ins().iadd(*a, *b) });
        }
        let (a, b) = (self.bases(&a), self.bases(&b));
        let base = a
            .iter()
            .zip(b)
            .map(|(a, b)| if subtract { self.b.ins().isub(*a, b) } else { self.b.ins().iadd(*a, b) })
            .collect();
        Val::Rows { base, stride: total }
    }

    fn scale_value(&mut self, a: Val, by: i64) -> Val {
        match a {
            Val::Uniform(v) => Val::Uniform(self.b.ins().imul_imm_s(v, by)),
            Val::Rows { base, stride } => Val::Rows {
                base: base.into_iter().map(|v| self.b.ins().imul_imm_s(v, by)).collect(),
                stride: stride.wrapping_mul(by),
            },
            Val::Extended { low, high, signed, stride, scale } => Val::Extended {
                low,
                high: high.into_iter().map(|v| self.b.ins().imul_imm_s(v, by)).collect(),
                signed,
                stride,
                scale: scale.wrapping_mul(by),
            },
            other => other,
        }
    }

    /// A product, low half, of which one operand is constant or both are flat.
    fn product(&mut self, ty: Type, a: &Operand, b: &Operand, width: Width) -> Val {
        match (immediate(a), immediate(b)) {
            (_, Some(k)) => {
                let a = self.read(a, width);
                self.scale_value(a, extended_immediate(ty, k))
            }
            (Some(k), None) => {
                let b = self.read(b, width);
                self.scale_value(b, extended_immediate(ty, k))
            }
            _ => {
                let a = self.read(a, width);
                let b = self.read(b, width);
                if let (Val::Uniform(a), Val::Uniform(b)) = (&a, &b) {
                    return Val::Uniform(self.b.ins().imul(*a, *b));
                }
                let (a, b) = (self.bases(&a), self.bases(&b));
                Val::Rows { base: a.iter().zip(b).map(|(a, b)| self.b.ins().imul(*a, b)).collect(), stride: 0 }
            }
        }
    }

    fn wide_product(&mut self, ty: Type, a: &Operand, b: &Operand) -> Val {
        let signed = ty == Type::S32;
        match (immediate(a), immediate(b)) {
            (_, Some(k)) => {
                let a = self.read(a, Width::B32);
                self.widen_value(signed, a, extended_immediate(ty, k))
            }
            (Some(k), None) => {
                let b = self.read(b, Width::B32);
                self.widen_value(signed, b, extended_immediate(ty, k))
            }
            _ => {
                let a = self.read(a, Width::B32);
                let b = self.read(b, Width::B32);
                let a = self.widen_value(signed, a, 1);
                let b = self.widen_value(signed, b, 1);
                if let (Val::Uniform(a), Val::Uniform(b)) = (&a, &b) {
                    return Val::Uniform(self.b.ins().imul(*a, *b));
                }
                let (a, b) = (self.bases(&a), self.bases(&b));
                Val::Rows { base: a.iter().zip(b).map(|(a, b)| self.b.ins().imul(*a, b)).collect(), stride: 0 }
            }
        }
    }

    fn extend(&mut self, signed: bool, v: Value) -> Value {
        if signed { self.b.ins().sextend(types::I64, v) } else { self.b.ins().uextend(types::I64, v) }
    }

    fn widen_value(&mut self, signed: bool, a: Val, by: i64) -> Val {
        match a {
            Val::Uniform(v) => {
                let v = self.extend(signed, v);
                Val::Uniform(self.b.ins().imul_imm_s(v, by))
            }
            Val::Rows { base, stride: 0 } => {
                let base = base
                    .into_iter()
                    .map(|v| {
                        let v = self.extend(signed, v);
                        self.b.ins().imul_imm_s(v, by)
                    })
                    .collect();
                Val::Rows { base, stride: 0 }
            }
            Val::Rows { base, stride } => {
                let zero = self.iconst(types::I64, 0);
                let high = vec![zero; base.len()];
                Val::Extended { low: base, high, signed, stride: stride as i32, scale: by }
            }
            other => other,
        }
    }

    fn narrow_value(&mut self, a: Val) -> Val {
        match a {
            Val::Uniform(v) => Val::Uniform(self.b.ins().ireduce(types::I32, v)),
            Val::Rows { base, stride } => {
                Val::Rows { base: base.into_iter().map(|v| self.b.ins().ireduce(types::I32, v)).collect(), stride }
            }
            Val::Extended { low, high, stride, scale, .. } => {
                let base = low
                    .into_iter()
                    .zip(high)
                    .map(|(low, high)| {
                        let scaled = self.b.ins().imul_imm_s(low, scale as i32 as i64);
                        let high = self.b.ins().ireduce(types::I32, high);
                        self.b.ins().iadd(scaled, high)
                    })
                    .collect();
                Val::Rows { base, stride: i64::from(stride).wrapping_mul(scale) }
            }
            other => other,
        }
    }

    /// `cvta`.
    fn convert_address(&mut self, space: Space, d: Reg, a: &Operand, to_generic: bool) {
        let width = self.width(d);
        let own = self.operand_width(a, width);
        let value = self.read(a, own);
        let value = self.resize(value, own, Width::B64);
        let base = match space {
            Space::Shared => self.field(types::I64, offset_of!(Context, shared)),
            Space::Param => self.field(types::I64, offset_of!(Context, params)),
            Space::Local => self.field(types::I64, offset_of!(Context, local)),
            _ => {
                let value = self.resize(value, Width::B64, width);
                self.write(d, value);
                return;
            }
        };
        let base = if space == Space::Local {
            let stride = self.target.local_stride;
            let lanes = self.row_lanes() as i64;
            let bases = (0..self.rows() as i64).map(|r| self.b.ins().iadd_imm_s(base, r * lanes * stride)).collect();
            Val::Rows { base: bases, stride }
        } else {
            Val::Uniform(base)
        };
        let value = match (&value, &base) {
            (Val::Vectors(v), base) => {
                let base = self.expand(base, Width::B64);
                let sums = v
                    .iter()
                    .zip(base)
                    .map(|(v, b)| if to_generic { self.b.ins().iadd(*v, b) } else { self.b.ins().isub(*v, b) })
                    .collect();
                Val::Vectors(sums)
            }
            (Val::Extended { .. }, Val::Rows { .. }) => {
                let v = self.expand(&value, Width::B64);
                let base = self.expand(&base, Width::B64);
                let sums = v
                    .iter()
                    .zip(base)
                    .map(|(v, b)| if to_generic { self.b.ins().iadd(*v, b) } else { self.b.ins().isub(*v, b) })
                    .collect();
                Val::Vectors(sums)
            }
            _ => self.add_values(value, base, !to_generic),
        };
        let value = match value {
            Val::Rows { base, stride: 0 } if self.rows() == 1 => Val::Uniform(base[0]),
            v => v,
        };
        let value = self.resize(value, Width::B64, width);
        self.write(d, value);
    }

    fn special(&mut self, which: Special) -> Val {
        let irregular = self.target.class == super::kinds::RowClass::Irregular;
        let axis = |a: u8| usize::from(a.min(2));
        let constant = |e: &mut Self, v: i64| Val::Uniform(e.iconst(types::I32, v));
        let field = match which {
            Special::Tid(a) => {
                if irregular {
                    return Val::Vectors(self.lane_field(axis(a)));
                }
                let base = self.row_field(axis(a));
                if a == 0 {
                    return Val::Rows { base, stride: 1 };
                }
                return if base.len() == 1 { Val::Uniform(base[0]) } else { Val::Rows { base, stride: 0 } };
            }
            Special::LaneId => {
                let lanes = self.row_lanes() as i64;
                let base = (0..self.rows() as i64).map(|r| self.iconst(types::I32, r * lanes)).collect();
                return Val::Rows { base, stride: 1 };
            }
            Special::LaneMaskEq
            | Special::LaneMaskLe
            | Special::LaneMaskLt
            | Special::LaneMaskGe
            | Special::LaneMaskGt => {
                let vectors = (0..8u32)
                    .map(|g| {
                        let mask = |i: u32| {
                            let bit = 1u32 << (4 * g + i);
                            match which {
                                Special::LaneMaskEq => bit,
                                Special::LaneMaskLt => bit - 1,
                                Special::LaneMaskLe => bit | (bit - 1),
                                Special::LaneMaskGe => !(bit - 1),
                                _ => !(bit | (bit - 1)),
                            }
                        };
                        self.vector_constant32([mask(0), mask(1), mask(2), mask(3)])
                    })
                    .collect();
                return Val::Vectors(vectors);
            }
            Special::Ntid(a) => offset_of!(Context, block) + 4 * axis(a),
            Special::Ctaid(a) => offset_of!(Context, at) + 4 * axis(a),
            Special::Nctaid(a) => offset_of!(Context, grid) + 4 * axis(a),
            Special::ClusterNctaid(a) => offset_of!(Context, cluster) + 4 * axis(a),
            Special::ClusterId(a) | Special::ClusterCtaid(a) => {
                let at = self.field(types::I32, offset_of!(Context, at) + 4 * axis(a));
                let size = self.field(types::I32, offset_of!(Context, cluster) + 4 * axis(a));
                let v = if matches!(which, Special::ClusterId(_)) {
                    self.b.ins().udiv(at, size)
                } else {
                    self.b.ins().urem(at, size)
                };
                return Val::Uniform(v);
            }
            Special::NClusterId(a) => {
                let grid = self.field(types::I32, offset_of!(Context, grid) + 4 * axis(a));
                let size = self.field(types::I32, offset_of!(Context, cluster) + 4 * axis(a));
                return Val::Uniform(self.b.ins().udiv(grid, size));
            }
            Special::ClusterCtarank | Special::ClusterNctarank => {
                let mut rank = None;
                for a in [2u8, 1, 0] {
                    let size = self.field(types::I32, offset_of!(Context, cluster) + 4 * axis(a));
                    let part = if which == Special::ClusterCtarank {
                        let at = self.field(types::I32, offset_of!(Context, at) + 4 * axis(a));
                        self.b.ins().urem(at, size)
                    } else {
                        size
                    };
                    rank = Some(match rank {
                        None => part,
                        Some(before) => {
                            let scaled = self.b.ins().imul(before, size);
                            if which == Special::ClusterCtarank { self.b.ins().iadd(scaled, part) } else { scaled }
                        }
                    });
                }
                return match rank {
                    Some(v) => Val::Uniform(v),
                    None => constant(self, 0),
                };
            }
            Special::WarpId => offset_of!(Context, warp),
            Special::NWarpId => offset_of!(Context, warps),
            Special::DynamicSharedSize => offset_of!(Context, dynamic_shared),
            // The lower half: it is far below 4 GiB.
            Special::LocalSize => return Val::Uniform(self.field(types::I32, offset_of!(Context, local_bytes))),
            Special::TotalSharedSize => {
                let v = self.field(types::I64, offset_of!(Context, shared_bytes));
                return Val::Uniform(self.b.ins().ireduce(types::I32, v));
            }
            Special::SmId | Special::Zero => return constant(self, 0),
            Special::NSmId => return constant(self, 1),
            Special::GridId => return Val::Uniform(self.field(types::I64, offset_of!(Context, grid_id))),
            Special::Clock
            | Special::ClockHi
            | Special::Clock64
            | Special::GlobalTimer
            | Special::GlobalTimerLo
            | Special::GlobalTimerHi => {
                let clock = matches!(which, Special::Clock | Special::ClockHi | Special::Clock64);
                self.call(if clock { helpers::clock } else { helpers::timer }, Detail::None);
                let v = self.take(types::I64, slot(0));
                return match which {
                    Special::Clock64 | Special::GlobalTimer => Val::Uniform(v),
                    Special::ClockHi | Special::GlobalTimerHi => {
                        let high = self.b.ins().ushr_imm_s(v, 32);
                        Val::Uniform(self.b.ins().ireduce(types::I32, high))
                    }
                    _ => Val::Uniform(self.b.ins().ireduce(types::I32, v)),
                };
            }
        };
        Val::Uniform(self.field(types::I32, field))
    }

    /// `vote.sync` of lanes that all name the same members.
    fn vote(&mut self, mode: VoteMode, d: Reg, a: Predicate, members: &Operand, mask: Value, op: &Op) {
        let Val::Uniform(members) = self.read(members, Width::B32) else {
            self.warp_operation(op, mask);
            return;
        };
        let value = self.predicate(a);
        let bits = self.mask_bits(&value);
        let members = self.b.ins().band(members, mask);
        let yes = self.b.ins().band(bits, members);
        use cranelift_codegen::ir::condcodes::IntCC;
        let result = match mode {
            VoteMode::Ballot => yes,
            VoteMode::Any => self.b.ins().icmp_imm_s(IntCC::NotEqual, yes, 0),
            VoteMode::All => self.b.ins().icmp(IntCC::Equal, yes, members),
            VoteMode::Uni => {
                let none = self.b.ins().icmp_imm_s(IntCC::Equal, yes, 0);
                let all = self.b.ins().icmp(IntCC::Equal, yes, members);
                self.b.ins().bor(none, all)
            }
        };
        self.write(d, Val::Uniform(result));
    }

    /// Operations among the lanes of a warp, through a helper.
    fn warp_operation(&mut self, op: &Op, mask: Value) {
        if let Op::Shuffle { mode, d, p, a, b: Operand::Imm(b), c: Operand::Imm(c), .. } = op
            && self.constant_shuffle(*mode, *d, *p, a, *b as u32, *c as u32)
        {
            return;
        }
        self.collective(op, mask);
    }

    /// `shfl.sync` whose source lanes are known: vectors put together of at most two others each. Whether it is one.
    fn constant_shuffle(&mut self, mode: ShuffleMode, d: Reg, p: Option<Reg>, a: &Operand, b: u32, c: u32) -> bool {
        let mut holds = 0u32;
        let mut orders = [(0usize, 0usize, [0u8; 4]); 8];
        for (g, order) in orders.iter_mut().enumerate() {
            let mut from = [0u32; 4];
            for (i, from) in from.iter_mut().enumerate() {
                let lane = (4 * g + i) as u32;
                let (source, inside) = shuffle_source(mode, lane, b, c);
                *from = source;
                holds |= u32::from(inside) << lane;
            }
            let first = from[0] / 4;
            let second = from.iter().map(|l| l / 4).find(|v| *v != first).unwrap_or(first);
            if from.iter().any(|l| l / 4 != first && l / 4 != second) {
                return false;
            }
            let words = from.map(|l| (l % 4 + if l / 4 == first { 0 } else { 4 }) as u8);
            *order = (first as usize, second as usize, words);
        }
        let value = self.read(a, Width::B32);
        let vectors = self.expand(&value, Width::B32);
        let mixed = orders.map(|(first, second, words)| match words {
            [0, 1, 2, 3] => vectors[first],
            _ => self.shuffle(types::I32X4, vectors[first], vectors[second], words_order(words)),
        });
        self.write(d, Val::Vectors(mixed.to_vec()));
        if let Some(p) = p {
            let holds = self.iconst(types::I32, i64::from(holds));
            self.write(p, Val::Mask(holds));
        }
        true
    }

    /// Operations that a helper does for all lanes at once.
    fn collective(&mut self, op: &Op, mask: Value) {
        self.put_mask(mask);
        let arguments = arguments(op);
        for (i, a) in arguments.iter().enumerate() {
            let value = self.argument(a);
            self.put_argument(i, a, &value);
        }
        let mut results = Vec::new();
        operands::results(op, &mut |r| results.push(r));
        self.call_operation(op, &arguments, &results);
        self.take_results(&results, arguments.len());
    }
}
