//! Floating point beyond what Rust offers: directed rounding, and formats narrower than 32 bits.

use crate::ir::Rounding;
use std::arch::asm;

/// The rounding field of MXCSR for a mode.
fn control(rounding: Rounding) -> Option<u32> {
    match rounding {
        Rounding::Rm | Rounding::Rmi => Some(0x3f80),
        Rounding::Rp | Rounding::Rpi => Some(0x5f80),
        Rounding::Rz | Rounding::Rzi => Some(0x7f80),
        _ => None,
    }
}

macro_rules! directed {
    ($name:ident, $ty:ty, $rust:expr, $code:literal) => {
        /// The operation under a rounding mode.
        pub(super) fn $name(rounding: Rounding, a: $ty, b: $ty) -> $ty {
            let Some(control) = control(rounding) else {
                let f: fn($ty, $ty) -> $ty = $rust;
                return f(a, b);
            };
            let mut r = a;
            let normal = 0x1f80u32;
            // SAFETY: the control word is restored in the same block; exceptions stay masked.
            unsafe {
                asm!("ldmxcsr [{0}]", $code, "ldmxcsr [{1}]", in(reg) &raw const control, in(reg) &raw const normal,
                    inout(xmm_reg) r, in(xmm_reg) b, options(nostack));
            }
            r
        }
    };
}

directed!(add32, f32, |a, b| a + b, "addss {2}, {3}");
directed!(mul32, f32, |a, b| a * b, "mulss {2}, {3}");
directed!(div32, f32, |a, b| a / b, "divss {2}, {3}");
directed!(sqrt32, f32, |_, b| b.sqrt(), "sqrtss {2}, {3}");
directed!(add64, f64, |a, b| a + b, "addsd {2}, {3}");
directed!(mul64, f64, |a, b| a * b, "mulsd {2}, {3}");
directed!(div64, f64, |a, b| a / b, "divsd {2}, {3}");
directed!(sqrt64, f64, |_, b| b.sqrt(), "sqrtsd {2}, {3}");

/// `a * b + c` in one rounding. Without fused hardware directed modes round to nearest.
pub(super) fn fma32(rounding: Rounding, a: f32, b: f32, c: f32) -> f32 {
    // The product of two floats is exact in double precision; one sum remains, rounded to odd and then as asked.
    if control(rounding).is_none() {
        return a.mul_add(b, c);
    }
    let sum = add_odd(f64::from(a) * f64::from(b), f64::from(c));
    demote(rounding, sum)
}

