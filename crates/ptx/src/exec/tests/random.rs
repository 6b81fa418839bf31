//! Random programs, compared with the oracle bit by bit.

use super::*;
use crate::ir::*;
use std::collections::HashMap;

/// A small generator of pseudo-random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

struct Program {
    w: Writer,
    random: Random,
    pools: HashMap<u8, Vec<Reg>>,
    depth: usize,
    budget: usize,
}

fn key(width: Width) -> u8 {
    match width {
        Width::Pred => 0,
        Width::B16 => 1,
        Width::B32 => 2,
        Width::B64 => 3,
        Width::B128 => 4,
    }
}

const INTEGERS: [Type; 9] =
    [Type::S32, Type::U32, Type::B32, Type::S64, Type::U64, Type::B64, Type::S16, Type::U16, Type::B16];

impl Program {
    fn register(&mut self, width: Width) -> Reg {
        let pool = self.pools[&key(width)].clone();
        self.random.pick(&pool)
    }

    /// Where a result goes: mostly a new register, sometimes one that has a value.
    fn target(&mut self, width: Width) -> (Reg, bool) {
        if self.random.below(3) == 0 { (self.register(width), false) } else { (self.w.reg(width), true) }
    }

    fn operand(&mut self, ty: Type) -> Operand {
        let width = site::width_of(ty);
        if self.random.below(4) == 0 {
            let special = [0, 1, 2, 4, 5, 31, 0x7fff_ffff, u64::MAX, 0x8000_0000, 0x3f80_0000, 0x4049_0fdb];
            let v = if self.random.below(2) == 0 { self.random.pick(&special) } else { self.random.next() };
            return imm(match width {
                Width::B16 => v & 0xffff,
                Width::B32 => v & 0xffff_ffff,
                _ => v,
            });
        }
        r(self.register(width))
    }

    fn predicate(&mut self) -> Predicate {
        Predicate { register: self.register(Width::Pred), negated: self.random.below(2) == 0 }
    }

    fn float(&mut self) -> Type {
        self.random.pick(&[Type::F32, Type::F32, Type::F64])
    }

