//! Kernels as IR, run on the software GPU and compared with an interpreter of single threads.

mod masked;
mod oracle;
mod random;
mod recursion;
mod shuffles;
mod speed;
mod text;
mod torn;

use super::*;
use crate::ir::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory of one test: a window with data from its beginning and scratch at its end.
pub(super) struct Memory {
    pub(super) base: *mut u8,
    pub(super) size: usize,
}

const SCRATCH: usize = 8 << 20;

impl Memory {
    pub(super) fn new(size: usize) -> Memory {
        let size = size.next_multiple_of(65536) + SCRATCH;
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Memory { base: base.cast(), size }
    }

    pub(super) fn window(&self) -> Window {
        Window { base: self.base as u64, size: self.size as u64 }
    }

    pub(super) fn address(&self, offset: usize) -> u64 {
        self.base as u64 + offset as u64
    }

    #[expect(clippy::mut_from_ref, reason = "memory that a device shares")]
    pub(super) fn slice<T>(&self, offset: usize, count: usize) -> &mut [T] {
        assert!(offset + count * size_of::<T>() <= self.size - SCRATCH);
        // SAFETY: inside the mapping; tests look at it while no kernel runs.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(offset).cast(), count) }
    }

    pub(super) fn scratch(&self) -> Scratch {
        // SAFETY: the mapping's end is kept for this.
        unsafe { Scratch::new(self.base.add(self.size - SCRATCH), SCRATCH) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our mapping.
        unsafe { libc::munmap(self.base.cast(), self.size) };
    }
}

/// Remembers what kernels print.
#[derive(Default)]
pub(super) struct Surroundings {
    pub(super) printed: Mutex<Vec<u8>>,
    pub(super) cancel: AtomicBool,
}

impl Environment for Surroundings {
    fn print(&self, text: &[u8]) {
        self.printed.lock().extend_from_slice(text);
    }
    fn malloc(&self, _: u64) -> u64 {
        0
    }
    fn free(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

pub(super) fn shape(grid: [u32; 3], block: [u32; 3]) -> LaunchShape {
    LaunchShape { grid, block, cluster: [1; 3], shared_bytes: 0, stack_bytes: 0, cooperative: false }
}

pub(super) fn launch(
    kernel: &Kernel,
    memory: &Memory,
    shape: LaunchShape,
    params: &[u8],
    surroundings: &Surroundings,
) -> Result<(), Trap> {
    let module =
        Module { version: (8, 5), target: 80, variables: vec![], kernels: vec![kernel.clone()], unsupported: vec![] };
    let program = Program::new(Arc::new(module), vec![], memory.window()).unwrap();
    let launch = program.prepare(0, shape, params, 1).unwrap();
    assert!(launch.scratch_bytes() <= SCRATCH, "{}", launch.scratch_bytes());
    launch.run(0..launch.blocks(), &mut memory.scratch(), surroundings)
}

/// Writes kernels.
pub(super) struct Writer {
    pub(super) kernel: Kernel,
    pub(super) current: usize,
}

pub(super) fn imm(v: u64) -> Operand {
    Operand::Imm(v)
}

impl Writer {
    pub(super) fn new(param_bytes: u32) -> Writer {
        Writer {
            kernel: Kernel {
                name: "k".into(),
                params: vec![],
                param_bytes,
                registers: vec![],
                blocks: vec![Block { instructions: vec![], end: Terminator::Exit }],
                shared_bytes: 0,
                local_bytes: 0,
                memory_align: 16,
                stack_frames: 0,
                required_block: [0; 3],
                max_threads: 0,
            },
            current: 0,
        }
    }

    pub(super) fn reg(&mut self, width: Width) -> Reg {
        self.kernel.registers.push(width);
        Reg(self.kernel.registers.len() as u32 - 1)
    }

    pub(super) fn block(&mut self) -> BlockId {
        self.kernel.blocks.push(Block { instructions: vec![], end: Terminator::Exit });
        BlockId(self.kernel.blocks.len() as u32 - 1)
    }

    pub(super) fn at(&mut self, block: BlockId) {
        self.current = block.0 as usize;
    }

    pub(super) fn end(&mut self, end: Terminator) {
        self.kernel.blocks[self.current].end = end;
    }

    pub(super) fn guarded(&mut self, guard: Option<Predicate>, op: Op) {
        let line = self.kernel.blocks[self.current].instructions.len() as u32 + 1;
        let at = Position { line, column: self.current as u32 };
        self.kernel.blocks[self.current].instructions.push(Instruction { guard, op, at });
    }

    pub(super) fn op(&mut self, op: Op) {
        self.guarded(None, op);
    }

    pub(super) fn special(&mut self, which: Special) -> Reg {
        let d = self.reg(Width::B32);
        self.op(Op::Special { d, which });
        d
    }

    pub(super) fn param64(&mut self, offset: i64) -> Reg {
        let d = self.reg(Width::B64);
        self.op(Op::Load {
            ty: Type::U64,
            d: vec![Some(d)],
            address: Address { space: Space::Param, base: Operand::Param(offset), offset: 0 },
            semantics: Semantics::Weak,
        });
        d
    }

    pub(super) fn param32(&mut self, offset: i64) -> Reg {
        let d = self.reg(Width::B32);
        self.op(Op::Load {
            ty: Type::U32,
            d: vec![Some(d)],
            address: Address { space: Space::Param, base: Operand::Param(offset), offset: 0 },
            semantics: Semantics::Weak,
        });
        d
    }

    pub(super) fn binary(&mut self, op: Binary, ty: Type, a: Operand, b: Operand) -> Reg {
        let width = if op == Binary::MulWide { Width::B64 } else { site::width_of(ty) };
        let d = self.reg(width);
        self.op(Op::Binary { op, ty, modifiers: Modifiers::default(), d, a, b });
        d
    }

    pub(super) fn ternary(&mut self, op: Ternary, ty: Type, a: Operand, b: Operand, c: Operand) -> Reg {
        let width = if op == Ternary::MadWide { Width::B64 } else { site::width_of(ty) };
        let d = self.reg(width);
        self.op(Op::Ternary { op, ty, modifiers: Modifiers::default(), d, a, b, c });
        d
    }

    pub(super) fn compare(&mut self, compare: Compare, ty: Type, a: Operand, b: Operand) -> Reg {
        let p = self.reg(Width::Pred);
        self.op(Op::SetP { compare, ty, ftz: false, p: Some(p), q: None, a, b, join: None });
        p
    }

    pub(super) fn load(&mut self, space: Space, ty: Type, base: Operand, offset: i64) -> Reg {
        let d = self.reg(site::width_of(ty));
        self.op(Op::Load {
            ty,
            d: vec![Some(d)],
            address: Address { space, base, offset },
            semantics: Semantics::Weak,
        });
        d
    }

    pub(super) fn store(&mut self, space: Space, ty: Type, base: Operand, offset: i64, a: Operand) {
        self.op(Op::Store { ty, address: Address { space, base, offset }, a: vec![a], semantics: Semantics::Weak });
    }

    pub(super) fn branch(&mut self, p: Reg, then: BlockId, otherwise: BlockId) {
        self.end(Terminator::Branch { p: Predicate { register: p, negated: false }, then, otherwise, uniform: false });
    }

    pub(super) fn barrier(&mut self) {
        self.op(Op::Barrier { kind: BarrierKind::Sync, id: imm(0), threads: None });
    }

    /// `ctaid.x * ntid.x + tid.x`.
    pub(super) fn thread(&mut self) -> Reg {
        let tid = self.special(Special::Tid(0));
        let ntid = self.special(Special::Ntid(0));
        let ctaid = self.special(Special::Ctaid(0));
        self.ternary(Ternary::Mad, Type::S32, r(ctaid), r(ntid), r(tid))
    }

    /// `base + index * 4`.
    pub(super) fn element(&mut self, base: Reg, index: Reg) -> Reg {
        self.ternary(Ternary::MadWide, Type::S32, r(index), imm(4), r(base))
    }
}

pub(super) fn r(reg: Reg) -> Operand {
    Operand::Reg(reg)
}

pub(super) fn params(all: &[u64]) -> Vec<u8> {
    all.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn vector_add() -> Kernel {
    let mut w = Writer::new(32);
    let [a, b, c] = [0, 8, 16].map(|o| w.param64(o));
    let n = w.param32(24);
    let i = w.thread();
    let p = w.compare(Compare::Ge, Type::S32, r(i), r(n));
    let (exit, body) = (w.block(), w.block());
    w.branch(p, exit, body);
    w.at(body);
    let a = w.element(a, i);
    let b = w.element(b, i);
    let c = w.element(c, i);
    let x = w.load(Space::Global, Type::F32, r(a), 0);
    let y = w.load(Space::Global, Type::F32, r(b), 0);
    let z = w.binary(Binary::Add, Type::F32, r(x), r(y));
    w.store(Space::Global, Type::F32, r(c), 0, r(z));
    w.kernel
}

#[test]
fn vectors_are_added() {
    let kernel = vector_add();
    for (n, block) in [(1000usize, 256u32), (1024, 256), (1, 32), (77, 96), (100, 100), (513, 64)] {
        let memory = Memory::new(1 << 16);
        let (a, b, c) = (memory.slice::<f32>(0, n), memory.slice::<f32>(8192, n), memory.slice::<f32>(16384, 1200));
        for i in 0..n {
            a[i] = i as f32 * 0.5;
            b[i] = 1.0 / (i as f32 + 1.0);
        }
        c.fill(-1.0);
        let args = params(&[memory.address(0), memory.address(8192), memory.address(16384), n as u64]);
        let grid = (n as u32).div_ceil(block);
        launch(&kernel, &memory, shape([grid, 1, 1], [block, 1, 1]), &args, &Surroundings::default()).unwrap();
        for i in 0..n {
            assert_eq!(c[i], a[i] + b[i], "element {i} of {n} with blocks of {block}");
        }
        assert!(c[n..].iter().all(|c| *c == -1.0));
    }
}

/// Tiled product of square matrices, 16×16 blocks.
fn matrix_product() -> Kernel {
    let mut w = Writer::new(32);
    w.kernel.shared_bytes = 2048;
    let [a, b, c] = [0, 8, 16].map(|o| w.param64(o));
    let n = w.param32(24);
    let (tx, ty) = (w.special(Special::Tid(0)), w.special(Special::Tid(1)));
    let (bx, by) = (w.special(Special::Ctaid(0)), w.special(Special::Ctaid(1)));
    let row = w.ternary(Ternary::Mad, Type::S32, r(by), imm(16), r(ty));
    let column = w.ternary(Ternary::Mad, Type::S32, r(bx), imm(16), r(tx));
    let sum = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::F32, d: sum, a: imm(0) });
    let k = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::U32, d: k, a: imm(0) });
    let slot = w.ternary(Ternary::Mad, Type::S32, r(ty), imm(16), r(tx));
    let slot = w.binary(Binary::Shl, Type::B32, r(slot), imm(2));
    let (outer, inner, done) = (w.block(), w.block(), w.block());
    w.end(Terminator::Jump(outer));
    w.at(outer);
    let x = w.binary(Binary::Add, Type::S32, r(k), r(tx));
    let x = w.ternary(Ternary::Mad, Type::S32, r(row), r(n), r(x));
    let x = w.element(a, x);
    let x = w.load(Space::Global, Type::F32, r(x), 0);
    w.store(Space::Shared, Type::F32, r(slot), 0, r(x));
    let y = w.binary(Binary::Add, Type::S32, r(k), r(ty));
    let y = w.ternary(Ternary::Mad, Type::S32, r(y), r(n), r(column));
    let y = w.element(b, y);
    let y = w.load(Space::Global, Type::F32, r(y), 0);
    w.store(Space::Shared, Type::F32, r(slot), 1024, r(y));
    w.barrier();
    let j = w.reg(Width::B32);
    w.op(Op::Mov { ty: Type::U32, d: j, a: imm(0) });
    w.end(Terminator::Jump(inner));
    w.at(inner);
    let x = w.ternary(Ternary::Mad, Type::S32, r(ty), imm(16), r(j));
    let x = w.binary(Binary::Shl, Type::B32, r(x), imm(2));
    let x = w.load(Space::Shared, Type::F32, r(x), 0);
    let y = w.ternary(Ternary::Mad, Type::S32, r(j), imm(16), r(tx));
    let y = w.binary(Binary::Shl, Type::B32, r(y), imm(2));
    let y = w.load(Space::Shared, Type::F32, r(y), 1024);
    w.op(Op::Ternary {
        op: Ternary::Fma,
        ty: Type::F32,
        modifiers: Modifiers::default(),
        d: sum,
        a: r(x),
        b: r(y),
        c: r(sum),
    });
    w.op(Op::Binary { op: Binary::Add, ty: Type::S32, modifiers: Modifiers::default(), d: j, a: r(j), b: imm(1) });
    let more = w.compare(Compare::Lt, Type::S32, r(j), imm(16));
    let after = w.block();
    w.branch(more, inner, after);
    w.at(after);
    w.barrier();
    w.op(Op::Binary { op: Binary::Add, ty: Type::S32, modifiers: Modifiers::default(), d: k, a: r(k), b: imm(16) });
    let more = w.compare(Compare::Lt, Type::S32, r(k), r(n));
    w.branch(more, outer, done);
    w.at(done);
    let z = w.ternary(Ternary::Mad, Type::S32, r(row), r(n), r(column));
    let z = w.element(c, z);
    w.store(Space::Global, Type::F32, r(z), 0, r(sum));
    w.kernel
}

