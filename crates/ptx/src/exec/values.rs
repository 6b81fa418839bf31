//! Values of operands: reading, writing, and changing between their forms.

use super::code::{Emitter, Val, scalar_type, vector_count, vector_type};
use super::context::Context;
use super::kinds::Kind;
use crate::ir::{Operand, Predicate, Reg, Width};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::Variable;
use std::mem::offset_of;

impl Emitter<'_, '_> {
    /// The types of a register's variables.
    fn variable_types(&self, r: Reg) -> Vec<clif::Type> {
        let width = self.width(r);
        match self.kind(r) {
            Kind::Uniform | Kind::Bottom => vec![scalar_type(width)],
            Kind::Rows { .. } => vec![scalar_type(width); self.rows()],
            Kind::Extended { .. } => {
                let mut all = vec![types::I32; self.rows()];
                all.resize(2 * self.rows(), types::I64);
                all
            }
            Kind::Varying if width == Width::Pred && !self.spread[r.0 as usize] => vec![types::I32],
            Kind::Varying => vec![vector_type(width); vector_count(width)],
        }
    }

    /// The variables of a register.
    pub(super) fn variables(&mut self, r: Reg) -> Vec<Variable> {
        if let Some(Some(known)) = self.registers.get(r.0 as usize) {
            return known.clone();
        }
        let made: Vec<Variable> = self.variable_types(r).into_iter().map(|t| self.b.declare_var(t)).collect();
        self.registers[r.0 as usize] = Some(made.clone());
        made
    }

    /// The value of a register.
    pub(super) fn read_register(&mut self, r: Reg) -> Val {
        if let Some(values) = self.load_home(r) {
            let mask = self.width(r) == Width::Pred && !self.spread[r.0 as usize];
            return if mask { Val::Mask(values[0]) } else { Val::Vectors(values) };
        }
        let variables = self.variables(r);
        let mut values: Vec<Value> = variables.into_iter().map(|v| self.b.use_var(v)).collect();
        match self.kind(r) {
            Kind::Uniform | Kind::Bottom => Val::Uniform(values[0]),
            Kind::Rows { stride, .. } => Val::Rows { base: values, stride },
            Kind::Extended { signed, stride, scale } => {
                let high = values.split_off(self.rows());
                Val::Extended { low: values, high, signed, stride, scale }
            }
            Kind::Varying if self.width(r) == Width::Pred && !self.spread[r.0 as usize] => Val::Mask(values[0]),
            Kind::Varying => Val::Vectors(values),
        }
    }

    /// The value of an operand, in a width.
    pub(super) fn read(&mut self, operand: &Operand, width: Width) -> Val {
        match operand {
            Operand::Reg(r) => {
                let from = self.width(*r);
                let value = self.read_register(*r);
                self.resize(value, from, width)
            }
            Operand::Imm(v) if width == Width::B128 => {
                let low = self.iconst(types::I64, *v as i64);
                Val::Uniform(self.b.ins().uextend(types::I128, low))
            }
            Operand::Imm(v) => Val::Uniform(self.iconst(scalar_type(width), *v as i64)),
            Operand::Global(variable, offset) => {
                let base = self.target.variables.get(*variable as usize).copied().unwrap_or(0);
                let value = self.iconst(types::I64, base.wrapping_add_signed(*offset) as i64);
                let value = Val::Uniform(value);
                self.resize(value, Width::B64, width)
            }
            Operand::Shared(offset) | Operand::Local(offset) | Operand::Param(offset) => {
                Val::Uniform(self.iconst(scalar_type(width), *offset))
            }
        }
    }

    /// The value of a predicate.
    pub(super) fn predicate(&mut self, p: Predicate) -> Val {
        let value = self.read_register(p.register);
        if !p.negated {
            return value;
        }
        match value {
            Val::Uniform(v) => Val::Uniform(self.b.ins().bxor_imm_s(v, 1)),
            Val::Mask(v) => Val::Mask(self.b.ins().bnot(v)),
            Val::Vectors(v) => Val::Vectors(v.into_iter().map(|v| self.b.ins().bnot(v)).collect()),
            other => other,
        }
    }