    fn instruction(&mut self) {
        let plain = Modifiers::default();
        let choice = self.random.below(16);
        let (op, d) = match choice {
            0..4 => {
                let ty = self.random.pick(&INTEGERS);
                let op = self.random.pick(&[
                    Binary::Add,
                    Binary::Add,
                    Binary::Sub,
                    Binary::Mul,
                    Binary::MulHi,
                    Binary::And,
                    Binary::Or,
                    Binary::Xor,
                    Binary::Min,
                    Binary::Max,
                    Binary::Shl,
                    Binary::Shr,
                    Binary::Div,
                    Binary::Rem,
                ]);
                let d = self.target(site::width_of(ty));
                let a = self.operand(ty);
                let b = if matches!(op, Binary::Shl | Binary::Shr) {
                    if self.random.below(2) == 0 { imm(self.random.below(70) as u64) } else { self.operand(Type::U32) }
                } else {
                    self.operand(ty)
                };
                (Op::Binary { op, ty, modifiers: plain, d: d.0, a, b }, d)
            }
            4 => {
                let ty = self.random.pick(&[Type::S32, Type::U32]);
                let d = self.target(Width::B64);
                let (a, b) = (self.operand(ty), self.operand(ty));
                if self.random.below(2) == 0 {
                    (Op::Binary { op: Binary::MulWide, ty, modifiers: plain, d: d.0, a, b }, d)
                } else {
                    let c = self.operand(Type::B64);
                    (Op::Ternary { op: Ternary::MadWide, ty, modifiers: plain, d: d.0, a, b, c }, d)
                }
            }
            5 => {
                let ty = self.random.pick(&INTEGERS);
                let d = self.target(site::width_of(ty));
                let (a, b, c) = (self.operand(ty), self.operand(ty), self.operand(ty));
                (Op::Ternary { op: Ternary::Mad, ty, modifiers: plain, d: d.0, a, b, c }, d)
            }
            6 => {
                let ty = self.float();
                let op =
                    self.random.pick(&[Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max]);
                let modifiers = Modifiers {
                    ftz: ty == Type::F32 && self.random.below(3) == 0,
                    sat: self.random.below(4) == 0 && !matches!(op, Binary::Min | Binary::Max | Binary::Div),
                    nan: self.random.below(2) == 0,
                    rounding: if self.random.below(4) == 0 && !matches!(op, Binary::Min | Binary::Max) {
                        self.random.pick(&[Rounding::Rz, Rounding::Rm, Rounding::Rp])
                    } else {
                        Rounding::Rn
                    },
                    ..plain
                };
                let d = self.target(site::width_of(ty));
                let (a, b) = (self.operand(ty), self.operand(ty));
                (Op::Binary { op, ty, modifiers, d: d.0, a, b }, d)
            }
            7 => {
                let ty = self.float();
                let d = self.target(site::width_of(ty));
                let (a, b, c) = (self.operand(ty), self.operand(ty), self.operand(ty));
                (Op::Ternary { op: Ternary::Fma, ty, modifiers: plain, d: d.0, a, b, c }, d)
            }
            8 => {
                let ty = self.random.pick(&[Type::S32, Type::U64, Type::S16, Type::F32, Type::F64, Type::B32]);
                let op = match ty {
                    Type::F32 | Type::F64 => self.random.pick(&[Unary::Neg, Unary::Abs, Unary::Sqrt, Unary::Rcp]),
                    Type::B32 => self.random.pick(&[Unary::Not, Unary::Popc, Unary::Clz, Unary::Brev, Unary::Cnot]),
                    _ => self.random.pick(&[Unary::Neg, Unary::Abs, Unary::Not]),
                };
                let d = self.target(site::width_of(ty));
                let a = self.operand(ty);
                (Op::Unary { op, ty, modifiers: plain, d: d.0, a }, d)
            }
            9 | 10 => {
                let ty = self.random.pick(&[
                    Type::S32,
                    Type::U32,
                    Type::S64,
                    Type::U64,
                    Type::S16,
                    Type::U16,
                    Type::F32,
                    Type::F64,
                ]);
                let float = matches!(ty, Type::F32 | Type::F64);
                let compare = if float {
                    self.random.pick(&[
                        Compare::Eq,
                        Compare::Ne,
                        Compare::Lt,
                        Compare::Ge,
                        Compare::Equ,
                        Compare::Neu,
                        Compare::Ltu,
                        Compare::Gtu,
                        Compare::Num,
                        Compare::Nan,
                    ])
                } else {
                    self.random.pick(&[Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge])
                };
                let (a, b) = (self.operand(ty), self.operand(ty));
                let join = (self.random.below(3) == 0)
                    .then(|| (self.random.pick(&[Join::And, Join::Or, Join::Xor]), self.predicate()));
                let d = self.target(Width::Pred);
                let q = (self.random.below(4) == 0).then(|| self.w.reg(Width::Pred));
                (Op::SetP { compare, ty, ftz: false, p: Some(d.0), q, a, b, join }, d)
            }
            11 => {
                let ty = self.random.pick(&[Type::B32, Type::B64, Type::B16, Type::F32]);
                let d = self.target(site::width_of(ty));
                let (a, b, p) = (self.operand(ty), self.operand(ty), self.predicate());
                (Op::SelP { ty, d: d.0, a, b, p }, d)
            }
            12 => {
                let types = [Type::S32, Type::U32, Type::S64, Type::U64, Type::S16, Type::U16, Type::F32, Type::F64];
                let (to, from) = (self.random.pick(&types), self.random.pick(&types));
                let float = |t: Type| matches!(t, Type::F32 | Type::F64);
                let rounding = match (float(to), float(from)) {
                    (false, true) => self.random.pick(&[Rounding::Rzi, Rounding::Rni, Rounding::Rmi, Rounding::Rpi]),
                    (true, true) if to == from => self.random.pick(&[Rounding::Rzi, Rounding::Rni]),
                    _ => Rounding::Rn,
                };
                let d = self.target(site::width_of(to));
                let a = self.operand(from);
                (Op::Cvt { to, from, modifiers: Modifiers { rounding, ..plain }, d: d.0, a }, d)
            }
            13 => {
                let table = self.random.next() as u8;
                let d = self.target(Width::B32);
                let (a, b, c) = (self.operand(Type::B32), self.operand(Type::B32), self.operand(Type::B32));
                let op = self.random.pick(&[
                    Ternary::Lop3(table),
                    Ternary::Prmt(PrmtMode::Index),
                    Ternary::ShfLeft { wrap: true },
                    Ternary::ShfRight { wrap: false },
                    Ternary::Bfe,
                ]);
                (Op::Ternary { op, ty: Type::B32, modifiers: plain, d: d.0, a, b, c }, d)
            }
            14 => {
                let ty = self.random.pick(&[Type::B32, Type::B64, Type::B16]);
                let d = self.target(site::width_of(ty));
                let a = self.operand(ty);
                (Op::Mov { ty, d: d.0, a }, d)
            }
            _ => {
                if self.random.below(2) == 0 {
                    let d = self.target(Width::B64);
                    let a = vec![self.operand(Type::B32), self.operand(Type::B32)];
                    (Op::Pack { d: d.0, part: Width::B32, a }, d)
                } else {
                    let d = self.target(Width::B32);
                    let other = self.w.reg(Width::B32);
                    let a = self.operand(Type::B64);
                    (Op::Unpack { d: vec![Some(d.0), Some(other)], part: Width::B32, a }, d)
                }
            }
        };
        let guard = (self.random.below(5) == 0).then(|| self.predicate());
        self.w.guarded(guard, op);
        let (d, new) = d;
        if new {
            let k = key(self.w.kernel.registers[d.0 as usize]);
            self.pools.entry(k).or_default().push(d);
        }
    }

