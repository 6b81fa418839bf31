//! What is the same for all lanes: a static analysis that gives every register a [`Kind`].
//!
//! A warp is processed as rows of lanes (a row is a run of threads with consecutive `tid.x` and equal `tid.y`, `tid.z`).
//! Values that are equal across the warp live in scalar registers, values that are linear along a row in one scalar per
//! row, and only the rest takes vectors. Kinds are per register, not per definition: PTX made by compilers gives nearly
//! every value a register of its own.

use super::flow::{End, Flow};
use crate::bits::BitSet;
use crate::ir::operands;
use crate::ir::{
    BarrierKind, Binary, Instruction, Kernel, Modifiers, Op, Operand, Reg, Space, Special, Ternary, Type, Width,
};

/// How the threads of a block fall into rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum RowClass {
    /// A warp is one row of 32.
    Whole,
    /// Two rows of 16.
    Half,
    /// Four rows of 8.
    Quarter,
    /// No structure: `tid` is read from a table.
    Irregular,
}

impl RowClass {
    /// The class of a block shape.
    pub(super) fn of(block: [u32; 3]) -> RowClass {
        let [x, y, z] = block;
        if x.is_multiple_of(32) || (y == 1 && z == 1) {
            RowClass::Whole
        } else if x.is_multiple_of(16) {
            RowClass::Half
        } else if x.is_multiple_of(8) {
            RowClass::Quarter
        } else {
            RowClass::Irregular
        }
    }

    /// Lanes of a row.
    pub(super) fn lanes(self) -> usize {
        match self {
            RowClass::Whole | RowClass::Irregular => 32,
            RowClass::Half => 16,
            RowClass::Quarter => 8,
        }
    }

    /// Rows of a warp.
    pub(super) fn rows(self) -> usize {
        32 / self.lanes()
    }
}

/// How a register's value differs between lanes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// Not written yet.
    Bottom,
    /// Equal for all lanes.
    Uniform,
    /// Per row: a base, plus the stride times the lane's place in the row (modulo the register's width). `aligned`: the
    /// stride is 1 and bases are multiples of the row's length.
    Rows { stride: i64, aligned: bool },
    /// 64 bits per row: `extend(low + stride * place) * scale + high`, where the 32-bit sum may wrap.
    Extended { signed: bool, stride: i32, scale: i64 },
    /// Anything.
    Varying,
}

impl Kind {
    fn join(self, other: Kind) -> Kind {
        match (self, other) {
            (Kind::Bottom, k) | (k, Kind::Bottom) => k,
            (a, b) if a == b => a,
            (Kind::Uniform, k @ Kind::Rows { stride: 0, .. }) | (k @ Kind::Rows { stride: 0, .. }, Kind::Uniform) => k,
            (Kind::Rows { stride: a, .. }, Kind::Rows { stride: b, .. }) if a == b => Kind::rows(a),
            _ => Kind::Varying,
        }
    }

    /// Rows that are not known to be aligned.
    pub(super) fn rows(stride: i64) -> Kind {
        Kind::Rows { stride, aligned: false }
    }

    /// Equal within a row.
    pub(super) fn is_flat(self) -> bool {
        matches!(self, Kind::Bottom | Kind::Uniform | Kind::Rows { stride: 0, .. })
    }
}

/// The value of an immediate operand.
pub(super) fn immediate(operand: &Operand) -> Option<u64> {
    match operand {
        Operand::Imm(v) => Some(*v),
        _ => None,
    }
}

/// The signed or unsigned value of an immediate of an integer type.
pub(super) fn extended_immediate(ty: Type, value: u64) -> i64 {
    match ty {
        Type::S32 => value as u32 as i32 as i64,
        Type::U32 | Type::B32 => value as u32 as i64,
        Type::S16 => value as u16 as i16 as i64,
        Type::U16 | Type::B16 => value as u16 as i64,
        _ => value as i64,
    }
}

fn plain(m: &Modifiers) -> bool {
    !m.sat && !m.relu
}

/// The width of an integer type that rows can have.
pub(super) fn integer_width(ty: Type) -> Option<Width> {
    match ty {
        Type::B32 | Type::U32 | Type::S32 => Some(Width::B32),
        Type::B64 | Type::U64 | Type::S64 => Some(Width::B64),
        _ => None,
    }
}

/// What the analysis knows while it looks at one operation.
pub(super) struct Rules<'a> {
    pub(super) class: RowClass,
    pub(super) local_stride: i64,
    pub(super) kind_of: &'a dyn Fn(Reg) -> Kind,
    pub(super) width_of: &'a dyn Fn(Reg) -> Width,
}

