//! How fast: run by hand with `cargo test --release -p ptx speed -- --ignored --nocapture`.

use super::*;
use std::time::Instant;

fn prepared(kernel: &Kernel, memory: &Memory, shape: LaunchShape, args: &[u8]) -> Launch {
    let module =
        Module { version: (8, 5), target: 80, variables: vec![], kernels: vec![kernel.clone()], unsupported: vec![] };
    let program = Program::new(Arc::new(module), vec![], memory.window()).unwrap();
    let begin = Instant::now();
    let launch = program.prepare(0, shape, args, 1).unwrap();
    println!("compiled in {:?}, {} bytes", begin.elapsed(), launch.bound.code.length);
    launch
}

/// Seconds that this thread has run: others share the machine.
fn processor_time() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a local to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

fn best(launch: &Launch, memory: &Memory, rounds: usize) -> f64 {
    let surroundings = Surroundings::default();
    (0..rounds)
        .map(|_| {
            let begin = processor_time();
            launch.run(0..launch.blocks(), &mut memory.scratch(), &surroundings).unwrap();
            processor_time() - begin
        })
        .fold(f64::MAX, f64::min)
}

/// One thread per element of the product, an inner loop over `k`.
fn naive_product() -> Kernel {
    let mut w = Writer::new(32);
    let [a, b, c] = [0, 8, 16].map(|o| w.param64(o));
    let n = w.param32(24);
    let (tx, ty) = (w.special(Special::Tid(0)), w.special(Special::Tid(1)));
    let (bx, by) = (w.special(Special::Ctaid(0)), w.special(Special::Ctaid(1)));
    let (nx, ny) = (w.special(Special::Ntid(0)), w.special(Special::Ntid(1)));
    let row = w.ternary(Ternary::Mad, Type::S32, r(by), r(ny), r(ty));
    let column = w.ternary(Ternary::Mad, Type::S32, r(bx), r(nx), r(tx));
    let p = w.compare(Compare::Ge, Type::S32, r(row), r(n));
    let q = w.compare(Compare::Ge, Type::S32, r(column), r(n));
    let out = w.reg(Width::Pred);
    w.op(Op::Binary { op: Binary::Or, ty: Type::Pred, modifiers: Modifiers::default(), d: out, a: r(p), b: r(q) });
    let (exit, start, body, done) = (w.block(), w.block(), w.block(), w.block());
    w.branch(out, exit, start);
    w.at(start);
    let sum = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::F32, d: sum, a: imm(0) });
    let k = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::U32, d: k, a: imm(0) });
    let x0 = w.binary(Binary::Mul, Type::S32, r(row), r(n));
    w.end(Terminator::Jump(body));
    w.at(body);
    let x = w.binary(Binary::Add, Type::S32, r(x0), r(k));
    let x = w.element(a, x);
    let x = w.load(Space::Global, Type::F32, r(x), 0);
    let y = w.ternary(Ternary::Mad, Type::S32, r(k), r(n), r(column));
    let y = w.element(b, y);
    let y = w.load(Space::Global, Type::F32, r(y), 0);
    w.op(Op::Ternary {
        op: Ternary::Fma,
        ty: Type::F32,
        modifiers: Modifiers::default(),
        d: sum,
        a: r(x),
        b: r(y),
        c: r(sum),
    });
    w.op(Op::Binary { op: Binary::Add, ty: Type::S32, modifiers: Modifiers::default(), d: k, a: r(k), b: imm(1) });
    let more = w.compare(Compare::Lt, Type::S32, r(k), r(n));
    w.branch(more, body, done);
    w.at(done);
    let z = w.ternary(Ternary::Mad, Type::S32, r(row), r(n), r(column));
    let z = w.element(c, z);
    w.store(Space::Global, Type::F32, r(z), 0, r(sum));
    w.kernel
}

/// The same as `nvcc` compiles it from C++, with the loop unrolled.
fn compiled_product() -> Kernel {
    let parsed = crate::parse(include_str!("product.ptx")).unwrap();
    crate::lower(&parsed).unwrap().kernels[0].clone()
}

#[test]
#[ignore = "measures"]
fn one_product() {
    let n = 512usize;
    let memory = Memory::new(4 * n * n * 4);
    let step = n * n * 4;
    let args = params(&[memory.address(0), memory.address(step), memory.address(2 * step), n as u64]);
    let launch = prepared(&compiled_product(), &memory, shape([32, 32, 1], [16, 16, 1]), &args);
    let t = best(&launch, &memory, 5);
    println!("{:.2} GFLOP/s", 2.0 * (n * n * n) as f64 / t / 1e9);
}