    fn statements(&mut self, count: usize) {
        for _ in 0..count {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            match self.random.below(10) {
                0 | 1 if self.depth < 3 => self.conditional(),
                2 if self.depth < 2 => self.repeat(),
                3 if self.depth > 0 && self.random.below(4) == 0 => self.leave(),
                _ => self.instruction(),
            }
        }
    }

    fn conditional(&mut self) {
        self.depth += 1;
        let p = self.predicate();
        let (yes, no, after) = (self.w.block(), self.w.block(), self.w.block());
        let uniform = false;
        self.w.end(Terminator::Branch { p, then: yes, otherwise: no, uniform });
        self.w.at(yes);
        let n = 1 + self.random.below(5);
        self.statements(n);
        self.w.end(Terminator::Jump(after));
        self.w.at(no);
        if self.random.below(2) == 0 {
            let n = 1 + self.random.below(4);
            self.statements(n);
        }
        self.w.end(Terminator::Jump(after));
        self.w.at(after);
        self.depth -= 1;
    }

    /// A loop of a few rounds, the number of which may differ between lanes, with a way out in the middle.
    fn repeat(&mut self) {
        self.depth += 1;
        let bound = self.w.reg(Width::B32);
        let source = self.operand(Type::B32);
        self.w.op(Op::Binary {
            op: Binary::And,
            ty: Type::B32,
            modifiers: Modifiers::default(),
            d: bound,
            a: source,
            b: imm(7),
        });
        let i = self.w.reg(Width::B32);
        self.w.op(Op::Mov { ty: Type::B32, d: i, a: imm(0) });
        let (head, middle, after) = (self.w.block(), self.w.block(), self.w.block());
        self.w.end(Terminator::Jump(head));
        self.w.at(head);
        self.w.op(Op::Binary {
            op: Binary::Add,
            ty: Type::U32,
            modifiers: Modifiers::default(),
            d: i,
            a: r(i),
            b: imm(1),
        });
        let n = 1 + self.random.below(4);
        self.statements(n);
        if self.random.below(2) == 0 {
            let p = self.predicate();
            self.w.end(Terminator::Branch { p, then: after, otherwise: middle, uniform: false });
        } else {
            self.w.end(Terminator::Jump(middle));
        }
        self.w.at(middle);
        let n = self.random.below(4);
        self.statements(n);
        let more = self.w.compare(Compare::Lt, Type::U32, r(i), r(bound));
        let negated = false;
        self.w.end(Terminator::Branch {
            p: Predicate { register: more, negated },
            then: head,
            otherwise: after,
            uniform: false,
        });
        self.w.at(after);
        self.pools.entry(2).or_default().push(i);
        self.depth -= 1;
    }

    /// Some lanes leave the kernel.
    fn leave(&mut self) {
        let p = self.predicate();
        let (out, on) = (self.w.block(), self.w.block());
        self.w.end(Terminator::Branch { p, then: out, otherwise: on, uniform: false });
        self.w.at(on);
    }
}

const OUT: usize = 8192;
const SLOTS: usize = 96;

