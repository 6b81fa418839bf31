//! What operations mean for one thread: plain Rust, used by helpers for everything that is not emitted in line.

use super::float::{self, BRAIN, E4M3, E5M2, HALF};
use super::site::{bytes, width_of};
use crate::ir::{Binary, Compare, FloatTest, Join, Modifiers, Op, PrmtMode, Rounding, Ternary, Type, Unary, Width};

/// Results of one operation.
pub(super) type Results = [u64; 8];

/// Whether the operation can be executed at all.
pub(super) fn supports(op: &Op) -> Result<(), String> {
    let narrow = |ty: &Type| matches!(ty, Type::B128);
    match op {
        Op::Unpack { a: _, part, d } if bytes(*part) * d.len() > 8 => Err("unpacking 128 bits".into()),
        Op::Pack { part, a, .. } if bytes(*part) * a.len() > 8 => Err("packing 128 bits".into()),
        Op::Mma { .. } => super::helpers::matrix::supports(op),
        Op::SelP { ty, .. } | Op::Mov { ty, .. } if narrow(ty) => Err("128-bit values here".into()),
        _ => Ok(()),
    }
}

fn sext(ty: Type, v: u64) -> i64 {
    match ty {
        Type::S8 | Type::U8 | Type::B8 => v as u8 as i8 as i64,
        _ => match width_of(ty) {
            Width::B16 => v as u16 as i16 as i64,
            Width::B32 => v as u32 as i32 as i64,
            _ => v as i64,
        },
    }
}

fn zext(ty: Type, v: u64) -> u64 {
    match ty {
        Type::S8 | Type::U8 | Type::B8 => v as u8 as u64,
        Type::Pred => v & 1,
        _ => match width_of(ty) {
            Width::B16 => v as u16 as u64,
            Width::B32 => v as u32 as u64,
            _ => v,
        },
    }
}

fn signed(ty: Type) -> bool {
    matches!(ty, Type::S8 | Type::S16 | Type::S32 | Type::S64 | Type::S16x2)
}

fn bits(ty: Type) -> u32 {
    match ty {
        Type::S8 | Type::U8 | Type::B8 => 8,
        _ => 8 * bytes(width_of(ty)) as u32,
    }
}

fn flush32(v: f32) -> f32 {
    if v.is_subnormal() { 0f32.copysign(v) } else { v }
}

fn f32_in(m: &Modifiers, v: u64) -> f32 {
    let v = f32::from_bits(v as u32);
    if m.ftz { flush32(v) } else { v }
}

fn f32_out(m: &Modifiers, v: f32) -> u64 {
    let v = if m.sat { if v > 0.0 { v.min(1.0) } else { 0.0 } } else { v };
    let v = if m.relu && v < 0.0 { 0.0 } else { v };
    let v = if m.ftz { flush32(v) } else { v };
    u64::from(v.to_bits())
}

fn f64_out(m: &Modifiers, v: f64) -> u64 {
    let v = if m.sat { if v > 0.0 { v.min(1.0) } else { 0.0 } } else { v };
    v.to_bits()
}

/// Narrow floats of a type, if it is one: the format, and whether two are packed.
fn narrow(ty: Type) -> Option<(float::Format, bool)> {
    match ty {
        Type::F16 => Some((HALF, false)),
        Type::F16x2 => Some((HALF, true)),
        Type::BF16 => Some((BRAIN, false)),
        Type::BF16x2 => Some((BRAIN, true)),
        _ => None,
    }
}

fn narrow_in(ty: Type, m: &Modifiers, v: u64) -> f64 {
    let Some((format, _)) = narrow(ty) else { return 0.0 };
    let value = format.value(v as u16 as u32);
    let smallest = if matches!(ty, Type::F16 | Type::F16x2) { 6.103_515_625e-5 } else { f64::from(f32::MIN_POSITIVE) };
    if m.ftz && value.abs() < smallest { 0f64.copysign(value) } else { value }
}

fn narrow_out(ty: Type, m: &Modifiers, v: f64) -> u64 {
    let Some((format, _)) = narrow(ty) else { return 0 };
    let v = if m.sat { if v > 0.0 { v.min(1.0) } else { 0.0 } } else { v };
    let v = if m.relu && v < 0.0 { 0.0 } else { v };
    let bits = format.bits(m.rounding, v, false);
    let mut out = u64::from(bits);
    if m.ftz {
        out = u64::from(format.bits(Rounding::Rn, narrow_in(ty, m, out), false));
    }
    out
}

