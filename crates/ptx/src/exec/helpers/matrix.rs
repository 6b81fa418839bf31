//! Matrix operations: fragments spread over the lanes of a warp, as the PTX manual lays them out.
//!
//! With `g = lane / 4` and `t = lane % 4`, and `e` elements in a register, register `i` element `j` of `a` is row
//! `g + 8 (i & 1)`, column `t e + j + 4 e (i >> 1)`; of `b` row `t e + j + 4 e i`, column `g`; of `c` and `d` (wide
//! elements) row `g + 8 (i >> 1)`, column `2 t + (i & 1)`. All shapes of `mma` with 16 or 8 rows follow.

use super::{Access, Context, Form, Site, lanes_of, mask_of, operation, resolve};
use crate::exec::float::{BRAIN, E4M3, E5M2, HALF};
use crate::exec::site::slot;
use crate::ir::{Address, Op, Rounding, Space, Type};

unsafe fn word(data: *const u8, i: usize, lane: usize) -> u32 {
    // SAFETY: the slot holds 32 words.
    unsafe { data.add(slot(i) + 4 * lane).cast::<u32>().read() }
}

unsafe fn set_word(data: *mut u8, i: usize, lane: usize, v: u32) {
    // SAFETY: the slot holds 32 words.
    unsafe { data.add(slot(i) + 4 * lane).cast::<u32>().write(v) };
}

/// Which shapes and types `mma` has here.
pub(in crate::exec) fn supports(op: &Op) -> Result<(), String> {
    let Op::Mma { shape, types: [d, a, b, c], .. } = op else { return Ok(()) };
    let [m, n, k] = *shape;
    let half = |t: &Type| matches!(t, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2);
    let byte = |t: &Type| matches!(t, Type::S8 | Type::U8 | Type::E4M3x2 | Type::E5M2x2);
    let shapes: &[[u16; 3]] = match (a, b) {
        (a, b) if half(a) && half(b) => &[[16, 8, 8], [16, 8, 16]],
        (a, b) if byte(a) && byte(b) => &[[16, 8, 16], [16, 8, 32], [16, 8, 64], [8, 8, 16], [8, 8, 32]],
        (Type::TF32, Type::TF32) => &[[16, 8, 4], [16, 8, 8]],
        (Type::F64, Type::F64) => &[[8, 8, 4], [16, 8, 4], [16, 8, 8], [16, 8, 16]],
        _ => &[],
    };
    let sums = [c, d].into_iter().all(|t| matches!(t, Type::F32 | Type::S32 | Type::F64 | Type::F16 | Type::F16x2));
    if shapes.contains(shape) && sums {
        Ok(())
    } else {
        Err(format!("`mma` of shape m{m}n{n}k{k} with types {d:?}, {a:?}, {b:?}, {c:?}"))
    }
}

fn elements(ty: Type) -> usize {
    match ty {
        Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2 => 2,
        Type::S8 | Type::U8 | Type::E4M3x2 | Type::E5M2x2 => 4,
        _ => 1,
    }
}

fn element(ty: Type, word: u64, j: usize) -> f64 {
    match ty {
        Type::F64 => f64::from_bits(word),
        Type::F32 => f64::from(f32::from_bits(word as u32)),
        Type::TF32 => f64::from(f32::from_bits(word as u32 & 0xffff_e000)),
        Type::S32 => f64::from(word as u32 as i32),
        Type::F16 | Type::F16x2 => HALF.value((word >> (16 * j)) as u16 as u32),
        Type::BF16 | Type::BF16x2 => BRAIN.value((word >> (16 * j)) as u16 as u32),
        Type::S8 => f64::from((word >> (8 * j)) as i8),
        Type::U8 => f64::from((word >> (8 * j)) as u8),
        Type::E4M3x2 => E4M3.value((word >> (8 * j)) as u8 as u32),
        Type::E5M2x2 => E5M2.value((word >> (8 * j)) as u8 as u32),
        _ => 0.0,
    }
}