impl Rules<'_> {
    pub(super) fn operand(&self, operand: &Operand) -> Kind {
        match operand {
            Operand::Reg(r) => (self.kind_of)(*r),
            _ => Kind::Uniform,
        }
    }

    fn normal(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Rows { stride: 0, .. } if self.class.rows() == 1 => Kind::Uniform,
            Kind::Rows { stride: 0, .. } => Kind::rows(0),
            k => k,
        }
    }

    pub(super) fn add(&self, a: Kind, b: Kind, sign: i64) -> Kind {
        let kind = match (a, b) {
            (Kind::Bottom, _) | (_, Kind::Bottom) => Kind::Bottom,
            (Kind::Uniform, Kind::Uniform) => Kind::Uniform,
            (Kind::Rows { stride, .. }, Kind::Uniform) => Kind::rows(stride),
            (Kind::Uniform, Kind::Rows { stride, .. }) => Kind::rows(stride.wrapping_mul(sign)),
            (Kind::Rows { stride: a, .. }, Kind::Rows { stride: b, .. }) => {
                Kind::rows(a.wrapping_add(b.wrapping_mul(sign)))
            }
            (k @ Kind::Extended { .. }, b) if b.is_flat() => k,
            (a, k @ Kind::Extended { .. }) if a.is_flat() && sign == 1 => k,
            _ => Kind::Varying,
        };
        self.normal(kind)
    }

    /// Product of `a` and a constant.
    pub(super) fn scale(&self, a: Kind, by: i64) -> Kind {
        self.normal(match a {
            Kind::Rows { stride, .. } => Kind::rows(stride.wrapping_mul(by)),
            Kind::Extended { signed, stride, scale } => {
                Kind::Extended { signed, stride, scale: scale.wrapping_mul(by) }
            }
            k => k,
        })
    }

    /// Product of two operands, low half; the flag says that `b` is the constant.
    pub(super) fn product(&self, ty: Type, a: &Operand, b: &Operand) -> Kind {
        match (immediate(a), immediate(b)) {
            (_, Some(k)) => self.scale(self.operand(a), extended_immediate(ty, k)),
            (Some(k), None) => self.scale(self.operand(b), extended_immediate(ty, k)),
            _ => self.flat([a, b].map(|o| self.operand(o))),
        }
    }

    /// A 32-bit value widened to 64 bits and multiplied by a constant.
    pub(super) fn widen(&self, signed: bool, a: Kind, by: i64) -> Kind {
        match a {
            Kind::Rows { stride: 0, .. } | Kind::Uniform | Kind::Bottom => a,
            Kind::Rows { stride, .. } => Kind::Extended { signed, stride: stride as i32, scale: by },
            _ => Kind::Varying,
        }
    }

    pub(super) fn wide_product(&self, ty: Type, a: &Operand, b: &Operand) -> Kind {
        if !matches!(ty, Type::S32 | Type::U32) {
            return self.flat([a, b].map(|o| self.operand(o)));
        }
        let signed = ty == Type::S32;
        match (immediate(a), immediate(b)) {
            (_, Some(k)) => self.widen(signed, self.operand(a), extended_immediate(ty, k)),
            (Some(k), None) => self.widen(signed, self.operand(b), extended_immediate(ty, k)),
            _ => self.flat([a, b].map(|o| self.operand(o))),
        }
    }

    /// Any function of operands: flat when all are.
    fn flat(&self, kinds: impl IntoIterator<Item = Kind>) -> Kind {
        let mut result = Kind::Uniform;
        for kind in kinds {
            match kind {
                Kind::Bottom => return Kind::Bottom,
                Kind::Uniform => {}
                k if k.is_flat() => result = k,
                _ => return Kind::Varying,
            }
        }
        result
    }

    fn all_flat(&self, op: &Op) -> Kind {
        let mut kinds = Vec::new();
        operands::sources(op, &mut |r| kinds.push((self.kind_of)(r)));
        // A bottom among varying operands must not hide them: the result is at least what the rest makes it.
        self.flat(kinds)
    }

    fn uniform_or_varying(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Bottom | Kind::Uniform => kind,
            _ => Kind::Varying,
        }
    }

    /// The kind of an operation's results (all of its results alike, but for those that [`Rules::result`] tells apart).
    pub(super) fn operation(&self, op: &Op) -> Kind {
        let row_bits = self.class.lanes().trailing_zeros() as u64;
        match op {
            Op::Mov { a, .. } => self.operand(a),
            Op::Binary { op: Binary::Add, ty, modifiers, a, b, .. }
                if integer_width(*ty).is_some() && plain(modifiers) =>
            {
                self.add(self.operand(a), self.operand(b), 1)
            }
            Op::Binary { op: Binary::Sub, ty, modifiers, a, b, .. }
                if integer_width(*ty).is_some() && plain(modifiers) =>
            {
                self.add(self.operand(a), self.operand(b), -1)
            }
            Op::Binary { op: Binary::Mul, ty, a, b, .. } if integer_width(*ty).is_some() => self.product(*ty, a, b),
            Op::Binary { op: Binary::MulWide, ty, a, b, .. } => self.wide_product(*ty, a, b),
            Op::Binary { op: Binary::Shl, ty, a, b, .. } if integer_width(*ty).is_some() => match immediate(b) {
                Some(k) if k as u32 >= if integer_width(*ty) == Some(Width::B32) { 32 } else { 64 } => Kind::Uniform,
                Some(k) => self.scale(self.operand(a), 1i64.wrapping_shl(k as u32)),
                None => self.all_flat(op),
            },
            Op::Binary { op: Binary::Shr, ty: Type::B32 | Type::U32 | Type::S32, a, b, .. } => {
                match (self.operand(a), immediate(b)) {
                    (Kind::Rows { aligned: true, .. }, Some(k)) if (row_bits..32).contains(&k) => {
                        self.normal(Kind::rows(0))
                    }
                    _ => self.all_flat(op),
                }
            }
            Op::Binary { op: Binary::And, ty: Type::B32 | Type::U32 | Type::S32, a, b, .. } => {
                match (self.operand(a), immediate(b)) {
                    (Kind::Rows { aligned: true, .. }, Some(k)) => {
                        let low = (1u64 << row_bits) - 1;
                        if k & low == low {
                            Kind::Rows { stride: 1, aligned: true }
                        } else if k & low == 0 {
                            self.normal(Kind::rows(0))
                        } else {
                            Kind::Varying
                        }
                    }
                    _ => self.all_flat(op),
                }
            }
            Op::Ternary { op: Ternary::Mad, ty, modifiers, a, b, c, .. }
                if integer_width(*ty).is_some() && plain(modifiers) =>
            {
                self.add(self.product(*ty, a, b), self.operand(c), 1)
            }
            Op::Ternary { op: Ternary::MadWide, ty, a, b, c, .. } => {
                self.add(self.wide_product(*ty, a, b), self.operand(c), 1)
            }
            Op::Cvt { to, from, modifiers, a, .. } if plain(modifiers) => self.conversion(*to, *from, a),
            Op::SelP { ty, a, b, p, .. } => match (self.kind_of)(p.register) {
                Kind::Uniform if integer_width(*ty).is_some() => self.operand(a).join(self.operand(b)),
                Kind::Bottom => Kind::Bottom,
                _ => self.all_flat(op),
            },
            Op::ToGeneric { space, a, .. } => match space {
                Space::Local => self.add(self.operand(a), Kind::rows(self.local_stride), 1),
                _ => self.operand(a),
            },
            Op::FromGeneric { space, a, .. } => match space {
                Space::Local => self.add(self.operand(a), Kind::rows(self.local_stride), -1),
                _ => self.operand(a),
            },
            Op::Load { address, .. } => match (self.operand(&address.base), address.space) {
                (Kind::Bottom, _) => Kind::Bottom,
                (_, Space::Local) => Kind::Varying,
                (k, _) if k.is_flat() => k,
                _ => Kind::Varying,
            },
            Op::Special { which, .. } => match which {
                Special::Tid(0) if self.class != RowClass::Irregular => Kind::Rows { stride: 1, aligned: true },
                Special::LaneId => Kind::Rows { stride: 1, aligned: true },
                Special::Tid(_) if self.class != RowClass::Irregular => self.normal(Kind::rows(0)),
                Special::Tid(_)
                | Special::LaneMaskEq
                | Special::LaneMaskLe
                | Special::LaneMaskLt
                | Special::LaneMaskGe
                | Special::LaneMaskGt => Kind::Varying,
                _ => Kind::Uniform,
            },
            Op::Vote { mask, .. } | Op::Redux { mask, .. } => self.uniform_or_varying(self.operand(mask)),
            Op::Match { all: true, mask, .. } => self.uniform_or_varying(self.operand(mask)),
            Op::ActiveMask { .. } => Kind::Uniform,
            Op::Elect { mask, .. } => self.uniform_or_varying(self.operand(mask)),
            Op::Barrier { .. } => Kind::Uniform,
            Op::Atomic { .. }
            | Op::Shuffle { .. }
            | Op::Match { .. }
            | Op::Runtime { .. }
            | Op::LdMatrix { .. }
            | Op::Mma { .. }
            | Op::MovMatrix { .. } => Kind::Varying,
            _ => self.all_flat(op),
        }
    }

    /// The kind of one result.
    pub(super) fn result(&self, op: &Op, d: Reg) -> Kind {
        let kind = match op {
            Op::Elect { p, .. } if *p == d => Kind::Varying,
            _ => self.operation(op),
        };
        match (self.width_of)(d) {
            Width::B32 | Width::B64 => kind,
            // Narrow registers and predicates are either uniform or not.
            _ => self.uniform_or_varying(kind),
        }
    }

    fn conversion(&self, to: Type, from: Type, a: &Operand) -> Kind {
        let kind = self.operand(a);
        match (integer_width(to), integer_width(from)) {
            (Some(Width::B64), Some(Width::B32)) => self.widen(from == Type::S32, kind, 1),
            (Some(Width::B32), Some(Width::B64)) => match kind {
                Kind::Extended { stride, scale, .. } => self.normal(Kind::rows(i64::from(stride).wrapping_mul(scale))),
                k => k,
            },
            (Some(x), Some(y)) if x == y => kind,
            _ => self.flat([kind]),
        }
    }
}