#[test]
#[ignore = "measures"]
fn speed_of_common_kernels() {
    let n = 512usize;
    let memory = Memory::new(4 * n * n * 4);
    for v in memory.slice::<f32>(0, 2 * n * n) {
        *v = 0.5;
    }
    let step = n * n * 4;
    let args = params(&[memory.address(0), memory.address(step), memory.address(2 * step), n as u64]);
    for (name, kernel, block) in [
        ("naive", naive_product(), [16, 16, 1]),
        ("compiled", compiled_product(), [16, 16, 1]),
        ("naive 32x8", naive_product(), [32, 8, 1]),
        ("tiled", matrix_product(), [16, 16, 1]),
    ] {
        let grid = [n as u32 / block[0], n as u32 / block[1], 1];
        let launch = prepared(&kernel, &memory, shape(grid, block), &args);
        let t = best(&launch, &memory, 5);
        println!("{name} product: {:.2} GFLOP/s", 2.0 * (n * n * n) as f64 / t / 1e9);
    }
    let n = 16usize << 20;
    let memory = Memory::new(3 * n * 4);
    let args = params(&[memory.address(0), memory.address(4 * n), memory.address(8 * n), n as u64]);
    memory.slice::<u8>(0, 12 * n).fill(1);
    let launch = prepared(&vector_add(), &memory, shape([n as u32 / 256, 1, 1], [256, 1, 1]), &args);
    println!("vector add: {:.2} GB/s", 12.0 * n as f64 / best(&launch, &memory, 5) / 1e9);
    let args = params(&[memory.address(0), memory.address(4 * n)]);
    let launch = prepared(&reduction(), &memory, shape([n as u32 / 256, 1, 1], [256, 1, 1]), &args);
    println!("reduction: {:.2} GB/s", 4.0 * n as f64 / best(&launch, &memory, 5) / 1e9);
    let launch = prepared(&Writer::new(0).kernel, &memory, shape([65536, 1, 1], [32, 1, 1]), &[]);
    println!("empty blocks: {:.2} ns", best(&launch, &memory, 5) * 1e9 / 65536.0);
    let launch = prepared(&Writer::new(0).kernel, &memory, shape([1, 1, 1], [32, 1, 1]), &[]);
    println!("empty launch: {:.2} ns", best(&launch, &memory, 5) * 1e9);
}

/// A product in tiles and a sum, both through shared memory, as `nvcc` compiles them.
#[test]
#[ignore = "measures"]
fn speed_of_shared_memory() {
    let module = crate::load(include_str!("shared.ptx")).unwrap();
    let kernel = |name: &str| module.kernels.iter().find(|kernel| kernel.name == name).unwrap();
    let n = 512usize;
    let memory = Memory::new(4 * n * n * 4);
    for v in memory.slice::<f32>(0, 2 * n * n) {
        *v = 0.5;
    }
    let step = n * n * 4;
    let args = params(&[memory.address(0), memory.address(step), memory.address(2 * step), n as u64]);
    let launch = prepared(kernel("tiled"), &memory, shape([32, 32, 1], [16, 16, 1]), &args);
    let t = best(&launch, &memory, 5);
    println!("tiled product: {:.2} GFLOP/s", 2.0 * (n * n * n) as f64 / t / 1e9);
    assert_eq!(memory.slice::<f32>(2 * step, n * n), vec![n as f32 / 4.0; n * n]);
    let launch = prepared(&compiled_product(), &memory, shape([32, 32, 1], [16, 16, 1]), &args);
    let t = best(&launch, &memory, 5);
    println!("naive product: {:.2} GFLOP/s", 2.0 * (n * n * n) as f64 / t / 1e9);
    let n = 4usize << 20;
    let memory = Memory::new(2 * n * 4);
    memory.slice::<u32>(0, n).fill(3);
    let args = params(&[memory.address(0), memory.address(4 * n)]);
    let launch = prepared(kernel("reduce"), &memory, shape([n as u32 / 256, 1, 1], [256, 1, 1]), &args);
    let t = best(&launch, &memory, 9);
    println!("reduction: {:.2} GB/s, {:.0} ns a block", 4.0 * n as f64 / t / 1e9, t * 1e9 / (n / 256) as f64);
    assert_eq!(memory.slice::<u32>(4 * n, n / 256), vec![768; n / 256]);
}