fn program(seed: u64, block: [u32; 3]) -> Kernel {
    let mut w = Writer::new(24);
    let out = w.param64(0);
    let input = w.param64(8);
    let uniform = w.param64(16);
    let mut pools: HashMap<u8, Vec<Reg>> = HashMap::new();
    let tids: Vec<Reg> = (0..3).map(|a| w.special(Special::Tid(a))).collect();
    let lane = w.special(Special::LaneId);
    let flat = w.ternary(Ternary::Mad, Type::U32, r(tids[2]), imm(u64::from(block[1])), r(tids[1]));
    let flat = w.ternary(Ternary::Mad, Type::U32, r(flat), imm(u64::from(block[0])), r(tids[0]));
    let at = w.ternary(Ternary::MadWide, Type::U32, r(flat), imm(8), r(input));
    let linear = w.element(input, tids[0]);
    let loaded = w.load(Space::Global, Type::B64, r(at), 0);
    let word = w.load(Space::Global, Type::B32, r(at), 4);
    let word2 = w.load(Space::Global, Type::F32, r(linear), 64);
    let half = w.load(Space::Global, Type::U16, r(at), 2);
    let same = w.load(Space::Global, Type::B32, r(input), 16);
    let rowwise = w.ternary(Ternary::MadWide, Type::U32, r(tids[1]), imm(4), r(input));
    let rowwise = w.load(Space::Global, Type::B32, r(rowwise), 128);
    let base = w.ternary(Ternary::MadWide, Type::U32, r(flat), imm(SLOTS as u64 * 8), r(out));
    let p = w.compare(Compare::Lt, Type::S32, r(word), imm(0));
    let q = w.compare(Compare::Lt, Type::S64, r(uniform), imm(0));
    let s = w.compare(Compare::Gt, Type::U32, r(tids[0]), imm(5));
    pools.insert(0, vec![p, q, s]);
    pools.insert(1, vec![half]);
    pools.insert(2, vec![tids[0], tids[1], lane, word, word2, same, rowwise, flat]);
    pools.insert(3, vec![loaded, uniform, at, linear]);
    let mut made =
        Program { w, random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), pools, depth: 0, budget: 60 };
    made.statements(40);
    // Everything goes to memory.
    let Program { mut w, pools, .. } = made;
    let mut slot = 0;
    for (k, ty) in [(2u8, Type::B32), (3, Type::B64), (1, Type::B16)] {
        for d in pools[&k].iter().rev().take(24) {
            w.store(Space::Global, ty, r(base), slot * 8, r(*d));
            slot += 1;
        }
    }
    for p in pools[&0].iter().rev().take(16) {
        let d = w.reg(Width::B32);
        let p = Predicate { register: *p, negated: false };
        w.op(Op::SelP { ty: Type::B32, d, a: imm(1), b: imm(2), p });
        w.store(Space::Global, Type::B32, r(base), slot * 8, r(d));
        slot += 1;
    }
    w.kernel
}

fn check(seed: u64, block: [u32; 3]) {
    let kernel = program(seed, block);
    let threads = block.iter().product::<u32>() as usize;
    let memory = Memory::new(OUT + threads * SLOTS * 8);
    let mut random = Random(seed | 1);
    for v in memory.slice::<u32>(0, OUT / 4) {
        // A mix of integers, ordinary floats and odd ones.
        *v = match random.below(4) {
            0 => random.below(64) as u32,
            1 => ((random.below(2000) as f32 - 1000.0) * 0.37).to_bits(),
            2 => random.next() as u32,
            _ => random.pick(&[0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 1, 0x3f80_0000, 0xffff_ffff, 0x007f_ffff]),
        };
    }
    let uniform = random.next();
    let args = params(&[memory.address(OUT), memory.address(0), uniform]);
    let mut expected = memory.slice::<u8>(0, OUT + threads * SLOTS * 8).to_vec();
    for thread in 0..threads as u32 {
        let at = [thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]];
        let mut specials: HashMap<Special, u64> =
            (0..3u8).map(|a| (Special::Tid(a), u64::from(at[a as usize]))).collect();
        specials.insert(Special::LaneId, u64::from(thread % 32));
        oracle::run(&kernel, &specials, &args, memory.address(0), &mut expected);
    }
    launch(&kernel, &memory, shape([1; 3], block), &args, &Surroundings::default()).unwrap();
    let found = memory.slice::<u8>(0, OUT + threads * SLOTS * 8);
    for (i, (a, b)) in found.chunks(8).zip(expected.chunks(8)).enumerate() {
        if a == b || i * 8 < OUT {
            continue;
        }
        let (thread, slot) = ((i * 8 - OUT) / 8 / SLOTS, (i * 8 - OUT) / 8 % SLOTS);
        let number = |v: &[u8]| u64::from_le_bytes(v.try_into().unwrap());
        let (found, wanted) = (number(a), number(b));
        // The payload of a NaN is nobody's promise.
        let nan = |v: u64| {
            let (low, whole) = (f32::from_bits(v as u32), f64::from_bits(v));
            (low.is_nan(), whole.is_nan())
        };
        if nan(found).1 && nan(wanted).1 || nan(found).0 && nan(wanted).0 && found >> 32 == wanted >> 32 {
            continue;
        }
        panic!("seed {seed}, block {block:?}: thread {thread} slot {slot}: {found:#x}, expected {wanted:#x}");
    }
}

#[test]
fn random_programs_mean_what_the_oracle_says() {
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(6);
    let first: u64 = std::env::var("SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    for seed in first..first + rounds {
        for block in [[64, 1, 1], [16, 3, 1], [8, 5, 2], [40, 1, 1], [5, 3, 2]] {
            check(seed, block);
        }
    }
}
