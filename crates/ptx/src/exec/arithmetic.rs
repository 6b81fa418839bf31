//! Arithmetic that is worth emitting in line, for scalars and for vectors alike. What is missing here goes to a helper.

use super::code::{Emitter, scalar_type, vector_type};
use super::kinds::immediate;
use super::site::width_of;
use crate::ir::{Binary, Compare, Join, Modifiers, Op, Rounding, Ternary, Type, Unary, Width};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, InstBuilder, Opcode, Value, types};

/// What a type's bits mean to arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Signed(Width),
    Unsigned(Width),
    Single,
    Double,
    Other,
}

pub(super) fn class(ty: Type) -> Class {
    match ty {
        Type::S16 => Class::Signed(Width::B16),
        Type::S32 => Class::Signed(Width::B32),
        Type::S64 => Class::Signed(Width::B64),
        Type::U16 | Type::B16 => Class::Unsigned(Width::B16),
        Type::U32 | Type::B32 => Class::Unsigned(Width::B32),
        Type::U64 | Type::B64 => Class::Unsigned(Width::B64),
        Type::F32 => Class::Single,
        Type::F64 => Class::Double,
        _ => Class::Other,
    }
}

pub(super) fn is_integer(ty: Type) -> bool {
    matches!(class(ty), Class::Signed(_) | Class::Unsigned(_))
}

/// Rounds to nearest and clamps nothing (flushing is done in line).
pub(super) fn nearest(m: &Modifiers) -> bool {
    m.rounding == Rounding::Rn && !m.relu
}

impl Emitter<'_, '_> {
    fn float_type(ty: Type, vector: bool) -> clif::Type {
        match (ty, vector) {
            (Type::F32, false) => types::F32,
            (Type::F32, true) => types::F32X4,
            (_, false) => types::F64,
            (_, true) => types::F64X2,
        }
    }

    fn bits_type(ty: Type, vector: bool) -> clif::Type {
        if vector { vector_type(width_of(ty)) } else { scalar_type(width_of(ty)) }
    }

    /// A constant in all lanes.
    fn constant(&mut self, ty: Type, vector: bool, value: i64) -> Value {
        let lane = scalar_type(width_of(ty));
        let v = self.iconst(lane, value);
        if vector { self.b.ins().splat(vector_type(width_of(ty)), v) } else { v }
    }

    /// Subnormal floats become zeros of their sign.
    fn flush(&mut self, v: Value, vector: bool) -> Value {
        let exponent = self.constant(Type::F32, vector, 0x7f80_0000);
        let sign = self.constant(Type::F32, vector, 0x8000_0000);
        let zero = self.constant(Type::F32, vector, 0);
        let found = self.b.ins().band(v, exponent);
        let signed = self.b.ins().band(v, sign);
        let small = self.b.ins().icmp(IntCC::Equal, found, zero);
        self.choose(small, signed, v, vector)
    }

    /// `mask ? a : b`: the mask is a scalar i8, or a vector as wide as the values.
    fn choose(&mut self, mask: Value, a: Value, b: Value, vector: bool) -> Value {
        if vector { self.b.ins().bitselect(mask, a, b) } else { self.b.ins().select(mask, a, b) }
    }

    /// Floats of bits, flushed when asked.
    fn float(&mut self, ty: Type, m: &Modifiers, v: Value, vector: bool) -> Value {
        let v = if m.ftz && ty == Type::F32 { self.flush(v, vector) } else { v };
        self.cast(Self::float_type(ty, vector), v)
    }

    /// Bits of a float result, saturated and flushed when asked.
    fn unfloat(&mut self, ty: Type, m: &Modifiers, v: Value, vector: bool) -> Value {
        let mut v = v;
        if m.sat {
            v = self.saturate(ty, v, vector);
        }
        let v = self.cast(Self::bits_type(ty, vector), v);
        if m.ftz && ty == Type::F32 { self.flush(v, vector) } else { v }
    }

