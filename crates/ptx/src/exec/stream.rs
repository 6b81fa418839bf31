//! Consecutive elements of consecutive lanes: whole rows between memory and vectors.

use super::code::{Emitter, vector_type};
use super::memory::{faulting, is_signed};
use super::site::{bytes, bytes_of, slot};
use crate::ir::{Type, Width};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, MemFlagsData, Value, types};

impl Emitter<'_, '_> {
    /// Whether there is a vector path for elements in memory and registers of these sizes.
    pub(super) fn can_stream(&self, size: usize, count: usize, widths: &[Width]) -> bool {
        let all = |w| widths.iter().all(|x| *x == w);
        match (size, count) {
            (4, 1 | 2 | 4) => all(Width::B32),
            (8, 1 | 2) => all(Width::B64),
            (2, 1) => all(Width::B16) || all(Width::B32),
            (1, 1) => all(Width::B16) || all(Width::B32),
            _ => false,
        }
    }

    /// Loads consecutive elements of consecutive lanes into vectors per element.
    pub(super) fn stream_in(
        &mut self,
        ty: Type,
        count: usize,
        widths: &[Width],
        pointers: &[Value],
    ) -> Vec<Vec<Value>> {
        let size = bytes_of(ty);
        let row = self.row_lanes();
        let mut elements = vec![Vec::new(); count];
        let flags = faulting();
        for pointer in pointers {
            match (size, count) {
                (4, 1) | (8, 1) | (2, 1) if bytes(widths[0]) == size => {
                    for g in 0..row * size / 16 {
                        let v = self.b.ins().load(vector_type(widths[0]), flags, *pointer, 16 * g as i32);
                        elements[0].push(v);
                    }
                }
                (2, 1) => {
                    for g in 0..row / 4 {
                        let v = if is_signed(ty) {
                            self.b.ins().sload16x4(flags, *pointer, 8 * g as i32)
                        } else {
                            self.b.ins().uload16x4(flags, *pointer, 8 * g as i32)
                        };
                        elements[0].push(v);
                    }
                }
                (1, 1) => {
                    for g in 0..row / 8 {
                        let signed = is_signed(ty);
                        let v = if signed {
                            self.b.ins().sload8x8(flags, *pointer, 8 * g as i32)
                        } else {
                            self.b.ins().uload8x8(flags, *pointer, 8 * g as i32)
                        };
                        if widths[0] == Width::B16 {
                            elements[0].push(v);
                        } else if signed {
                            elements[0].push(self.b.ins().swiden_low(v));
                            elements[0].push(self.b.ins().swiden_high(v));
                        } else {
                            elements[0].push(self.b.ins().uwiden_low(v));
                            elements[0].push(self.b.ins().uwiden_high(v));
                        }
                    }
                }
                (4, 2) => {
                    for g in 0..row / 4 {
                        let m: Vec<Value> = (0..2)
                            .map(|i| self.b.ins().load(types::I32X4, flags, *pointer, (32 * g + 16 * i) as i32))
                            .collect();
                        for (e, words) in [[0u8, 2, 4, 6], [1, 3, 5, 7]].into_iter().enumerate() {
                            elements[e].push(self.shuffle(types::I32X4, m[0], m[1], words_order(words)));
                        }
                    }
                }
                (4, 4) => {
                    for g in 0..row / 4 {
                        let m: Vec<Value> = (0..4)
                            .map(|i| self.b.ins().load(types::I32X4, flags, *pointer, (64 * g + 16 * i) as i32))
                            .collect();
                        for (e, v) in self.transpose([m[0], m[1], m[2], m[3]]).into_iter().enumerate() {
                            elements[e].push(v);
                        }
                    }
                }
                _ => {
                    for g in 0..row / 2 {
                        let m: Vec<Value> = (0..2)
                            .map(|i| self.b.ins().load(types::I64X2, flags, *pointer, (32 * g + 16 * i) as i32))
                            .collect();
                        for (e, words) in [[0u8, 1, 4, 5], [2, 3, 6, 7]].into_iter().enumerate() {
                            elements[e].push(self.shuffle(types::I64X2, m[0], m[1], words_order(words)));
                        }
                    }
                }
            }
        }
        elements
    }

    /// Transposes a 4×4 matrix of 32-bit elements.
    pub(super) fn transpose(&mut self, m: [Value; 4]) -> [Value; 4] {
        let t = types::I32X4;
        let low = words_order([0, 4, 1, 5]);
        let high = words_order([2, 6, 3, 7]);
        let a = self.shuffle(t, m[0], m[1], low);
        let b = self.shuffle(t, m[2], m[3], low);
        let c = self.shuffle(t, m[0], m[1], high);
        let d = self.shuffle(t, m[2], m[3], high);
        let first = words_order([0, 1, 4, 5]);
        let second = words_order([2, 3, 6, 7]);
        [
            self.shuffle(t, a, b, first),
            self.shuffle(t, a, b, second),
            self.shuffle(t, c, d, first),
            self.shuffle(t, c, d, second),
        ]
    }

