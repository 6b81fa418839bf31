//! Atomic read-modify-writes at checked addresses.

use crate::exec::float::{BRAIN, HALF};
use crate::exec::site::bytes_of;
use crate::ir::{AtomicOp, Rounding, Type};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// What memory holds after an operation on `old`.
fn combine(op: AtomicOp, ty: Type, old: u64, a: u64, b: u64) -> u64 {
    let signed = |v: u64| if bytes_of(ty) == 8 { v as i64 } else { i64::from(v as u32 as i32) };
    let packed = |format: super::super::float::Format, f: &dyn Fn(f64, f64) -> f64| {
        let one = |shift: u32| {
            let (x, y) = (format.value((old >> shift) as u16 as u32), format.value((a >> shift) as u16 as u32));
            u64::from(format.bits(Rounding::Rn, f(x, y), false)) & 0xffff
        };
        if bytes_of(ty) == 4 { one(0) | one(16) << 16 } else { one(0) }
    };
    let format = match ty {
        Type::F16 | Type::F16x2 => Some(HALF),
        Type::BF16 | Type::BF16x2 => Some(BRAIN),
        _ => None,
    };
    match op {
        AtomicOp::And => old & a,
        AtomicOp::Or => old | a,
        AtomicOp::Xor => old ^ a,
        AtomicOp::Exch => a,
        AtomicOp::Add => match (ty, format) {
            (Type::F32, _) => u64::from((f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits()),
            (Type::F64, _) => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
            (_, Some(format)) => packed(format, &|x, y| x + y),
            _ => old.wrapping_add(a),
        },
        AtomicOp::Inc => {
            if old as u32 >= a as u32 {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Dec => {
            let (old, a) = (old as u32, a as u32);
            u64::from(if old == 0 || old > a { a } else { old - 1 })
        }
        AtomicOp::Min | AtomicOp::Max => {
            let max = op == AtomicOp::Max;
            match (ty, format) {
                (Type::F32, _) => {
                    let (x, y) = (f32::from_bits(old as u32), f32::from_bits(a as u32));
                    u64::from((if max { x.max(y) } else { x.min(y) }).to_bits())
                }
                (_, Some(format)) => packed(format, &|x, y| if max { x.max(y) } else { x.min(y) }),
                (Type::S32 | Type::S64, _) => {
                    if (signed(a) > signed(old)) == max {
                        a
                    } else {
                        old
                    }
                }
                _ => {
                    if (a > old) == max {
                        a
                    } else {
                        old
                    }
                }
            }
        }
        AtomicOp::Cas => {
            if old == a {
                b
            } else {
                old
            }
        }
    }
}

macro_rules! update {
    ($atomic:ty, $int:ty, $address:expr, $op:expr, $ty:expr, $a:expr, $b:expr) => {{
        // SAFETY: the caller promises an aligned address of live memory; all accesses that race are atomic.
        let cell = unsafe { <$atomic>::from_ptr($address as *mut $int) };
        match ($op, $ty) {
            (AtomicOp::Exch, _) => u64::from(cell.swap($a as $int, SeqCst)),
            (AtomicOp::Cas, _) => {
                let found = cell.compare_exchange($a as $int, $b as $int, SeqCst, SeqCst);
                u64::from(found.unwrap_or_else(|old| old))
            }
            (AtomicOp::Add, Type::U32 | Type::S32 | Type::B32 | Type::U64 | Type::S64 | Type::B64) => {
                u64::from(cell.fetch_add($a as $int, SeqCst))
            }
            (AtomicOp::Or, _) => u64::from(cell.fetch_or($a as $int, SeqCst)),
            (AtomicOp::And, _) => u64::from(cell.fetch_and($a as $int, SeqCst)),
            _ => {
                let mut old = cell.load(SeqCst);
                loop {
                    let new = combine($op, $ty, u64::from(old), $a, $b) as $int;
                    match cell.compare_exchange_weak(old, new, SeqCst, SeqCst) {
                        Ok(old) => break u64::from(old),
                        Err(found) => old = found,
                    }
                }
            }
        }
    }};
}

/// Applies an operation and gives the old value. `private`: only this thread uses the memory.
///
/// # Safety
/// `address` is aligned to the type and may be read and written.
pub(super) unsafe fn apply(op: AtomicOp, ty: Type, address: u64, a: u64, b: u64, private: bool) -> u64 {
    if private {
        let size = bytes_of(ty);
        // SAFETY: as promised.
        let old = unsafe { super::read(address as *const u8, size) };
        // SAFETY: as promised.
        unsafe { super::write(address as *mut u8, size, combine(op, ty, old, a, b)) };
        return old;
    }
    match bytes_of(ty) {
        2 => update!(AtomicU16, u16, address, op, ty, a, b),
        4 => update!(AtomicU32, u32, address, op, ty, a, b),
        _ => update!(AtomicU64, u64, address, op, ty, a, b),
    }
}

/// 128-bit exchange or compare-and-swap: `a` becomes the old value.
///
/// # Safety
/// `address` is aligned to 16 and may be read and written; `a` and `b` point to 16 bytes.
pub(super) unsafe fn wide(op: AtomicOp, address: u64, a: *mut u8, b: *const u8) {
    static LOCK: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let memory = address as *mut u128;
    // Touched before the lock is held: a fault must not leave it locked.
    // SAFETY: as promised.
    let _touched = unsafe { memory.read_volatile() };
    let _guard = LOCK.lock();
    // SAFETY: as promised.
    let (old, first, second) =
        unsafe { (memory.read_volatile(), a.cast::<u128>().read_unaligned(), b.cast::<u128>().read_unaligned()) };
    let new = match op {
        AtomicOp::Exch => first,
        _ if old == first => second,
        _ => old,
    };
    // SAFETY: as promised.
    unsafe { memory.write_volatile(new) };
    // SAFETY: as promised.
    unsafe { a.cast::<u128>().write_unaligned(old) };
}