/// Applies a function of narrow floats to one or to both halves.
fn narrow_map(ty: Type, m: &Modifiers, a: &[u64], f: impl Fn(&[f64]) -> f64) -> u64 {
    let packed = narrow(ty).is_some_and(|(_, packed)| packed);
    let one = |shift: u32| {
        let values: Vec<f64> = a.iter().map(|v| narrow_in(ty, m, v >> shift)).collect();
        narrow_out(ty, m, f(&values)) & 0xffff
    };
    if packed { one(0) | one(16) << 16 } else { one(0) }
}

fn extreme(max: bool, nan: bool, a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return if nan || a.is_nan() && b.is_nan() {
            f64::NAN
        } else if a.is_nan() {
            b
        } else {
            a
        };
    }
    if a == b {
        return if a.is_sign_negative() != max { a } else { b };
    }
    if (a > b) == max { a } else { b }
}

fn unary(op: Unary, ty: Type, m: &Modifiers, a: u64) -> u64 {
    if narrow(ty).is_some() {
        if matches!(op, Unary::Neg | Unary::Abs) && !m.ftz {
            let sign = if bits(ty) == 16 { 0x8000 } else { 0x8000_8000 };
            return if op == Unary::Neg { a ^ sign } else { a & !sign };
        }
        return narrow_map(ty, m, &[a], |v| match op {
            Unary::Neg => -v[0],
            Unary::Abs => v[0].abs(),
            Unary::Ex2 => v[0].exp2(),
            Unary::Tanh => v[0].tanh(),
            Unary::Rcp => 1.0 / v[0],
            Unary::Sqrt => v[0].sqrt(),
            Unary::Rsqrt => 1.0 / v[0].sqrt(),
            Unary::Lg2 => v[0].log2(),
            Unary::Sin => v[0].sin(),
            Unary::Cos => v[0].cos(),
            _ => v[0],
        });
    }
    if ty == Type::F32 {
        let x = f32_in(m, a);
        let wide = f64::from(x);
        let r = match op {
            Unary::Neg => return zext(ty, u64::from(x.to_bits() ^ 0x8000_0000)),
            Unary::Abs => return u64::from(x.to_bits() & 0x7fff_ffff),
            Unary::Rcp => float::div32(m.rounding, 1.0, x),
            Unary::Sqrt => float::sqrt32(m.rounding, x, x),
            Unary::Rsqrt => (1.0 / wide.sqrt()) as f32,
            Unary::Sin => wide.sin() as f32,
            Unary::Cos => wide.cos() as f32,
            Unary::Ex2 => wide.exp2() as f32,
            Unary::Lg2 => wide.log2() as f32,
            Unary::Tanh => wide.tanh() as f32,
            _ => x,
        };
        return f32_out(m, r);
    }
    if ty == Type::F64 {
        let x = f64::from_bits(a);
        let r = match op {
            Unary::Neg => return a ^ 1 << 63,
            Unary::Abs => return a & !(1 << 63),
            Unary::Rcp => float::div64(m.rounding, 1.0, x),
            Unary::Sqrt => float::sqrt64(m.rounding, x, x),
            Unary::Rsqrt => 1.0 / x.sqrt(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Ex2 => x.exp2(),
            Unary::Lg2 => x.log2(),
            Unary::Tanh => x.tanh(),
            _ => x,
        };
        return f64_out(m, r);
    }
    let width = bits(ty);
    let unsigned = zext(ty, a);
    let r = match op {
        Unary::Not if ty == Type::Pred => !a & 1,
        Unary::Not => !a,
        Unary::Neg => (sext(ty, a)).wrapping_neg() as u64,
        Unary::Abs => sext(ty, a).wrapping_abs() as u64,
        Unary::Cnot => u64::from(unsigned == 0),
        Unary::Popc => u64::from(unsigned.count_ones()),
        Unary::Clz => u64::from(unsigned.leading_zeros() - (64 - width)),
        Unary::Brev => unsigned.reverse_bits() >> (64 - width),
        Unary::Bfind | Unary::BfindShift => {
            let v = if signed(ty) && sext(ty, a) < 0 { zext(ty, !a) } else { unsigned };
            if v == 0 {
                0xffff_ffff
            } else {
                let top = u64::from(63 - v.leading_zeros());
                if op == Unary::BfindShift { u64::from(width) - 1 - top } else { top }
            }
        }
        _ => a,
    };
    match op {
        Unary::Bfind | Unary::BfindShift | Unary::Popc | Unary::Clz => r & 0xffff_ffff,
        _ => zext(ty, r),
    }
}

/// Clamps to a type's range.
fn clamp(ty: Type, v: i128) -> u64 {
    let width = bits(ty);
    let (low, high) =
        if signed(ty) { (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1) } else { (0, (1i128 << width) - 1) };
    zext(ty, v.clamp(low, high) as u64)
}

/// The exact value of an integer.
fn exact(ty: Type, v: u64) -> i128 {
    if signed(ty) { i128::from(sext(ty, v)) } else { i128::from(zext(ty, v)) }
}

/// Applies a function to both halves of packed integers.
fn halves(ty: Type, a: &[u64], f: impl Fn(Type, &[u64]) -> u64) -> u64 {
    let half = if ty == Type::S16x2 { Type::S16 } else { Type::U16 };
    let low: Vec<u64> = a.iter().map(|v| v & 0xffff).collect();
    let high: Vec<u64> = a.iter().map(|v| v >> 16 & 0xffff).collect();
    (f(half, &low) & 0xffff) | (f(half, &high) & 0xffff) << 16
}

fn binary(op: Binary, ty: Type, m: &Modifiers, a: u64, b: u64) -> u64 {
    if matches!(ty, Type::U16x2 | Type::S16x2) {
        return halves(ty, &[a, b], |half, v| binary(op, half, m, v[0], v[1]));
    }
    if narrow(ty).is_some() && !matches!(op, Binary::And | Binary::Or | Binary::Xor) {
        if op == Binary::CopySign {
            return b & 0x7fff | a & 0x8000;
        }
        let xorsign = false;
        return narrow_map(ty, m, &[a, b], |v| match op {
            Binary::Add => v[0] + v[1],
            Binary::Sub => v[0] - v[1],
            Binary::Mul => v[0] * v[1],
            Binary::Div => v[0] / v[1],
            Binary::Min => extreme(false, m.nan, v[0], v[1]),
            Binary::Max => extreme(true, m.nan, v[0], v[1]),
            _ => {
                if xorsign {
                    -v[0]
                } else {
                    v[0]
                }
            }
        });
    }
    if ty == Type::F32 && !matches!(op, Binary::And | Binary::Or | Binary::Xor) {
        let (x, y) = (f32_in(m, a), f32_in(m, b));
        let r = match op {
            Binary::Add => float::add32(m.rounding, x, y),
            Binary::Sub => float::add32(m.rounding, x, -y),
            Binary::Mul => float::mul32(m.rounding, x, y),
            Binary::Div => float::div32(m.rounding, x, y),
            Binary::Min => extreme(false, m.nan, x.into(), y.into()) as f32,
            Binary::Max => extreme(true, m.nan, x.into(), y.into()) as f32,
            Binary::CopySign => return u64::from(y.copysign(x).to_bits()),
            _ => x,
        };
        return f32_out(m, r);
    }
    if ty == Type::F64 && !matches!(op, Binary::And | Binary::Or | Binary::Xor) {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        let r = match op {
            Binary::Add => float::add64(m.rounding, x, y),
            Binary::Sub => float::add64(m.rounding, x, -y),
            Binary::Mul => float::mul64(m.rounding, x, y),
            Binary::Div => float::div64(m.rounding, x, y),
            Binary::Min => extreme(false, m.nan, x, y),
            Binary::Max => extreme(true, m.nan, x, y),
            Binary::CopySign => y.copysign(x),
            _ => x,
        };
        return f64_out(m, r);
    }
    let width = bits(ty);
    let (x, y) = (exact(ty, a), exact(ty, b));
    let low = |v: i128| zext(ty, v as u64);
    match op {
        Binary::Add if m.sat => clamp(ty, x + y),
        Binary::Sub if m.sat => clamp(ty, x - y),
        Binary::Add => low(x + y),
        Binary::Sub => low(x - y),
        Binary::Mul => low(x.wrapping_mul(y)),
        Binary::MulHi => low((x.wrapping_mul(y)) >> width),
        Binary::MulWide => {
            let product = x.wrapping_mul(y) as u64;
            if width == 16 { product & 0xffff_ffff } else { product }
        }
        Binary::Mul24 | Binary::Mul24Hi => {
            let cut = |v: u64| {
                if signed(ty) { i128::from((v as u32 as i32) << 8 >> 8) } else { i128::from(v & 0xff_ffff) }
            };
            let product = cut(a) * cut(b);
            low(if op == Binary::Mul24 { product } else { product >> 16 })
        }
        Binary::Div if y == 0 => zext(ty, u64::MAX),
        Binary::Div => low(x / y),
        Binary::Rem if y == 0 => low(x),
        Binary::Rem => low(x % y),
        Binary::Min => {
            let r = x.min(y);
            low(if m.relu { r.max(0) } else { r })
        }
        Binary::Max => {
            let r = x.max(y);
            low(if m.relu { r.max(0) } else { r })
        }
        Binary::And => low((a & b) as i128),
        Binary::Or => low((a | b) as i128),
        Binary::Xor => low((a ^ b) as i128),
        Binary::Shl => {
            let k = b as u32;
            if k >= width { 0 } else { zext(ty, a << k) }
        }
        Binary::Shr => {
            let k = (b as u32).min(width);
            if signed(ty) {
                zext(ty, (sext(ty, a) >> k.min(63)) as u64)
            } else if k >= width {
                0
            } else {
                zext(ty, a) >> k
            }
        }
        Binary::CopySign => a,
    }
}

/// Bytes chosen from eight.
fn prmt(mode: PrmtMode, a: u64, b: u64, c: u64) -> u64 {
    let bytes = (a & 0xffff_ffff) | b << 32;
    let byte = |i: u64| bytes >> (8 * (i & 7)) & 0xff;
    let k = c & 3;
    let picks: [u64; 4] = match mode {
        PrmtMode::Index => {
            return (0..4).fold(0, |r, i| {
                let selector = c >> (4 * i) & 0xf;
                let v = byte(selector & 7);
                let v = if selector & 8 != 0 { if v & 0x80 != 0 { 0xff } else { 0 } } else { v };
                r | v << (8 * i)
            });
        }
        PrmtMode::F4e => [k, k + 1, k + 2, k + 3],
        PrmtMode::B4e => [k, k.wrapping_sub(1) & 7, k.wrapping_sub(2) & 7, k.wrapping_sub(3) & 7],
        PrmtMode::Rc8 => [k, k, k, k],
        PrmtMode::Ecl => [k, k.max(1), k.max(2), k.max(3)],
        PrmtMode::Ecr => [0, k.min(1), k.min(2), k],
        PrmtMode::Rc16 => {
            let base = (k & 1) * 2;
            [base, base + 1, base, base + 1]
        }
    };
    picks.iter().enumerate().fold(0, |r, (i, p)| r | byte(*p) << (8 * i))
}

fn ternary(op: Ternary, ty: Type, m: &Modifiers, a: u64, b: u64, c: u64) -> u64 {
    if narrow(ty).is_some() {
        return narrow_map(ty, m, &[a, b, c], |v| match op {
            Ternary::Min3 => extreme(false, m.nan, extreme(false, m.nan, v[0], v[1]), v[2]),
            Ternary::Max3 => extreme(true, m.nan, extreme(true, m.nan, v[0], v[1]), v[2]),
            _ => float::add_odd(v[0] * v[1], v[2]),
        });
    }
    if matches!(ty, Type::F32) && matches!(op, Ternary::Fma | Ternary::Mad) {
        return f32_out(m, float::fma32(m.rounding, f32_in(m, a), f32_in(m, b), f32_in(m, c)));
    }
    if matches!(ty, Type::F64) && matches!(op, Ternary::Fma | Ternary::Mad) {
        let v = [a, b, c].map(f64::from_bits);
        return f64_out(m, float::fma64(m.rounding, v[0], v[1], v[2]));
    }
    let plain = Modifiers { sat: false, ..*m };
    let width = bits(ty);
    match op {
        Ternary::Min3 | Ternary::Max3 => {
            let op = if op == Ternary::Min3 { Binary::Min } else { Binary::Max };
            binary(op, ty, m, binary(op, ty, m, a, b), c)
        }
        Ternary::Mad | Ternary::MadHi | Ternary::Mad24 | Ternary::Mad24Hi | Ternary::Fma => {
            let op = match op {
                Ternary::MadHi => Binary::MulHi,
                Ternary::Mad24 => Binary::Mul24,
                Ternary::Mad24Hi => Binary::Mul24Hi,
                _ => Binary::Mul,
            };
            let product = binary(op, ty, &plain, a, b);
            binary(Binary::Add, ty, m, product, c)
        }
        Ternary::MadWide => {
            let product = binary(Binary::MulWide, ty, &plain, a, b);
            let sum = product.wrapping_add(c);
            if width == 16 { sum & 0xffff_ffff } else { sum }
        }
        Ternary::Sad => {
            let (x, y) = (exact(ty, a), exact(ty, b));
            zext(ty, ((x - y).unsigned_abs() as u64).wrapping_add(c))
        }
        Ternary::Bfe => {
            let (position, length) = ((b & 0xff) as u32, (c & 0xff) as u32);
            let v = zext(ty, a);
            let sign_at = (position + length).wrapping_sub(1).min(width - 1);
            let sign = signed(ty) && length > 0 && v >> sign_at & 1 == 1;
            let mut r = if position >= 64 { 0 } else { v >> position };
            // Bits beyond the field, or beyond the value, are the sign.
            let present = length.min(width.saturating_sub(position));
            if present < 64 {
                r &= (1u64 << present) - 1;
                if sign {
                    r |= !((1u64 << present) - 1);
                }
            }
            zext(ty, r)
        }
        Ternary::Prmt(mode) => prmt(mode, a, b, c),
        Ternary::Lop3(table) => {
            let mut r = 0;
            for i in 0..8u32 {
                if table >> i & 1 == 1 {
                    let pick = |v: u64, bit: u32| if i >> bit & 1 == 1 { v } else { !v };
                    r |= pick(a, 2) & pick(b, 1) & pick(c, 0);
                }
            }
            zext(ty, r)
        }
        Ternary::ShfLeft { wrap } | Ternary::ShfRight { wrap } => {
            let k = if wrap { c as u32 & 31 } else { (c as u32).min(32) };
            let pair = b << 32 | (a & 0xffff_ffff);
            if matches!(op, Ternary::ShfLeft { .. }) {
                if k == 32 { a & 0xffff_ffff } else { (pair << k) >> 32 }
            } else {
                (if k == 32 { b } else { pair >> k }) & 0xffff_ffff
            }
        }
        Ternary::Slct { float } => {
            let first = if float { f32_in(m, c) >= 0.0 } else { c as u32 as i32 >= 0 };
            if first { a } else { b }
        }
        Ternary::Dp4a { signed_a, signed_b } => {
            let pick = |v: u64, i: u32, s: bool| {
                let byte = (v >> (8 * i)) as u8;
                if s { i32::from(byte as i8) } else { i32::from(byte) }
            };
            (0..4).fold(c as u32, |r, i| r.wrapping_add((pick(a, i, signed_a) * pick(b, i, signed_b)) as u32)).into()
        }
        Ternary::Dp2a { signed_a, signed_b, high } => {
            let first = if high { 2 } else { 0 };
            (0..2)
                .fold(c as u32, |r, i| {
                    let half = (a >> (16 * i)) as u16;
                    let half = if signed_a { i32::from(half as i16) } else { i32::from(half) };
                    let byte = (b >> (8 * (first + i))) as u8;
                    let byte = if signed_b { i32::from(byte as i8) } else { i32::from(byte) };
                    r.wrapping_add(half.wrapping_mul(byte) as u32)
                })
                .into()
        }
        Ternary::Fns => {
            let (mask, base, offset) = (a as u32, b as u32, c as u32 as i32);
            let found = if offset == 0 {
                (base < 32 && mask >> base & 1 == 1).then_some(base)
            } else {
                let step = offset.signum();
                let mut at = i64::from(base);
                let mut left = offset.unsigned_abs();
                let mut found = None;
                while (0..32).contains(&at) {
                    if mask >> at & 1 == 1 {
                        left -= 1;
                        if left == 0 {
                            found = Some(at as u32);
                            break;
                        }
                    }
                    at += i64::from(step);
                }
                found
            };
            u64::from(found.unwrap_or(u32::MAX))
        }
    }
}

fn compare(how: Compare, ty: Type, ftz: bool, a: u64, b: u64) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let m = Modifiers { ftz, ..Modifiers::default() };
    let order = match ty {
        Type::F32 => f32_in(&m, a).partial_cmp(&f32_in(&m, b)),
        Type::F64 => f64::from_bits(a).partial_cmp(&f64::from_bits(b)),
        _ if narrow(ty).is_some() => narrow_in(ty, &m, a).partial_cmp(&narrow_in(ty, &m, b)),
        _ => Some(exact(ty, a).cmp(&exact(ty, b))),
    };
    match how {
        Compare::Eq => order == Some(Equal),
        Compare::Ne => matches!(order, Some(Less | Greater)),
        Compare::Lt => order == Some(Less),
        Compare::Le => matches!(order, Some(Less | Equal)),
        Compare::Gt => order == Some(Greater),
        Compare::Ge => matches!(order, Some(Greater | Equal)),
        Compare::Equ => matches!(order, None | Some(Equal)),
        Compare::Neu => order != Some(Equal),
        Compare::Ltu => matches!(order, None | Some(Less)),
        Compare::Leu => order != Some(Greater),
        Compare::Gtu => matches!(order, None | Some(Greater)),
        Compare::Geu => order != Some(Less),
        Compare::Num => order.is_some(),
        Compare::Nan => order.is_none(),
    }
}