#[test]
fn matrices_are_multiplied_in_tiles() {
    let n = 48usize;
    let memory = Memory::new(1 << 16);
    let (a, b, c) =
        (memory.slice::<f32>(0, n * n), memory.slice::<f32>(16384, n * n), memory.slice::<f32>(32768, n * n));
    for i in 0..n * n {
        a[i] = (i % 17) as f32 - 3.0;
        b[i] = (i % 13) as f32 * 0.25;
    }
    let args = params(&[memory.address(0), memory.address(16384), memory.address(32768), n as u64]);
    let kernel = matrix_product();
    launch(&kernel, &memory, shape([3, 3, 1], [16, 16, 1]), &args, &Surroundings::default()).unwrap();
    for row in 0..n {
        for column in 0..n {
            let expected = (0..n).fold(0f32, |s, k| a[row * n + k].mul_add(b[k * n + column], s));
            assert_eq!(c[row * n + column], expected, "({row}, {column})");
        }
    }
}

/// Sum of a block's elements by a tree in shared memory.
fn reduction() -> Kernel {
    let mut w = Writer::new(16);
    w.kernel.shared_bytes = 4096;
    let [input, output] = [0, 8].map(|o| w.param64(o));
    let i = w.thread();
    let tid = w.special(Special::Tid(0));
    let x = w.element(input, i);
    let x = w.load(Space::Global, Type::U32, r(x), 0);
    let place = w.binary(Binary::Shl, Type::B32, r(tid), imm(2));
    w.store(Space::Shared, Type::U32, r(place), 0, r(x));
    w.barrier();
    let s = w.reg(Width::B32);
    let ntid = w.special(Special::Ntid(0));
    w.op(Op::Binary { op: Binary::Shr, ty: Type::U32, modifiers: Modifiers::default(), d: s, a: r(ntid), b: imm(1) });
    let (head, add, next, last, write, exit) = (w.block(), w.block(), w.block(), w.block(), w.block(), w.block());
    w.end(Terminator::Jump(head));
    w.at(head);
    let p = w.compare(Compare::Lt, Type::U32, r(tid), r(s));
    w.branch(p, add, next);
    w.at(add);
    let other = w.binary(Binary::Add, Type::U32, r(tid), r(s));
    let other = w.binary(Binary::Shl, Type::B32, r(other), imm(2));
    let y = w.load(Space::Shared, Type::U32, r(other), 0);
    let z = w.load(Space::Shared, Type::U32, r(place), 0);
    let z = w.binary(Binary::Add, Type::U32, r(y), r(z));
    w.store(Space::Shared, Type::U32, r(place), 0, r(z));
    w.end(Terminator::Jump(next));
    w.at(next);
    w.barrier();
    w.op(Op::Binary { op: Binary::Shr, ty: Type::U32, modifiers: Modifiers::default(), d: s, a: r(s), b: imm(1) });
    let more = w.compare(Compare::Ne, Type::U32, r(s), imm(0));
    w.branch(more, head, last);
    w.at(last);
    let first = w.compare(Compare::Eq, Type::U32, r(tid), imm(0));
    w.branch(first, write, exit);
    w.at(write);
    let z = w.load(Space::Shared, Type::U32, imm(0), 0);
    let at = w.special(Special::Ctaid(0));
    let at = w.element(output, at);
    w.store(Space::Global, Type::U32, r(at), 0, r(z));
    w.kernel
}