/// `a * b + c` in one rounding.
pub(super) fn fma64(rounding: Rounding, a: f64, b: f64, c: f64) -> f64 {
    let nearest = a.mul_add(b, c);
    let Some(_) = control(rounding) else { return nearest };
    if !nearest.is_finite() {
        return nearest;
    }
    // The error's sign says on which side of the rounded result the exact one lies.
    let high = a * b;
    let low = a.mul_add(b, -high);
    let (s, e) = two_sum(high, c);
    let error = (s - nearest) + (e + low);
    let exact_sign = if error == 0.0 { return nearest } else { error };
    match rounding {
        Rounding::Rm | Rounding::Rmi if exact_sign < 0.0 => nearest.next_down(),
        Rounding::Rp | Rounding::Rpi if exact_sign > 0.0 => nearest.next_up(),
        Rounding::Rz | Rounding::Rzi if (exact_sign < 0.0) == (nearest > 0.0) && nearest != 0.0 => {
            if nearest > 0.0 {
                nearest.next_down()
            } else {
                nearest.next_up()
            }
        }
        _ => nearest,
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// A sum rounded to odd: enough to round once more to a much narrower format.
pub(super) fn add_odd(a: f64, b: f64) -> f64 {
    let (s, e) = two_sum(a, b);
    if e == 0.0 || !s.is_finite() || s.to_bits() & 1 == 1 {
        return s;
    }
    if (e > 0.0) == (s > 0.0) { f64::from_bits(s.to_bits() + 1) } else { f64::from_bits(s.to_bits() - 1) }
}

/// Double to single precision.
pub(super) fn demote(rounding: Rounding, v: f64) -> f32 {
    let nearest = v as f32;
    if control(rounding).is_none() || v.is_nan() {
        return nearest;
    }
    let up = match rounding {
        Rounding::Rp | Rounding::Rpi => true,
        Rounding::Rm | Rounding::Rmi => false,
        _ => v < 0.0,
    };
    if up && f64::from(nearest) < v {
        nearest.next_up()
    } else if !up && f64::from(nearest) > v {
        nearest.next_down()
    } else {
        nearest
    }
}

/// A narrow binary format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    exponent: u32,
    mantissa: u32,
    /// Has infinities (else the largest exponent holds numbers, and only all ones is NaN).
    infinite: bool,
}

pub(super) const HALF: Format = Format { exponent: 5, mantissa: 10, infinite: true };
pub(super) const BRAIN: Format = Format { exponent: 8, mantissa: 7, infinite: true };
pub(super) const TENSOR: Format = Format { exponent: 8, mantissa: 10, infinite: true };
pub(super) const E4M3: Format = Format { exponent: 4, mantissa: 3, infinite: false };
pub(super) const E5M2: Format = Format { exponent: 5, mantissa: 2, infinite: true };

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn sign(self) -> u32 {
        1 << (self.exponent + self.mantissa)
    }

    /// Bits of the largest finite value.
    fn largest(self) -> u32 {
        if self.infinite { (((1 << self.exponent) - 1) << self.mantissa) - 1 } else { self.sign() - 2 }
    }

    fn nan(self) -> u32 {
        self.sign() - 1
    }

    /// The value of bits.
    pub(super) fn value(self, bits: u32) -> f64 {
        let sign = if bits & self.sign() != 0 { -1.0 } else { 1.0 };
        let exponent = (bits >> self.mantissa & ((1 << self.exponent) - 1)) as i32;
        let mantissa = bits & ((1 << self.mantissa) - 1);
        let top = (1 << self.exponent) - 1;
        if !self.infinite && bits & (self.sign() - 1) == self.nan() || self.infinite && exponent == top && mantissa != 0
        {
            return f64::NAN;
        }
        if self.infinite && exponent == top {
            return sign * f64::INFINITY;
        }
        let scale = |e: i32| f64::from_bits(((1023 + e) as u64) << 52);
        if exponent == 0 {
            return sign * f64::from(mantissa) * scale(1 - self.bias() - self.mantissa as i32);
        }
        sign * (f64::from(mantissa) + f64::from(1u32 << self.mantissa))
            * scale(exponent - self.bias() - self.mantissa as i32)
    }

    /// The bits nearest to a value; `saturate` keeps finite values (and, in formats without them, infinities) finite.
    pub(super) fn bits(self, rounding: Rounding, v: f64, saturate: bool) -> u32 {
        if v.is_nan() {
            return self.nan();
        }
        let sign = if v.is_sign_negative() { self.sign() } else { 0 };
        let overflow = |toward_zero: bool| {
            sign | if toward_zero || saturate {
                self.largest()
            } else if self.infinite {
                self.largest() + 1
            } else {
                self.nan()
            }
        };
        let magnitude = v.abs();
        if magnitude.is_infinite() {
            return overflow(false);
        }
        if magnitude == 0.0 {
            return sign;
        }
        let raw = magnitude.to_bits();
        let (mut exponent, fraction) = ((raw >> 52) as i32 - 1023, raw & ((1 << 52) - 1) | 1 << 52);
        if raw >> 52 == 0 {
            // Doubles this small round as the smallest step does.
            exponent = -1023;
        }
        // Bits of the fraction that fall away: more for subnormals.
        let lowest = 1 - self.bias();
        let extra = (lowest - exponent).clamp(0, 60) as u32;
        let drop = (52 - self.mantissa + extra).min(63);
        let kept = fraction >> drop;
        let rest = fraction & ((1u64 << drop) - 1);
        let half = 1u64 << (drop - 1);
        let negative = sign != 0;
        let up = match rounding {
            Rounding::Rz | Rounding::Rzi => false,
            Rounding::Rm | Rounding::Rmi => negative && rest != 0,
            Rounding::Rp | Rounding::Rpi => !negative && rest != 0,
            Rounding::Rna => rest >= half,
            _ => rest > half || rest == half && kept & 1 == 1,
        };
        let kept = kept + u64::from(up);
        // The hidden bit carries into the exponent field by itself.
        let exponent_field = if extra > 0 { 0 } else { (exponent - lowest) as i64 };
        let bits = (exponent_field << self.mantissa) + kept as i64;
        if bits > i64::from(self.largest()) {
            let toward_zero = match rounding {
                Rounding::Rz | Rounding::Rzi => true,
                Rounding::Rm | Rounding::Rmi => !negative,
                Rounding::Rp | Rounding::Rpi => negative,
                _ => false,
            };
            return overflow(toward_zero);
        }
        sign | bits as u32
    }
}

/// TF32 keeps single precision's layout with 10 bits of mantissa.
pub(super) fn tensor_bits(rounding: Rounding, v: f32) -> u32 {
    if v.is_nan() {
        return 0x7fff_ffff;
    }
    TENSOR.bits(rounding, f64::from(v), false) << 13
}
