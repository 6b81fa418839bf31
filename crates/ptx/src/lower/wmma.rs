//! `wmma`: matrices of a warp in registers whose arrangement the manual keeps to itself.
//!
//! We arrange them as `mma` does, in tiles of 16×8, so that loads and stores become plain accesses per lane and
//! products become `mma`. With g = lane / 4 and t = lane % 4, every element of a fragment lies at a row and column that
//! are g or a multiple of t, plus a constant.

use super::Lowered;
use super::body::Body;
use super::matrix::{SHAPES, holder};
use super::memory::space;
use super::operand::Fit;
use super::types;
use crate::ast::{Instruction, Mnemonic, Operand as AstOperand, Suffix};
use crate::ir::{Address, Binary, Op, Operand, Reg, Semantics, Special, Type, Width};

/// Which matrix of `d = a * b + c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    A,
    B,
    C,
}

/// A register of a fragment: row and column of its first element, without what depends on the lane.
type Place = [u64; 2];

/// A matrix in registers.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    part: Part,
    /// m, n and k.
    shape: [u16; 3],
    ty: Type,
}

impl Fragment {
    /// Elements in a register.
    fn elements(self) -> u64 {
        u64::from(types::size(holder(self.ty)) / types::size(self.ty))
    }

    /// Tiles down and across, and the rows of each.
    fn tiles(self) -> (u64, u64, u64) {
        let [m, n, _] = self.shape.map(u64::from);
        let rows = if self.ty == Type::F64 { 8 } else { 16 };
        (m.div_ceil(rows), n / 8, rows)
    }

    /// Its registers. Rows that the shape does not have get none.
    fn places(self) -> Vec<Option<Place>> {
        let [m, _, k] = self.shape.map(u64::from);
        let (down, across, rows) = self.tiles();
        let pair = if self.ty == Type::F64 { 1 } else { 2 };
        let mut places = Vec::new();
        match self.part {
            Part::A => {
                let depth = self.elements() * 4;
                for tile in 0..down {
                    for column in (0..k).step_by(depth as usize) {
                        places.extend((0..pair).map(|half| [tile * rows + 8 * half, column]));
                    }
                }
            }
            Part::B => {
                let depth = self.elements() * 4;
                for tile in 0..across {
                    places.extend((0..k).step_by(depth as usize).map(|row| [row, tile * 8]));
                }
            }
            Part::C => {
                let columns = 2 / self.elements().min(2);
                for tile in 0..down * across {
                    let (row, column) = (tile / across * rows, tile % across * 8);
                    for half in 0..pair {
                        places.extend((0..columns).map(|at| [row + 8 * half, column + at]));
                    }
                }
            }
        }
        let there = |place: &Place| self.part == Part::B || place[0] < m;
        places.into_iter().map(|place| there(&place).then_some(place)).collect()
    }