#[test]
fn blocks_are_reduced_through_shared_memory() {
    for block in [32u32, 64, 256, 1024] {
        let memory = Memory::new(1 << 16);
        let input = memory.slice::<u32>(0, 4 * block as usize);
        for (i, v) in input.iter_mut().enumerate() {
            *v = (i as u32).wrapping_mul(2_654_435_761) >> 8;
        }
        let output = memory.slice::<u32>(32768, 4);
        let args = params(&[memory.address(0), memory.address(32768)]);
        launch(&reduction(), &memory, shape([4, 1, 1], [block, 1, 1]), &args, &Surroundings::default()).unwrap();
        for (i, part) in input.chunks(block as usize).enumerate() {
            assert_eq!(output[i], part.iter().fold(0u32, |s, v| s.wrapping_add(*v)), "block {i} of {block}");
        }
    }
}

#[test]
fn accesses_outside_of_memory_are_traps() {
    let kernel = vector_add();
    let memory = Memory::new(1 << 16);
    let run = |a: u64| {
        let args = params(&[a, memory.address(8192), memory.address(16384), 64]);
        launch(&kernel, &memory, shape([1, 1, 1], [64, 1, 1]), &args, &Surroundings::default())
    };
    run(memory.address(0)).unwrap();
    let trap = run(0).unwrap_err();
    assert_eq!(trap.kind, TrapKind::IllegalAddress);
    assert_eq!(trap.address, Some(0));
    assert_ne!(trap.at, Position::default());
    let trap = run(memory.address(2)).unwrap_err();
    assert_eq!((trap.kind, trap.address), (TrapKind::MisalignedAddress, Some(memory.address(2))));
    // A hole in the window.
    // SAFETY: a page of our mapping that no slice is in use of.
    unsafe { libc::mprotect(memory.base.add(32768).cast(), 4096, libc::PROT_NONE) };
    let trap = run(memory.address(32768)).unwrap_err();
    assert_eq!((trap.kind, trap.address), (TrapKind::IllegalAddress, Some(memory.address(32768))));
    run(memory.address(0)).unwrap();
}