fn join(hit: bool, how: Option<Join>, c: bool) -> bool {
    match how {
        None => hit,
        Some(Join::And) => hit & c,
        Some(Join::Or) => hit | c,
        Some(Join::Xor) => hit ^ c,
    }
}

/// A float of any format as a double.
fn widen(ty: Type, m: &Modifiers, v: u64) -> f64 {
    match ty {
        Type::F32 | Type::TF32 => f64::from(f32_in(m, v)),
        Type::F64 => f64::from_bits(v),
        _ => narrow_in(ty, m, v),
    }
}

fn is_float(ty: Type) -> bool {
    matches!(ty, Type::F32 | Type::F64 | Type::TF32) || narrow(ty).is_some()
}

fn integral(rounding: Rounding, v: f64) -> f64 {
    match rounding {
        Rounding::Rzi | Rounding::Rz => v.trunc(),
        Rounding::Rmi | Rounding::Rm => v.floor(),
        Rounding::Rpi | Rounding::Rp => v.ceil(),
        _ => v.round_ties_even(),
    }
}

fn convert(to: Type, from: Type, m: &Modifiers, a: u64) -> u64 {
    match (is_float(to), is_float(from)) {
        (true, true) => {
            let mut v = widen(from, m, a);
            if matches!(m.rounding, Rounding::Rni | Rounding::Rzi | Rounding::Rmi | Rounding::Rpi) {
                v = integral(m.rounding, v);
            }
            narrow_to(to, m, v)
        }
        (true, false) => {
            let v = exact(from, a);
            if to == Type::F64 {
                let nearest = v as f64;
                let exact = nearest as i128;
                let r = match m.rounding {
                    Rounding::Rm if exact > v => nearest.next_down(),
                    Rounding::Rp if exact < v => nearest.next_up(),
                    Rounding::Rz if exact.abs() > v.abs() => {
                        if v > 0 {
                            nearest.next_down()
                        } else {
                            nearest.next_up()
                        }
                    }
                    _ => nearest,
                };
                return f64_out(m, r);
            }
            // Round to odd in double precision, then once more.
            let nearest = v as f64;
            let rest = v - nearest as i128;
            let odd = if rest == 0 || nearest.to_bits() & 1 == 1 {
                nearest
            } else if (rest > 0) == (nearest > 0.0) {
                f64::from_bits(nearest.to_bits() + 1)
            } else {
                f64::from_bits(nearest.to_bits() - 1)
            };
            narrow_to(to, m, odd)
        }
        (false, true) => {
            let v = widen(from, m, a);
            if v.is_nan() {
                // NVIDIA gives zero for narrow targets and the largest bit pattern's sign for 64-bit sources.
                return if from == Type::F64 || bits(to) == 64 { 1 << (bits(to) - 1) } else { 0 };
            }
            let v = integral(m.rounding, v);
            let wide = v.clamp(-1e30, 1e30) as i128;
            clamp(to, wide)
        }
        (false, false) => {
            let v = exact(from, a);
            if m.sat { clamp(to, v) } else { zext(to, v as u64) }
        }
    }
}

