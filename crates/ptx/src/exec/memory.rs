//! Loads, stores and atomics.
//!
//! Uniform addresses become scalar accesses, addresses that run along a row vector accesses; both after one check of
//! the whole range. Everything else, and every access that fails a check, goes to a helper, which looks at each lane.

use super::code::{Emitter, Val, scalar_type, vector_count, vector_type};
use super::context::Context;
use super::helpers;
use super::pin::Pins;
use super::site::{Access, Detail, Form, bytes, bytes_of, slot};
use crate::ir::{Address, AtomicOp, Operand, Reg, Semantics, Space, Type, Width};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, MemFlagsData, Value, types};
use std::mem::offset_of;

/// An address that one check per row can vouch for.
struct Linear {
    /// Host addresses, one for the warp or one per row.
    pointers: Vec<Value>,
    /// Conditions under which the pointers are right and the ranges accessible.
    conditions: Vec<Value>,
    stride: i64,
}

fn is_wide(space: Space) -> bool {
    matches!(space, Space::Generic | Space::Global | Space::Const)
}

pub(super) fn is_signed(ty: Type) -> bool {
    matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64)
}

/// The integer of so many bytes, up to eight.
fn integer(size: usize) -> types::Type {
    match size {
        1 => types::I8,
        2 => types::I16,
        4 => types::I32,
        _ => types::I64,
    }
}

/// Flags of accesses that may fault.
pub(super) fn faulting() -> MemFlagsData {
    MemFlagsData::new()
}

impl Emitter<'_, '_> {
    fn address_value(&mut self, address: &Address) -> Val {
        let width = if is_wide(address.space) { Width::B64 } else { Width::B32 };
        match (&address.base, address.space) {
            // Module variables are known to lie in the window, as are offsets of the other spaces.
            (Operand::Reg(_) | Operand::Global(..) | Operand::Imm(_), _) => self.read(&address.base, width),
            (Operand::Shared(offset) | Operand::Local(offset) | Operand::Param(offset), _) => {
                Val::Uniform(self.iconst(scalar_type(width), *offset))
            }
        }
    }