    /// A varying or uniform predicate as one bit per lane.
    pub(super) fn mask_bits(&mut self, value: &Val) -> Value {
        match value {
            Val::Uniform(flag) => {
                let wide = self.b.ins().uextend(types::I32, *flag);
                self.b.ins().ineg(wide)
            }
            Val::Mask(bits) => *bits,
            Val::Vectors(lanes) => {
                let lanes = lanes.clone();
                self.pack_masks(&lanes)
            }
            Val::Rows { base, .. } | Val::Extended { low: base, .. } => base[0],
        }
    }

    /// 32-bit lane masks as one bit per lane.
    pub(super) fn pack_masks(&mut self, lanes: &[Value]) -> Value {
        let halves: Vec<Value> = lanes.chunks(2).map(|p| self.b.ins().snarrow(p[0], p[1])).collect();
        self.pack_half_masks(&halves)
    }

    /// 16-bit lane masks as one bit per lane.
    pub(super) fn pack_half_masks(&mut self, halves: &[Value]) -> Value {
        let bits: Vec<Value> = halves
            .chunks(2)
            .map(|p| {
                let bytes = self.b.ins().snarrow(p[0], p[1]);
                self.b.ins().vhigh_bits(types::I32, bytes)
            })
            .collect();
        let high = self.b.ins().ishl_imm_s(bits[1], 16);
        self.b.ins().bor(bits[0], high)
    }

    /// A mask as vectors of all-ones and zeros as wide as a register of a width. Remembered within a block.
    pub(super) fn unpack_mask(&mut self, mask: Value, width: Width) -> Vec<Value> {
        let Some(block) = self.b.current_block() else { return vec![] };
        let key = (mask, block, if width == Width::Pred { Width::B32 } else { width });
        if let Some(known) = self.vector_masks.get(&key) {
            return known.clone();
        }
        let made = match width {
            Width::Pred | Width::B32 => {
                let all = self.b.ins().splat(types::I32X4, mask);
                (0..8)
                    .map(|g| {
                        let bits: Vec<u32> = (0..4).map(|i| 1u32 << (4 * g + i)).collect();
                        let bits = self.vector_constant32([bits[0], bits[1], bits[2], bits[3]]);
                        let picked = self.b.ins().band(all, bits);
                        self.b.ins().icmp(IntCC::Equal, picked, bits)
                    })
                    .collect()
            }
            Width::B16 => {
                let words = self.unpack_mask(mask, Width::B32);
                words.chunks(2).map(|p| self.b.ins().snarrow(p[0], p[1])).collect()
            }
            Width::B64 => {
                let words = self.unpack_mask(mask, Width::B32);
                words.iter().flat_map(|w| [self.b.ins().swiden_low(*w), self.b.ins().swiden_high(*w)]).collect()
            }
            Width::B128 => (0..32)
                .map(|lane| {
                    let bit = self.b.ins().ushr_imm_s(mask, lane);
                    let bit = self.b.ins().band_imm_s(bit, 1);
                    let bit = self.b.ins().uextend(types::I64, bit);
                    let bit = self.b.ins().ineg(bit);
                    self.b.ins().iconcat(bit, bit)
                })
                .collect::<Vec<_>>(),
        };
        self.vector_masks.insert(key, made.clone());
        made
    }

    pub(super) fn vector_constant32(&mut self, lanes: [u32; 4]) -> Value {
        let bytes: Vec<u8> = lanes.iter().flat_map(|l| l.to_le_bytes()).collect();
        self.vector_constant(types::I32X4, bytes)
    }