#[test]
fn a_runaway_kernel_can_be_cancelled() {
    let mut w = Writer::new(0);
    let head = w.block();
    w.end(Terminator::Jump(head));
    w.at(head);
    w.end(Terminator::Jump(head));
    let memory = Memory::new(1 << 16);
    let surroundings = Surroundings::default();
    surroundings.cancel.store(true, Ordering::Relaxed);
    let trap = launch(&w.kernel, &memory, shape([1, 1, 1], [64, 1, 1]), &[], &surroundings).unwrap_err();
    assert_eq!(trap.kind, TrapKind::Cancelled);
}

fn atomic(w: &mut Writer, op: AtomicOp, base: Reg, a: u64, b: Option<u64>) -> Reg {
    let d = w.reg(Width::B32);
    w.op(Op::Atomic {
        op,
        ty: Type::U32,
        d: Some(d),
        address: Address { space: Space::Global, base: r(base), offset: 0 },
        a: imm(a),
        b: b.map(imm),
        semantics: Semantics::Relaxed,
    });
    d
}

#[test]
fn lanes_of_one_warp_take_turns_at_a_lock() {
    let mut w = Writer::new(16);
    let [lock, count] = [0, 8].map(|o| w.param64(o));
    let (spin, inside) = (w.block(), w.block());
    w.end(Terminator::Jump(spin));
    w.at(spin);
    let old = atomic(&mut w, AtomicOp::Cas, lock, 0, Some(1));
    let busy = w.compare(Compare::Ne, Type::U32, r(old), imm(0));
    w.branch(busy, spin, inside);
    w.at(inside);
    let x = w.load(Space::Global, Type::U32, r(count), 0);
    let x = w.binary(Binary::Add, Type::U32, r(x), imm(1));
    w.store(Space::Global, Type::U32, r(count), 0, r(x));
    atomic(&mut w, AtomicOp::Exch, lock, 0, None);
    let memory = Memory::new(1 << 16);
    let args = params(&[memory.address(0), memory.address(64)]);
    launch(&w.kernel, &memory, shape([2, 1, 1], [64, 1, 1]), &args, &Surroundings::default()).unwrap();
    assert_eq!(memory.slice::<u32>(64, 1)[0], 128);
}