    /// Clamps to [0, 1]; NaN becomes zero.
    fn saturate(&mut self, ty: Type, v: Value, vector: bool) -> Value {
        let bits = Self::bits_type(ty, vector);
        let one = self.constant(ty, vector, if ty == Type::F32 { 0x3f80_0000 } else { 0x3ff0_0000_0000_0000 });
        let zero = self.constant(ty, vector, 0);
        let float_one = self.cast(Self::float_type(ty, vector), one);
        let float_zero = self.cast(Self::float_type(ty, vector), zero);
        let below = self.b.ins().fcmp(FloatCC::GreaterThan, v, float_zero);
        let above = self.b.ins().fcmp(FloatCC::GreaterThan, v, float_one);
        let raw = self.cast(bits, v);
        let low = self.choose(below, raw, zero, vector);
        let clamped = self.choose(above, one, low, vector);
        self.cast(Self::float_type(ty, vector), clamped)
    }

    /// Comparison of values of a type: a scalar i8, or vectors of all-ones as wide as the type.
    pub(super) fn compare(
        &mut self,
        compare: Compare,
        ty: Type,
        ftz: bool,
        a: Value,
        b: Value,
        vector: bool,
    ) -> Option<Value> {
        if matches!(class(ty), Class::Single | Class::Double) {
            let m = Modifiers { ftz, ..Modifiers::default() };
            let x = self.float(ty, &m, a, vector);
            let y = self.float(ty, &m, b, vector);
            let cc = match compare {
                Compare::Eq => FloatCC::Equal,
                Compare::Lt => FloatCC::LessThan,
                Compare::Le => FloatCC::LessThanOrEqual,
                Compare::Gt => FloatCC::GreaterThan,
                Compare::Ge => FloatCC::GreaterThanOrEqual,
                Compare::Neu => FloatCC::NotEqual,
                Compare::Ltu => FloatCC::UnorderedOrLessThan,
                Compare::Leu => FloatCC::UnorderedOrLessThanOrEqual,
                Compare::Gtu => FloatCC::UnorderedOrGreaterThan,
                Compare::Geu => FloatCC::UnorderedOrGreaterThanOrEqual,
                Compare::Num => FloatCC::Ordered,
                Compare::Nan => FloatCC::Unordered,
                Compare::Ne => {
                    let differ = self.b.ins().fcmp(FloatCC::NotEqual, x, y);
                    let ordered = self.b.ins().fcmp(FloatCC::Ordered, x, y);
                    return Some(self.b.ins().band(differ, ordered));
                }
                Compare::Equ => {
                    let same = self.b.ins().fcmp(FloatCC::Equal, x, y);
                    let unordered = self.b.ins().fcmp(FloatCC::Unordered, x, y);
                    return Some(self.b.ins().bor(same, unordered));
                }
            };
            return Some(self.b.ins().fcmp(cc, x, y));
        }
        let signed = match class(ty) {
            Class::Signed(_) => true,
            Class::Unsigned(_) => false,
            _ => return None,
        };
        let cc = match (compare, signed) {
            (Compare::Eq, _) => IntCC::Equal,
            (Compare::Ne, _) => IntCC::NotEqual,
            (Compare::Lt, true) => IntCC::SignedLessThan,
            (Compare::Le, true) => IntCC::SignedLessThanOrEqual,
            (Compare::Gt, true) => IntCC::SignedGreaterThan,
            (Compare::Ge, true) => IntCC::SignedGreaterThanOrEqual,
            (Compare::Lt, false) => IntCC::UnsignedLessThan,
            (Compare::Le, false) => IntCC::UnsignedLessThanOrEqual,
            (Compare::Gt, false) => IntCC::UnsignedGreaterThan,
            (Compare::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
            // `lo`, `ls`, `hi`, `hs` arrive as the plain forms of unsigned types; the NaN forms mean nothing here.
            _ => return None,
        };
        if vector && width_of(ty) == Width::B64 && !matches!(cc, IntCC::Equal | IntCC::NotEqual) {
            // Only signed comparisons of 64-bit lanes exist.
            let (a, b) = if signed {
                (a, b)
            } else {
                let sign = self.constant(ty, true, i64::MIN);
                (self.b.ins().bxor(a, sign), self.b.ins().bxor(b, sign))
            };
            return Some(match compare {
                Compare::Lt => self.b.ins().icmp(IntCC::SignedGreaterThan, b, a),
                Compare::Gt => self.b.ins().icmp(IntCC::SignedGreaterThan, a, b),
                Compare::Le => {
                    let greater = self.b.ins().icmp(IntCC::SignedGreaterThan, a, b);
                    self.b.ins().bnot(greater)
                }
                _ => {
                    let less = self.b.ins().icmp(IntCC::SignedGreaterThan, b, a);
                    self.b.ins().bnot(less)
                }
            });
        }
        Some(self.b.ins().icmp(cc, a, b))
    }

    /// Smaller or larger of two floats: a NaN loses, zeros order by sign.
    fn float_extreme(&mut self, ty: Type, max: bool, nan: bool, a: Value, b: Value, vector: bool) -> Value {
        let t = Self::float_type(ty, vector);
        let bits = Self::bits_type(ty, vector);
        let (x, y) = (self.cast(t, a), self.cast(t, b));
        let cc = if max { FloatCC::GreaterThan } else { FloatCC::LessThan };
        let first = self.b.ins().fcmp(cc, x, y);
        let one = self.choose(first, a, b, vector);
        let second = self.b.ins().fcmp(cc, y, x);
        let other = self.choose(second, b, a, vector);
        // Equal values differ at most in the sign of zero, which and (or) settles; NaNs are seen to below.
        let both = if max { self.b.ins().band(one, other) } else { self.b.ins().bor(one, other) };
        let a_nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
        let b_nan = self.b.ins().fcmp(FloatCC::Unordered, y, y);
        let (if_a, if_b) = if nan {
            let canonical = if ty == Type::F32 { 0x7fc0_0000 } else { 0x7ff8_0000_0000_0000 };
            let canonical = self.constant(ty, vector, canonical);
            (canonical, canonical)
        } else {
            (b, a)
        };
        let r = self.choose(b_nan, if_b, both, vector);
        let r = self.choose(a_nan, if_a, r, vector);
        self.cast(bits, r)
    }

    /// One operation on operands of one width. `amounts` are scalar shift amounts where the operand is uniform.
    pub(super) fn same_width(&mut self, op: &Op, a: &[Value], vector: bool, amount: Option<Value>) -> Option<Value> {
        match op {
            Op::Unary { op, ty, modifiers: m, .. } => self.unary(*op, *ty, m, a[0], vector),
            Op::Binary { op, ty, modifiers: m, b, .. } => {
                self.binary(*op, *ty, m, a[0], a[1], vector, amount, immediate(b))
            }
            Op::Ternary { op, ty, modifiers: m, .. } => self.ternary(*op, *ty, m, a[0], a[1], a[2], vector),
            _ => None,
        }
    }

    fn unary(&mut self, op: Unary, ty: Type, m: &Modifiers, a: Value, vector: bool) -> Option<Value> {
        let float = matches!(ty, Type::F32 | Type::F64);
        Some(match op {
            Unary::Not if ty == Type::Pred => self.b.ins().bxor_imm_s(a, 1),
            Unary::Not if is_integer(ty) => self.b.ins().bnot(a),
            Unary::Neg if is_integer(ty) => self.b.ins().ineg(a),
            Unary::Abs if is_integer(ty) => {
                if vector && width_of(ty) == Width::B16 || !vector && width_of(ty) == Width::B16 {
                    return None;
                }
                self.b.ins().iabs(a)
            }
            Unary::Neg if float => {
                let a = if m.ftz && ty == Type::F32 { self.flush(a, vector) } else { a };
                let sign = self.constant(ty, vector, if ty == Type::F32 { 0x8000_0000 } else { i64::MIN });
                self.b.ins().bxor(a, sign)
            }
            Unary::Abs if float => {
                let a = if m.ftz && ty == Type::F32 { self.flush(a, vector) } else { a };
                let rest = self.constant(ty, vector, if ty == Type::F32 { 0x7fff_ffff } else { i64::MAX });
                self.b.ins().band(a, rest)
            }
            Unary::Sqrt if float && nearest(m) => {
                let x = self.float(ty, m, a, vector);
                let r = self.b.ins().sqrt(x);
                self.unfloat(ty, m, r, vector)
            }
            Unary::Rcp if float && nearest(m) && (!m.approx || ty == Type::F32) => {
                let x = self.float(ty, m, a, vector);
                let one = self.constant(ty, vector, if ty == Type::F32 { 0x3f80_0000 } else { 0x3ff0_0000_0000_0000 });
                let one = self.cast(Self::float_type(ty, vector), one);
                let r = self.b.ins().fdiv(one, x);
                self.unfloat(ty, m, r, vector)
            }
            Unary::Rsqrt if ty == Type::F32 => {
                let x = self.float(ty, m, a, vector);
                let one = self.constant(ty, vector, 0x3f80_0000);
                let one = self.cast(Self::float_type(ty, vector), one);
                let root = self.b.ins().sqrt(x);
                let r = self.b.ins().fdiv(one, root);
                self.unfloat(ty, m, r, vector)
            }
            _ => return None,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the instruction's own operands")]
    fn binary(
        &mut self,
        op: Binary,
        ty: Type,
        m: &Modifiers,
        a: Value,
        b: Value,
        vector: bool,
        amount: Option<Value>,
        constant: Option<u64>,
    ) -> Option<Value> {
        if matches!(ty, Type::F32 | Type::F64) {
            return self.float_binary(op, ty, m, a, b, vector);
        }
        if matches!(op, Binary::And | Binary::Or | Binary::Xor) && width_of(ty) != Width::B128 {
            return Some(match op {
                Binary::And => self.b.ins().band(a, b),
                Binary::Or => self.b.ins().bor(a, b),
                _ => self.b.ins().bxor(a, b),
            });
        }
        if !is_integer(ty) || m.sat {
            return None;
        }
        let width = width_of(ty);
        let signed = matches!(class(ty), Class::Signed(_));
        Some(match op {
            Binary::Add => self.b.ins().iadd(a, b),
            Binary::Sub => self.b.ins().isub(a, b),
            Binary::Mul => self.b.ins().imul(a, b),
            Binary::MulHi if !vector && width != Width::B16 => {
                if signed {
                    self.b.ins().smulhi(a, b)
                } else {
                    self.b.ins().umulhi(a, b)
                }
            }
            Binary::Min | Binary::Max if !(vector && width == Width::B64) => match (op, signed) {
                (Binary::Min, true) => self.b.ins().smin(a, b),
                (Binary::Min, false) => self.b.ins().umin(a, b),
                (_, true) => self.b.ins().smax(a, b),
                (_, false) => self.b.ins().umax(a, b),
            },
            Binary::Min | Binary::Max => {
                let cc = if op == Binary::Min { Compare::Lt } else { Compare::Gt };
                let first = self.compare(cc, ty, false, a, b, vector)?;
                self.choose(first, a, b, vector)
            }
            Binary::Shl | Binary::Shr => return self.shift(op, width, signed, a, b, vector, amount, constant),
            _ => return None,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the instruction's own operands")]
    fn shift(
        &mut self,
        op: Binary,
        width: Width,
        signed: bool,
        a: Value,
        b: Value,
        vector: bool,
        amount: Option<Value>,
        constant: Option<u64>,
    ) -> Option<Value> {
        let bits = 8 * super::site::bytes(width) as i64;
        let by = if vector { amount? } else { b };
        let plain = |e: &mut Self, by: Value| match (op, signed) {
            (Binary::Shl, _) => e.b.ins().ishl(a, by),
            (_, true) => e.b.ins().sshr(a, by),
            (_, false) => e.b.ins().ushr(a, by),
        };
        if let Some(k) = constant {
            let k = i64::from(k as u32);
            let all = op == Binary::Shr && signed;
            if k >= bits && !all {
                let zero = self.iconst(scalar_type(width), 0);
                return Some(if vector { self.b.ins().splat(vector_type(width), zero) } else { zero });
            }
            let by = self.iconst(types::I32, k.min(bits - 1));
            return Some(plain(self, by));
        }
        let limit = self.iconst(types::I32, bits - 1);
        if op == Binary::Shr && signed {
            let by = self.b.ins().umin(by, limit);
            return Some(plain(self, by));
        }
        let shifted = plain(self, by);
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, by, limit);
        if vector {
            let wide = self.b.ins().uextend(types::I32, inside);
            let all = self.b.ins().ineg(wide);
            let all = self.b.ins().splat(types::I32X4, all);
            let all = self.cast(vector_type(width), all);
            Some(self.b.ins().band(shifted, all))
        } else {
            let zero = self.iconst(scalar_type(width), 0);
            Some(self.b.ins().select(inside, shifted, zero))
        }
    }

    fn float_binary(&mut self, op: Binary, ty: Type, m: &Modifiers, a: Value, b: Value, vector: bool) -> Option<Value> {
        match op {
            Binary::Min | Binary::Max => {
                let (a, b) =
                    if m.ftz && ty == Type::F32 { (self.flush(a, vector), self.flush(b, vector)) } else { (a, b) };
                return Some(self.float_extreme(ty, op == Binary::Max, m.nan, a, b, vector));
            }
            Binary::CopySign => {
                // Sign of `a`, magnitude of `b`.
                let sign = self.constant(ty, vector, if ty == Type::F32 { 0x8000_0000 } else { i64::MIN });
                let s = self.b.ins().band(a, sign);
                let rest = self.b.ins().band_not(b, sign);
                return Some(self.b.ins().bor(s, rest));
            }
            _ => {}
        }
        if !nearest(m) {
            return None;
        }
        let (x, y) = (self.float(ty, m, a, vector), self.float(ty, m, b, vector));
        let r = match op {
            Binary::Add => self.b.ins().fadd(x, y),
            Binary::Sub => self.b.ins().fsub(x, y),
            Binary::Mul => self.b.ins().fmul(x, y),
            Binary::Div => self.b.ins().fdiv(x, y),
            _ => return None,
        };
        Some(self.unfloat(ty, m, r, vector))
    }

    fn is_splat(&self, v: Value) -> bool {
        let dfg = &self.b.func.dfg;
        let made_by = |v: Value| dfg.value_def(v).inst();
        made_by(v).is_some_and(|inst| match dfg.insts[inst].opcode() {
            Opcode::Bitcast => dfg.inst_args(inst).first().is_some_and(|inner| self.is_splat(*inner)),
            opcode => opcode == Opcode::Splat,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the instruction's own operands")]
    fn ternary(
        &mut self,
        op: Ternary,
        ty: Type,
        m: &Modifiers,
        a: Value,
        b: Value,
        c: Value,
        vector: bool,
    ) -> Option<Value> {
        Some(match op {
            Ternary::Mad if is_integer(ty) && !m.sat => {
                let product = self.b.ins().imul(a, b);
                self.b.ins().iadd(product, c)
            }
            Ternary::Fma | Ternary::Mad if matches!(ty, Type::F32 | Type::F64) && nearest(m) => {
                let (x, y, z) =
                    (self.float(ty, m, a, vector), self.float(ty, m, b, vector), self.float(ty, m, c, vector));
                // The machine's instruction overwrites the first factor: better a loaded vector than the copy of a scalar.
                let (x, y) = if self.is_splat(x) { (y, x) } else { (x, y) };
                let r = self.b.ins().fma(x, y, z);
                self.unfloat(ty, m, r, vector)
            }
            Ternary::Lop3(table) if width_of(ty) == Width::B32 => self.lop3(table, a, b, c, vector),
            _ => return None,
        })
    }

    /// A truth table over three operands, as sums of what each choice of `a` and `b` asks of `c`.
    fn lop3(&mut self, table: u8, a: Value, b: Value, c: Value, vector: bool) -> Value {
        let zero = self.constant(Type::B32, vector, 0);
        let ones = self.constant(Type::B32, vector, -1);
        // Common shapes first.
        match table {
            0xc0 => return self.b.ins().band(a, b),
            0xfc => return self.b.ins().bor(a, b),
            0x3c => return self.b.ins().bxor(a, b),
            0x96 => {
                let x = self.b.ins().bxor(a, b);
                return self.b.ins().bxor(x, c);
            }
            0xfe => {
                let x = self.b.ins().bor(a, b);
                return self.b.ins().bor(x, c);
            }
            0x80 => {
                let x = self.b.ins().band(a, b);
                return self.b.ins().band(x, c);
            }
            0xf8 => {
                let x = self.b.ins().band(b, c);
                return self.b.ins().bor(a, x);
            }
            0xea => {
                let x = self.b.ins().band(a, b);
                return self.b.ins().bor(x, c);
            }
            0xca => return self.b.ins().bitselect(a, b, c),
            _ => {}
        }
        let choose = |e: &mut Self, bits: u8| match bits & 3 {
            0 => zero,
            1 => e.b.ins().bnot(c),
            2 => c,
            _ => ones,
        };
        // Pairs of the table from the lowest: (a, b) = 00, 01, 10, 11.
        let parts = [0, 1, 2, 3].map(|i| choose(self, table >> (2 * i)));
        let low = self.b.ins().bitselect(b, parts[1], parts[0]);
        let high = self.b.ins().bitselect(b, parts[3], parts[2]);
        self.b.ins().bitselect(a, high, low)
    }

    /// Emits an operation on scalars, if it is done in line: its results.
    pub(super) fn inline(&mut self, op: &Op, a: &[Value], vector: bool) -> Option<Vec<Value>> {
        match op {
            Op::SetP { compare, ty, ftz, p, q, join, .. } => {
                let hit = self.compare(*compare, *ty, *ftz, a[0], a[1], vector)?;
                let mut made = Vec::new();
                if p.is_some() {
                    made.push(self.joined(hit, join.map(|j| j.0), a.get(2).copied()));
                }
                if q.is_some() {
                    let miss = self.b.ins().bxor_imm_s(hit, 1);
                    made.push(self.joined(miss, join.map(|j| j.0), a.get(2).copied()));
                }
                Some(made)
            }
            Op::SelP { .. } => Some(vec![self.choose(a[2], a[0], a[1], false)]),
            Op::Unary { ty: Type::Pred, .. } | Op::Binary { ty: Type::Pred, .. } => {
                Some(vec![self.same_width(op, a, false, None)?])
            }
            Op::Binary { op: Binary::MulWide, ty, .. } if matches!(ty, Type::S32 | Type::U32) => {
                let wide = |e: &mut Self, v| {
                    if *ty == Type::S32 { e.b.ins().sextend(types::I64, v) } else { e.b.ins().uextend(types::I64, v) }
                };
                let (x, y) = (wide(self, a[0]), wide(self, a[1]));
                Some(vec![self.b.ins().imul(x, y)])
            }
            Op::Ternary { op: Ternary::MadWide, ty, .. } if matches!(ty, Type::S32 | Type::U32) => {
                let wide = |e: &mut Self, v| {
                    if *ty == Type::S32 { e.b.ins().sextend(types::I64, v) } else { e.b.ins().uextend(types::I64, v) }
                };
                let (x, y) = (wide(self, a[0]), wide(self, a[1]));
                let product = self.b.ins().imul(x, y);
                Some(vec![self.b.ins().iadd(product, a[2])])
            }
            Op::Unary { .. } | Op::Binary { .. } | Op::Ternary { .. } => {
                Some(vec![self.same_width(op, a, vector, None)?])
            }
            Op::Cvt { to, from, modifiers, d, .. } => {
                let width = self.width(*d);
                Some(vec![self.scalar_conversion(*to, *from, modifiers, a[0], width)?])
            }
            Op::Unpack { d, part: Width::B32, .. } if d.len() == 2 => {
                let mut made = Vec::new();
                if d[0].is_some() {
                    made.push(self.b.ins().ireduce(types::I32, a[0]));
                }
                if d[1].is_some() {
                    let high = self.b.ins().ushr_imm_s(a[0], 32);
                    made.push(self.b.ins().ireduce(types::I32, high));
                }
                Some(made)
            }
            Op::Pack { part: Width::B32, .. } if a.len() == 2 => {
                let low = self.b.ins().uextend(types::I64, a[0]);
                let high = self.b.ins().uextend(types::I64, a[1]);
                let high = self.b.ins().ishl_imm_s(high, 32);
                Some(vec![self.b.ins().bor(low, high)])
            }
            _ => None,
        }
    }

    pub(super) fn joined(&mut self, hit: Value, join: Option<Join>, c: Option<Value>) -> Value {
        match (join, c) {
            (Some(Join::And), Some(c)) => self.b.ins().band(hit, c),
            (Some(Join::Or), Some(c)) => self.b.ins().bor(hit, c),
            (Some(Join::Xor), Some(c)) => self.b.ins().bxor(hit, c),
            _ => hit,
        }
    }

    fn scalar_conversion(&mut self, to: Type, from: Type, m: &Modifiers, a: Value, width: Width) -> Option<Value> {
        if m.sat || m.relu || m.ftz {
            return None;
        }
        let (to_class, from_class) = (class(to), class(from));
        let integer = |c: Class| match c {
            Class::Signed(w) => Some((w, true)),
            Class::Unsigned(w) => Some((w, false)),
            _ => None,
        };
        let out = scalar_type(width);
        if let (Some((w, _)), Some((f, signed))) = (integer(to_class), integer(from_class)) {
            let target = scalar_type(w);
            let v = match (super::site::bytes(w), super::site::bytes(f)) {
                (x, y) if x < y => self.b.ins().ireduce(target, a),
                (x, y) if x > y && signed => self.b.ins().sextend(target, a),
                (x, y) if x > y => self.b.ins().uextend(target, a),
                _ => a,
            };
            return (target == out).then_some(v);
        }
        match (to_class, from_class) {
            (Class::Double, Class::Single) => {
                let x = self.cast(types::F32, a);
                let y = self.b.ins().fpromote(types::F64, x);
                Some(self.cast(types::I64, y))
            }
            (Class::Single, Class::Double) if m.rounding == Rounding::Rn => {
                let x = self.cast(types::F64, a);
                let y = self.b.ins().fdemote(types::F32, x);
                Some(self.cast(types::I32, y))
            }
            (Class::Single | Class::Double, c)
                if integer(c).is_some_and(|(w, _)| w != Width::B16) && m.rounding == Rounding::Rn =>
            {
                let (_, signed) = integer(c)?;
                let t = if to_class == Class::Single { types::F32 } else { types::F64 };
                let y = if signed { self.b.ins().fcvt_from_sint(t, a) } else { self.b.ins().fcvt_from_uint(t, a) };
                Some(self.cast(scalar_type(width_of(to)), y))
            }
            _ => None,
        }
    }
}