fn narrow_to(to: Type, m: &Modifiers, v: f64) -> u64 {
    match to {
        Type::F64 => f64_out(m, v),
        Type::F32 => f32_out(m, float::demote(m.rounding, v)),
        Type::TF32 => {
            let v = if m.relu && v < 0.0 { 0.0 } else { v };
            u64::from(float::tensor_bits(m.rounding, v as f32))
        }
        _ => narrow_out(to, m, v),
    }
}

fn convert_packed(to: Type, from: Type, m: &Modifiers, a: u64, b: u64) -> u64 {
    let (high, low) = (widen(from, m, a), widen(from, m, b));
    let relu = |v: f64| if m.relu && v < 0.0 { 0.0 } else { v };
    match to {
        Type::E4M3x2 | Type::E5M2x2 => {
            let format = if to == Type::E4M3x2 { E4M3 } else { E5M2 };
            let one = |v: f64| u64::from(format.bits(m.rounding, relu(v), true));
            one(low) | one(high) << 8
        }
        Type::F16x2 | Type::BF16x2 => narrow_out(to, m, low) & 0xffff | (narrow_out(to, m, high) & 0xffff) << 16,
        _ => low.to_bits(),
    }
}

fn test(how: FloatTest, ty: Type, v: u64) -> bool {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
    let class = if ty == Type::F32 { f32::from_bits(v as u32).classify() } else { f64::from_bits(v).classify() };
    match how {
        FloatTest::Finite => matches!(class, Normal | Subnormal | Zero),
        FloatTest::Infinite => class == Infinite,
        FloatTest::Number => class != Nan,
        FloatTest::NotANumber => class == Nan,
        FloatTest::Normal => class == Normal,
        FloatTest::Subnormal => class == Subnormal,
    }
}

