//! Consecutive accesses of some lanes only: those get what is theirs, and what belongs to the others stays untouched.

use super::*;

/// Elements per lane and their type.
const SHAPES: [(Type, usize); 8] = [
    (Type::U8, 1),
    (Type::U16, 1),
    (Type::B32, 1),
    (Type::B64, 1),
    (Type::B32, 2),
    (Type::B32, 4),
    (Type::B64, 2),
    (Type::B16, 2),
];

/// Copies from the first parameter to the second for lanes of a mask (fourth), and through shared memory to the third
/// for all lanes; those that are not in the mask write what was in shared memory before: zeros.
fn copy(ty: Type, count: usize) -> Kernel {
    let bytes = (site::bytes_of(ty) * count) as u64;
    let mut w = Writer::new(32);
    w.kernel.shared_bytes = 128 * bytes as u32;
    let [from, to, through] = [0, 8, 16].map(|o| w.param64(o));
    let mask = w.param32(24);
    let (tx, ty_) = (w.special(Special::Tid(0)), w.special(Special::Tid(1)));
    let nx = w.special(Special::Ntid(0));
    let i = w.ternary(Ternary::Mad, Type::S32, r(ty_), r(nx), r(tx));
    let lane = w.special(Special::LaneId);
    let bit = w.binary(Binary::Shr, Type::U32, r(mask), r(lane));
    let bit = w.binary(Binary::And, Type::B32, r(bit), imm(1));
    let register = w.compare(Compare::Ne, Type::U32, r(bit), imm(0));
    let p = Some(Predicate { register, negated: false });
    let [from, to, through] =
        [from, to, through].map(|base| w.ternary(Ternary::MadWide, Type::S32, r(i), imm(bytes), r(base)));
    let shared = w.binary(Binary::Mul, Type::S32, r(i), imm(bytes));
    let width = site::width_of(ty);
    let weak = Semantics::Weak;
    let at = |space: Space, base: Reg| Address { space, base: r(base), offset: 0 };
    let [first, second] = [0, 1].map(|_| (0..count).map(|_| w.reg(width)).collect::<Vec<Reg>>());
    let load = |w: &mut Writer, p, d: &[Reg], address| {
        w.guarded(p, Op::Load { ty, d: d.iter().map(|d| Some(*d)).collect(), address, semantics: weak });
    };
    let store = |w: &mut Writer, p, a: Vec<Operand>, address| {
        w.guarded(p, Op::Store { ty, address, a, semantics: weak });
    };
    load(&mut w, p, &first, at(Space::Global, from));
    store(&mut w, p, first.iter().map(|d| r(*d)).collect(), at(Space::Global, to));
    store(&mut w, None, vec![imm(0); count], at(Space::Shared, shared));
    w.barrier();
    store(&mut w, p, first.iter().map(|d| r(*d)).collect(), at(Space::Shared, shared));
    w.barrier();
    load(&mut w, None, &second, at(Space::Shared, shared));
    load(&mut w, p, &second, at(Space::Shared, shared));
    store(&mut w, None, second.iter().map(|d| r(*d)).collect(), at(Space::Global, through));
    w.kernel
}

#[test]
fn some_lanes_of_a_row_touch_only_what_is_theirs() {
    let memory = Memory::new(1 << 16);
    let input = memory.slice::<u8>(0, 8192);
    input.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7 % 255 + 1) as u8);
    let masks = [0u32, 1, 0x8000_0000, 0xffff, 0xffff_0000, 0x0000_fff0, 0x7fff_ffff, 0xff00_ff00, 0xa5f3_9c0e, !0, !1];
    for (ty, count) in SHAPES {
        let bytes = site::bytes_of(ty) * count;
        let kernel = copy(ty, count);
        for block in [[64u32, 1, 1], [16, 4, 1], [8, 8, 1], [16, 3, 1], [100, 1, 1], [5, 7, 1]] {
            let threads = (block[0] * block[1]) as usize;
            for mask in masks {
                // From in front of a page's end.
                let from = 4096 - 16 * bytes;
                let (to, through) = (16384 + 3 * bytes, 32768 + bytes);
                memory.slice::<u8>(16384, 32768).fill(0xee);
                let args = params(&[memory.address(from), memory.address(to), memory.address(through), mask.into()]);
                launch(&kernel, &memory, shape([1; 3], block), &args, &Surroundings::default()).unwrap();
                let written = memory.slice::<u8>(16384, 32768);
                for (i, v) in written.iter().enumerate() {
                    let offset = 16384 + i;
                    let active = |place: usize| mask >> (place / bytes % 32) & 1 == 1;
                    let expected = match (offset.checked_sub(to), offset.checked_sub(through)) {
                        (_, Some(place)) if place < threads * bytes => {
                            if active(place) {
                                input[from + place]
                            } else {
                                0
                            }
                        }
                        (Some(place), _) if place < threads * bytes && active(place) => input[from + place],
                        _ => 0xee,
                    };
                    assert_eq!(*v, expected, "{ty:?} by {count}, block {block:?}, mask {mask:#x}, byte {offset}");
                }
            }
        }
    }
}

#[test]
fn lanes_that_are_not_active_do_not_touch_pages() {
    let memory = Memory::new(1 << 16);
    memory.slice::<u8>(0, 1 << 16).fill(9);
    // SAFETY: whole pages of our mapping.
    assert_eq!(unsafe { libc::mprotect(memory.base.add(8192).cast(), 4096, libc::PROT_NONE) }, 0);
    let args = |from: usize, to: usize, mask: u32| {
        params(&[memory.address(from), memory.address(to), memory.address(32768), mask.into()])
    };
    for (ty, count) in SHAPES {
        let bytes = site::bytes_of(ty) * count;
        let kernel = copy(ty, count);
        for block in [[32u32, 1, 1], [16, 2, 1]] {
            let before = 8192 - 16 * bytes;
            let run = |args: &[u8]| launch(&kernel, &memory, shape([1; 3], block), args, &Surroundings::default());
            run(&args(before, before, 0xffff)).unwrap();
            run(&args(before, before, 0x7ff1)).unwrap();
            let trap = run(&args(before, 0, 0x1_0000)).unwrap_err();
            assert_eq!(trap.kind, TrapKind::IllegalAddress);
            let trap = run(&args(0, before, 0x1_ffff)).unwrap_err();
            assert_eq!(trap.kind, TrapKind::IllegalAddress);
        }
    }
}