    pub(super) fn stream_out(&mut self, size: usize, elements: &[Vec<Value>], pointers: &[Value]) {
        let row = self.row_lanes();
        let flags = faulting();
        for (r, pointer) in pointers.iter().enumerate() {
            match (size, elements.len()) {
                (4, 2) => {
                    for g in 0..row / 4 {
                        let at = r * row / 4 + g;
                        for (i, words) in [[0u8, 4, 1, 5], [2, 6, 3, 7]].into_iter().enumerate() {
                            let v = self.shuffle(types::I32X4, elements[0][at], elements[1][at], words_order(words));
                            self.b.ins().store(flags, v, *pointer, (32 * g + 16 * i) as i32);
                        }
                    }
                }
                (4, 4) => {
                    for g in 0..row / 4 {
                        let at = r * row / 4 + g;
                        let m = [elements[0][at], elements[1][at], elements[2][at], elements[3][at]];
                        for (i, v) in self.transpose(m).into_iter().enumerate() {
                            self.b.ins().store(flags, v, *pointer, (64 * g + 16 * i) as i32);
                        }
                    }
                }
                (8, 2) => {
                    for g in 0..row / 2 {
                        let at = r * row / 2 + g;
                        for (i, words) in [[0u8, 1, 4, 5], [2, 3, 6, 7]].into_iter().enumerate() {
                            let v = self.shuffle(types::I64X2, elements[0][at], elements[1][at], words_order(words));
                            self.b.ins().store(flags, v, *pointer, (32 * g + 16 * i) as i32);
                        }
                    }
                }
                _ => {
                    let groups = row * size / 16;
                    for g in 0..groups {
                        self.b.ins().store(flags, elements[0][r * groups + g], *pointer, 16 * g as i32);
                    }
                }
            }
        }
    }

    /// Jumps to `slow` unless whole rows can be read although not all lanes are active: no row crosses a page, and each
    /// has an active lane, so that it faults only where that lane would.
    pub(super) fn require_mapped(&mut self, mask: Value, pointers: &[Value], lane_bytes: usize, slow: Block) {
        const PAGE: i64 = 4096;
        let Some(full) = self.is_full(mask) else { return };
        let lanes = self.row_lanes();
        let (part, go) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(full, go, &[] as &[BlockArg], part, &[] as &[BlockArg]);
        self.start(part);
        for (row, pointer) in pointers.iter().enumerate() {
            let bits = (((1i64 << lanes) - 1) << (lanes * row)) as u32 as i32;
            let some = self.b.ins().band_imm_s(mask, i64::from(bits));
            let place = self.b.ins().band_imm_s(*pointer, PAGE - 1);
            let last = self.iconst(types::I64, PAGE - (lanes * lane_bytes) as i64);
            let inside = self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, place, last);
            self.require(&[some, inside], slow);
        }
        self.b.ins().jump(go, &[] as &[BlockArg]);
        self.start(go);
    }

    /// Stores consecutive elements of those consecutive lanes that are active: 16 bytes at once where as many lanes
    /// side by side are, else lane by lane.
    pub(super) fn store_part(&mut self, size: usize, elements: &[Vec<Value>], pointers: &[Value], mask: Value) {
        let lanes = self.row_lanes();
        let lane_bytes = size * elements.len();
        let unit = match lane_bytes {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            8 => types::I64,
            _ => types::I64X2,
        };
        let group = 16 / lane_bytes;
        let group_bits = (1i64 << group) - 1;
        self.reserve_data(slot(0) + 32 * lane_bytes);
        let images: Vec<Value> = (0..pointers.len())
            .map(|row| self.b.ins().stack_addr(types::I64, self.data, (slot(0) + row * lanes * lane_bytes) as i32))
            .collect();
        self.stream_out(size, elements, &images);
        let own = MemFlagsData::new().with_notrap();
        for (row, (image, pointer)) in images.into_iter().zip(pointers).enumerate() {
            let mut left = mask;
            if lanes < 32 {
                left = self.b.ins().ushr_imm_s(left, (row * lanes) as i64);
                left = self.b.ins().band_imm_s(left, (1i64 << lanes) - 1);
            }
            let [head, body, single, several, done] = std::array::from_fn(|_| self.b.create_block());
            let rest = self.b.append_block_param(head, types::I32);
            self.b.ins().jump(head, &[left.into()]);
            self.start(head);
            self.b.ins().brif(rest, body, &[] as &[BlockArg], done, &[] as &[BlockArg]);
            self.start(body);
            let lane = self.b.ins().ctz(rest);
            let wide = self.b.ins().uextend(types::I64, lane);
            let offset = self.b.ins().imul_imm_s(wide, lane_bytes as i64);
            let from = self.b.ins().iadd(image, offset);
            let to = self.b.ins().iadd(*pointer, offset);
            let run = self.b.ins().ushr(rest, lane);
            let run = self.b.ins().band_imm_s(run, group_bits);
            let all = self.b.ins().icmp_imm_s(IntCC::Equal, run, group_bits);
            self.b.ins().brif(all, several, &[] as &[BlockArg], single, &[] as &[BlockArg]);
            self.start(several);
            let v = self.b.ins().load(types::I64X2, own, from, 0);
            self.b.ins().store(faulting(), v, to, 0);
            let bits = self.iconst(types::I32, group_bits);
            let bits = self.b.ins().ishl(bits, lane);
            let after = self.b.ins().band_not(rest, bits);
            self.b.ins().jump(head, &[after.into()]);
            self.start(single);
            let v = self.b.ins().load(unit, own, from, 0);
            self.b.ins().store(faulting(), v, to, 0);
            let less = self.b.ins().iadd_imm_s(rest, -1);
            let after = self.b.ins().band(rest, less);
            self.b.ins().jump(head, &[after.into()]);
            self.start(done);
        }
    }
}

/// Byte order of a shuffle of 32-bit words: 0 to 3 of the first vector, 4 to 7 of the second.
pub(super) fn words_order(words: [u8; 4]) -> [u8; 16] {
    let mut order = [0; 16];
    for (i, word) in words.into_iter().enumerate() {
        for j in 0..4 {
            order[4 * i + j] = 4 * word + j as u8;
        }
    }
    order
}