/// Evaluates an operation for one lane: operands in the order of `arguments::arguments`, results in the order of
/// `operands::results`. Predicates are 0 or 1 and already negated where the instruction says so.
pub(super) fn evaluate(op: &Op, a: &[u64]) -> Results {
    let mut out = [0; 8];
    let at = |i: usize| a.get(i).copied().unwrap_or(0);
    match op {
        Op::Mov { ty, .. } => out[0] = zext(*ty, at(0)),
        Op::Unpack { d, part, .. } => {
            let each = 8 * bytes(*part);
            let mut i = 0;
            for (j, d) in d.iter().enumerate() {
                if d.is_some() {
                    let v = at(0) >> (each * j);
                    out[i] = if each < 64 { v & ((1 << each) - 1) } else { v };
                    i += 1;
                }
            }
        }
        Op::Pack { part, .. } => {
            let each = 8 * bytes(*part);
            for (i, v) in a.iter().enumerate() {
                let v = if each < 64 { v & ((1 << each) - 1) } else { *v };
                out[0] |= v << (each * i);
            }
        }
        Op::Unary { op, ty, modifiers, .. } => out[0] = unary(*op, *ty, modifiers, at(0)),
        Op::Binary { op, ty, modifiers, .. } => out[0] = binary(*op, *ty, modifiers, at(0), at(1)),
        Op::Ternary { op, ty, modifiers, .. } => out[0] = ternary(*op, *ty, modifiers, at(0), at(1), at(2)),
        Op::Bfi { ty, .. } => {
            let (position, length) = ((at(2) & 0xff) as u32, (at(3) & 0xff) as u32);
            let width = bits(*ty);
            let mut r = at(1);
            if position < width {
                let length = length.min(width - position);
                let field = if length >= 64 { u64::MAX } else { (1u64 << length) - 1 };
                r = r & !(field << position) | (at(0) & field) << position;
            }
            out[0] = zext(*ty, r);
        }
        Op::AddCarry { ty, subtract, carry_in, .. } => {
            // A difference is a sum with the complement, so the flag is set where nothing was borrowed. NVIDIA's code
            // for 128-bit division counts on it: it reads the flag of `subc.cc` with `addc`.
            let carry = if carry_in.is_some() { at(2) & 1 } else { u64::from(*subtract) };
            let width = bits(*ty);
            let (x, y) = (zext(*ty, at(0)), zext(*ty, if *subtract { !at(1) } else { at(1) }));
            let r = u128::from(x) + u128::from(y) + u128::from(carry);
            out[0] = zext(*ty, r as u64);
            out[1] = (r >> width) as u64 & 1;
        }
        Op::SetP { compare: how, ty, ftz, p, q, join: j, .. } => {
            let hit = compare(*how, *ty, *ftz, at(0), at(1));
            let c = at(2) & 1 == 1;
            let mut i = 0;
            if p.is_some() {
                out[i] = join(hit, j.map(|j| j.0), c).into();
                i += 1;
            }
            if q.is_some() {
                let second = match ty {
                    Type::F16x2 | Type::BF16x2 => compare(*how, *ty, *ftz, at(0) >> 16, at(1) >> 16),
                    _ => !hit,
                };
                out[i] = join(second, j.map(|j| j.0), c).into();
            }
        }
        Op::Set { compare: how, result, ty, ftz, join: j, .. } => {
            let c = at(2) & 1 == 1;
            let one = |shift: u32| join(compare(*how, *ty, *ftz, at(0) >> shift, at(1) >> shift), j.map(|j| j.0), c);
            out[0] = match result {
                Type::F32 => u64::from(if one(0) { 1f32.to_bits() } else { 0 }),
                Type::F16 => {
                    if one(0) {
                        0x3c00
                    } else {
                        0
                    }
                }
                Type::BF16 => {
                    if one(0) {
                        0x3f80
                    } else {
                        0
                    }
                }
                Type::F16x2 | Type::BF16x2 => {
                    let unit = if *result == Type::F16x2 { 0x3c00 } else { 0x3f80 };
                    (if one(0) { unit } else { 0 }) | (if one(16) { unit << 16 } else { 0 })
                }
                Type::U32 | Type::S32 | Type::B32 if matches!(ty, Type::F16x2 | Type::BF16x2) => {
                    (if one(0) { 0xffff } else { 0 }) | (if one(16) { 0xffff_0000 } else { 0 })
                }
                ty => zext(*ty, if one(0) { u64::MAX } else { 0 }),
            };
        }
        Op::SelP { .. } => out[0] = if at(2) & 1 == 1 { at(0) } else { at(1) },
        Op::Cvt { to, from, modifiers, .. } => {
            let v = conversion(*to, *from, modifiers, at(0));
            out[0] = if is_float(*to) { v } else { fill(*to, v) };
        }
        Op::CvtPack { to, from, modifiers, .. } => out[0] = convert_packed(*to, *from, modifiers, at(0), at(1)),
        Op::TestP { test: how, ty, .. } => out[0] = test(*how, *ty, at(0)).into(),
        _ => {}
    }
    out
}

/// `cvt`, with unpacking of narrow pairs.
fn conversion(to: Type, from: Type, m: &Modifiers, a: u64) -> u64 {
    if let (Type::E4M3x2 | Type::E5M2x2, Type::F16x2 | Type::BF16x2) = (from, to) {
        let format = if from == Type::E4M3x2 { E4M3 } else { E5M2 };
        let one = |v: u64| narrow_out(to, m, format.value(v as u8 as u32)) & 0xffff;
        return one(a) | one(a >> 8) << 16;
    }
    if let (Type::F16x2 | Type::BF16x2, Type::E4M3x2 | Type::E5M2x2) = (from, to) {
        return convert_packed(to, if from == Type::F16x2 { Type::F16 } else { Type::BF16 }, m, a >> 16, a);
    }
    if to == from && !is_float(to) && !m.sat {
        return zext(to, a);
    }
    convert(to, from, m, a)
}

/// Sign- or zero-extends a result narrower than its register: `cvt` and loads fill the register.
pub(super) fn fill(ty: Type, v: u64) -> u64 {
    if signed(ty) { sext(ty, v) as u64 } else { zext(ty, v) }
}