    pub(super) fn vector_constant(&mut self, ty: clif::Type, bytes: Vec<u8>) -> Value {
        if bytes.iter().all(|b| *b == 0) {
            let zero = self.b.ins().iconst(ty.lane_type(), 0);
            return self.b.ins().splat(ty, zero);
        }
        let constant = self.b.func.dfg.constants.insert(clif::ConstantData::from(bytes));
        self.b.ins().vconst(ty, constant)
    }

    pub(super) fn splat(&mut self, value: Value, width: Width) -> Value {
        match width {
            Width::B128 => value,
            _ => self.b.ins().splat(vector_type(width), value),
        }
    }

    /// Shuffles bytes of two vectors of any type; the result has the given type.
    pub(super) fn shuffle(&mut self, ty: clif::Type, a: Value, b: Value, order: [u8; 16]) -> Value {
        let a = self.cast(types::I8X16, a);
        let b = self.cast(types::I8X16, b);
        let order = self.b.func.dfg.immediates.push(clif::ConstantData::from(order.to_vec()));
        let mixed = self.b.ins().shuffle(a, b, order);
        self.cast(ty, mixed)
    }

    /// The same bits as another type.
    pub(super) fn cast(&mut self, ty: clif::Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(clif::Endianness::Little);
        self.b.ins().bitcast(ty, flags, value)
    }

    /// All lanes in vectors.
    pub(super) fn expand(&mut self, value: &Val, width: Width) -> Vec<Value> {
        match value {
            Val::Vectors(v) => v.clone(),
            Val::Mask(bits) => self.unpack_mask(*bits, Width::B32),
            Val::Uniform(flag) if width == Width::Pred => {
                let bits = self.mask_bits(&Val::Uniform(*flag));
                let all = self.b.ins().splat(types::I32X4, bits);
                vec![all; 8]
            }
            Val::Uniform(v) => {
                let all = self.splat(*v, width);
                vec![all; vector_count(width)]
            }
            Val::Rows { base, stride } => self.expand_rows(base, *stride, width),
            Val::Extended { low, high, signed, stride, scale } => {
                let low = self.expand_rows(low, i64::from(*stride), Width::B32);
                let wide: Vec<Value> = low
                    .iter()
                    .flat_map(|v| {
                        if *signed {
                            [self.b.ins().swiden_low(*v), self.b.ins().swiden_high(*v)]
                        } else {
                            [self.b.ins().uwiden_low(*v), self.b.ins().uwiden_high(*v)]
                        }
                    })
                    .collect();
                let high: Vec<Value> = high.iter().map(|h| self.b.ins().splat(types::I64X2, *h)).collect();
                let per_row = 16 / self.rows();
                let scaled: Vec<Value> = wide
                    .into_iter()
                    .map(|v| {
                        if *scale == 1 {
                            v
                        } else if *scale > 0 && (*scale as u64).is_power_of_two() {
                            let amount = self.iconst(types::I32, i64::from(scale.trailing_zeros()));
                            self.b.ins().ishl(v, amount)
                        } else {
                            let by = self.iconst(types::I64, *scale);
                            let by = self.b.ins().splat(types::I64X2, by);
                            self.b.ins().imul(v, by)
                        }
                    })
                    .collect();
                scaled.into_iter().enumerate().map(|(g, v)| self.b.ins().iadd(v, high[g / per_row])).collect()
            }
        }
    }

    fn expand_rows(&mut self, base: &[Value], stride: i64, width: Width) -> Vec<Value> {
        let splats: Vec<Value> = base.iter().map(|v| self.splat(*v, width)).collect();
        let groups = vector_count(width);
        let lanes = 32 / groups;
        let row = self.row_lanes();
        (0..groups)
            .map(|g| {
                let first = g * lanes;
                let all = splats[first / row];
                if stride == 0 {
                    return all;
                }
                let places = (0..lanes).map(|i| stride.wrapping_mul((first % row + i) as i64));
                let bytes: Vec<u8> = match width {
                    Width::B64 => places.flat_map(i64::to_le_bytes).collect(),
                    _ => places.flat_map(|v| (v as u32).to_le_bytes()).collect(),
                };
                let steps = self.vector_constant(vector_type(width), bytes);
                self.b.ins().iadd(all, steps)
            })
            .collect()
    }

