//! Shuffles with source lanes that are known when code is made do what those do of which they are not.

use super::*;

/// One shuffle with `b` and `c` as immediates or from parameters, by lanes of a mask.
fn shuffle(mode: ShuffleMode, fixed: Option<(u32, u32)>) -> Kernel {
    let mut w = Writer::new(40);
    let out = w.param64(0);
    let [b, c, mask] = [8, 16, 24].map(|o| w.param32(o));
    let (b, c) = fixed.map_or((r(b), r(c)), |(b, c)| (imm(b.into()), imm(c.into())));
    let lane = w.special(Special::LaneId);
    let bit = w.binary(Binary::Shr, Type::U32, r(mask), r(lane));
    let bit = w.binary(Binary::And, Type::B32, r(bit), imm(1));
    let register = w.compare(Compare::Ne, Type::U32, r(bit), imm(0));
    let guard = Some(Predicate { register, negated: false });
    let square = w.binary(Binary::Xor, Type::B32, r(lane), r(mask));
    let a = w.ternary(Ternary::Mad, Type::U32, r(square), r(square), imm(77));
    let d = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::U32, d, a: imm(5) });
    let p = w.compare(Compare::Eq, Type::U32, r(lane), imm(3));
    w.guarded(guard, Op::Shuffle { mode, d, p: Some(p), a: r(a), b, c, mask: imm(0xffff_ffff) });
    let flag = w.reg(Width::B32);
    let p = Predicate { register: p, negated: false };
    w.op(Op::SelP { ty: Type::B32, d: flag, a: imm(1), b: imm(0), p });
    let out = w.element(out, lane);
    w.store(Space::Global, Type::U32, r(out), 0, r(d));
    w.store(Space::Global, Type::U32, r(out), 128, r(flag));
    w.kernel
}

#[test]
fn shuffles_by_constants_are_shuffles() {
    let memory = Memory::new(4096);
    for mode in [ShuffleMode::Up, ShuffleMode::Down, ShuffleMode::Bfly, ShuffleMode::Idx] {
        for b in [0u32, 1, 2, 3, 4, 7, 8, 13, 16, 31] {
            for c in [0u32, 0x1f, 0x101f, 0x1000, 0x1c03, 0x1c00, 0x181f] {
                let fixed = shuffle(mode, Some((b, c)));
                let free = shuffle(mode, None);
                for mask in [u32::MAX, 0x0ff3_a001] {
                    let block = shape([1; 3], [32, 1, 1]);
                    let run = |kernel: &Kernel, at: usize| {
                        let args = params(&[memory.address(at), b.into(), c.into(), mask.into(), 0]);
                        launch(kernel, &memory, block, &args, &Surroundings::default()).unwrap();
                        memory.slice::<u32>(at, 64).to_vec()
                    };
                    assert_eq!(run(&fixed, 0), run(&free, 1024), "{mode:?} {b} {c:#x}, lanes {mask:#x}");
                }
            }
        }
    }
}
