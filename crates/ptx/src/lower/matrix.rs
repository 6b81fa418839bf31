//! Matrices held by a warp.

use super::Lowered;
use super::body::Body;
use super::memory::space;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Operand as AstOperand, Suffix};
use crate::ir::{Op, Operand, Reg, Space, Type};

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
        let types: Option<[Type; 4]> = m.types.as_slice().try_into().ok();
        let foreign = m.suffixes.iter().any(|suffix| suffix.foreign_type() || *suffix == Suffix::Other);
        // Matrices in other orders are an old GPU's, and saturation and sparsity change the sum.
        let plain = m.suffixes.iter().rev().skip_while(|suffix| suffix.ty().is_some()).nth(1) == Some(&Suffix::Row)
            && m.has(Suffix::Col);
        let (Some(shape), Some(types), false, true) = (shape, types, foreign, plain) else { return self.not_run(i) };
        let [m_, n, k] = shape.map(usize::from);
        let [td, ta, tb, tc] = types;
        if shape == [8, 8, 4] && ta != Type::F64 {
            return self.not_run(i);
        }
        let count = |rows: usize, columns: usize, ty: Type| {
            let bytes = rows * columns * types::size(ty) as usize;
            (bytes / 32 / types::size(holder(ty)) as usize).max(1)
        };
        let [d, a, b, c] = self.take(i)?;
        let d = self.fragment(d, holder(td), count(m_, n, td))?;
        let a = self.fragment_values(a, holder(ta), count(m_, k, ta))?;
        let b = self.fragment_values(b, holder(tb), count(k, n, tb))?;
        let c = self.fragment_values(c, holder(tc), count(m_, n, tc))?;
        self.writer.emit(Op::Mma { shape, types, d, a, b, c });
        Ok(())
    }
}
