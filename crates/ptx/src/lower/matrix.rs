//! Matrices held by a warp.

use super::Lowered;
use super::body::Body;
use super::memory::space;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Operand as AstOperand, Suffix};
use crate::ir::{Binary, Op, Operand, Reg, Space, Type, Width};

/// Rows, columns and depth by name.
pub(super) const SHAPES: [(Suffix, [u16; 3]); 12] = [
    (Suffix::M8N8K4, [8, 8, 4]),
    (Suffix::M8N8K16, [8, 8, 16]),
    (Suffix::M8N8K32, [8, 8, 32]),
    (Suffix::M16N8K4, [16, 8, 4]),
    (Suffix::M16N8K8, [16, 8, 8]),
    (Suffix::M16N8K16, [16, 8, 16]),
    (Suffix::M16N8K32, [16, 8, 32]),
    (Suffix::M16N8K64, [16, 8, 64]),
    (Suffix::M16N16K16, [16, 16, 16]),
    (Suffix::M16N16K8, [16, 16, 8]),
    (Suffix::M32N8K16, [32, 8, 16]),
    (Suffix::M8N32K16, [8, 32, 16]),
];

/// Type of a register that holds elements of a matrix.
pub(super) fn holder(ty: Type) -> Type {
    match ty {
        Type::F32 | Type::F64 | Type::S32 => ty,
        _ => Type::B32,
    }
}

impl<'m, 'a> Body<'m, 'a> {
    /// How many matrices `ldmatrix` and `stmatrix` move, when they are of the kind that we run.
    fn matrices(&self, i: &Instruction<'a>) -> Lowered<usize> {
        let m = self.mnemonic(i)?;
        if !m.has(Suffix::M8N8) || !m.has(Suffix::B16) {
            return self.not_run(i);
        }
        match m.any(&[(Suffix::X1, 1), (Suffix::X2, 2), (Suffix::X4, 4)]) {
            Some(count) => Ok(count),
            None => self.invalid(format!("`{}` lacks `.x1`, `.x2` or `.x4`", m.text)),
        }
    }

    fn shared_space(&self, i: &Instruction<'a>) -> Lowered<Space> {
        Ok(space(self.mnemonic(i)?))
    }

    pub(super) fn load_matrix(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let count = self.matrices(i)?;
        let [d, from] = self.take(i)?;
        let d = self.fragment(d, Type::B32, count)?;
        let address = self.address(from, self.shared_space(i)?)?;
        let transpose = self.mnemonic(i)?.has(Suffix::Trans);
        self.writer.emit(Op::LdMatrix { d, address, transpose });
        Ok(())
    }

    pub(super) fn store_matrix(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let count = self.matrices(i)?;
        let [to, a] = self.take(i)?;
        let address = self.address(to, self.shared_space(i)?)?;
        let a = self.fragment_values(a, Type::B32, count)?;
        let transpose = self.mnemonic(i)?.has(Suffix::Trans);
        self.writer.emit(Op::StMatrix { address, a, transpose });
        Ok(())
    }

    pub(super) fn transpose_matrix(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let [d, a] = self.take(i)?;
        let d = self.destination(d, Type::B32, Fit::Exact)?;
        let a = self.source(a, Type::B32)?;
        self.writer.emit(Op::MovMatrix { d, a });
        Ok(())
    }

    fn fragment(&self, operand: &'m AstOperand<'a>, ty: Type, count: usize) -> Lowered<Vec<Reg>> {
        let elements = Self::elements(operand);
        if elements.len() != count {
            return self.fail(operand, format!("{} registers: expected {count}", elements.len()));
        }
        elements.iter().map(|element| self.destination(element, ty, Fit::Exact)).collect()
    }

    fn fragment_values(&mut self, operand: &'m AstOperand<'a>, ty: Type, count: usize) -> Lowered<Vec<Operand>> {
        let elements = Self::elements(operand);
        if elements.len() != count {
            return self.fail(operand, format!("{} registers: expected {count}", elements.len()));
        }
        elements.iter().map(|element| self.source(element, ty)).collect()
    }

    pub(super) fn multiply_matrix(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let shape = m.any(&SHAPES);
        let given: Vec<Element> = m.suffixes.iter().filter_map(|suffix| Element::of(*suffix)).collect();
        let elements: Option<[Element; 4]> = given.try_into().ok();
        let foreign = m
            .suffixes
            .iter()
            .any(|suffix| (suffix.foreign_type() && Element::of(*suffix).is_none()) || *suffix == Suffix::Other);
        // Matrices in other orders are an old GPU's, and sparsity changes the sum.
        let saturate = m.has(Suffix::Satfinite);
        let mut order = m.suffixes.iter().rev();
        let order = order.by_ref().skip_while(|it| Element::of(**it).is_some() || **it == Suffix::Satfinite);
        let plain = order.take(2).eq([&Suffix::Col, &Suffix::Row]);
        let (Some(shape), Some(elements), false, true) = (shape, elements, foreign, plain) else {
            return self.not_run(i);
        };
        let [td, ta, tb, tc] = elements;
        let nibbles = matches!((ta, tb), (Element::Nibble { .. }, Element::Nibble { .. }));
        let mixed = [ta, tb].iter().any(|ty| matches!(ty, Element::Nibble { .. })) != nibbles;
        if mixed || !has_shape(shape, ta) || saturate != (saturate && td == Element::Whole(Type::S32)) {
            return self.not_run(i);
        }
        let [rows, columns, depth] = shape.map(u32::from);
        let count = |rows: u32, columns: u32, ty: Element| {
            (rows * columns * ty.bits() / 32 / (8 * types::size(ty.holder()))).max(1) as usize
        };
        let [d, a, b, c] = self.take(i)?;
        let d = self.fragment(d, td.holder(), count(rows, columns, td))?;
        let mut a = self.fragment_values(a, ta.holder(), count(rows, depth, ta))?;
        let mut b = self.fragment_values(b, tb.holder(), count(depth, columns, tb))?;
        let c = self.fragment_values(c, tc.holder(), count(rows, columns, tc))?;
        if let (Element::Nibble { signed: signed_a }, Element::Nibble { signed: signed_b }) = (ta, tb) {
            a = self.widen_left(&a, signed_a, rows);
            b = b.iter().flat_map(|register| self.widen(*register, signed_b)).collect();
        }
        let types = elements.map(Element::ty);
        self.writer.emit(Op::Mma { shape, types, saturate, d, a, b, c });
        Ok(())
    }