/// What the analysis found.
pub(super) struct Kinds {
    pub(super) kind: Vec<Kind>,
    /// Blocks whose ends may split lanes.
    pub(super) divergent: Vec<bool>,
    /// See [`Flow::pending`].
    pub(super) pending: Vec<BitSet>,
    /// See [`Flow::kept`].
    pub(super) kept: Vec<BitSet>,
}

/// Gives every register its kind.
pub(super) fn analyse(kernel: &Kernel, flow: &Flow<'_>, class: RowClass, local_stride: i64) -> Kinds {
    let registers = kernel.registers.len();
    let mut kind = vec![Kind::Bottom; registers];
    loop {
        let divergent: Vec<bool> = flow
            .blocks
            .iter()
            .map(|block| match &block.end {
                End::Branch { p, uniform, .. } => {
                    !*uniform && !matches!(kind[p.register.0 as usize], Kind::Uniform | Kind::Bottom)
                }
                End::Switch { index: Operand::Reg(r), .. } => {
                    !matches!(kind[r.0 as usize], Kind::Uniform | Kind::Bottom)
                }
                _ => false,
            })
            .collect();
        let pending = flow.pending(&divergent);
        let kept = flow.kept(&pending, registers);
        let mut changed = false;
        while pass(kernel, flow, class, local_stride, &kept, &mut kind) {
            changed = true;
        }
        if !changed && !kind.contains(&Kind::Bottom) {
            return Kinds { kind, divergent, pending, kept };
        }
        if !changed {
            // Never written, or only from one another: any value will do, and what depends on them gets its kind.
            kind.iter_mut().filter(|k| **k == Kind::Bottom).for_each(|k| *k = Kind::Uniform);
        }
    }
}