    /// Changes the width: narrower drops high bits, wider gets zeros.
    pub(super) fn resize(&mut self, value: Val, from: Width, to: Width) -> Val {
        if from == to || from == Width::Pred || to == Width::Pred {
            return value;
        }
        match value {
            Val::Uniform(v) => Val::Uniform(self.resize_scalar(v, from, to)),
            Val::Rows { base, stride: 0 } => {
                let base: Vec<Value> = base.into_iter().map(|v| self.resize_scalar(v, from, to)).collect();
                if to == Width::B16 {
                    let words = self.expand_rows_narrow(&base);
                    return Val::Vectors(words);
                }
                Val::Rows { base, stride: 0 }
            }
            Val::Rows { base, stride } if (from, to) == (Width::B64, Width::B32) => {
                Val::Rows { base: base.into_iter().map(|v| self.b.ins().ireduce(types::I32, v)).collect(), stride }
            }
            other => {
                let vectors = self.expand(&other, from);
                Val::Vectors(self.resize_vectors(vectors, from, to))
            }
        }
    }

    fn expand_rows_narrow(&mut self, base: &[Value]) -> Vec<Value> {
        let splats: Vec<Value> = base.iter().map(|v| self.b.ins().splat(types::I16X8, *v)).collect();
        let row = self.row_lanes();
        (0..4).map(|g| splats[g * 8 / row]).collect()
    }

    fn resize_scalar(&mut self, v: Value, from: Width, to: Width) -> Value {
        let ty = scalar_type(to);
        if super::site::bytes(to) < super::site::bytes(from) {
            self.b.ins().ireduce(ty, v)
        } else {
            self.b.ins().uextend(ty, v)
        }
    }

    pub(super) fn resize_vectors(&mut self, v: Vec<Value>, from: Width, to: Width) -> Vec<Value> {
        match (from, to) {
            (Width::B16, Width::B32) | (Width::B32, Width::B64) => {
                v.iter().flat_map(|v| [self.b.ins().uwiden_low(*v), self.b.ins().uwiden_high(*v)]).collect()
            }
            (Width::B16, Width::B64) => {
                let words = self.resize_vectors(v, Width::B16, Width::B32);
                self.resize_vectors(words, Width::B32, Width::B64)
            }
            (Width::B64, Width::B32) => v
                .chunks(2)
                .map(|p| {
                    let order = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
                    self.shuffle(types::I32X4, p[0], p[1], order)
                })
                .collect(),
            (Width::B32, Width::B16) => {
                let low = self.vector_constant32([0xffff; 4]);
                v.chunks(2)
                    .map(|p| {
                        let a = self.b.ins().band(p[0], low);
                        let b = self.b.ins().band(p[1], low);
                        self.b.ins().unarrow(a, b)
                    })
                    .collect()
            }
            (Width::B64, Width::B16) => {
                let words = self.resize_vectors(v, Width::B64, Width::B32);
                self.resize_vectors(words, Width::B32, Width::B16)
            }
            (Width::B128, _) => {
                self.unsupported("a 128-bit register here");
                let zero = self.iconst(types::I32, 0);
                let zero = self.b.ins().splat(types::I32X4, zero);
                vec![self.cast(vector_type(to), zero); vector_count(to)]
            }
            (_, Width::B128) => v,
            _ => v,
        }
    }