    /// Registers of one tile, counted with those that are not there.
    fn per_tile(self) -> usize {
        let (down, across, _) = self.tiles();
        let tiles = match self.part {
            Part::A => down,
            Part::B => across,
            Part::C => down * across,
        };
        self.places().len() / (tiles.max(1) as usize)
    }
}

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn wmma(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let foreign = m.suffixes.iter().any(|suffix| suffix.foreign_type() || *suffix == Suffix::Other);
        let Some(shape) = m.any(&SHAPES) else { return self.not_run(i) };
        if foreign || (m.has(Suffix::Satfinite) && m.types.first() != Some(&Type::S32)) {
            return self.not_run(i);
        }
        let part = m.any(&[(Suffix::A, Part::A), (Suffix::B, Part::B), (Suffix::C, Part::C), (Suffix::D, Part::C)]);
        match (m.suffixes.first(), part) {
            (Some(Suffix::Load), Some(part)) => {
                let fragment = Fragment { part, shape, ty: self.ty(m, 0)? };
                self.load_fragment(i, fragment)
            }
            (Some(Suffix::Store), Some(part)) => {
                let fragment = Fragment { part, shape, ty: self.ty(m, 0)? };
                self.store_fragment(i, fragment)
            }
            (Some(Suffix::Mma), _) => self.multiply_fragments(i, shape),
            _ => self.not_run(i),
        }
    }

    fn combine(&mut self, width: Width, op: Binary, a: Operand, b: Operand) -> Operand {
        let d = self.writer.register(width);
        self.binary(op, types::unsigned(types::bits(width) / 8), d, a, b);
        Operand::Reg(d)
    }

    /// The address of every element of a fragment, by register; and whether a register's elements are neighbours.
    fn element_addresses(
        &mut self,
        m: &Mnemonic<'_>,
        fragment: Fragment,
        at: &'m AstOperand<'a>,
        stride: Option<&'m AstOperand<'a>>,
    ) -> Lowered<(Vec<Vec<Address>>, bool)> {
        let by_rows = m.has(Suffix::Row);
        let address = self.address(at, space(m))?;
        let [rows, columns] = match (fragment.part, fragment.shape.map(u64::from)) {
            (Part::A, [m, _, k]) => [m, k],
            (Part::B, [_, n, k]) => [k, n],
            (Part::C, [m, n, _]) => [m, n],
        };
        let (base, width) = match address.base {
            Operand::Reg(register) => (address.base, self.writer.width(register)),
            other => {
                let register = self.writer.register(Width::B64);
                self.writer.mov(Type::B64, register, other);
                (Operand::Reg(register), Width::B64)
            }
        };
        let stride = match stride {
            None => Operand::Imm(if by_rows { columns } else { rows }),
            Some(stride) => match self.source(stride, Type::U32)? {
                Operand::Reg(narrow) if width == Width::B64 => {
                    let d = self.writer.register(width);
                    let a = Operand::Reg(narrow);
                    self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a });
                    Operand::Reg(d)
                }
                other => other,
            },
        };
        let lane = self.writer.register(Width::B32);
        self.writer.emit(Op::Special { d: lane, which: Special::LaneId });
        let mut lane = Operand::Reg(lane);
        if width == Width::B64 {
            let d = self.writer.register(width);
            self.writer.emit(Op::Cvt { to: Type::U64, from: Type::U32, modifiers: Default::default(), d, a: lane });
            lane = Operand::Reg(d);
        }
        let group = self.combine(width, Binary::Shr, lane, Operand::Imm(2));
        let thread = self.combine(width, Binary::And, lane, Operand::Imm(3));
        let step = if fragment.part == Part::C { 2 } else { fragment.elements() };
        let thread = self.combine(width, Binary::Mul, thread, Operand::Imm(step));
        let (row, column) = if fragment.part == Part::B { (thread, group) } else { (group, thread) };
        let (major, minor) = if by_rows { (row, column) } else { (column, row) };
        let size = u64::from(types::size(fragment.ty));
        let line = self.combine(width, Binary::Mul, stride, Operand::Imm(size));
        let major = self.combine(width, Binary::Mul, major, line);
        let minor = self.combine(width, Binary::Mul, minor, Operand::Imm(size));
        let sum = self.combine(width, Binary::Add, major, minor);
        let base = self.combine(width, Binary::Add, base, sum);
        // Elements of a register follow one another along the depth, and along a row of the result.
        let along_rows = fragment.part == Part::B;
        let mut lines = vec![(0, base)];
        let mut all = Vec::new();
        for place in fragment.places().into_iter().flatten() {
            let mut addresses = Vec::new();
            for element in 0..fragment.elements() {
                let [mut row, mut column] = place;
                if along_rows {
                    row += element
                } else {
                    column += element
                }
                let (major, minor) = if by_rows { (row, column) } else { (column, row) };
                let base = match lines.iter().find(|line| line.0 == major) {
                    Some(&(_, base)) => base,
                    None => {
                        let offset = self.combine(width, Binary::Mul, line, Operand::Imm(major));
                        let base = self.combine(width, Binary::Add, base, offset);
                        lines.push((major, base));
                        base
                    }
                };
                addresses.push(Address { base, offset: address.offset + (minor * size) as i64, ..address });
            }
            all.push(addresses);
        }
        Ok((all, along_rows != by_rows))
    }

    fn load_fragment(&mut self, i: &'m Instruction<'a>, fragment: Fragment) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (d, at, stride) = match i.operands.as_slice() {
            [d, at] => (d, at, None),
            [d, at, stride] => (d, at, Some(stride)),
            _ => return self.count(i, 3),
        };
        let held = holder(fragment.ty);
        let registers: Lowered<Vec<Reg>> =
            Self::elements(d).iter().map(|element| self.destination(element, held, Fit::Exact)).collect();
        let registers = registers?;
        let (addresses, neighbours) = self.element_addresses(m, fragment, at, stride)?;
        if addresses.len() > registers.len() {
            return self.fail(d, format!("{} registers: expected at least {}", registers.len(), addresses.len()));
        }
        let semantics = Semantics::Weak;
        // The address may be computed from a register of the fragment: results wait until all is loaded.
        let mut loaded = Vec::new();
        for addresses in &addresses {
            let whole = self.writer.temporary(held);
            loaded.push(whole);
            match addresses.as_slice() {
                [address, ..] if neighbours || addresses.len() == 1 => {
                    self.writer.emit(Op::Load { ty: held, d: vec![Some(whole)], address: *address, semantics });
                }
                _ => self.gather(fragment, addresses, whole),
            }
        }
        for (place, &register) in registers.iter().enumerate() {
            // Registers beyond those that we need hold nothing.
            let a = loaded.get(place).map_or(Operand::Imm(0), |&whole| Operand::Reg(whole));
            self.writer.mov(types::untyped(types::width(held)), register, a);
        }
        Ok(())
    }

    /// Loads elements one by one and joins them.
    fn gather(&mut self, fragment: Fragment, addresses: &[Address], whole: Reg) {
        let semantics = Semantics::Weak;
        let size = types::size(fragment.ty);
        let mut sum: Option<Operand> = None;
        for (element, &address) in addresses.iter().enumerate() {
            let part = self.writer.register(Width::B32);
            self.writer.emit(Op::Load { ty: types::unsigned(size), d: vec![Some(part)], address, semantics });
            let shift = Operand::Imm(u64::from(size) * 8 * element as u64);
            let part = self.combine(Width::B32, Binary::Shl, Operand::Reg(part), shift);
            sum = Some(match sum {
                Some(sum) => self.combine(Width::B32, Binary::Or, sum, part),
                None => part,
            });
        }
        self.writer.mov(Type::B32, whole, sum.unwrap_or(Operand::Imm(0)));
    }

    fn store_fragment(&mut self, i: &'m Instruction<'a>, fragment: Fragment) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let (at, a, stride) = match i.operands.as_slice() {
            [at, a] => (at, a, None),
            [at, a, stride] => (at, a, Some(stride)),
            _ => return self.count(i, 3),
        };
        let held = holder(fragment.ty);
        let values: Lowered<Vec<Operand>> =
            Self::elements(a).iter().map(|element| self.source(element, held)).collect();
        let values = values?;
        let (addresses, neighbours) = self.element_addresses(m, fragment, at, stride)?;
        if addresses.len() > values.len() {
            return self.fail(a, format!("{} registers: expected at least {}", values.len(), addresses.len()));
        }
        let semantics = Semantics::Weak;
        for (addresses, value) in addresses.into_iter().zip(values) {
            if neighbours || addresses.len() == 1 {
                if let Some(&address) = addresses.first() {
                    self.writer.emit(Op::Store { ty: held, address, a: vec![value], semantics });
                }
                continue;
            }
            let size = types::size(fragment.ty);
            for (element, address) in addresses.into_iter().enumerate() {
                let shift = Operand::Imm(u64::from(size) * 8 * element as u64);
                let part = self.combine(Width::B32, Binary::Shr, value, shift);
                self.writer.emit(Op::Store { ty: types::unsigned(size), address, a: vec![part], semantics });
            }
        }
        Ok(())
    }

    fn multiply_fragments(&mut self, i: &'m Instruction<'a>, shape: [u16; 3]) -> Lowered<()> {
        let m = self.mnemonic(i)?;
        let [td, ta, tb, tc] = match *m.types.as_slice() {
            [d, c] => [d, Type::F16, Type::F16, c],
            [d, a, b, c] => [d, a, b, c],
            _ => return self.invalid(format!("`{}` has {} types: expected 2 or 4", m.text, m.types.len())),
        };
        let [d, a, b, c] = self.take(i)?;
        let fragment = |part, ty| Fragment { part, shape, ty };
        let (fa, fb) = (fragment(Part::A, ta), fragment(Part::B, tb));
        let (fc, fd) = (fragment(Part::C, tc), fragment(Part::C, td));
        let a = self.fragment_operands(a, fa)?;
        let b = self.fragment_operands(b, fb)?;
        let c = self.fragment_operands(c, fc)?;
        let held = holder(td);
        let results: Lowered<Vec<Reg>> =
            Self::elements(d).iter().map(|element| self.destination(element, held, Fit::Exact)).collect();
        let mut results = results?.into_iter();
        let d: Vec<Reg> = fd
            .places()
            .iter()
            .map(|place| place.and_then(|_| results.next()).unwrap_or_else(|| self.writer.temporary(held)))
            .collect();
        let (down, across, rows) = fd.tiles();
        let tile = |fragment: Fragment, number: u64| {
            let per = fragment.per_tile();
            number as usize * per..(number as usize + 1) * per
        };
        for number in 0..down * across {
            let (row, column) = (number / across, number % across);
            self.writer.emit(Op::Mma {
                shape: [rows as u16, 8, shape[2]],
                types: [td, ta, tb, tc],
                saturate: m.has(Suffix::Satfinite),
                d: d.get(tile(fd, number)).unwrap_or_default().to_vec(),
                a: a.get(tile(fa, row)).unwrap_or_default().to_vec(),
                b: b.get(tile(fb, column)).unwrap_or_default().to_vec(),
                c: c.get(tile(fc, number)).unwrap_or_default().to_vec(),
            });
        }
        Ok(())
    }

    /// Operands for every place of a fragment; zero where the shape has no row.
    fn fragment_operands(&mut self, operand: &'m AstOperand<'a>, fragment: Fragment) -> Lowered<Vec<Operand>> {
        let held = holder(fragment.ty);
        let values: Lowered<Vec<Operand>> =
            Self::elements(operand).iter().map(|element| self.source(element, held)).collect();
        let mut values = values?.into_iter();
        let places = fragment.places();
        let mut operands = Vec::with_capacity(places.len());
        for place in places {
            operands.push(match place {
                None => Operand::Imm(0),
                Some(_) => match values.next() {
                    Some(value) => value,
                    None => return self.fail(operand, "too few registers for the shape"),
                },
            });
        }
        Ok(operands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(part: Part, shape: [u16; 3], ty: Type) -> usize {
        Fragment { part, shape, ty }.places().iter().flatten().count()
    }

    #[test]
    fn fragments_take_the_registers_that_the_manual_gives_them() {
        assert_eq!(count(Part::A, [16, 16, 16], Type::BF16), 4);
        assert_eq!(count(Part::B, [16, 16, 16], Type::BF16), 4);
        assert_eq!(count(Part::A, [32, 8, 16], Type::F16), 8);
        assert_eq!(count(Part::B, [8, 32, 16], Type::F16), 8);
        assert_eq!(count(Part::A, [8, 32, 16], Type::BF16), 2);
        assert_eq!(count(Part::C, [8, 32, 16], Type::F32), 8);
        assert_eq!(count(Part::C, [16, 16, 16], Type::F16), 4);
        assert_eq!(count(Part::A, [16, 16, 8], Type::TF32), 4);
        assert_eq!(count(Part::B, [16, 16, 8], Type::TF32), 4);
        assert_eq!(count(Part::A, [8, 32, 16], Type::S8), 1);
        assert_eq!(count(Part::B, [8, 32, 16], Type::U8), 4);
        assert_eq!(count(Part::A, [8, 8, 4], Type::F64), 1);
        assert_eq!(count(Part::C, [8, 8, 4], Type::F64), 2);
    }

    #[test]
    fn a_product_of_16_by_16_is_two_products_of_16_by_8() {
        let eight = "{%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8}";
        let sums = "{%f1,%f2,%f3,%f4,%f5,%f6,%f7,%f8}";
        let text = format!(
            ".version 8.0 .target sm_80 .entry k() {{ .reg .b32 %r<9>; .reg .f32 %f<9>; \
             wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {sums}, {eight}, {eight}, {sums}; }}"
        );
        let module = crate::load(&text).unwrap();
        let products: Vec<_> = module.kernels[0].blocks[0].instructions.iter().map(|it| it.op.clone()).collect();
        let [Op::Mma { shape, a, b, d, .. }, Op::Mma { a: a2, b: b2, d: d2, .. }] = products.as_slice() else {
            panic!("two products, not {products:?}");
        };
        assert_eq!(*shape, [16, 8, 16]);
        assert_eq!(a, a2);
        assert_eq!((a.len(), b.len(), d.len()), (4, 2, 4));
        assert!(b != b2 && d != d2);
    }
}
