//! Moves and conversions.

use super::Lowered;
use super::body::Body;
use super::instruction::modifiers;
use super::operand::Fit;
use super::scope::Local;
use super::types;
use crate::ast::{Instruction, Mnemonic, Operand as AstOperand, OperandKind, Suffix};
use crate::ir::{Binary, Modifiers, Op, Operand, Reg, Type, Width};

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn mov(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let ty = self.ty(m, 0)?;
        let [d, a] = self.take(i)?;
        match (&d.kind, &a.kind) {
            (OperandKind::Vector(parts), OperandKind::Name(name)) if m.has(Suffix::V4) || m.has(Suffix::V2) => {
                // A vector register, or a special one such as `%tid`.
                for (part, member) in parts.iter().zip(["x", "y", "z", "w"]) {
                    let d = self.destination(part, ty, Fit::Exact)?;
                    let value = match self.local_name(name) {
                        Some(Local::Vector(first, count, _)) => {
                            let place = ["x", "y", "z", "w"].iter().position(|it| *it == member).unwrap_or(0) as u32;
                            if place >= count {
                                return self.fail(a, format!("`{name}` has {count} elements"));
                            }
                            Operand::Reg(Reg(first.0 + place))
                        }
                        Some(_) => return self.fail(a, format!("`{name}` is not a vector")),
                        None => self.special_value(a, name, Some(member), ty)?,
                    };
                    self.writer.mov(ty, d, value);
                }
            }
            (OperandKind::Vector(parts), _) if parts.len() == types::size(ty) as usize => {
                self.split_bytes(parts, a, ty)?
            }
            (_, OperandKind::Vector(parts)) if parts.len() == types::size(ty) as usize => {
                self.join_bytes(d, parts, ty)?
            }
            (OperandKind::Vector(parts), _) => {
                let part = self.part(d, ty, parts.len())?;
                let untyped = types::untyped(part);
                let a = self.source(a, ty)?;
                let d: Lowered<Vec<Option<Reg>>> =
                    parts.iter().map(|part| self.sink(part, untyped, Fit::Exact)).collect();
                self.writer.emit(Op::Unpack { d: d?, part, a });
            }
            (_, OperandKind::Vector(parts)) => {
                let part = self.part(a, ty, parts.len())?;
                let untyped = types::untyped(part);
                let d = self.destination(d, ty, Fit::Exact)?;
                let a: Lowered<Vec<Operand>> = parts.iter().map(|part| self.source(part, untyped)).collect();
                self.writer.emit(Op::Pack { d, part, a: a? });
            }
            _ => {
                let d = self.destination(d, ty, Fit::Exact)?;
                let mark = self.writer.mark();
                let a = self.source(a, ty)?;
                // A special register was read into a register of its own: it can go where it belongs at once.
                if let Some([_, ..]) = self.writer.since(mark).and_then(|all| all.get(mark.1..))
                    && let Some([.., last]) = self.writer.since(mark).map(Vec::as_mut_slice)
                    && let Op::Special { d: own, .. } = &mut last.op
                    && a == Operand::Reg(*own)
                {
                    *own = d;
                    return Ok(());
                }
                self.writer.mov(ty, d, a);
            }
        }
        Ok(())
    }

    /// `mov.b32 {a, b, c, d}, e`, where the parts are bytes.
    fn split_bytes(&mut self, parts: &'m [AstOperand<'a>], a: &'m AstOperand<'a>, ty: Type) -> Lowered<()> {
        let a = self.source(a, ty)?;
        let whole = types::unsigned(types::size(ty));
        // The source may be overwritten by a part only after all have been read.
        let mut bytes = Vec::new();
        for place in 0..parts.len() {
            let (shifted, d) = (self.writer.temporary(ty), self.writer.register(Width::B16));
            self.binary(Binary::Shr, whole, shifted, a, Operand::Imm(8 * place as u64));
            let a = Operand::Reg(shifted);
            self.writer.emit(Op::Cvt { to: Type::U8, from: whole, modifiers: Modifiers::default(), d, a });
            bytes.push(d);
        }
        for (part, byte) in parts.iter().zip(bytes) {
            if let Some(d) = self.sink(part, Type::B8, Fit::Wider)? {
                self.extend(Type::U8, d, byte);
            }
        }
        Ok(())
    }

    /// `mov.b32 e, {a, b, c, d}`, where the parts are bytes.
    fn join_bytes(&mut self, d: &'m AstOperand<'a>, parts: &'m [AstOperand<'a>], ty: Type) -> Lowered<()> {
        let d = self.destination(d, ty, Fit::Exact)?;
        let whole = types::unsigned(types::size(ty));
        let mut sum = Operand::Imm(0);
        for (place, part) in parts.iter().enumerate() {
            let a = self.value(part, Type::B8, Fit::Wider)?;
            let (byte, next) = (self.writer.temporary(ty), self.writer.temporary(ty));
            self.writer.emit(Op::Cvt { to: whole, from: Type::U8, modifiers: Modifiers::default(), d: byte, a });
            self.binary(Binary::Shl, ty, byte, Operand::Reg(byte), Operand::Imm(8 * place as u64));
            self.binary(Binary::Or, ty, next, sum, Operand::Reg(byte));
            sum = Operand::Reg(next);
        }
        self.writer.mov(ty, d, sum);
        Ok(())
    }

    /// The width of each of several equal parts of a type.
    fn part(&self, operand: &AstOperand<'a>, ty: Type, count: usize) -> Lowered<Width> {
        let size = types::size(ty) as usize;
        match if size.is_multiple_of(count.max(1)) { size / count.max(1) } else { 0 } {
            2 if count > 1 => Ok(Width::B16),
            4 if count > 1 => Ok(Width::B32),
            8 if count > 1 => Ok(Width::B64),
            _ => self.fail(operand, format!("`.{}` does not split into {count} parts", types::name(ty))),
        }
    }

    pub(super) fn convert(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        if m.has(Suffix::Pack) {
            return self.convert_pack(i);
        }
        if m.has(Suffix::Rs) {
            return self.not_run(i);
        }
        let (to, from) = (self.ty(m, 0)?, self.ty(m, 1)?);
        if let [d, a, b] = i.operands.as_slice() {
            if types::width(to) == Width::B16 && types::size(to) != 2 {
                return self.count(i, 2);
            }
            let d = self.destination(d, to, Fit::Exact)?;
            let (a, b) = (self.source(a, from)?, self.source(b, from)?);
            self.writer.emit(Op::CvtPack { to, from, modifiers: modifiers(m), d, a, b });
            return Ok(());
        }
        self.check_rounding(m, to, from)?;
        let [d, a] = self.take(i)?;
        let d = self.destination(d, to, Fit::Wider)?;
        let a = self.value(a, from, Fit::Wider)?;
        let a = self.narrow(a, from);
        let modifiers = modifiers(m);
        if types::is_float(to) && self.writer.width(d) != types::width(to) {
            // A float in a wider register: its bits, extended by zeros.
            let exact = self.writer.temporary(to);
            self.writer.emit(Op::Cvt { to, from, modifiers, d: exact, a });
            self.extend(types::unsigned(types::size(to)), d, exact);
        } else {
            self.writer.emit(Op::Cvt { to, from, modifiers, d, a });
        }
        Ok(())
    }

    /// A conversion that rounds says how (manual, `cvt`).
    fn check_rounding(&self, m: &Mnemonic<'_>, to: Type, from: Type) -> Lowered<()> {
        let has = |choices: &[Suffix]| choices.iter().any(|&choice| m.has(choice));
        let floating = has(&[Suffix::Rn, Suffix::Rz, Suffix::Rm, Suffix::Rp, Suffix::Rna]);
        let integral = has(&[Suffix::Rni, Suffix::Rzi, Suffix::Rmi, Suffix::Rpi]);
        let plain = |ty| matches!(ty, Type::F16 | Type::BF16 | Type::F32 | Type::F64);
        let fault = match (types::is_float(to), types::is_float(from)) {
            (false, true) if !integral && !floating => "lacks a rounding such as `.rzi`",
            (true, false) if !floating => "lacks a rounding such as `.rn`",
            (true, true) if plain(to) && plain(from) && types::size(to) < types::size(from) && !floating => {
                "lacks a rounding such as `.rn`"
            }
            (false, false) if integral || floating => "rounds, and converts integers",
            _ => return Ok(()),
        };
        self.invalid(format!("`{}` {fault}", m.text))
    }

    /// The low bits of a register wider than a type.
    pub(super) fn narrow(&mut self, a: Operand, ty: Type) -> Operand {
        match a {
            Operand::Reg(register) if self.writer.width(register) != types::width(ty) => {
                let d = self.writer.temporary(ty);
                let from = types::unsigned(types::bits(self.writer.width(register)) / 8);
                let to = types::unsigned(types::size(ty));
                self.writer.emit(Op::Cvt { to, from, modifiers: Modifiers::default(), d, a });
                Operand::Reg(d)
            }
            other => other,
        }
    }

    /// `cvt.pack.sat.u8.s32.b32 d, a, b, c`: two integers, clamped, below what `c` holds.
    fn convert_pack(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (to, from) = (self.ty(m, 0)?, self.ty(m, 1)?);
        let (d, a, b, c) = match i.operands.as_slice() {
            [d, a, b] => (d, a, b, None),
            [d, a, b, c] => (d, a, b, Some(c)),
            _ => return self.count(i, 3),
        };
        let d = self.destination(d, Type::U32, Fit::Exact)?;
        let (a, b) = (self.source(a, from)?, self.source(b, from)?);
        let c = c.map(|c| self.source(c, Type::B32)).transpose()?;
        let bits = u64::from(types::size(to)) * 8;
        let mut parts = [self.writer.register(Width::B32), self.writer.register(Width::B32)];
        for (part, value) in parts.iter_mut().zip([a, b]) {
            let (low, high) = match (types::is_signed(to), types::is_signed(from)) {
                (true, true) => ((-1i64 << (bits - 1)) as u64 & 0xffff_ffff, (1 << (bits - 1)) - 1),
                (true, false) => (0, (1 << (bits - 1)) - 1),
                (false, _) => (0, (1 << bits) - 1),
            };
            self.binary(Binary::Max, from, *part, value, Operand::Imm(low));
            self.binary(Binary::Min, from, *part, Operand::Reg(*part), Operand::Imm(high));
            self.binary(Binary::And, Type::B32, *part, Operand::Reg(*part), Operand::Imm((1 << bits) - 1));
        }
        let [high, low] = parts;
        self.binary(Binary::Shl, Type::B32, high, Operand::Reg(high), Operand::Imm(bits));
        self.binary(Binary::Or, Type::B32, low, Operand::Reg(low), Operand::Reg(high));
        match c {
            Some(c) => {
                self.binary(Binary::Shl, Type::B32, high, c, Operand::Imm(2 * bits));
                self.binary(Binary::Or, Type::B32, d, Operand::Reg(low), Operand::Reg(high));
            }
            None => self.writer.mov(Type::B32, d, Operand::Reg(low)),
        }
        Ok(())
    }
}