    /// Writes a register, keeping the lanes outside of `blend`.
    pub(super) fn write(&mut self, r: Reg, value: Val) {
        let width = self.width(r);
        if self.has_home(r) {
            return self.write_home(r, width, &value);
        }
        let variables = self.variables(r);
        match self.kind(r) {
            Kind::Uniform | Kind::Bottom => match value {
                Val::Uniform(v) => self.b.def_var(variables[0], v),
                other => {
                    self.unsupported(format!("a value that should be uniform but is {other:?}"));
                }
            },
            Kind::Rows { stride, .. } => match value {
                Val::Uniform(v) => variables.iter().for_each(|x| self.b.def_var(*x, v)),
                Val::Rows { base, stride: s } if s == stride || (s as i32 == stride as i32 && width == Width::B32) => {
                    variables.iter().zip(base).for_each(|(x, v)| self.b.def_var(*x, v));
                }
                other => self.unsupported(format!("a value that should be linear in rows but is {other:?}")),
            },
            Kind::Extended { .. } => match value {
                Val::Extended { low, high, .. } => {
                    variables.iter().zip(low.into_iter().chain(high)).for_each(|(x, v)| self.b.def_var(*x, v));
                }
                other => self.unsupported(format!("a value that should be extended rows but is {other:?}")),
            },
            Kind::Varying if width == Width::Pred && !self.spread[r.0 as usize] => {
                let mut bits = self.mask_bits(&value);
                if let Some(mask) = self.blend {
                    let old = self.b.use_var(variables[0]);
                    let new = self.b.ins().band(bits, mask);
                    let kept = self.b.ins().band_not(old, mask);
                    bits = self.b.ins().bor(new, kept);
                }
                self.b.def_var(variables[0], bits);
            }
            Kind::Varying => {
                let mut vectors = self.expand(&value, width);
                if let Some(mask) = self.blend {
                    let masks = self.unpack_mask(mask, width);
                    for (i, v) in vectors.iter_mut().enumerate() {
                        let old = self.b.use_var(variables[i]);
                        *v = self.b.ins().bitselect(masks[i], *v, old);
                    }
                }
                variables.iter().zip(vectors).for_each(|(x, v)| self.b.def_var(*x, v));
            }
        }
    }

    /// As [`Emitter::write`], of a varying register that has a home.
    fn write_home(&mut self, r: Reg, width: Width, value: &Val) {
        let narrow = width == Width::Pred && !self.spread[r.0 as usize];
        let mut new = if narrow { vec![self.mask_bits(value)] } else { self.expand(value, width) };
        if let Some(mask) = self.blend
            && let Some(old) = self.load_home(r)
        {
            let masks = if narrow { vec![mask] } else { self.unpack_mask(mask, width) };
            for ((new, old), mask) in new.iter_mut().zip(old).zip(masks) {
                *new = if narrow {
                    let (new, old) = (self.b.ins().band(*new, mask), self.b.ins().band_not(old, mask));
                    self.b.ins().bor(new, old)
                } else {
                    self.b.ins().bitselect(mask, *new, old)
                };
            }
        }
        self.store_home(r, &new);
    }

    /// Scalars of a flat or row value, one per row.
    pub(super) fn bases(&self, value: &Val) -> Vec<Value> {
        match value {
            Val::Uniform(v) => vec![*v; self.rows()],
            Val::Rows { base, .. } => base.clone(),
            _ => vec![],
        }
    }

    /// A per-row or per-warp special value.
    pub(super) fn row_field(&mut self, which: usize) -> Vec<Value> {
        let offset = [offset_of!(Context, row_x), offset_of!(Context, row_y), offset_of!(Context, row_z)][which];
        (0..self.rows()).map(|row| self.field(types::I32, offset + 4 * row)).collect()
    }

    /// A table with one 32-bit element per lane.
    pub(super) fn lane_field(&mut self, which: usize) -> Vec<Value> {
        let offset = [offset_of!(Context, lane_x), offset_of!(Context, lane_y), offset_of!(Context, lane_z)][which];
        (0..8)
            .map(|g| {
                self.b.ins().load(
                    types::I32X4,
                    MemFlagsData::new().with_notrap(),
                    self.context,
                    (offset + 16 * g) as i32,
                )
            })
            .collect()
    }
}
