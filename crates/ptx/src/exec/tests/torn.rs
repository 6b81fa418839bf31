//! A vector of up to 16 bytes is read and written at once: a scan over many blocks publishes a flag and a sum beside it as
//! one vector, and must never see the one without the other.

use super::*;

const ROUNDS: u64 = 20_000;

/// Writes vectors of equal elements, counting up, while the other block reads them; the lowest difference that was seen
/// goes to the second parameter. The third is the distance of lanes.
fn kernel(ty: Type, count: usize, reads: bool, semantics: Semantics, apart: bool) -> Kernel {
    let mut w = Writer::new(24);
    let [place, out, distance] = [0, 8, 16].map(|o| w.param64(o));
    let width = site::width_of(ty);
    let place = if apart {
        let lane = w.special(Special::LaneId);
        let lane = w.ternary(Ternary::MadWide, Type::U32, r(lane), imm(1), imm(0));
        w.ternary(Ternary::Mad, Type::S64, r(lane), r(distance), r(place))
    } else {
        place
    };
    let address = Address { space: Space::Global, base: r(place), offset: 0 };
    let (body, done) = (w.block(), w.block());
    let k = w.reg(width);
    w.op(Op::Mov { ty, d: k, a: imm(0) });
    let odd = w.reg(width);
    w.op(Op::Mov { ty, d: odd, a: imm(0) });
    w.end(Terminator::Jump(body));
    w.at(body);
    let both = |op, d, a, b| Op::Binary { op, ty, modifiers: Modifiers::default(), d, a, b };
    if reads {
        let d: Vec<Reg> = (0..count).map(|_| w.reg(width)).collect();
        w.op(Op::Load { ty, d: d.iter().map(|d| Some(*d)).collect(), address, semantics });
        for other in &d[1..] {
            let difference = w.binary(Binary::Xor, ty, r(d[0]), r(*other));
            w.op(both(Binary::Or, odd, r(odd), r(difference)));
        }
    } else {
        w.op(Op::Store { ty, address, a: vec![r(k); count], semantics });
    }
    w.op(both(Binary::Add, k, r(k), imm(1)));
    let more = w.compare(Compare::Lt, ty, r(k), imm(ROUNDS));
    w.branch(more, body, done);
    w.at(done);
    if reads {
        let lane = w.special(Special::LaneId);
        let out = w.ternary(Ternary::MadWide, Type::U32, r(lane), imm(8), r(out));
        w.store(Space::Global, ty, r(out), 0, r(odd));
    }
    w.kernel
}

#[test]
fn vectors_come_whole() {
    let memory = Memory::new((1 << 16) + SCRATCH);
    for (ty, count) in [(Type::U32, 2), (Type::U32, 4), (Type::U64, 2)] {
        let bytes = (site::bytes_of(ty) * count) as u64;
        for semantics in [Semantics::Relaxed, Semantics::Volatile] {
            for (apart, distance) in [(false, 0), (true, bytes), (true, 64)] {
                memory.slice::<u8>(0, 1 << 16).fill(0);
                let args = params(&[memory.address(0), memory.address(32768), distance]);
                let window = memory.window();
                let run = |reads: bool, scratch: u64| {
                    let kernels = vec![kernel(ty, count, reads, semantics, apart)];
                    let module =
                        Module { version: (8, 5), target: 80, variables: vec![], kernels, unsupported: vec![] };
                    let program = Program::new(Arc::new(module), vec![], window).unwrap();
                    let launch = program.prepare(0, shape([1; 3], [32, 1, 1]), &args, 1).unwrap();
                    // SAFETY: behind the data that this test uses, and a part for each launch.
                    let mut scratch = unsafe { Scratch::new(scratch as *mut u8, SCRATCH) };
                    launch.run(0..1, &mut scratch, &Surroundings::default()).unwrap();
                };
                let [first, second] = [1 << 16, (1 << 16) + SCRATCH].map(|offset| memory.address(offset));
                let run = &run;
                std::thread::scope(|threads| {
                    threads.spawn(move || run(false, first));
                    run(true, second);
                });
                let seen = memory.slice::<u64>(32768, 32);
                assert!(seen.iter().all(|v| *v == 0), "{ty:?} by {count}, {semantics:?}, {distance} apart: {seen:x?}");
            }
        }
    }
}