fn pass(
    kernel: &Kernel,
    flow: &Flow<'_>,
    class: RowClass,
    local_stride: i64,
    kept: &[BitSet],
    kind: &mut [Kind],
) -> bool {
    let mut changed = false;
    for (b, block) in flow.blocks.iter().enumerate() {
        let barrier = match &block.end {
            End::Barrier { at, next } => Some((*at, *next)),
            _ => None,
        };
        let body = block.body.iter().map(|i| (*i, b, i.guard));
        for (instruction, place, guard) in body.chain(barrier.map(|(at, next)| (at, next, None))) {
            let Instruction { op, .. } = instruction;
            if let Op::Barrier { kind: BarrierKind::Sync | BarrierKind::Arrive, .. } = op {
                continue;
            }
            let mut results = Vec::new();
            operands::results(op, &mut |r| results.push(r));
            for d in results {
                let i = d.0 as usize;
                if kind[i] == Kind::Varying {
                    continue;
                }
                let found = {
                    let rules = Rules {
                        class,
                        local_stride,
                        kind_of: &|r| kind[r.0 as usize],
                        width_of: &|r| kernel.registers[r.0 as usize],
                    };
                    let guard = guard.map_or(Kind::Uniform, |p| kind[p.register.0 as usize]);
                    if kept[place].contains(i) || !matches!(guard, Kind::Uniform | Kind::Bottom) {
                        Kind::Varying
                    } else {
                        kind[i].join(rules.result(op, d))
                    }
                };
                if found != kind[i] {
                    kind[i] = found;
                    changed = true;
                }
            }
        }
    }
    changed
}