    /// Bytes of the nibbles of a register: of the even ones and of the odd ones. The order of what is summed up does not
    /// matter as long as both factors have the same.
    fn widen(&mut self, nibbles: Operand, signed: bool) -> [Operand; 2] {
        let mask = |bits: u64| Operand::Imm(bits * 0x0101_0101);
        let odd = self.writer.register(Width::B32);
        self.binary(Binary::Shr, Type::U32, odd, nibbles, Operand::Imm(4));
        [nibbles, Operand::Reg(odd)].map(|from| {
            let byte = self.writer.register(Width::B32);
            self.binary(Binary::And, Type::B32, byte, from, mask(0x0f));
            if signed {
                // 8 times 30 is 0xf0: the sign fills the upper half of its byte, and of no other.
                let sign = self.writer.register(Width::B32);
                self.binary(Binary::And, Type::B32, sign, Operand::Reg(byte), mask(0x08));
                self.binary(Binary::Mul, Type::U32, sign, Operand::Reg(sign), Operand::Imm(30));
                self.binary(Binary::Or, Type::B32, byte, Operand::Reg(byte), Operand::Reg(sign));
            }
            Operand::Reg(byte)
        })
    }

    /// As [`Body::widen`], of a left matrix, whose registers go down first.
    fn widen_left(&mut self, registers: &[Operand], signed: bool, rows: u32) -> Vec<Operand> {
        let mut wide = Vec::new();
        for pair in registers.chunks(if rows == 8 { 1 } else { 2 }) {
            let halves: Vec<[Operand; 2]> = pair.iter().map(|register| self.widen(*register, signed)).collect();
            for half in 0..2 {
                wide.extend(halves.iter().filter_map(|bytes| bytes.get(half)).copied());
                // There are no lower rows.
                wide.extend((rows == 8).then_some(Operand::Imm(0)));
            }
        }
        wide
    }
}

/// What a matrix consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Element {
    /// Of a type that registers have.
    Whole(Type),
    /// A float of eight bits.
    Quarter(Type),
    /// An integer of four bits.
    Nibble { signed: bool },
}

impl Element {
    fn of(suffix: Suffix) -> Option<Element> {
        match suffix {
            Suffix::E4M3 => Some(Element::Quarter(Type::E4M3x2)),
            Suffix::E5M2 => Some(Element::Quarter(Type::E5M2x2)),
            Suffix::S4 => Some(Element::Nibble { signed: true }),
            Suffix::U4 => Some(Element::Nibble { signed: false }),
            other => other.ty().map(Element::Whole),
        }
    }

    fn bits(self) -> u32 {
        match self {
            Element::Whole(ty) => 8 * types::size(ty),
            Element::Quarter(_) => 8,
            Element::Nibble { .. } => 4,
        }
    }

    /// Type of a register that holds it.
    fn holder(self) -> Type {
        match self {
            Element::Whole(ty) => holder(ty),
            _ => Type::B32,
        }
    }

    /// Its type in the intermediate form, where nibbles have been widened.
    fn ty(self) -> Type {
        match self {
            Element::Whole(ty) | Element::Quarter(ty) => ty,
            Element::Nibble { signed: true } => Type::S8,
            Element::Nibble { signed: false } => Type::U8,
        }
    }
}

/// Whether `mma` has a shape for factors of this kind (PTX manual, "Warp-level Matrix Shape").
fn has_shape([rows, _, depth]: [u16; 3], element: Element) -> bool {
    match element {
        Element::Whole(Type::F16 | Type::BF16) => rows == 16 && matches!(depth, 8 | 16),
        Element::Whole(Type::TF32) => rows == 16 && matches!(depth, 4 | 8),
        Element::Whole(Type::F64) => matches!((rows, depth), (8, 4) | (16, 4 | 8 | 16)),
        Element::Whole(Type::S8 | Type::U8) => matches!((rows, depth), (8, 16) | (16, 16 | 32)),
        Element::Quarter(_) => rows == 16 && matches!(depth, 16 | 32),
        Element::Nibble { .. } => matches!((rows, depth), (8, 32) | (16, 32 | 64)),
        Element::Whole(_) => false,
    }
}