#[test]
fn blocks_of_a_cooperative_launch_wait_for_one_another() {
    let mut w = Writer::new(16);
    let [arrived, out] = [0, 8].map(|o| w.param64(o));
    let tid = w.special(Special::Tid(0));
    let leads = w.compare(Compare::Eq, Type::U32, r(tid), imm(0));
    let (lead, spin, after) = (w.block(), w.block(), w.block());
    w.branch(leads, lead, after);
    w.at(lead);
    atomic(&mut w, AtomicOp::Add, arrived, 1, None);
    let all = w.special(Special::Nctaid(0));
    w.end(Terminator::Jump(spin));
    w.at(spin);
    let seen = w.reg(Width::B32);
    w.op(Op::Load {
        ty: Type::U32,
        d: vec![Some(seen)],
        address: Address { space: Space::Global, base: r(arrived), offset: 0 },
        semantics: Semantics::Acquire,
    });
    let early = w.compare(Compare::Lt, Type::U32, r(seen), r(all));
    w.branch(early, spin, after);
    w.at(after);
    w.barrier();
    let i = w.thread();
    let place = w.element(out, i);
    let seen = w.load(Space::Global, Type::U32, r(arrived), 0);
    w.store(Space::Global, Type::U32, r(place), 0, r(seen));
    let memory = Memory::new(1 << 16);
    let args = params(&[memory.address(0), memory.address(4096)]);
    let shape = LaunchShape { cooperative: true, ..shape([8, 1, 1], [64, 1, 1]) };
    launch(&w.kernel, &memory, shape, &args, &Surroundings::default()).unwrap();
    assert!(memory.slice::<u32>(4096, 512).iter().all(|v| *v == 8));
}