    /// Whether `pointer - base` lies at most `limit` above zero and is aligned: one comparison, since misaligned
    /// differences rotate into large ones.
    fn in_range(&mut self, relative: Value, limit: u64, align: usize) -> Value {
        let shift = align.trailing_zeros();
        let rotated = if shift == 0 { relative } else { self.b.ins().rotr_imm_s(relative, i64::from(shift)) };
        let limit = self.iconst(types::I64, (limit >> shift) as i64);
        self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, rotated, limit)
    }

    /// The address as something to check once per row, if it is.
    fn linear(&mut self, value: &Val, address: &Address, lane_bytes: usize, align: usize) -> Option<Linear> {
        let lanes = self.row_lanes();
        let mut conditions = Vec::new();
        let (bases, stride): (Vec<Value>, i64) = match value {
            Val::Uniform(v) => (vec![*v], 0),
            Val::Rows { base, stride } => (base.clone(), *stride),
            Val::Extended { low, high, signed, stride, scale } => {
                let total = i64::from(*stride).wrapping_mul(*scale);
                if total != lane_bytes as i64 {
                    return None;
                }
                let reach = i64::from(*stride) * (lanes as i64 - 1);
                let mut bases = Vec::new();
                for (low, high) in low.iter().zip(high) {
                    let wide = if *signed {
                        self.b.ins().sextend(types::I64, *low)
                    } else {
                        self.b.ins().uextend(types::I64, *low)
                    };
                    let end = self.b.ins().iadd_imm_s(wide, reach);
                    let short = self.b.ins().ireduce(types::I32, end);
                    let back = if *signed {
                        self.b.ins().sextend(types::I64, short)
                    } else {
                        self.b.ins().uextend(types::I64, short)
                    };
                    conditions.push(self.b.ins().icmp(IntCC::Equal, end, back));
                    let scaled = self.b.ins().imul_imm_s(wide, *scale);
                    bases.push(self.b.ins().iadd(scaled, *high));
                }
                (bases, total)
            }
            _ => return None,
        };
        let span = if stride == 0 { lane_bytes } else { lane_bytes * lanes } as u64;
        if stride != 0 && stride != lane_bytes as i64 {
            return None;
        }
        let mut pointers = Vec::new();
        match address.space {
            Space::Generic | Space::Global | Space::Const => {
                let window = self.target.window;
                for base in bases {
                    let pointer =
                        if address.offset == 0 { base } else { self.b.ins().iadd_imm_s(base, address.offset) };
                    let origin = self.iconst(types::I64, window.base as i64);
                    let relative = self.b.ins().isub(pointer, origin);
                    let ok = self.in_range(relative, window.size.saturating_sub(span), align);
                    conditions.push(ok);
                    pointers.push(pointer);
                }
            }
            Space::Shared => {
                let shared = self.field(types::I64, offset_of!(Context, shared));
                let size = self.field(types::I64, offset_of!(Context, shared_bytes));
                for base in bases {
                    let wide = self.b.ins().uextend(types::I64, base);
                    let offset = self.b.ins().iadd_imm_s(wide, address.offset);
                    let end = self.b.ins().iadd_imm_s(offset, span as i64);
                    // Both bounds are multiples of the alignment, so rotating keeps their order and makes misaligned ends
                    // huge. An offset below zero makes a huge end or a huge beginning.
                    let shift = i64::from(align.trailing_zeros());
                    let (turned, limit) = if shift == 0 {
                        (end, size)
                    } else {
                        (self.b.ins().rotr_imm_s(end, shift), self.b.ins().ushr_imm_s(size, shift))
                    };
                    conditions.push(self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, turned, limit));
                    if address.offset < 0 {
                        conditions.push(self.b.ins().icmp(IntCC::UnsignedLessThan, offset, end));
                    }
                    pointers.push(self.b.ins().iadd(shared, offset));
                }
            }
            Space::Param => {
                let params = self.field(types::I64, offset_of!(Context, params));
                let size = i64::from(self.target.kernel.param_bytes);
                for base in bases {
                    let wide = self.b.ins().uextend(types::I64, base);
                    let offset = self.b.ins().iadd_imm_s(wide, address.offset);
                    let limit = self.iconst(types::I64, size - span as i64);
                    let fits =
                        if size < span as i64 { IntCC::UnsignedLessThan } else { IntCC::UnsignedLessThanOrEqual };
                    conditions.push(self.b.ins().icmp(fits, offset, limit));
                    pointers.push(self.b.ins().iadd(params, offset));
                }
            }
            Space::Local => return None,
        }
        Some(Linear { pointers, conditions, stride })
    }

    /// Puts addresses into slot 0.
    fn put_address(&mut self, value: &Val, space: Space) -> Form {
        let lanes = self.row_lanes();
        let wide = is_wide(space);
        match value {
            Val::Uniform(v) => {
                let v = if wide { *v } else { self.b.ins().uextend(types::I64, *v) };
                self.put(v, slot(0));
                Form::Uniform
            }
            Val::Rows { base, stride } => {
                for (i, v) in base.iter().enumerate() {
                    let v = if wide { *v } else { self.b.ins().uextend(types::I64, *v) };
                    self.put(v, slot(0) + 8 * i);
                }
                if wide { Form::Rows { lanes, stride: *stride } } else { Form::NarrowRows { lanes, stride: *stride } }
            }
            Val::Extended { low, high, signed, stride, scale } => {
                for (i, v) in low.iter().enumerate() {
                    self.put(*v, slot(0) + 8 * i);
                }
                for (i, v) in high.iter().enumerate() {
                    self.put(*v, slot(0) + 8 * (low.len() + i));
                }
                Form::Extended { lanes, signed: *signed, stride: *stride, scale: *scale }
            }
            other => {
                let vectors = self.expand(other, if wide { Width::B64 } else { Width::B32 });
                self.put_vectors(&vectors, 0);
                if wide { Form::Wide } else { Form::Narrow }
            }
        }
    }

    /// As [`Emitter::require`], and has fresh results ready.
    fn require_ready(&mut self, conditions: &[Value], slow: Block) -> Option<Pins> {
        let (first, rest) = conditions.split_first()?;
        let pins = self.require_with_pins(*first, slow);
        self.require(rest, slow);
        pins
    }

    /// Jumps to `slow` unless all conditions hold.
    pub(super) fn require(&mut self, conditions: &[Value], slow: Block) {
        for condition in conditions {
            let next = self.b.create_block();
            self.b.ins().brif(*condition, next, &[] as &[BlockArg], slow, &[] as &[BlockArg]);
            self.start(next);
        }
    }

    pub(super) fn is_full(&mut self, mask: Value) -> Option<Value> {
        (!self.always_full()).then(|| self.b.ins().icmp_imm_s(IntCC::Equal, mask, -1))
    }

    /// `ld`.
    pub(super) fn load(&mut self, ty: Type, d: &[Option<Reg>], address: &Address, semantics: Semantics, mask: Value) {
        let size = bytes_of(ty);
        let lane_bytes = size * d.len();
        let align = lane_bytes.min(16);
        let widths: Vec<Width> =
            d.iter().map(|d| d.map_or_else(|| super::site::width_of(ty), |r| self.width(r))).collect();
        let value = self.address_value(address);
        let weak = semantics == Semantics::Weak;
        if address.space == Space::Param
            && let Operand::Param(offset) = address.base
        {
            let offset = offset + address.offset;
            if offset >= 0 && offset as usize + lane_bytes <= self.target.kernel.param_bytes as usize {
                let params = self.field(types::I64, offset_of!(Context, params));
                let flags = MemFlagsData::new().with_notrap().with_readonly().with_can_move();
                for (i, d) in d.iter().enumerate() {
                    let Some(d) = d else { continue };
                    let v = self.scalar_load(ty, self.width(*d), flags, params, offset as i32 + (i * size) as i32);
                    self.write(*d, Val::Uniform(v));
                }
                return;
            }
        }
        let linear = self.linear(&value, address, lane_bytes, align);
        let slow = self.b.create_block();
        let merge = self.b.create_block();
        self.b.set_cold_block(slow);
        let mut pins = None;
        let mut flat = None;
        match linear {
            Some(linear) if linear.stride == 0 => {
                flat = Some(linear.pointers.len());
                if linear.pointers.len() > 1 && !self.always_full() {
                    // A row without active lanes may point anywhere.
                    let lanes = self.row_lanes();
                    for row in 0..linear.pointers.len() {
                        let bits = ((1i64 << lanes) - 1) << (lanes * row);
                        let some = self.b.ins().band_imm_s(mask, i64::from(bits as u32 as i32));
                        self.require(&[some], slow);
                    }
                }
                pins = self.require_ready(&linear.conditions, slow);
                if !weak && lane_bytes > 8 {
                    // No instruction here reads so much at once and in order with its neighbours; the helper's does.
                    for width in &widths {
                        for _ in &linear.pointers {
                            self.b.append_block_param(merge, scalar_type(*width));
                        }
                    }
                    self.b.ins().jump(slow, &[] as &[BlockArg]);
                } else {
                    let mut rows = Vec::new();
                    for pointer in &linear.pointers {
                        rows.push(self.load_vector(ty, &widths, *pointer, weak));
                    }
                    let mut loaded: Vec<BlockArg> = Vec::new();
                    for i in 0..widths.len() {
                        for row in &rows {
                            loaded.push(row[i].into());
                            let ty = self.b.func.dfg.value_type(row[i]);
                            self.b.append_block_param(merge, ty);
                        }
                    }
                    self.b.ins().jump(merge, &loaded);
                }
            }
            Some(linear) if weak && self.can_stream(size, d.len(), &widths) => {
                pins = self.require_ready(&linear.conditions, slow);
                // Shared memory is all there, so lanes that are not active may read it too.
                if address.space != Space::Shared {
                    self.require_mapped(mask, &linear.pointers, lane_bytes, slow);
                }
                let elements = self.stream_in(ty, d.len(), &widths, &linear.pointers);
                let mut loaded: Vec<BlockArg> = Vec::new();
                for v in elements.iter().flatten() {
                    loaded.push((*v).into());
                    let ty = self.b.func.dfg.value_type(*v);
                    self.b.append_block_param(merge, ty);
                }
                self.b.ins().jump(merge, &loaded);
            }
            _ => {
                for width in &widths {
                    for _ in 0..vector_count(*width) {
                        self.b.append_block_param(merge, vector_type(*width));
                    }
                }
                self.b.ins().jump(slow, &[] as &[BlockArg]);
            }
        }
        // Each lane by itself.
        self.start(slow);
        self.release_pins(pins);
        self.put_mask(mask);
        let form = self.put_address(&value, address.space);
        self.call(
            helpers::load,
            Detail::Memory(Access {
                space: address.space,
                form,
                offset: address.offset,
                ty,
                count: d.len(),
                widths: widths.clone(),
                wanted: d.iter().map(Option::is_some).collect(),
                atomic: None,
            }),
        );
        if let Some(rows) = flat {
            let mut loaded: Vec<BlockArg> = Vec::new();
            for (i, width) in widths.iter().enumerate() {
                for row in 0..rows {
                    let lane = row * self.row_lanes();
                    let at = value_slot(&widths, i) + lane * bytes(*width);
                    loaded.push(self.take(scalar_type(*width), at).into());
                }
            }
            self.b.ins().jump(merge, &loaded);
        } else {
            let mut loaded: Vec<BlockArg> = Vec::new();
            for (i, width) in widths.iter().enumerate() {
                for g in 0..vector_count(*width) {
                    loaded.push(self.take(vector_type(*width), value_slot(&widths, i) + 16 * g).into());
                }
            }
            self.b.ins().jump(merge, &loaded);
        }
        self.start(merge);
        let all: Vec<Value> = self.b.block_params(merge).to_vec();
        let mut rest = all.as_slice();
        for (d, width) in d.iter().zip(&widths) {
            let count = flat.unwrap_or_else(|| vector_count(*width));
            let (mine, others) = rest.split_at(count);
            rest = others;
            let Some(d) = d else { continue };
            let value = match flat {
                Some(1) => Val::Uniform(mine[0]),
                Some(_) if *width == Width::B16 => Val::Vectors(self.narrow_rows(mine)),
                Some(_) => Val::Rows { base: mine.to_vec(), stride: 0 },
                None => Val::Vectors(mine.to_vec()),
            };
            self.write(*d, value);
        }
    }

    fn narrow_rows(&mut self, rows: &[Value]) -> Vec<Value> {
        let row = self.row_lanes();
        let all: Vec<Value> = rows.iter().map(|v| self.b.ins().splat(types::I16X8, *v)).collect();
        (0..4).map(|g| all[g * 8 / row]).collect()
    }

    fn scalar_load(&mut self, ty: Type, width: Width, flags: MemFlagsData, pointer: Value, offset: i32) -> Value {
        let to = scalar_type(width);
        let size = bytes_of(ty);
        match (size, is_signed(ty)) {
            (1, false) => self.b.ins().uload8(to, flags, pointer, offset),
            (1, true) => self.b.ins().sload8(to, flags, pointer, offset),
            (2, false) if width != Width::B16 => self.b.ins().uload16(to, flags, pointer, offset),
            (2, true) if width != Width::B16 => self.b.ins().sload16(to, flags, pointer, offset),
            (4, false) if width == Width::B64 => self.b.ins().uload32(flags, pointer, offset),
            (4, true) if width == Width::B64 => self.b.ins().sload32(flags, pointer, offset),
            _ => self.b.ins().load(to, flags, pointer, offset),
        }
    }

    /// The elements of one vector in memory, read at once up to 16 bytes: programs rely on a flag and the value beside it
    /// coming together, as GPUs do it.
    fn load_vector(&mut self, ty: Type, widths: &[Width], pointer: Value, weak: bool) -> Vec<Value> {
        let size = bytes_of(ty);
        let total = size * widths.len();
        if widths.len() == 1 || !matches!(total, 2 | 4 | 8 | 16) {
            let mut elements = Vec::new();
            for (i, width) in widths.iter().enumerate() {
                elements.push(if weak || size > 8 {
                    self.scalar_load(ty, *width, faulting(), pointer, (i * size) as i32)
                } else {
                    self.atomic_scalar_load(ty, *width, pointer, (i * size) as i64)
                });
            }
            return elements;
        }
        let element = integer(size);
        if total == 16 {
            let whole = element.by((16 / size) as u32).unwrap_or(types::I64X2);
            let whole = self.b.ins().load(whole, faulting(), pointer, 0);
            let mut elements = Vec::new();
            for (i, width) in widths.iter().enumerate() {
                let v = self.b.ins().extractlane(whole, i as u8);
                elements.push(self.extend_to(v, scalar_type(*width), is_signed(ty)));
            }
            return elements;
        }
        let unit = integer(total);
        let whole = if weak {
            self.b.ins().load(unit, faulting(), pointer, 0)
        } else {
            self.b.ins().atomic_load(unit, faulting(), pointer)
        };
        let mut elements = Vec::new();
        for (i, width) in widths.iter().enumerate() {
            let v = self.b.ins().ushr_imm_s(whole, (8 * i * size) as i64);
            let v = self.b.ins().ireduce(element, v);
            elements.push(self.extend_to(v, scalar_type(*width), is_signed(ty)));
        }
        elements
    }

    fn extend_to(&mut self, v: Value, to: types::Type, signed: bool) -> Value {
        if self.b.func.dfg.value_type(v) == to {
            v
        } else if signed {
            self.b.ins().sextend(to, v)
        } else {
            self.b.ins().uextend(to, v)
        }
    }

    fn atomic_scalar_load(&mut self, ty: Type, width: Width, pointer: Value, offset: i64) -> Value {
        let from = integer(bytes_of(ty));
        let pointer = if offset == 0 { pointer } else { self.b.ins().iadd_imm_s(pointer, offset) };
        let v = self.b.ins().atomic_load(from, faulting(), pointer);
        self.extend_to(v, scalar_type(width), is_signed(ty))
    }

    /// `st`.
    pub(super) fn store(&mut self, ty: Type, address: &Address, a: &[Operand], semantics: Semantics, mask: Value) {
        let size = bytes_of(ty);
        let lane_bytes = size * a.len();
        let align = lane_bytes.min(16);
        let width = super::site::width_of(ty);
        let weak = semantics == Semantics::Weak;
        let values: Vec<Val> = a
            .iter()
            .map(|a| {
                let own = self.operand_width(a, width);
                // Stores take the low bits of wider registers.
                let value = self.read(a, own);
                self.resize(value, own, width)
            })
            .collect();
        let value = self.address_value(address);
        let linear = self.linear(&value, address, lane_bytes, align);
        let slow = self.b.create_block();
        let merge = self.b.create_block();
        self.b.set_cold_block(slow);
        let mut pins = None;
        let scalars: Option<Vec<Value>> =
            values.iter().map(|v| if let Val::Uniform(v) = v { Some(*v) } else { None }).collect();
        let widths = vec![width; a.len()];
        match (linear, scalars) {
            (Some(linear), Some(scalars))
                if linear.stride == 0 && linear.pointers.len() == 1 && a.len() == 1 && size <= 8 =>
            {
                pins = self.require_ready(&linear.conditions, slow);
                for v in scalars {
                    let v = if size == 1 { self.b.ins().ireduce(types::I8, v) } else { v };
                    if weak {
                        self.b.ins().store(faulting(), v, linear.pointers[0], 0);
                    } else {
                        self.b.ins().atomic_store(faulting(), v, linear.pointers[0]);
                    }
                }
                self.b.ins().jump(merge, &[] as &[BlockArg]);
            }
            (Some(linear), _)
                if linear.stride != 0 && weak && bytes(width) == size && self.can_stream(size, a.len(), &widths) =>
            {
                pins = self.require_ready(&linear.conditions, slow);
                let elements: Vec<Vec<Value>> = values.iter().map(|v| self.expand(v, width)).collect();
                if let Some(full) = self.is_full(mask) {
                    let (whole, part) = (self.b.create_block(), self.b.create_block());
                    self.b.ins().brif(full, whole, &[] as &[BlockArg], part, &[] as &[BlockArg]);
                    self.start(part);
                    self.store_part(size, &elements, &linear.pointers, mask);
                    self.b.ins().jump(merge, &[] as &[BlockArg]);
                    self.start(whole);
                }
                self.stream_out(size, &elements, &linear.pointers);
                self.b.ins().jump(merge, &[] as &[BlockArg]);
            }
            _ => {
                self.b.ins().jump(slow, &[] as &[BlockArg]);
            }
        }
        self.start(slow);
        self.release_pins(pins);
        self.put_mask(mask);
        let form = self.put_address(&value, address.space);
        for (i, v) in values.iter().enumerate() {
            let vectors = self.expand(v, width);
            self.put_values(&vectors, value_slot(&widths, i));
        }
        self.call(
            helpers::store,
            Detail::Memory(Access {
                space: address.space,
                form,
                offset: address.offset,
                ty,
                count: a.len(),
                widths,
                wanted: vec![true; a.len()],
                atomic: None,
            }),
        );
        self.b.ins().jump(merge, &[] as &[BlockArg]);
        self.start(merge);
    }

    fn put_values(&mut self, vectors: &[Value], offset: usize) {
        for (g, v) in vectors.iter().enumerate() {
            self.put(*v, offset + 16 * g);
        }
    }

    /// `atom` and `red`.
    #[expect(clippy::too_many_arguments, reason = "the instruction's own operands")]
    pub(super) fn atomic(
        &mut self,
        op: AtomicOp,
        ty: Type,
        d: Option<Reg>,
        address: &Address,
        a: &Operand,
        b: Option<&Operand>,
        mask: Value,
    ) {
        let width = super::site::width_of(ty);
        let value = self.address_value(address);
        self.put_mask(mask);
        let form = self.put_address(&value, address.space);
        let widths = vec![width; 2];
        for (i, operand) in [Some(a), b].into_iter().flatten().enumerate() {
            let own = self.operand_width(operand, width);
            let v = self.read(operand, own);
            let v = self.resize(v, own, width);
            let vectors = self.expand(&v, width);
            self.put_values(&vectors, value_slot(&widths, i));
        }
        self.call(
            helpers::atomic,
            Detail::Memory(Access {
                space: address.space,
                form,
                offset: address.offset,
                ty,
                count: 1,
                widths: widths.clone(),
                wanted: vec![d.is_some()],
                atomic: Some(op),
            }),
        );
        if let Some(d) = d {
            let vectors: Vec<Value> = (0..vector_count(width))
                .map(|g| self.take(vector_type(width), value_slot(&widths, 0) + 16 * g))
                .collect();
            let to = self.width(d);
            let value = self.resize(Val::Vectors(vectors), width, to);
            self.write(d, value);
        }
    }
}

/// Where the values of element `i` lie in the data: behind the address.
pub(super) fn value_slot(widths: &[Width], i: usize) -> usize {
    let before: usize = widths[..i].iter().map(|w| if *w == Width::B128 { 2 } else { 1 }).sum();
    slot(1 + before)
}