/// `mma.sync`: `d = a b + c`.
pub(super) unsafe extern "C" fn product(_: *mut Context, site: *const Site, data: *mut u8) {
    let (op, ..) = operation(site);
    let Op::Mma { shape: [m, n, k], types: [td, ta, tb, tc], saturate, d, a, b, c } = op else { return };
    let (m, n, k) = (usize::from(*m), usize::from(*n), usize::from(*k));
    let read = |first: usize, i: usize, lane: usize, ty: Type| {
        if ty == Type::F64 {
            // SAFETY: slots of doubles hold 32 of them.
            unsafe { data.add(slot(first + i) + 8 * lane).cast::<u64>().read() }
        } else {
            // SAFETY: the others hold 32 words.
            u64::from(unsafe { word(data, first + i, lane) })
        }
    };
    let mut left = [[0f64; 64]; 16];
    let mut right = [[0f64; 8]; 64];
    let mut sum = [[0f64; 8]; 16];
    let (ea, eb) = (elements(*ta), elements(*tb));
    let packed = |ty: Type| matches!(ty, Type::F16 | Type::F16x2);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..a.len() {
            for j in 0..ea {
                left[(g + 8 * (i & 1)) % 16][t * ea + j + 4 * ea * (i >> 1)] = element(*ta, read(0, i, lane, *ta), j);
            }
        }
        for i in 0..b.len() {
            for j in 0..eb {
                right[t * eb + j + 4 * eb * i][g] = element(*tb, read(a.len(), i, lane, *tb), j);
            }
        }
        for i in 0..c.len() {
            let w = read(a.len() + b.len(), i, lane, *tc);
            if packed(*tc) {
                (0..2).for_each(|h| sum[g + 8 * i][2 * t + h] = element(*tc, w, h));
            } else {
                sum[g + 8 * (i >> 1)][2 * t + (i & 1)] = element(*tc, w, 0);
            }
        }
    }
    let integer = *td == Type::S32;
    for row in 0..m {
        for column in 0..n {
            if *td == Type::F64 {
                // PTX manual, `mma`: the precision of a chain of `fma.rn`.
                let first = sum[row][column];
                sum[row][column] = (0..k).fold(first, |all, x| left[row][x].mul_add(right[x][column], all));
                continue;
            }
            // Exact for integers, and for narrow floats rounded once at the end.
            let all: f64 = (0..k).map(|x| left[row][x] * right[x][column]).sum();
            sum[row][column] += all;
        }
    }
    let out = a.len() + b.len() + c.len();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..d.len() {
            let wide =
                |h: usize| if packed(*td) { sum[g + 8 * i][2 * t + h] } else { sum[g + 8 * (i >> 1)][2 * t + (i & 1)] };
            if *td == Type::F64 {
                // SAFETY: slots of doubles hold 32 of them.
                unsafe { data.add(slot(out + i) + 8 * lane).cast::<f64>().write(wide(0)) };
                continue;
            }
            let w = if packed(*td) {
                let half = |h: usize| HALF.bits(Rounding::Rn, wide(h), false);
                half(0) | half(1) << 16
            } else if integer {
                let exact = wide(0) as i64;
                if *saturate { exact.clamp(i32::MIN.into(), i32::MAX.into()) as u32 } else { exact as u32 }
            } else {
                (wide(0) as f32).to_bits()
            };
            // SAFETY: the result's slots follow the operands'.
            unsafe { set_word(data, out + i, lane, w) };
        }
    }
}

fn rows(address: &Address) -> Access {
    Access {
        space: address.space,
        form: if matches!(address.space, Space::Shared | Space::Local | Space::Param) {
            Form::Narrow
        } else {
            Form::Wide
        },
        offset: address.offset,
        ty: Type::B16,
        count: 8,
        widths: Vec::new(),
        wanted: Vec::new(),
        atomic: None,
    }
}

/// `ldmatrix`, `stmatrix` and `movmatrix`.
pub(super) unsafe extern "C" fn movement(context: *mut Context, site: *const Site, data: *mut u8) {
    let (op, arguments, _) = operation(site);
    // SAFETY: generated code has put the mask there.
    let mask = unsafe { mask_of(data) };
    let place = |lane: usize, h: usize, transpose: bool| {
        let (row, column) = (lane / 4, 2 * (lane % 4) + h);
        if transpose { (column, row) } else { (row, column) }
    };
    match op {
        Op::LdMatrix { d, address, transpose } => {
            let access = rows(address);
            let needed = mask & ((1u64 << (8 * d.len())) - 1) as u32;
            // SAFETY: row addresses are in slot 0; empty vectors own nothing.
            let found = unsafe { resolve(context, site, &access, data, needed, 16) };
            for i in 0..d.len() {
                for lane in lanes_of(mask) {
                    let half = |h: usize| {
                        let (row, column) = place(lane, h, *transpose);
                        // SAFETY: the row is checked.
                        u32::from(unsafe { (found[8 * i + row] as *const u16).add(column).read_volatile() })
                    };
                    let w = half(0) | half(1) << 16;
                    // SAFETY: the results' slots follow the address's.
                    unsafe { set_word(data, arguments.len() + i, lane, w) };
                }
            }
        }
        Op::StMatrix { address, a, transpose } => {
            let access = rows(address);
            let needed = mask & ((1u64 << (8 * a.len())) - 1) as u32;
            // SAFETY: as above.
            let found = unsafe { resolve(context, site, &access, data, needed, 16) };
            for i in 0..a.len() {
                for lane in lanes_of(mask) {
                    // SAFETY: the values are in the slots after the address.
                    let w = unsafe { word(data, 1 + i, lane) };
                    for h in 0..2 {
                        let (row, column) = place(lane, h, *transpose);
                        let to = (found[8 * i + row] as *mut u16).wrapping_add(column);
                        // SAFETY: the row is checked.
                        unsafe { to.write_volatile((w >> (16 * h)) as u16) };
                    }
                }
            }
        }
        _ => {
            for lane in lanes_of(mask) {
                let half = |h: usize| {
                    let (row, column) = place(lane, h, true);
                    // SAFETY: the matrix is in slot 0.
                    unsafe { word(data, 0, row * 4 + column / 2) >> (16 * (column % 2)) & 0xffff }
                };
                let w = half(0) | half(1) << 16;
                // SAFETY: the result's slot follows.
                unsafe { set_word(data, arguments.len(), lane, w) };
            }
        }
    }
}
